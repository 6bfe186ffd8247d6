//! The real connectors runtime.

use std::{
    fs::{self, File},
    path::Path,
    process::{Child, Command, Stdio},
};

use serde_json::Value;
use tempfile::TempDir;

use super::{Connector, command, executable, free_port, json, server::Server, wait_for};

/// Runs until it is dropped.
#[derive(Debug)]
pub struct Runtime {
    folder: TempDir,
    pub port: u16,
    child: Child,
}

impl Runtime {
    /// With these connectors. `None`, and a word about it, where there is no executable.
    pub fn start(server: &Server, connectors: &[Connector]) -> Option<Self> {
        let executable = executable("IGGY_CONNECTORS")?;
        let folder = tempfile::tempdir().expect("a temporary folder");
        let port = free_port();
        let connectors_folder = folder.path().join("connectors");
        fs::create_dir(&connectors_folder).expect("the folder can be written");
        for connector in connectors {
            connector.write(&connectors_folder);
        }
        let config = folder.path().join("runtime.toml");
        write_config(&config, server, port, &connectors_folder);
        let log = File::create(folder.path().join("runtime.log")).expect("the folder can be written");
        let child = command(&executable)
            .env("IGGY_CONNECTORS_CONFIG_PATH", &config)
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file can be shared"))
            .stderr(log)
            .spawn()
            .expect("IGGY_CONNECTORS can be run");
        let runtime = Self { folder, port, child };
        wait_for("the runtime", || json(port, "/stats"));
        Some(runtime)
    }

    /// What the API says of a sink.
    pub fn sink(&self, key: &str) -> Value {
        let sinks = json(self.port, "/sinks").expect("the runtime answers");
        let found = sinks.as_array().and_then(|sinks| sinks.iter().find(|sink| sink["key"] == key));
        found.unwrap_or_else(|| panic!("{key} is not in {sinks}")).clone()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to end; the child, to be waited for.
    pub fn ask_to_end(&self) {
        let asked = Command::new("kill").args(["-s", "TERM", &self.pid().to_string()]).status();
        assert!(asked.is_ok_and(|status| status.success()), "the runtime can be asked to end");
    }

    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("it is our child").is_some()
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("runtime.log")).unwrap_or_default()
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = self.log();
            let start = log.len().saturating_sub(3000);
            eprintln!("the end of the runtime's log:\n{}", log.get(start..).unwrap_or(&log));
        }
    }
}

/// The main configuration of a runtime.
pub fn write_config(path: &Path, server: &Server, port: u16, connectors: &Path) {
    let text = format!(
        "[http]\nenabled = true\naddress = \"127.0.0.1:{port}\"\n\n\
         [iggy]\naddress = \"{}\"\nusername = \"iggy\"\npassword = \"iggy\"\ntoken = \"\"\n\n\
         [state]\npath = \"state\"\n\n\
         [connectors]\nconfig_type = \"local\"\nconfig_dir = \"{}\"\n",
        server.address(),
        connectors.display()
    );
    fs::write(path, text).expect("the folder can be written");
}
