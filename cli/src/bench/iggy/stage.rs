//! The server with a topic full of messages, and the processes that read it.

use std::{
    fs::{self, File},
    io,
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::Arc,
    thread::sleep,
    time::{Duration, Instant},
};

use iggy::prelude::{
    AutoLogin, Client, Credentials, DEFAULT_ROOT_PASSWORD, DEFAULT_ROOT_USERNAME, Identifier, IggyError,
    IggyMessage, MessageClient, Partitioning, StreamClient, TcpClient, TcpClientConfig, TopicClient,
    TopicCreateOptions,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    bench::{load, worker::Job},
    host,
    terminal::report::Failure,
};

pub(super) const PARTITIONS: u32 = 4;
const STREAM: &str = "bench";
const TOPIC: &str = "orders";
/// The number of messages in one request to the server.
const CHUNK: u64 = 1000;
/// The timeout for the server to start.
const STARTING: Duration = Duration::from_secs(60);
/// How much of a log is shown if something fails.
const SHOWN: usize = 2000;

/// A server, until it is dropped.
#[derive(Debug)]
pub(super) struct Stage {
    // Dropped before the folder that it works in.
    _server: Process,
    address: String,
    folder: TempDir,
    /// How many runs there were.
    runs: usize,
}

/// A process that is killed when it is dropped.
#[derive(Debug)]
pub(super) struct Process(Child);

impl Process {
    /// Starts a process with its output in this file.
    pub(super) fn start(command: &mut Command, log: PathBuf) -> Result<Self, Failure> {
        let start = || {
            let log = File::create(log)?;
            command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()
        };
        start().map(Self).map_err(|why| failed("a process cannot be started", &why))
    }

    pub(super) fn id(&self) -> u32 {
        self.0.id()
    }

    /// How it ended, if it has.
    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        self.0.try_wait().ok().flatten()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn failed(what: &str, why: &dyn std::fmt::Display) -> Failure {
    Failure::Other(format!("{what}: {why}"))
}

/// Creates a command without the variables that are meant for this program or others: those of Iggy would change what is
/// measured.
fn command(executable: &Path, folder: &Path) -> Command {
    let mut command = Command::new(executable);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("IGGY_") {
            command.env_remove(name);
        }
    }
    if std::env::var_os("RUST_LOG").is_none() {
        command.env("RUST_LOG", "warn");
    }
    command.current_dir(folder);
    command
}

/// An address on loopback that nobody listens on.
fn free_address() -> Result<String, Failure> {
    let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
    address.map(|address| address.to_string()).map_err(|why| failed("no free port", &why))
}

impl Stage {
    /// Starts the server in a temporary folder.
    pub(super) fn set(server: &Path) -> Result<Self, Failure> {
        let folder = tempfile::tempdir().map_err(|why| failed("no temporary folder", &why))?;
        let address = free_address()?;
        let mut command = command(server, folder.path());
        command
            .env("IGGY_ROOT_USERNAME", DEFAULT_ROOT_USERNAME)
            .env("IGGY_ROOT_PASSWORD", DEFAULT_ROOT_PASSWORD)
            .env("IGGY_TCP_ADDRESS", &address)
            .env("IGGY_HTTP_ENABLED", "false")
            .env("IGGY_QUIC_ENABLED", "false")
            .env("IGGY_WEBSOCKET_ENABLED", "false")
            .env("IGGY_SYSTEM_PATH", folder.path().join("data"));
        let server = Process::start(&mut command, folder.path().join("0.log"))?;
        Ok(Self { _server: server, address, folder, runs: 0 })
    }

