//! The lock of a folder: one spool has one owner.

use std::{
    fs::{File, TryLockError},
    io::{self, ErrorKind, Read, Seek, Write},
    path::Path,
    process, thread,
    time::Duration,
};

use crate::private::{self, Access};

/// The file that the owner of a folder holds locked.
const LOCK: &str = "lock";
/// A check whether a spool is in use takes the lock for a moment, which must not keep an owner out.
const LOCK_ATTEMPTS: (u32, Duration) = (20, Duration::from_millis(10));

/// The right to write to a folder; the system takes it back when the process ends, however it ends.
#[derive(Debug)]
pub(in crate::spool) struct Lock(File);

impl Lock {
    /// The lock, or the process that holds it.
    pub(in crate::spool) fn take(folder: &Path) -> io::Result<Result<Self, Option<u32>>> {
        let mut file = private::open(&folder.join(LOCK), Access::Make)?;
        let (attempts, pause) = LOCK_ATTEMPTS;
        for attempt in 1..=attempts {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if attempt < attempts => thread::sleep(pause),
                Err(TryLockError::WouldBlock) => return Ok(Err(holder(&mut file))),
                Err(TryLockError::Error(why)) => return Err(why),
            }
        }
        // The process id is only informative: what waits must be delivered from a full disk, too.
        let _ =
            file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{}", process::id()));
        Ok(Ok(Self(file)))
    }

    /// Whether somebody holds the lock.
    pub(in crate::spool) fn held(folder: &Path) -> io::Result<Held> {
        let mut file = match private::open(&folder.join(LOCK), Access::Read) {
            Ok(file) => file,
            Err(why) if why.kind() == ErrorKind::NotFound => return Ok(Held::ByNobody),
            Err(why) => return Err(why),
        };
        match file.try_lock_shared() {
            Ok(()) => file.unlock().map(|()| Held::ByNobody),
            Err(TryLockError::WouldBlock) => Ok(Held::By(holder(&mut file))),
            Err(TryLockError::Error(why)) => Err(why),
        }
    }
}

/// Who holds a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::spool) enum Held {
    ByNobody,
    /// A process, where it is known.
    By(Option<u32>),
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing alone would leave it locked while a child process that is just being started still has the file open. If
        // this fails, closing is all that can be done.
        let _ = self.0.unlock();
    }
}

fn holder(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}
