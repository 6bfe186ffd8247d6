//! The ways to a real server other than user and password in the clear: TLS, a token.

use std::fs;

use tempfile::TempDir;

use crate::{
    iggy::support::{Connector, receiver::Receiver, server::Server},
    support::{Finished, Running, plugin, program, start},
};

const VARIABLE: &str = "IGGY_CONNECTORS_IGGY_";

/// The host, on its way to the end of the topic.
fn host(
    server: &Server,
    receiver: &Receiver,
    address: &str,
    variables: &[(&str, &str)],
) -> (TempDir, Running) {
    let folder = tempfile::tempdir().unwrap();
    let file = Connector::new("in", &receiver.url("/in"), &plugin()).write(folder.path());
    let mut command = program(&["run", "--once", "--server", &format!("{address}:{}", server.port)]);
    for (name, value) in variables {
        command.env(format!("{VARIABLE}{name}"), value);
    }
    (folder, start(command.arg(&file)))
}

/// The host at its end.
fn run(server: &Server, receiver: &Receiver, address: &str, variables: &[(&str, &str)]) -> Finished {
    let (_folder, running) = host(server, receiver, address, variables);
    running.finish()
}

fn one_message(server: &Server) {
    let admin = server.admin();
    admin.create("in", "t", 1);
    admin.send("in", "t", 0, ["{}"]);
}

#[test]
fn a_server_behind_tls_is_read_where_its_certificate_is_trusted() {
    let Some(server) = Server::start_with_tls() else { return };
    let receiver = Receiver::start();
    one_message(&server);
    let certificate = server.certificate().unwrap().to_str().unwrap();
    let trusting = [("TLS_ENABLED", "true"), ("TLS_CA_FILE", certificate)];

    // Nobody that is trusted by default has signed it, and it is for another name. Both can be mended at the server.
    for (address, variables) in [("localhost", &trusting[..1]), ("127.0.0.1", &trusting)] {
        let (_folder, running) = host(&server, &receiver, address, variables);
        running.wait_for_stderr("trying again");
        running.signal("TERM");
        let finished = running.finish();
        assert!(!finished.stderr.contains("reading partitions"), "{address}: {finished:?}");
    }
    assert!(receiver.received("/in").is_empty());
    let finished = run(&server, &receiver, "localhost", &trusting);
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert_eq!(receiver.received("/in").len(), 1);

    server.admin().send("in", "t", 0, ["{}"]);
    let named = [trusting[0], trusting[1], ("TLS_DOMAIN", "localhost")];
    let finished = run(&server, &receiver, "127.0.0.1", &named);
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert_eq!(receiver.received("/in").len(), 2);
}

#[test]
fn a_token_signs_in_and_wins_over_a_password() {
    let Some(server) = Server::start() else { return };
    let receiver = Receiver::start();
    one_message(&server);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    fs::write(&file, format!("{}\n", server.admin().token())).unwrap();
    let finished = run(&server, &receiver, "127.0.0.1", &[("TOKEN", "no such token")]);
    assert_eq!(finished.code, Some(3), "{finished:?}");
    assert!(!format!("{finished:?}").contains("no such token"), "{finished:?}");

    let token = format!("file:{}", file.display());
    let finished = run(&server, &receiver, "127.0.0.1", &[("TOKEN", &token), ("PASSWORD", "not this one")]);
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert_eq!(receiver.received("/in").len(), 1);
}

#[test]
fn check_signs_in_where_a_run_does() {
    let Some(server) = Server::start() else { return };
    let receiver = Receiver::start();
    let folder = tempfile::tempdir().unwrap();
    let file = Connector::new("in", &receiver.url("/in"), &plugin()).write(folder.path());
    for (password, code, words) in
        [("iggy", 0, "signed in at "), ("wrong", 3, "check username, password or token")]
    {
        let mut command = program(&["check", "--connect"]);
        command.arg(&file).env(format!("{VARIABLE}ADDRESS"), server.address());
        let finished = start(command.env(format!("{VARIABLE}PASSWORD"), password)).finish();
        assert_eq!(finished.code, Some(code), "{finished:?}");
        assert!(finished.stdout.contains(words), "{finished:?}");
    }
}
