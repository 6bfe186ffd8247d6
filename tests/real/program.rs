//! A server of somebody else, on a port of its own, and how to speak to it.

use std::{
    env,
    ffi::OsString,
    io::{Read, Write},
    net::TcpStream,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::support::weather::Port;

/// Longer than any of them takes to start on a busy machine.
const STARTS_WITHIN: Duration = Duration::from_mins(1);
/// What a script exits with where its library is not installed.
const NOT_INSTALLED: i32 = 77;

/// A running server; killed when dropped.
pub(crate) struct Program {
    child: Child,
    port: Port,
}

impl Program {
    /// Starts a server that `command` makes for its port, and waits until it answers to `path`. `None`, with a line that says so,
    /// where it is not installed; `package` is what it comes in.
    pub(crate) fn start(package: &str, path: &str, command: impl FnOnce(u16) -> Command) -> Option<Self> {
        let port = Port::reserve();
        let mut command = command(port.number);
        let name = command.get_program().to_string_lossy().into_owned();
        let Ok(child) = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()
        else {
            println!("SKIPPED: {name} is not installed ({package})");
            return None;
        };
        let mut program = Self { child, port };
        let began = Instant::now();
        while program.try_ask("GET", path, "").is_none_or(|(status, _)| status >= 500) {
            if let Ok(Some(ended)) = program.child.try_wait() {
                assert_eq!(ended.code(), Some(NOT_INSTALLED), "{name} ended");
                println!("SKIPPED: what {name} needs is not installed ({package})");
                return None;
            }
            assert!(began.elapsed() < STARTS_WITHIN, "{name} does not start");
            thread::sleep(Duration::from_millis(20));
        }
        Some(program)
    }

    /// Scheme, host and port.
    pub(crate) fn origin(&self) -> String {
        format!("http://127.0.0.1:{}", self.port.number)
    }

    /// The status and the body of its answer.
    pub(crate) fn ask(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        self.try_ask(method, path, body).unwrap()
    }

    fn try_ask(&self, method: &str, path: &str, body: &str) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port.number)).ok()?;
        // In HTTP/1.0, so that the answer ends with its connection and comes in one piece.
        let length = body.len();
        write!(
            stream,
            "{method} {path} HTTP/1.0\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        )
        .ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some((status, body.to_owned()))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Python with a script of ours.
pub(crate) fn python(script: &str) -> Command {
    let mut command = Command::new(env::var_os("PYTHON").unwrap_or_else(|| OsString::from("python3")));
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/real/counterparts/").to_owned() + script);
    command
}

/// What a script says about a text, line by line; `None`, with a line that says so, where its library is not installed.
pub(crate) fn lines_of(mut command: Command, text: &str) -> Option<Vec<String>> {
    let Ok(mut child) = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn() else {
        println!("SKIPPED: Python is not installed (PYTHON names it)");
        return None;
    };
    // It may have ended already, where there is no such library.
    let _ = child.stdin.take().unwrap().write_all(text.as_bytes());
    let ended = child.wait_with_output().unwrap();
    let said = String::from_utf8(ended.stdout).unwrap();
    if ended.status.code() == Some(NOT_INSTALLED) {
        println!("SKIPPED: {}", said.trim());
        return None;
    }
    assert!(ended.status.success());
    Some(said.lines().map(str::to_owned).collect())
}
