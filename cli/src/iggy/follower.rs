//! Follows one topic as a member of its consumer group, across lost connections and restarts.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

use iggy_connector_sdk::shown;
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{Instant, MissedTickBehavior, interval},
};

use crate::terminal::{
    log::{self, Level},
    report::Failure,
};

use super::{
    backoff::{Backoff, asked, pause},
    partition::{End, Limit, Worker},
    session::{LONGEST_NAME, Session, Trouble},
    topic::Topic,
};

/// How often the server is asked which partitions are ours.
const ASKING: Duration = Duration::from_secs(1);
/// The longest pause between two attempts to join the group.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// How often it is also asked whether all members of the group are connected; at first every time, since the server may just
/// have restarted.
const ASKING_FOR_GHOSTS: u32 = 30;
const AT_FIRST: u32 = 10;
/// How often in a row some must be missing: a member that joins or leaves is missing for a moment.
const CERTAIN: u32 = 3;

/// A running worker.
#[derive(Debug)]
struct Running {
    number: u64,
    over: watch::Sender<bool>,
    handle: JoinHandle<()>,
}

/// Why a connection is no longer used.
enum Next {
    Again,
    Done,
}

/// The state of following a topic.
#[derive(Debug)]
struct Follower {
    topic: Arc<Topic>,
    stop: watch::Receiver<bool>,
    workers: HashMap<u32, Running>,
    started: u64,
    sender: mpsc::UnboundedSender<(u64, u32, End)>,
    ended: mpsc::UnboundedReceiver<(u64, u32, End)>,
    /// Partitions that were read to their end.
    finished: BTreeSet<u32>,
    /// The ends that the partitions had at the start, if there is an end to reach.
    ends: Option<HashMap<u32, u64>>,
    /// What was logged last.
    logged: Option<Vec<u32>>,
    /// How often the server was asked on this connection, and how often in a row members were missing.
    asked: u32,
    missing: u32,
}

/// Reads a topic until it is asked to stop or, where there is one, to the end.
///
/// # Errors
/// It is useless to continue.
pub(super) async fn follow(topic: Arc<Topic>) -> Result<(), Failure> {
    let (sender, ended) = mpsc::unbounded_channel();
    let mut follower = Follower {
        stop: topic.shared.stop.clone(),
        topic,
        workers: HashMap::new(),
        started: 0,
        sender,
        ended,
        finished: BTreeSet::new(),
        ends: None,
        logged: None,
        asked: 0,
        missing: 0,
    };
    let outcome = follower.follow().await;
    follower.wait_for_workers().await;
    outcome
}

/// Returns at this time; never if there is none.
async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

impl Follower {
    async fn follow(&mut self) -> Result<(), Failure> {
        let what = format!("{} at {}", self.topic.names, self.topic.shared.server.address);
        let mut backoff = Backoff::new(what, LONGEST_PAUSE);
        while let Some(session) = self.join(&mut backoff).await? {
            let session = Arc::new(session);
            let next = self.use_session(&session, &mut backoff).await;
            self.retire(|_| true);
            match next {
                Ok(Next::Again) => {}
                Ok(Next::Done) => {
                    self.wait_for_workers().await;
                    let shared = &self.topic.shared;
                    let complete = !*self.stop.borrow() && shared.outcome().good();
                    session.leave(shared.replay.is_some() && complete).await;
                    return Ok(());
                }
                Err(why) => return Err(why),
            }
        }
        Ok(())
    }

    /// Joins the group, however long it takes. `None` if it is asked to stop.
    async fn join(&mut self, backoff: &mut Backoff) -> Result<Option<Session>, Failure> {
        let shared = Arc::clone(&self.topic.shared);
        loop {
            let deadline = shared.connect_deadline.filter(|_| !shared.joined.load(SeqCst));
            let trouble = tokio::select! {
                () = asked(&mut self.stop) => return Ok(None),
                () = at(deadline) => Trouble::Late,
                session = Session::open(&shared.server, &self.topic.names) => match session {
                    Ok(session) => return Ok(Some(session)),
                    Err(trouble) => trouble,
                },
            };
            let missing = shared.once && matches!(trouble, Trouble::NoTopic);
            if missing || trouble.is_hopeless() && !shared.joined.load(SeqCst) {
                let address = &shared.server.address;
                let why = format!("{} at {address}: {trouble}", self.topic.names);
                return Err(Failure::Start(why));
            }
            let time = backoff.failed(&trouble.to_string());
            if deadline.is_some_and(|deadline| deadline <= Instant::now() + time) {
                let address = &shared.server.address;
                return Err(Failure::Start(format!(
                    "{address} was not reached within --connect-timeout: {trouble}"
                )));
            }
            if !pause(time, &mut self.stop).await {
                return Ok(None);
            }
        }
    }

