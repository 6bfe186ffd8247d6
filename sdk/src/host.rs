//! The host side of the ABI: loads a plugin and calls it, as the connectors runtime does.
#![allow(unsafe_code)]

use std::ffi::{CStr, OsStr, c_char};
use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use libloading::{Library, Symbol};
use serde::Serialize;

pub use crate::header_wire::encode_headers;
use crate::library;
use crate::{BorrowedMessage, LogCallback, MessagesMetadata, Schema, TopicMetadata};

type Open = unsafe extern "C" fn(u32, *const u8, usize, LogCallback) -> i32;
type Consume = unsafe extern "C" fn(u32, *const u8, usize, *const u8, usize, *const u8, usize) -> i32;
type Close = unsafe extern "C" fn(u32) -> i32;
type Version = unsafe extern "C" fn() -> *const c_char;

/// The endings that the runtime treats as the extension of a plugin; any other is part of the name.
const EXTENSIONS: [&str; 3] = ["so", "dylib", "dll"];

/// Why a library cannot be used as a plugin.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// There is no such file.
    #[error("there is no plugin at {}", path.display())]
    NotFound {
        /// Where it was searched for, with the platform's extension.
        path: PathBuf,
    },
    /// The system does not load the file.
    #[error("{} cannot be loaded: {reason}", path.display())]
    Load {
        /// The file.
        path: PathBuf,
        /// What the system says, or what is wrong with the file.
        reason: String,
    },
    /// The library is not a sink plugin.
    #[error("{} is not a sink plugin: it does not export {symbol}", path.display())]
    MissingSymbol {
        /// The file.
        path: PathBuf,
        /// The function it lacks.
        symbol: &'static str,
    },
}

/// A loaded plugin; clones share it.
///
/// The library is never unloaded, as in the runtime: threads of the plugin's executor may run its code for as long as the
/// process lives, and loading the same file again returns the same plugin with its open ids.
#[derive(Debug, Clone)]
pub struct Plugin {
    functions: Arc<Functions>,
}

#[derive(Debug)]
struct Functions {
    path: PathBuf,
    /// Never unloaded, so the functions stay where they are.
    library: ManuallyDrop<Library>,
    open: Open,
    consume: Consume,
    close: Close,
    version: Version,
}

impl Plugin {
    /// Loads the library at `path`. If there is no such file and the path does not end in `.so`, `.dylib` or `.dll`, the
    /// platform's extension is appended, as the runtime does. Only that path is tried, not the system's folders.
    ///
    /// A file that is truncated or made for another processor is refused first: loading it could end the process with a
    /// signal.
    ///
    /// This runs the library's initialisers: only load libraries that you trust like this program itself.
    ///
    /// # Errors
    /// [`HostError`], which names the file and, if one is missing, the function.
    pub fn load(path: &Path) -> Result<Self, HostError> {
        let path = Self::check(path)?;
        // SAFETY: initialisers of a library run here; the caller promised to trust it.
        let library = match unsafe { Library::new(&path) } {
            // Even if it lacks a function: what its initialisers started continues to run.
            Ok(library) => ManuallyDrop::new(library),
            Err(why) => {
                // What the system says, such as the version of glibc that is missing, is its source.
                let reason =
                    std::error::Error::source(&why).map_or_else(|| why.to_string(), ToString::to_string);
                return Err(HostError::Load { path, reason });
            }
        };
        // SAFETY: each type is that of the function of this name in the ABI.
        let functions = unsafe {
            Functions {
                open: function(&library, &path, "iggy_sink_open")?,
                consume: function(&library, &path, "iggy_sink_consume")?,
                close: function(&library, &path, "iggy_sink_close")?,
                version: function(&library, &path, "iggy_sink_version")?,
                path,
                library,
            }
        };
        Ok(Self { functions: Arc::new(functions) })
    }

    /// Checks whether a file can be a plugin, without loading it: it exists and, if it is a Linux library, it is complete and
    /// made for this processor. Returns its path with the extension.
    ///
    /// # Errors
    /// Those of [`load`](Self::load), except for missing functions.
    pub fn check(path: &Path) -> Result<PathBuf, HostError> {
        let path = with_extension(path);
        // A bare name would be looked for in the system's folders.
        let path = std::path::absolute(&path).unwrap_or(path);
        if !path.is_file() {
            return Err(HostError::NotFound { path });
        }
        match library::check(&path) {
            Ok(()) => Ok(path),
            Err(reason) => Err(HostError::Load { path, reason }),
        }
    }

    /// The file it was loaded from.
    pub fn path(&self) -> &Path {
        &self.functions.path
    }

    /// Returns a function that the library exports in addition to those of the ABI; `None` if it does not.
    ///
    /// # Safety
    /// `F` must be the type of a pointer to the function of this name.
    pub unsafe fn function<F: Copy>(&self, name: &str) -> Option<F> {
        // SAFETY: the caller vouches for the type.
        let found: Result<Symbol<'_, F>, _> = unsafe { self.functions.library.get(name) };
        found.ok().map(|function| *function)
    }

