//! Every key of a configuration, from its own declarations, and what can be put there by way of a secret.
#![allow(clippy::unwrap_used, dead_code, missing_docs, unreachable_pub)]

use iggy_connector_http_sink::config::{Config, Declared};
use serde_json::{Map, Value, json};

/// Stands for a secret. It is looked for everywhere.
pub const CANARY: &str = "kanarienvogel-7391";
/// A secret of digits alone.
pub const DIGITS: u64 = 739_173_917_391_739_173;
/// The variable of the environment that holds the canary.
pub const VARIABLE: &str = "IGGY_HTTP_SINK_TEST_CANARY";
/// Keys whose values are no secrets, and which somebody gives one by mistake.
const MISTAKEN: [&str; 2] = ["plugin_config.idempotency_header", "plugin_config.retry_count_header"];

/// A key, beside what makes it one.
#[derive(Debug, Clone)]
pub struct ConfigKey {
    context: Value,
    path: String,
    /// Whether it can hold a secret as it is, and not only by a reference.
    pub can_be_secret: bool,
}

impl ConfigKey {
    /// The configuration with this value in this place.
    pub fn with(&self, base: &Value, value: Value) -> Value {
        let mut config = base.clone();
        merge(&mut config, &self.context);
        set(&mut config, &self.path, value);
        config
    }

    /// Its key, without the table.
    pub fn name(&self) -> &str {
        self.path.rsplit('.').next().unwrap()
    }
}

/// All keys: flat keys, keys of tables and of tables in tables, each with every choice that may bring keys of its own.
pub fn all() -> Vec<ConfigKey> {
    let mut keys = Vec::new();
    // A context, the table in it whose keys are looked at, and whether a choice was made in it.
    let mut open = vec![(json!({}), "plugin_config".to_owned(), false)];
    while let Some((context, table, chosen)) = open.pop() {
        for Declared { path, choices, can_be_secret, .. } in declared(&context) {
            let inside = path.strip_prefix(&format!("{table}.")).is_some_and(|name| !name.contains('.'));
            if !inside {
                continue;
            }
            let with = |value: Value| {
                let mut context = context.clone();
                set(&mut context, &path, value);
                context
            };
            if !chosen && table != "plugin_config" {
                open.extend(choices.iter().map(|choice| (with(json!(choice)), table.clone(), true)));
            }
            let nested = with(json!({}));
            if declared(&nested).iter().any(|key| key.path.starts_with(&format!("{path}."))) {
                open.push((nested, path.clone(), false));
            }
            keys.push(ConfigKey { context: context.clone(), path, can_be_secret });
        }
    }
    keys
}

/// Values that hold the canary, good ones and mistakes of every kind. `url` is that of an endpoint.
pub fn values(key: &ConfigKey, url: &str) -> Vec<Value> {
    let reference = format!("${{env:{VARIABLE}}}");
    let (scheme, host) = url.split_once("://").unwrap();
    let mut values = vec![
        json!(reference),
        json!(format!("x{reference}x")),
        json!(format!("{url}/{reference}")),
        json!({ "X-Api-Key": reference }),
    ];
    if !key.can_be_secret && !MISTAKEN.contains(&key.path.as_str()) {
        return values;
    }
    values.extend([
        json!(CANARY),
        json!(format!("Bearer {CANARY}")),
        json!(DIGITS),
        json!(DIGITS.to_string()),
        json!(format!("{url}/{CANARY}?key={CANARY}")),
        json!(format!("{scheme}://user:{CANARY}@{host}")),
        json!(format!("{scheme}://{CANARY}@{host}")),
        json!({ "X-Api-Key": CANARY }),
        json!({ "Authorization": format!("Bearer {CANARY}") }),
        json!(format!("{{\"X-Api-Key\":\"{CANARY}\"}}")),
        json!(format!("whsec_{}", base64(CANARY))),
        json!([format!("whsec_{}", base64(&format!("{CANARY}{CANARY}")))]),
        // Mistakes.
        json!([CANARY]),
        json!([[CANARY]]),
        json!({ "X-Api-Key": [CANARY] }),
        json!({ (format!("Authorization: {CANARY}")): "" }),
        json!({ "Authorization": format!("{CANARY}\n") }),
        json!({ "Authorization": format!("${{{CANARY}}}") }),
        json!(format!("{{\"X-Api-Key\":\"{CANARY}\"")),
        json!(format!("{{\"X-Api-Key\":{CANARY}}}")),
        json!(format!("[\"{CANARY}\"")),
        json!(format!("Authorization: {CANARY}")),
        json!(format!("${{{CANARY}}}")),
        json!(format!("${{VAULT:{CANARY}}}")),
        json!(format!("${{{CANARY}")),
        json!(format!("{CANARY}\u{0}")),
        json!(format!("{scheme}:user:{CANARY}@{host}")),
        json!(format!("{scheme}:/user:{CANARY}@{host}")),
        json!(format!("{scheme}:\\\\user:{CANARY}@{host}")),
        json!(format!("{scheme}://user:{CANARY}@{host}:port/{CANARY}")),
        json!(format!("ftp://user:{CANARY}@{host}/{CANARY}")),
        json!(format!("{CANARY}://user@{host}/")),
        json!(format!("user:{CANARY}@{host}")),
    ]);
    values
}

/// What must not be shown: the canary in each form in which it can come out.
pub fn hits(text: &str) -> Vec<String> {
    let encoded = [base64(CANARY), base64(&format!("user:{CANARY}")), base64(&format!("{CANARY}:"))];
    let words =
        [CANARY.to_owned(), DIGITS.to_string(), CANARY.replace('-', "%2D")].into_iter().chain(encoded);
    let words: Vec<String> = words.collect();
    text.lines()
        .filter(|line| words.iter().any(|word| line.contains(word.trim_end_matches('='))))
        .map(str::to_owned)
        .collect()
}

fn declared(config: &Value) -> Vec<Declared> {
    Config::declared(config.as_object().unwrap())
}

fn base64(text: &str) -> String {
    use base64::{Engine, engine::general_purpose::STANDARD};
    STANDARD.encode(text)
}

fn set(config: &mut Value, path: &str, value: Value) {
    let mut at = config;
    for name in path.split('.').skip(1) {
        let table = match at {
            Value::Object(table) => table,
            other => {
                *other = Value::Object(Map::new());
                other.as_object_mut().unwrap()
            }
        };
        at = table.entry(name).or_insert_with(|| json!({}));
    }
    *at = value;
}

fn merge(into: &mut Value, more: &Value) {
    match (into, more) {
        (Value::Object(into), Value::Object(more)) => {
            for (key, value) in more {
                merge(into.entry(key).or_insert_with(|| json!({})), value);
            }
        }
        (into, more) => *into = more.clone(),
    }
}

/// The configuration with what it wants given besides, as far as that can be guessed.
pub fn completed(mut config: Value, url: &str, folder: &str) -> Value {
    for _ in 0..8 {
        let Err(problems) = Config::from_json(&config) else { break };
        for problem in problems.iter().filter(|problem| problem.message.contains("not given")) {
            let name = problem.path.rsplit('.').next().unwrap();
            let value = match name {
                "url" | "token_url" => url.to_owned(),
                "path" if problem.path.contains("dead_letter") => {
                    set(&mut config, &problem.path.replace(".path", ".url"), json!(url));
                    continue;
                }
                "path" => folder.to_owned(),
                "secrets" => format!("whsec_{}", base64("a secret of twenty-four bytes")),
                "type" => "basic".to_owned(),
                _ => "X-Filling".to_owned(),
            };
            set(&mut config, &problem.path, json!(value));
        }
    }
    config
}
