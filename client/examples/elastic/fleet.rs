//! The master and the servers: processes of their own, that are treated as they are in real life.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use tokio::{
    process::{Child, Command},
    time::{Instant, sleep, timeout},
};

/// How long anything may take that a process is asked for.
const PATIENCE: Duration = Duration::from_secs(60);

/// What became of a server by our hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Runs,
    Killed,
    Frozen,
    Leaves,
    Gone,
}

/// The processes. When it is dropped they are killed.
pub(crate) struct Fleet {
    glint: PathBuf,
    place: PathBuf,
    master: Child,
    url: String,
    servers: BTreeMap<String, Child>,
}

impl Fleet {
    /// Starts a master and its first servers; `place` is a folder for what they write.
    pub(crate) async fn start(glint: &Path, place: PathBuf, servers: &[&str]) -> Result<Self> {
        fs::create_dir_all(&place)?;
        let file = place.join("url");
        let folder = place.join("master");
        let master = Command::new(glint)
            .args(["master", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(&folder)
            .arg("--url-file")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(place.join("master.log"))?)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {}; type: make build", glint.display()))?;
        let began = Instant::now();
        let url = loop {
            match fs::read_to_string(&file) {
                Ok(url) => break url,
                Err(error) if began.elapsed() > PATIENCE => {
                    return Err(error).context("the master did not start; see its log");
                }
                Err(_) => sleep(Duration::from_millis(10)).await,
            }
        };
        let mut fleet = Self {
            glint: glint.to_owned(),
            place,
            master,
            url,
            servers: BTreeMap::new(),
        };
        for server in servers {
            fleet.join(server)?;
        }
        Ok(fleet)
    }

    /// Where clients find it.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Starts one more server.
    pub(crate) fn join(&mut self, name: &str) -> Result<()> {
        let log = File::create(self.place.join(format!("{name}.log")))?;
        let server = Command::new(&self.glint)
            .args(["server", "--id", name, "--memory", "256MiB"])
            .args(["--master", &self.url])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()?;
        self.servers.insert(name.to_owned(), server);
        Ok(())
    }

    /// Sends a signal to a server, as `kill` does.
    pub(crate) async fn signal(&self, name: &str, signal: &str) -> Result<()> {
        let server = self.servers.get(name).context("there is no such server")?;
        let id = server
            .id()
            .with_context(|| format!("{name} has ended by itself; see its log"))?;
        // The shell has it built in; the program may be missing.
        let sent = Command::new("sh")
            .args(["-c", "kill \"$1\" \"$2\"", "sh", signal])
            .arg(id.to_string())
            .status()
            .await?;
        ensure!(sent.success(), "{name} could not be sent {signal}");
        Ok(())
    }

    /// Has everything moved off a server with `glint drain`.
    pub(crate) fn drain(&self, name: &str) -> impl Future<Output = Result<()>> + use<> {
        let mut command = Command::new(&self.glint);
        command
            .args(["drain", name, "--wait", "--master", &self.url])
            .stdin(Stdio::null())
            .kill_on_drop(true);
        async move {
            let output = timeout(PATIENCE, command.output())
                .await
                .with_context(|| format!("it is not empty after {PATIENCE:?}"))??;
            ensure!(
                output.status.success(),
                "glint drain: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            );
            Ok(())
        }
    }

    /// Waits until a server that was told to end has; it must end in order unless it was `killed`.
    pub(crate) async fn ended(&mut self, name: &str, killed: bool) -> Result<()> {
        let mut server = self
            .servers
            .remove(name)
            .context("there is no such server")?;
        let status = timeout(PATIENCE, server.wait())
            .await
            .with_context(|| format!("{name} does not end"))??;
        ensure!(killed || status.success(), "{name} ended with {status}");
        Ok(())
    }

    /// Fails when a process has ended that nobody told to.
    pub(crate) fn check(&mut self) -> Result<()> {
        if let Some(status) = self.master.try_wait()? {
            bail!("the master ended with {status}; see its log");
        }
        for (name, server) in &mut self.servers {
            if let Some(status) = server.try_wait()? {
                bail!("{name} ended with {status}; see its log");
            }
        }
        Ok(())
    }
}
