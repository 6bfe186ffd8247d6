//! Bodies side by side, where requests depend on their messages: those whose requests are alike share a body.

use std::{
    collections::{HashMap, VecDeque},
    mem,
    sync::Arc,
};

use super::frame::{Bodies, Draft, Encoded, Put};
use crate::{
    batch::Batch,
    config::Ordering,
    payload::Refusal,
    plan::{self, LaneItem},
    request::{Form, Framing, Likeness, Rendered, Source, TargetTemplate, Template},
};

/// How many bodies are written side by side, and how many bytes they may have together: then the oldest goes.
const MOST: usize = 64;
const MOST_BYTES: usize = 16 * 1024 * 1024;

/// The bodies that are being written, and what distinguishes them.
///
/// What goes to one URL stays in order: of two messages for it whose headers differ, the body of the first one ends before that of
/// the second begins. What goes to different URLs has no order, but for the messages of a key where the order is by key: a key
/// is in one body at a time, and never in one that was begun before the last one that it was in, since bodies that are planned
/// again stand where they begin.
pub(super) struct Groups<'b> {
    source: Source<'b>,
    template: &'b TargetTemplate,
    form: Option<&'b Form>,
    /// In the order they were begun in.
    live: Vec<Draft>,
    bytes: usize,
    /// Those that go before any other is written.
    ended: VecDeque<Draft>,
    /// How many bodies were begun.
    begun: u64,
    /// Where there is an order by key.
    keys: Option<Keys<'b>>,
    /// The offset of the last message.
    last: Option<u64>,
    rendered: Rendered,
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

    /// Whether no body has anything in it.
    pub(super) fn is_empty(&self) -> bool {
        self.live.is_empty() && self.ended.is_empty()
    }

    /// The bodies that are written so far begin no other message.
    fn end_all(&mut self) {
        self.ended.extend(self.live.drain(..));
        self.bytes = 0;
        if let Some(keys) = &mut self.keys {
            keys.body_of.clear();
        }
    }

    /// The body at this index, which stays empty until it is [put back](Self::put_back) or [closed](Self::close).
    fn take(&mut self, index: usize) -> Draft {
        let draft = mem::take(&mut self.live[index]);
        self.bytes -= draft.bytes.len();
        draft
    }

    fn put_back(&mut self, index: usize, draft: Draft) {
        self.bytes += draft.bytes.len();
        self.live[index] = draft;
    }

    /// There is no body at this index any more.
    fn close(&mut self, index: usize) {
        self.live.remove(index);
    }

    /// Whether a message that is like the one rendered last may be in this body.
    fn likeness(&self, draft: &Draft) -> Likeness {
        let target = draft.special.as_ref().and_then(|special| special.target.as_ref());
        target.map_or(Likeness::None, |target| target.likeness(&self.rendered))
    }

    /// The body for the message that was rendered last, which may have a key, and may be one to go alone.
    fn choose(&self, key: Option<u64>, alone: bool) -> Choice {
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

/// Where the last message of each key is.
struct Keys<'b> {
    template: &'b Template,
    /// Numbers of bodies by digests of keys. A body that is not live any more stands for none.
    body_of: HashMap<u64, u64>,
}

enum Choice {
    /// The message goes into this one.
    Goes(usize),
    /// This one is to end before.
    EndsFirst(usize),
    /// It begins another.
    Begins,
}

impl Bodies<'_> {
    /// The next body, or the next message that is refused.
    #[inline(never)]
    pub(super) fn next_of_groups(&mut self, limit: usize) -> Option<Encoded> {
        let batch = self.batch;
        loop {
            let groups = self.groups.as_mut()?;
            if let Some(draft) = groups.ended.pop_front() {
                self.draft = draft;
                return self.end();
            }
            let Some(item) = self.lane.get(self.next) else {
                if groups.live.is_empty() {
                    return None;
                }
                groups.end_all();
                continue;
            };
            let message = &batch.messages[item.message];
            // A body is of one partition, in which offsets grow; and one that begins as it did before has no others in it.
            if !groups.live.is_empty()
                && (item.begins || groups.last.is_some_and(|last| last >= message.offset))
            {
                groups.end_all();
                groups.last = None;
                continue;
            }
            if let Err(refusal) = groups.template.render(groups.source, message, &mut groups.rendered) {
                self.next += 1;
                return Some(Encoded::Refused(item.message, refusal));
            }
            let alone = self.config.tombstone_method.is_some() && message.payload.is_empty();
            let key = groups.keys.as_ref().map(|keys| plan::hash(&keys.template.key(batch, message)));
            let index = match groups.choose(key, alone) {
                Choice::Goes(index) => index,
                Choice::EndsFirst(index) => {
                    self.draft = groups.take(index);
                    groups.close(index);
                    return self.end();
                }
                Choice::Begins if alone => {
                    groups.last = Some(message.offset);
                    let target = Arc::new(groups.rendered.target());
                    return Some(self.tombstone(item, message, Some(target)));
                }
                Choice::Begins => {
                    let target = groups.rendered.target();
                    let form = groups.form.filter(|_| !groups.template.frame.is_empty());
                    let mut special = self.special.clone().unwrap_or_default();
                    if let Some(form) = form {
                        let fields = groups.template.frame_fields(&target);
                        special.framing = Some(Arc::new(Framing::of(form, fields)));
                    }
                    special.target = Some(Arc::new(target));
                    groups.begun += 1;
                    let number = groups.begun;
                    groups.live.push(Draft { special: Some(special), number, ..Draft::default() });
                    groups.live.len() - 1
                }
            };
            groups.last = Some(message.offset);
            if let Some((key, keys)) = key.zip(groups.keys.as_mut()) {
                keys.body_of.insert(key, groups.live[index].number);
            }
            self.draft = groups.take(index);
            self.known = groups.rendered.known();
            match self.put_grouped(item, index, limit) {
                Ok(None) => {}
                Ok(Some(ended)) => return Some(ended),
                Err(refusal) => return Some(Encoded::Refused(item.message, refusal)),
            }
        }
    }

    /// The body that was chosen, which has ended.
    #[inline(never)]
    fn end(&mut self) -> Option<Encoded> {
        self.finish()
    }

    /// Puts the next message into the body that was chosen for it. Returns that body, where it has ended.
    fn put_grouped(
        &mut self,
        item: LaneItem,
        index: usize,
        limit: usize,
    ) -> Result<Option<Encoded>, Refusal> {
        let put = self.put(item, &self.batch.messages[item.message], limit);
        if !matches!(put, Put::NoRoom) {
            self.next += 1;
        }
        let Some(groups) = &mut self.groups else { return Ok(self.end()) };
        match put {
            Put::Full | Put::NoRoom => {
                groups.close(index);
                Ok(self.end())
            }
            Put::Added => {
                groups.put_back(index, mem::take(&mut self.draft));
                Ok(None)
            }
            Put::Refused(refusal) => {
                let draft = mem::take(&mut self.draft);
                // It may have been begun for this message alone.
                if draft.records.is_empty() {
                    groups.close(index);
                } else {
                    groups.put_back(index, draft);
                }
                Err(refusal)
            }
        }
    }
}
