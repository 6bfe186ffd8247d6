//! `[[routes]]`: other endpoints, or other requests, for some topics.

use std::cell::RefCell;

use serde_json::{Map, Value};

use super::{
    Config, Glob, Preset, Route, endpoint_url,
    problem::{Problem, TABLE, kind},
    reader::Reader,
};
use crate::request::Pieces;

pub(super) const KEY: &str = "routes";

/// Keys and tables of the whole connector.
const OF_CONNECTOR: [&str; 5] = ["spool", "dead_letter", "status", "tracing", KEY];

/// Tables that a route inherits as a whole or not at all, with their environment overrides.
const TABLES: [&str; 7] = ["headers", "auth", "tls", "proxy", "circuit_breaker", "rate_limit", "response"];

/// Keys that depend on another one: a route that sets the other does not inherit them.
const COMPANIONS: [(&str, &str); 3] =
    [("ordering", "ordering_key"), ("compression", "compression_level"), ("batch_mode", "linger")];

/// What a table of keys is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// The whole connector.
    Connector,
    /// One of its routes.
    Route {
        /// Whether the connector has a spool.
        spooled: bool,
    },
}

impl Scope {
    /// Reads the keys of this scope only. Returns whether a `url` must be given: not for a connector that has routes.
    pub(super) fn needs_url(self, keys: &mut Reader<'_>) -> bool {
        match self {
            Self::Connector => !check(keys),
            Self::Route { .. } => {
                check_scope(keys);
                true
            }
        }
    }
}

impl Route {
    /// Whether it matches everything that another one matches.
    fn matches_all_of(&self, other: &Self) -> bool {
        (self.stream.matches_all() || self.stream == other.stream)
            && (self.topic.matches_all() || self.topic == other.topic)
    }
}

impl Config {
    /// Scheme, host and port of the endpoint, if its url is valid.
    fn origin(&self) -> Option<String> {
        let url = match &self.body.target {
            Some(target) => Pieces::of(&target.url).ok()?.without_fields(),
            None => self.endpoint.url.resolve().ok()?,
        };
        Some(endpoint_url(&url).ok()?.origin().ascii_serialization())
    }
}

/// Returns the routes in a value, if it is a list.
fn list(value: &Value) -> Option<Vec<Value>> {
    match value {
        Value::Array(routes) => Some(routes.clone()),
        // From an environment override.
        Value::String(json) => serde_json::from_str(json).ok(),
        _ => None,
    }
}

/// Takes the key, which is read once the connector's own keys are. Returns whether there are any routes.
pub(super) fn check(keys: &mut Reader<'_>) -> bool {
    let Some(value) = keys.take_unresolved(KEY) else { return false };
    if let Some(routes) = list(&value) {
        return !routes.is_empty();
    }
    let what = kind(&value);
    keys.problem(KEY, format!("is {what}, and no list of tables: write [[{TABLE}.{KEY}]] above each route"));
    true
}

/// Reports keys of the whole connector in the table of a route.
pub(super) fn check_scope(keys: &mut Reader<'_>) {
    for key in OF_CONNECTOR {
        keys.misplaced(key, Some(format!("applies to the whole connector: write it under [{TABLE}]")));
    }
}

/// Reads the routes of a connector with these keys, which have been read.
pub(super) fn read(given: &Map<String, Value>, connector: &mut Config, problems: &RefCell<Vec<Problem>>) {
    let mut routes: Vec<Route> = Vec::new();
    for (index, table) in given.get(KEY).and_then(list).unwrap_or_default().into_iter().enumerate() {
        let path = format!("{TABLE}.{KEY}[{index}]");
        let Value::Object(own) = table else {
            let message =
                format!("is {}, and not a table: write [[{TABLE}.{KEY}]] above each route", kind(&table));
            problems.borrow_mut().push(Problem { path, message });
            continue;
        };
        let before = problems.borrow().len();
        let unused = RefCell::default();
        let (table, of_url) = with_inherited(&own, given);
        let mut keys = Reader::new(&path, table, problems, &unused);
        if let Err(message) = of_url {
            keys.problem("url", message);
        }
        let [stream, topic] = ["stream", "topic"].map(|key| {
            let pattern = keys.string(key, "*");
            if pattern.is_empty() {
                keys.problem(key, format!("is empty, and no {key} has an empty name: write one such as \"orders.*\", or remove the key"));
            }
            Glob::new(&pattern)
        });
        if !own.contains_key("stream") && !own.contains_key("topic") {
            keys.problem(
                "topic",
                "is not given, and stream neither: write which topics the route is for, such as \"orders.*\"",
            );
        }
        let (config, _) = Config::read(keys, Scope::Route { spooled: connector.spool.is_some() });
        forget_inherited(&path, &own, problems, before);
        let route = Route { stream, topic, config };
        let label = format!("{KEY}[{index}]");
        if let Some(earlier) = routes.iter().position(|earlier| earlier.matches_all_of(&route)) {
            connector.warnings.push(format!(
                "{label} is never taken: {KEY}[{earlier}] comes before it and matches everything it would"
            ));
        }
        for warning in &route.config.warnings {
            if !connector.warnings.contains(warning) {
                connector.warnings.push(format!("{label}: {warning}"));
            }
        }
        routes.push(route);
    }
    connector.routes = routes;
    check_shared(connector, problems);
}

