//! The sink's own files: created for their owner only, whatever the umask, and never opened through a link or as another kind
//! of file.
//!
//! These files contain messages. A link, a FIFO or a device in our folders was put there by somebody else, and would redirect
//! what is written, or block whoever opens it.

use std::{
    fs::{self, File, Metadata, OpenOptions, Permissions},
    io::{self, ErrorKind},
    os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown},
    path::Path,
};

/// The mode of our files: access for the owner only.
const MODE: u32 = 0o600;
/// The permissions of everybody but the owner.
pub(crate) const OF_OTHERS: u32 = 0o077;
/// Files may appear and disappear while one is opened, but not for long.
const ATTEMPTS: usize = 8;

/// What a file is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// To read it.
    Read,
    /// To read and write it.
    Write,
    /// To read and write it, and to create it if there is none.
    Make,
    /// To read and write it; there must be none yet.
    MakeNew,
}

/// Opens one of our files. A file that root creates in another user's folder is given to that user, who could not open it
/// otherwise; if others have permissions, these are removed.
///
/// # Errors
/// It is not a regular file, or the system cannot open it.
pub(crate) fn open(path: &Path, access: Access) -> io::Result<File> {
    let made = |path| make(path).map_err(|why| explained(path, why));
    match access {
        Access::MakeNew => made(path),
        Access::Read | Access::Write => open_existing(path, access),
        Access::Make => {
            for _ in 1..ATTEMPTS {
                match make(path) {
                    Err(why) if why.kind() == ErrorKind::AlreadyExists => {}
                    made => return made.map_err(|why| explained(path, why)),
                }
                match open_existing(path, Access::Write) {
                    // It was removed in the meantime.
                    Err(why) if why.kind() == ErrorKind::NotFound => {}
                    opened => return opened,
                }
            }
            made(path)
        }
    }
}

fn make(path: &Path) -> io::Result<File> {
    let file = options(true).create_new(true).mode(MODE).open(path)?;
    let metadata = file.metadata()?;
    if metadata.mode() & 0o777 != MODE {
        // The umask may have removed permissions of the owner, too.
        file.set_permissions(Permissions::from_mode(MODE))?;
    }
    if let Some((user, group)) = other_owner(path)? {
        fchown(&file, Some(user), Some(group))?;
    }
    Ok(file)
}

fn open_existing(path: &Path, access: Access) -> io::Result<File> {
    let writes = access != Access::Read;
    let file = options(writes).open(path).map_err(|why| explained(path, why))?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(wrong(path, &metadata));
    }
    let me = effective_user();
    if writes && (metadata.uid() != me || metadata.nlink() > 1) {
        let folder = folder_of(path)?;
        // The owner of the folder could link a file there to make another user write to it.
        if metadata.nlink() > 1 && folder.uid() != me {
            return Err(io::Error::other(format!(
                "{} has a second name elsewhere (a hard link), and its folder belongs to another user: it is not written to",
                path.display()
            )));
        }
        if ![me, folder.uid(), 0].contains(&metadata.uid()) {
            return Err(io::Error::other(format!(
                "{} belongs to user {}, who is neither the one of this process ({me}) nor the one of the folder ({}): it is \
                not written to",
                path.display(),
                metadata.uid(),
                folder.uid()
            )));
        }
    }
    if metadata.uid() == me && metadata.mode() & OF_OTHERS != 0 {
        // From an earlier release. A file system without permissions has none to remove.
        let _ = file.set_permissions(Permissions::from_mode(metadata.mode() & 0o7777 & !OF_OTHERS));
    }
    Ok(file)
}

/// Without following a link, and without waiting for the other end of a FIFO.
fn options(writes: bool) -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(writes).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    options
}

/// Returns the length of one of our files; `None` if there is none.
///
/// # Errors
/// It is not a regular file, or the system returns an error.
pub(crate) fn length(path: &Path) -> io::Result<Option<u64>> {
    match fs::symlink_metadata(path) {
        Ok(file) if file.is_file() => Ok(Some(file.len())),
        Ok(other) => Err(wrong(path, &other)),
        Err(why) if why.kind() == ErrorKind::NotFound => Ok(None),
        Err(why) => Err(why),
    }
}

/// Reads one of our files as text; `None` if there is none.
///
/// # Errors
/// It is not a regular file, or it cannot be read.
pub(crate) fn read_to_string(path: &Path) -> io::Result<Option<String>> {
    match open(path, Access::Read) {
        Ok(file) => io::read_to_string(file).map(Some),
        Err(why) if why.kind() == ErrorKind::NotFound => Ok(None),
        Err(why) => Err(why),
    }
}

/// Reads a file that is not ours, such as a secret; links are followed.
///
/// # Errors
/// It is not a file, or cannot be read.
pub(crate) fn read_foreign(path: &Path) -> io::Result<String> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    io::read_to_string(file)
}

/// Creates the error about something that is not a regular file.
pub(crate) fn wrong(path: &Path, found: &Metadata) -> io::Error {
    io::Error::other(format!(
        "{} is {}: only a file of this connector's own may stand there, so it is not opened; remove it",
        path.display(),
        kind(found)
    ))
}

/// Names the kind of something, in words.
pub(crate) fn kind(found: &Metadata) -> &'static str {
    let kind = found.file_type();
    if kind.is_symlink() {
        "a symbolic link"
    } else if kind.is_dir() {
        "a folder"
    } else if kind.is_fifo() {
        "a FIFO"
    } else if kind.is_socket() {
        "a socket"
    } else if kind.is_block_device() || kind.is_char_device() {
        "a device"
    } else {
        "a file"
    }
}

/// Returns a clearer error if something else has the name of a file.
fn explained(path: &Path, why: io::Error) -> io::Error {
    match fs::symlink_metadata(path) {
        Ok(found) if !found.is_file() => wrong(path, &found),
        _ => why,
    }
}

/// Adds the path of the file to an error. Those of [`wrong`] have it already.
pub(crate) fn at(path: &Path, why: io::Error) -> io::Error {
    if why.raw_os_error().is_some() {
        io::Error::new(why.kind(), format!("{}: {why}", path.display()))
    } else {
        why
    }
}

/// Returns the user and the group that own what root creates at this path: those of its folder.
fn other_owner(path: &Path) -> io::Result<Option<(u32, u32)>> {
    if effective_user() != 0 {
        return Ok(None);
    }
    let folder = folder_of(path)?;
    Ok((folder.uid() != 0).then(|| (folder.uid(), folder.gid())))
}

fn folder_of(path: &Path) -> io::Result<Metadata> {
    fs::metadata(path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new(".")))
}

/// Returns the effective user of this process.
pub(crate) fn effective_user() -> u32 {
    rustix::process::geteuid().as_raw()
}