    /// The version that the plugin reports; empty if it reports none.
    pub fn version(&self) -> String {
        // SAFETY: the function takes nothing and can be called at any time.
        let version = unsafe { (self.functions.version)() };
        if version.is_null() {
            return String::new();
        }
        // SAFETY: not null, and the ABI has it end with a NUL and live as long as the library, which is for ever.
        unsafe { CStr::from_ptr(version) }.to_string_lossy().into_owned()
    }

    /// Opens a sink: 0; 1 if its open failed; -1 for a bad config or an id that is in use.
    ///
    /// `config_json` is the JSON of `[plugin_config]`, `null` for none. The plugin keeps `log` and calls it from
    /// any thread, also after its sinks are closed.
    pub fn open(&self, id: u32, config_json: &str, log: LogCallback) -> i32 {
        // SAFETY: pointer and length are of one str.
        unsafe { self.open_raw(id, config_json.as_ptr(), config_json.len(), log) }
    }

    /// Passes a batch to the sink: 0; 1 if the sink's consume failed; -1 for an id that is not open.
    pub fn consume(
        &self,
        id: u32,
        topic: &TopicMetadata,
        metadata: &MessagesMetadata,
        messages: &[BorrowedMessage<'_>],
    ) -> i32 {
        self.consume_encoded(id, &encode(topic), &encode(metadata), &encode_batch(metadata.schema, messages))
    }

    /// Passes a batch in its wire form: like [`consume`](Self::consume), and -1 for bytes that do not decode.
    pub fn consume_encoded(&self, id: u32, topic: &[u8], metadata: &[u8], messages: &[u8]) -> i32 {
        // SAFETY: each pointer and length are of one slice.
        unsafe {
            self.consume_raw(
                id,
                (topic.as_ptr(), topic.len()),
                (metadata.as_ptr(), metadata.len()),
                (messages.as_ptr(), messages.len()),
            )
        }
    }

    /// Closes a sink: 0; -1 for an id that is not open.
    pub fn close(&self, id: u32) -> i32 {
        // SAFETY: the function takes any number.
        unsafe { (self.functions.close)(id) }
    }

    /// [`open`](Self::open) with any pointer.
    ///
    /// # Safety
    /// `config` must be null or point to `config_len` bytes.
    pub unsafe fn open_raw(&self, id: u32, config: *const u8, config_len: usize, log: LogCallback) -> i32 {
        // SAFETY: the caller's promise is what the ABI asks.
        unsafe { (self.functions.open)(id, config, config_len, log) }
    }

    /// [`consume_encoded`](Self::consume_encoded) with any pointers, each with its length.
    ///
    /// # Safety
    /// Each pointer must be null or point to as many bytes as its length says.
    pub unsafe fn consume_raw(
        &self,
        id: u32,
        topic: (*const u8, usize),
        metadata: (*const u8, usize),
        messages: (*const u8, usize),
    ) -> i32 {
        // SAFETY: the caller's promise is what the ABI asks.
        unsafe {
            (self.functions.consume)(id, topic.0, topic.1, metadata.0, metadata.1, messages.0, messages.1)
        }
    }
}

/// Returns the file that a path names: with the platform's extension if it has none and there is no such file.
pub fn with_extension(path: &Path) -> PathBuf {
    if path.is_file() || EXTENSIONS.iter().any(|extension| path.extension() == Some(OsStr::new(extension))) {
        return path.to_owned();
    }
    let mut path = path.as_os_str().to_owned();
    path.push(std::env::consts::DLL_SUFFIX);
    path.into()
}

/// The wire form of a topic.
pub fn encode_topic(topic: &TopicMetadata) -> Vec<u8> {
    encode(topic)
}

/// The wire form of a batch's metadata.
pub fn encode_metadata(metadata: &MessagesMetadata) -> Vec<u8> {
    encode(metadata)
}

/// The wire form of a batch, as of [`RawMessages`](crate::RawMessages).
pub fn encode_batch(schema: Schema, messages: &[BorrowedMessage<'_>]) -> Vec<u8> {
    #[derive(Serialize)]
    struct Batch<'a, 'm> {
        schema: Schema,
        messages: &'a [BorrowedMessage<'m>],
    }
    encode(&Batch { schema, messages })
}

fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    // postcard can write all types of the ABI, and the buffer grows.
    postcard::to_stdvec(value).expect("the types of the ABI encode")
}

/// # Safety
/// `F` must be the type of the function that the library exports under this name.
unsafe fn function<F: Copy>(library: &Library, path: &Path, symbol: &'static str) -> Result<F, HostError> {
    // SAFETY: the caller vouches for the type.
    let found: Result<Symbol<'_, F>, _> = unsafe { library.get(symbol) };
    found.map(|function| *function).map_err(|_| HostError::MissingSymbol { path: path.to_owned(), symbol })
}
