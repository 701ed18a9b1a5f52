//! The process that trains, and what it tells of itself.

use std::{
    path::Path,
    process::Stdio,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, ChildStdin, Command},
    task::JoinHandle,
    time::timeout,
};

use crate::event::Event;

/// How long it may take to end once it was told to.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the training told last, and how it went on over time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Told {
    pub(crate) last: Event,
    /// Seconds of the longest sweep since it was looked at.
    pub(crate) longest: f64,
}

/// A training that runs. When it is dropped it is killed.
pub(crate) struct Training {
    child: Child,
    /// It goes on so long as this is open.
    more: Option<ChildStdin>,
    told: Arc<Mutex<Told>>,
    reading: JoinHandle<Result<()>>,
}

impl Training {
    /// Starts it at a cluster; it goes on after its sweeps until it is told to end.
    pub(crate) fn start(lda: &Path, url: &str, corpus: &Path, sweeps: usize) -> Result<Self> {
        let mut child = Command::new(lda)
            .args(["--master", url, "--copies", "2"])
            .args(["--partitions-per-server", "6"])
            .args(["--events", "--keep-going", "--sweeps", &sweeps.to_string()])
            .arg("--corpus")
            .arg(corpus)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {}; type: make build", lda.display()))?;
        let more = child.stdin.take();
        let output = child.stdout.take().context("the training has no output")?;
        let told = Arc::new(Mutex::new(Told::default()));
        let reading = tokio::spawn(read(BufReader::new(output), Arc::clone(&told)));
        Ok(Self {
            child,
            more,
            told,
            reading,
        })
    }

    /// What it told last.
    pub(crate) fn told(&self) -> Told {
        lock(&self.told).clone()
    }

    /// The longest sweep since this was asked last, in seconds.
    pub(crate) fn longest_sweep(&self) -> f64 {
        std::mem::take(&mut lock(&self.told).longest)
    }

    /// Fails when it has ended by itself.
    pub(crate) async fn check(&mut self) -> Result<()> {
        if self.child.try_wait()?.is_some() {
            self.complaint().await?;
        }
        Ok(())
    }

    /// It may end; what it came to.
    pub(crate) async fn finish(mut self) -> Result<Event> {
        drop(self.more.take());
        let status = timeout(PATIENCE, self.child.wait())
            .await
            .context("the training does not end")??;
        if !status.success() {
            self.complaint().await?;
        }
        (&mut self.reading).await??;
        let last = lock(&self.told).last.clone();
        ensure!(last.exact, "the training did not come to its end");
        Ok(last)
    }

    /// It has failed: why.
    async fn complaint(&mut self) -> Result<()> {
        let mut said = String::new();
        if let Some(mut errors) = self.child.stderr.take() {
            tokio::io::AsyncReadExt::read_to_string(&mut errors, &mut said).await?;
        }
        anyhow::bail!("the training failed: {}", said.trim())
    }
}

fn lock(told: &Mutex<Told>) -> MutexGuard<'_, Told> {
    // It is changed in single steps.
    told.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes in what it tells: lines of JSON among others that are for people.
async fn read(output: impl tokio::io::AsyncBufRead + Unpin, told: Arc<Mutex<Told>>) -> Result<()> {
    let mut lines = output.lines();
    while let Some(line) = lines.next_line().await? {
        if line.starts_with('{') {
            let event: Event =
                serde_json::from_str(&line).with_context(|| format!("the training said {line}"))?;
            let mut told = lock(&told);
            told.longest = told.longest.max(event.seconds);
            told.last = event;
        }
    }
    Ok(())
}
