//! Folders that outlive a crash of the machine.

use std::{
    fs::{self, File},
    io,
    path::Path,
};

/// Makes a folder and the folders above it where they are missing, and makes their names durable: what is synced in a
/// folder is lost with it if the folder's own name is not on disk.
///
/// # Errors
/// The system cannot make or sync one of them.
pub(crate) fn create(path: &Path) -> io::Result<()> {
    let missing: Vec<&Path> = path.ancestors().take_while(|folder| !folder.exists()).collect();
    fs::create_dir_all(path)?;
    for parent in missing.iter().filter_map(|folder| folder.parent()) {
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        File::open(parent)?.sync_all()?;
    }
    Ok(())
}
