//! `glint master`, `glint server` and `glint local`: processes that run until SIGTERM or ctrl-c.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use clap::{Args, Subcommand};
use glint_protocol::{Durability, ServerId, control::Labels, copies::Pulse, spec::MAX_COPIES};
use glint_server::{
    local::{Local as LocalStart, LocalConfig, LocalError},
    log::LogOptions,
    master::{self, MasterConfig, Size},
    server::{self, OnShutdown, ServerConfig},
};
use glint_world::{
    DirectoryDisk, Disk, Listener, MemoryStorage, Shutdown, Storage, World, http::Url,
};

use super::{
    admin::Forget,
    memory::{self, Bytes},
    patience::Patience,
};

#[derive(Args)]
#[command(after_help = "\
Examples:
  glint master
  glint master --listen 0.0.0.0:7100 --data-dir /var/lib/glint/master --durability async

Then, here or on machines that reach it:
  glint server --master http://HOST:7100")]
pub(crate) struct Master {
    /// Address to listen at; port 0 takes a free one.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:7100")]
    listen: String,
    /// Where to keep what must survive a restart: servers, models, who holds what.
    #[arg(long, value_name = "PATH", default_value = "./glint-data/master")]
    data_dir: PathBuf,
    #[command(flatten)]
    patience: Patience,
    /// Write the master's URL into this file once it answers.
    #[arg(long, value_name = "PATH")]
    url_file: Option<PathBuf>,
    /// The data directory is empty, since its content was lost: take over what the servers hold. See `glint adopt`.
    #[arg(long)]
    adopt: bool,
    #[command(flatten)]
    behaviour: Behaviour,
}

#[derive(Args)]
struct Behaviour {
    /// What models survive whose maker does not say: memory (only while their servers run), async (the end of a process)
    /// or sync (the end of a machine). The last two need servers with a data directory.
    #[arg(long, value_name = "MODE", default_value = "memory")]
    durability: Durability,
    /// How many servers have a copy of each partition, 1 to 3, of models whose maker does not say.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=i64::from(MAX_COPIES)))]
    copies: u8,
    /// A server that joins gets nothing of what there is until someone asks for it: glint rebalance.
    #[arg(long)]
    no_rebalance: bool,
    /// How often servers tell the master that they live, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 50)]
    heartbeat_ms: u64,
    /// After how many milliseconds without a word a server counts as silent. It keeps its partitions.
    #[arg(long, value_name = "MS", default_value_t = 1000)]
    silent_after_ms: u64,
    /// How often a holder sends its followers a sign of life, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = Pulse::default().beacon_ms)]
    beacon_ms: u64,
    /// How long a follower that had a sign of life does not serve in its holder's place, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = Pulse::default().lease_ms)]
    lease_ms: u64,
    /// After how many milliseconds without a sign of life a follower suspects its holder, and a holder gives up a follower.
    #[arg(long, value_name = "MS", default_value_t = Pulse::default().suspicion_ms)]
    suspicion_ms: u64,
}

impl Behaviour {
    fn config(&self) -> MasterConfig {
        MasterConfig {
            durability: self.durability,
            copies: self.copies,
            rebalance: !self.no_rebalance,
            pulse: Pulse {
                beacon_ms: self.beacon_ms,
                lease_ms: self.lease_ms,
                suspicion_ms: self.suspicion_ms,
            },
            heartbeat: Duration::from_millis(self.heartbeat_ms),
            silent_after: Duration::from_millis(self.silent_after_ms),
            ..MasterConfig::default()
        }
    }
}

impl Master {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let world = World::real();
        let shutdown = signals()?;
        let open = || glint_world::storage::in_directory(&self.data_dir);
        let storage: Arc<dyn Storage> = self.patience.open(&shutdown, open).await?;
        let listener = listen(&world, &self.listen).await?;
        let address = listener.address().context("the listener has no address")?;
        tracing::info!(data_dir = %self.data_dir.display(), "master listens at http://{address}");
        if let Some(path) = &self.url_file {
            write_whole(path, &format!("http://{address}"))?;
        }
        let config = MasterConfig {
            adopt: self.adopt,
            ..self.behaviour.config()
        };
        master::run(world, storage, config, listener, shutdown).await?;
        Ok(())
    }
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  glint server --master http://127.0.0.1:7100
  glint server --master http://127.0.0.1:7100 --id s1 --data-dir ./glint-data/s1
  glint server --master http://glint-master:7100 --listen 0.0.0.0:7200 --advertise http://10.0.0.7:7200 --memory 8GiB
  glint server forget s1 --dead            (it is gone for good: stop waiting for it)

