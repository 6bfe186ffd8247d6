//! A real nginx as the endpoint, in a folder and on a port of its own.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use super::weather::Port;

/// Where it lies; the second is in the path of the superuser alone.
const PROGRAMS: [&str; 2] = ["nginx", "/usr/sbin/nginx"];

/// How nginx speaks to the sink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1 without TLS.
    Http1,
    /// HTTP/1.1 over TLS.
    Https1,
    /// HTTP/2 over TLS.
    Http2,
}

/// A running nginx; stopped when dropped.
#[derive(Debug)]
pub struct Nginx {
    folder: TempDir,
    port: Port,
    protocol: Protocol,
    child: Child,
}

impl Nginx {
    /// An nginx that closes each connection after this many requests, and answers each with 200. `None`, with a line that says
    /// so, where nginx is not installed.
    ///
    /// # Panics
    /// It is there and does not start.
    pub fn start(protocol: Protocol, requests_per_connection: u64) -> Option<Self> {
        Self::start_with(protocol, requests_per_connection, |_| String::new())
    }

    /// The same with more directives for its server. They may name files that are made in its folder, where `cert.pem` and
    /// `key.pem` may be replaced.
    ///
    /// # Panics
    /// It is there and does not start.
    pub fn start_with(
        protocol: Protocol,
        requests_per_connection: u64,
        more: impl FnOnce(&Path) -> String,
    ) -> Option<Self> {
        let Some(program) = PROGRAMS.into_iter().find(|program| is_there(program)) else {
            println!("SKIPPED: nginx is not installed (apt-get install nginx-light)");
            return None;
        };
        let folder = tempfile::tempdir().expect("a folder can be made");
        let port = Port::reserve();
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let certificate = rcgen::generate_simple_self_signed(names).expect("a certificate can be made");
        fs::write(folder.path().join("cert.pem"), certificate.cert.pem()).expect("the folder can be written");
        fs::write(folder.path().join("key.pem"), certificate.signing_key.serialize_pem()).expect("as above");
        let more = more(folder.path());
        let inner = folder.path().join("inner.sock");
        let text = configuration(protocol, port.number, requests_per_connection, &inner, &more);
        fs::write(folder.path().join("nginx.conf"), text).expect("as above");
        let child = nginx(program, &folder).spawn().expect("nginx can be started");
        let mut nginx = Self { folder, port, protocol, child };
        let began = Instant::now();
        // It is written once nginx listens and takes signals.
        while !nginx.folder.path().join("nginx.pid").exists() {
            let log = fs::read_to_string(nginx.folder.path().join("error.log")).unwrap_or_default();
            let runs = matches!(nginx.child.try_wait(), Ok(None));
            assert!(runs && began.elapsed() < Duration::from_secs(20), "nginx does not start: {log}");
            thread::sleep(Duration::from_millis(10));
        }
        Some(nginx)
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn url(&self) -> String {
        format!("{}/in", self.origin())
    }

    /// Scheme, host and port: what logs show of the URL.
    pub fn origin(&self) -> String {
        let scheme = if self.protocol == Protocol::Http1 { "http" } else { "https" };
        format!("{scheme}://127.0.0.1:{}", self.port.number)
    }

    /// Lets new workers take over, as an operator does: the old ones close their connections.
    ///
    /// # Panics
    /// The signal cannot be sent.
    pub fn reload(&self) {
        self.signal("-HUP");
    }

    fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.child.id().to_string()]).status();
        assert!(sent.is_ok_and(|status| status.success()), "{signal} cannot be sent");
    }

    /// How often each body was answered with 200, by nginx's own log.
    ///
    /// # Panics
    /// The log cannot be read.
    pub fn taken(&self) -> BTreeMap<String, usize> {
        let log = fs::read_to_string(self.folder.path().join("access.log")).expect("nginx writes a log");
        let mut taken = BTreeMap::new();
        for body in log.lines().filter_map(|line| line.strip_prefix("200 ")) {
            *taken.entry(body.to_owned()).or_default() += 1;
        }
        taken
    }

    /// Stops it once all answers are given, so that everything is in its log.
    pub fn quit(&mut self) {
        self.signal("-QUIT");
        // It ends by itself when the last connection is closed; no answer is waited for any more.
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(5) && matches!(self.child.try_wait(), Ok(None)) {
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // A signal, since killing the master alone would leave its workers.
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
            let _ = self.child.wait();
        }
    }
}

fn is_there(program: &str) -> bool {
    Command::new(program).arg("-v").stderr(Stdio::null()).status().is_ok()
}

fn nginx(program: &str, folder: &TempDir) -> Command {
    let mut command = Command::new(program);
    command.arg("-p").arg(folder.path()).args(["-e", "error.log", "-c", "nginx.conf"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// The endpoint reads each body and passes it on to a second server, since nginx logs no body that it has not read.
fn configuration(
    protocol: Protocol,
    port: u16,
    requests_per_connection: u64,
    inner: &Path,
    more: &str,
) -> String {
    let inner = inner.display();
    let listen = match protocol {
        Protocol::Http1 => format!("listen 127.0.0.1:{port};"),
        Protocol::Https1 => format!("listen 127.0.0.1:{port} ssl;"),
        Protocol::Http2 => format!("listen 127.0.0.1:{port} ssl http2;"),
    };
    let tls = if protocol == Protocol::Http1 {
        ""
    } else {
        "ssl_certificate cert.pem; ssl_certificate_key key.pem;"
    };
    format!(
        "daemon off; worker_processes 1; pid nginx.pid; error_log error.log warn;
        events {{ worker_connections 4096; }}
        http {{
            client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
            uwsgi_temp_path uwsgi; scgi_temp_path scgi;
            log_format taken escape=none '$status $request_body';
            upstream inner {{ server unix:{inner}; keepalive 32; }}
            server {{
                {listen} {tls} {more}
                keepalive_requests {requests_per_connection};
                client_body_in_single_buffer on;
                access_log access.log taken;
                location / {{
                    proxy_pass http://inner; proxy_http_version 1.1; proxy_set_header Connection '';
                    proxy_next_upstream off;
                }}
            }}
            server {{ listen unix:{inner}; access_log off; keepalive_requests 1000000; location / {{ return 200; }} }}
        }}"
    )
}