    /// Lets workers read the partitions of this member, until the connection is lost.
    async fn use_session(&mut self, session: &Arc<Session>, backoff: &mut Backoff) -> Result<Next, Failure> {
        (self.asked, self.missing) = (0, 0);
        let mut stop = self.stop.clone();
        let mut ticks = interval(ASKING);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let trouble = tokio::select! {
                () = asked(&mut stop) => return Ok(Next::Done),
                _ = ticks.tick() => tokio::select! {
                    () = asked(&mut stop) => return Ok(Next::Done),
                    taken = self.take_up(session, backoff) => match taken {
                        Ok(true) => return Ok(Next::Done),
                        Ok(false) => continue,
                        Err(Trouble::MadeAnew) => return Ok(Next::Again),
                        Err(trouble) => trouble,
                    },
                },
                Some((number, partition, end)) = self.ended.recv() => {
                    let worker = self.workers.get(&partition).filter(|worker| worker.number == number);
                    // A worker's report about an earlier connection is outdated.
                    let current = worker.is_some_and(|worker| !*worker.over.borrow());
                    if worker.is_some() {
                        self.workers.remove(&partition);
                    }
                    match end {
                        End::Broken(why) => return Err(Failure::Other(why)),
                        End::Finished | End::Failed => {
                            self.finished.insert(partition);
                            ticks.reset_immediately();
                            continue;
                        }
                        End::Trouble(trouble) if current && !matches!(trouble, Trouble::NotOurs) => trouble,
                        End::Trouble(_) | End::Asked => continue,
                    }
                }
            };
            let time = backoff.failed(&trouble.to_string());
            self.logged = None;
            return Ok(if pause(time, &mut stop).await { Next::Again } else { Next::Done });
        }
    }

    /// Starts and retires workers by the server's assignment. Returns whether there is an end and it is reached.
    async fn take_up(&mut self, session: &Arc<Session>, backoff: &mut Backoff) -> Result<bool, Trouble> {
        if self.topic.shared.once && self.ends.is_none() {
            self.ends = Some(session.ends().await?);
        }
        let mut ours = session.partitions().await?;
        ours.sort_unstable();
        backoff.worked();
        self.topic.shared.joined.store(true, SeqCst);
        self.log(&ours);
        self.retire(|partition| !ours.contains(&partition));
        for partition in ours {
            let idle = self.workers.get(&partition).is_none_or(|worker| *worker.over.borrow());
            if idle && !self.finished.contains(&partition) {
                self.start(session, partition);
            }
        }
        self.drive_ghosts_out(session).await?;
        let Some(ends) = &self.ends else { return Ok(false) };
        for (partition, end) in ends {
            if !self.finished.contains(partition)
                && session.stored(*partition).await?.is_none_or(|stored| stored < *end)
            {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Recreates the group if it has members without a connection, which block their partitions.
    async fn drive_ghosts_out(&mut self, session: &Session) -> Result<(), Trouble> {
        self.asked = self.asked.wrapping_add(1);
        if self.asked > AT_FIRST && self.missing == 0 && !self.asked.is_multiple_of(ASKING_FOR_GHOSTS) {
            return Ok(());
        }
        let ghosts = session.ghosts().await?;
        self.missing = if ghosts > 0 { self.missing + 1 } else { 0 };
        if self.missing < CERTAIN {
            return Ok(());
        }
        let names = &self.topic.names;
        let group = shown(&names.group, LONGEST_NAME);
        log::line(
            Level::Warn,
            &format!(
                "{names}: {ghosts} of the members of {group} are not connected any more, which the server does not notice: \
                 the group is made anew, with its offsets"
            ),
        );
        session.drive_out().await?;
        Err(Trouble::MadeAnew)
    }

    fn log(&mut self, ours: &[u32]) {
        if self.logged.as_deref() == Some(ours) {
            return;
        }
        let names = &self.topic.names;
        let group = shown(&names.group, LONGEST_NAME);
        let list = ours.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
        let what =
            if ours.is_empty() { "no partition for now".to_owned() } else { format!("partitions {list}") };
        log::line(Level::Info, &format!("{names}: reading {what} as a member of {group}"));
        self.logged = Some(ours.to_vec());
    }

    /// Stops reading these partitions after the batches that are being delivered.
    fn retire(&self, which: impl Fn(u32) -> bool) {
        for (partition, worker) in &self.workers {
            if which(*partition) {
                worker.over.send_replace(true);
            }
        }
    }

    fn start(&mut self, session: &Arc<Session>, partition: u32) {
        self.started += 1;
        let (over, receiver) = watch::channel(false);
        let number = self.started;
        let worker = Worker {
            topic: Arc::clone(&self.topic),
            session: Arc::clone(session),
            partition,
            limit: self.ends.as_ref().map_or(Limit::Never, |ends| {
                ends.get(&partition).map_or(Limit::Nothing, |end| Limit::Offset(*end))
            }),
            over: receiver,
        };
        let sender = self.sender.clone();
        // Batches from an earlier connection that are still being delivered go first.
        let before = self.workers.remove(&partition);
        let handle = tokio::spawn(async move {
            if let Some(before) = before {
                let _ = before.handle.await;
            }
            let end = worker.run().await;
            // If nobody listens, everything is over.
            let _ = sender.send((number, partition, end));
        });
        self.workers.insert(partition, Running { number, over, handle });
    }

    /// Waits for the batches that are being delivered.
    async fn wait_for_workers(&mut self) {
        self.retire(|_| true);
        for (_, worker) in self.workers.drain() {
            // A panic was logged.
            let _ = worker.handle.await;
        }
    }
}
