//! The Iggy server to read from, and the credentials: from the same sources as in the connectors runtime.

use std::{collections::HashMap, fmt, fs, path::Path, sync::Arc};

use iggy::prelude::{
    AutoLogin, Credentials, DEFAULT_ROOT_PASSWORD, DEFAULT_ROOT_USERNAME, IggyDuration, TcpClientConfig,
    TcpClientReconnectionConfig,
};
use serde_json::{Map, Value};

use crate::{
    connector_file::location::{self, Finding, Location},
    terminal::report::Failure,
};

/// The variable that names the main configuration of the runtime.
const CONFIG_VARIABLE: &str = "IGGY_CONNECTORS_CONFIG_PATH";
/// The prefix of a key of `[iggy]` in upper case.
const PREFIX: &str = "IGGY_CONNECTORS_IGGY_";
/// The default address of a server.
const ADDRESS: &str = "localhost:8090";
const PORT: u16 = 8090;
/// The keys of `[iggy]`, including those of `[iggy.tls]`.
const KEYS: [&str; 7] =
    ["address", "username", "password", "token", "tls.enabled", "tls.ca_file", "tls.domain"];
/// A token with this prefix is the path of the file that contains it.
const FILE: &str = "file:";

/// A server, and the credentials for it.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) address: String,
    credentials: Credentials,
    tls: Option<Tls>,
}

#[derive(Debug, Clone)]
struct Tls {
    /// The certificates of the server's authority; without them, the public authorities are trusted.
    ca_file: Option<String>,
    /// The name in the server's certificate; empty for the host of the address.
    domain: String,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Credentials are not shown.
        f.debug_struct("Server")
            .field("address", &self.address)
            .field("tls", &self.tls)
            .finish_non_exhaustive()
    }
}

