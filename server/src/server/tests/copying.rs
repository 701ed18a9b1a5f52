//! Copies of partitions on several servers over real sockets; the test itself is the master.

mod attaching;
mod catching_up;
mod changing;
mod counting;
mod promising;
mod reading;
mod suspecting;

use std::sync::atomic::{AtomicBool, Ordering};

use axum::response::IntoResponse;
use glint_protocol::{
    copies::{CopyChange, CopyPlace, CopyRole, FollowedPartition, Peer, Pulse},
    ids::Revision,
};
use glint_world::{
    MemoryDisk,
    disk::{FaultyDisk, Operation},
};
use tokio::{task::JoinHandle, time::Instant};

use super::*;
use crate::server::{copies, link::Link, opening};

/// Servers `s0`, `s1`, … of one cluster.
struct Servers {
    all: Vec<Running>,
    spec: ModelSpec,
    revision: u64,
    epoch: u64,
}

struct Running {
    server: Server,
    id: ServerId,
    url: String,
    stop: Shutdown,
    /// It takes nothing that a holder sends beside beacons.
    takes_nothing: Arc<AtomicBool>,
}

/// What the master has decided about partition 0.
#[derive(Clone, Debug, Default)]
struct Configured {
    holder: usize,
    in_sync: Vec<usize>,
    learners: Vec<usize>,
    former: Vec<usize>,
    lost: bool,
}

const QUICK: Pulse = Pulse {
    beacon_ms: 10,
    lease_ms: 100,
    suspicion_ms: 150,
};

fn spec(durability: glint_protocol::Durability, keys: u64) -> ModelSpec {
    let draft = ModelDraft {
        partitions: Partitions::Exactly(1),
        durability: Some(durability),
        copies: Some(2),
        ..ModelDraft::new("counts", Shape::Vector { keys }, ElementType::I64)
    };
    draft.resolve(1).unwrap()
}

async fn start(index: usize, disk: Option<Arc<dyn Disk>>) -> Running {
    start_as(index, disk, "127.0.0.1:0", |_| {}).await
}

/// The same at this address, which may have been in use until now, and with another configuration than usual.
async fn start_as(
    index: usize,
    disk: Option<Arc<dyn Disk>>,
    address: &str,
    change: impl FnOnce(&mut ServerConfig),
) -> Running {
    let world = World::real();
    let listener = loop {
        match world.network.listen(address).await {
            Ok(listener) => break listener,
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse),
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    };
    let url = format!("http://{}", listener.address().unwrap());
    let id = ServerId(format!("s{index}"));
    let mut config = ServerConfig {
        id: Some(id.clone()),
        disk: disk.clone(),
        move_rate: None,
        ..ServerConfig::new("http://127.0.0.1:9".parse().unwrap(), 64 << 20)
    };
    change(&mut config);
    let server = Server::new(world.clone(), &config, &url.parse().unwrap());
    if let Some(disk) = &disk {
        let link = Link::new(&world, config.master.clone());
        opening::open(&server.state, disk, config.log, &link)
            .await
            .unwrap();
    }
    let stop = Shutdown::new();
    let takes_nothing = Arc::new(AtomicBool::new(false));
    let refuses = Arc::clone(&takes_nothing);
    let router = server.router().layer(axum::middleware::from_fn(
        move |request: axum::extract::Request, next: axum::middleware::Next| {
            let refused = refuses.load(Ordering::Relaxed) && request.uri().path() == "/v1/copies";
            async move {
                if refused {
                    return http::StatusCode::SERVICE_UNAVAILABLE.into_response();
                }
                next.run(request).await
            }
        },
    ));
    let serving = crate::serve::serve(world.clone(), listener, router, config.limits, stop.clone());
    world.tasks.spawn(Box::pin(serving));
    let answer = Registered {
        pulse: QUICK,
        ..registration(&server, Vec::new())
    };
    server.registered(answer).await.unwrap();
    Running {
        server,
        id,
        url,
        stop,
        takes_nothing,
    }
}

impl Servers {
    async fn start(count: usize, spec: ModelSpec) -> Self {
        let mut all = Vec::new();
        for index in 0..count {
            let logged = spec.durability().is_logged();
            let disk = logged.then(|| Arc::new(MemoryDisk::default()) as Arc<dyn Disk>);
            all.push(start(index, disk).await);
        }
        Self::of(all, spec)
    }

    fn of(all: Vec<Running>, spec: ModelSpec) -> Self {
        Self {
            all,
            spec,
            revision: 1,
            epoch: EPOCH.0,
        }
    }

    fn peers(&self) -> Vec<Peer> {
        let peer = |running: &Running| Peer {
            id: running.id.clone(),
            url: running.url.clone(),
            boot: running.server.boot(),
        };
        self.all.iter().map(peer).collect()
    }

