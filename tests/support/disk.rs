//! A disk in memory that fails, tears and forgets as real ones do. Whoever includes it has the traits of
//! `iggy_connector_http_sink::world` in scope.

#[path = "disk/file.rs"]
mod file;

use std::{
    collections::BTreeMap,
    fmt,
    io::{self, ErrorKind},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use tokio::sync::Notify;

use self::file::File;
use super::{Files, SegmentFile};

/// What goes wrong, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The operation fails and changes nothing.
    Once(ErrorKind),
    /// It and all that follow, until this many have failed.
    Several(ErrorKind, u64),
    /// A write stops in its middle with an error.
    Torn,
    /// The process or the machine stops. A write stops in its middle.
    Crash,
}

/// What is left of that which was not synced when the machine stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Left {
    /// All: only the process stopped.
    All,
    /// Nothing.
    Nothing,
    /// Some of it, by this number.
    Some(u64),
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Disk(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
#[allow(clippy::struct_excessive_bools)] // each is a fault that can be on
struct Inner {
    files: BTreeMap<u64, Content>,
    names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    operations: u64,
    syncs: u64,
    sync_time: Duration,
    fault: Option<(u64, Fault)>,
    crashed: bool,
    /// Told of the crash.
    on_crash: Option<Arc<Notify>>,
    /// Called before a file is deleted.
    on_delete: Option<OnDelete>,
    full: bool,
    unreadable: bool,
    short: bool,
    next: u64,
}

#[derive(Clone)]
struct OnDelete(Arc<dyn Fn() + Send + Sync>);

impl fmt::Debug for OnDelete {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OnDelete")
    }
}

#[derive(Debug, Default, Clone)]
struct Content {
    now: Vec<u8>,
    durable: Vec<u8>,
    /// What was done since the last sync.
    since: Vec<Change>,
}

#[derive(Debug, Clone)]
enum Change {
    Write(u64, Vec<u8>),
    Truncate(u64),
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Write(position, written) => {
                let position = usize::try_from(*position).unwrap();
                let end = position + written.len();
                bytes.resize(bytes.len().max(end), 0);
                bytes[position..end].copy_from_slice(written);
            }
            Self::Truncate(length) => bytes.resize(usize::try_from(*length).unwrap(), 0),
        }
    }
}

impl Disk {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap()
    }

    pub(crate) fn fail_at(&self, operation: u64, fault: Fault) {
        let mut inner = self.lock();
        inner.fault = Some((inner.operations + operation, fault));
    }

    /// How many operations that change something there were.
    pub(crate) fn operations(&self) -> u64 {
        self.lock().operations
    }

    pub(crate) fn syncs(&self) -> u64 {
        self.lock().syncs
    }

    pub(crate) fn syncs_take(&self, time: Duration) {
        self.lock().sync_time = time;
    }

    /// Calls this before each time that a file is deleted.
    #[allow(dead_code)] // by some of those who have this disk
    pub(crate) fn on_delete(&self, told: impl Fn() + Send + Sync + 'static) {
        self.lock().on_delete = Some(OnDelete(Arc::new(told)));
    }

    /// No file can grow, until it can.
    pub(crate) fn is_full(&self, full: bool) {
        self.lock().full = full;
    }

    /// Nothing fails any more.
    #[allow(dead_code)] // by some of those who have this disk
    pub(crate) fn heal(&self) {
        let mut inner = self.lock();
        (inner.fault, inner.full) = (None, false);
    }

    pub(crate) fn fail_reads(&self, unreadable: bool) {
        self.lock().unreadable = unreadable;
    }

    /// No file is opened, for want of descriptors, until it is.
    #[cfg(unix)]
    pub(crate) fn fail_opens(&self, short: bool) {
        self.lock().short = short;
    }

    /// Who is told when a fault is a crash.
    #[allow(dead_code)] // by some of those who have this disk
    pub(crate) fn on_crash(&self, told: Arc<Notify>) {
        self.lock().on_crash = Some(told);
    }

    pub(crate) fn crashed(&self) -> bool {
        self.lock().crashed
    }

    /// The disk as it is found after the process or the machine stopped.
    pub(crate) fn after(&self, left: Left) -> Self {
        let inner = self.lock();
        if left == Left::All {
            // The system goes on: what was not synced still is not.
            let (files, names) = (inner.files.clone(), inner.names.clone());
            let (durable_names, next) = (inner.durable_names.clone(), inner.next);
            let inner = Inner { files, names, durable_names, next, ..Inner::default() };
            return Self(Arc::new(Mutex::new(inner)));
        }
        let mut random = match left {
            Left::Some(seed) => seed,
            _ => 0,
        };
        let mut chance = |of: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) % of
        };
        let names = match left {
            Left::All | Left::Nothing => inner.durable_names.clone(),
            Left::Some(_) => {
                let mut names = inner.durable_names.clone();
                names.retain(|name, _| inner.names.contains_key(name) || chance(2) == 0);
                for (name, file) in &inner.names {
                    if !names.contains_key(name) && chance(2) == 0 {
                        names.insert(name.clone(), *file);
                    }
                }
                names
            }
        };
        let files = inner.files.iter().map(|(number, content)| {
            let bytes = match left {
                Left::All | Left::Nothing => content.durable.clone(),
                Left::Some(_) => {
                    let mut bytes = content.durable.clone();
                    for change in &content.since {
                        match (chance(3), change) {
                            (0, _) => {}
                            (1, Change::Write(position, written)) => {
                                let from = usize::try_from(chance(written.len() as u64 + 1)).unwrap();
                                let to = from
                                    + usize::try_from(chance((written.len() - from) as u64 + 1)).unwrap();
                                Change::Write(position + from as u64, written[from..to].to_vec())
                                    .apply(&mut bytes);
                            }
                            _ => change.apply(&mut bytes),
                        }
                    }
                    bytes
                }
            };
            (*number, Content { now: bytes.clone(), durable: bytes, since: Vec::new() })
        });
        let (files, next) = (files.collect(), inner.next);
        Self(Arc::new(Mutex::new(Inner {
            files,
            durable_names: names.clone(),
            names,
            next,
            ..Inner::default()
        })))
    }

    /// The bytes of a file.
    pub(crate) fn bytes(&self, name: &str) -> Vec<u8> {
        let inner = self.lock();
        inner.names.get(name).map(|file| inner.files[file].now.clone()).unwrap_or_default()
    }

    /// Puts bytes in the place of a file.
    pub(crate) fn put(&self, name: &str, bytes: &[u8]) {
        let mut inner = self.lock();
        let file = inner.names[name];
        let content = Content { now: bytes.to_vec(), durable: bytes.to_vec(), since: Vec::new() };
        inner.files.insert(file, content);
    }

    /// The files but for damaged pieces.
    pub(crate) fn names(&self) -> Vec<String> {
        self.lock().names.keys().filter(|name| !name.contains('/')).cloned().collect()
    }
}