It may start before its master, and registers again by itself when the master restarts. With a data directory it has
models of durability `async` and `sync` again after it was killed, under the same --id. What it held of a model of
durability `memory` is lost when it restarts, and it says so: those partitions are `lost`, never silently zero.")]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Server {
    #[command(subcommand)]
    action: Option<ServerAction>,
    /// URL of the master.
    #[arg(
        long,
        value_name = "URL",
        env = "GLINT_URL",
        default_value = "http://127.0.0.1:7100"
    )]
    master: String,
    /// Address to listen at; port 0 takes a free one.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:0")]
    listen: String,
    /// URL under which clients and the master reach this server; the address that it listens at unless said.
    #[arg(long, value_name = "URL")]
    advertise: Option<String>,
    /// Its name, the same after a restart; host and port of its URL unless said.
    #[arg(long, value_name = "NAME")]
    id: Option<String>,
    /// Where it keeps logs and snapshots of models of durability async and sync; it can hold none of them unless said. Needs
    /// --id: what is in there belongs to a server of one name.
    #[arg(long, value_name = "PATH", requires = "id")]
    data_dir: Option<PathBuf>,
    #[command(flatten)]
    patience: Patience,
    #[command(flatten)]
    log: LogFlags,
    /// The machine that it runs on: copies of a partition are kept on different ones, as far as there are any.
    #[arg(long, value_name = "NAME", env = "GLINT_NODE")]
    node: Option<String>,
    /// The zone that the machine is in: copies are kept in different ones, as far as there are any.
    #[arg(long, value_name = "NAME", env = "GLINT_ZONE")]
    zone: Option<String>,
    /// How fast partitions are sent to other servers, per second, such as 64MiB; 0 for as fast as it goes.
    #[arg(long, value_name = "BYTES", default_value = "64MiB")]
    move_rate: Bytes,
    /// What becomes of what it holds when it is told to end: drain moves it to others first, flush has it on its disk, none does
    /// neither. What others have copies of is theirs at once.
    #[arg(long, value_name = "WHAT", value_enum, default_value_t = Ending::Flush, env = "GLINT_ON_SHUTDOWN")]
    on_shutdown: Ending,
    /// How long that may take, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 25)]
    grace_seconds: u64,
    /// How much values may take, such as 8GiB; 80 % of the memory of this machine or container unless said.
    #[arg(long, value_name = "BYTES")]
    memory: Option<Bytes>,
}

/// What becomes of what a server holds when it is told to end.
#[derive(Clone, Copy, clap::ValueEnum)]
enum Ending {
    Drain,
    Flush,
    None,
}

/// What is done to servers, not by them.
#[derive(Subcommand)]
enum ServerAction {
    /// Tell the master to forget a server that ended; with --dead, to give up what it holds.
    Forget(Forget),
}

#[derive(Args)]
struct LogFlags {
    /// The log of durable models is kept in files of this size.
    #[arg(long = "log-segment", value_name = "BYTES", default_value = "64MiB")]
    segment: Bytes,
    /// Snapshots begin to be written when the log is larger than this, and than the values.
    #[arg(long = "log-floor", value_name = "BYTES", default_value = "256MiB")]
    floor: Bytes,
    /// How often the log of models of durability async is synced, in milliseconds: so much may be missing when the whole
    /// machine stops without warning.
    #[arg(long = "log-sync-ms", value_name = "MS", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    sync_ms: u64,
}

impl LogFlags {
    fn options(&self) -> anyhow::Result<LogOptions> {
        let smallest = 64 << 10;
        anyhow::ensure!(
            self.segment.0 >= smallest,
            "--log-segment {} is too small: give at least {}",
            Size(self.segment.0),
            Size(smallest)
        );
        Ok(LogOptions {
            segment_bytes: self.segment.0,
            sync_every: Duration::from_millis(self.sync_ms),
            floor_bytes: self.floor.0,
        })
    }
}

impl Server {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        if let Some(ServerAction::Forget(forget)) = self.action {
            return forget.run().await;
        }
        let world = World::real();
        let shutdown = signals()?;
        let master: Url = self.master.parse()?;
        let capacity = self.memory.map_or_else(memory::default_bytes, |m| m.0);
        let mut config = ServerConfig::new(master, capacity);
        config.id = self.id.map(ServerId);
        config.advertise = self.advertise.map(|url| url.parse()).transpose()?;
        config.log = self.log.options()?;
        config.move_rate = Some(self.move_rate.0).filter(|&rate| rate > 0);
        config.on_shutdown = match self.on_shutdown {
            Ending::Drain => OnShutdown::Drain,
            Ending::Flush => OnShutdown::Flush,
            Ending::None => OnShutdown::Nothing,
        };
        config.grace = Duration::from_secs(self.grace_seconds);
        config.labels = Labels {
            // An orchestrator that knows neither may set the variables all the same.
            node: self.node.filter(|name| !name.is_empty()),
            zone: self.zone.filter(|name| !name.is_empty()),
        };
        if let Some(path) = &self.data_dir {
            let open = || DirectoryDisk::open(path);
            config.disk = Some(Arc::new(self.patience.open(&shutdown, open).await?));
        }
        let listener = listen(&world, &self.listen).await?;
        let address = listener.address().context("the listener has no address")?;
        tracing::info!(memory = %Size(capacity), "server listens at http://{address}");
        server::run(world, config, listener, shutdown).await?;
        Ok(())
    }
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  glint local --servers 2
  glint local --data-dir ./glint-data --durability async
  glint local --servers 4 --listen 127.0.0.1:0 --url-file /tmp/glint-url &

