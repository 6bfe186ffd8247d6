//! An endpoint that costs little and keeps nothing of what it takes: a blocking thread for each connection.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    thread,
    time::Duration,
};

/// The answer to a request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) after: Duration,
}

impl Answer {
    pub(super) fn ok(after: Duration) -> Self {
        Self { status: 200, after }
    }
}

/// An endpoint on loopback. It lives as long as the process.
#[derive(Debug)]
pub(super) struct Endpoint(SocketAddr);

impl Endpoint {
    /// Answers each request as `script` says of its body. `taken` is told of a body when its answer is on its way.
    pub(super) fn start(
        script: impl Fn(&[u8]) -> Answer + Send + Sync + 'static,
        taken: impl Fn(&[u8]) + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (script, taken) = (Arc::new(script), Arc::new(taken));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (script, taken) = (script.clone(), taken.clone());
                // A connection ends when its client goes.
                thread::spawn(move || serve(&mut stream.unwrap(), &*script, &*taken));
            }
        });
        Self(address)
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}/", self.0)
    }
}

fn serve(stream: &mut TcpStream, script: &impl Fn(&[u8]) -> Answer, taken: &impl Fn(&[u8])) -> Option<()> {
    stream.set_nodelay(true).unwrap();
    let mut buffer = Vec::new();
    loop {
        let (head, length) = loop {
            if let Some(head) = buffer.windows(4).position(|end| end == b"\r\n\r\n") {
                let text = std::str::from_utf8(&buffer[..head]).unwrap().to_ascii_lowercase();
                let length = text.split("content-length: ").nth(1)?.lines().next()?.parse::<usize>().unwrap();
                break (head + 4, length);
            }
            receive(stream, &mut buffer)?;
        };
        while buffer.len() < head + length {
            receive(stream, &mut buffer)?;
        }
        let body = &buffer[head..head + length];
        let Answer { status, after } = script(body);
        if !after.is_zero() {
            thread::sleep(after);
        }
        if status == 200 {
            taken(body);
        }
        buffer.drain(..head + length);
        // What a large body took is given back, so that it is not counted as the plugin's.
        buffer.shrink_to(64 * 1024);
        stream.write_all(format!("HTTP/1.1 {status} OK\r\ncontent-length: 0\r\n\r\n").as_bytes()).ok()?;
    }
}

/// Receives some more; `None` when there is no more.
fn receive(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<()> {
    let filled = buffer.len();
    buffer.resize(filled + 64 * 1024, 0);
    let received = stream.read(&mut buffer[filled..]).ok().filter(|received| *received > 0);
    buffer.truncate(filled + received.unwrap_or(0));
    received.map(drop)
}