impl Server {
    /// Reads it from the runtime's main configuration `file` (or the one that its variable names), overridden by `variables`,
    /// and these by `address`.
    ///
    /// # Errors
    /// The file cannot be read, or a value in it cannot be used.
    pub(crate) fn load(
        file: Option<&Path>,
        address: Option<&str>,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, Failure> {
        let variables: HashMap<String, String> =
            variables.into_iter().filter(|(name, _)| name.starts_with("IGGY_CONNECTORS_")).collect();
        let named = file.or_else(|| variables.get(CONFIG_VARIABLE).map(Path::new));
        let mut keys = named.map(read).transpose()?.unwrap_or_default();
        for key in KEYS {
            let variable = format!("{PREFIX}{}", key.replace('.', "_").to_uppercase());
            if let Some(value) = variables.get(&variable) {
                keys.insert(key, value.clone());
            }
        }
        let get = |key| keys.get(key).map(String::as_str).filter(|text: &&str| !text.is_empty());
        let credentials = if let Some(token) = get("token") {
            Credentials::PersonalAccessToken(token_of(token)?.into())
        } else {
            let username = get("username").unwrap_or(DEFAULT_ROOT_USERNAME);
            let password = get("password").unwrap_or(DEFAULT_ROOT_PASSWORD);
            Credentials::UsernamePassword(username.to_owned(), password.to_owned().into())
        };
        let tls = match get("tls.enabled") {
            None | Some("false") => None,
            Some("true") => Some(Tls {
                ca_file: get("tls.ca_file").map(str::to_owned),
                domain: get("tls.domain").unwrap_or_default().to_owned(),
            }),
            Some(other) => {
                return Err(Failure::Other(format!("iggy.tls.enabled: {other} is neither true nor false")));
            }
        };
        Ok(Self {
            address: with_port(address.or_else(|| get("address")).unwrap_or(ADDRESS))?,
            credentials,
            tls,
        })
    }

    /// Returns the configuration of the client. It does not reconnect by itself: after a lost connection the group must be
    /// rejoined as well, and the follower does both.
    pub(super) fn client_config(&self) -> Arc<TcpClientConfig> {
        let tls = self.tls.as_ref();
        Arc::new(TcpClientConfig {
            server_address: self.address.clone(),
            tls_enabled: tls.is_some(),
            tls_domain: tls.map(|tls| tls.domain.clone()).unwrap_or_default(),
            tls_ca_file: tls.and_then(|tls| tls.ca_file.clone()),
            tls_validate_certificate: true,
            auto_login: AutoLogin::Enabled(self.credentials.clone()),
            reconnection: TcpClientReconnectionConfig {
                enabled: false,
                max_retries: Some(0),
                interval: IggyDuration::ONE_SECOND,
                reestablish_after: IggyDuration::from(0_u64),
            },
            // Requests are small and each waits for its answer.
            nodelay: true,
            ..TcpClientConfig::default()
        })
    }
}

/// The keys of `[iggy]` in the runtime's main configuration, by their paths below it.
fn read(path: &Path) -> Result<HashMap<&'static str, String>, Failure> {
    let unreadable = |why: &dyn fmt::Display| Failure::Other(format!("{}: {why}", path.display()));
    let text = fs::read_to_string(path).map_err(|why| unreadable(&why))?;
    let failure = |findings: Vec<Finding>| {
        let lines: Vec<String> = findings.iter().map(|finding| finding.in_file(path).to_string()).collect();
        Failure::Other(lines.join("\n"))
    };
    let (file, lines) = location::read(&text).map_err(failure)?;
    let Some(iggy) = file.get("iggy") else { return Ok(HashMap::new()) };
    let (mut keys, mut findings) = (HashMap::new(), Vec::new());
    let mut wrong = |path: String, message: &str| {
        let location = lines.of(&path).map_or(Location::File, Location::Line);
        findings.push(Finding { location, path, message: message.to_owned(), excerpt: None });
    };
    match iggy {
        Value::Object(table) => {
            for (key, value) in leaves("", table) {
                let path = format!("iggy.{key}");
                let Some(known) = KEYS.into_iter().find(|known| *known == key) else {
                    wrong(path, &format!("unknown key: the keys are {}", KEYS.join(", ")));
                    continue;
                };
                match value {
                    Value::String(text) => drop(keys.insert(known, text.clone())),
                    Value::Bool(yes) if known == "tls.enabled" => drop(keys.insert(known, yes.to_string())),
                    // Its value may be a secret.
                    _ => wrong(path, "is not text: put it in quotes"),
                }
            }
        }
        _ => wrong("iggy".to_owned(), "is no table: write [iggy]"),
    }
    if findings.is_empty() { Ok(keys) } else { Err(failure(findings)) }
}

/// Returns all values of a table that are not tables, with their dotted paths.
fn leaves<'v>(path: &str, table: &'v Map<String, Value>) -> Vec<(String, &'v Value)> {
    let location = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    table
        .iter()
        .flat_map(|(key, value)| match value {
            Value::Object(inner) => leaves(&location(key), inner),
            other => vec![(location(key), other)],
        })
        .collect()
}

/// Returns a token itself, or the content of the file that it names.
fn token_of(token: &str) -> Result<String, Failure> {
    let Some(path) = token.strip_prefix(FILE) else { return Ok(token.to_owned()) };
    let path = match (path.strip_prefix("~/"), std::env::home_dir()) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => path.into(),
    };
    let wrong = |why: String| Failure::Other(format!("iggy.token: {}: {why}", path.display()));
    let held = fs::read_to_string(&path).map_err(|why| wrong(why.to_string()))?;
    match held.trim() {
        "" => Err(wrong("the file is empty".to_owned())),
        token => Ok(token.to_owned()),
    }
}

