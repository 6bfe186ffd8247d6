//! The real server, on free ports, with a folder of its own.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;

use super::{admin::Admin, command, executable, free_port, wait_for};

/// Runs until it is dropped.
#[derive(Debug)]
pub struct Server {
    executable: PathBuf,
    folder: TempDir,
    pub port: u16,
    http_port: u16,
    /// Its certificate, where it speaks TLS.
    certificate: Option<PathBuf>,
    child: Option<Child>,
}

impl Server {
    /// `None`, and a word about it, where there is no executable.
    pub fn start() -> Option<Self> {
        let mut server = Self::prepare()?;
        server.up();
        Some(server)
    }

    /// The same behind TLS, as `localhost`.
    pub fn start_with_tls() -> Option<Self> {
        let mut server = Self::prepare()?;
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        let path = server.folder.path().join("certificate.pem");
        fs::write(&path, made.cert.pem()).expect("the folder can be written");
        fs::write(path.with_file_name("key.pem"), made.signing_key.serialize_pem())
            .expect("the folder can be written");
        server.certificate = Some(path);
        server.up();
        Some(server)
    }

    fn prepare() -> Option<Self> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (port, http_port) = (free_port(), free_port());
        let executable = executable("IGGY_SERVER")?;
        Some(Self { executable, folder, port, http_port, certificate: None, child: None })
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub fn certificate(&self) -> Option<&Path> {
        self.certificate.as_deref()
    }

    pub fn admin(&self) -> Admin {
        Admin::connect(&self.address(), self.certificate())
    }

    /// Starts it, with what it had in its folder.
    pub fn up(&mut self) {
        let log = File::options().create(true).append(true).open(self.folder.path().join("server.log"));
        let log = log.expect("the folder can be written");
        let mut command = command(&self.executable);
        if let Some(certificate) = &self.certificate {
            command
                .env("IGGY_TCP_TLS_ENABLED", "true")
                .env("IGGY_TCP_TLS_SELF_SIGNED", "false")
                .env("IGGY_TCP_TLS_CERT_FILE", certificate)
                .env("IGGY_TCP_TLS_KEY_FILE", certificate.with_file_name("key.pem"));
        }
        let child = command
            .env("IGGY_ROOT_USERNAME", "iggy")
            .env("IGGY_ROOT_PASSWORD", "iggy")
            .env("IGGY_TCP_ADDRESS", self.address())
            .env("IGGY_HTTP_ADDRESS", format!("127.0.0.1:{}", self.http_port))
            .env("IGGY_QUIC_ENABLED", "false")
            .env("IGGY_WEBSOCKET_ENABLED", "false")
            .env("IGGY_SYSTEM_PATH", self.folder.path().join("data"))
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file can be shared"))
            .stderr(log)
            .spawn()
            .expect("IGGY_SERVER can be run");
        self.child = Some(child);
        wait_for("the server", || Admin::try_connect(&self.address(), self.certificate()).map(drop));
    }

    /// Asks it to end, and waits until it has.
    pub fn down(&mut self) {
        if let Some(mut child) = self.child.take() {
            let asked = Command::new("kill").args(["-s", "TERM", &child.id().to_string()]).status();
            assert!(asked.is_ok_and(|status| status.success()), "the server can be asked to end");
            wait_for("the end of the server", || child.try_wait().expect("it is our child"));
        }
    }

    /// Sends it a signal, such as STOP.
    pub fn signal(&self, name: &str) {
        let id = self.child.as_ref().expect("it runs").id().to_string();
        assert!(Command::new("kill").args(["-s", name, &id]).status().is_ok_and(|status| status.success()));
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("server.log")).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            let log = self.log();
            let start = log.len().saturating_sub(3000);
            eprintln!("the end of the server's log:\n{}", log.get(start..).unwrap_or(&log));
        }
    }
}
