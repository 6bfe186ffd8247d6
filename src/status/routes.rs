//! What is answered to which request.

mod letters;

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    HeaderMap, Method, Request, Response, StatusCode,
    header::{self, HeaderName, HeaderValue},
};
use serde_json::{Value, json};

use self::letters::LettersPath;
use super::{
    access::{self, Refusal},
    board::Action,
    exposition, page,
    report::{ConnectorReport, StatusReport},
    server::Server,
};

type Answer = Response<Full<Bytes>>;

/// What an operator asks of a connector.
enum Asked {
    Act(Action),
    /// The head with this number.
    GiveUp(u64),
}

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
const HTML: &str = "text/html; charset=utf-8";

/// Nothing but what comes from here is run, styled or framed.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// Answers a request. Nothing but the reading of dead letters is waited for.
pub(super) async fn respond(server: &Server, request: &Request<()>) -> Answer {
    let (path, query, headers) = (request.uri().path(), request.uri().query(), request.headers());
    let answer = match (request.method(), LettersPath::of(path)) {
        (&Method::GET | &Method::HEAD, Some(path)) => letters::get(server, path, query, headers).await,
        (&Method::POST, Some(path)) => letters::post(server, path, query, headers).await,
        (&Method::GET | &Method::HEAD, None) => get(server, path, headers),
        (&Method::POST, None) => post(server, path, headers),
        _ => text(StatusCode::METHOD_NOT_ALLOWED, "only GET, HEAD and POST are answered\n"),
    };
    with_headers(answer)
}

fn get(server: &Server, path: &str, headers: &HeaderMap) -> Answer {
    let may_read = access::may_read(headers, server.token.as_ref());
    match path {
        // Probes, which have no token, are answered without reasons, and what is the same everywhere.
        "/live" => return text(StatusCode::OK, "live\n"),
        "/ready" => return ready(server, may_read.is_ok()),
        "/script.js" => return answer(StatusCode::OK, "text/javascript; charset=utf-8", page::SCRIPT),
        "/icon.svg" => return answer(StatusCode::OK, "image/svg+xml", page::ICON),
        "/style.css" => return answer(StatusCode::OK, "text/css; charset=utf-8", page::STYLE),
        _ => {}
    }
    if let Err(refusal) = may_read {
        return refused(refusal);
    }
    match path {
        "/" => {
            let page = page::page(&report(server), server.token.is_some());
            answer(StatusCode::OK, HTML, page.into_string())
        }
        "/metrics" => {
            let texts: Vec<String> = server.boards().values().flatten().map(super::Board::metrics).collect();
            answer(StatusCode::OK, exposition::CONTENT_TYPE, exposition::merged(&texts))
        }
        "/api/status" => {
            // Made of numbers, text and lists alone, it is always JSON.
            let json = serde_json::to_string_pretty(&report(server)).unwrap_or_default();
            answer(StatusCode::OK, JSON, json)
        }
        _ => not_found(),
    }
}

fn ready(server: &Server, with_reasons: bool) -> Answer {
    let StatusReport { ready, reasons, .. } = report(server);
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    match (ready, with_reasons) {
        (true, _) => text(status, "ready\n"),
        (false, false) => text(status, "not ready\n"),
        (false, true) => text(status, reasons.join("\n") + "\n"),
    }
}

/// `/connectors/ID/ACTION`, or `/connectors/ID/heads/NUMBER/give_up`.
fn post(server: &Server, path: &str, headers: &HeaderMap) -> Answer {
    if let Err(refusal) = access::may_change(headers, server.token.as_ref()) {
        return refused(refusal);
    }
    let mut parts = path.strip_prefix("/connectors/").into_iter().flat_map(|rest| rest.split('/'));
    let connector = parts.next().and_then(|part| part.parse::<u32>().ok());
    let rest: Vec<&str> = parts.collect();
    let asked = match rest[..] {
        ["heads", head, "give_up"] => head.parse().ok().map(Asked::GiveUp),
        [action] => action.parse().ok().map(Asked::Act),
        _ => None,
    };
    let (Some(connector), Some(asked)) = (connector, asked) else { return not_found() };
    let done_what = match (server.boards().get(&connector), asked) {
        (Some(Some(board)), Asked::Act(action)) => {
            board.act(action);
            action.to_string()
        }
        (Some(Some(board)), Asked::GiveUp(head)) if board.give_up(head) => "give_up".to_owned(),
        (Some(Some(_)), Asked::GiveUp(_)) => return text(StatusCode::GONE, "it waits no more\n"),
        (Some(None), _) => return text(StatusCode::CONFLICT, "the connector is being opened\n"),
        (None, _) => return not_found(),
    };
    done(headers, "/", &json!({ "connector": connector, "done": done_what }))
}

/// What was asked for is done: a browser is redirected to a page, others get a text.
fn done(headers: &HeaderMap, page: &str, what: &Value) -> Answer {
    let is_of_page =
        headers.get(header::ACCEPT).is_some_and(|accept| accept.as_bytes().starts_with(b"text/html"));
    match HeaderValue::from_str(page) {
        Ok(page) if is_of_page => {
            let mut back = text(StatusCode::SEE_OTHER, "done\n");
            back.headers_mut().insert(header::LOCATION, page);
            back
        }
        _ => answer(StatusCode::OK, JSON, format!("{what}\n")),
    }
}

fn report(server: &Server) -> StatusReport {
    let boards = server.boards();
    let connectors = boards.iter().map(|(connector, board)| match board {
        Some(board) => board.report(),
        None => ConnectorReport::opening(*connector),
    });
    StatusReport::of(connectors.collect())
}

fn refused(Refusal { status, why }: Refusal) -> Answer {
    let mut answer = text(status, format!("{why}\n"));
    if status == StatusCode::UNAUTHORIZED {
        // A browser asks for user and password then; the user may be anything.
        let challenge = HeaderValue::from_static("Basic realm=\"HTTP sink\", charset=\"UTF-8\"");
        answer.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
    }
    answer
}

fn not_found() -> Answer {
    text(StatusCode::NOT_FOUND, "there is /, /metrics, /live, /ready and /api/status\n")
}

fn text(status: StatusCode, text: impl Into<Bytes>) -> Answer {
    answer(status, TEXT, text)
}

fn answer(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}

fn with_headers(mut answer: Answer) -> Answer {
    let all: [(HeaderName, &'static str); 5] = [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "same-origin"),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_FRAME_OPTIONS, "DENY"),
    ];
    for (name, value) in all {
        answer.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    answer
}
