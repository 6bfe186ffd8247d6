//! Values made of secrets, made anew when a secret's file changes.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};

use reqwest::{Response, StatusCode};
use reqwest_middleware::Result;
use tokio::time::Instant;
use tracing::{info, warn};

use super::Renewed;
use crate::config::{FileStamp, Text};

/// How long files are not looked at again: a request a microsecond must not ask the disk each time.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// A value made of secrets.
pub(super) struct Rotating<T> {
    texts: Vec<Text>,
    make: Box<dyn Fn() -> std::result::Result<T, String> + Send + Sync>,
    current: RwLock<Arc<T>>,
    /// `None` where no secret is in a file.
    files: Option<Mutex<Files>>,
}

struct Files {
    stamps: Vec<FileStamp>,
    /// When they were last looked at.
    looked: Instant,
}

impl<T> Rotating<T> {
    /// What `make` makes of these texts, which it resolves itself.
    ///
    /// # Errors
    /// It cannot be made.
    pub(super) fn new(
        texts: Vec<Text>,
        make: impl Fn() -> std::result::Result<T, String> + Send + Sync + 'static,
    ) -> std::result::Result<Self, String> {
        // Looked at first: what changes meanwhile is seen later.
        let stamps = stamps(&texts);
        let current = RwLock::new(Arc::new(make()?));
        let files = (!stamps.is_empty()).then(|| Mutex::new(Files { stamps, looked: Instant::now() }));
        Ok(Self { texts, make: Box::new(make), current, files })
    }

    /// The value of now. Files are looked at, at most once a second; where a new content is of no use, the last good one stays.
    pub(super) fn current(&self) -> Arc<T> {
        self.look(LOOK_AGAIN);
        self.last()
    }

    /// Takes note of the answer to a request with `used`: where that was refused, files are looked at at once, and an
    /// answer after which the next attempt has another value is marked.
    pub(super) fn answered(&self, used: &Arc<T>, outcome: Result<Response>) -> Result<Response> {
        let mut answer = outcome?;
        let refused = matches!(
            answer.status(),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::NETWORK_AUTHENTICATION_REQUIRED
        );
        if refused && self.files.is_some() {
            self.look(Duration::ZERO);
            if !Arc::ptr_eq(used, &self.last()) {
                answer.extensions_mut().insert(Renewed);
            }
        }
        Ok(answer)
    }

    fn look(&self, not_within: Duration) {
        let Some(files) = &self.files else { return };
        let mut files = files.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if now.saturating_duration_since(files.looked) < not_within {
            return;
        }
        files.looked = now;
        let stamps = stamps(&self.texts);
        if stamps == files.stamps {
            return;
        }
        files.stamps = stamps;
        match (self.make)() {
            Ok(made) => {
                info!("a secret's file changed: its new content is used from now on");
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(made);
            }
            Err(why) => {
                warn!("a secret's file changed and cannot be used, so its old content stays in use: {why}");
            }
        }
    }

    fn last(&self) -> Arc<T> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn stamps(texts: &[Text]) -> Vec<FileStamp> {
    texts.iter().flat_map(Text::file_stamps).collect()
}

impl<T> fmt::Debug for Rotating<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Rotating(***)")
    }
}
