//! The dead letters of a connector: to read, to replay and to purge. They are read from their folder on request, however many
//! there are, so this happens on threads that may block.

use std::{
    collections::VecDeque,
    io::{self, ErrorKind},
    ops::ControlFlow,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

use serde::Serialize;
use tracing::{error, info, warn};

use crate::{
    dead_letter::{Entry, Folder, LetterPosition, Purged, Record, Selection, Summary},
    pipeline::Pipeline,
    replay::Replay,
};

/// How many letters are listed, the newest first.
pub(super) const LISTED: usize = 100;
/// How many failures of a replay are listed, and the maximum length of each reason, in bytes.
const FAILURES: usize = 10;
const LONGEST_REASON: usize = 300;
/// How long a replay waits for a batch of letters: somebody is watching, and letters that fail are kept.
const LONGEST: Duration = Duration::from_mins(5);

/// The dead letters of one connector.
#[derive(Debug)]
pub(super) struct Letters {
    connector: u32,
    pub(super) path: PathBuf,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    report: Option<ReplayReport>,
    thread: Option<JoinHandle<()>>,
}

/// Which letters are removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Which {
    Replayed,
    All,
    Meant(Selection),
}

/// The progress or result of the last replay.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct ReplayReport {
    pub(super) running: bool,
    pub(super) delivered: usize,
    /// Those that failed again and are kept.
    pub(super) failed: usize,
    pub(super) unreadable: usize,
    /// Why it ended before all were sent.
    pub(super) stopped: Option<String>,
    /// The first that failed, by position, with the reason.
    pub(super) failures: Vec<(String, String)>,
}

/// Some of the letters, with the counts.
#[derive(Debug)]
pub(super) struct Listed {
    /// All letters.
    pub(super) all: Summary,
    /// How many are selected, and how many of those were never replayed.
    pub(super) meant: u64,
    pub(super) waiting: u64,
    /// The newest of them, newest first.
    pub(super) letters: Vec<Entry>,
}

impl Letters {
    pub(super) fn new(connector: u32, path: PathBuf) -> Self {
        Self { connector, path, state: Arc::default() }
    }

    /// Lists the selected letters.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub(super) fn list(&self, selection: &Selection) -> io::Result<Listed> {
        let (mut all, mut meant, mut waiting) = (Summary::default(), 0, 0);
        let mut newest: VecDeque<Entry> = VecDeque::with_capacity(LISTED + 1);
        Folder::open(&self.path)?.for_each(|entry| {
            all.add(&entry);
            if selection.takes(&entry) {
                meant += 1;
                waiting += u64::from(!entry.replayed);
                newest.push_front(without_payload(entry));
                newest.truncate(LISTED);
            }
            true
        })?;
        Ok(Listed { all, meant, waiting, letters: newest.into() })
    }

    /// The letter at a position, if there is one.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub(super) fn one(&self, position: LetterPosition) -> io::Result<Option<Entry>> {
        Folder::open(&self.path)?.find(position)
    }

    /// The progress or result of the last replay.
    pub(super) fn replayed(&self) -> Option<ReplayReport> {
        lock(&self.state).report.clone()
    }

    /// Begins to send the selected letters that were not replayed yet.
    ///
    /// # Errors
    /// Another replay is in progress, or no thread can be created.
    pub(super) fn replay(&self, selection: Selection, pipeline: Arc<Pipeline>) -> io::Result<()> {
        let mut state = lock(&self.state);
        if state.report.as_ref().is_some_and(|report| report.running) {
            return Err(io::Error::new(ErrorKind::ResourceBusy, "another replay is under way"));
        }
        let folder = Folder::open(&self.path)?;
        info!("connector {}: an operator replays {}", self.connector, in_words(&selection));
        let (connector, shared) = (self.connector, self.state.clone());
        let run = move || {
            let ended = replay(&folder, &selection, &pipeline, &shared);
            // Joining this thread must also wait for the pipeline.
            drop(pipeline);
            finished(connector, &shared, ended);
        };
        state.report = Some(ReplayReport { running: true, ..ReplayReport::default() });
        state.thread = match thread::Builder::new().name(format!("http-replay-{connector}")).spawn(run) {
            Ok(thread) => Some(thread),
            Err(why) => {
                state.report = None;
                return Err(why);
            }
        };
        Ok(())
    }

    /// Removes letters of the files before number `next`, to which nothing is written any more: files whose letters have all
    /// been replayed, all files, or the selected letters.
    ///
    /// # Errors
    /// A replay is in progress, or a file cannot be removed.
    pub(super) fn purge(&self, which: &Which, next: u64) -> io::Result<Purged> {
        let folder = Folder::open(&self.path)?;
        let purged = match which {
            Which::Replayed => folder.purge_before(next, false)?,
            Which::All => folder.purge_before(next, true)?,
            Which::Meant(selection) => folder.purge_meant(next, |entry| selection.takes(entry))?,
        };
        let Purged { segments, records, bytes } = purged;
        let which = match which {
            Which::Replayed => "files of dead letters that were replayed".to_owned(),
            Which::All => "all dead letters, replayed or not".to_owned(),
            Which::Meant(selection) => in_words(selection),
        };
        warn!(
            "connector {}: an operator removed {which}: {records} letters, {segments} files with {bytes} bytes",
            self.connector
        );
        Ok(purged)
    }

    /// Waits for a replay in progress. It ends once the connector is being closed.
    pub(super) fn join(&self) {
        let thread = lock(&self.state).thread.take();
        if let Some(thread) = thread {
            // A panic in it is visible in the report, which never becomes final.
            let _ = thread.join();
        }
    }
}

