//! Settlement: records on disk which messages are settled.

use std::{io, sync::Arc};

use super::spool::Spool;
use crate::spool::{
    error::SpoolError,
    format::{Header, PREFIX, flag, record::Draft, segment_name},
    lanes::{
        key::LaneKey,
        lane::Lane,
        ranges::{LaneMessages, MessageRanges},
    },
    log::{shared::Shared, state::State},
};

impl Spool {
    /// Settles messages of a record, by their index: they are not delivered again. Records and messages can be settled in any
    /// order, and more than once. A settlement survives a crash of the process at once, and one of the machine after the next
    /// batch is stored.
    ///
    /// # Errors
    /// It could not be written: the messages are settled until a crash, after which they may be delivered
    /// again.
    pub fn settle(&self, lane: &LaneKey, sequence: u64, messages: &[u32]) -> Result<(), SpoolError> {
        self.settle_some(lane, &[(sequence, Some(messages))])
    }

    /// Settles messages of several records of a lane, as [`settle`](Self::settle) does; a crash loses all of these
    /// settlements or none.
    ///
    /// # Errors
    /// That of [`settle`](Self::settle).
    pub fn settle_together(&self, lane: &LaneKey, messages: &[(u64, Vec<u32>)]) -> Result<(), SpoolError> {
        let messages: Vec<(u64, Option<&[u32]>)> =
            messages.iter().map(|(sequence, messages)| (*sequence, Some(&messages[..]))).collect();
        self.settle_some(lane, &messages)
    }

    /// Settles all messages of a record, as [`settle`](Self::settle) does.
    ///
    /// # Errors
    /// That of [`settle`](Self::settle).
    pub fn settle_all(&self, lane: &LaneKey, sequence: u64) -> Result<(), SpoolError> {
        self.settle_some(lane, &[(sequence, None)])
    }

    /// Records which messages of a lane are sent together, before they are: after a crash they are sent together again.
    ///
    /// # Errors
    /// It could not be written: after a crash they may be sent with others.
    pub fn note_bodies(&self, lane: &LaneKey, bodies: Vec<LaneMessages>) -> Result<(), SpoolError> {
        let shared = &*self.shared;
        let mut state = shared.lock();
        let Some(of_lane) = state.lanes.get_mut(lane) else { return Ok(()) };
        let bodies: Vec<Arc<LaneMessages>> = bodies.into_iter().map(Arc::new).collect();
        of_lane.sent_together(&bodies);
        // Nothing is kept for settled records.
        for (sequence, _) in bodies.iter().flat_map(|body| body.iter()) {
            if of_lane.run(*sequence).is_none() {
                of_lane.bodies.remove(sequence);
            }
        }
        let draft = Draft::together(lane, &bodies, Vec::new());
        let written = shared.write_note(&mut state, lane, draft);
        shared.unsynced.notify_one();
        written
    }

    fn settle_some(&self, lane: &LaneKey, messages: &[(u64, Option<&[u32]>)]) -> Result<(), SpoolError> {
        let shared = &*self.shared;
        let mut state = shared.lock();
        for (sequence, _) in messages {
            let of_lane = state.lanes.get(lane);
            if of_lane.is_some_and(|of| of.run(*sequence).is_some() && !of.known.contains_key(sequence)) {
                // It is settled without having been read: its number of messages is only on disk.
                drop(state);
                self.next(lane, sequence.saturating_sub(1))?;
                state = shared.lock();
            }
        }
        let head = state.lanes.get(lane).and_then(Lane::head);
        let mut progress = LaneMessages::new();
        let mut whole = Vec::new();
        for (sequence, messages) in messages {
            let position = state.position(lane, *sequence);
            let Some(of_record) = state.settle(lane, *sequence, *messages) else { continue };
            if of_record.is_empty() {
                whole.extend(position);
            }
            progress.push((*sequence, of_record));
        }
        if progress.is_empty() {
            return Ok(());
        }
        let goes_on = state.lanes.get(lane).and_then(Lane::head) != head;
        let draft = Draft::settled(lane, &progress, Vec::new());
        let mut written = shared.write_note(&mut state, lane, draft);
        if let Err(why) = &written
            && why.is_no_space()
            && whole.len() == progress.len()
        {
            // Some may have been deleted with their segments.
            let mut left = whole.iter().filter(|(segment, _)| state.segments.contains_key(segment));
            written = left.try_for_each(|(segment, position)| shared.mark_settled(*segment, *position));
        }
        drop(state);
        shared.delete_settled();
        // Those that wait for space check whether there is some now.
        shared.freed.notify_waiters();
        shared.unsynced.notify_one();
        if goes_on {
            shared.heads.send_modify(|times| *times += 1);
        }
        written
    }
}

