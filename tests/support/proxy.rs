//! Real proxies, each in a folder and on a port of its own, that ask for a user and a password.

use std::{
    fs,
    net::{Ipv4Addr, TcpStream},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use super::weather::Port;

pub const USER: &str = "courier";
pub const PASSWORD: &str = "hunter2";

/// The proxies that there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Tinyproxy,
    Squid,
}

impl Kind {
    pub const ALL: [Self; 2] = [Self::Tinyproxy, Self::Squid];

    fn program(self) -> Option<&'static str> {
        let (paths, package) = match self {
            Self::Tinyproxy => (["/usr/bin/tinyproxy", "/usr/sbin/tinyproxy"], "tinyproxy"),
            Self::Squid => (["/usr/sbin/squid", "/usr/bin/squid"], "squid"),
        };
        let found = paths.into_iter().find(|path| Path::new(path).exists());
        if found.is_none() {
            println!("SKIPPED: {package} is not installed (apt-get install {package})");
        }
        found
    }
}

/// A running proxy; stopped when dropped.
#[derive(Debug)]
pub struct Proxy {
    folder: TempDir,
    port: Port,
    child: Child,
}

impl Proxy {
    /// `None`, with a line that says so, where it is not installed.
    ///
    /// # Panics
    /// It is there and does not start.
    pub fn start(kind: Kind) -> Option<Self> {
        let program = kind.program()?;
        let folder = tempfile::tempdir().expect("a folder can be made");
        // Squid lets the work be done by a user of its own.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).expect("it is ours");
        let port = Port::reserve();
        let configuration = match kind {
            Kind::Tinyproxy => tinyproxy(port.number),
            Kind::Squid => squid(port.number, folder.path()),
        };
        let file = folder.path().join("proxy.conf");
        fs::write(&file, configuration).expect("the folder can be written");
        let mut command = Command::new(program);
        match kind {
            Kind::Tinyproxy => command.arg("-d").arg("-c").arg(&file),
            Kind::Squid => command.arg("-N").arg("-f").arg(&file),
        };
        command.current_dir(folder.path()).stdin(Stdio::null());
        let log = fs::File::create(folder.path().join("log")).expect("the folder can be written");
        command.stdout(log.try_clone().expect("a file")).stderr(log);
        let child = command.spawn().expect("it can be started");
        let mut proxy = Self { folder, port, child };
        let began = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port.number)).is_err() {
            let runs = matches!(proxy.child.try_wait(), Ok(None));
            assert!(runs && began.elapsed() < Duration::from_secs(30), "it does not start: {}", proxy.log());
            thread::sleep(Duration::from_millis(10));
        }
        Some(proxy)
    }

    /// Without user and password.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port.number)
    }

    pub fn port(&self) -> u16 {
        self.port.number
    }

    /// What it wrote.
    pub fn log(&self) -> String {
        let read = |name| fs::read_to_string(self.folder.path().join(name)).unwrap_or_default();
        ["log", "access.log", "cache.log"].map(read).concat()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn tinyproxy(port: u16) -> String {
    format!(
        "Port {port}\nListen 127.0.0.1\nAllow 127.0.0.1\nTimeout 60\nMaxClients 100\nLogLevel Connect\n\
         BasicAuth {USER} {PASSWORD}\n"
    )
}

fn squid(port: u16, folder: &Path) -> String {
    let passwords = folder.join("passwords");
    let made = Command::new("openssl").args(["passwd", "-apr1", PASSWORD]).output();
    let hash = made.map(|made| String::from_utf8_lossy(&made.stdout).into_owned()).unwrap_or_default();
    fs::write(&passwords, format!("{USER}:{hash}")).expect("the folder can be written");
    format!(
        "http_port 127.0.0.1:{port}
        auth_param basic program /usr/lib/squid/basic_ncsa_auth {}
        auth_param basic children 1
        acl known proxy_auth REQUIRED
        http_access allow known
        http_access deny all
        cache deny all
        cache_mem 8 MB
        pinger_enable off
        netdb_filename none
        access_log stdio:{}/access.log
        cache_log {}/cache.log
        pid_filename none
        shutdown_lifetime 0 seconds
        coredump_dir {}\n",
        passwords.display(),
        folder.display(),
        folder.display(),
        folder.display()
    )
}