    /// Orders a server to hold or to follow partition 0.
    async fn order(&self, to: usize, configured: &Configured, creating: bool) {
        let place = |role| {
            move |&peer: &usize| CopyPlace {
                peer: peer as u32,
                role,
            }
        };
        let copies = (configured.in_sync.iter().map(place(CopyRole::InSync)))
            .chain(configured.learners.iter().map(place(CopyRole::Learner)))
            .chain(configured.former.iter().map(place(CopyRole::Former)))
            .collect();
        let mut order = hold(self.spec.clone(), MODEL, creating);
        order.peers = self.peers();
        order.partitions.clear();
        if to == configured.holder {
            order.partitions.push(HeldPartition {
                epoch: Epoch(self.epoch),
                revision: Revision(self.revision),
                copies,
                lost: configured.lost,
                ..held(0, Epoch(self.epoch))
            });
        } else {
            order.followed.push(FollowedPartition {
                partition: 0,
                epoch: Epoch(self.epoch),
                holder: configured.holder as u32,
            });
        }
        let server = &self.all[to].server;
        server
            .obey(orders(server, vec![order], Vec::new()))
            .await
            .unwrap();
    }

    /// A later configuration, told to everyone who is named in it.
    async fn configure(&mut self, configured: &Configured) {
        self.revision += 1;
        let others = configured.in_sync.iter().chain(&configured.learners);
        let all: Vec<usize> = [configured.holder]
            .into_iter()
            .chain(others.copied())
            .chain(configured.former.iter().copied())
            .collect();
        for to in all {
            self.order(to, configured, false).await;
        }
    }

    /// The same with another holder, at a higher epoch.
    async fn promote(&mut self, configured: &Configured) {
        self.epoch += 1;
        self.configure(configured).await;
    }

    /// What the holder asks the master for, once it asks for something.
    async fn asked(&self, holder: usize) -> CopyChange {
        soon(|| copies::wanted(&self.all[holder].server.state).pop()).await
    }

    fn epoch(&self) -> Epoch {
        Epoch(self.epoch)
    }

    /// Pushes to partition 0 and waits for the verdict.
    async fn push(&self, to: usize, number: u64, start: u64, values: &[i64]) -> Status {
        let mut group = add(0, start, values);
        group.header.epoch = self.epoch();
        let body = push(number, &[group]);
        ask(&self.all[to].server, "/v1/push", body).await[0].0
    }

    /// The same without waiting: the verdict comes later.
    fn pushing(&self, to: usize, number: u64, start: u64, values: &[i64]) -> JoinHandle<Status> {
        let mut group = add(0, start, values);
        group.header.epoch = self.epoch();
        let body = push(number, &[group]);
        let state = Arc::clone(&self.all[to].server.state);
        tokio::spawn(async move { ask(&Server { state }, "/v1/push", body).await[0].0 })
    }

    /// A server answers no other any more, or does again.
    fn answers_others(&self, server: usize, answers: bool) {
        let state = &self.all[server].server.state;
        state
            .registered
            .store(answers, std::sync::atomic::Ordering::Release);
    }

    /// Pushes to partition 0 without waiting for a verdict: it is applied here.
    fn apply(&self, to: usize, number: u64, start: u64, values: &[i64]) -> Status {
        let mut group = add(0, start, values);
        group.header.epoch = self.epoch();
        let body = push(number, &[group]);
        let reply = self.all[to].server.push_body(&body, LANE.birth);
        results(&reply.unwrap())[0].0
    }

    /// Another start of a server at its address, without anything that it had in memory.
    async fn restart(&mut self, server: usize) {
        self.all[server].stop.cancel();
        let url = self.all[server].url.clone();
        let address = url.strip_prefix("http://").unwrap();
        self.all[server] = start_as(server, None, address, |_| {}).await;
    }

    async fn pull(&self, from: usize, count: usize) -> Result<Vec<i64>, ErrorCode> {
        self.pull_as(from, count, ReadMode::Latest).await
    }

    async fn pull_as(
        &self,
        from: usize,
        count: usize,
        read: ReadMode,
    ) -> Result<Vec<i64>, ErrorCode> {
        let mut bytes = Vec::new();
        write::range(&mut bytes, None, 8, 0, count);
        let mut group = group(Op::Pull, 0, bytes);
        group.header.epoch = self.epoch();
        group.header.read = read;
        let results = ask(&self.all[from].server, "/v1/pull", pull(&[group])).await;
        match results[0].0 {
            Status::Values => {
                let mut values = vec![0; count];
                i64::decode(&results[0].2, &mut values);
                Ok(values)
            }
            Status::Error(code) => Err(code),
            other => panic!("{other:?}"),
        }
    }

    /// What a server has of partition 0, whatever its role is.
    fn copy(&self, of: usize) -> Option<(Vec<u8>, Position, usize)> {
        let slot = self.all[of].server.state.slot((MODEL, 0))?;
        let held = slot.lock();
        let values = held.values();
        Some((
            values.to_le(0..values.len()),
            held.position(),
            held.ledger().len(),
        ))
    }

    /// Waits until a copy is what the holder has.
    async fn same(&self, holder: usize, follower: usize) {
        soon(|| (self.copy(holder) == self.copy(follower)).then_some(())).await;
    }
}

/// Waits until there is something.
async fn soon<T>(look: impl FnMut() -> Option<T>) -> T {
    let found = soon_or(Duration::from_secs(20), look).await;
    found.expect("what is waited for comes within 20 s")
}

/// The same, for so long only.
async fn soon_or<T>(within: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let looking = async {
        loop {
            if let Some(found) = look() {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(within, looking).await.ok()
}
