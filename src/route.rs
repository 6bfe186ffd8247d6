//! Routes: where the messages of a topic go, and how they become bodies.

use std::sync::Arc;

use tokio::sync::watch;

use crate::{
    config::{Config, Glob, Ordering},
    deliver::{Deadline, Delivery, Endpoints, RetryState},
    encode::{Bodies, Encoded},
    lane::Item,
    otlp::Tracer,
    settle::Progress,
    telemetry::Counters,
    world::World,
};

/// The maximum number of bodies in a set, and the size in bytes from which on no further one is added.
const MOST_IN_SET: usize = 32;
const LARGEST_SET: usize = 64 * 1024;

/// All routes of a connector.
#[derive(Debug)]
pub(crate) struct Routes {
    /// The first match is used.
    in_order: Vec<Route>,
    /// One route to each endpoint.
    endpoints: Vec<Arc<Delivery>>,
    /// Never changes.
    never: watch::Sender<u64>,
}

/// The configuration and the endpoint for the messages of some topics.
#[derive(Debug)]
pub(crate) struct Route {
    /// The streams and topics; `None` for all.
    topics: Option<(Glob, Glob)>,
    pub(crate) config: Config,
    pub(crate) delivery: Arc<Delivery>,
}

impl Routes {
    /// # Errors
    /// A client cannot be built, or a secret went missing since the configuration was checked.
    pub(crate) fn open(
        config: &Config,
        counters: &Arc<Counters>,
        tracer: Option<&Arc<Tracer>>,
        world: &World,
    ) -> Result<Self, String> {
        let mut shared = Endpoints::default();
        let mut open = |topics, config: &Config| -> Result<Route, String> {
            let delivery =
                Arc::new(Delivery::to(config, &mut shared, counters.clone(), tracer.cloned(), world)?);
            Ok(Route { topics, config: config.clone(), delivery })
        };
        let mut routes = Vec::with_capacity(config.routes.len() + 1);
        for (index, route) in config.routes.iter().enumerate() {
            let topics = Some((route.stream.clone(), route.topic.clone()));
            routes.push(open(topics, &route.config).map_err(|why| format!("routes[{index}]: {why}"))?);
        }
        if config.has_url {
            routes.push(open(None, config)?);
        }
        let mut endpoints: Vec<Arc<Delivery>> = Vec::new();
        for Route { delivery, .. } in &routes {
            if !endpoints.iter().any(|other| other.is_beside(delivery)) {
                endpoints.push(delivery.clone());
            }
        }
        Ok(Self { in_order: routes, endpoints, never: watch::Sender::new(0) })
    }

    /// The route of a topic, if there is one.
    pub(crate) fn of(&self, stream: &str, topic: &str) -> Option<&Route> {
        self.in_order.iter().find(|route| match &route.topics {
            None => true,
            Some((streams, topics)) => streams.matches(stream) && topics.matches(topic),
        })
    }

    /// Each route.
    pub(crate) fn all(&self) -> &[Route] {
        &self.in_order
    }

    /// One route to each endpoint.
    pub(crate) fn endpoints(&self) -> &[Arc<Delivery>] {
        &self.endpoints
    }

    /// Changes whenever the breaker of a topic's endpoint closes.
    pub(crate) fn breaker_closed(&self, stream: &str, topic: &str) -> watch::Receiver<u64> {
        let route = self.of(stream, topic);
        route.map_or_else(|| self.never.subscribe(), |route| route.delivery.breaker_closed())
    }

    /// Changes whenever an operator asks to retry now at a topic's endpoint.
    pub(crate) fn retries_now(&self, stream: &str, topic: &str) -> watch::Receiver<u64> {
        let route = self.of(stream, topic);
        route.map_or_else(|| self.never.subscribe(), |route| route.delivery.retries_now())
    }
}

impl Route {
    /// Names its topics, as the end of a sentence; empty if it is for all topics.
    pub(crate) fn for_topics(&self) -> String {
        match &self.topics {
            None => String::new(),
            Some((streams, topics)) => format!(", for topic {topics} of stream {streams}"),
        }
    }