In another terminal:
  glint status
  glint model create weights --vector 1_000_000")]
pub(crate) struct Local {
    /// How many servers.
    #[arg(long, value_name = "N", default_value_t = 2)]
    servers: usize,
    /// Address of the master; port 0 takes a free one.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:7100")]
    listen: String,
    /// Write the master's URL into this file once all servers are registered.
    #[arg(long, value_name = "PATH")]
    url_file: Option<PathBuf>,
    /// Keep what the master knows, and logs and snapshots of models of durability async and sync here; in memory, and no
    /// such models, unless said.
    #[arg(long, value_name = "PATH")]
    data_dir: Option<PathBuf>,
    #[command(flatten)]
    log: LogFlags,
    /// How much values may take on all servers together, such as 8GiB; 80 % of the memory of this machine unless said.
    #[arg(long, value_name = "BYTES")]
    memory: Option<Bytes>,
    #[command(flatten)]
    behaviour: Behaviour,
}

impl Local {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let shutdown = signals()?;
        let mut storage: Arc<dyn Storage> = Arc::new(MemoryStorage::default());
        let mut disks: Vec<Arc<dyn Disk>> = Vec::new();
        if let Some(path) = &self.data_dir {
            storage = glint_world::storage::in_directory(path.join("master"))?;
            for number in 1..=self.servers {
                let disk = DirectoryDisk::open(path.join(format!("s{number}")))?;
                disks.push(Arc::new(disk));
            }
        }
        let memory = self.memory.map_or_else(memory::default_bytes, |m| m.0);
        let config = LocalConfig {
            servers: self.servers,
            listen: self.listen.clone(),
            storage,
            disks,
            log: self.log.options()?,
            capacity_bytes: memory / self.servers.max(1) as u64,
            master: self.behaviour.config(),
            ..LocalConfig::default()
        };
        let start = LocalStart::start(World::real(), config);
        let cluster = tokio::select! {
            started = start => started.map_err(|error| match error {
                LocalError::Listen { address, source } => {
                    anyhow::Error::new(source).context(hint_for(&address))
                }
                other => other.into(),
            })?,
            () = shutdown.cancelled() => return Ok(()),
        };
        tracing::info!(
            servers = self.servers,
            "cluster is ready at {}",
            cluster.master_url
        );
        if let Some(path) = &self.url_file {
            write_whole(path, &cluster.master_url)?;
        }
        let signal = cluster.shutdown();
        let ended = tokio::spawn(async move {
            shutdown.cancelled().await;
            signal.cancel();
        });
        let joined = cluster.join().await;
        ended.abort();
        joined?;
        Ok(())
    }
}

/// Ends at the first SIGTERM or ctrl-c; a second one ends the process at once.
fn signals() -> anyhow::Result<Shutdown> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for ctrl-c")?;
    let shutdown = Shutdown::new();
    let told = shutdown.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("ending: settling what is in flight; once more ends at once");
        told.cancel();
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        std::process::exit(130);
    });
    Ok(shutdown)
}

async fn listen(world: &World, address: &str) -> anyhow::Result<Box<dyn Listener>> {
    world
        .network
        .listen(address)
        .await
        .with_context(|| hint_for(address))
}

fn hint_for(address: &str) -> String {
    format!(
        "cannot listen at {address}; choose another address with --listen HOST:PORT (port 0 takes a free one)"
    )
}

/// Writes a file as a whole: whoever waits for it never reads half of it.
fn write_whole(path: &Path, text: &str) -> anyhow::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".partial");
    let written = fs::write(&temporary, text).and_then(|()| fs::rename(&temporary, path));
    written.map_err(|error: io::Error| {
        anyhow::anyhow!(
            "cannot write {}: {error}; choose another path with --url-file",
            path.display()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_as_a_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("url");
        write_whole(&path, "http://127.0.0.1:1").unwrap();
        write_whole(&path, "http://127.0.0.1:2").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "http://127.0.0.1:2");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        let error = write_whole(&directory.path().join("no/url"), "x").unwrap_err();
        assert!(error.to_string().contains("--url-file"), "{error}");
    }
}
