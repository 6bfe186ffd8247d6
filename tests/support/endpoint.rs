//! A scripted HTTP/1.1 endpoint on a free loopback port, with the faults of real ones.

use std::{
    collections::BTreeMap,
    io::{self, BufRead, BufReader, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

/// A request that arrived in full.
#[derive(Debug, Clone)]
pub struct Request {
    /// Its place in the order of arrival over all connections.
    pub index: usize,
    /// The connection it came on, in the order of acceptance.
    pub connection: usize,
    pub method: String,
    /// With the query.
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub at: Instant,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(other, _)| other.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }
}

/// What the endpoint does about a request.
#[derive(Debug, Clone)]
pub struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Content,
    delay: Duration,
    end: End,
}

#[derive(Debug, Clone)]
enum Content {
    Bytes(Vec<u8>),
    /// So many zeros, never held in memory.
    Zeros(u64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    KeepAlive,
    /// Closes after the answer without having said so.
    Close,
    /// Resets the connection in place of an answer.
    Reset,
    /// Resets it after so many bytes of the body.
    CutAfter(usize),
    /// Goes silent in place of an answer.
    Stall,
    /// Goes silent after so many bytes of the body.
    StallAfter(usize),
}

impl Answer {
    pub fn status(status: u16) -> Self {
        let body = Content::Bytes(Vec::new());
        Self { status, headers: Vec::new(), body, delay: Duration::ZERO, end: End::KeepAlive }
    }

    /// Closes the connection with a reset once the request is read.
    pub fn reset() -> Self {
        Self { end: End::Reset, ..Self::status(0) }
    }

    /// Never answers.
    pub fn stall() -> Self {
        Self { end: End::Stall, ..Self::status(0) }
    }

    /// A body of so many bytes.
    pub fn huge(bytes: u64) -> Self {
        Self { body: Content::Zeros(bytes), ..Self::status(200) }
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Content::Bytes(body.into());
        self
    }

    /// Answers only after a while.
    pub fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Closes the connection after the answer, though it reads as if it stayed open.
    pub fn closing(mut self) -> Self {
        self.end = End::Close;
        self
    }

    /// Resets the connection after so many bytes of the body.
    pub fn cut_after(mut self, bytes: usize) -> Self {
        self.end = End::CutAfter(bytes);
        self
    }

    /// Goes silent after so many bytes of the body.
    pub fn stalling_after(mut self, bytes: usize) -> Self {
        self.end = End::StallAfter(bytes);
        self
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
    requests: Mutex<Vec<Request>>,
    arrived: Condvar,
    accepted: AtomicUsize,
    in_flight: AtomicUsize,
    most_in_flight: AtomicUsize,
    stopped: AtomicBool,
    /// Told when the endpoint stops, for those who delay or stall.
    stop: (Mutex<()>, Condvar),
    open: Mutex<BTreeMap<usize, TcpStream>>,
}

impl Endpoint {
    /// Answers each request as the script says.
    pub fn start(script: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let shared = Arc::<Shared>::default();
        let script = Arc::new(script);
        let accepting = thread::spawn({
            let shared = shared.clone();
            move || accept(&listener, &shared, &script)
        });
        Self { address, shared, accepting: Some(accepting) }
    }

    /// Answers every request with this status.
    pub fn answering(status: u16) -> Self {
        Self::start(move |_| Answer::status(status))
    }

    /// Answers the first requests in turn, and all later ones with 200.
    pub fn sequence(answers: Vec<Answer>) -> Self {
        Self::start(move |request| answers.get(request.index).cloned().unwrap_or_else(|| Answer::status(200)))
    }

    pub fn url(&self) -> String {
        format!("http://{}/in", self.address)
    }

