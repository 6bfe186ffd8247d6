//! Files of this sink alone: made for their owner, whatever the umask, and never opened through a link or another kind of file.
//!
//! What is in a folder of ours holds messages. A link, a FIFO or a device there was put there by somebody else, and would take
//! what is written to it elsewhere, or block whoever opens it.

use std::{
    fs::{self, File, Metadata, OpenOptions, Permissions},
    io::{self, ErrorKind},
    os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown},
    path::Path,
};

/// What a file of ours allows, to its owner alone.
const MODE: u32 = 0o600;
/// The permissions of everybody but the owner.
pub(crate) const OF_OTHERS: u32 = 0o077;
/// Files may come and go while one is opened; nobody does that for long.
const ATTEMPTS: usize = 8;

/// What a file is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// To read it.
    Read,
    /// To read and write it.
    Write,
    /// To read and write it, and to make it where there is none.
    Make,
    /// To read and write it; there must be none yet.
    MakeNew,
}

/// Opens a file of ours. One that is made by root in another user's folder is given to that user, who could not open it
/// otherwise; one that others can read is theirs no longer.
///
/// # Errors
/// It is no regular file, or the system cannot open it.
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
                    // It was removed in between.
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
        // The umask took from its owner, too.
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
        // The owner of the folder could put a file there that another user is then made to write to.
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
        // Of an earlier release. A file system without permissions has none to take away.
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

/// How long a file of ours is; `None` where there is none.
///
/// # Errors
/// It is no regular file, or the system does not say.
pub(crate) fn length(path: &Path) -> io::Result<Option<u64>> {
    match fs::symlink_metadata(path) {
        Ok(file) if file.is_file() => Ok(Some(file.len())),
        Ok(other) => Err(wrong(path, &other)),
        Err(why) if why.kind() == ErrorKind::NotFound => Ok(None),
        Err(why) => Err(why),
    }
}

/// The whole text of a file of ours; `None` where there is none.
///
/// # Errors
/// It is no regular file, or it cannot be read.
pub(crate) fn read_to_string(path: &Path) -> io::Result<Option<String>> {
    match open(path, Access::Read) {
        Ok(file) => io::read_to_string(file).map(Some),
        Err(why) if why.kind() == ErrorKind::NotFound => Ok(None),
        Err(why) => Err(why),
    }
}

/// The text of a file of somebody else, such as a secret, to which links may lead.
///
/// # Errors
/// It is no file, or cannot be read.
pub(crate) fn read_foreign(path: &Path) -> io::Result<String> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    io::read_to_string(file)
}

/// What is found under the name of a file.
pub(crate) fn wrong(path: &Path, found: &Metadata) -> io::Error {
    io::Error::other(format!(
        "{} is {}: only a file of this connector's own may stand there, so it is not opened; remove it",
        path.display(),
        kind(found)
    ))
}

/// What something is, in words.
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

/// An error of the system in clearer words, where something else has the name of a file.
fn explained(path: &Path, why: io::Error) -> io::Error {
    match fs::symlink_metadata(path) {
        Ok(found) if !found.is_file() => wrong(path, &found),
        _ => why,
    }
}

/// The same error, with the path of the file. Those of [`wrong`] have it already.
pub(crate) fn at(path: &Path, why: io::Error) -> io::Error {
    if why.raw_os_error().is_some() {
        io::Error::new(why.kind(), format!("{}: {why}", path.display()))
    } else {
        why
    }
}

/// The user and the group that get what root makes at this path: those of its folder.
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

/// The user whose rights this process has.
pub(crate) fn effective_user() -> u32 {
    rustix::process::geteuid().as_raw()
}
