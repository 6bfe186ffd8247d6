//! The bodies that are filled side by side where requests depend on their messages: messages whose requests are the same share one.

use std::{
    collections::{HashMap, VecDeque},
    mem,
};

use super::draft::Draft;
use crate::{
    batch::Batch,
    config::Ordering,
    request::{Form, Likeness, Rendered, Source, TargetTemplate, Template},
};

/// How many bodies are filled side by side, and how many bytes they may have together: beyond that, the oldest is sent.
const MOST: usize = 64;
const MOST_BYTES: usize = 16 * 1024 * 1024;

/// The bodies that are being written, and what distinguishes them.
///
/// Messages for one URL stay in order: if the headers of two messages differ, the body of the first one ends before that of
/// the second begins. Messages for different URLs have no order, except those of one key with order by key: a key is in one
/// body at a time, and never in one that was begun before the last one that it was in, since bodies that are planned again
/// are ordered by where they begin.
pub(super) struct Groups<'b> {
    pub(super) source: Source<'b>,
    pub(super) template: &'b TargetTemplate,
    pub(super) form: Option<&'b Form>,
    /// In the order they were begun in.
    pub(super) live: Vec<Draft>,
    bytes: usize,
    /// Finished bodies, which are returned before any other is filled.
    pub(super) ended: VecDeque<Draft>,
    /// How many bodies were begun.
    pub(super) begun: u64,
    /// If the order is by key.
    pub(super) keys: Option<Keys<'b>>,
    /// The offset of the last message.
    pub(super) last: Option<u64>,
    pub(super) rendered: Rendered,
}

impl<'b> Groups<'b> {
    pub(super) fn of(batch: &Batch<'b>, template: &'b TargetTemplate, form: Option<&'b Form>) -> Self {
        Self {
            source: Source::of(batch),
            template,
            form,
            live: Vec::new(),
            bytes: 0,
            begun: 0,
            keys: match &template.ordering {
                Ordering::Key(template) => Some(Keys { template, body_of: HashMap::new() }),
                Ordering::Partition | Ordering::None => None,
            },
            ended: VecDeque::new(),
            last: None,
            rendered: Rendered::default(),
        }
    }

    /// Whether all bodies are empty.
    pub(super) fn is_empty(&self) -> bool {
        self.live.is_empty() && self.ended.is_empty()
    }

    /// Ends all bodies: no other message is added to them.
    pub(super) fn end_all(&mut self) {
        self.ended.extend(self.live.drain(..));
        self.bytes = 0;
        if let Some(keys) = &mut self.keys {
            keys.body_of.clear();
        }
    }

    /// Takes the body at this index, which stays empty until it is [put back](Self::put_back) or [closed](Self::close).
    pub(super) fn take(&mut self, index: usize) -> Draft {
        let draft = mem::take(&mut self.live[index]);
        self.bytes -= draft.bytes.len();
        draft
    }

    pub(super) fn put_back(&mut self, index: usize, draft: Draft) {
        self.bytes += draft.bytes.len();
        self.live[index] = draft;
    }

    /// Removes the body at this index.
    pub(super) fn close(&mut self, index: usize) {
        self.live.remove(index);
    }

    /// Compares a body's target with the one rendered last.
    fn likeness(&self, draft: &Draft) -> Likeness {
        let target = draft.special.as_ref().and_then(|special| special.target.as_ref());
        target.map_or(Likeness::None, |target| target.likeness(&self.rendered))
    }

    /// Chooses the body for the message that was rendered last, which may have a key, and may have to be sent alone.
    pub(super) fn choose(&self, key: Option<u64>, alone: bool) -> Choice {
        let body = key.zip(self.keys.as_ref()).and_then(|(key, keys)| keys.body_of.get(&key));
        let home = body.and_then(|number| self.live.iter().position(|draft| draft.number == *number));
        if let Some(home) = home
            && (alone || self.likeness(&self.live[home]) != Likeness::Same)
        {
            return Choice::EndsFirst(home);
        }
        let in_order = self.template.ordering != Ordering::None;
        for (index, draft) in self.live.iter().enumerate() {
            match self.likeness(draft) {
                Likeness::Same if !alone && body.is_none_or(|last| *last <= draft.number) => {
                    return Choice::Goes(index);
                }
                Likeness::Same | Likeness::SameUrl if in_order => return Choice::EndsFirst(index),
                Likeness::Same | Likeness::SameUrl | Likeness::None => {}
            }
        }
        if self.live.len() == MOST || self.bytes > MOST_BYTES {
            return Choice::EndsFirst(0);
        }
        Choice::Begins
    }
}

/// The body with the last message of each key.
pub(super) struct Keys<'b> {
    pub(super) template: &'b Template,
    /// Numbers of bodies by digests of keys. A number that is no longer live means none.
    pub(super) body_of: HashMap<u64, u64>,
}

pub(super) enum Choice {
    /// The message goes into this one.
    Goes(usize),
    /// This one must end first.
    EndsFirst(usize),
    /// It begins another.
    Begins,
}
