//! Reads `[auth]`: which keys there are depends on `type`.

use std::{path::PathBuf, time::Duration};

use reqwest::header::HeaderName;
use strum::{Display, EnumString, VariantNames};

use super::{
    ApiKeyLocation, AuthConfig, AwsKeys, AwsSigV4Config, ClientAuth, HmacAlgorithm, HmacConfig, HmacEncoding,
    OAuth2Config, Secret, SignedPart, SignedTemplate, basic_header, bearer_header, sensitive, webhook_keys,
};
use crate::{
    config::{
        Text,
        header::header_name,
        reader::{Reader, as_text},
        url::{checked_url, endpoint_url, has_userinfo},
    },
    signing_key::SigningKey,
};

/// The values of `type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, VariantNames, Display)]
enum AuthType {
    #[strum(serialize = "basic")]
    Basic,
    #[strum(serialize = "bearer")]
    Bearer,
    #[strum(serialize = "api_key")]
    ApiKey,
    #[strum(serialize = "oauth2_client_credentials")]
    OAuth2ClientCredentials,
    #[strum(serialize = "aws_sigv4")]
    AwsSigV4,
    #[strum(serialize = "webhook_signature")]
    WebhookSignature,
    #[strum(serialize = "hmac")]
    Hmac,
}

/// All keys, by the type they belong to. No key belongs to two types.
const KEYS: [(AuthType, &[&str]); 7] = [
    (AuthType::Basic, &["username", "password"]),
    (AuthType::Bearer, &["token"]),
    (AuthType::ApiKey, &["name", "value", "in"]),
    (
        AuthType::OAuth2ClientCredentials,
        &[
            "token_url",
            "client_id",
            "client_secret",
            "scope",
            "audience",
            "extra",
            "client_auth",
            "private_key_file",
            "refresh_ahead",
        ],
    ),
    (AuthType::AwsSigV4, &["region", "service", "access_key_id", "secret_access_key", "session_token"]),
    (AuthType::WebhookSignature, &["secrets"]),
    (AuthType::Hmac, &["header", "secret", "algorithm", "encoding", "prefix", "signed"]),
];

/// Parameters of a token request that have their own keys.
const OWN_PARAMETERS: [&str; 7] = [
    "grant_type",
    "client_id",
    "client_secret",
    "client_assertion",
    "client_assertion_type",
    "scope",
    "audience",
];

#[derive(EnumString, VariantNames, Display)]
#[strum(serialize_all = "snake_case")]
enum Location {
    Header,
    Query,
}

#[derive(EnumString, VariantNames, Display)]
#[strum(serialize_all = "snake_case")]
enum ClientAuthName {
    Basic,
    Post,
    PrivateKeyJwt,
}

/// Reads the table, if there is one. If there are problems, the result is not used.
pub(in crate::config) fn read(keys: &mut Reader<'_>) -> Option<AuthConfig> {
    let mut table = keys.table("auth")?;
    let kind = table.optional_choice::<AuthType>("type");
    let auth = match kind {
        None => {
            if !table.has_problem("type") {
                table.problem(
                    "type",
                    format!("is not given: write one of \"{}\"", AuthType::VARIANTS.join("\", \"")),
                );
            }
            None
        }
        Some(AuthType::Basic) => Some(read_basic(&mut table)),
        Some(AuthType::Bearer) => {
            let token =
                required(&mut table, "token", "the token, such as \"${file:/run/secrets/token}\"", |token| {
                    bearer_header(token).map(drop)
                });
            Some(AuthConfig::Bearer { token })
        }
        Some(AuthType::ApiKey) => read_api_key(&mut table),
        Some(AuthType::OAuth2ClientCredentials) => {
            Some(AuthConfig::OAuth2ClientCredentials(read_oauth2(&mut table)))
        }
        Some(AuthType::AwsSigV4) => Some(AuthConfig::AwsSigV4(read_aws_sigv4(&mut table))),
        Some(AuthType::WebhookSignature) => Some(read_webhook_signature(&mut table)),
        Some(AuthType::Hmac) => read_hmac(&mut table).map(AuthConfig::Hmac),
    };
    for (owner, names) in KEYS.iter().filter(|(owner, _)| kind != Some(*owner)) {
        for name in *names {
            let message = kind.map(|kind| {
                format!(
                    "is a key of type \"{owner}\", and type is \"{kind}\": change type, or remove the key"
                )
            });
            table.misplaced(name, message);
        }
    }
    table.finish(&[]);
    auth
}

fn read_basic(table: &mut Reader<'_>) -> AuthConfig {
    let username = required(table, "username", "the user", |user| basic_header(user, "").map(drop));
    let password = optional(table, "password", |_| Ok(())).unwrap_or_default();
    AuthConfig::Basic { username, password }
}