    /// Creates the topic and its messages, evenly distributed over all partitions.
    pub(super) fn fill(&self, job: &Job) -> Result<(), Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|why| failed("no threads", &why))?;
        runtime.block_on(async {
            let client = self.connect().await?;
            fill(&client, job)
                .await
                .map_err(|why| self.complaint(&format!("the server takes no messages: {why}")))
        })
    }

    async fn connect(&self) -> Result<TcpClient, Failure> {
        let credentials = Credentials::UsernamePassword(
            DEFAULT_ROOT_USERNAME.to_owned(),
            DEFAULT_ROOT_PASSWORD.to_owned().into(),
        );
        let mut config = TcpClientConfig {
            server_address: self.address.clone(),
            auto_login: AutoLogin::Enabled(credentials),
            ..TcpClientConfig::default()
        };
        config.reconnection.enabled = false;
        let start = Instant::now();
        loop {
            let connected = match TcpClient::create(Arc::new(config.clone())) {
                Ok(client) => Client::connect(&client).await.map(|()| client),
                Err(why) => Err(why),
            };
            match connected {
                Ok(client) => return Ok(client),
                Err(why) if start.elapsed() > STARTING => {
                    return Err(self.complaint(&format!("the server does not start: {why}")));
                }
                Err(_) => sleep(Duration::from_millis(50)),
            }
        }
    }

    /// The command of the next run: the runtime, or this program.
    pub(super) fn prepare(
        &mut self,
        runtime: Option<&Path>,
        plugin: &Path,
        config: &Value,
        batch_length: u64,
        poll_interval: Duration,
    ) -> Result<Command, Failure> {
        self.runs += 1;
        let folder = self.folder.path().join(self.runs.to_string());
        let connectors = folder.join("connectors");
        let connector = json!({
            "type": "sink",
            "key": "bench",
            "enabled": true,
            "version": 0,
            "name": "bench",
            "path": plugin,
            "streams": [{
                "stream": STREAM,
                "topics": [TOPIC],
                "schema": "json",
                "batch_length": batch_length,
                "poll_interval": humantime::format_duration(poll_interval).to_string(),
                // A group that has not read anything.
                "consumer_group": format!("bench-{}", self.runs),
            }],
            "plugin_config": config,
        });
        let file = connectors.join("bench.toml");
        let write = || {
            fs::create_dir_all(&connectors)?;
            fs::write(&file, as_toml(&connector)?)
        };
        write().map_err(|why| failed("the connector file cannot be written", &why))?;
        let Some(runtime) = runtime else {
            let mut command = command(&host::executable()?, &folder);
            command.arg("run").arg(&file).arg("--plugin").arg(plugin).args(["--server", &self.address]);
            return Ok(command);
        };
        let main = json!({
            "http": { "enabled": false, "address": free_address()? },
            "iggy": {
                "address": self.address,
                "username": DEFAULT_ROOT_USERNAME,
                "password": DEFAULT_ROOT_PASSWORD,
                "token": "",
            },
            "state": { "path": "state" },
            "connectors": { "config_type": "local", "config_dir": connectors },
        });
        let path = folder.join("runtime.toml");
        let text = as_toml(&main).and_then(|text| fs::write(&path, text));
        text.map_err(|why| failed("the configuration of the runtime cannot be written", &why))?;
        let mut command = command(runtime, &folder);
        command.env("IGGY_CONNECTORS_CONFIG_PATH", path);
        Ok(command)
    }

    /// The log file of this run's process.
    pub(super) fn log(&self) -> PathBuf {
        self.folder.path().join(format!("{}.log", self.runs))
    }

    /// The error, with the end of the process's output.
    pub(super) fn complaint(&self, what: &str) -> Failure {
        let log = fs::read(self.log()).unwrap_or_default();
        let end = String::from_utf8_lossy(&log[log.len().saturating_sub(SHOWN)..]);
        Failure::Other(format!("{what}\n{}", end.trim_end()))
    }
}

fn as_toml(value: &Value) -> io::Result<String> {
    let table = toml::Table::try_from(value).map_err(io::Error::other)?;
    toml::to_string(&table).map_err(io::Error::other)
}

async fn fill(client: &TcpClient, job: &Job) -> Result<(), IggyError> {
    let (stream, topic) = (Identifier::named(STREAM)?, Identifier::named(TOPIC)?);
    client.create_stream(STREAM).await?;
    let options = TopicCreateOptions { partitions_count: Some(PARTITIONS), ..Default::default() };
    client.create_topic(&stream, TOPIC, &options).await?;
    let each = job.messages.div_ceil(u64::from(PARTITIONS));
    for partition in 0..PARTITIONS {
        let mut next = (u64::from(partition) * each).min(job.messages);
        let end = (next + each).min(job.messages);
        while next < end {
            let chunk = next..end.min(next + CHUNK);
            next = chunk.end;
            let mut messages = chunk
                .map(|number| {
                    let mut payload = Vec::with_capacity(job.size);
                    load::payload(number, job.size, &mut payload);
                    IggyMessage::builder().id(u128::from(number) + 1).payload(payload.into()).build()
                })
                .collect::<Result<Vec<_>, _>>()?;
            client
                .send_messages(&stream, &topic, &Partitioning::partition_id(partition), &mut messages)
                .await?;
        }
    }
    Ok(())
}