    /// All that arrived so far, in order.
    pub fn requests(&self) -> Vec<Request> {
        lock(&self.shared.requests).clone()
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> usize {
        self.shared.accepted.load(SeqCst)
    }

    /// The most requests that were being answered at one time.
    pub fn max_in_flight(&self) -> usize {
        self.shared.most_in_flight.load(SeqCst)
    }

    /// Waits until this many requests arrived.
    pub fn wait_for_requests(&self, count: usize, timeout: Duration) {
        let requests = lock(&self.shared.requests);
        let wait =
            self.shared.arrived.wait_timeout_while(requests, timeout, |requests| requests.len() < count);
        let (requests, wait) = wait.unwrap_or_else(PoisonError::into_inner);
        assert!(!wait.timed_out(), "{} of {count} requests arrived in {timeout:?}", requests.len());
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
        if let Some(accepting) = self.accepting.take() {
            accepting.join().expect("the endpoint's thread does not panic");
        }
    }
}

/// A URL on which nobody listens.
pub fn refused_url() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    format!("http://{}/in", listener.local_addr().expect("a bound socket has an address"))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn accept<S>(listener: &TcpListener, shared: &Arc<Shared>, script: &Arc<S>)
where
    S: Fn(&Request) -> Answer + Send + Sync + 'static,
{
    let mut serving = Vec::new();
    for stream in listener.incoming() {
        if shared.stopped.load(SeqCst) {
            break;
        }
        let Ok(stream) = stream else { continue };
        let connection = shared.accepted.fetch_add(1, SeqCst);
        lock(&shared.open).extend(stream.try_clone().map(|stream| (connection, stream)));
        serving.push(thread::spawn({
            let (shared, script) = (shared.clone(), script.clone());
            move || {
                // A client that goes away in the middle is no concern of the endpoint.
                drop(serve(stream, connection, &shared, &*script));
                // A connection closes, or resets, when its last handle is gone.
                lock(&shared.open).remove(&connection);
            }
        }));
    }
    for thread in serving {
        let _ = thread.join();
    }
}

fn serve(
    stream: TcpStream,
    connection: usize,
    shared: &Shared,
    script: &dyn Fn(&Request) -> Answer,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::with_capacity(64 * 1024, stream);
    while let Some(mut request) = read(&mut reader, &mut writer, connection)? {
        let in_flight = shared.in_flight.fetch_add(1, SeqCst) + 1;
        shared.most_in_flight.fetch_max(in_flight, SeqCst);
        {
            let mut requests = lock(&shared.requests);
            request.index = requests.len();
            requests.push(request.clone());
            shared.arrived.notify_all();
        }
        let answer = script(&request);
        pause(shared, answer.delay);
        shared.in_flight.fetch_sub(1, SeqCst);
        write(&mut writer, &answer, request.method == "HEAD", shared)?;
        match answer.end {
            End::KeepAlive => {}
            End::Close => return writer.shutdown(Shutdown::Both),
            End::Reset | End::CutAfter(_) => return reset(&writer),
            End::Stall | End::StallAfter(_) => pause(shared, Duration::MAX),
        }
    }
    Ok(())
}

/// Waits, but not beyond the endpoint's own end.
fn pause(shared: &Shared, duration: Duration) {
    if duration.is_zero() {
        return;
    }
    let guard = lock(&shared.stop.0);
    // A century stands for ever: the condition variable cannot wait longer than clocks can tell.
    let duration = duration.min(Duration::from_secs(100 * 365 * 24 * 3600));
    drop(shared.stop.1.wait_timeout_while(guard, duration, |()| !shared.stopped.load(SeqCst)));
}

/// Makes a reset of the close that follows.
fn reset(stream: &TcpStream) -> io::Result<()> {
    socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO))?;
    Ok(())
}

fn write(writer: &mut TcpStream, answer: &Answer, head: bool, shared: &Shared) -> io::Result<()> {
    if matches!(answer.end, End::Reset | End::Stall) {
        return Ok(());
    }
    let length = match &answer.body {
        Content::Bytes(bytes) => bytes.len() as u64,
        Content::Zeros(count) => *count,
    };
    let mut out = format!("HTTP/1.1 {} Scripted\r\ncontent-length: {length}\r\n", answer.status).into_bytes();
    for (name, value) in &answer.headers {
        out.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    out.extend_from_slice(b"\r\n");
    let sent = match answer.end {
        End::CutAfter(bytes) | End::StallAfter(bytes) => bytes,
        _ if head => 0,
        _ => usize::MAX,
    };
    match &answer.body {
        Content::Bytes(bytes) => {
            out.extend_from_slice(&bytes[..bytes.len().min(sent)]);
            writer.write_all(&out)
        }
        Content::Zeros(count) => {
            writer.write_all(&out)?;
            let zeros = [0; 64 * 1024];
            let mut left = (*count).min(sent as u64);
            while left > 0 && !shared.stopped.load(SeqCst) {
                let part = left.min(zeros.len() as u64);
                writer.write_all(&zeros[..usize::try_from(part).unwrap_or(zeros.len())])?;
                left -= part;
            }
            Ok(())
        }
    }
}

/// Reads one request; `None` once the client closed the connection.
fn read(
    reader: &mut BufReader<TcpStream>,
    writer: &mut TcpStream,
    connection: usize,
) -> io::Result<Option<Request>> {
    let Some(line) = read_line(reader)? else { return Ok(None) };
    let mut words = line.split(' ');
    let (method, path) =
        (words.next().unwrap_or_default().to_owned(), words.next().unwrap_or_default().to_owned());
    let mut headers = Vec::new();
    while let Some(line) = read_line(reader)?.filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':').ok_or(io::ErrorKind::InvalidData)?;
        headers.push((name.to_owned(), value.trim().to_owned()));
    }
    let mut request =
        Request { index: 0, connection, method, path, headers, body: Vec::new(), at: Instant::now() };
    if request.header("expect").is_some() {
        writer.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    if request.header("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
        loop {
            let size = read_line(reader)?.ok_or(io::ErrorKind::UnexpectedEof)?;
            let size = u64::from_str_radix(size.trim(), 16).map_err(|_| io::ErrorKind::InvalidData)?;
            reader.by_ref().take(size).read_to_end(&mut request.body)?;
            read_line(reader)?;
            if size == 0 {
                break;
            }
        }
    } else if let Some(length) =
        request.header("content-length").and_then(|length| length.parse::<usize>().ok())
    {
        request.body.resize(length, 0);
        reader.read_exact(&mut request.body)?;
    }
    request.at = Instant::now();
    Ok(Some(request))
}

fn read_line(reader: &mut BufReader<TcpStream>) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    if reader.read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    Ok(Some(String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned()))
}