/// Returns the keys of a route, completed by those of the connector.
///
/// # Errors
/// What is wrong with `url`, together with the keys.
fn with_inherited(
    own: &Map<String, Value>,
    connector: &Map<String, Value>,
) -> (Map<String, Value>, Result<(), String>) {
    let mut table: Map<String, Value> = own
        .iter()
        .filter(|(_, value)| !value.is_null())
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    let has_own_url = table.contains_key("url");
    if table.contains_key("preset") {
        // Its defaults take precedence over the connector's keys; a problem with the URL is reported below.
        let _ = apply_preset(&mut table);
    }
    let is_of = |key: &str, name: &str| {
        // This key begins with the name of a table.
        key != "response_header_timeout"
            && key.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
    };
    let given: Vec<String> = table.keys().cloned().collect();
    let has = |name: &str| given.iter().any(|key| key == name);
    for (key, value) in connector {
        let is_taken = OF_CONNECTOR.iter().any(|name| is_of(key, name))
            || TABLES.iter().any(|name| is_of(key, name) && given.iter().any(|given| is_of(given, name)))
            || COMPANIONS.iter().any(|(leader, companion)| key == companion && has(leader))
            // Credentials belong to the endpoint that they are configured with.
            || has_own_url && ["headers", "auth"].iter().any(|name| is_of(key, name));
        if !is_taken && !has(key) {
            table.insert(key.clone(), value.clone());
        }
    }
    // Its own keys are there already, but its URL may be that of the connector.
    let of_url = apply_preset(&mut table);
    (table, of_url)
}

/// Fills in the defaults of a preset. An unknown one is reported where its key is read.
///
/// # Errors
/// What is wrong with `url`.
pub(super) fn apply_preset(table: &mut Map<String, Value>) -> Result<(), String> {
    let name = table.get("preset").and_then(Value::as_str);
    let preset = name.and_then(|name| name.parse::<Preset>().ok());
    preset.map_or(Ok(()), |preset| preset.apply(table))
}

/// Removes problems of inherited keys, which were reported for the connector.
fn forget_inherited(path: &str, own: &Map<String, Value>, problems: &RefCell<Vec<Problem>>, before: usize) {
    let mut problems = problems.borrow_mut();
    let of_route = problems.split_off(before);
    for problem in of_route {
        let key = problem.path.strip_prefix(path).and_then(|rest| rest.strip_prefix('.')).unwrap_or_default();
        let is_own = own.contains_key(key.split('.').next().unwrap_or_default());
        let of_connector = format!("{TABLE}.{key}");
        if is_own || !problems[..before].iter().any(|other| other.path == of_connector) {
            problems.push(problem);
        }
    }
}

/// Checks that routes to one endpoint agree on what its requests share.
fn check_shared(connector: &Config, problems: &RefCell<Vec<Problem>>) {
    let mut endpoints: Vec<(String, String, &Config)> = Vec::new();
    let own = connector.has_url.then(|| ("the connector".to_owned(), connector));
    let routes = connector.routes.iter().enumerate();
    let routes = routes.map(|(index, route)| (format!("{KEY}[{index}]"), &route.config));
    // The connector comes first, since routes inherit from it.
    for (label, config) in own.into_iter().chain(routes) {
        let Some(origin) = config.origin() else { continue };
        let Some((_, first, before)) = endpoints.iter().find(|(other, ..)| *other == origin) else {
            endpoints.push((origin, label, config));
            continue;
        };
        for (key, is_same) in [
            ("concurrency", before.concurrency == config.concurrency),
            ("circuit_breaker", before.circuit_breaker == config.circuit_breaker),
            ("rate_limit", before.rate_limit == config.rate_limit),
        ] {
            if !is_same {
                let message = format!(
                    "differs from that of {first}, which goes to the same scheme, host and port, and shares it: write the same"
                );
                problems.borrow_mut().push(Problem { path: format!("{TABLE}.{label}.{key}"), message });
            }
        }
    }
}