/// Sends letters, and keeps the report of it up to date.
fn replay(
    folder: &Folder,
    selection: &Selection,
    pipeline: &Pipeline,
    state: &Mutex<State>,
) -> io::Result<Replay> {
    let report = |change: &dyn Fn(&mut ReplayReport)| {
        if let Some(report) = &mut lock(state).report {
            change(report);
        }
    };
    folder.replay_through(
        pipeline,
        LONGEST,
        |entry| selection.takes(entry),
        |replay| {
            let Replay { delivered, failed, unreadable, .. } = *replay;
            report(&|report| {
                (report.delivered, report.failed, report.unreadable) = (delivered, failed, unreadable);
            });
            if pipeline.is_closing() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        },
        |position, why| {
            report(&|report| {
                if report.failures.len() < FAILURES {
                    let why = iggy_connector_sdk::shown(why, LONGEST_REASON).to_string();
                    report.failures.push((position.to_string(), why));
                }
            });
        },
    )
}

/// Logs and reports how a replay ended.
fn finished(connector: u32, state: &Mutex<State>, ended: io::Result<Replay>) {
    let mut state = lock(state);
    let report = state.report.get_or_insert_default();
    report.running = false;
    match ended {
        Ok(Replay { delivered, failed, unreadable, .. }) => {
            (report.delivered, report.failed, report.unreadable) = (delivered, failed, unreadable);
            info!(
                "connector {connector}: the replay is over: {delivered} delivered, {failed} failed again, {unreadable} unreadable"
            );
        }
        Err(why) => {
            error!("connector {connector}: the replay broke off: {why}");
            report.stopped = Some(why.to_string());
        }
    }
}

/// The selection, for the log.
fn in_words(selection: &Selection) -> String {
    let Selection { reason, stream, topic, since, positions } = selection;
    let fields = [("reason", reason), ("stream", stream), ("topic", topic), ("since", since)];
    let mut words: Vec<String> = fields
        .iter()
        .filter_map(|(name, value)| {
            let value = value.as_ref()?;
            Some(format!("{name} {}", iggy_connector_sdk::shown(value, crate::batch::LONGEST_NAME)))
        })
        .collect();
    words.extend(positions.iter().map(|position| format!("position {position}")));
    if words.is_empty() {
        "all dead letters".to_owned()
    } else {
        format!("the dead letters of {}", words.join(", "))
    }
}

/// Removes the payload of a letter for the list: payloads may be large.
fn without_payload(entry: Entry) -> Entry {
    let record = entry.record.map(|record| Record { payload: Box::default(), ..record });
    Entry { record, ..entry }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
