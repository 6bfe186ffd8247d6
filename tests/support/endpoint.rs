//! A scripted HTTP/1.1 endpoint on a free loopback port, with the faults of real ones. It has a thread for
//! each connection, and sockets without a client library between, so that it can break off at any byte.

mod answer;
mod request;

use std::{
    collections::BTreeMap,
    io::{self, BufReader, ErrorKind},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

use socket2::{Domain, SockRef, Socket, Type};

use self::{
    answer::End,
    request::{read_head, read_request},
};
pub use answer::Answer;
pub use request::Request;

/// What becomes of a connection before any request on it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    Open,
    /// Reset once it is accepted.
    Reset,
    /// Reset once the head of a request is read, with its body on the way.
    ResetAfterHead,
    /// Accepted and never read from.
    Stall,
}

/// A request and what answered it.
#[derive(Debug, Clone)]
pub struct Exchange {
    pub request: Request,
    /// The status of the answer; `None` where there was none, or none that reads as HTTP.
    pub status: Option<u16>,
    /// When the answer began to be sent; `None` where it did not so far.
    pub answered: Option<Instant>,
}

impl Exchange {
    /// Whether the endpoint took what is in the request.
    pub fn is_success(&self) -> bool {
        self.status.is_some_and(|status| (200..300).contains(&status))
    }
}

/// An endpoint that runs until it is dropped.
#[derive(Debug)]
pub struct Endpoint {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<thread::JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    requests: Mutex<Vec<Arc<Request>>>,
    /// By the index of the request.
    answers: Mutex<BTreeMap<usize, (Option<u16>, Instant)>>,
    arrived: Condvar,
    accepted: AtomicUsize,
    in_flight: AtomicUsize,
    most_in_flight: AtomicUsize,
    stopped: AtomicBool,
    /// Told when the endpoint stops, for those who pause.
    stop: (Mutex<()>, Condvar),
    open: Mutex<BTreeMap<usize, Arc<TcpStream>>>,
}

impl Endpoint {
    /// Answers each request as the script says.
    pub fn start(script: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        Self::start_on(0, script)
    }

    /// The same on this port, for an endpoint that comes up late or again.
    pub fn start_on(port: u16, script: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        Self::listen(port, |_| Door::Open, script)
    }

    /// The same behind a door that sees the number of each connection, from 0.
    pub fn behind(
        door: impl Fn(usize) -> Door + Send + Sync + 'static,
        script: impl Fn(&Request) -> Answer + Send + Sync + 'static,
    ) -> Self {
        Self::listen(0, door, script)
    }

    /// Answers every request with this status.
    pub fn answering(status: u16) -> Self {
        Self::start(move |_| Answer::status(status))
    }

    /// Answers the first requests in turn, and all later ones with 200.
    pub fn sequence(answers: Vec<Answer>) -> Self {
        Self::start(move |request| answers.get(request.index).cloned().unwrap_or_else(|| Answer::status(200)))
    }

    fn listen(
        port: u16,
        door: impl Fn(usize) -> Door + Send + Sync + 'static,
        script: impl Fn(&Request) -> Answer + Send + Sync + 'static,
    ) -> Self {
        super::plugin::log_begins();
        let listener = bind(port);
        let address = listener.local_addr().expect("a bound socket has an address");
        let shared = Arc::<Shared>::default();
        let accepting = thread::spawn({
            let shared = shared.clone();
            move || shared.accept(&listener, &door, &script)
        });
        Self { address, shared, accepting: Some(accepting) }
    }

    pub fn url(&self) -> String {
        format!("{}/in", self.origin())
    }

    /// Scheme, host and port: what logs and dead letters show of the URL.
    pub fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// All that arrived so far in full, in order, whatever became of them.
    pub fn requests(&self) -> Vec<Request> {
        lock(&self.shared.requests).iter().map(|request| Request::clone(request)).collect()
    }

