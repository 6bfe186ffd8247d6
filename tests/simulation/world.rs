//! The world that a seed decides: clock, chance, network and disk.

use std::{
    future::{Future, pending},
    io,
    path::Path,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};

use iggy_connector_http_sink::world::{Files, NetworkFault, NetworkFaultKind as Kind, Reply, Simulation};
use reqwest::Request;
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::{
    added::{NAME, TENANT},
    disk::Disk,
    endpoint::{Says, says},
    history::{Arrival, BEGIN, Digest, History, letters},
    model::Id,
    random::Random,
    scenario::Scenario,
    secrets,
};

/// The memory for what is on its way from a spool.
const SHIPPED_MEMORY: usize = 64 * 1024 * 1024;

/// The time since the run began.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    pub(super) base: Duration,
    pub(super) begun: Instant,
}

/// The simulated time that the run of this process has come to, for whoever sees to it that it goes on.
static REACHED: AtomicU64 = AtomicU64::new(0);

pub(super) fn reached() -> u64 {
    REACHED.load(Relaxed)
}

impl Clock {
    pub(super) fn now(&self) -> Duration {
        let now = self.base + self.begun.elapsed();
        REACHED.store(now.as_micros() as u64, Relaxed);
        now
    }
}

#[derive(Debug, Clone)]
pub(super) struct SimulatedWorld {
    pub(super) scenario: Arc<Scenario>,
    pub(super) history: Arc<Mutex<History>>,
    pub(super) random: Arc<Mutex<Random>>,
    pub(super) disk: Disk,
    pub(super) clock: Clock,
}

impl Simulation for SimulatedWorld {
    fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + BEGIN + self.clock.now()
    }

    fn random(&self) -> u64 {
        let mut random = self.random.lock().unwrap();
        random.between(0, u64::from(u32::MAX)) << 32 | random.between(0, u64::from(u32::MAX))
    }

    fn send(&self, request: Request) -> Pin<Box<dyn Future<Output = Reply> + Send>> {
        let world = self.clone();
        Box::pin(async move { world.exchange(request).await })
    }

    fn folder(&self, path: &Path) -> io::Result<Arc<dyn Files>> {
        Ok(self.disk.folder(&format!("{}/", path.display())))
    }

    fn letters_take(&self) -> Duration {
        self.scenario.letters_take
    }

    fn memory(&self) -> Option<usize> {
        self.scenario.memory
    }

    fn record_read(&self, bytes: usize, beside: usize) {
        let budget = self.scenario.memory.unwrap_or(SHIPPED_MEMORY);
        if beside >= budget {
            let what =
                format!("a record of {bytes} bytes was read beside {beside} bytes: the budget is {budget}");
            self.history.lock().unwrap().violations.push(what);
        }
    }
}

impl SimulatedWorld {
    fn throw<T>(&self, throw: impl FnOnce(&mut Random) -> T) -> T {
        throw(&mut self.random.lock().unwrap())
    }

    async fn exchange(self, request: Request) -> Reply {
        if self.disk.crashed() || self.history.lock().unwrap().over {
            pending::<()>().await;
        }
        let body = request.body().and_then(|body| body.as_bytes()).unwrap_or_default().to_vec();
        if request.url().host_str() == Some("letters.test") {
            return self.keep_letters(&body).await;
        }
        let number = self.note(&request, &body);
        let (from, to) = self.scenario.latency;
        let latency = Duration::from_millis(self.throw(|random| random.between(from, to)));
        sleep(latency / 2).await;
        let said = {
            let mut history = self.history.lock().unwrap();
            if history.over {
                Says::Nothing { taken: false }
            } else {
                let arrival = &mut history.arrivals[number];
                let now = self.clock.now();
                let said = self.throw(|random| says(&self.scenario, arrival, now, random));
                arrival.ended = format!("{said:?}");
                if let Says::Items(items) = &said {
                    let refused = arrival.ids.iter().zip(items).filter(|(_, status)| **status != 200);
                    arrival.refused = refused.map(|(id, _)| *id).collect();
                }
                if said.takes() {
                    arrival.taken = Some(now);
                }
                said
            }
        };
        let fault = |kind, reused| {
            let outcome = Err(NetworkFault { kind, detail: format!("simulated: {kind:?}") });
            Reply { outcome, reused }
        };
        match said {
            Says::Nothing { .. } => pending().await,
            Says::Refuses => fault(Kind::Connect, false),
            Says::DoesNotProcess => fault(Kind::Unprocessed, true),
            Says::Resets { reused, .. } => fault(Kind::Closed, reused),
            Says::Answers { .. } | Says::Items(_) => {
                sleep(latency / 2).await;
                if said.takes() {
                    let mut history = self.history.lock().unwrap();
                    history.arrivals[number].acknowledged = Some(self.clock.now());
                }
                Reply { outcome: Ok(self.answer(&said).into()), reused: true }
            }
        }
    }

    /// Writes a request down that arrives, and checks it. Returns its number.
    fn note(&self, request: &Request, body: &[u8]) -> usize {
        let key = request.headers().get("idempotency-key").map(|key| key.to_str().unwrap().to_owned());
        let mut ids = Id::all_in(body);
        let header = |name: &str| request.headers().get(name).map(|value| value.to_str().unwrap());
        if body.is_empty() {
            ids.extend(header(NAME).and_then(Id::parse));
        }
        let tenant = header(TENANT).map(str::to_owned);
        let is_tombstone = request.method() == reqwest::Method::DELETE;
        let mut history = self.history.lock().unwrap();
        let (life, at) = (history.life, self.clock.now());
        let wrong = ids.iter().find(|id| self.scenario.tenants.get(id) != tenant.as_ref());
        if let Some(id) = wrong {
            history.violations.push(format!("{id} was sent with the tenant {tenant:?}"));
        }
        if is_tombstone != body.is_empty() || ids.is_empty() {
            history.violations.push(format!("a {} of {ids:?} with {} bytes", request.method(), body.len()));
        }
        history.arrivals.push(Arrival {
            life,
            at,
            key: key.unwrap_or_default(),
            body: Digest::of(body, &ids),
            ids,
            rotations: secrets::rotations(request.headers()),
            ended: "dropped".to_owned(),
            refused: Vec::new(),
            taken: None,
            acknowledged: None,
        });
        history.arrivals.len() - 1
    }

    /// The answer that says this.
    fn answer(&self, said: &Says) -> http::Response<String> {
        let mut answer = http::Response::builder();
        if let Says::Answers { status, .. } = said {
            answer = answer.status(*status);
        }
        if let Says::Answers { retry_after: Some((seconds, as_date)), .. } = said {
            let date = || httpdate::fmt_http_date(self.now() + Duration::from_secs(*seconds));
            let text = if *as_date { date() } else { seconds.to_string() };
            answer = answer.header("retry-after", text);
        }
        let body = match said {
            Says::Items(items) => {
                let items: Vec<_> = items.iter().map(|status| json!({ "status": status })).collect();
                json!({ "items": items }).to_string()
            }
            _ => String::new(),
        };
        answer.body(body).unwrap()
    }

    /// The endpoint for dead letters, which takes all.
    async fn keep_letters(&self, body: &[u8]) -> Reply {
        sleep(Duration::from_millis(2)).await;
        let mut history = self.history.lock().unwrap();
        let now = self.clock.now();
        for mut letter in letters(body) {
            letter.at = now;
            history.letters.push(letter);
        }
        Reply { outcome: Ok(http::Response::builder().status(200).body("").unwrap().into()), reused: true }
    }
}