fn read_api_key(table: &mut Reader<'_>) -> Option<AuthConfig> {
    let location = table.choice("in", Location::Header);
    let name = table
        .required_string("name", "the name of the header or of the query's parameter, such as \"X-Api-Key\"");
    let value = required(table, "value", "the key, such as \"${env:API_KEY}\"", |value| {
        if value.is_empty() {
            return Err("is empty".to_owned());
        }
        sensitive(value)
            .map(drop)
            .ok_or_else(|| "holds a control character, such as a line break: remove it".to_owned())
    });
    let name = name?;
    let location = match location {
        Location::Query => ApiKeyLocation::Query(name),
        Location::Header => ApiKeyLocation::Header(read_header(table, "name", &name)?),
    };
    Some(AuthConfig::ApiKey { location, value })
}

fn read_oauth2(table: &mut Reader<'_>) -> OAuth2Config {
    let token_url = table.required_text(
        "token_url",
        "the token endpoint, such as \"https://login.example.com/oauth2/token\"",
        |text| {
            checked_url(text)?;
            if endpoint_url(&text.resolve()?).is_ok_and(|url| has_userinfo(&url)) {
                return Err(
                    "holds a user or a password: write them as client_id and client_secret".to_owned()
                );
            }
            Ok(())
        },
    );
    let client_id = required(table, "client_id", "the name of the client", not_empty);
    let client_auth = match table.choice("client_auth", ClientAuthName::Basic) {
        _ if table.has_problem("client_auth") => {
            // It is not known which of them belongs there.
            table.misplaced("client_secret", None);
            table.misplaced("private_key_file", None);
            ClientAuth::Basic(Secret(Text::default()))
        }
        name @ (ClientAuthName::Basic | ClientAuthName::Post) => {
            let hint = "the secret of the client, such as \"${file:/run/secrets/client}\"";
            let secret = required(table, "client_secret", hint, not_empty);
            table.misplaced(
                "private_key_file",
                Some(
                    "has no effect without client_auth = \"private_key_jwt\": add that, or remove the key"
                        .to_owned(),
                ),
            );
            match name {
                ClientAuthName::Post => ClientAuth::Post(secret),
                _ => ClientAuth::Basic(secret),
            }
        }
        ClientAuthName::PrivateKeyJwt => {
            let file = table.required_string("private_key_file", "the file with the private key, as PEM");
            let file = PathBuf::from(file.unwrap_or_default());
            if !table.has_problem("private_key_file")
                && let Err(why) = SigningKey::read(&file)
            {
                table.problem("private_key_file", format!("{}: {why}", file.display()));
            }
            table.misplaced(
                "client_secret",
                Some("has no effect with client_auth = \"private_key_jwt\": remove one of them".to_owned()),
            );
            ClientAuth::PrivateKeyJwt { file }
        }
    };
    let scope = table.optional_text("scope", |text| text.resolve().map(drop));
    let audience = table.optional_text("audience", |text| text.resolve().map(drop));
    let refresh_ahead = table.duration("refresh_ahead", Duration::from_secs(30));
    let extra = read_extra(table);
    OAuth2Config { token_url, client_id, client_auth, scope, audience, extra, refresh_ahead }
}

fn read_extra(table: &mut Reader<'_>) -> Vec<(String, Secret)> {
    let free = table.free_table("extra");
    let mut extra: Vec<(String, Secret)> = Vec::new();
    for (name, value) in free.entries.into_iter().chain(free.overrides) {
        let read = as_text(&value).and_then(|text| {
            if name.is_empty() {
                return Err("is a parameter without a name: write one, or remove it".to_owned());
            }
            if OWN_PARAMETERS.contains(&name.as_str()) {
                return Err("is set by the sink or has a key of its own: remove it here".to_owned());
            }
            text.resolve().map(|_| Secret(text))
        });
        match read {
            Ok(secret) => {
                extra.retain(|(other, _)| *other != name);
                extra.push((name, secret));
            }
            Err(why) => table.problem(&format!("extra.{name}"), why),
        }
    }
    extra
}

