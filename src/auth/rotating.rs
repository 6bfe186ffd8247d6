//! Values made from secrets, remade when a secret's file changes.

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
use crate::secret::{FileStamp, Text};

/// How often files are checked for changes: with a request every microsecond, not each can ask the disk.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// A value made from secrets.
pub(super) struct Rotating<T> {
    texts: Vec<Text>,
    make: Box<dyn Fn() -> std::result::Result<T, String> + Send + Sync>,
    current: RwLock<Arc<T>>,
    /// `None` if no secret is in a file.
    files: Option<Mutex<Files>>,
}

struct Files {
    stamps: Vec<FileStamp>,
    /// When they were last checked.
    checked: Instant,
}

impl<T> Rotating<T> {
    /// Makes the value with `make`, which resolves these texts itself.
    ///
    /// # Errors
    /// It cannot be made.
    pub(super) fn new(
        texts: Vec<Text>,
        make: impl Fn() -> std::result::Result<T, String> + Send + Sync + 'static,
    ) -> std::result::Result<Self, String> {
        // Taken before the files are read, so that later changes are noticed.
        let stamps = stamps(&texts);
        let current = RwLock::new(Arc::new(make()?));
        let files = (!stamps.is_empty()).then(|| Mutex::new(Files { stamps, checked: Instant::now() }));
        Ok(Self { texts, make: Box::new(make), current, files })
    }

    /// Returns the current value. Files are checked at most once a second; if a new content cannot be used, the last good one
    /// stays.
    pub(super) fn current(&self) -> Arc<T> {
        self.check(CHECK_INTERVAL);
        self.last()
    }

    /// Examines the answer to a request with `used`: if that was refused, files are checked at once, and the answer is marked
    /// if the next attempt has a new value.
    pub(super) fn answered(&self, used: &Arc<T>, outcome: Result<Response>) -> Result<Response> {
        let mut answer = outcome?;
        let refused = matches!(
            answer.status(),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::NETWORK_AUTHENTICATION_REQUIRED
        );
        if refused && self.files.is_some() {
            self.check(Duration::ZERO);
            if !Arc::ptr_eq(used, &self.last()) {
                answer.extensions_mut().insert(Renewed);
            }
        }
        Ok(answer)
    }

    fn check(&self, not_within: Duration) {
        let Some(files) = &self.files else { return };
        let mut files = files.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if now.saturating_duration_since(files.checked) < not_within {
            return;
        }
        files.checked = now;
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
