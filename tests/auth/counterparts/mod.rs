//! Receivers that others wrote, in Python. Where one is not installed, its test says so and checks nothing; `PYTHON` names
//! the interpreter.

use std::{
    env,
    ffi::OsString,
    io::{BufRead, BufReader, Write},
    process::{Child, Command, Stdio},
};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde_json::{Value, json};

use super::{
    authenticated,
    support::{
        config::with,
        endpoint::{Endpoint, Request},
        plugin::{Batch, Sink, failures},
    },
};

/// What a script exits with where its library is not installed.
const NOT_INSTALLED: i32 = 77;

fn script(name: &str, arguments: &[&str]) -> Option<Child> {
    let python = env::var_os("PYTHON").unwrap_or_else(|| OsString::from("python3"));
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/auth/counterparts/").to_owned() + name;
    let started =
        Command::new(python).arg(file).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    match started {
        Ok(child) => Some(child),
        Err(why) => {
            println!("skipped: there is no Python to run {name} with: {why}");
            None
        }
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
    let Some(mut moto) = script("moto_s3.py", &[]) else { return };
    let mut lines = BufReader::new(moto.stdout.take().unwrap()).lines();
    let first = lines.next().unwrap().unwrap();
    let Ok(started) = serde_json::from_str::<Value>(&first) else {
        println!("skipped: {first}");
        assert_eq!(moto.wait().unwrap().code(), Some(NOT_INSTALLED));
        return;
    };
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
    drop(moto.stdin.take());
    let objects: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
    assert_eq!(objects, json!({ "genuine": "{\"n\":0}\n{\"n\":1}\n" }));
    assert!(moto.wait().unwrap().success());
}
