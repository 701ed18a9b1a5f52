//! A whole cluster in one process: a master and its servers, for a first try, for programs that embed one, and for tests.

use std::{io, sync::Arc, time::Duration};

use glint_protocol::ServerId;
use glint_world::{Disk, MemoryStorage, Shutdown, Storage, World, http::Url};
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use crate::{
    log::LogOptions,
    master::{Master, MasterConfig, MasterError},
    serve::serve,
    server::{self, ServerConfig, ServerError},
};

/// What a local cluster consists of.
#[derive(Clone)]
pub struct LocalConfig {
    /// How many servers; they are named `s1`, `s2`, ….
    pub servers: usize,
    /// Where the master listens; port 0 takes a free one.
    pub listen: String,
    /// Where each server listens; with a fixed port there can be only one server.
    pub server_listen: String,
    /// What the master remembers.
    pub storage: Arc<dyn Storage>,
    /// Where servers keep logs and snapshots of durable models, `s1` first; servers beyond hold `memory` models only.
    pub disks: Vec<Arc<dyn Disk>>,
    /// How servers keep their logs.
    pub log: LogOptions,
    /// Bytes of values that each server may hold.
    pub capacity_bytes: u64,
    /// How the master behaves.
    pub master: MasterConfig,
}

impl Default for LocalConfig {
    /// Two servers of 1 GiB each and a master at a free port, all on 127.0.0.1 and in memory.
    fn default() -> Self {
        Self {
            servers: 2,
            listen: "127.0.0.1:0".into(),
            server_listen: "127.0.0.1:0".into(),
            storage: Arc::new(MemoryStorage::default()),
            disks: Vec::new(),
            log: LogOptions::default(),
            capacity_bytes: 1 << 30,
            master: MasterConfig::default(),
        }
    }
}

