//! A client of the status server, as simple as one can be.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use serde_json::{Value, json};

use crate::support::{
    config::with,
    plugin::{Sink, logged},
    spooled::SOON,
};

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

/// A configuration with the shipped defaults that is shown on a free port.
pub(crate) fn shown(url: &str, more: Value) -> Value {
    with(json!({ "url": url, "status": { "address": "127.0.0.1:0" } }), more)
}

/// Where a sink that was just opened is shown.
pub(crate) fn address(sink: &Sink) -> SocketAddr {
    let lines = logged(&format!("connector {}: its status is at http://", sink.id));
    let line = lines.last().expect("open says where");
    line.rsplit("http://").next().unwrap().trim_end_matches('/').parse().expect("an address")
}

pub(crate) fn get(address: SocketAddr, path: &str) -> Answer {
    ask(address, "GET", path, &[])
}

pub(crate) fn ask(address: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut stream = TcpStream::connect_timeout(&address, SOON).expect("somebody listens");
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let host = ("host", &*address.to_string());
    let host = Some(host).filter(|_| !headers.iter().any(|(name, _)| *name == "host"));
    let lines: String =
        host.iter().chain(headers).flat_map(|(name, value)| [name, ": ", value, "\r\n"]).collect();
    let request = format!("{method} {path} HTTP/1.1\r\nconnection: close\r\ncontent-length: 0\r\n{lines}");
    stream.write_all(format!("{request}\r\n").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").expect("an answer has a head");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    Answer { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
}

pub(crate) fn status(address: SocketAddr) -> Value {
    serde_json::from_str(&get(address, "/api/status").body).expect("JSON")
}

/// The value of a sample of `/metrics`, by the begin of its line; 0 where there is none.
pub(crate) fn metric(address: SocketAddr, sample: &str) -> f64 {
    let text = get(address, "/metrics").body;
    let values =
        text.lines().filter_map(|line| line.strip_prefix(sample)?.strip_prefix(' ')?.parse::<f64>().ok());
    values.sum()
}

/// The token of an operator.
pub(crate) const TOKEN: &str = "a-long-token-of-an-operator";

/// A sink with the shipped defaults that is shown on a free port, to who has the [`TOKEN`].
pub(crate) fn open(url: &str, more: Value) -> Sink {
    let status = json!({ "status": { "address": "127.0.0.1:0", "token": TOKEN } });
    Sink::open(&shown(url, with(status, more)))
}

/// Has something done, with the token.
pub(crate) fn post(address: SocketAddr, path: &str, more: &[(&str, &str)]) -> Answer {
    let bearer = format!("Bearer {TOKEN}");
    let mut headers = vec![("authorization", bearer.as_str())];
    headers.extend(more);
    ask(address, "POST", path, &headers)
}

/// `/api/status`, with the token.
pub(crate) fn report(address: SocketAddr) -> Value {
    let answer = ask(address, "GET", "/api/status", &[("authorization", &format!("Bearer {TOKEN}"))]);
    serde_json::from_str(&answer.body).expect("JSON")
}
