//! The files of a spool and of dead letters, behind a trait so that tests can make every operation fail.

use std::{
    fmt::Debug,
    fs::{self, File},
    io::{self, ErrorKind},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    folder,
    private::{self, Access},
};

/// The folder of damaged pieces.
pub(crate) const DAMAGED: &str = "damaged";

/// A folder with files in it. Errors are those of the system, here and in [`SegmentFile`].
#[expect(clippy::missing_errors_doc, reason = "it is the same for all")]
pub trait Files: Debug + Send + Sync {
    /// Creates a file that does not exist yet.
    fn create(&self, name: &str) -> io::Result<Arc<dyn SegmentFile>>;
    /// Opens a file for reading, and for writing if that is allowed.
    fn open(&self, name: &str) -> io::Result<Arc<dyn SegmentFile>>;
    /// The names of the files and their lengths.
    fn list(&self) -> io::Result<Vec<(String, u64)>>;
    /// The length of a file; `None` if there is none.
    fn length_of(&self, name: &str) -> io::Result<Option<u64>>;
    /// Renames a file, replacing any file with that name.
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
    /// Reads as many bytes as there are, at most as many as fit.
    fn read_at(&self, position: u64, into: &mut [u8]) -> io::Result<usize>;
    /// Writes all bytes.
    fn write_at(&self, position: u64, bytes: &[u8]) -> io::Result<()>;
    /// Makes what was written durable.
    fn sync(&self) -> io::Result<()>;
    /// Truncates it.
    fn truncate(&self, length: u64) -> io::Result<()>;
    /// Its length, in bytes.
    fn length(&self) -> io::Result<u64>;
}

/// A folder of the file system.
#[derive(Debug)]
pub(crate) struct Disk {
    folder: PathBuf,
    /// The folder itself, for when no file can be opened any more; `None` if it could not be opened at the start.
    opened: Option<File>,
}

/// Opens an existing folder of the file system.
pub(crate) fn on_disk(folder: &Path) -> Arc<dyn Files> {
    Arc::new(Disk::new(folder))
}

impl Disk {
    pub(crate) fn new(folder: &Path) -> Self {
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
                // It was deleted in the meantime.
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
