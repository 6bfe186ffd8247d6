//! Folders that survive a crash of the machine, accessible only to their owner.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io::{self, ErrorKind},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown},
    path::{Component, Path, PathBuf},
};

use rustix::fs::{Access as Rights, AtFlags, CWD, accessat};
use tracing::{info, warn};

use crate::private::{self, Access, OF_OTHERS};

/// The mode of our folders: access for the owner only.
const MODE: u32 = 0o700;
/// Set on folders where everybody may create files, such as `/tmp`.
const STICKY: u32 = 0o1000;
/// With one of these bits, others can create files there.
const WRITE_OF_OTHERS: u32 = 0o022;

/// Creates a folder and missing parent folders, and makes their names durable: files that are synced in a folder are lost
/// with it if the folder's own name is not on disk.
///
/// New folders are accessible only to their owner, and so is an existing folder that contains only our files. The folder may
/// be a link of this user or of root, for example because it was moved to a larger disk.
///
/// # Errors
/// The system cannot create or sync one of them, or the folder is a link of another user.
pub(crate) fn create(path: &Path) -> io::Result<()> {
    let mut missing: Vec<&Path> = path.ancestors().take_while(|folder| !folder.exists()).collect();
    missing.retain(|folder| !folder.as_os_str().is_empty());
    for folder in missing.iter().rev() {
        make(folder)?;
    }
    for parent in missing.iter().filter_map(|folder| folder.parent()) {
        File::open(or_current(parent))?.sync_all()?;
    }
    check_link(path)?;
    check_kind(path)?;
    if missing.is_empty() {
        tighten(path)?;
        tighten_files(path)?;
    }
    Ok(())
}

/// Checks whether [`create`] could create this folder, and files in it, as far as that can be known in advance.
///
/// # Errors
/// The obstacle, with its path.
pub(crate) fn can_be_written(path: &Path) -> io::Result<()> {
    let found = path.ancestors().find(|folder| fs::symlink_metadata(or_current(folder)).is_ok());
    let found = or_current(found.unwrap_or(path));
    if found == path {
        check_link(path)?;
    }
    check_kind(found)?;
    let needed = Rights::READ_OK | Rights::WRITE_OK | Rights::EXEC_OK;
    accessat(CWD, found, needed, AtFlags::EACCESS).map_err(|why| {
        let user = private::effective_user();
        io::Error::other(format!(
            "user {user} cannot write to {} ({})",
            found.display(),
            io::Error::from(why).kind()
        ))
    })
}

/// Resolves a path to an absolute one without links and `..`; missing parts are kept as written.
pub(crate) fn resolved(path: &Path) -> PathBuf {
    let mut resolved = PathBuf::new();
    for part in std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).components() {
        if part == Component::ParentDir {
            resolved.pop();
            continue;
        }
        resolved.push(part);
        if let Ok(found) = resolved.canonicalize() {
            resolved = found;
        }
    }
    resolved
}

/// Refuses a link of somebody who could redirect it.
fn check_link(path: &Path) -> io::Result<()> {
    let named = fs::symlink_metadata(path)?;
    if named.is_symlink() && ![0, private::effective_user()].contains(&named.uid()) {
        return Err(io::Error::other(format!(
            "{} is a symbolic link of user {}, and not of the one of this process or of root: it is not followed",
            path.display(),
            named.uid()
        )));
    }
    Ok(())
}

/// Refuses anything but a folder.
fn check_kind(path: &Path) -> io::Result<()> {
    let found = fs::metadata(path).map_err(|why| private::at(path, why))?;
    if !found.is_dir() {
        let message = format!("{} is {}, and no folder", path.display(), private::kind(&found));
        return Err(io::Error::new(ErrorKind::NotADirectory, message));
    }
    Ok(())
}

