//! The C ABI: the implementation of the functions that [`sink_connector!`](crate::sink_connector) exports.
//!
//! A panic must not cross `extern "C"`: it would abort the runtime with all its connectors. Every panic in the sink's code is
//! caught, its message logged, and -1 returned. With `panic = "abort"` nothing can be caught, so plugins must be built
//! without it.
#![allow(unsafe_code)]

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use tracing::{debug, error};

use crate::executor::{Panic, catch, drive};
use crate::instance::Instance;
use crate::shown::{LONGEST_NAME, shown};
use crate::{BorrowedMessages, LogCallback, MessagesMetadata, Sink, TopicMetadata};

/// The call succeeded.
const DONE: i32 = 0;
/// The sink returned an error.
const FAILED: i32 = 1;
/// The call was refused: bad bytes, wrong id, or a panic.
const REFUSED: i32 = -1;

/// The open sinks of one plugin, by id.
///
/// Only [`sink_connector!`](crate::sink_connector) creates one.
#[derive(Debug)]
pub struct Registry<T> {
    /// `None` while the id is being opened.
    instances: Mutex<BTreeMap<u32, Option<Arc<Instance<T>>>>>,
}

impl<T: Sink> Registry<T> {
    /// A registry without sinks.
    #[allow(clippy::new_without_default)] // made in a static, which needs a const fn
    pub const fn new() -> Self {
        Self { instances: Mutex::new(BTreeMap::new()) }
    }

    /// `iggy_sink_open`: 0, 1 if the sink's open failed, -1 for a bad config or an id that is in use.
    ///
    /// # Safety
    /// `config` must be null or point to `config_len` bytes that stay valid during the call.
    pub unsafe fn open<C: DeserializeOwned>(
        &self,
        id: u32,
        config: *const u8,
        config_len: usize,
        log: Option<LogCallback>,
        new: impl FnOnce(u32, C) -> T,
    ) -> i32 {
        answer(id, "open", || {
            if let Some(log) = log {
                crate::log::install(log);
            }
            // SAFETY: the caller's promise about `config` is that of `bytes`.
            let config = unsafe { bytes(config, config_len) }?;
            self.open_with(id, config, new)
        })
    }

    /// `iggy_sink_consume`: 0, 1 if the sink's consume failed, -1 for an id that is not open or bytes that do not
    /// decode.
    ///
    /// # Safety
    /// Each pointer must be null or point to as many bytes as the length after it says, valid during the call.
    #[allow(clippy::too_many_arguments)] // the ABI's signature
    pub unsafe fn consume(
        &self,
        id: u32,
        topic: *const u8,
        topic_len: usize,
        metadata: *const u8,
        metadata_len: usize,
        messages: *const u8,
        messages_len: usize,
    ) -> i32 {
        answer(id, "consume", || {
            // SAFETY: the caller's promise about `topic` is that of `bytes`.
            let topic = unsafe { bytes(topic, topic_len) }?;
            // SAFETY: the caller's promise about `metadata` is that of `bytes`.
            let metadata = unsafe { bytes(metadata, metadata_len) }?;
            // SAFETY: the caller's promise about `messages` is that of `bytes`.
            let messages = unsafe { bytes(messages, messages_len) }?;
            self.consume_with(id, topic, metadata, messages)
        })
    }

    /// `iggy_sink_close`: 0, -1 for an id that is not open.
    pub fn close(&self, id: u32) -> i32 {
        answer(id, "close", || {
            let instance = match self.lock().entry(id) {
                // Removed first: from here on a consume of this id is refused, and the id is free.
                Entry::Occupied(entry) if entry.get().is_some() => Some(entry.remove()),
                _ => None,
            };
            let closed = instance.flatten().ok_or_else(Refusal::not_open)?.close();
            // A panic was logged already.
            Ok(if closed.is_ok() { DONE } else { REFUSED })
        })
    }

    fn open_with<C: DeserializeOwned>(
        &self,
        id: u32,
        config: &[u8],
        new: impl FnOnce(u32, C) -> T,
    ) -> Result<i32, Refusal> {
        let reservation = Reservation::new(self, id)?;
        let config = if config.is_empty() { b"null" } else { config };
        let config = std::str::from_utf8(config).map_err(|error| Refusal(format!("config: {error}")))?;
        let config = serde_json::from_str(config).map_err(|error| Refusal(format!("config: {error}")))?;
        let mut sink = catch(|| new(id, config)).map_err(Refusal::panic)?;
        let opened = catch(|| drive(sink.open()));
        if let Ok(Ok(())) = opened {
            reservation.fill(Instance::new(id, sink));
            return Ok(DONE);
        }
        // Before the reservation ends, so that what the sink holds (a lock, a port) is free when its id is.
        let dropped = catch(|| drop(sink));
        if let Err(error) = opened.map_err(Refusal::panic)? {
            error!("Sink connector with ID: {id}: open failed: {error}");
        }
        dropped.map(|()| FAILED).map_err(Refusal::panic)
    }