    /// The same with what was answered.
    pub fn exchanges(&self) -> Vec<Exchange> {
        let requests = self.requests();
        let answers = lock(&self.shared.answers);
        let exchange = |request: Request| {
            let answer = answers.get(&request.index).copied();
            let (status, answered) = answer.map_or((None, None), |(status, at)| (status, Some(at)));
            Exchange { request, status, answered }
        };
        requests.into_iter().map(exchange).collect()
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> usize {
        self.shared.accepted.load(SeqCst)
    }

    /// The most requests that waited for the start of their answer at one time. One that stalls counts until
    /// its client hangs up.
    pub fn max_in_flight(&self) -> usize {
        self.shared.most_in_flight.load(SeqCst)
    }

    /// Requests that wait for the start of their answer now.
    pub fn in_flight(&self) -> usize {
        self.shared.in_flight.load(SeqCst)
    }

    /// Waits until this many requests arrived.
    ///
    /// # Panics
    /// They do not arrive in time.
    #[track_caller]
    pub fn wait_for_requests(&self, count: usize, timeout: Duration) {
        let requests = lock(&self.shared.requests);
        let wait =
            self.shared.arrived.wait_timeout_while(requests, timeout, |requests| requests.len() < count);
        let (requests, wait) = wait.unwrap_or_else(PoisonError::into_inner);
        let arrived = requests.len();
        drop(requests);
        assert!(!wait.timed_out(), "{arrived} of {count} requests arrived in {timeout:?}");
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        {
            let _guard = lock(&self.shared.stop.0);
            self.shared.stopped.store(true, SeqCst);
            self.shared.stop.1.notify_all();
        }
        for connection in lock(&self.shared.open).values() {
            let _ = connection.shutdown(Shutdown::Both);
        }
        // Wakes the thread that accepts; it sees that it is to stop.
        let _ = TcpStream::connect(self.address);
        let ended = self.accepting.take().map_or(Ok(()), thread::JoinHandle::join);
        assert!(ended.is_ok() || thread::panicking(), "the script of an endpoint panicked");
    }
}

/// A URL on which nobody listens, nor will as long as this process lives.
pub fn refused_url() -> String {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("the system has sockets");
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("loopback has a free port");
    let address = socket.local_addr().ok().and_then(|address| address.as_socket());
    // Bound, but not listening: the port refuses, and nobody else is given it.
    std::mem::forget(socket);
    format!("http://{}/in", address.expect("a bound socket has an address"))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn accept(
        &self,
        listener: &TcpListener,
        door: &(impl Fn(usize) -> Door + Sync),
        script: &(impl Fn(&Request) -> Answer + Sync),
    ) {
        // The scope ends with the last connection, and panics if the thread of one did.
        thread::scope(|scope| {
            for stream in listener.incoming() {
                if self.stopped.load(SeqCst) {
                    break;
                }
                let Ok(stream) = stream.map(Arc::new) else { continue };
                let connection = self.accepted.fetch_add(1, SeqCst);
                let listed = Listed::new(self, connection, stream.clone());
                // Who stops the endpoint and saw the list too early for this connection said so before.
                if self.stopped.load(SeqCst) {
                    break;
                }
                scope.spawn(move || {
                    let _listed = listed;
                    // A client that goes away in the middle is no concern of the endpoint.
                    let _ = self.serve(&stream, connection, door(connection), script);
                });
            }
        });
    }

    fn serve(
        &self,
        stream: &TcpStream,
        connection: usize,
        door: Door,
        script: &impl Fn(&Request) -> Answer,
    ) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut reader = BufReader::with_capacity(64 * 1024, stream);
        match door {
            Door::Open => {}
            Door::Reset => return reset_on_close(stream),
            Door::ResetAfterHead => return read_head(&mut reader).and_then(|_| reset_on_close(stream)),
            Door::Stall => {
                self.pause(Duration::from_hours(24));
                return Ok(());
            }
        }
        while let Some(request) = read_request(&mut reader, stream, connection)? {
            let in_flight = InFlight::new(self);
            let request = self.record(request);
            let answer = script(&request);
            self.pause(answer.delay);
            // Before a client can act on it.
            lock(&self.answers).insert(request.index, (answer.announces(), Instant::now()));
            // A client that has its answer may send its next request before this thread goes on.
            let _in_flight = matches!(answer.end, End::Stall(_)).then_some(in_flight);
            answer.write(stream, request.method == "HEAD")?;
            match answer.end {
                End::KeepAlive => {}
                End::Close => break,
                End::Reset(_) => return reset_on_close(stream),
                End::Stall(_) => {
                    io::copy(&mut reader, &mut io::sink())?;
                    break;
                }
            }
        }
        Ok(())
    }

    fn record(&self, mut request: Request) -> Arc<Request> {
        let mut requests = lock(&self.requests);
        request.index = requests.len();
        let request = Arc::new(request);
        requests.push(request.clone());
        self.arrived.notify_all();
        request
    }

    /// Waits, but not beyond the endpoint's own end.
    fn pause(&self, duration: Duration) {
        if !duration.is_zero() {
            let guard = lock(&self.stop.0);
            drop(self.stop.1.wait_timeout_while(guard, duration, |()| !self.stopped.load(SeqCst)));
        }
    }
}

/// A process that is being started has the listener of before as well, until it runs its own program.
fn bind(port: u16) -> TcpListener {
    let began = Instant::now();
    loop {
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            Err(why) if why.kind() == ErrorKind::AddrInUse && began.elapsed() < Duration::from_secs(5) => {
                thread::sleep(Duration::from_millis(1));
            }
            bound => return bound.expect("the port is free"),
        }
    }
}

/// An open connection that the end of the endpoint is to shut.
struct Listed<'a>(&'a Shared, usize);

impl<'a> Listed<'a> {
    fn new(shared: &'a Shared, connection: usize, stream: Arc<TcpStream>) -> Self {
        lock(&shared.open).insert(connection, stream);
        Self(shared, connection)
    }
}

impl Drop for Listed<'_> {
    fn drop(&mut self) {
        lock(&self.0.open).remove(&self.1);
    }
}

struct InFlight<'a>(&'a Shared);

impl<'a> InFlight<'a> {
    fn new(shared: &'a Shared) -> Self {
        let now = shared.in_flight.fetch_add(1, SeqCst) + 1;
        shared.most_in_flight.fetch_max(now, SeqCst);
        Self(shared)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, SeqCst);
    }
}

/// Makes a reset of the close that follows.
fn reset_on_close(stream: &TcpStream) -> io::Result<()> {
    SockRef::from(stream).set_linger(Some(Duration::ZERO))
}
