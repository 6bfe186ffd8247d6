//! Acceptance: a batch is stored when [`Spool::accept`] returns.

use std::{
    mem,
    sync::{MutexGuard, PoisonError, atomic::Ordering::Relaxed},
    time::{Duration, SystemTime},
};

use iggy_connector_sdk::{BorrowedMessage, MessagesMetadata, TopicMetadata};
use tokio::time;
use tracing::warn;

use super::spool::Spool;
use crate::spool::{
    error::SpoolError,
    format::{flag, record::Draft},
    lanes::{dedup::Identity, key::LaneKey, mixed},
    log::{
        options::{LanesBy, SyncMode, WhenFull},
        segment::Written,
        shared::{Shared, lock},
        state::{Pending, Phase, State},
    },
};

/// How often a call that waits for space checks, whether some was freed or not.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// For a topic that is over its share, segments are compacted once the garbage is at least this part of `max_bytes`: one in
/// this many.
const WORTH: u64 = 8;

/// The result of accepting a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Accepted {
    /// How many messages were stored.
    pub stored: usize,
    /// How many were stored already.
    pub repeats: usize,
}

impl Spool {
    /// Stores a batch that arrived at the time `accepted`, except for repeats, and waits until it is durable. Concurrent
    /// batches of several topics share one sync; those of one topic are stored one after the other.
    ///
    /// Waiting for space or for earlier batches holds no thread; writing and syncing does. If the future is dropped while it
    /// waits, nothing is stored.
    ///
    /// # Errors
    /// None of the batch is stored: there is no space, the system failed, or the connector closes.
    pub async fn accept(
        &self,
        topic: &TopicMetadata,
        metadata: &MessagesMetadata,
        messages: &[BorrowedMessage<'_>],
        accepted: SystemTime,
    ) -> Result<Accepted, SpoolError> {
        self.accept_by(self.shared.lanes, topic, metadata, messages, accepted).await
    }

    /// Like [`accept`](Self::accept), with `lanes` for this topic.
    ///
    /// # Errors
    /// As [`accept`](Self::accept).
    pub async fn accept_by(
        &self,
        lanes: LanesBy,
        topic: &TopicMetadata,
        metadata: &MessagesMetadata,
        messages: &[BorrowedMessage<'_>],
        accepted: SystemTime,
    ) -> Result<Accepted, SpoolError> {
        if messages.is_empty() {
            return Ok(Accepted::default());
        }
        let topic_key = LaneKey::of_several(topic).topic_key();
        let identities = Identity::of_all(metadata.partition_id, messages);
        let topic_lock = lock(&self.topic_locks).entry(topic_key.clone()).or_default().clone();
        // Held until the batch is stored: only then are the same messages in another call repeats.
        let _guard = topic_lock.lock().await;
        // The batch of a topic that comes first gets the earlier time.
        let came = self.shared.clock.stamp();
        let repeats = self.shared.lock().windows.repeats(&topic_key, &identities);
        let mut kept = Vec::new();
        if !repeats.is_empty() {
            let is_new = |index: usize| repeats.binary_search(&index).is_err();
            kept.extend((0..messages.len()).filter(|index| is_new(*index)).map(|index| messages[index]));
        }
        let new = if repeats.is_empty() { messages } else { &kept };
        let outcome = Accepted { stored: new.len(), repeats: repeats.len() };
        if new.is_empty() {
            return Ok(outcome);
        }
        let key = match lanes {
            LanesBy::Topic => LaneKey::of_several(topic),
            LanesBy::Label => LaneKey::of(topic, metadata.partition_id),
            LanesBy::Partition => {
                mixed::lane_for(&self.shared.lock().lanes, topic, metadata.partition_id, new)
            }
        };
        let buffer = self.shared.buffers.take();
        let mut draft = Draft::batch(&key, metadata, new, accepted, came, buffer).ok_or_else(|| {
            SpoolError::TooLarge {
                needed: new
                    .iter()
                    .map(|message| (message.headers.len() + message.payload.len()) as u64)
                    .sum(),
                max: u64::from(u32::MAX),
            }
        })?;
        if !repeats.is_empty() {
            draft.header = draft.header.with(flag::CONTINUES);
        }
        let label = metadata.partition_id;
        self.shared.store(Pending { ticket: 0, lane: key.clone(), label, draft, identities }).await?;
        mixed::stored(&mut self.shared.lock().lanes, &key, label, new);
        Ok(outcome)
    }
}

/// Why a record is not stored yet.
enum NotStored {
    /// The spool is full.
    NoRoom,
    /// The device is full.
    NoSpace(SpoolError),
    Failed(SpoolError),
}

impl NotStored {
    fn of(why: SpoolError) -> Self {
        if why.is_no_space() { Self::NoSpace(why) } else { Self::Failed(why) }
    }
}

impl Shared {
    /// Stores a record as soon as there is space.
    async fn store(&self, mut record: Pending) -> Result<(), SpoolError> {
        let mut logged = false;
        loop {
            // Subscribed before the check, so that nothing that is freed in between is missed.
            let freed = self.freed.notified();
            let (why, waiting) = match self.try_store(record) {
                Ok(()) => return Ok(()),
                Err(refused) => *refused,
            };
            record = waiting;
            match why {
                NotStored::NoRoom => {}
                NotStored::Failed(why) => return Err(why),
                NotStored::NoSpace(why) => {
                    if self.when_full == WhenFull::DeadLetter {
                        return Err(SpoolError::NoSpace(why.to_string()));
                    }
                    if self.lock().phase > Phase::Open {
                        return Err(SpoolError::Closing);
                    }
                    if !std::mem::replace(&mut logged, true) {
                        warn!("{}: waiting until there is space: {why}", record.lane);
                    }
                }
            }
            // Space on the device may be freed elsewhere, without a notification.
            let began = time::Instant::now();
            let _ = time::timeout(CHECK_INTERVAL, freed).await;
            let waited = u64::try_from(began.elapsed().as_micros()).unwrap_or(0);
            self.waited.fetch_add(waited, Relaxed);
        }
    }

    /// Hands a record to the next writer, or writes it together with others. Returns it if it is not stored.
    fn try_store(&self, mut record: Pending) -> Result<(), Box<(NotStored, Pending)>> {
        let mut state = self.lock();
        match self.has_room(&mut state, &record.lane, record.draft.bytes.len() as u64) {
            Ok(true) => {}
            Ok(false) => return Err(Box::new((NotStored::NoRoom, record))),
            Err(why) => return Err(Box::new((NotStored::of(why), record))),
        }
        let ticket = state.tickets;
        state.tickets += 1;
        state.queued_bytes += record.draft.bytes.len() as u64;
        record.ticket = ticket;
        state.queue.push(record);
        loop {
            if let Some(outcome) = state.outcomes.remove(&ticket) {
                return outcome.map_err(|(why, record)| Box::new((NotStored::of(why), record)));
            }
            // The committer is writing on another thread, and waits for nothing else.
            state = if state.committing { self.wait(state) } else { self.commit(state) };
        }
    }

    /// Whether a record of a lane may take this many bytes now, after everything that can be freed was freed. If not, and
    /// nobody should wait for space, that is an error.
    fn has_room(&self, state: &mut State, lane: &LaneKey, needed: u64) -> Result<bool, SpoolError> {
        let max = self.max_bytes;
        loop {
            // The checkpoint of an empty spool, and the next one.
            let overhead = state.overhead();
            let needed = needed + overhead;
            if needed + overhead > max {
                return Err(SpoolError::TooLarge { needed, max });
            }
            let used = state.bytes + state.queued_bytes;
            if used + needed <= max / 4 * 3 {
                return Ok(true);
            }
            // From here on, some space is reserved for topics that hold little.
            let fits = used + needed <= max;
            let (held, share) = state.share(lane, max);
            if fits && held <= share {
                return Ok(true);
            }
            if !state.committing && (held <= share || self.may_empty_for_more(state)) {
                state.committing = true;
                let freed = self.make_room(state, !fits);
                state.committing = false;
                match freed {
                    Ok(true) => {
                        self.freed.notify_waiters();
                        continue;
                    }
                    Err(why) if !fits => return Err(why),
                    // The next call that stores something gets the error.
                    Ok(false) | Err(_) => {}
                }
            }
            if state.phase > Phase::Open {
                return Err(SpoolError::Closing);
            }
            if state.committing {
                state.wanted += 1;
            } else if self.when_full == WhenFull::DeadLetter {
                return Err(if fits {
                    SpoolError::OverShare { held, share, max }
                } else {
                    SpoolError::Full { used, max, needed }
                });
            }
            return Ok(false);
        }
    }

    /// Whether a segment is compacted for a topic that is over its share: only if that is worth it, and rarely if the topic
    /// can wait, since other topics are blocked meanwhile.
    fn may_empty_for_more(&self, state: &mut State) -> bool {
        let now = time::Instant::now();
        let lately = state.emptied.is_some_and(|last| now < last + CHECK_INTERVAL);
        if state.garbage() < self.max_bytes / WORTH || lately && self.when_full == WhenFull::Block {
            return false;
        }
        state.emptied = Some(now);
        true
    }

    /// Writes all waiting records, and makes them durable. Each gets its result.
    fn commit<'s>(&'s self, mut state: MutexGuard<'s, State>) -> MutexGuard<'s, State> {
        state.committing = true;
        let mut group = mem::take(&mut state.queue);
        let bytes = mem::take(&mut state.queued_bytes);
        let mut outcome = self.write(&mut state, &mut group, bytes);
        if self.sync == SyncMode::Batch
            && let Ok(written) = outcome
        {
            drop(state);
            let synced = self.sync(&written);
            state = self.lock();
            outcome = match synced {
                Ok(()) => {
                    state.is_durable(written.active.number);
                    Ok(written)
                }
                Err(why) => {
                    state.cut(&written.active, written.from, false);
                    Err(why)
                }
            };
        }
        if let Ok(written) = &outcome {
            for (pending, position) in group.iter_mut().zip(&written.positions) {
                state.add(pending, written.active.number, *position);
            }
            self.version.send_modify(|version| *version += 1);
        }
        let stored = outcome.is_ok();
        for pending in group {
            let (ticket, outcome) = match &outcome {
                Ok(_) => {
                    self.buffers.give_back(pending.draft.bytes);
                    (pending.ticket, Ok(()))
                }
                Err(why) => (pending.ticket, Err((why.clone(), pending))),
            };
            state.outcomes.insert(ticket, outcome);
        }
        state.committing = false;
        self.unsynced.notify_one();
        self.committed.notify_all();
        // No other thread is woken, which would only wake the next one.
        let wanted = mem::take(&mut state.wanted) > 0 && stored;
        drop(state);
        if self.delete_settled() || wanted {
            self.freed.notify_waiters();
        }
        self.lock()
    }

    fn write(&self, state: &mut State, group: &mut [Pending], bytes: u64) -> Result<Written, SpoolError> {
        self.make_active(state, bytes)?;
        for pending in group.iter_mut() {
            let lane = state.lanes.entry(pending.lane.clone()).or_default();
            lane.next = lane.next.max(state.next_of_forgotten);
            pending.draft.header.sequence = lane.next;
            lane.next += 1;
        }
        let mut drafts: Vec<&mut Draft> = group.iter_mut().map(|pending| &mut pending.draft).collect();
        state.append(&*self.files, &mut drafts)
    }

    /// Makes records and the name of their file durable.
    pub(in crate::spool) fn sync(&self, written: &Written) -> Result<(), SpoolError> {
        let synced = written
            .active
            .file
            .sync()
            .and_then(|()| if written.active.durable { Ok(()) } else { self.files.sync_names() });
        synced
            .map_err(SpoolError::io(format!("the spool {} cannot be synced", self.files.path("").display())))
    }

    fn wait<'s>(&self, state: MutexGuard<'s, State>) -> MutexGuard<'s, State> {
        self.committed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Adds a stored record to the state.
    fn add(&mut self, pending: &mut Pending, segment: u64, position: u64) {
        let header = &pending.draft.header;
        let lane = self.lanes.entry(pending.lane.clone()).or_default();
        lane.insert(header.sequence, segment, position);
        lane.fed = true;
        lane.told_in = segment;
        lane.messages += u64::from(header.messages);
        lane.bytes += header.length();
        self.settled.remove(&segment);
        if let Some(segment) = self.segments.get_mut(&segment) {
            segment.live += 1;
            segment.live_bytes += header.length();
        }
        let identities = mem::take(&mut pending.identities);
        self.windows.remember(&pending.lane.topic_key(), pending.label, identities, false);
    }
}