    fn consume_with(&self, id: u32, topic: &[u8], metadata: &[u8], messages: &[u8]) -> Result<i32, Refusal> {
        let instance = self.lock().get(&id).cloned().flatten();
        // This also refuses if close began between the two lines.
        let running =
            instance.as_ref().and_then(|instance| instance.enter()).ok_or_else(Refusal::not_open)?;
        let topic: TopicMetadata = decode("topic metadata", topic)?;
        let names = format_args!(
            "stream: {}, topic: {}",
            shown(&topic.stream, LONGEST_NAME),
            shown(&topic.topic, LONGEST_NAME)
        );
        let metadata: MessagesMetadata =
            decode("messages metadata", metadata).map_err(|why| why.at(names))?;
        let MessagesMetadata { partition_id, current_offset, .. } = metadata;
        let origin = format_args!("{names}, partition: {partition_id}, current offset: {current_offset}");
        let batch: BorrowedMessages<'_> = decode("messages", messages).map_err(|why| why.at(origin))?;
        let consumed = catch(|| drive(running.sink().consume_borrowed(&topic, metadata, &batch.messages)));
        match consumed.map_err(|panic| Refusal::panic(panic).at(origin))? {
            Ok(()) => Ok(DONE),
            Err(error) => {
                let count = batch.messages.len();
                let line = format!(
                    "Sink connector with ID: {id}: consume failed: {origin}, messages: {count}: {error}"
                );
                if running.sink().names_failures() {
                    debug!("{line}");
                } else {
                    error!("{line}");
                }
                Ok(FAILED)
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u32, Option<Arc<Instance<T>>>>> {
        // No code of a sink runs under the lock, so the map is intact even if the lock is poisoned.
        self.instances.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An id that is being opened; it is free again when this is dropped unfilled, also by a panic.
struct Reservation<'a, T: Sink> {
    registry: &'a Registry<T>,
    id: u32,
    filled: bool,
}

impl<'a, T: Sink> Reservation<'a, T> {
    fn new(registry: &'a Registry<T>, id: u32) -> Result<Self, Refusal> {
        match registry.lock().entry(id) {
            Entry::Vacant(entry) => entry.insert(None),
            Entry::Occupied(_) => return Err(Refusal("the id is in use".to_owned())),
        };
        Ok(Self { registry, id, filled: false })
    }

    fn fill(mut self, instance: Arc<Instance<T>>) {
        self.registry.lock().insert(self.id, Some(instance));
        self.filled = true;
    }
}

impl<T: Sink> Drop for Reservation<'_, T> {
    fn drop(&mut self) {
        if !self.filled {
            self.registry.lock().remove(&self.id);
        }
    }
}

/// Why a call gets -1.
#[derive(Debug)]
struct Refusal(String);

impl Refusal {
    fn not_open() -> Self {
        Self("it is not open".to_owned())
    }

    #[allow(clippy::needless_pass_by_value)] // for map_err
    fn panic(panic: Panic) -> Self {
        Self(panic.to_string())
    }

    /// Adds the batch that it is about.
    fn at(self, origin: fmt::Arguments<'_>) -> Self {
        Self(format!("{} ({origin})", self.0))
    }
}

/// Turns the result of a call into its code; nothing unwinds out of here.
fn answer(id: u32, call: &str, body: impl FnOnce() -> Result<i32, Refusal>) -> i32 {
    let outcome = catch(body).unwrap_or_else(|panic| Err(Refusal::panic(panic)));
    catch(|| {
        outcome.unwrap_or_else(|Refusal(reason)| {
            error!("Sink connector with ID: {id}: {call} refused: {reason}");
            REFUSED
        })
    })
    // Logging itself has panicked.
    .unwrap_or(REFUSED)
}

fn decode<'a, D: Deserialize<'a>>(what: &str, bytes: &'a [u8]) -> Result<D, Refusal> {
    postcard::from_bytes(bytes)
        .map_err(|error| Refusal(format!("the {what} ({} bytes) cannot be decoded: {error}", bytes.len())))
}

/// The bytes at `pointer`; none for a length of 0, whatever the pointer.
///
/// # Safety
/// `pointer` must be null or point to `length` bytes that stay valid and unchanged for `'a`.
unsafe fn bytes<'a>(pointer: *const u8, length: usize) -> Result<&'a [u8], Refusal> {
    if length == 0 {
        return Ok(&[]);
    }
    if pointer.is_null() || isize::try_from(length).is_err() {
        return Err(Refusal(format!("there are no {length} bytes at {pointer:?}")));
    }
    // SAFETY: not null, not longer than an object can be, and the caller guarantees the rest.
    Ok(unsafe { std::slice::from_raw_parts(pointer, length) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ConsumedMessage, Error};

    struct Nothing;

    #[async_trait::async_trait]
    impl Sink for Nothing {
        async fn open(&mut self) -> Result<(), Error> {
            Ok(())
        }

        async fn consume(
            &self,
            _: &TopicMetadata,
            _: MessagesMetadata,
            _: Vec<ConsumedMessage>,
        ) -> Result<(), Error> {
            Ok(())
        }

        async fn close(&mut self) -> Result<(), Error> {
            Ok(())
        }
    }

    #[test]
    #[allow(clippy::unwrap_used)]
    fn works_from_inside_an_executor_and_without_a_log() {
        static REGISTRY: Registry<Nothing> = Registry::new();
        let calls = || {
            // SAFETY: null pointers are allowed with any length, the others are of one literal each.
            unsafe {
                assert_eq!(REGISTRY.open(1, std::ptr::null(), 0, None, |_, ()| Nothing), DONE);
                let (topic, meta, none) = (b"\x01s\x01t", b"\x00\x00\x00", b"\x00\x00");
                let code = REGISTRY.consume(1, topic.as_ptr(), 4, meta.as_ptr(), 3, none.as_ptr(), 2);
                assert_eq!(code, DONE);
            }
            assert_eq!(REGISTRY.close(1), DONE);
            assert_eq!(REGISTRY.close(1), REFUSED);
        };
        calls();
        crate::get_runtime().block_on(async { calls() });
        crate::get_runtime().block_on(crate::get_runtime().spawn(async move { calls() })).unwrap();
    }
}