impl Inner {
    /// Counts an operation. Whether it fails, and whether half of it happens.
    #[cfg(unix)]
    fn descriptor(&self) -> io::Result<()> {
        if self.short { Err(io::Error::from_raw_os_error(libc::EMFILE)) } else { Ok(()) }
    }

    #[cfg(not(unix))]
    fn descriptor(&self) -> io::Result<()> {
        Ok(())
    }

    fn operate(&mut self) -> Result<(), (io::Error, bool)> {
        if self.crashed {
            return Err((io::Error::other("crashed"), false));
        }
        self.operations += 1;
        let Some((at, fault)) = self.fault else { return Ok(()) };
        if self.operations < at {
            return Ok(());
        }
        match fault {
            Fault::Once(kind) if self.operations == at => Err((kind.into(), false)),
            Fault::Several(kind, times) if self.operations < at + times => Err((kind.into(), false)),
            Fault::Torn if self.operations == at => Err((ErrorKind::Other.into(), true)),
            Fault::Crash => {
                self.crashed = true;
                if let Some(on_crash) = &self.on_crash {
                    on_crash.notify_one();
                }
                Err((io::Error::other("crashed"), true))
            }
            _ => Ok(()),
        }
    }
}

#[derive(Debug)]
struct Folder(Disk, String);

impl Disk {
    /// Its one folder.
    pub(crate) fn files(&self) -> Arc<dyn Files> {
        self.folder("")
    }

    /// A folder; the names in it begin with `prefix`, which ends with a slash.
    pub(crate) fn folder(&self, prefix: &str) -> Arc<dyn Files> {
        Arc::new(Folder(self.clone(), prefix.to_owned()))
    }
}

impl Files for Folder {
    fn create(&self, name: &str) -> io::Result<Arc<dyn SegmentFile>> {
        let mut inner = self.0.lock();
        inner.descriptor()?;
        inner.operate().map_err(|(why, _)| why)?;
        let name = format!("{}{name}", self.1);
        if inner.names.contains_key(&name) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        inner.next += 1;
        let number = inner.next;
        inner.files.insert(number, Content::default());
        inner.names.insert(name, number);
        Ok(Arc::new(File(self.0.clone(), number)))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn SegmentFile>> {
        let inner = self.0.lock();
        inner.descriptor()?;
        let name = format!("{}{name}", self.1);
        let number = inner.names.get(&name).ok_or(ErrorKind::NotFound)?;
        Ok(Arc::new(File(self.0.clone(), *number)))
    }

    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        let inner = self.0.lock();
        let here = |(name, file): (&String, &u64)| {
            let name = name.strip_prefix(&self.1).filter(|name| !name.contains('/'))?;
            Some((name.to_owned(), inner.files[file].now.len() as u64))
        };
        Ok(inner.names.iter().filter_map(here).collect())
    }

    fn length_of(&self, name: &str) -> io::Result<Option<u64>> {
        let inner = self.0.lock();
        let file = inner.names.get(&format!("{}{name}", self.1));
        Ok(file.map(|file| inner.files[file].now.len() as u64))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut inner = self.0.lock();
        inner.operate().map_err(|(why, _)| why)?;
        let file = inner.names.remove(&format!("{}{from}", self.1)).ok_or(ErrorKind::NotFound)?;
        inner.names.insert(format!("{}{to}", self.1), file);
        Ok(())
    }

    fn delete(&self, name: &str) -> io::Result<()> {
        let told = self.0.lock().on_delete.clone();
        if let Some(OnDelete(told)) = told {
            told();
        }
        let mut inner = self.0.lock();
        inner.operate().map_err(|(why, _)| why)?;
        inner.names.remove(&format!("{}{name}", self.1)).map(drop).ok_or(ErrorKind::NotFound.into())
    }

    fn sync_names(&self) -> io::Result<()> {
        let mut inner = self.0.lock();
        inner.operate().map_err(|(why, _)| why)?;
        inner.durable_names = inner.names.clone();
        Ok(())
    }

    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("{}{name}", self.1))
    }

    fn damaged(&self) -> io::Result<Arc<dyn Files>> {
        Ok(self.0.folder(&format!("{}damaged/", self.1)))
    }
}
