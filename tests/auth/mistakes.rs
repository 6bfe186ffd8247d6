//! What is wrong with `[auth]` is told at once, by key, and without the secret; what gives credentials away does not open.

use iggy_connector_http_sink::config::Config;
use serde_json::{Value, json};

use crate::support::{config::with, plugin::Sink};

const URL: &str = "https://example.com/in";

fn problems(config: &Value) -> Vec<String> {
    match Config::from_json(config) {
        Ok(_) => Vec::new(),
        Err(problems) => problems.iter().map(ToString::to_string).collect(),
    }
}

fn with_auth(auth: Value) -> Value {
    json!({ "url": URL, "auth": auth })
}

/// A complete table of each type.
fn complete() -> [Value; 7] {
    [
        json!({ "type": "basic", "username": "u", "password": "p" }),
        json!({ "type": "bearer", "token": "t" }),
        json!({ "type": "api_key", "name": "X-Api-Key", "value": "v" }),
        json!({
            "type": "oauth2_client_credentials", "token_url": "https://login.example.com/token",
            "client_id": "c", "client_secret": "s",
        }),
        json!({
            "type": "aws_sigv4", "region": "r", "service": "s", "access_key_id": "A", "secret_access_key": "s",
        }),
        json!({ "type": "webhook_signature", "secrets": ["whsec_c2VjcmV0"] }),
        json!({ "type": "hmac", "header": "X-Signature", "secret": "s" }),
    ]
}

#[test]
fn each_type_is_complete_with_its_required_keys_and_wrong_without_one() {
    for auth in complete() {
        assert_eq!(problems(&with_auth(auth.clone())), Vec::<String>::new());
        for key in auth.as_object().unwrap().keys() {
            let mut without = auth.clone();
            without.as_object_mut().unwrap().remove(key);
            // A user may have no password, and the environment may have the region.
            if key == "password" || key == "region" {
                continue;
            }
            let problems = problems(&with_auth(without));
            assert!(
                problems.iter().any(|problem| problem.contains(&format!("plugin_config.auth.{key}: "))),
                "{key}: {problems:?}"
            );
        }
    }
}

#[test]
fn a_key_of_another_type_is_told_with_the_type_that_has_it() {
    for auth in complete() {
        for other in complete().into_iter().filter(|other| other["type"] != auth["type"]) {
            for (key, value) in other.as_object().unwrap().iter().filter(|(key, _)| *key != "type") {
                let mut auth = auth.clone();
                auth[key] = value.clone();
                let expected = format!(
                    "plugin_config.auth.{key}: is a key of type {}, and type is {}: change type, or remove the key",
                    other["type"], auth["type"]
                );
                assert_eq!(problems(&with_auth(auth)), [expected]);
            }
        }
    }
}

#[test]
fn all_mistakes_are_told_at_once_with_the_nearest_key_and_no_secret() {
    let auth = json!({
        "type": "hmac", "heder": "X", "secret": "", "algorithm": "sha265", "encoding": "hex ", "signed": "{bdy}",
        "prefix": "{body}",
    });
    let problems = problems(&with_auth(auth)).join("\n");
    for expected in [
        "auth.header: is required",
        "auth.heder: unknown key: did you mean `header`?",
        "auth.secret: is empty",
        "did you mean \"sha256\"?",
        "auth.encoding: \"hex \" is not known here",
        "auth.signed: holds a brace",
        "auth.prefix: holds {body}",
    ] {
        assert!(problems.contains(expected), "{expected}: {problems}");
    }
}

#[test]
fn a_type_that_there_is_not_is_told_with_those_that_there_are() {
    for (auth, expected) in [
        (
            json!({ "token": "t" }),
            "plugin_config.auth.type: is not given: write one of \"basic\", \"bearer\"",
        ),
        (json!({ "type": "bearr", "token": "t" }), "did you mean \"bearer\"?"),
    ] {
        let problems = problems(&with_auth(auth));
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].contains(expected), "{problems:?}");
    }
}

