//! An endpoint that has good and bad times, and remembers what it took.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU8, Ordering::SeqCst},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use serde::Deserialize;
use socket2::{Domain, Socket, Type};

use super::{
    endpoint::{Answer, Endpoint, Request},
    random::Random,
};

const CALM: u8 = 0;
const SLOW: u8 = 1;
const FAULTY: u8 = 2;
const AWAY: u8 = 3;

/// A message, as its payload tells.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub struct Message {
    #[serde(rename = "t")]
    pub topic: String,
    #[serde(rename = "n")]
    pub offset: u64,
}

/// A request, and what became of it.
#[derive(Debug, Clone)]
pub struct Arrival {
    pub key: String,
    pub body: Vec<u8>,
    pub messages: Vec<Message>,
    /// Whether it was answered with success.
    pub taken: bool,
    /// When it is answered.
    pub at: Instant,
}

/// A loopback port that nobody else is given, whether somebody listens on it now or not.
#[derive(Debug)]
pub struct Port {
    pub number: u16,
    _holder: Socket,
}

impl Port {
    /// # Panics
    /// The system has none to give.
    pub fn reserve() -> Self {
        let holder = Socket::new(Domain::IPV4, Type::STREAM, None).expect("the system has sockets");
        // Those who listen share it, as their sockets have this set too.
        holder.set_reuse_address(true).expect("a socket can be shared");
        holder.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("loopback has a free port");
        let address = holder.local_addr().ok().and_then(|address| address.as_socket());
        Self { number: address.expect("a bound socket has an address").port(), _holder: holder }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/in", self.number)
    }
}

/// The endpoint, with weather that changes until [`clear_up`](Self::clear_up).
#[derive(Debug)]
pub struct Weather {
    port: Port,
    seen: Arc<Seen>,
    stop: Option<mpsc::Sender<()>>,
    changing: Option<thread::JoinHandle<Endpoint>>,
    endpoint: Option<Endpoint>,
}

#[derive(Debug)]
struct Seen {
    mood: AtomicU8,
    random: Mutex<Random>,
    arrivals: Mutex<Vec<Arrival>>,
    away: Mutex<Vec<Instant>>,
    poison: fn(&Message) -> bool,
}

impl Weather {
    /// Slow, faulty and away at times. Bodies with a message that is `poison` are refused with 400.
    pub fn start(seed: u64, poison: fn(&Message) -> bool) -> Self {
        let port = Port::reserve();
        let shared = Arc::new(Seen {
            mood: AtomicU8::new(CALM),
            random: Mutex::new(Random(seed)),
            arrivals: Mutex::default(),
            away: Mutex::default(),
            poison,
        });
        let (stop, stopped) = mpsc::channel();
        let changing = thread::spawn({
            let (shared, number) = (shared.clone(), port.number);
            move || shared.change(number, Random(!seed), &stopped)
        });
        Self { port, seen: shared, stop: Some(stop), changing: Some(changing), endpoint: None }
    }

    pub fn url(&self) -> String {
        self.port.url()
    }

    /// From now on every request is answered at once, as it should be.
    ///
    /// # Panics
    /// The endpoint did.
    pub fn clear_up(&mut self) {
        drop(self.stop.take());
        if let Some(changing) = self.changing.take() {
            self.endpoint = Some(changing.join().expect("the weather changes"));
        }
    }

    /// All requests so far, in the order of their arrival.
    pub fn arrivals(&self) -> Vec<Arrival> {
        lock(&self.seen.arrivals).clone()
    }

    /// When the endpoint went away: answers that were on their way then were lost.
    pub fn away(&self) -> Vec<Instant> {
        lock(&self.seen.away).clone()
    }
}

impl Drop for Weather {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(changing) = self.changing.take() {
            assert!(changing.join().is_ok() || thread::panicking(), "the endpoint panicked");
        }
    }
}

impl Seen {
    fn change(self: &Arc<Self>, port: u16, mut random: Random, stop: &mpsc::Receiver<()>) -> Endpoint {
        let start = || {
            let seen = self.clone();
            Endpoint::start_on(port, move |request| seen.answer(request))
        };
        let mut endpoint = Some(start());
        loop {
            let mood = [CALM, CALM, SLOW, SLOW, FAULTY, FAULTY, AWAY]
                [usize::try_from(random.between(0, 6)).expect("it is small")];
            self.mood.store(mood, SeqCst);
            if mood == AWAY {
                lock(&self.away).push(Instant::now());
                endpoint = None;
            } else {
                endpoint.get_or_insert_with(start);
            }
            let lasts = Duration::from_millis(random.between(20, 250));
            if stop.recv_timeout(lasts) != Err(mpsc::RecvTimeoutError::Timeout) {
                self.mood.store(CALM, SeqCst);
                return endpoint.unwrap_or_else(start);
            }
        }
    }

    fn answer(&self, request: &Request) -> Answer {
        let messages: Vec<Message> = request
            .body
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_slice(line).expect("the message as it was consumed"))
            .collect();
        let key = request.header("idempotency-key").expect("every request has a key").to_owned();
        let good = || if messages.iter().any(self.poison) { 400 } else { 200 };
        let mut random = lock(&self.random);
        let mut delay = Duration::ZERO;
        let status = match self.mood.load(SeqCst) {
            SLOW => {
                delay = Duration::from_millis(random.between(1, 60));
                Some(good())
            }
            FAULTY => match random.between(0, 99) {
                0..30 => Some(503),
                30..50 => None,
                _ => Some(good()),
            },
            AWAY => None,
            _ => Some(good()),
        };
        drop(random);
        let (taken, at) = (status == Some(200), Instant::now() + delay);
        let body = request.body.clone();
        lock(&self.arrivals).push(Arrival { key, body, messages, taken, at });
        status.map_or_else(Answer::reset, |status| Answer::status(status).after(delay))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
