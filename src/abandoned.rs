//! Finds a spool that a configuration has lost while messages were in it: nobody would deliver them.
//!
//! A configuration without `[spool]` does not say where the spool was. This process remembers it for a connector that is
//! reopened, and a mark in the folder for dead letters, if there is one, survives a restart.

use std::{
    collections::HashMap,
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use tracing::warn;

use crate::{
    config::{Config, DeadLetterConfig},
    private::{self, Access},
    spool,
};

/// The file that names the spool of the connector whose dead letters are in the same folder.
const MARK: &str = "spool-of-this-connector";

static SPOOLS: Mutex<Option<HashMap<u32, PathBuf>>> = Mutex::new(None);

/// Records which spool a connector has.
pub(crate) fn remember(id: u32, config: &Config) {
    let Some(spool) = &config.spool else { return };
    let path = std::path::absolute(&spool.path).unwrap_or_else(|_| spool.path.clone());
    if let Some(mark) = mark(config)
        && let Err(why) = write(&mark, path.as_os_str().as_encoded_bytes())
    {
        warn!("{} cannot be written: {why}", mark.display());
    }
    lock().get_or_insert_default().insert(id, path);
}

/// # Errors
/// This connector had another spool before, and there are messages in it.
pub(crate) fn check(id: u32, config: &Config) -> Result<(), String> {
    let before = lock().as_ref().and_then(|spools| spools.get(&id).cloned());
    let marked = match mark(config) {
        Some(mark) => private::read_to_string(&mark)
            .map_err(|why| format!("{} cannot be read: {why}", mark.display()))?
            .map(PathBuf::from),
        None => None,
    };
    let now = config.spool.as_ref().map(|spool| spool.path.as_path());
    for path in before.into_iter().chain(marked) {
        if !now.is_some_and(|now| is_same(now, &path))
            && spool::holds_messages(&path).map_err(|why| why.to_string())?
        {
            return Err(format!(
                "this connector had the spool {path}, which still holds messages, and plugin_config.spool.path {now}: \
                 set it to that folder until they are delivered (`iggy-http-sink spool {path} status` shows them), or move \
                 the folder away to give them up",
                path = path.display(),
                now = now.map_or("is not given now".to_owned(), |now| format!("is {} now", now.display())),
            ));
        }
    }
    Ok(())
}

fn write(mark: &Path, path: &[u8]) -> io::Result<()> {
    let mut file = private::open(mark, Access::Make)?;
    file.set_len(0)?;
    file.write_all(path)
}

fn is_same(one: &Path, other: &Path) -> bool {
    match (fs::canonicalize(one), fs::canonicalize(other)) {
        (Ok(one), Ok(other)) => one == other,
        _ => one == other,
    }
}

fn mark(config: &Config) -> Option<PathBuf> {
    match &config.dead_letter {
        Some(DeadLetterConfig::Path { path, .. }) => Some(path.join(MARK)),
        _ => None,
    }
}

fn lock() -> MutexGuard<'static, Option<HashMap<u32, PathBuf>>> {
    SPOOLS.lock().unwrap_or_else(PoisonError::into_inner)
}