impl Shared {
    fn write_note(&self, state: &mut State, lane: &LaneKey, draft: Option<Draft>) -> Result<(), SpoolError> {
        let Some(mut draft) = draft else { return Ok(()) };
        if !state.committing {
            let made = self.make_active(state, draft.bytes.len() as u64);
            // If no segment can be created, the present one takes some more.
            if state.active.is_none() {
                made?;
            }
        } else if state.active.is_none() {
            // A segment cannot be created now; the next one will have this in its checkpoint.
            return Ok(());
        }
        let written = state.append(&*self.files, &mut [&mut draft])?;
        if let Some(lane) = state.lanes.get_mut(lane) {
            lane.told_in = written.active.number;
        }
        Ok(())
    }

    /// Marks a record as settled in place, which takes no space.
    fn mark_settled(&self, segment: u64, position: u64) -> Result<(), SpoolError> {
        let name = segment_name(segment);
        let marked = self.files.open(&name).and_then(|file| {
            let mut bytes = [0; PREFIX];
            file.read_at(position, &mut bytes)?;
            let header = Header::parse(&bytes, segment, position).ok_or(io::ErrorKind::InvalidData)?;
            file.write_at(position, &header.with(flag::SETTLED).bytes(segment, position))
        });
        marked.map_err(SpoolError::io(format!("{} cannot be written", self.files.path(&name).display())))
    }
}

impl State {
    /// The segment and the position of a record that was read.
    fn position(&self, key: &LaneKey, sequence: u64) -> Option<(u64, u64)> {
        let lane = self.lanes.get(key)?;
        let (run, known) = (lane.run(sequence)?, lane.known.get(&sequence)?);
        (known.segment == run.segment).then_some((known.segment, known.end - known.length))
    }

    /// Settles messages of a record in memory. Returns those that were unsettled before, as ranges; no ranges mean the whole
    /// record.
    fn settle(&mut self, key: &LaneKey, sequence: u64, messages: Option<&[u32]>) -> Option<MessageRanges> {
        let lane = self.lanes.get_mut(key)?;
        lane.run(sequence)?;
        let known = *lane.known.get(&sequence)?;
        let total = u64::from(known.messages);
        let partly = lane.partly.entry(sequence).or_default();
        let before = partly.count();
        let mut progress = MessageRanges::new();
        match messages {
            None => partly.extend(total.checked_sub(1).map(|last| (0, last))),
            Some(messages) => {
                for &message in messages {
                    if message >= known.messages || partly.contains(u64::from(message)) {
                        continue;
                    }
                    partly.insert(u64::from(message), u64::from(message));
                    match progress.last_mut() {
                        Some((_, last)) if *last + 1 == message => *last = message,
                        _ => progress.push((message, message)),
                    }
                }
            }
        }
        let settled = partly.count();
        lane.messages = lane.messages.saturating_sub(settled - before);
        if settled >= total {
            self.remove(key, sequence, known.length);
            return Some(Vec::new());
        }
        if settled == 0 {
            lane.partly.remove(&sequence);
        }
        (!progress.is_empty()).then_some(progress)
    }
}
