//! The program with its output caught, connector files, and an endpoint.

use std::{
    fmt::Write as _,
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{Arc, Condvar, Mutex},
    thread::{self, JoinHandle},
    time::Duration,
};

/// Far beyond what anything here takes.
const TOO_LONG: Duration = Duration::from_secs(60);

/// Has the programs that tests start end by SIGINT and SIGHUP, which they send. Shells ignore the first in what runs in the background,
/// `nohup` the second, and programs inherit that.
#[cfg(unix)]
#[allow(unsafe_code, reason = "the standard library has no signals")]
fn restore_signals() {
    static RESTORED: std::sync::Once = std::sync::Once::new();
    RESTORED.call_once(|| {
        for signal in [libc::SIGINT, libc::SIGHUP] {
            // SAFETY: the default action runs no code of this process.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
        }
    });
}

/// The program, with these arguments and none of the environment's overrides.
pub(crate) fn program(arguments: &[&str]) -> Command {
    #[cfg(unix)]
    restore_signals();
    let mut command = Command::new(env!("CARGO_BIN_EXE_iggy-http-sink"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("IGGY_CONNECTORS_") {
            command.env_remove(name);
        }
    }
    command.args(arguments).env_remove("RUST_LOG").stdin(Stdio::null());
    command
}

/// The plugin of this build: where cargo puts it before it copies it anywhere.
pub(crate) fn plugin() -> PathBuf {
    let name =
        format!("{}iggy_connector_http_sink{}", std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX);
    let folder = Path::new(env!("CARGO_BIN_EXE_iggy-http-sink")).parent().expect("a folder");
    folder.join("deps").join(name)
}

/// Writes a connector file with batches of ten and short waits, and with these keys too.
pub(crate) fn connector(folder: &Path, url: &str, keys: &str) -> PathBuf {
    let mut text = format!(
        "type = \"sink\"\nkey = \"test\"\nenabled = true\nversion = 0\nname = \"test\"\npath = '{}'\n\n",
        plugin().display()
    );
    text.push_str("[[streams]]\nstream = \"s\"\ntopics = [\"t\"]\nschema = \"json\"\nbatch_length = 10\n\n");
    write!(text, "[plugin_config]\nurl = \"{url}\"\nmax_retries = 1\nretry_delay = \"1ms\"\n{keys}").unwrap();
    // What an endpoint that fails does to the messages of one request; the breaker has tests of its own.
    text.push_str("\n[plugin_config.circuit_breaker]\nfailure_threshold = 0\n");
    let path = folder.join("connector.toml");
    fs::write(&path, text).unwrap();
    path
}

/// A program on its way.
pub(crate) struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: JoinHandle<String>,
    stderr: JoinHandle<()>,
    noted: Arc<(Mutex<String>, Condvar)>,
}

/// A program at its end.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

pub(crate) fn start(command: &mut Command) -> Running {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let stdout = thread::spawn(move || {
        let mut text = String::new();
        stdout.read_to_string(&mut text).unwrap();
        text
    });
    let noted = Arc::<(Mutex<String>, Condvar)>::default();
    let stderr = {
        let (noted, stderr) = (Arc::clone(&noted), child.stderr.take().unwrap());
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines() {
                let mut text = noted.0.lock().unwrap();
                text.push_str(&line.unwrap());
                text.push('\n');
                noted.1.notify_all();
            }
        })
    };
    Running { stdin: child.stdin.take(), child, stdout, stderr, noted }
}

impl Running {
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        let stdin = self.stdin.as_mut().expect("stdin is a pipe");
        stdin.write_all(bytes).unwrap();
        stdin.flush().unwrap();
    }

    #[cfg(unix)]
    pub(crate) fn signal(&self, name: &str) {
        let status =
            Command::new("kill").arg("-s").arg(name).arg(self.child.id().to_string()).status().unwrap();
        assert!(status.success());
    }

    pub(crate) fn wait_for_stderr(&self, word: &str) {
        let text = self.noted.0.lock().unwrap();
        let (text, late) =
            self.noted.1.wait_timeout_while(text, TOO_LONG, |text| !text.contains(word)).unwrap();
        assert!(!late.timed_out(), "no {word} in {text}");
    }

    pub(crate) fn close_input(&mut self) {
        self.stdin = None;
    }

    /// Ends its input and waits for it.
    pub(crate) fn finish(mut self) -> Finished {
        self.stdin = None;
        self.finish_with_open_input()
    }

    pub(crate) fn finish_with_open_input(mut self) -> Finished {
        // Stdin must not be closed by waiting.
        let stdin = self.stdin.take();
        let code = self.child.wait().unwrap().code();
        drop(stdin);
        let stdout = self.stdout.join().unwrap();
        self.stderr.join().unwrap();
        let stderr = self.noted.0.lock().unwrap().clone();
        Finished { code, stdout, stderr }
    }
}

/// Answers every request with the status that its script gives for its number and body; with an empty one, never.
pub(crate) struct Endpoint {
    port: u16,
    bodies: Arc<(Mutex<Vec<String>>, Condvar)>,
}

impl Endpoint {
    pub(crate) fn start(script: impl Fn(usize, &str) -> &'static str + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let bodies = Arc::<(Mutex<Vec<String>>, Condvar)>::default();
        let (script, kept) = (Arc::new(script), Arc::clone(&bodies));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (script, kept) = (Arc::clone(&script), Arc::clone(&kept));
                thread::spawn(move || serve(stream.unwrap(), &*script, &kept));
            }
        });
        Self { port, bodies }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}/in", self.port)
    }

    pub(crate) fn bodies(&self) -> Vec<String> {
        self.bodies.0.lock().unwrap().clone()
    }

    pub(crate) fn wait_for_requests(&self, count: usize) {
        let bodies = self.bodies.0.lock().unwrap();
        let (bodies, late) =
            self.bodies.1.wait_timeout_while(bodies, TOO_LONG, |bodies| bodies.len() < count).unwrap();
        assert!(!late.timed_out(), "{} requests instead of {count}", bodies.len());
    }
}

fn serve(
    stream: TcpStream,
    script: &dyn Fn(usize, &str) -> &'static str,
    bodies: &(Mutex<Vec<String>>, Condvar),
) {
    let mut reader = BufReader::new(stream);
    loop {
        let mut length = 0;
        let mut head = String::new();
        loop {
            let mut line = String::new();
            // The client is gone.
            if !reader.read_line(&mut line).is_ok_and(|len| len > 0) {
                return;
            }
            if line == "\r\n" {
                break;
            }
            line.make_ascii_lowercase();
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            head.push_str(&line);
        }
        assert!(!head.contains("transfer-encoding"), "bodies here have a length: {head}");
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        let body = String::from_utf8(body).unwrap();
        let number = bodies.0.lock().unwrap().len();
        let status = script(number, &body);
        bodies.0.lock().unwrap().push(body);
        bodies.1.notify_all();
        if status.contains("\r\n\r\n") {
            // It has a body, and says how long that is.
            write!(reader.get_mut(), "HTTP/1.1 {status}").unwrap();
        } else if !status.is_empty() {
            write!(reader.get_mut(), "HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n").unwrap();
        }
    }
}
