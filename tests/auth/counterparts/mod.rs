//! Receivers and a token endpoint that others wrote, in Python and for Node. Where one is not installed, its test says so and
//! checks nothing. `PYTHON` names the interpreter, `NODE_PATH` the folder of Node's packages.

use std::{
    env,
    ffi::OsString,
    io::{BufRead, BufReader, Lines, Write},
    process::{Child, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde_json::{Value, json};

use super::authenticated;
use crate::support::{
    config::with,
    endpoint::{Endpoint, Request},
    plugin::{Batch, Sink, failures},
};

/// What a script exits with where its library is not installed.
const NOT_INSTALLED: i32 = 77;

fn script(name: &str, arguments: &[&str]) -> Option<Child> {
    let interpreter = match name.rsplit_once('.') {
        Some((_, "py")) => env::var_os("PYTHON").unwrap_or_else(|| OsString::from("python3")),
        _ => OsString::from("node"),
    };
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/auth/counterparts/").to_owned() + name;
    let mut command = Command::new(&interpreter);
    match command.arg(file).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn() {
        Ok(child) => Some(child),
        Err(why) => {
            println!("skipped: there is no {} to run {name} with: {why}", interpreter.display());
            None
        }
    }
}

/// A server that a script runs until its stdin ends.
struct Server {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    /// What it said when it listened.
    started: Value,
}

impl Server {
    /// `None` where it is not installed.
    fn start(name: &str) -> Option<Self> {
        let mut child = script(name, &[])?;
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let first = lines.next().unwrap().unwrap();
        if let Ok(started) = serde_json::from_str(&first) {
            return Some(Self { child, lines, started });
        }
        println!("skipped: {first}");
        assert_eq!(child.wait().unwrap().code(), Some(NOT_INSTALLED));
        None
    }

    /// Ends it, and returns what it says in the end.
    fn end(mut self) -> Value {
        drop(self.child.stdin.take());
        let said = serde_json::from_str(&self.lines.next().unwrap().unwrap()).unwrap();
        assert!(self.child.wait().unwrap().success());
        said
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It has ended already, unless a test failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a library says about requests; `None` where it is not installed.
fn verdicts(library: &str, requests: &[Value]) -> Option<Vec<String>> {
    let mut child = script("verify.py", &[library])?;
    let mut stdin = child.stdin.take().unwrap();
    for request in requests {
        // It may have ended already, where there is no such library.
        let _ = writeln!(stdin, "{request}");
    }
    drop(stdin);
    let ended = child.wait_with_output().unwrap();
    if ended.status.code() == Some(NOT_INSTALLED) {
        println!("skipped: {}", String::from_utf8_lossy(&ended.stdout).trim());
        return None;
    }
    assert!(ended.status.success());
    Some(String::from_utf8(ended.stdout).unwrap().lines().map(str::to_owned).collect())
}

/// A request as a script takes it.
fn described(request: &Request, secret: &str) -> Value {
    let headers: serde_json::Map<String, Value> =
        request.headers.iter().map(|(name, value)| (name.to_lowercase(), value.clone().into())).collect();
    json!({
        "method": request.method,
        "path": request.path,
        "headers": headers,
        "body": BASE64_STANDARD.encode(&request.body),
        "secret": secret,
    })
}

#[test]
fn webhook_libraries_verify_our_signatures_with_either_secret_and_refuse_forged_ones() {
    let secrets = ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"];
    let endpoint = Endpoint::answering(200);
    let auth = json!({ "type": "webhook_signature", "secrets": secrets });
    // The libraries want one JSON value.
    let sink = Sink::open(&authenticated(&endpoint.url(), auth, json!({ "batch_mode": "json_array" })));
    assert_eq!(sink.consume(&Batch::numbered(2)), 0);
    let request = &endpoint.requests()[0];
    let mut forged = described(request, secrets[0]);
    forged["body"] = BASE64_STANDARD.encode("{\"n\":2}").into();
    let requests = [
        described(request, secrets[0]),
        described(request, secrets[1]),
        described(request, "whsec_plJ3nmyCDGBKInavdOK15jsl"),
        forged,
    ];
    for library in ["standardwebhooks", "svix"] {
        let Some(verdicts) = verdicts(library, &requests) else { continue };
        assert_eq!(verdicts[..2], ["ok", "ok"], "{library}");
        assert!(
            verdicts[2..].iter().all(|verdict| verdict.contains("VerificationError")),
            "{library}: {verdicts:?}"
        );
    }
}

#[test]
fn the_sdk_of_aws_computes_the_same_signatures() {
    let endpoint = Endpoint::answering(200);
    let paths = [
        "/",
        "/in",
        "/a//b/",
        "/a%20b/c%2Fd",
        "/a+b/(c)!*'",
        "/ä/:x@y",
        "/in?b=2&a=1&a=0",
        "/in?x=a%20b+c&y",
        "/in?%C3%A4=%2F",
    ];
    let keys = json!({ "type": "aws_sigv4", "region": "eu-west-1", "access_key_id": "AKID", "secret_access_key": "s/+=" });
    for service in ["execute-api", "s3"] {
        for path in paths {
            let auth = with(keys.clone(), json!({ "service": service, "session_token": "t/+=" }));
            let url = endpoint.url().replace("/in", path);
            let sink = Sink::open(&authenticated(&url, auth, json!({})));
            assert_eq!(sink.consume(&Batch::numbered(1)), 0);
        }
    }
    let requests: Vec<Value> = endpoint.requests().iter().map(|request| described(request, "s/+=")).collect();
    let mut forged = requests[0].clone();
    forged["body"] = BASE64_STANDARD.encode("{}").into();
    forged["headers"]["x-amz-content-sha256"] = "0".repeat(64).into();
    let requests = [requests, vec![forged]].concat();
    let Some(verdicts) = verdicts("botocore", &requests) else { return };
    for (request, verdict) in requests.iter().zip(&verdicts[..verdicts.len() - 1]) {
        assert_eq!(verdict, "ok", "{}", request["path"]);
    }
    assert!(verdicts.last().unwrap().contains("another signature"));
}

#[test]
fn a_server_of_s3_takes_what_is_signed_and_refuses_what_is_forged() {
    let Some(moto) = Server::start("moto_s3.py") else { return };
    let started = &moto.started;
    let config = |object: &str, secret: &Value| {
        let auth = json!({
            "type": "aws_sigv4", "region": "us-east-1", "service": "s3",
            "access_key_id": started["key_id"], "secret_access_key": secret,
        });
        let url = format!("http://127.0.0.1:{}/bucket/{object}", started["port"]);
        authenticated(&url, auth, json!({ "method": "PUT", "batch_mode": "nd_json" }))
    };
    let sink = Sink::open(&config("genuine", &started["secret"]));
    assert_eq!(sink.consume(&Batch::numbered(2)), 0);
    let sink = Sink::open(&config("forged", &"another".into()));
    let stream = "forged-for-s3";
    assert_eq!(sink.consume(&Batch::numbered(1).from_stream(stream)), 1);
    assert!(failures(stream).reasons[&0].contains("SignatureDoesNotMatch"));
    assert_eq!(moto.end(), json!({ "genuine": "{\"n\":0}\n{\"n\":1}\n" }));
}

#[test]
fn tokens_of_two_seconds_cost_one_request_each_and_no_message() {
    let Some(oidc) = Server::start("oidc.cjs") else { return };
    let url = |path| format!("http://127.0.0.1:{}{path}", oidc.started["port"]);
    let auth = json!({
        "type": "oauth2_client_credentials", "token_url": url("/token"), "scope": "ingest",
        "client_id": oidc.started["client_id"], "client_secret": oidc.started["client_secret"],
    });
    let more = json!({ "concurrency": 8, "ordering": "none", "max_retries": 0 });
    let sink = Sink::open(&authenticated(&url("/in"), auth, more));
    let began = Instant::now();
    let mut sent = 0;
    while began.elapsed() < Duration::from_secs(5) {
        assert_eq!(sink.consume(&Batch::numbered(50).from_offset(sent)), 0);
        sent += 50;
    }
    // The server counts in whole seconds, so that some live little more than one, and are refused before they are replaced.
    let lives = began.elapsed().as_secs() + 1;
    let said = oidc.end();
    let [given, refused, taken] = ["given", "refused", "taken"].map(|count| said[count].as_u64().unwrap());
    assert!((3..=lives).contains(&given), "{said} in {:?}", began.elapsed());
    assert_eq!(taken, sent, "{said}");
    assert!(refused <= given * 8, "no request was refused twice: {said}");
}
