//! Builds requests as they would be sent, without sending them.
//!
//! They are planned, encoded and signed by the same code as for the endpoint; only the last step, which would send them,
//! records them instead.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use bytes::Bytes;
use http::Extensions;
use reqwest::{
    Body as RequestBody, Request, Response, Url,
    header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderName, HeaderValue, USER_AGENT},
};
use reqwest_middleware::{Error, Middleware, Next, Result as Sent};
use tokio::runtime::{Builder, Runtime};

use crate::{
    auth::{self, Transport},
    batch::Batch,
    causes::chain,
    config::{ApiKeyLocation, AuthConfig, Compression, Config, Text, header::is_credential},
    deliver::{Pools, RequestTemplate, Target, USER_AGENT as NAME},
    encode::{Bodies, Body, Buffers, Encoded},
    failure::Failure,
    mask::Masks,
    plan,
    secret::MASK,
    world::World,
};

/// Stands for an access token, which only the token endpoint can grant.
const TOKEN: &str = "ACCESS_TOKEN";

/// Builds the requests of a configuration.
pub struct Preview {
    config: Config,
    /// One for each destination of the configuration, in their order.
    destinations: Vec<Destination>,
    buffers: Buffers,
    runtime: Runtime,
}

/// Builds the requests to one destination.
struct Destination {
    template: RequestTemplate,
    client: Pools,
    taken: Arc<Mutex<Option<Request>>>,
    secrets: Option<Secrets>,
}

impl fmt::Debug for Preview {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Preview").finish_non_exhaustive()
    }
}

/// What would happen to messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Previewed {
    /// They would be sent.
    Request(Box<PreviewedRequest>),
    /// A message that would be in no request.
    Refused {
        /// Its index in the batch.
        message: usize,
        /// The reason, as a dead letter has it.
        reason: String,
        /// What is wrong with it.
        detail: String,
    },
}

/// A request that is not sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreviewedRequest {
    /// The messages in it, as indexes into their batch, ascending.
    pub messages: Vec<usize>,
    /// The method.
    pub method: String,
    /// The whole URL.
    pub url: String,
    /// Names and values, without those that frame the request.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body on the wire.
    pub body: Bytes,
    /// The body before compression, if it is compressed.
    pub uncompressed: Option<Bytes>,
    /// Whether anything in it is masked.
    pub masked: bool,
}

/// How secrets are masked, and where.
struct Secrets {
    url: Masks,
    body: Masks,
}

impl Preview {
    /// Prepares for messages. Secrets are shown as `***` unless `show_secrets` is set.
    ///
    /// # Errors
    /// What would keep the sink from opening, except for the network.
    pub fn new(config: Config, show_secrets: bool) -> Result<Self, String> {
        let destinations = config.destinations().map(|config| Destination::new(config, show_secrets));
        let destinations = destinations.collect::<Result<_, _>>()?;
        let runtime = Builder::new_current_thread().enable_all().build().map_err(|why| why.to_string())?;
        Ok(Self { config, destinations, buffers: Buffers::default(), runtime })
    }

    /// Returns what would happen to the messages of a batch, lane by lane, at their first attempt.
    ///
    /// # Errors
    /// A credential cannot be created.
    pub fn of(&self, batch: &Batch<'_>) -> Result<Vec<Previewed>, String> {
        let Some(config) = self.config.route(batch.stream, batch.topic) else {
            let unrouted = |message| {
                let Failure { reason, detail, .. } = Failure::no_route();
                Previewed::Refused { message, reason: reason.to_string(), detail }
            };
            return Ok((0..batch.messages.len()).map(unrouted).collect());
        };
        let mut destinations = self.config.destinations().zip(&self.destinations);
        let destination = destinations.find(|(other, _)| std::ptr::eq(*other, config));
        let (_, destination) = destination.ok_or("the configuration has no such route")?;
        let mut previewed = Vec::new();
        for lane in plan::lanes(batch, config, None) {
            let mut bodies = Bodies::of(batch, lane, &config.body, &self.buffers);
            while let Some(encoded) = bodies.next_within(config.body.max_bytes) {
                previewed.push(match encoded {
                    Encoded::Body(body) => {
                        Previewed::Request(Box::new(destination.request(config, &body, &self.runtime)?))
                    }
                    Encoded::Refused(message, refusal) => {
                        let Failure { reason, detail, .. } = refusal.into();
                        Previewed::Refused { message, reason: reason.to_string(), detail }
                    }
                });
            }
        }
        Ok(previewed)
    }
}

impl Destination {
    fn new(config: &Config, show_secrets: bool) -> Result<Self, String> {
        let template = RequestTemplate::new(config)?;
        let taken = Arc::<Mutex<Option<Request>>>::default();
        let mut middleware: Vec<Arc<dyn Middleware>> = Vec::new();
        if let Some(auth) = &config.endpoint.auth {
            let token_endpoint = |_: &Url| Ok(Box::new(NoTokenEndpoint) as _);
            middleware.push(auth::middleware(auth, &World::real(), token_endpoint)?);
        }
        middleware.push(Arc::new(Take(taken.clone())));
        let files = config.client.tls.read_files().map_err(|problems| {
            let (key, why) = &problems[0];
            format!("tls.{key}: {why}")
        })?;
        // Nothing is connected to, so no authority has to be trusted.
        let client = Pools::new(&config.client, Target { https: false, loopback: true }, &middleware, files)?;
        let secrets = (!show_secrets).then(|| Secrets::of(config));
        Ok(Self { template, client, taken, secrets })
    }

