//! Keeps a token until it expires. However many requests need one, only one asks for it.

use std::{
    fmt,
    future::Future,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use reqwest::header::HeaderValue;
use tokio::time::Instant;
use tracing::{error, info, warn};

use super::AuthError;
use crate::causes::chain;

/// The last part of a token's lifetime in which it is replaced, if that is less than `refresh_ahead`: a token that lives for
/// two seconds should not be requested twice a second.
const LAST_PART: u32 = 4;

/// How long a failure to get a token applies to all requests that need one.
const FAILURE_STANDS: Duration = Duration::from_millis(250);

/// After a failure, when a new token is requested again while the old one is still valid.
const AHEAD_AGAIN: Duration = Duration::from_secs(5);

/// If a token was requested because the one before was refused, how long it is not itself replaced unless it was accepted
/// once: another one would be refused as well, and every message would cost one.
const REFUSED_AGAIN: Duration = Duration::from_secs(5);

/// Where tokens come from.
pub(super) trait TokenSource: Send + Sync {
    /// Asks for a token.
    ///
    /// # Errors
    /// There is none.
    fn ask(&self) -> impl Future<Output = Result<Granted, AuthError>> + Send;
}

/// A token as it was granted.
#[derive(Clone)]
pub(super) struct Granted {
    pub(super) header: HeaderValue,
    pub(super) lifetime: Duration,
}

/// A token in use.
pub(super) struct Token {
    pub(super) header: HeaderValue,
    replace_at: Instant,
    ends_at: Instant,
    /// Whether a request with it was accepted.
    accepted: AtomicBool,
}

impl Token {
    /// Records that a request with it was accepted.
    pub(super) fn accepted(&self) {
        self.accepted.store(true, Relaxed);
    }
}

/// Keeps a token.
pub(super) struct TokenCache<S> {
    source: S,
    refresh_ahead: Duration,
    state: Mutex<State>,
    /// Held by the request that asks. If that is dropped, the next one asks.
    asking: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    token: Option<Arc<Token>>,
    /// The last failure, if there has been no token since.
    failure: Option<(Instant, AuthError)>,
    /// When a token was last discarded because it was refused.
    refused: Option<Instant>,
}

impl<S: TokenSource> TokenCache<S> {
    pub(super) fn new(source: S, refresh_ahead: Duration) -> Self {
        Self { source, refresh_ahead, state: Mutex::default(), asking: tokio::sync::Mutex::default() }
    }

    /// Returns a token that has not expired.
    ///
    /// # Errors
    /// There is none.
    pub(super) async fn token(&self) -> Result<Arc<Token>, AuthError> {
        let began = Instant::now();
        if let Some(token) = self.living(began) {
            if began < token.replace_at {
                return Ok(token);
            }
            // It is still valid, so only the request that asks waits for the next one.
            if let Ok(_asking) = self.asking.try_lock()
                && self.is_to_be_replaced(began)
                && let Ok(next) = self.ask().await
            {
                return Ok(next);
            }
            return Ok(self.living(began).unwrap_or(token));
        }
        let _asking = self.asking.lock().await;
        if let Some(token) = self.living(Instant::now()) {
            return Ok(token);
        }
        if let Some(failure) = self.failure_since(began) {
            return Err(failure);
        }
        self.ask().await
    }

    /// Discards a token that was refused. Returns whether the next attempt has a new one.
    pub(super) fn refused(&self, used: &Arc<Token>) -> bool {
        let now = Instant::now();
        let mut state = self.lock();
        if !state.token.as_ref().is_some_and(|token| Arc::ptr_eq(token, used)) {
            return true;
        }
        let lately = state.refused.is_some_and(|at| now.saturating_duration_since(at) < REFUSED_AGAIN);
        if lately && !used.accepted.load(Relaxed) {
            return false;
        }
        state.refused = Some(now);
        state.token = None;
        true
    }

    fn living(&self, now: Instant) -> Option<Arc<Token>> {
        self.lock().token.clone().filter(|token| now < token.ends_at)
    }

    fn is_to_be_replaced(&self, now: Instant) -> bool {
        let state = self.lock();
        state.token.as_ref().is_none_or(|token| token.replace_at <= now)
            && state.failure.as_ref().is_none_or(|(at, _)| now.saturating_duration_since(*at) >= AHEAD_AGAIN)
    }

    /// Returns a failure that applies to a request that has needed a token since then.
    fn failure_since(&self, began: Instant) -> Option<AuthError> {
        let state = self.lock();
        let (at, why) = state.failure.as_ref()?;
        (*at >= began || at.elapsed() < FAILURE_STANDS).then(|| why.clone())
    }

    /// Asks for a token, and records the result. Only for the holder of `asking`.
    async fn ask(&self) -> Result<Arc<Token>, AuthError> {
        // Its lifetime is counted from before it was granted.
        let began = Instant::now();
        let granted = self.source.ask().await;
        let mut state = self.lock();
        let failed_before = state.failure.take();
        match granted {
            Ok(Granted { header, lifetime }) => {
                if let Some(endpoint) = failed_before.as_ref().and_then(|(_, why)| why.endpoint()) {
                    info!("{endpoint} gives tokens again");
                }
                let token = Arc::new(Token {
                    header,
                    replace_at: began + lifetime - self.refresh_ahead.min(lifetime / LAST_PART),
                    ends_at: began + lifetime,
                    accepted: AtomicBool::new(false),
                });
                state.token = Some(token.clone());
                Ok(token)
            }
            Err(why) => {
                report(&why, failed_before.as_ref().map(|(_, before)| before));
                state.failure = Some((Instant::now(), why.clone()));
                Err(why)
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Logs a failure once, until there is a token again or the kind of failure changes.
fn report(why: &AuthError, before: Option<&AuthError>) {
    if before.is_some_and(|before| before.is_transient() == why.is_transient()) {
        return;
    }
    if why.is_transient() {
        warn!("{}: asked again until there is one", chain(why));
    } else if !matches!(why, AuthError::Secret(_)) {
        // Secrets are logged by the sender, for all schemes.
        error!("{}: messages wait until that is fixed, up to max_retry_duration", chain(why));
    }
}

impl<S> fmt::Debug for TokenCache<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenCache(***)")
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(***)")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use futures_util::future::join_all;

    use super::*;

    /// Gives numbered tokens that live two minutes, each after a second, while it is up.
    #[derive(Default)]
    struct Source {
        asked: AtomicUsize,
        down: AtomicBool,
    }

    impl TokenSource for Arc<Source> {
        async fn ask(&self) -> Result<Granted, AuthError> {
            let number = self.asked.fetch_add(1, Relaxed) + 1;
            tokio::time::sleep(Duration::from_secs(1)).await;
            if self.down.load(Relaxed) {
                return Err(AuthError::NoToken { endpoint: "there".to_owned(), why: "down".to_owned() });
            }
            Ok(Granted { header: number.into(), lifetime: Duration::from_secs(120) })
        }
    }

    fn cache() -> (Arc<Source>, TokenCache<Arc<Source>>) {
        let source = Arc::<Source>::default();
        (source.clone(), TokenCache::new(source, Duration::from_secs(30)))
    }

    async fn sixteen(cache: &TokenCache<Arc<Source>>) -> Vec<Result<HeaderValue, String>> {
        let tokens = join_all((0..16).map(|_| cache.token())).await;
        tokens
            .into_iter()
            .map(|token| token.map(|token| token.header.clone()).map_err(|why| why.to_string()))
            .collect()
    }

    #[tokio::test(start_paused = true)]
    async fn one_asks_for_all_and_once_for_each_life() {
        let (source, cache) = cache();
        assert_eq!(sixteen(&cache).await, vec![Ok(HeaderValue::from(1)); 16]);
        tokio::time::sleep(Duration::from_secs(80)).await;
        assert_eq!(sixteen(&cache).await, vec![Ok(HeaderValue::from(1)); 16]);
        // Within the last 30 seconds one asks, and the others go on with what they have.
        tokio::time::sleep(Duration::from_secs(15)).await;
        let mut tokens = sixteen(&cache).await;
        tokens.sort_by_key(|token| token.clone().expect("a token").to_str().expect("a number").to_owned());
        let mut expected = vec![Ok(HeaderValue::from(1)); 15];
        expected.push(Ok(HeaderValue::from(2)));
        assert_eq!(tokens, expected);
        assert_eq!(source.asked.load(Relaxed), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_is_shared_and_soon_asked_about_again() {
        let (source, cache) = cache();
        source.down.store(true, Relaxed);
        assert!(sixteen(&cache).await.iter().all(Result::is_err));
        assert_eq!(source.asked.load(Relaxed), 1);
        tokio::time::sleep(FAILURE_STANDS).await;
        source.down.store(false, Relaxed);
        assert_eq!(sixteen(&cache).await, vec![Ok(HeaderValue::from(2)); 16]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_that_lives_serves_while_there_is_no_other() {
        let (source, cache) = cache();
        assert!(cache.token().await.is_ok());
        source.down.store(true, Relaxed);
        tokio::time::sleep(Duration::from_secs(100)).await;
        assert_eq!(sixteen(&cache).await, vec![Ok(HeaderValue::from(1)); 16]);
        assert_eq!(sixteen(&cache).await, vec![Ok(HeaderValue::from(1)); 16]);
        assert_eq!(source.asked.load(Relaxed), 2, "not asked again at once");
        tokio::time::sleep(Duration::from_secs(30)).await;
        assert!(sixteen(&cache).await.iter().all(Result::is_err));
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_asks_may_go_away_and_the_next_asks() {
        let (source, cache) = cache();
        let gone = tokio::time::timeout(Duration::from_millis(500), cache.token()).await;
        assert!(gone.is_err());
        assert_eq!(cache.token().await.expect("a token").header, HeaderValue::from(2));
        assert_eq!(source.asked.load(Relaxed), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_token_is_given_up_once_for_all_that_used_it() {
        let (source, cache) = cache();
        let first = cache.token().await.expect("a token");
        assert!(cache.refused(&first));
        assert!(cache.refused(&first), "another that used it is told as much");
        let second = cache.token().await.expect("a token");
        assert!(cache.refused(&first), "a late answer does not give up the new one");
        assert!(!cache.refused(&second), "nor is it asked for with each message that is refused for good");
        assert_eq!(source.asked.load(Relaxed), 2);
        second.accepted();
        assert!(cache.refused(&second), "one that was taken can be given up at any time");
        let third = cache.token().await.expect("a token");
        tokio::time::sleep(REFUSED_AGAIN).await;
        assert!(cache.refused(&third), "and any other after a while");
    }
}
