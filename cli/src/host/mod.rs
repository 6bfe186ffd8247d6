//! The one connector of this process: finds its plugin, opens it, and forwards its log to stderr.
#![allow(unsafe_code)]

mod observed;
mod watch;

use std::{
    borrow::Cow,
    cmp::Reverse,
    env, io,
    path::{Path, PathBuf, absolute},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use iggy_connector_sdk::{
    BorrowedMessage, MessagesMetadata, TopicMetadata,
    host::{Plugin, with_extension},
};
use serde_json::Value;

use self::observed::Observed;
pub(crate) use self::{
    observed::{FailedRange, Failures, State},
    watch::Watch,
};
use crate::terminal::{
    log::{self, Level},
    report::Failure,
};

const ID: u32 = 1;

/// A plugin with its connector open. Closed when dropped, at the latest.
#[derive(Debug)]
pub(crate) struct OpenPlugin {
    plugin: Plugin,
    closer: Closer,
    /// `None` if it reports nothing, or was not asked to.
    observed: Option<Arc<Observed>>,
}

/// Closes the connector, once, from any thread. A batch in flight gets the connector's `close_timeout`.
#[derive(Debug, Clone)]
pub(crate) struct Closer {
    plugin: Plugin,
    asked: Arc<AtomicBool>,
    code: Arc<OnceLock<i32>>,
}

impl Closer {
    /// Returns when the connector is closed, whoever closes it.
    ///
    /// # Errors
    /// The plugin says that it did not close.
    pub(crate) fn close(&self) -> Result<(), Failure> {
        self.asked.store(true, Ordering::SeqCst);
        match self.code.get_or_init(|| self.plugin.close(ID)) {
            0 => Ok(()),
            code => Err(Failure::Other(format!("the plugin did not close (code {code})"))),
        }
    }
}

impl OpenPlugin {
    /// Loads the library and opens a connector with the JSON of `[plugin_config]`.
    ///
    /// # Errors
    /// The library cannot be loaded, or does not open.
    pub(crate) fn open(path: &Path, config: &Value) -> Result<Self, Failure> {
        Self::opened(Plugin::load(path).map_err(|why| Failure::Start(why.to_string()))?, config, None)
    }

    /// The same, with the plugin asked to report how it is doing.
    ///
    /// # Errors
    /// The library cannot be loaded, or does not open.
    pub(crate) fn open_observed(path: &Path, config: &Value) -> Result<Self, Failure> {
        let plugin = Plugin::load(path).map_err(|why| Failure::Start(why.to_string()))?;
        let observed = Observed::of(&plugin).map(Arc::new);
        Self::opened(plugin, config, observed)
    }

    fn opened(plugin: Plugin, config: &Value, observed: Option<Arc<Observed>>) -> Result<Self, Failure> {
        match plugin.open(ID, &config.to_string(), write_log) {
            0 => Ok(Self {
                closer: Closer { plugin: plugin.clone(), asked: Arc::default(), code: Arc::default() },
                plugin,
                observed,
            }),
            code => Err(Failure::Start(format!(
                "{} did not open the connector (code {code}): the reason is in its log above",
                plugin.path().display()
            ))),
        }
    }

    /// Returns the state of the connector, or its last state once it is closed. `None` if its plugin does not report.
    pub(crate) fn state(&self) -> Option<State> {
        self.observed.as_ref()?.state(ID)
    }

    /// Takes the messages that failed since the last call. `None` if the plugin does not report.
    pub(crate) fn take_failures(&self) -> Option<Failures> {
        Some(self.observed.as_ref()?.take_failures(ID))
    }

    /// Passes a batch to the plugin. Returns 0 if every message was settled well; -1 if nothing was accepted because it is
    /// closed.
    pub(crate) fn consume(
        &self,
        topic: &TopicMetadata,
        metadata: &MessagesMetadata,
        messages: &[BorrowedMessage<'_>],
    ) -> i32 {
        self.plugin.consume(ID, topic, metadata, messages)
    }

    /// As [`consume`](Self::consume), with everything in its wire form already.
    pub(crate) fn consume_encoded(&self, topic: &[u8], metadata: &[u8], messages: &[u8]) -> i32 {
        self.plugin.consume_encoded(ID, topic, metadata, messages)
    }

    /// Whether it is closed, or being closed, already.
    pub(crate) fn is_closed(&self) -> bool {
        self.closer.asked.load(Ordering::SeqCst)
    }

    /// Returns a handle that closes it before it is dropped.
    pub(crate) fn closer(&self) -> Closer {
        self.closer.clone()
    }

    /// # Errors
    /// The plugin says that it did not close.
    pub(crate) fn close(&self) -> Result<(), Failure> {
        self.closer.close()
    }

    /// The file and the version it reports.
    pub(crate) fn identity(&self) -> (String, String) {
        (self.plugin.path().display().to_string(), self.plugin.version())
    }
}

impl Drop for OpenPlugin {
    fn drop(&mut self) {
        // A caller that wants the result has closed it before.
        let _ = self.closer.close();
    }
}

/// Finds the plugin if none is named: beside the executable, or where cargo builds it. If there are several, the newest is
/// used: `cargo run` leaves an older one beside the executable.
///
/// # Errors
/// It is in none of these places; the message names them.
pub(crate) fn built() -> Result<PathBuf, Failure> {
    let name = format!("{}iggy_connector_http_sink{}", env::consts::DLL_PREFIX, env::consts::DLL_SUFFIX);
    let mut places = near_executable(&executable()?, &name);
    places.sort_by_key(|place| Reverse(place.metadata().and_then(|file| file.modified()).ok()));
    first(places)
}

/// Finds the plugin that a connector file names: relative to the current folder, then to the file, then by its name beside
/// the executable.
///
/// # Errors
/// It is in none of these places; the message names them.
pub(crate) fn named(path: &Path, file: &Path) -> Result<PathBuf, Failure> {
    let absolute = |path: &Path| absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut places = vec![with_extension(&absolute(path))];
    if let Some(folder) = file.parent().filter(|_| path.is_relative()) {
        places.push(with_extension(&absolute(&folder.join(path))));
    }
    if let Some(name) = path.file_name() {
        let near = near_executable(&executable()?, &name.to_string_lossy());
        places.extend(near.iter().map(|place| with_extension(place)));
    }
    places.dedup();
    first(places)
}

/// This program.
///
/// # Errors
/// The system does not report its path.
pub(crate) fn executable() -> Result<PathBuf, Failure> {
    env::current_exe()
        .map_err(|why| Failure::Other(format!("the path of this executable is not known: {why}")))
}

/// Returns the places for `name` near the executable: beside it; if cargo built it, in `deps/` beside it or beside its
/// folder; and if it is in a `bin/`, in `lib/iggy-http-sink/` beside that, where packages put it.
fn near_executable(executable: &Path, name: &str) -> Vec<PathBuf> {
    let folder = executable.parent().unwrap_or(Path::new("."));
    let mut folders = vec![folder.to_owned()];
    folders.extend(
        [folder.join("deps"), folder.with_file_name("deps")].into_iter().filter(|deps| deps.is_dir()),
    );
    if folder.ends_with("bin") {
        folders.push(folder.with_file_name("lib").join("iggy-http-sink"));
    }
    folders.iter().map(|folder| folder.join(name)).collect()
}

fn first(places: Vec<PathBuf>) -> Result<PathBuf, Failure> {
    places.iter().find(|place| place.is_file()).cloned().ok_or_else(|| {
        let places: String =
            places.iter().flat_map(|place| ["\n  ".to_owned(), place.display().to_string()]).collect();
        Failure::Start(format!(
            "the plugin is in none of these places:{places}\nname it with --plugin, or put it there: `cargo build --release -p \
             iggy_connector_http_sink`, in the sources of this program, makes it in target/release"
        ))
    })
}

/// Takes a log event, for the log on stderr.
extern "C" fn write_log(
    level: u8,
    target: *const u8,
    target_len: usize,
    message: *const u8,
    message_len: usize,
) {
    // SAFETY: the ABI has each pointer and length describe bytes that live during this call.
    let (target, message) = unsafe { (text(target, target_len), text(message, message_len)) };
    log::from(Level::of(level), &target, &message);
}

/// # Safety
/// `start` must be null or point to `len` bytes that live as long as the answer is used.
unsafe fn text<'a>(start: *const u8, len: usize) -> Cow<'a, str> {
    if start.is_null() || len == 0 {
        return "".into();
    }
    // SAFETY: not null, and the caller vouches for the length.
    String::from_utf8_lossy(unsafe { std::slice::from_raw_parts(start, len) })
}

/// The current time in microseconds since the Unix epoch.
///
/// # Errors
/// The clock is before 1970.
pub(crate) fn now_micros() -> Result<u64, Failure> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).map_err(io::Error::other);
    since
        .and_then(|since| u64::try_from(since.as_micros()).map_err(io::Error::other))
        .map_err(|why| Failure::Other(format!("the clock cannot be used: {why}")))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_missing_plugin_is_told_with_every_place() {
        let folder = tempfile::tempdir().unwrap();
        let told = |executable: &str| {
            let error = first(near_executable(&folder.path().join(executable), "lib.so")).unwrap_err();
            let lines: Vec<String> = error.to_string().lines().map(str::to_owned).collect();
            let places = lines.iter().filter_map(|line| line.strip_prefix("  "));
            let inside =
                |place: &str| place.strip_prefix(folder.path().to_str().unwrap()).unwrap().to_owned();
            places.map(inside).collect::<Vec<String>>()
        };
        assert_eq!(told("program"), ["/lib.so"]);
        assert_eq!(told("usr/bin/program"), ["/usr/bin/lib.so", "/usr/lib/iggy-http-sink/lib.so"]);
        fs::create_dir_all(folder.path().join("debug/deps")).unwrap();
        assert_eq!(told("debug/program"), ["/debug/lib.so", "/debug/deps/lib.so"]);
        assert_eq!(told("debug/examples/program"), ["/debug/examples/lib.so", "/debug/deps/lib.so"]);
    }

    #[test]
    fn a_plugin_is_found_beside_its_connector_file() {
        let folder = tempfile::tempdir().unwrap();
        let library = folder.path().join(format!("sink-1.2{}", env::consts::DLL_SUFFIX));
        fs::write(&library, "").unwrap();
        let file = folder.path().join("connector.toml");
        assert_eq!(named(Path::new("sink-1.2"), &file).unwrap(), library);
        let error = named(Path::new("other"), &file).unwrap_err().to_string();
        assert!(error.contains(&folder.path().join("other").display().to_string()), "{error}");
    }

    #[test]
    fn the_plugin_of_this_build_is_found() {
        let path = built().unwrap();
        assert!(path.parent().unwrap().ends_with("deps"), "{}", path.display());
    }
}
