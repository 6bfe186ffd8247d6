//! What signing a request costs, beside one that is not signed. No request leaves the process.
//!
//! ```sh
//! cargo bench --bench auth
//! ```

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use http::Extensions;
use iggy_connector_http_sink::{auth, config::Config, world::World};
use reqwest::{Client, Method, Request, Response, Url};
use reqwest_middleware::{ClientBuilder, ClientWithMiddleware, Middleware, Next};
use serde_json::{Value, json};

/// Rounds per figure, of which the best counts: noise only ever adds.
const ROUNDS: usize = 50;
const REQUESTS: u32 = 1000;

/// Answers in place of an endpoint.
struct Answering;

#[async_trait]
impl Middleware for Answering {
    async fn handle(
        &self,
        request: Request,
        _: &mut Extensions,
        _: Next<'_>,
    ) -> reqwest_middleware::Result<Response> {
        std::hint::black_box(&request);
        Ok(http::Response::new(reqwest::Body::default()).into())
    }
}

fn client(auth: Option<&Value>) -> ClientWithMiddleware {
    let client = Client::builder().no_proxy().build().expect("a client");
    let mut builder = ClientBuilder::new(client);
    if let Some(auth) = auth {
        let config = json!({ "url": "https://example.com/", "auth": auth });
        let config = Config::from_json(&config).unwrap_or_else(|problems| panic!("{problems}"));
        let auth = config.endpoint.auth.expect("it was given");
        builder = builder.with_arc(
            auth::middleware(&auth, &World::real(), |_| Err("none is needed".to_owned()))
                .expect("credentials"),
        );
    }
    builder.with_arc(Arc::new(Answering)).build()
}

fn request(size: usize) -> Request {
    let url = Url::parse("https://example.com/ingest/orders?source=iggy").expect("a URL");
    let mut request = Request::new(Method::POST, url);
    request.headers_mut().insert("content-type", "application/json".parse().expect("a value"));
    request.headers_mut().insert("webhook-id", "0123456789abcdef0123456789abcdef".parse().expect("a value"));
    *request.body_mut() = Some(vec![b'x'; size].into());
    request
}

fn main() {
    // Another sink of this process may have installed it before.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let schemes = [
        ("none", None),
        ("basic", Some(json!({ "type": "basic", "username": "u", "password": "p" }))),
        ("webhook_signature", Some(json!({ "type": "webhook_signature", "secrets": secret }))),
        ("hmac", Some(json!({ "type": "hmac", "header": "x-signature", "secret": "s" }))),
        (
            "aws_sigv4",
            Some(json!({
                "type": "aws_sigv4", "region": "eu-central-1", "service": "execute-api",
                "access_key_id": "AKIDEXAMPLE", "secret_access_key": "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
            })),
        ),
    ];
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    println!("{:20} {:>12} {:>12} {:>12}", "a request of", "64 bytes", "1 KiB", "16 KiB");
    for (name, auth) in schemes {
        let client = client(auth.as_ref());
        let times = [64, 1024, 16 * 1024].map(|size| {
            let template = request(size);
            let round = || {
                let began = Instant::now();
                runtime.block_on(async {
                    for _ in 0..REQUESTS {
                        let request = template.try_clone().expect("its body is in memory");
                        client.execute(request).await.expect("an answer");
                    }
                });
                began.elapsed() / REQUESTS
            };
            (0..ROUNDS).map(|_| round()).min().unwrap_or(Duration::ZERO)
        });
        let times = times.map(|time| format!("{:.2} µs", time.as_secs_f64() * 1e6));
        println!("{name:20} {:>12} {:>12} {:>12}", times[0], times[1], times[2]);
    }
}
