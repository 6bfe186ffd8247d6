//! Routes requests to answers.

mod letters;

use hyper::{HeaderMap, Method, Request, StatusCode};
use serde_json::json;

use self::letters::LettersPath;
use super::{
    access,
    answer::{Answer, HTML, JSON, answer, done, not_found, refused, text, with_headers},
    board::Action,
    exposition, page,
    report::{ConnectorReport, StatusReport},
    server::Server,
};

/// What an operator asks a connector to do.
enum Asked {
    Act(Action),
    /// The head with this number.
    GiveUp(u64),
}

/// Answers a request. Only reading dead letters takes time.
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
        // Probes, which have no token, are answered without reasons, and so are static files.
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
            // It consists of numbers, text and lists, so it can always be written as JSON.
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
        (Some(Some(_)), Asked::GiveUp(_)) => return text(StatusCode::GONE, "it is no longer waiting\n"),
        (Some(None), _) => return text(StatusCode::CONFLICT, "the connector is being opened\n"),
        (None, _) => return not_found(),
    };
    done(headers, "/", &json!({ "connector": connector, "done": done_what }))
}

fn report(server: &Server) -> StatusReport {
    let boards = server.boards();
    let connectors = boards.iter().map(|(connector, board)| match board {
        Some(board) => board.report(),
        None => ConnectorReport::opening(*connector),
    });
    StatusReport::of(connectors.collect())
}
