//! What the endpoint does wrong on purpose.

use super::*;

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
    endpoint.wait_for_requests(2, DEADLINE);
    assert!(clients.iter_mut().all(Client::is_silent));
    assert_eq!(endpoint.max_in_flight(), 2);
    drop(clients);
    let mut client = Client::of(&endpoint);
    let deadline = Instant::now() + DEADLINE;
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
        endpoint.wait_for_requests(count, DEADLINE);
    }
    assert_eq!(clients[0].status(), 200);
    let began = Instant::now();
    drop(endpoint);
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    let address = url.trim_start_matches("http://").trim_end_matches("/in");
    assert!(TcpStream::connect(address).is_err());
}