/// An address with its port.
fn with_port(address: &str) -> Result<String, Failure> {
    if address.contains("://") {
        let message = format!("{address} is a URL: write the address as HOST:PORT, such as {ADDRESS}");
        return Err(Failure::Usage(message));
    }
    // Colons also occur within the brackets of an IPv6 address.
    let has_port = address.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    Ok(if has_port { address.to_owned() } else { format!("{address}:{PORT}") })
}

#[cfg(test)]
mod tests {
    use iggy_common::Credentials::{PersonalAccessToken, UsernamePassword};

    use super::*;

    fn loaded(text: &str, address: Option<&str>, variables: &[(&str, &str)]) -> Result<Server, Failure> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("runtime.toml");
        fs::write(&file, text).unwrap();
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Server::load(Some(&file), address, variables)
    }

    /// The name and the password, or the token.
    fn identity(server: &Server) -> (String, String) {
        use secrecy::ExposeSecret;
        match &server.credentials {
            UsernamePassword(name, password) => (name.clone(), password.expose_secret().to_owned()),
            PersonalAccessToken(token) => ("token".to_owned(), token.expose_secret().to_owned()),
        }
    }

    #[test]
    fn the_defaults_are_those_of_the_runtime() {
        let server = Server::load(None, None, []).unwrap();
        assert_eq!(server.address, "localhost:8090");
        assert_eq!(identity(&server), ("iggy".to_owned(), "iggy".to_owned()));
        assert!(server.tls.is_none());
    }

    #[test]
    fn the_address_asked_for_wins_over_variables_and_those_over_the_file() {
        let text = "[iggy]\naddress = \"a:1\"\nusername = \"u\"\npassword = \"p\"\ntoken = \"\"\n[http]\nenabled = 3\n";
        assert_eq!(loaded(text, None, &[]).unwrap().address, "a:1");
        let variables = [("IGGY_CONNECTORS_IGGY_ADDRESS", "b:2"), ("IGGY_CONNECTORS_IGGY_PASSWORD", "q")];
        let server = loaded(text, None, &variables).unwrap();
        assert_eq!((server.address.as_str(), identity(&server)), ("b:2", ("u".to_owned(), "q".to_owned())));
        assert_eq!(loaded(text, Some("c"), &variables).unwrap().address, "c:8090");
        assert!(!format!("{server:?}").contains('q'), "{server:?}");
    }

    #[test]
    fn a_token_can_lie_in_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        fs::write(&file, "secret\n").unwrap();
        let token = format!("file:{}", file.display());
        let server = loaded("", None, &[("IGGY_CONNECTORS_IGGY_TOKEN", &token)]).unwrap();
        assert_eq!(identity(&server), ("token".to_owned(), "secret".to_owned()));
        fs::write(&file, " ").unwrap();
        assert!(loaded("", None, &[("IGGY_CONNECTORS_IGGY_TOKEN", &token)]).is_err());
    }

    #[test]
    fn tls_is_off_unless_enabled() {
        let text = "[iggy.tls]\nenabled = false\nca_file = \"ca.pem\"\ndomain = \"\"\n";
        assert!(loaded(text, None, &[]).unwrap().tls.is_none());
        let server = loaded(text, None, &[("IGGY_CONNECTORS_IGGY_TLS_ENABLED", "true")]).unwrap();
        let config = server.client_config();
        assert!(config.tls_enabled && config.tls_validate_certificate);
        assert_eq!(config.tls_ca_file.as_deref(), Some("ca.pem"));
    }

    #[test]
    fn mistakes_have_their_lines_and_no_values() {
        let text = "[iggy]\nadress = \"a\"\npassword = 1234\n";
        let shown = loaded(text, None, &[]).unwrap_err().to_string();
        let lines: Vec<&str> = shown.lines().collect();
        assert!(lines[0].contains(":2: iggy.adress: unknown key"), "{shown}");
        assert!(lines[1].contains(":3: iggy.password: is not text") && !shown.contains("1234"), "{shown}");
        assert!(Server::load(None, Some("http://localhost"), []).is_err());
    }
}
