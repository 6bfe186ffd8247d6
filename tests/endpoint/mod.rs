//! The scripted endpoint that other tests lean on, seen from plain sockets.

mod faults;

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use serde_json::json;

use crate::support::{
    endpoint::{Answer, Door, Endpoint, refused_url},
    plugin::{Sink, logged},
};

const DEADLINE: Duration = Duration::from_secs(10);

/// A client that reads one answer at a time off one connection.
struct Client(BufReader<TcpStream>);

impl Client {
    fn of(endpoint: &Endpoint) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", endpoint.port())).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        Self(BufReader::new(stream))
    }

    fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.get_mut().write_all(bytes.as_ref()).unwrap();
    }

    fn post(&mut self, body: &str) {
        self.send(format!("POST /in HTTP/1.1\r\ncontent-length: {}\r\n\r\n{body}", body.len()));
    }

    /// The head of the next answer, up to its empty line.
    fn head(&mut self) -> io::Result<String> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            if self.0.read_until(b'\n', &mut head)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(String::from_utf8(head).unwrap())
    }

    /// Status and body of the next answer.
    fn answer(&mut self) -> io::Result<(u16, Vec<u8>)> {
        let head = self.head()?;
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
        self.0.read_exact(&mut body)?;
        Ok((head.split(' ').nth(1).unwrap().parse().unwrap(), body))
    }

    fn status(&mut self) -> u16 {
        self.answer().unwrap().0
    }

    /// How the connection ends, once all that was sent is read.
    fn end(&mut self) -> io::Result<usize> {
        self.0.read_to_end(&mut Vec::new())
    }

    fn is_silent(&mut self) -> bool {
        self.0.get_mut().set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let why = self.0.fill_buf().map(<[u8]>::len).map_err(|why| why.kind());
        matches!(why, Err(io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut))
    }
}

