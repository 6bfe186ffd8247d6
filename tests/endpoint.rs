//! The scripted endpoint that other tests lean on, seen from plain sockets.
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use support::endpoint::{Answer, Door, Endpoint, refused_url};

const PATIENCE: Duration = Duration::from_secs(10);

/// A client that reads one answer at a time off one connection.
struct Client(BufReader<TcpStream>);

impl Client {
    fn of(endpoint: &Endpoint) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", endpoint.port())).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
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
fn a_connection_closes_after_the_answer_with_and_without_a_word() {
    for (answer, said) in
        [(Answer::status(200).closing(), false), (Answer::status(200).connection_close(), true)]
    {
        let endpoint = Endpoint::start(move |_| answer.clone());
        let mut client = Client::of(&endpoint);
        client.post("");
        assert_eq!(client.head().unwrap().contains("connection: close\r\n"), said);
        assert_eq!(client.end().unwrap(), 0, "closed, not reset");
    }
}

#[test]
fn a_request_may_be_hung_up_on() {
    let endpoint = Endpoint::sequence(vec![Answer::hang_up()]);
    let mut client = Client::of(&endpoint);
    client.post("");
    assert_eq!(client.end().unwrap(), 0, "closed, not reset");
    assert_eq!(endpoint.requests().len(), 1);
}

#[test]
fn a_reset_is_one_and_the_request_is_recorded() {
    let endpoint =
        Endpoint::sequence(vec![Answer::reset(), Answer::reset().after(Duration::from_millis(50))]);
    for count in [1, 2] {
        let mut client = Client::of(&endpoint);
        client.post("");
        assert_reset(client.answer());
        assert_eq!(endpoint.requests().len(), count);
    }
}

#[test]
fn a_cut_answer_arrives_up_to_the_cut() {
    let endpoint = Endpoint::start(|_| Answer::status(200).body("0123456789").cut_after(4));
    for _ in 0..50 {
        let mut client = Client::of(&endpoint);
        client.post("");
        client.head().unwrap();
        let mut body = [0; 4];
        client.0.read_exact(&mut body).unwrap();
        assert_eq!(&body, b"0123");
        assert_reset(client.end());
    }
}

#[test]
fn a_door_refuses_connections_before_their_requests_arrive() {
    let doors = [Door::Reset, Door::ResetAfterHead, Door::Stall];
    let endpoint = Endpoint::behind(
        move |connection| doors.get(connection).copied().unwrap_or(Door::Open),
        |_| Answer::status(200),
    );
    assert_reset(Client::of(&endpoint).end());
    let mut client = Client::of(&endpoint);
    client.send("POST /in HTTP/1.1\r\ncontent-length: 1000000\r\n\r\nstart");
    assert_reset(client.end());
    let mut client = Client::of(&endpoint);
    client.post("");
    assert!(client.is_silent());
    assert_eq!((endpoint.requests().len(), endpoint.connections()), (0, 3));
    let mut client = Client::of(&endpoint);
    client.post("");
    assert_eq!(client.status(), 200);
}

#[test]
fn a_stalled_request_is_in_flight_until_its_client_goes() {
    let endpoint = Endpoint::start(|request| match request.body.as_slice() {
        b"stall" => Answer::stall(),
        _ => Answer::status(200),
    });
    let mut clients = [(); 2].map(|()| Client::of(&endpoint));
    for client in &mut clients {
        client.post("stall");
    }
    endpoint.wait_for_requests(2, PATIENCE);
    assert!(clients.iter_mut().all(Client::is_silent));
    assert_eq!(endpoint.max_in_flight(), 2);
    drop(clients);
    let mut client = Client::of(&endpoint);
    let deadline = Instant::now() + PATIENCE;
    while endpoint.in_flight() > 0 {
        assert!(Instant::now() < deadline, "both are still in flight");
        thread::sleep(Duration::from_millis(1));
    }
    client.post("");
    assert_eq!(client.status(), 200);
    assert_eq!(endpoint.max_in_flight(), 2);
}

#[test]
fn an_answer_may_stall_halfway() {
    let endpoint = Endpoint::start(|_| Answer::status(200).body("0123456789").stalling_after(4));
    let mut client = Client::of(&endpoint);
    client.post("");
    assert!(client.head().unwrap().contains("content-length: 10\r\n"));
    let mut body = [0; 4];
    client.0.read_exact(&mut body).unwrap();
    assert!(client.is_silent());
}

#[test]
fn a_huge_answer_is_as_long_as_it_says() {
    let endpoint = Endpoint::start(|_| Answer::huge(100 << 20));
    let mut client = Client::of(&endpoint);
    client.post("");
    assert!(client.head().unwrap().contains("content-length: 104857600\r\n"));
    let body = io::copy(&mut client.0.by_ref().take(100 << 20), &mut io::sink()).unwrap();
    assert_eq!(body, 100 << 20);
    assert!(client.is_silent());
}

#[test]
fn dropping_an_endpoint_ends_all_that_it_does() {
    let endpoint = Endpoint::start(|request| match request.index {
        0 => Answer::status(200),
        1 => Answer::stall(),
        2 => Answer::status(200).after(Duration::from_hours(1)),
        _ => Answer::huge(u64::MAX),
    });
    let url = endpoint.url();
    // One idle, one stalled, one delayed, one that streams to a client that does not read, one silent.
    let mut clients = [(); 5].map(|()| Client::of(&endpoint));
    for (count, client) in (1..).zip(&mut clients[..4]) {
        client.post("");
        endpoint.wait_for_requests(count, PATIENCE);
    }
    assert_eq!(clients[0].status(), 200);
    let began = Instant::now();
    drop(endpoint);
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    let address = url.trim_start_matches("http://").trim_end_matches("/in");
    assert!(TcpStream::connect(address).is_err());
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
