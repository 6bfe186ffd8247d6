//! The retrying client and the probe at open, against an endpoint that says what it is told to.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use iggy_connector_sdk::Error;
use iggy_connector_sdk::retry::{
    ConnectivityConfig, build_retry_client, check_connectivity, check_connectivity_with_retry,
    is_transient_status, parse_retry_after,
};
use reqwest::{Client, StatusCode, Url};

const SHORT: Duration = Duration::from_millis(1);

/// Gives each connection the next of these answers; an empty one cuts the connection. Tells the bodies it got.
fn endpoint<const N: usize>(answers: [&'static str; N]) -> (SocketAddr, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, bodies) = channel();
    thread::spawn(move || {
        for answer in answers {
            let mut stream = BufReader::new(listener.accept().unwrap().0);
            let (mut line, mut length) = (String::new(), 0);
            while stream.read_line(&mut line).unwrap() > 2 {
                if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
                line.clear();
            }
            let mut body = vec![0; length];
            stream.read_exact(&mut body).unwrap();
            sender.send(String::from_utf8(body).unwrap()).unwrap();
            stream.get_mut().write_all(answer.as_bytes()).unwrap();
        }
    });
    (address, bodies)
}

macro_rules! answer {
    ($status:literal $(, $header:literal)*) => {
        concat!("HTTP/1.1 ", $status, "\r\n", $($header, "\r\n",)* "connection: close\r\ncontent-length: 4\r\n\r\nbody")
    };
}

async fn post(address: SocketAddr, attempts: u32) -> reqwest_middleware::Result<reqwest::Response> {
    let client = build_retry_client(Client::new(), attempts, SHORT, SHORT, "Test");
    client.post(format!("http://{address}/")).body("the same").send().await
}

#[tokio::test]
async fn transient_ends_are_tried_again_with_the_same_body() {
    let (address, bodies) =
        endpoint([answer!("503 Busy"), "", answer!("429 Too Many Requests"), answer!("200 OK")]);
    assert_eq!(post(address, 4).await.unwrap().status(), 200);
    assert_eq!(bodies.iter().collect::<Vec<_>>(), ["the same"; 4]);
}

#[tokio::test]
async fn the_last_answer_is_handed_on_whole() {
    let (address, bodies) = endpoint([answer!("500 Oops"), answer!("502 Bad Gateway")]);
    let answer = post(address, 2).await.unwrap();
    assert_eq!((answer.status(), answer.text().await.unwrap().as_str()), (StatusCode::BAD_GATEWAY, "body"));
    assert_eq!(bodies.iter().count(), 2);
}

#[tokio::test]
async fn a_refusal_is_no_reason_to_try_again() {
    let (address, bodies) = endpoint([answer!("422 No")]);
    assert_eq!(post(address, 5).await.unwrap().status(), 422);
    assert_eq!(bodies.iter().count(), 1);
}

#[tokio::test]
async fn one_attempt_is_one_attempt() {
    for attempts in [0, 1] {
        let (address, bodies) = endpoint([""]);
        assert!(post(address, attempts).await.is_err());
        assert_eq!(bodies.iter().count(), 1, "{attempts}");
    }
}

#[tokio::test]
async fn retry_after_is_waited_for() {
    let (address, _bodies) = endpoint([answer!("429 Slow Down", "retry-after: 1"), answer!("200 OK")]);
    let start = Instant::now();
    assert_eq!(post(address, 2).await.unwrap().status(), 200);
    assert!(start.elapsed() >= Duration::from_secs(1));
}

#[test]
fn statuses_and_waits_that_are_read() {
    for status in [429, 500, 503, 599] {
        assert!(is_transient_status(StatusCode::from_u16(status).unwrap()), "{status}");
    }
    for status in [200, 301, 400, 404, 408] {
        assert!(!is_transient_status(StatusCode::from_u16(status).unwrap()), "{status}");
    }
    assert_eq!(parse_retry_after(" 120 "), Some(Duration::from_secs(120)));
    for other in ["", "soon", "-1", "1.5", "Wed, 21 Oct 2026 07:28:00 GMT"] {
        assert_eq!(parse_retry_after(other), None, "{other}");
    }
}

#[tokio::test]
async fn a_probe_says_what_it_met_and_no_url() {
    let (address, _bodies) = endpoint([answer!("401 Unauthorized")]);
    let url: Url = format!("http://{address}/?token=secret").parse().unwrap();
    let error = check_connectivity(&Client::new(), url.clone(), "Store 7").await.unwrap_err();
    let text = "Store 7 health check returned status 401 Unauthorized: body";
    assert_eq!(error, Error::Connection(text.to_owned()));
    // The endpoint has said all it had to, and is gone.
    let error = check_connectivity(&Client::new(), url, "Store 7").await.unwrap_err().to_string();
    assert!(error.starts_with("Connection error: Store 7 health check failed: "), "{error}");
    assert!(error.contains("refused") && !error.contains("secret"), "{error}");
}

#[tokio::test]
async fn a_probe_is_repeated_as_often_as_told() {
    let cfg = ConnectivityConfig { max_open_retries: 3, open_retry_max_delay: SHORT, retry_delay: SHORT };
    let busy = answer!("503 Busy");
    for (answers, expected) in [([busy, "", answer!("204 No Content")], true), ([busy, busy, busy], false)] {
        let (address, asked) = endpoint(answers);
        let url = format!("http://{address}/health").parse().unwrap();
        let end = check_connectivity_with_retry(&Client::new(), url, "Store", 1, &cfg).await;
        assert_eq!(end.is_ok(), expected, "{end:?}");
        assert_eq!(asked.iter().count(), 3);
    }
}
