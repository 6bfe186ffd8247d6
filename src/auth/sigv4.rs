//! AWS Signature Version 4.
//!
//! <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html>. AWS's own crate brings
//! twenty others and a second implementation of its hash; the part that is needed is short, and AWS publishes examples.

mod canonical;

use std::{env, sync::Arc};

use async_trait::async_trait;
use http::Extensions;
use reqwest::{
    Request, Response,
    header::{AUTHORIZATION, HeaderValue},
};
use reqwest_middleware::{Error, Middleware, Next, Result};
use ring::{digest, hmac};

use super::{AuthError, Echo, exchange::body, hmac::push_hex, rotating::Rotating};
use crate::{
    config::{
        AwsKeys, AwsSigV4Config, Text,
        auth::{AMZ_CONTENT_SHA256, AMZ_DATE, AMZ_SECURITY_TOKEN, sensitive},
    },
    world::World,
};

const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// Signs requests.
#[derive(Debug)]
pub(super) struct SigV4 {
    region: Option<Text>,
    service: String,
    /// `None`: those of the environment.
    credentials: Option<Rotating<Credentials>>,
    world: World,
}

/// What signatures are made with.
pub(super) struct Credentials {
    access_key_id: String,
    secret_access_key: String,
    session_token: Option<HeaderValue>,
}

/// What a signature is valid for, besides its time.
struct Scope<'s> {
    region: &'s str,
    service: &'s str,
    /// Whether the hash of the body is sent: some services, such as S3, require it, and for others it is an ordinary header.
    sends_body_hash: bool,
}

impl SigV4 {
    pub(super) fn new(config: &AwsSigV4Config, world: &World) -> std::result::Result<Self, String> {
        let signer = Self {
            region: config.region.clone(),
            service: config.service.clone(),
            credentials: config.keys.as_ref().map(rotating).transpose()?,
            world: world.clone(),
        };
        signer.region()?;
        signer.credentials()?;
        Ok(signer)
    }

    fn region(&self) -> std::result::Result<String, String> {
        match &self.region {
            Some(region) => region.resolve(),
            None => variable("AWS_REGION").or_else(|_| variable("AWS_DEFAULT_REGION")),
        }
    }

    fn credentials(&self) -> std::result::Result<Arc<Credentials>, String> {
        match &self.credentials {
            Some(credentials) => Ok(credentials.current()),
            // They may have been changed since.
            None => Credentials::new(
                variable("AWS_ACCESS_KEY_ID")?,
                variable("AWS_SECRET_ACCESS_KEY")?,
                variable("AWS_SESSION_TOKEN").ok().filter(|token| !token.is_empty()),
            )
            .map(Arc::new),
        }
    }
}

fn rotating(keys: &AwsKeys) -> std::result::Result<Rotating<Credentials>, String> {
    let secrets = [Some(&keys.access_key_id), Some(&keys.secret_access_key), keys.session_token.as_ref()];
    let texts = secrets.into_iter().flatten().map(|secret| secret.text().clone()).collect();
    let keys = keys.clone();
    Rotating::new(texts, move || {
        Credentials::new(
            keys.access_key_id.resolve()?,
            keys.secret_access_key.resolve()?,
            keys.session_token.as_ref().map(crate::config::Secret::resolve).transpose()?,
        )
    })
}

fn variable(name: &str) -> std::result::Result<String, String> {
    env::var(name).map_err(|_| format!("the environment variable {name} is not set, or not UTF-8"))
}

impl Credentials {
    fn new(
        access_key_id: String,
        secret_access_key: String,
        session_token: Option<String>,
    ) -> std::result::Result<Self, String> {
        if access_key_id.is_empty() || !access_key_id.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("access_key_id is empty, or holds a space or a character outside of ASCII".to_owned());
        }
        let session_token = session_token
            .map(|token| sensitive(&token).ok_or("session_token holds a control character"))
            .transpose()?;
        Ok(Self { access_key_id, secret_access_key, session_token })
    }
}

/// Signs a request in this second, written as `20150830T123600Z`.
fn sign(request: &mut Request, credentials: &Credentials, scope: &Scope<'_>, time: &str) {
    let is_s3 = scope.service == "s3";
    canonical::write_strictly(request.url_mut(), is_s3);
    let date = &time[..8];
    let body_hash = hex(digest::digest(&digest::SHA256, body(request)).as_ref());
    let headers = request.headers_mut();
    if scope.sends_body_hash {
        headers
            .insert(AMZ_CONTENT_SHA256, HeaderValue::from_str(&body_hash).expect("digits fit into a header"));
    }
    headers.insert(AMZ_DATE, HeaderValue::from_str(time).expect("digits fit into a header"));
    if let Some(token) = &credentials.session_token {
        headers.insert(AMZ_SECURITY_TOKEN, token.clone());
    }
    let (canonical, signed_headers) = canonical::request(request, is_s3, &body_hash);
    let scope_of_key = format!("{date}/{}/{}/aws4_request", scope.region, scope.service);
    let canonical_hash = hex(digest::digest(&digest::SHA256, canonical.as_bytes()).as_ref());
    let to_sign = format!("{ALGORITHM}\n{time}\n{scope_of_key}\n{canonical_hash}");
    // Each day, region and service has its own key, derived from the secret.
    let secret = format!("AWS4{}", credentials.secret_access_key);
    let key = [date, scope.region, scope.service, "aws4_request"]
        .iter()
        .fold(hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), |key, part| {
            hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&key, part.as_bytes()).as_ref())
        });
    let signature = hex(hmac::sign(&key, to_sign.as_bytes()).as_ref());
    let authorization = format!(
        "{ALGORITHM} Credential={}/{scope_of_key}, SignedHeaders={signed_headers}, Signature={signature}",
        credentials.access_key_id
    );
    let authorization = sensitive(&authorization).expect("all of its parts are ASCII");
    request.headers_mut().insert(AUTHORIZATION, authorization);
}