#[test]
fn wrong_secrets_are_refused_and_not_shown() {
    let wrong = [
        json!({ "type": "basic", "username": "CAN:ARY", "password": "p" }),
        json!({ "type": "bearer", "token": "CANARY with spaces" }),
        json!({ "type": "bearer", "token": { "CANARY": 1 } }),
        json!({ "type": "api_key", "name": "X", "value": "CANARY\n" }),
        json!({ "type": "webhook_signature", "secrets": ["whsec_CANARY!"] }),
        json!({ "type": "webhook_signature", "secrets": ["whsec_c2VjcmV0", "CANARY!"] }),
        json!({ "type": "webhook_signature", "secrets": [] }),
        json!({
            "type": "aws_sigv4", "region": "r", "service": "s",
            "access_key_id": "CAN ARY", "secret_access_key": "CANARY",
        }),
        json!({
            "type": "oauth2_client_credentials", "token_url": "https://l/token?CANARY", "client_id": "",
            "client_secret": "CANARY",
        }),
        json!({
            "type": "oauth2_client_credentials", "token_url": "https://u:CANARY@l/token", "client_id": "c",
            "client_secret": "CANARY",
        }),
    ];
    for auth in wrong {
        let problems = problems(&with_auth(auth.clone()));
        assert_eq!(problems.len(), 1, "{auth}: {problems:?}");
        assert!(!problems[0].contains("CANARY") && !problems[0].contains("CAN:ARY"), "{problems:?}");
    }
    // Nor does `Debug` show right ones.
    for mut auth in complete() {
        for (key, value) in auth.as_object_mut().unwrap() {
            if ["username", "password", "token", "value", "secret", "client_secret", "secret_access_key"]
                .contains(&key.as_str())
            {
                *value = "CANARY".into();
            }
        }
        let dead_letter = json!({ "url": URL, "auth": auth.clone(), "headers": { "X-Token": "CANARY" } });
        let config = with(with_auth(auth), json!({ "dead_letter": dead_letter }));
        let config = Config::from_json(&config).unwrap();
        assert!(!format!("{config:?}").contains("CANARY"), "{config:?}");
    }
}

#[test]
fn a_missing_secret_is_named() {
    let auth = json!({ "type": "bearer", "token": "${env:NO_SUCH_TOKEN_HERE}" });
    let problems = problems(&with_auth(auth));
    assert!(problems[0].starts_with("plugin_config.auth.token: ${env:NO_SUCH_TOKEN_HERE}"), "{problems:?}");
}

#[test]
fn a_private_key_must_be_one() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key.pem");
    let auth = json!({
        "type": "oauth2_client_credentials", "token_url": "https://l/token", "client_id": "c",
        "client_auth": "private_key_jwt", "private_key_file": file,
    });
    let key = |problems: Vec<String>| {
        assert_eq!(problems.len(), 1, "{problems:?}");
        problems[0].clone()
    };
    assert!(key(problems(&with_auth(auth.clone()))).contains("cannot be read"));
    std::fs::write(&file, "CANARY").unwrap();
    let problem = key(problems(&with_auth(auth.clone())));
    assert!(problem.contains("holds no private key as PEM") && !problem.contains("CANARY"), "{problem}");
    std::fs::write(&file, rcgen::KeyPair::generate().unwrap().serialize_pem()).unwrap();
    assert_eq!(problems(&with_auth(auth.clone())), Vec::<String>::new());
    assert!(
        key(problems(&with_auth(with(auth, json!({ "client_secret": "s" })))))
            .contains("auth.client_secret: has no effect")
    );
}

#[test]
fn what_auth_sets_is_set_nowhere_else() {
    let taken = [
        (
            0,
            json!({ "headers": { "Authorization": "CANARY" } }),
            "plugin_config.headers.authorization: is set by [auth]",
        ),
        (
            1,
            json!({ "headers_authorization": "CANARY" }),
            "plugin_config.headers.authorization: is set by [auth]",
        ),
        (
            2,
            json!({ "headers": { "x-api-key": "CANARY" } }),
            "plugin_config.headers.x-api-key: is set by [auth]",
        ),
        (
            3,
            json!({ "headers": { "authorization": "CANARY" } }),
            "plugin_config.headers.authorization: is set",
        ),
        (
            4,
            json!({ "headers": { "X-Amz-Date": "CANARY" } }),
            "plugin_config.headers.x-amz-date: is set by [auth]",
        ),
        (
            5,
            json!({ "headers": { "webhook-id": "CANARY" } }),
            "plugin_config.headers.webhook-id: is set by [auth]",
        ),
        (
            6,
            json!({ "retry_count_header": "x-signature" }),
            "plugin_config.retry_count_header: x-signature is set",
        ),
        (
            1,
            json!({ "url": "https://u:CANARY@example.com" }),
            "plugin_config.url: holds a user or a password",
        ),
    ];
    for (auth, more, expected) in taken {
        let problems = problems(&with(with_auth(complete()[auth].clone()), more));
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].starts_with(expected) && !problems[0].contains("CANARY"), "{problems:?}");
    }
    let query = json!({ "type": "api_key", "name": "key", "in": "query", "value": "v" });
    let problems = problems(&json!({ "url": "https://example.com/?key=CANARY", "auth": query }));
    assert_eq!(problems, ["plugin_config.url: holds the parameter key, which [auth] sets: remove it"]);
}