/// Why a local cluster does not start, or has ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LocalError {
    /// An address cannot be listened at.
    #[error("cannot listen at {address}")]
    Listen {
        /// Which.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// Its master ended.
    #[error(transparent)]
    Master(#[from] MasterError),
    /// A server ended.
    #[error(transparent)]
    Server(#[from] ServerError),
}

/// Starts local clusters.
#[derive(Clone, Copy, Debug)]
pub struct Local;

/// A running local cluster. It runs on when this is dropped; end it by [`LocalCluster::stop`].
#[derive(Debug)]
pub struct LocalCluster {
    /// Where clients find it.
    pub master_url: String,
    /// Where its servers answer, `s1` first.
    pub server_urls: Vec<String>,
    shutdown: Shutdown,
    tasks: TaskTracker,
    failures: mpsc::Receiver<LocalError>,
}

impl Local {
    /// Starts a master and its servers and returns when all servers have registered: within milliseconds.
    ///
    /// # Errors
    /// [`LocalError`]; nothing is left running then.
    pub async fn start(world: World, config: LocalConfig) -> Result<LocalCluster, LocalError> {
        let shutdown = Shutdown::new();
        let guard = shutdown.clone().drop_guard();
        let limits = config.master.limits;
        // Both ends of every address first: what cannot be had ends the start before anything runs.
        let listener = listen(&world, &config.listen).await?;
        let address = listener.address().map_err(|source| LocalError::Listen {
            address: config.listen.clone(),
            source,
        })?;
        let master_url = format!("http://{}", reachable(address));
        let url: Url = master_url.parse().map_err(|error| LocalError::Listen {
            address: config.listen.clone(),
            source: io::Error::other(error),
        })?;
        let mut listeners = Vec::new();
        let mut server_urls = Vec::new();
        for _ in 0..config.servers {
            let listener = listen(&world, &config.server_listen).await?;
            let address = listener.address().map_err(|source| LocalError::Listen {
                address: config.server_listen.clone(),
                source,
            })?;
            server_urls.push(format!("http://{}", reachable(address)));
            listeners.push(listener);
        }

        let tasks = TaskTracker::new();
        // One end each at most, so that nobody waits for room.
        let (failed, failures) = mpsc::channel(config.servers + 1);
        let master = Master::start(
            world.clone(),
            Arc::clone(&config.storage),
            config.master.clone(),
            shutdown.clone(),
        )
        .await?;
        // Servers take leave at their end, so the master ends after them.
        let servers_ended = Shutdown::new();
        let servers = TaskTracker::new();
        let serving = {
            let (world, master, ended) = (world.clone(), master.clone(), servers_ended.clone());
            let failed = failed.clone();
            async move {
                tokio::select! {
                    biased;
                    error = master.failed() => {
                        let _ = failed.try_send(error.into());
                    }
                    () = serve(world, listener, master.router(), limits, ended) => {}
                }
                master.stop().await;
            }
        };
        world.tasks.spawn(Box::pin(tasks.track_future(serving)));
        for (number, (listener, advertise)) in listeners.into_iter().zip(&server_urls).enumerate() {
            let mut server = ServerConfig::new(url.clone(), config.capacity_bytes);
            server.id = Some(ServerId(format!("s{}", number + 1)));
            server.advertise = advertise.parse().ok();
            server.max_deadline = Duration::from_millis(config.master.max_deadline_ms);
            server.disk = config.disks.get(number).cloned();
            server.log = config.log;
            let running = server::run(world.clone(), server, listener, shutdown.clone());
            let failed = failed.clone();
            let ended = async move {
                if let Err(error) = running.await {
                    let _ = failed.try_send(error.into());
                }
            };
            world.tasks.spawn(Box::pin(servers.track_future(ended)));
        }
        servers.close();
        let closing = {
            let shutdown = shutdown.clone();
            async move {
                shutdown.cancelled().await;
                servers.wait().await;
                servers_ended.cancel();
            }
        };
        world.tasks.spawn(Box::pin(tasks.track_future(closing)));
        tasks.close();

        let mut cluster = LocalCluster {
            master_url,
            server_urls,
            shutdown,
            tasks,
            failures,
        };
        tokio::select! {
            biased;
            () = master.has_servers(config.servers) => {}
            error = cluster.failed() => {
                cluster.stop().await;
                return Err(error);
            }
        }
        guard.disarm();
        Ok(cluster)
    }
}

async fn listen(
    world: &World,
    address: &str,
) -> Result<Box<dyn glint_world::Listener>, LocalError> {
    world
        .network
        .listen(address)
        .await
        .map_err(|source| LocalError::Listen {
            address: address.to_owned(),
            source,
        })
}

/// Where this process reaches an address that it listens at: every address includes the loopback one.
fn reachable(address: std::net::SocketAddr) -> std::net::SocketAddr {
    let mut address = address;
    if address.ip().is_unspecified() {
        address.set_ip(if address.is_ipv4() {
            std::net::Ipv4Addr::LOCALHOST.into()
        } else {
            std::net::Ipv6Addr::LOCALHOST.into()
        });
    }
    address
}

impl LocalCluster {
    /// A signal that ends the cluster: give it to whoever may.
    pub fn shutdown(&self) -> Shutdown {
        self.shutdown.clone()
    }

    /// Waits until the signal has come and everything has ended, or something has failed.
    ///
    /// # Errors
    /// What failed first; the rest has been ended then.
    pub async fn join(mut self) -> Result<(), LocalError> {
        let tasks = self.tasks.clone();
        let failed = tokio::select! {
            biased;
            () = tasks.wait() => None,
            error = self.failed() => Some(error),
        };
        let failed = failed.or_else(|| self.failures.try_recv().ok());
        self.stop().await;
        failed.map_or(Ok(()), Err)
    }

    /// Ends the cluster: requests in flight are settled first.
    pub async fn stop(self) {
        self.shutdown.cancel();
        self.tasks.wait().await;
    }

    /// The next failure; never, when nothing fails.
    async fn failed(&mut self) -> LocalError {
        match self.failures.recv().await {
            Some(error) => error,
            None => std::future::pending().await,
        }
    }
}

impl std::fmt::Debug for LocalConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LocalConfig")
            .field("servers", &self.servers)
            .field("listen", &self.listen)
            .field("capacity_bytes", &self.capacity_bytes)
            .field("master", &self.master)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use glint_world::http::{Connections, Frames};

    use super::*;

    #[tokio::test]
    async fn a_cluster_of_five_starts_at_once_serves_and_stops() {
        let began = tokio::time::Instant::now();
        let config = LocalConfig {
            servers: 5,
            ..LocalConfig::default()
        };
        let cluster = Local::start(World::real(), config).await.unwrap();
        // The servers register at once: far below the pause after a failed attempt.
        assert!(
            began.elapsed() < Duration::from_secs(2),
            "{:?}",
            began.elapsed()
        );
        assert_eq!(cluster.server_urls.len(), 5);
        let master = Connections::new(World::real(), cluster.master_url.parse().unwrap(), 1);
        let request = http::Request::get("/v1/status")
            .body(Frames::default())
            .unwrap();
        let answer = master
            .send(request)
            .await
            .unwrap()
            .collect(1 << 20)
            .await
            .unwrap();
        let status: glint_protocol::control::ClusterStatus =
            serde_json::from_slice(&answer).unwrap();
        let names: Vec<_> = status.servers.iter().map(|s| s.id.0.as_str()).collect();
        assert_eq!(names, ["s1", "s2", "s3", "s4", "s5"]);
        drop(master);
        let url: Url = cluster.master_url.parse().unwrap();
        cluster.stop().await;
        assert!(
            World::real()
                .network
                .connect(url.authority())
                .await
                .is_err()
        );
    }

    #[tokio::test]
    async fn an_address_that_is_taken_is_named_and_nothing_keeps_running() {
        let first = Local::start(World::real(), LocalConfig::default())
            .await
            .unwrap();
        let url: Url = first.master_url.parse().unwrap();
        let config = LocalConfig {
            listen: url.authority().to_owned(),
            ..LocalConfig::default()
        };
        let error = Local::start(World::real(), config).await.unwrap_err();
        assert!(error.to_string().contains(url.authority()), "{error}");
        first.stop().await;
    }

    #[tokio::test]
    async fn join_returns_when_the_signal_has_come() {
        let cluster = Local::start(World::real(), LocalConfig::default())
            .await
            .unwrap();
        let shutdown = cluster.shutdown();
        let joined = tokio::spawn(cluster.join());
        shutdown.cancel();
        joined.await.unwrap().unwrap();
    }
}
