//! Packing where requests depend on their messages: bodies are filled side by side, one for each target.

use std::{mem, sync::Arc};

use super::{
    draft::{Draft, Encoded, Put},
    groups::Choice,
    packing::Bodies,
};
use crate::{
    payload::Refusal,
    plan::{self, LaneItem},
    request::Framing,
};

impl Bodies<'_> {
    /// Returns the next body, or the next message that is refused.
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
            // A body belongs to one partition, in which offsets grow; and a body that begins as it did before contains no
            // other messages.
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

    /// Returns the chosen body, which has ended.
    #[inline(never)]
    fn end(&mut self) -> Option<Encoded> {
        self.finish()
    }

    /// Adds the next message to the body that was chosen for it. Returns that body if it has ended.
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
                // The body may have been begun for this message only.
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