    /// How many bodies of a batch are started at once if there is no order: more than there are slots, since those that wait
    /// for a retry hold none, and must not block the others.
    pub(crate) fn at_once(&self) -> usize {
        let spare = if self.config.body.mode.batches() { 4 } else { 64 };
        (self.config.concurrency.max().get() * 2).max(spare)
    }

    /// The maximum size that a body should have now, in bytes.
    pub(crate) fn body_limit(&self) -> usize {
        self.delivery.body_limit().min(self.config.body.max_bytes)
    }

    /// The sets of bodies of a lane.
    pub(crate) fn sets<'l>(
        &'l self,
        lane: Bodies<'l>,
        deadline: &'l Deadline,
        progress: Option<&'l dyn Progress>,
    ) -> Sets<'l> {
        Sets {
            route: self,
            lane,
            deadline,
            progress,
            most: 1,
            is_first: true,
            is_done: false,
            held_back: Vec::new(),
        }
    }
}

/// The bodies of a lane, encoded in sets that are handed to the other thread together: one large body or many small ones.
pub(crate) struct Sets<'l> {
    route: &'l Route,
    lane: Bodies<'l>,
    deadline: &'l Deadline,
    progress: Option<&'l dyn Progress>,
    /// How many bodies the next set may have. Waking the other thread costs more than a small body does; but the first is
    /// handed over at once.
    most: usize,
    /// Whether nothing was encoded yet.
    is_first: bool,
    is_done: bool,
    held_back: Vec<usize>,
}

impl Sets<'_> {
    /// The next set; `None` if there is none.
    pub(crate) fn next(&mut self) -> Option<Vec<Item>> {
        if self.is_done {
            return None;
        }
        if self.deadline.stops() {
            // Messages that are held back are encoded again, together with those refused among them, so that bodies come out
            // the same.
            self.is_done = true;
            return None;
        }
        let holds_back = self.progress.is_some_and(Progress::holds_back);
        let noted = self.progress.filter(|_| self.route.config.body.mode.batches());
        let in_order = self.route.config.ordering != Ordering::None;
        let mut set = Vec::with_capacity(self.most);
        let mut bytes = 0;
        while set.len() < self.most && bytes < LARGEST_SET {
            match self.lane.next_within(self.route.delivery.body_limit()) {
                // With nothing before it, it is sent as it is: otherwise nothing would be.
                Some(Encoded::Body(body))
                    if holds_back && !self.is_first && self.lane.has_room_behind(&body) =>
                {
                    self.held_back = body.messages().collect();
                    self.is_done = true;
                    break;
                }
                Some(Encoded::Body(body)) => {
                    bytes += body.bytes.len();
                    let retry = match (self.progress, body.messages().next()) {
                        (Some(progress), Some(first)) => progress.retry(first),
                        _ => RetryState::default(),
                    };
                    // With an order, only the first of them is certain to be sent: those behind one that has to be sent again
                    // may still change, and are recorded when they are sent.
                    let unnoted = noted.is_some() && in_order && !self.is_first;
                    set.push(Item::Body(body, retry, unnoted));
                }
                Some(Encoded::Refused(message, refusal)) => set.push(Item::Refused(message, refusal)),
                None => break,
            }
            self.is_first = false;
        }
        self.is_done |= set.is_empty() || self.lane.is_done();
        if set.is_empty() {
            return None;
        }
        if let Some(progress) = noted {
            let bodies: Vec<Vec<usize>> = set
                .iter()
                .filter_map(|item| match item {
                    Item::Body(body, _, false) => Some(body.messages().collect()),
                    Item::Body(..) | Item::Refused(..) => None,
                })
                .collect();
            progress.sending(&bodies);
        }
        self.most = (self.most * 2).min(MOST_IN_SET);
        Some(set)
    }

    /// Whether the first body is a large one.
    pub(crate) fn begins_large(&self) -> bool {
        self.route.config.body.mode.batches() && self.lane.payload_bytes() >= LARGEST_SET
    }

    /// Whether there is no other set.
    pub(crate) fn is_done(&self) -> bool {
        self.is_done
    }

    /// Returns the messages of a last body that is not full, if more may wait behind it.
    pub(crate) fn into_held_back(self) -> Vec<usize> {
        self.held_back
    }
}