/// Creates a folder inside one of ours, if there is none.
///
/// # Errors
/// Something else has its name, or the system cannot create it.
pub(crate) fn create_inside(path: &Path) -> io::Result<()> {
    make(path)?;
    let named = fs::symlink_metadata(path)?;
    if !named.is_dir() {
        return Err(private::wrong(path, &named));
    }
    if named.uid() == private::effective_user() && named.mode() & OF_OTHERS != 0 {
        let folder = open(path, libc::O_NOFOLLOW)?;
        let mode = folder.metadata()?.mode();
        folder.set_permissions(Permissions::from_mode(mode & 0o7777 & !OF_OTHERS))?;
    }
    Ok(())
}

fn make(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(MODE).create(path) {
        Ok(()) => {}
        // Somebody else created it first.
        Err(why) if why.kind() == ErrorKind::AlreadyExists => return Ok(()),
        Err(why) => return Err(why),
    }
    // The owner of the parent folder may replace it at any time: so only the opened folder is changed.
    let folder = open(path, libc::O_NOFOLLOW)?;
    if folder.metadata()?.mode() & 0o777 != MODE {
        // The umask may have removed permissions of the owner, too.
        folder.set_permissions(Permissions::from_mode(MODE))?;
    }
    let parent = fs::metadata(or_current(path.parent().unwrap_or(path)))?;
    if private::effective_user() == 0 && parent.uid() != 0 {
        // In the folder of a service, which could not enter it otherwise.
        fchown(&folder, Some(parent.uid()), Some(parent.gid()))?;
    }
    Ok(())
}

/// Opens a folder, and nothing else.
fn open(path: &Path, flags: i32) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY | flags).open(path)
}

/// Removes the permissions of others from one of our folders. One that contains other files is not ours alone, and keeps its
/// mode.
fn tighten(path: &Path) -> io::Result<()> {
    let folder = open(path, 0)?;
    let found = folder.metadata()?;
    let mode = found.mode() & 0o7777;
    let is_of_this_user = found.uid() == private::effective_user();
    if is_of_this_user && mode & OF_OTHERS != 0 && mode & STICKY == 0 && holds_ours_alone(path)? {
        let tight = mode & !OF_OTHERS;
        match folder.set_permissions(Permissions::from_mode(tight)) {
            Ok(()) => info!("{} was open to others (mode {mode:04o}): it is {tight:04o} now", path.display()),
            Err(why) => warn!("{} is open to others (mode {mode:04o}), and stays so: {why}", path.display()),
        }
    } else if mode & WRITE_OF_OTHERS != 0 {
        warn!(
            "{} can be written to by others (mode {mode:04o}), who can replace what is in it: give the connector a folder of its \
            own",
            path.display()
        );
    }
    Ok(())
}

/// Removes the permissions of others from our files that an earlier release created, whatever else is in the folder.
fn tighten_files(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if !entry.file_name().to_str().is_some_and(is_ours) {
            continue;
        }
        match tighten_file(&entry) {
            // Somebody else has deleted it.
            Err(why) if why.kind() == ErrorKind::NotFound => {}
            tightened => tightened?,
        }
    }
    Ok(())
}

fn tighten_file(entry: &fs::DirEntry) -> io::Result<()> {
    let (path, metadata) = (entry.path(), entry.metadata()?);
    let is_loose = metadata.uid() == private::effective_user() && metadata.mode() & OF_OTHERS != 0;
    if metadata.is_dir() {
        create_inside(&path)?;
        tighten_files(&path)?;
    } else if metadata.is_file() && is_loose {
        private::open(&path, Access::Read)?;
    }
    Ok(())
}

fn holds_ours_alone(path: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(path)? {
        if !entry?.file_name().to_str().is_some_and(is_ours) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether the spool or the dead letters create a file or folder of this name.
pub(crate) fn is_ours(name: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    ["lock", "replay.lock", "spare", "damaged", "spool-of-this-connector"].contains(&name)
        || name.strip_suffix(".log").is_some_and(is_number)
        || name.ends_with(".damaged")
        || name
            .strip_prefix("dead-letters-")
            .and_then(|rest| rest.strip_suffix(".ndjson").or_else(|| rest.strip_suffix(".replayed")))
            .is_some_and(is_number)
}

fn or_current(folder: &Path) -> &Path {
    if folder.as_os_str().is_empty() { Path::new(".") } else { folder }
}
