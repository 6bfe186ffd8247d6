//! The files under a spool and of dead letters, behind a trait so that tests can make every operation fail.

use std::{
    fmt::Debug,
    fs::{self, File, TryLockError},
    io::{self, ErrorKind, Read, Seek, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process,
    sync::Arc,
    thread,
    time::Duration,
};

use crate::{
    folder,
    private::{self, Access},
};

/// The folder of damaged pieces.
pub(in crate::spool) const DAMAGED: &str = "damaged";
/// The file that the owner of a folder holds locked.
const LOCK: &str = "lock";
/// A check whether a spool is in use takes the lock for a moment, which must not keep an owner out.
const LOCK_ATTEMPTS: (u32, Duration) = (20, Duration::from_millis(10));

/// A folder with files in it. What goes wrong is the error of the system, here and in [`SegmentFile`].
#[expect(clippy::missing_errors_doc, reason = "it is the same for all")]
pub trait Files: Debug + Send + Sync {
    /// Makes a file that is not there yet.
    fn create(&self, name: &str) -> io::Result<Arc<dyn SegmentFile>>;
    /// Opens a file to read it, and to write to it where that is allowed.
    fn open(&self, name: &str) -> io::Result<Arc<dyn SegmentFile>>;
    /// The names of the files and their lengths.
    fn list(&self) -> io::Result<Vec<(String, u64)>>;
    /// How long a file is; `None` where there is none.
    fn length_of(&self, name: &str) -> io::Result<Option<u64>>;
    /// Renames a file, replacing what has that name.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file.
    fn delete(&self, name: &str) -> io::Result<()>;
    /// Makes the names of new files durable.
    fn sync_names(&self) -> io::Result<()>;
    /// Where a file is, for people.
    fn path(&self, name: &str) -> PathBuf;
    /// The folder of damaged pieces.
    fn damaged(&self) -> io::Result<Arc<dyn Files>>;
}

/// An open file.
#[expect(clippy::missing_errors_doc, reason = "it is the same for all")]
pub trait SegmentFile: Debug + Send + Sync {
    /// Reads as much as there is, at most what fits.
    fn read_at(&self, position: u64, into: &mut [u8]) -> io::Result<usize>;
    /// Writes all of it.
    fn write_at(&self, position: u64, bytes: &[u8]) -> io::Result<()>;
    /// Makes what was written durable.
    fn sync(&self) -> io::Result<()>;
    /// Cuts it.
    fn truncate(&self, length: u64) -> io::Result<()>;
    /// How long it is.
    fn length(&self) -> io::Result<u64>;
}

/// A folder of the file system.
#[derive(Debug)]
pub(in crate::spool) struct Disk {
    folder: PathBuf,
    /// The folder itself, for when no file can be opened any more; `None` where it could not be opened before, either.
    opened: Option<File>,
}

/// A folder of the file system, which is there.
pub(crate) fn on_disk(folder: &Path) -> Arc<dyn Files> {
    Arc::new(Disk::new(folder))
}

impl Disk {
    pub(in crate::spool) fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), opened: File::open(folder).ok() }
    }
}

impl Files for Disk {
    fn create(&self, name: &str) -> io::Result<Arc<dyn SegmentFile>> {
        Ok(Arc::new(private::open(&self.folder.join(name), Access::MakeNew)?))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn SegmentFile>> {
        let path = self.folder.join(name);
        match private::open(&path, Access::Write) {
            Err(why) if matches!(why.kind(), ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem) => {
                Ok(Arc::new(private::open(&path, Access::Read)?))
            }
            opened => Ok(Arc::new(opened?)),
        }
    }

    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            match entry.metadata() {
                Ok(metadata) if metadata.is_file() => files.push((name, metadata.len())),
                Ok(metadata) if folder::is_ours(&name) && !(metadata.is_dir() && name == DAMAGED) => {
                    return Err(private::wrong(&entry.path(), &metadata));
                }
                // It was deleted in between.
                Err(why) if why.kind() != ErrorKind::NotFound => return Err(why),
                _ => {}
            }
        }
        files.sort();
        Ok(files)
    }

    fn length_of(&self, name: &str) -> io::Result<Option<u64>> {
        private::length(&self.folder.join(name))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.folder.join(from), self.folder.join(to))
    }

    fn delete(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.folder.join(name))
    }

    fn sync_names(&self) -> io::Result<()> {
        match (File::open(&self.folder), &self.opened) {
            (Ok(folder), _) => folder.sync_all(),
            (Err(_), Some(folder)) => folder.sync_all(),
            (Err(why), None) => Err(why),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn damaged(&self) -> io::Result<Arc<dyn Files>> {
        let folder = self.folder.join(DAMAGED);
        folder::create_inside(&folder)?;
        Ok(Arc::new(Self::new(&folder)))
    }
}

impl SegmentFile for File {
    fn read_at(&self, position: u64, into: &mut [u8]) -> io::Result<usize> {
        let mut read = 0;
        while read < into.len() {
            match FileExt::read_at(self, &mut into[read..], position + read as u64) {
                Ok(0) => break,
                Ok(more) => read += more,
                Err(why) if why.kind() == ErrorKind::Interrupted => {}
                Err(why) => return Err(why),
            }
        }
        Ok(read)
    }

    fn write_at(&self, position: u64, bytes: &[u8]) -> io::Result<()> {
        self.write_all_at(bytes, position)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }
}

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
        // Who has it is good to know, but what waits must be delivered from a full disk, too.
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
        // Closing alone would leave it locked while a child process that is just being started still has
        // the file open, too. Where this fails, closing is what is left.
        let _ = self.0.unlock();
    }
}

fn holder(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}