fn read_aws_sigv4(table: &mut Reader<'_>) -> AwsSigV4Config {
    let region = table.optional_text("region", |text| not_empty(&text.resolve()?));
    if region.is_none() && !table.has_problem("region") && std::env::var("AWS_REGION").is_err() {
        let default = std::env::var("AWS_DEFAULT_REGION");
        if default.is_err() {
            table.problem(
                "region",
                "is not given, and neither AWS_REGION nor AWS_DEFAULT_REGION is set: write one such as \"eu-central-1\"",
            );
        }
    }
    let service = table.required_string("service", "the service, such as \"execute-api\", \"s3\" or \"es\"");
    let access_key_id = optional(table, "access_key_id", |id| {
        let allowed = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if allowed {
            Ok(())
        } else {
            Err("is not an access key ID: letters, digits and _ are allowed".to_owned())
        }
    });
    let secret_access_key = optional(table, "secret_access_key", not_empty);
    let session_token = optional(table, "session_token", |token| bearer_header(token).map(drop));
    let other = |key: &str, missing: &str| {
        table.problem(missing, format!("is not given beside {key}: write both, or neither and set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"));
    };
    let keys = match (access_key_id, secret_access_key) {
        (Some(access_key_id), Some(secret_access_key)) => {
            Some(AwsKeys { access_key_id, secret_access_key, session_token })
        }
        (Some(_), None) if !table.has_problem("secret_access_key") => {
            other("access_key_id", "secret_access_key");
            None
        }
        (None, Some(_)) if !table.has_problem("access_key_id") => {
            other("secret_access_key", "access_key_id");
            None
        }
        (None, None) if !table.has_problem("access_key_id") && !table.has_problem("secret_access_key") => {
            if session_token.is_some() {
                other("session_token", "access_key_id");
            }
            for name in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"] {
                if std::env::var(name).is_err() {
                    let key = name.trim_start_matches("AWS_").to_ascii_lowercase();
                    table.problem(
                        &key,
                        format!("is not given, and the environment variable {name} is not set"),
                    );
                }
            }
            None
        }
        _ => None,
    };
    AwsSigV4Config { region, service: service.unwrap_or_default(), keys }
}

fn read_webhook_signature(table: &mut Reader<'_>) -> AuthConfig {
    let secrets = table.texts("secrets", |_, text| webhook_keys(&text.resolve()?).map(drop));
    let secrets = secrets.unwrap_or_default();
    if secrets.is_empty() && !table.has_problem("secrets") {
        table.problem(
            "secrets",
            "names no secret: write one such as [\"whsec_…\"] or [\"${file:/run/secrets/webhook}\"]",
        );
    }
    AuthConfig::WebhookSignature { secrets: secrets.into_iter().map(Secret).collect() }
}

fn read_hmac(table: &mut Reader<'_>) -> Option<HmacConfig> {
    let header = table.required_string("header", "the header for the signature, such as \"X-Signature\"");
    let secret = required(table, "secret", "the key, such as \"${file:/run/secrets/hmac}\"", not_empty);
    let algorithm = table.choice("algorithm", HmacAlgorithm::Sha256);
    let encoding = table.choice("encoding", HmacEncoding::Hex);
    let prefix = read_template(table, "prefix", "");
    let signed = read_template(table, "signed", "{body}");
    if prefix.holds(&SignedPart::Body) {
        table.problem("prefix", "holds {body}: only {now} is allowed there, or {{ for a brace");
    }
    let literals = prefix.parts().iter().filter_map(|part| match part {
        SignedPart::Literal(literal) => Some(literal),
        SignedPart::Body | SignedPart::Now => None,
    });
    if literals.into_iter().any(|literal| sensitive(literal).is_none()) {
        table.problem("prefix", "holds a control character, such as a line break: remove it");
    }
    if !signed.holds(&SignedPart::Body) && !table.has_problem("signed") {
        table.problem("signed", "has no {body} in it, so that anyone could change what is sent: add {body}");
    }
    let header = read_header(table, "header", &header?)?;
    Some(HmacConfig { header, secret, algorithm, encoding, prefix, signed })
}

fn read_template(table: &mut Reader<'_>, key: &'static str, default: &str) -> SignedTemplate {
    let template = table.string(key, default);
    SignedTemplate::parse(&template).unwrap_or_else(|why| {
        table.problem(key, why);
        SignedTemplate::default()
    })
}

fn read_header(table: &Reader<'_>, key: &str, name: &str) -> Option<HeaderName> {
    header_name(name).map_err(|why| table.problem(key, why)).ok()
}

fn required(
    table: &mut Reader<'_>,
    key: &'static str,
    hint: &str,
    check: impl FnOnce(&str) -> Result<(), String>,
) -> Secret {
    Secret(table.required_text(key, hint, |text| check(&text.resolve()?)))
}

fn optional(
    table: &mut Reader<'_>,
    key: &'static str,
    check: impl FnOnce(&str) -> Result<(), String>,
) -> Option<Secret> {
    table.optional_text(key, |text: &Text| check(&text.resolve()?)).map(Secret)
}

fn not_empty(value: &str) -> Result<(), String> {
    if value.is_empty() { Err("is empty".to_owned()) } else { Ok(()) }
}
