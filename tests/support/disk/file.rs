//! A file on the disk in memory.

use std::io::{self, ErrorKind};

use super::{Change, Disk, SegmentFile};

#[derive(Debug)]
pub(super) struct File(pub(super) Disk, pub(super) u64);

impl File {
    fn change(&self, change: Change) -> io::Result<()> {
        let mut inner = self.0.lock();
        let length = inner.files.get(&self.1).map_or(0, |content| content.now.len() as u64);
        if inner.full
            && let Change::Write(position, bytes) = &change
            && position + bytes.len() as u64 > length
        {
            return Err(ErrorKind::StorageFull.into());
        }
        let (change, failed) = match (inner.operate(), change) {
            (Ok(()), change) => (change, None),
            (Err((why, true)), Change::Write(position, bytes)) => {
                (Change::Write(position, bytes[..bytes.len() / 2].to_vec()), Some(why))
            }
            (Err((why, _)), _) => return Err(why),
        };
        if let Some(content) = inner.files.get_mut(&self.1) {
            change.apply(&mut content.now);
            content.since.push(change);
        }
        failed.map_or(Ok(()), Err)
    }
}

impl SegmentFile for File {
    fn read_at(&self, position: u64, into: &mut [u8]) -> io::Result<usize> {
        let inner = self.0.lock();
        if inner.unreadable {
            return Err(io::Error::other("a bad sector"));
        }
        let bytes = &inner.files[&self.1].now;
        let from = usize::try_from(position).unwrap().min(bytes.len());
        let to = (from + into.len()).min(bytes.len());
        into[..to - from].copy_from_slice(&bytes[from..to]);
        Ok(to - from)
    }

    fn write_at(&self, position: u64, bytes: &[u8]) -> io::Result<()> {
        self.change(Change::Write(position, bytes.to_vec()))
    }

    fn sync(&self) -> io::Result<()> {
        let time = self.0.lock().sync_time;
        if !time.is_zero() {
            std::thread::sleep(time);
        }
        let mut inner = self.0.lock();
        let operated = inner.operate();
        inner.syncs += 1;
        let crashed = inner.crashed;
        let Some(content) = inner.files.get_mut(&self.1) else { return Ok(()) };
        match operated {
            Ok(()) => {
                for change in std::mem::take(&mut content.since) {
                    change.apply(&mut content.durable);
                }
                Ok(())
            }
            Err((why, _)) => {
                if !crashed {
                    // The system takes the pages for written, and no later sync writes them.
                    content.since.clear();
                }
                Err(why)
            }
        }
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.change(Change::Truncate(length))
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.0.lock().files[&self.1].now.len() as u64)
    }
}