#[track_caller]
fn assert_reset<T: std::fmt::Debug>(result: io::Result<T>) {
    assert_eq!(result.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
}

#[test]
fn a_connection_carries_many_requests_in_order() {
    let endpoint = Endpoint::start(|request| Answer::status(200).body(request.body.clone()));
    let mut client = Client::of(&endpoint);
    for n in 0..100 {
        client.post(&n.to_string());
        assert_eq!(client.answer().unwrap(), (200, n.to_string().into_bytes()));
    }
    let requests = endpoint.requests();
    assert_eq!((requests.len(), endpoint.connections(), endpoint.max_in_flight()), (100, 1, 1));
    assert!(requests.iter().enumerate().all(|(n, request)| request.index == n && request.connection == 0));
    assert!(requests.is_sorted_by_key(|request| request.at));
}

#[test]
fn a_request_is_recorded_as_it_was_sent() {
    let endpoint = Endpoint::answering(204);
    let mut client = Client::of(&endpoint);
    client.send("PUT /a/b?c=%20d HTTP/1.1\r\nX-One:  1 \r\nx-one: 2\r\nContent-Length: 3\r\n\r\n\0\r\n");
    assert!(!client.head().unwrap().contains("content-length"), "a 204 has no body to tell the length of");
    let request = &endpoint.requests()[0];
    assert_eq!((request.method.as_str(), request.path.as_str()), ("PUT", "/a/b?c=%20d"));
    let headers = [("X-One", "1"), ("x-one", "2"), ("Content-Length", "3")];
    assert_eq!(request.headers, headers.map(|(name, value)| (name.to_owned(), value.to_owned())));
    assert_eq!((request.header("x-ONE"), request.header("x-two")), (Some("1"), None));
    assert_eq!(request.body, b"\0\r\n");
}

#[test]
fn chunked_bodies_are_joined() {
    let endpoint = Endpoint::answering(200);
    let mut client = Client::of(&endpoint);
    client.send("POST /in HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n");
    for part in ["3\r\na\r\n\r\n", "A;name=value\r\n0123456789\r\n", "0\r\ntrailer: x\r\n\r\n"] {
        client.send(part);
    }
    assert_eq!(client.status(), 200);
    client.post("next");
    assert_eq!(client.status(), 200);
    let bodies: Vec<_> = endpoint.requests().into_iter().map(|request| request.body).collect();
    assert_eq!(bodies, [&b"a\r\n0123456789"[..], b"next"]);
}

#[test]
fn a_client_that_asks_first_is_told_to_continue() {
    let endpoint = Endpoint::answering(200);
    let mut client = Client::of(&endpoint);
    client.send("POST /in HTTP/1.1\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n");
    assert_eq!(client.status(), 100);
    client.send("body");
    assert_eq!(client.status(), 200);
    assert_eq!(endpoint.requests()[0].body, b"body");
}

#[test]
fn half_a_request_is_none() {
    let endpoint = Endpoint::answering(200);
    let heads = ["POST /in HTTP/1.1\r\ncontent-length: 10\r\n\r\nhalf", "POST /in HTTP/1.1\r\nhost: x\r\n"];
    let chunked = "POST /in HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n9\r\nhalf";
    for part in heads.into_iter().chain([chunked]) {
        let mut client = Client::of(&endpoint);
        client.send(part);
        client.0.get_mut().shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(client.end().unwrap(), 0);
    }
    assert_eq!(endpoint.requests().len(), 0);
}

#[test]
fn a_sequence_is_followed_over_all_connections_and_then_all_is_well() {
    let endpoint = Endpoint::sequence(vec![Answer::status(503), Answer::status(429)]);
    let mut clients = [(); 2].map(|()| Client::of(&endpoint));
    let statuses = [0, 1, 0, 1].map(|n| {
        clients[n].post("");
        clients[n].status()
    });
    assert_eq!(statuses, [503, 429, 200, 200]);
}

#[test]
fn a_head_request_gets_the_head_alone() {
    let endpoint = Endpoint::start(|_| Answer::status(200).body("body"));
    let mut client = Client::of(&endpoint);
    client.send("HEAD /in HTTP/1.1\r\n\r\n");
    assert!(client.head().unwrap().contains("content-length: 4\r\n"));
    client.post("");
    assert_eq!(client.answer().unwrap(), (200, b"body".to_vec()));
}

#[test]
fn headers_may_be_of_any_size_and_say_how_the_body_ends() {
    let large = "x".repeat(1 << 20);
    let endpoint = Endpoint::sequence(vec![
        Answer::status(200).header("x-large", &large),
        Answer::status(200).header("Transfer-Encoding", "chunked").body("0\r\n\r\n"),
        Answer::status(200).header("Content-Length", "9").body("short").closing(),
    ]);
    let mut client = Client::of(&endpoint);
    client.post("");
    assert!(client.head().unwrap().len() > 1 << 20);
    client.post("");
    assert!(!client.head().unwrap().contains("content-length"));
    client.send("POST /in HTTP/1.1\r\ncontent-length: 0\r\n\r\n");
    let mut rest = String::new();
    client.0.read_to_string(&mut rest).unwrap();
    assert!(rest.starts_with("0\r\n\r\nHTTP/1.1 200") && rest.ends_with("short"), "{rest}");
}

#[test]
fn raw_bytes_go_out_as_they_are() {
    let endpoint =
        Endpoint::sequence(vec![Answer::raw("gibberish\r\n"), Answer::raw("cut short").cut_after(3)]);
    let mut client = Client::of(&endpoint);
    client.post("");
    let mut line = String::new();
    client.0.read_line(&mut line).unwrap();
    assert_eq!(line, "gibberish\r\n");
    client.post("");
    let mut cut = [0; 3];
    client.0.read_exact(&mut cut).unwrap();
    assert_eq!(&cut, b"cut");
    assert_reset(client.end());
}

#[test]
fn an_answer_waits_and_is_in_flight_meanwhile() {
    let delay = Duration::from_millis(100);
    let endpoint = Endpoint::start(move |_| Answer::status(200).after(delay));
    let mut clients = [(); 3].map(|()| Client::of(&endpoint));
    let began = Instant::now();
    for client in &mut clients {
        client.post("");
    }
    for client in &mut clients {
        assert_eq!(client.status(), 200);
    }
    assert!(began.elapsed() >= delay, "{:?}", began.elapsed());
    assert_eq!(endpoint.max_in_flight(), 3);
}

#[test]
fn an_endpoint_can_come_back_on_its_port() {
    let endpoint = Endpoint::answering(500);
    let (port, url) = (endpoint.port(), endpoint.url());
    let mut client = Client::of(&endpoint);
    client.post("");
    assert_eq!(client.status(), 500);
    drop(endpoint);
    let endpoint = Endpoint::start_on(port, |_| Answer::status(200));
    assert_eq!(endpoint.url(), url);
    let mut client = Client::of(&endpoint);
    client.post("");
    assert_eq!(client.status(), 200);
}

#[test]
fn nobody_listens_on_a_refused_url() {
    let url = refused_url();
    let address = url.trim_start_matches("http://").trim_end_matches("/in");
    assert_eq!(TcpStream::connect(address).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
}

#[test]
#[should_panic(expected = "1 of 2 requests arrived in 10ms")]
fn waiting_in_vain_says_what_arrived() {
    let endpoint = Endpoint::answering(200);
    let mut client = Client::of(&endpoint);
    client.post("");
    assert_eq!(client.status(), 200);
    endpoint.wait_for_requests(2, Duration::from_millis(10));
}

#[test]
#[should_panic(expected = "the script of an endpoint panicked")]
fn a_script_that_panics_fails_the_test() {
    let endpoint = Endpoint::start(|_| panic!("on purpose"));
    let mut client = Client::of(&endpoint);
    client.post("");
    assert_eq!(client.end().unwrap(), 0);
}

#[test]
fn many_connections_are_served_at_once() {
    let endpoint = Endpoint::answering(200);
    thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                let mut client = Client::of(&endpoint);
                for _ in 0..200 {
                    client.post("body");
                    assert_eq!(client.status(), 200);
                }
            });
        }
    });
    let requests = endpoint.requests();
    assert_eq!((requests.len(), endpoint.connections()), (3200, 16));
    assert!(requests.iter().enumerate().all(|(n, request)| request.index == n));
}

#[test]
fn what_was_logged_before_a_test_began_is_not_its_own() {
    let url = "http://log-of-an-earlier-test.invalid/in";
    let seen = || logged("log-of-an-earlier-test").len();
    let earlier = thread::spawn(move || {
        Sink::open(&json!({ "url": url })).close();
        seen()
    });
    let before = earlier.join().unwrap();
    assert!(before > 0);
    let later = thread::spawn(move || {
        let _endpoint = Endpoint::answering(200);
        let others = seen();
        Sink::open(&json!({ "url": url })).close();
        (others, seen())
    });
    assert_eq!(later.join().unwrap(), (0, before));
}
