//! A cluster of one master and one server, each a process of its own of the binary that is measured.

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::Context;
use glint::{Client, Durability};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

use crate::{
    machine,
    workload::{COLUMNS, MATRIX, VECTOR},
};

/// Name of a durable server, and of its directory.
const SERVER: &str = "s1";
/// How long processes may take to leave after they were asked to.
const LEAVE: Duration = Duration::from_secs(30);

/// The processes. When it is dropped they are killed.
pub(crate) struct Cluster {
    url: String,
    master: Child,
    server: Child,
    /// What starts the server again.
    again: Vec<String>,
    binary: PathBuf,
    data: tempfile::TempDir,
}

/// Bytes of memory of a process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    /// Now.
    pub(crate) now: u64,
    /// The most there were.
    pub(crate) peak: u64,
}

/// A port that nobody uses at this moment.
pub(crate) fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Starts a process of the binary that is measured; it is killed when it is dropped.
pub(crate) fn start(binary: &Path, arguments: &[&str]) -> anyhow::Result<Child> {
    Command::new(binary)
        .args(arguments)
        .env("RUST_LOG", "warn")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| {
            format!(
                "cannot start {}; build it with: cargo build --release -p glint-server",
                binary.display()
            )
        })
}

impl Cluster {
    /// Starts both. The server registers by itself; whoever makes a model waits for that.
    pub(crate) fn start(binary: &Path) -> anyhow::Result<Self> {
        Self::with(binary, tempfile::tempdir()?, |_| Vec::new())
    }

    /// The same with a data directory for the server below `place`, and further flags of its own.
    pub(crate) fn durable(binary: &Path, place: &Path, flags: &[&str]) -> anyhow::Result<Self> {
        std::fs::create_dir_all(place)?;
        let data = tempfile::tempdir_in(place)?;
        Self::with(binary, data, |data| {
            let folder = data.join(SERVER).to_string_lossy().into_owned();
            let mut all = vec![
                "--id".to_owned(),
                SERVER.to_owned(),
                "--data-dir".to_owned(),
                folder,
            ];
            all.extend(flags.iter().map(|&flag| flag.to_owned()));
            all
        })
    }

    fn with(
        binary: &Path,
        data: tempfile::TempDir,
        flags: impl FnOnce(&Path) -> Vec<String>,
    ) -> anyhow::Result<Self> {
        let master_address = format!("127.0.0.1:{}", free_port()?);
        let server_address = format!("127.0.0.1:{}", free_port()?);
        let url = format!("http://{master_address}");
        let folder = data.path().join("master");
        let folder = folder.to_string_lossy();
        let master = start(
            binary,
            &["master", "--listen", &master_address, "--data-dir", &folder],
        )?;
        let usual = ["server", "--master", &url, "--listen", &server_address];
        let mut again: Vec<String> = usual.map(str::to_owned).into();
        again.extend(flags(data.path()));
        let arguments: Vec<&str> = again.iter().map(String::as_str).collect();
        let server = start(binary, &arguments)?;
        Ok(Self {
            url,
            master,
            server,
            again,
            binary: binary.to_owned(),
            data,
        })
    }

    /// The server's data directory.
    pub(crate) fn directory(&self) -> PathBuf {
        self.data.path().join(SERVER)
    }

    /// Kills the server and starts it again; what the new one says of its recovery in its log, as JSON.
    pub(crate) async fn recover(&mut self) -> anyhow::Result<serde_json::Value> {
        self.server.kill().await?;
        let mut server = Command::new(&self.binary)
            .args(["--log", "json"])
            .args(&self.again)
            .env("RUST_LOG", "info")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let log = server.stderr.take().context("the server has no log")?;
        self.server = server;
        let mut lines = BufReader::new(log).lines();
        let read = async {
            while let Some(line) = lines.next_line().await? {
                let line: serde_json::Value = serde_json::from_str(&line)?;
                if line["message"] == "data directory read" {
                    return Ok(line);
                }
            }
            anyhow::bail!("the server ended without reading its data directory")
        };
        let said = tokio::time::timeout(LEAVE * 4, read).await??;
        // Nobody would hear the rest, and a full pipe would stop the server.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Ok(said)
    }

    /// The master's URL.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Makes the vector of so many f32, all 1.
    pub(crate) async fn create_vector(
        &self,
        values: u64,
        durability: Durability,
    ) -> anyhow::Result<()> {
        let client = Client::connect(&self.url).await?;
        client
            .vector::<f32>(VECTOR, values)
            .initial(1.0)
            .durability(durability)
            .create()
            .await?;
        Ok(())
    }

    /// Makes the matrix of so many rows of f32, all 1.
    pub(crate) async fn create_matrix(&self, rows: u64) -> anyhow::Result<()> {
        let client = Client::connect(&self.url).await?;
        client
            .matrix::<f32>(MATRIX, rows, COLUMNS)
            .initial(1.0)
            .create()
            .await?;
        Ok(())
    }

    /// Memory of the server's process.
    pub(crate) fn server_memory(&self) -> anyhow::Result<Memory> {
        let id = self.server.id().context("the server has ended")?;
        let path = format!("/proc/{id}/status");
        let field =
            |name| machine::kilobytes(&path, name).with_context(|| format!("{path} has no {name}"));
        Ok(Memory {
            now: field("VmRSS")?,
            peak: field("VmHWM")?,
        })
    }

    /// Ends both in order, the server first.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        for (name, child) in [("server", &mut self.server), ("master", &mut self.master)] {
            leave(child)
                .await
                .with_context(|| format!("the {name} did not leave in order"))?;
        }
        Ok(())
    }
}

/// Asks a process to leave, and waits until it has.
async fn leave(child: &mut Child) -> anyhow::Result<()> {
    let id = child.id().context("it had ended before")?.to_string();
    let start = Instant::now();
    // The shell has it built in; the program may be missing.
    let asked = Command::new("sh")
        .args(["-c", "kill -TERM \"$1\"", "sh", &id])
        .status()
        .await?;
    anyhow::ensure!(asked.success(), "it could not be signalled");
    let status = tokio::time::timeout(LEAVE, child.wait())
        .await
        .with_context(|| format!("it still runs after {:?}", start.elapsed()))??;
    anyhow::ensure!(status.success(), "it ended with {status}");
    Ok(())
}