#[test]
fn credentials_do_not_go_over_plain_http_to_another_machine_unless_it_is_allowed() {
    let plain = "http://endpoint.example.com/in";
    for auth in complete() {
        let config = json!({ "url": plain, "auth": auth });
        let problem = problems(&config).join("\n");
        assert!(
            problem.starts_with("plugin_config.auth: would send its credentials over plain http"),
            "{problem}"
        );
        assert!(problem.contains("allow_insecure_credentials = true"), "{problem}");
        assert!(Sink::try_open(&config).is_err());
        let dead_letter = json!({ "url": URL, "dead_letter": { "url": plain, "auth": auth } });
        assert!(problems(&dead_letter)[0].starts_with("plugin_config.dead_letter.auth: would send"));
        let allowed = with(config, json!({ "allow_insecure_credentials": true }));
        assert_eq!(problems(&allowed), Vec::<String>::new());
        for loopback in
            ["http://localhost:1", "http://127.8.0.1/", "http://[::1]:8080/x", "http://a.localhost/"]
        {
            assert_eq!(
                problems(&json!({ "url": loopback, "auth": auth })),
                Vec::<String>::new(),
                "{loopback}"
            );
        }
    }
    let mut oauth2 = complete()[3].clone();
    oauth2["token_url"] = plain.into();
    let problem = problems(&with_auth(oauth2)).join("\n");
    assert!(
        problem.starts_with("plugin_config.auth.token_url: would get credentials over plain http"),
        "{problem}"
    );
}

#[test]
fn credentials_of_old_configurations_over_plain_http_are_warned_about() {
    let warnings = |config: Value| Config::from_json(&config).unwrap().warnings.join("\n");
    let plain = "http://endpoint.example.com/in";
    for (more, place) in [
        (json!({ "headers": { "Authorization": "CANARY" } }), "headers.authorization"),
        (json!({ "headers": { "X-Api-Key": "CANARY" } }), "headers.x-api-key"),
        (json!({ "url": "http://u:CANARY@endpoint.example.com/" }), "url"),
        (json!({ "url": "http://endpoint.example.com/?access_token=CANARY" }), "url"),
    ] {
        let told = warnings(with(json!({ "url": plain }), more.clone()));
        assert!(told.contains(&format!("credentials in {place} go over plain http")), "{told}");
        assert!(!told.contains("CANARY"), "{told}");
        let loopback =
            serde_json::from_str(&more.to_string().replace("endpoint.example.com", "localhost")).unwrap();
        assert_eq!(warnings(with(json!({ "url": "http://localhost/" }), loopback)), "");
        let letters = with(json!({ "url": plain }), more);
        let told = warnings(json!({ "url": URL, "dead_letter": letters }));
        assert!(told.contains(&format!("credentials in dead_letter.{place} go")), "{told}");
    }
    assert_eq!(
        warnings(json!({ "url": plain, "headers": { "X-Source": "iggy", "Idempotency-Key": "k" } })),
        ""
    );
}

#[test]
fn a_time_that_is_signed_and_not_sent_is_warned_about() {
    let warnings = |prefix: &str| {
        let auth = with(complete()[6].clone(), json!({ "signed": "{now}.{body}", "prefix": prefix }));
        Config::from_json(&with_auth(auth)).unwrap().warnings
    };
    assert!(warnings("v1=")[0].starts_with("auth.signed holds {now}, and auth.prefix does not"));
    assert_eq!(warnings("t={now},v1="), Vec::<String>::new());
}

#[test]
fn headers_and_auth_of_dead_letters_in_files_are_a_mistake() {
    for (key, value) in [("headers", json!({ "X-A": "b" })), ("auth", complete()[1].clone())] {
        let config = json!({ "url": URL, "dead_letter": { "path": "/tmp/letters", key: value } });
        let problems = problems(&config);
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].starts_with(&format!("plugin_config.dead_letter.{key}: has no effect on files")));
    }
}
