//! Input from an Iggy server, at least once: an offset is stored only when consume returned 0.
//!
//! Each [`topic`] has a [`follower`], which reads it over its own [`session`] as a member of its consumer group; each
//! [`partition`] that the server assigns to this member is read by a separate worker, so that partitions are read
//! concurrently and each of them in order. [`server`] has the address and the credentials, [`backoff`] the waits, [`ghosts`]
//! removes dead members, [`batch`] converts messages to the plugin's form, [`replay`] starts elsewhere than after the stored
//! offset, and [`outcome`] counts.

mod backoff;
mod batch;
mod follower;
mod ghosts;
mod outcome;
mod partition;
mod replay;
mod server;
mod session;
mod topic;

use std::{
    sync::{Arc, Mutex, atomic::AtomicBool},
    thread,
    time::{Duration, Instant},
};

use iggy_connector_http_sink::reach::Obstacle;
use iggy_connector_sdk::TopicMetadata;
use tokio::{sync::watch, task::JoinSet};

use crate::{
    connector_file::ConnectorFile,
    host::{OpenPlugin, Watch},
    terminal::{
        interrupt,
        report::{Failure, Progress, Unit},
    },
};

pub(crate) use self::{outcome::Outcome, replay::ReplayFrom, server::Server};
use self::{
    session::Names,
    topic::{BodyRoom, Shared, Topic},
};

/// The maximum number of threads that consume may block at the same time: one per partition.
const MOST_THREADS: usize = 16_384;

/// Reads what the connector file names until a signal comes or, with `once` or `replay`, to the end that is there at
/// the start.
///
/// # Errors
/// It cannot start at all.
pub(crate) fn run(
    file: &ConnectorFile,
    server: Server,
    plugin: OpenPlugin,
    once: bool,
    replay: Option<ReplayFrom>,
    connect_timeout: Option<Duration>,
) -> Result<Outcome, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(MOST_THREADS)
        .enable_all()
        .build()
        .map_err(|why| Failure::Other(format!("no threads: {why}")))?;
    let (sender, stop) = watch::channel(false);
    let (sender, closer) = (Arc::new(sender), plugin.closer());
    let (asked, last) = (Arc::clone(&sender), closer.clone());
    let stop_all = move || {
        asked.send_replace(true);
        // Requests in flight end within close_timeout, even if the endpoint is down for longer.
        let _ = closer.close();
    };
    interrupt::at_first(stop_all, || ())
        .map_err(|why| Failure::Other(format!("signals cannot be caught: {why}")))?;

    let start = Instant::now();
    let shared = Arc::new(Shared {
        server,
        plugin,
        once: once || replay.is_some(),
        replay,
        body: BodyRoom::of(file),
        joined: AtomicBool::new(false),
        connect_deadline: connect_timeout.and_then(|time| tokio::time::Instant::now().checked_add(time)),
        stop: stop.clone(),
        outcome: Mutex::default(),
        progress: Progress::start(None, Unit::Messages),
    });
    let topics = topics(file, &shared);
    let watch = Watch::default();
    let (mut errors, unreachable) = thread::scope(|scope| {
        scope.spawn(|| watch.show(&shared.plugin, &shared.progress));
        let ended = runtime.block_on(read_all(topics, &sender));
        watch.end();
        ended
    });
    let stopped = errors.is_empty() && *stop.borrow();
    if let Err(why) = last.close() {
        errors.push(why.to_string());
    }
    let mut outcome = std::mem::take(&mut *shared.outcome());
    outcome.errors = errors;
    outcome.unreachable = unreachable;
    outcome.stopped = stopped;
    outcome.time = start.elapsed();
    Ok(outcome)
}

/// Connects to the server and signs in, as a run does.
///
/// # Errors
/// What failed, and what to do.
pub(crate) fn reach(server: &Server) -> Result<String, Obstacle> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime =
        runtime.map_err(|why| Obstacle::new(why, "this machine is short of threads or descriptors"))?;
    match runtime.block_on(session::sign_in(server)) {
        Ok(_) => Ok(format!("signed in at {}", server.address)),
        Err(why) => {
            let remedy = if why.is_hopeless() {
                "check username, password or token, and tls, in [iggy] of the runtime's configuration"
            } else {
                "check that the server listens there, and iggy.address in the runtime's configuration"
            };
            Err(Obstacle::new(format!("{}: {why}", server.address), remedy))
        }
    }
}

/// Everything that is to be read.
fn topics(file: &ConnectorFile, shared: &Arc<Shared>) -> Vec<Topic> {
    let entries = file.streams.iter().flat_map(|entry| entry.topics.iter().map(move |topic| (entry, topic)));
    entries
        .map(|(entry, topic)| {
            let group = &entry.consumer_group;
            Topic {
                shared: Arc::clone(shared),
                config: entry.clone(),
                names: Names {
                    stream: entry.stream.clone(),
                    topic: topic.clone(),
                    group: shared.replay.map_or_else(|| group.clone(), |replay| replay.group(group)),
                },
                metadata: TopicMetadata { stream: entry.stream.clone(), topic: topic.clone() },
            }
        })
        .collect()
}

/// Reads all topics concurrently; if one gives up, the others stop. Also returns whether one could not even start.
async fn read_all(topics: Vec<Topic>, stop: &watch::Sender<bool>) -> (Vec<String>, bool) {
    let mut following = JoinSet::new();
    for topic in topics {
        following.spawn(follower::follow(Arc::new(topic)));
    }
    let (mut errors, mut unreachable) = (Vec::new(), false);
    while let Some(ended) = following.join_next().await {
        let why = match ended {
            Ok(Ok(())) => continue,
            Ok(Err(why)) => {
                unreachable |= matches!(why, Failure::Start(_));
                why.to_string()
            }
            Err(why) => format!("reading ended before its time: {why}"),
        };
        errors.push(why);
        stop.send_replace(true);
    }
    (errors, unreachable)
}