fn hex(bytes: &[u8]) -> String {
    let mut hex = String::with_capacity(bytes.len() * 2);
    push_hex(&mut hex, bytes);
    hex
}

/// The time of day as `20150830T123600Z`.
fn time(world: &World) -> String {
    let mut time = humantime::format_rfc3339_seconds(world.now()).to_string();
    time.retain(|c| !"-:".contains(c));
    time
}

#[async_trait]
impl Middleware for SigV4 {
    async fn handle(
        &self,
        mut request: Request,
        extensions: &mut Extensions,
        next: Next<'_>,
    ) -> Result<Response> {
        let missing = |why| Error::middleware(AuthError::Secret(format!("auth: {why}")));
        let credentials = self.credentials().map_err(missing)?;
        let region = self.region().map_err(missing)?;
        let scope = Scope { region: &region, service: &self.service, sends_body_hash: true };
        sign(&mut request, &credentials, &scope, &time(&self.world));
        let mut outcome = next.run(request, extensions).await;
        if let (Ok(answer), Some(token)) = (&mut outcome, &credentials.session_token) {
            Echo::note(answer, &[token]);
        }
        match &self.credentials {
            Some(rotating) => rotating.answered(&credentials, outcome),
            None => outcome,
        }
    }
}

#[cfg(test)]
mod tests {
    use reqwest::{Method, Url, header::CONTENT_TYPE};

    use super::*;

    const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

    fn credentials(id: &str, secret: &str, token: Option<&str>) -> Credentials {
        Credentials::new(id.to_owned(), secret.to_owned(), token.map(str::to_owned)).expect("credentials")
    }

    fn signed(mut request: Request, credentials: &Credentials, service: &str, time: &str) -> String {
        let scope = Scope { region: "us-east-1", service, sends_body_hash: service == "s3" };
        sign(&mut request, credentials, &scope, time);
        let header = request.headers()[AUTHORIZATION].to_str().expect("ASCII");
        header.split_once("Signature=").expect("a signature").1.to_owned()
    }

    /// Requests and signatures of the test suite that AWS publishes for Signature Version 4.
    #[test]
    fn requests_of_the_published_test_suite_have_the_published_signatures() {
        let token = "6e86291e8372ff2a2260956d9b8aae1d763fbf315fa00fa31553b73ebf194267";
        let vectors = [
            ("GET", "/", None, "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
            ("POST", "/", None, "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
            ("GET", "/", Some(token), "07ec1639c89043aa0e3e2de82b96708f198cceab042d4a97044c66dd9f74e7f8"),
            ("GET", "//example//", None, "9a624bd73a37c9a373b5312afbebe7a714a789de108f0bdfe846570885f57e84"),
            ("GET", "/./example", None, "ef75d96142cf21edca26f06005da7988e4f8dc83a165a80865db7089db637ec5"),
            ("GET", "/example/..", None, "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
            (
                "GET",
                "/?Param2=value2&Param1=value1",
                None,
                "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
            ),
            ("GET", "/?ሴ=bar", None, "2cdec8eed098649ff3a119c94853b13c643bcf08f8b0a1d91e12c9027818dd04"),
        ];
        for (method, path, token, signature) in vectors {
            let url = Url::parse(&format!("https://example.amazonaws.com{path}")).expect("a URL");
            let method = method.parse::<Method>().expect("a method");
            let credentials = credentials("AKIDEXAMPLE", SECRET, token);
            let signed =
                signed(Request::new(method.clone(), url), &credentials, "service", "20150830T123600Z");
            assert_eq!(signed, signature, "{method} {path}");
        }
    }

    /// Examples of "Signature Calculations for the Authorization Header" in the reference of Amazon S3.
    #[test]
    fn requests_to_s3_have_the_published_signatures() {
        let vectors = [
            ("?lifecycle", "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"),
            ("?max-keys=2&prefix=J", "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"),
        ];
        for (query, signature) in vectors {
            let url = Url::parse(&format!("https://examplebucket.s3.amazonaws.com/{query}")).expect("a URL");
            let request = Request::new(Method::GET, url);
            let credentials =
                credentials("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", None);
            assert_eq!(signed(request, &credentials, "s3", "20130524T000000Z"), signature, "{query}");
        }
    }

    #[test]
    fn the_type_of_the_body_the_port_and_the_body_are_signed_and_other_headers_are_not() {
        let request = |url: &str, content_type: &'static str, other: &'static str, body: &'static str| {
            let mut request = Request::new(Method::POST, Url::parse(url).expect("a URL"));
            request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
            request.headers_mut().insert("x-other", HeaderValue::from_static(other));
            *request.body_mut() = Some(body.into());
            signed(request, &credentials("A", SECRET, None), "execute-api", "20261125T000000Z")
        };
        let one = request("https://localhost:8443/a", "application/json", "1", "{}");
        assert_eq!(request("https://localhost:8443/a", "application/json", "2", "{}"), one);
        assert_ne!(request("https://localhost:8444/a", "application/json", "1", "{}"), one);
        assert_ne!(request("https://localhost:8443/a", "text/plain", "1", "{}"), one);
        assert_ne!(request("https://localhost:8443/a", "application/json", "1", "{ }"), one);
        // The usual port is not sent.
        let usual = request("https://localhost:443/a", "application/json", "1", "{}");
        assert_eq!(request("https://localhost/a", "application/json", "1", "{}"), usual);
    }
}
