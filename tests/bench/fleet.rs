//! A cluster of one master and several servers, each a process of its own, that come and go while something is measured.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context;
use glint::{Client, ClusterStatus};
use glint_protocol::admin::DrainState;
use tokio::{
    process::{Child, Command},
    time::{Instant, sleep},
};

use crate::cluster::{free_port, start};

/// How long anything may take that is waited for.
const PATIENCE: Duration = Duration::from_secs(180);
/// How often is looked whether it has come: each look costs the master time that grows with its partitions.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The processes. When it is dropped they are killed.
pub(crate) struct Fleet {
    url: String,
    _master: Child,
    servers: BTreeMap<String, Child>,
    binary: PathBuf,
    /// Flags of every server.
    flags: Vec<String>,
    client: Client,
    _data: tempfile::TempDir,
}

impl Fleet {
    /// Starts a master and these servers, and waits until all have registered. What there is stays where it is unless it is
    /// told to move.
    pub(crate) async fn start(
        binary: &Path,
        servers: &[&str],
        flags: &[&str],
    ) -> anyhow::Result<Self> {
        let data = tempfile::tempdir()?;
        let address = format!("127.0.0.1:{}", free_port()?);
        let url = format!("http://{address}");
        let folder = data.path().join("master").to_string_lossy().into_owned();
        let listen = ["master", "--listen", &address, "--data-dir", &folder];
        let master = start(binary, &[&listen[..], &["--no-rebalance"]].concat())?;
        let mut fleet = Self {
            client: Client::connect(&url).await?,
            url,
            _master: master,
            servers: BTreeMap::new(),
            binary: binary.to_owned(),
            flags: flags.iter().map(|&flag| flag.to_owned()).collect(),
            _data: data,
        };
        for server in servers {
            fleet.join(server).await?;
        }
        Ok(fleet)
    }

    /// The master's URL.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// A client of the directing process.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Starts one more server, or one again, and waits until it has registered.
    pub(crate) async fn join(&mut self, name: &str) -> anyhow::Result<()> {
        let mut arguments = vec!["server", "--id", name, "--master", &self.url];
        arguments.extend(self.flags.iter().map(String::as_str));
        let server = start(&self.binary, &arguments)?;
        self.servers.insert(name.to_owned(), server);
        self.until("a server has registered", |status| {
            let mut servers = status.servers.iter();
            servers
                .any(|s| s.id.0 == name && s.state == glint_protocol::control::ServerState::Alive)
        })
        .await
    }

    /// Kills a server, without a warning; when that was.
    pub(crate) async fn kill(&mut self, name: &str) -> anyhow::Result<Instant> {
        let mut server = self.servers.remove(name).context("no such server")?;
        let at = Instant::now();
        server.kill().await?;
        Ok(at)
    }

    /// Waits until the status is as wanted.
    pub(crate) async fn until(
        &self,
        what: &str,
        is: impl Fn(&ClusterStatus) -> bool,
    ) -> anyhow::Result<()> {
        let began = Instant::now();
        while !is(&self.client.status().await?) {
            anyhow::ensure!(began.elapsed() < PATIENCE, "still not: {what}");
            sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    /// Waits until every partition has the copies that it shall have.
    pub(crate) async fn until_whole(&self) -> anyhow::Result<()> {
        self.until("every partition has its copies", |status| {
            let mut models = status.models.iter();
            models.all(|m| m.copies.below == 0 && m.copies.waiting == 0)
        })
        .await
    }

    /// Has everything moved off a server, and waits until that is done; how long it took.
    pub(crate) async fn empty(&self, name: &str) -> anyhow::Result<Duration> {
        let began = Instant::now();
        let asked = Command::new(&self.binary)
            .args(["drain", name, "--master", &self.url])
            .kill_on_drop(true)
            .output()
            .await?;
        anyhow::ensure!(
            asked.status.success(),
            "glint drain {name}: {}",
            String::from_utf8_lossy(&asked.stderr)
        );
        self.until("a server is empty", |status| {
            let mut servers = status.servers.iter();
            servers.any(|s| s.id.0 == name && s.drain == Some(DrainState::Drained))
        })
        .await?;
        Ok(began.elapsed())
    }

    /// Takes back what was asked with [`Self::empty`].
    pub(crate) async fn keep(&self, name: &str) -> anyhow::Result<()> {
        let asked = Command::new(&self.binary)
            .args(["drain", name, "--cancel", "--master", &self.url])
            .kill_on_drop(true)
            .output()
            .await?;
        anyhow::ensure!(asked.status.success(), "glint drain {name} --cancel failed");
        Ok(())
    }
}
