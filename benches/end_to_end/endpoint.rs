//! An endpoint that costs next to nothing.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use bytes::Bytes;
use rustix::time::{ClockId, clock_gettime};

/// An endpoint that answers every request with 200 and costs next to nothing: a blocking thread for each connection.
/// It keeps the bodies of the first so many requests.
pub(super) struct Endpoint {
    address: SocketAddr,
    pub(super) kept: Arc<Mutex<Vec<Bytes>>>,
    pub(super) answered: Arc<AtomicUsize>,
    /// The processor time of its threads, in nanoseconds, up to their last answers.
    cpu: Arc<AtomicU64>,
}

impl Endpoint {
    pub(super) fn start(keep: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let kept = Arc::<Mutex<Vec<Bytes>>>::default();
        let answered = Arc::<AtomicUsize>::default();
        let cpu = Arc::<AtomicU64>::default();
        let (store, count, time) = (kept.clone(), answered.clone(), cpu.clone());
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (store, count, time) = (store.clone(), count.clone(), time.clone());
                // A connection ends when its client goes.
                thread::spawn(move || serve(stream.unwrap(), keep, &store, &count, &time));
            }
        });
        Self { address, kept, answered, cpu }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// The processor time that this process has taken so far, without that of the endpoint.
    pub(super) fn cpu_of_others(&self) -> Duration {
        time_of(ClockId::ProcessCPUTime).saturating_sub(Duration::from_nanos(self.cpu.load(Relaxed)))
    }
}

fn serve(
    mut stream: TcpStream,
    keep: usize,
    store: &Mutex<Vec<Bytes>>,
    count: &AtomicUsize,
    cpu: &AtomicU64,
) -> Option<()> {
    stream.set_nodelay(true).unwrap();
    let mut told = Duration::ZERO;
    let mut buffer = vec![0; 256 * 1024];
    let mut filled = 0;
    loop {
        let (head, length) = loop {
            if let Some(head) = buffer[..filled].windows(4).position(|end| end == b"\r\n\r\n") {
                let text = std::str::from_utf8(&buffer[..head]).unwrap().to_ascii_lowercase();
                let length = text.split("content-length: ").nth(1)?.lines().next()?.parse::<usize>().unwrap();
                break (head + 4, length);
            }
            filled += received(&mut stream, &mut buffer[filled..])?;
        };
        let mut body = Vec::new();
        let wanted = store.lock().unwrap().len() < keep;
        let mut left = length;
        let mut start = head;
        loop {
            let here = left.min(filled - start);
            if wanted {
                body.extend_from_slice(&buffer[start..start + here]);
            }
            left -= here;
            if left == 0 {
                buffer.copy_within(start + here..filled, 0);
                filled -= start + here;
                break;
            }
            (start, filled) = (0, received(&mut stream, &mut buffer)?);
        }
        if wanted {
            store.lock().unwrap().push(body.into());
        }
        count.fetch_add(1, Relaxed);
        let now = time_of(ClockId::ThreadCPUTime);
        cpu.fetch_add(u64::try_from(now.saturating_sub(told).as_nanos()).unwrap(), Relaxed);
        told = now;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").ok()?;
    }
}

/// `None` when there is no more.
fn received(stream: &mut TcpStream, buffer: &mut [u8]) -> Option<usize> {
    stream.read(buffer).ok().filter(|received| *received > 0)
}

fn time_of(clock: ClockId) -> Duration {
    clock_gettime(clock).try_into().unwrap()
}