    fn request(&self, config: &Config, body: &Body, runtime: &Runtime) -> Result<PreviewedRequest, String> {
        let key = self.template.idempotency_key(body);
        let unsigned = self.template.request(body, key.as_ref(), 0);
        let before = unsigned.headers().clone();
        let outcome = runtime.block_on(self.client.pooled.execute(unsigned));
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut request = match (outcome, taken) {
            (Ok(_), Some(request)) => request,
            (Err(why), _) => return Err(chain(&why)),
            (Ok(_), None) => return Err("the request did not come through".to_owned()),
        };
        let headers = request.headers_mut();
        headers.entry(ACCEPT).or_insert(HeaderValue::from_static("*/*"));
        headers.entry(USER_AGENT).or_insert(HeaderValue::from_static(NAME));
        let wire = request.body().and_then(RequestBody::as_bytes).map(Bytes::copy_from_slice);
        let compression = config.body.compression;
        let made = PreviewedRequest {
            messages: body.messages().collect(),
            method: request.method().to_string(),
            url: request.url().to_string(),
            headers: Vec::new(),
            body: wire.unwrap_or_default(),
            uncompressed: compression.filter(|_| !body.is_tombstone()).map(|_| body.bytes.clone()),
            masked: false,
        };
        Ok(match &self.secrets {
            None => {
                let all = request.headers().iter();
                let headers = all.map(|(name, value)| (name.to_string(), value.as_bytes().to_vec()));
                PreviewedRequest { headers: headers.collect(), ..made }
            }
            Some(secrets) => {
                secrets.mask(made, config, &before, request.headers(), key.as_ref(), compression)
            }
        })
    }
}

impl Secrets {
    fn of(config: &Config) -> Self {
        let (url, body) = (Masks::default(), Masks::default());
        config.endpoint.url.secrets().for_each(|secret| url.learn(&secret));
        if let Some(AuthConfig::ApiKey { location: ApiKeyLocation::Query(_), value }) = &config.endpoint.auth
            && let Ok(key) = value.resolve()
        {
            url.learn(&key);
        }
        if let Some(form) = &config.body.form {
            form.secrets.iter().for_each(|secret| body.learn(secret));
        }
        Self { url, body }
    }

    fn mask(
        &self,
        made: PreviewedRequest,
        config: &Config,
        before: &HeaderMap,
        headers: &HeaderMap,
        key: Option<&HeaderValue>,
        compression: Option<Compression>,
    ) -> PreviewedRequest {
        let url = self.url.apply_to_whole(&made.url).into_owned();
        let mut masked = url != made.url;
        let mut shown = Vec::with_capacity(headers.len());
        for (name, value) in headers {
            let configured = config.endpoint.headers.iter().find(|(other, _)| other == name);
            let is_of_auth = before.get(name) != Some(value) && value.is_sensitive();
            let bytes = if is_of_auth || (is_credential(name.as_str()) && Some(value) != key) {
                masked_credential(name, value)
            } else {
                masked_references(configured.map(|(_, text)| text), value)
            };
            masked |= bytes != value.as_bytes();
            shown.push((name.to_string(), bytes));
        }
        let plain = made.uncompressed.as_ref().unwrap_or(&made.body);
        let (mut body, mut uncompressed) = (made.body.clone(), made.uncompressed.clone());
        if let Ok(text) = std::str::from_utf8(plain)
            && let std::borrow::Cow::Owned(text) = self.body.apply_to_whole(text)
        {
            masked = true;
            let bytes = Bytes::from(text);
            body = compression.map_or_else(|| bytes.clone(), |compression| compression.compress(&bytes));
            uncompressed = compression.map(|_| bytes);
        }
        PreviewedRequest { url, headers: shown, body, uncompressed, masked, ..made }
    }
}

/// Masks the credential in a value; its scheme stays.
fn masked_credential(name: &HeaderName, value: &HeaderValue) -> Vec<u8> {
    let text = value.to_str().unwrap_or_default();
    match text.split_once(' ') {
        Some((scheme, _)) if *name == AUTHORIZATION => format!("{scheme} {MASK}").into_bytes(),
        _ => MASK.into(),
    }
}

/// Masks the secrets that a value's text refers to.
fn masked_references(text: Option<&Text>, value: &HeaderValue) -> Vec<u8> {
    let masks = Masks::default();
    text.into_iter().flat_map(Text::secrets).for_each(|secret| masks.learn(&secret));
    match value.to_str() {
        Ok(text) => masks.apply_to_whole(text).into_owned().into_bytes(),
        Err(_) if text.is_some_and(Text::is_secret) => MASK.into(),
        Err(_) => value.as_bytes().to_vec(),
    }
}

/// Records a request instead of sending it.
struct Take(Arc<Mutex<Option<Request>>>);

#[async_trait]
impl Middleware for Take {
    async fn handle(&self, request: Request, _: &mut Extensions, _: Next<'_>) -> Sent<Response> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(request);
        Ok(http::Response::new("").into())
    }
}

/// Answers in place of a token endpoint, which is not asked.
#[derive(Debug)]
struct NoTokenEndpoint;

#[async_trait]
impl Transport for NoTokenEndpoint {
    async fn send(&self, _: Request) -> Result<Response, Error> {
        let answer = format!(r#"{{"access_token":"{TOKEN}","token_type":"Bearer"}}"#);
        Ok(http::Response::new(answer).into())
    }
}
