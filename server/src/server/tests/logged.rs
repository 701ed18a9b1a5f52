//! A server on a disk that is looked at, harmed and opened again: what comes back is what was there, or says what is
//! missing.

mod again;
mod damage;
mod directory;
mod failing;
mod losses;
mod returning;
mod snapshots;

use std::collections::BTreeMap;

use bytes::Bytes;
use glint_protocol::Durability;
use glint_world::{MemoryDisk, disk::load};

use super::*;
use crate::{
    log::{Log, segment},
    partition::Ledger,
    server::{keeper::Keeper, link::Link, opening},
};

/// The content of a disk.
type Files = BTreeMap<String, Vec<u8>>;

async fn files(disk: &Arc<dyn Disk>) -> Files {
    let mut files = Files::new();
    for (name, _) in disk.list().await.unwrap() {
        let content = load(&**disk, &name).await.unwrap().unwrap();
        files.insert(name, content.to_vec());
    }
    files
}

async fn disk_with(files: &Files) -> Arc<dyn Disk> {
    let disk = MemoryDisk::default();
    for (name, content) in files {
        let file = disk.create(name).await.unwrap();
        let content = Bytes::copy_from_slice(content);
        file.append(vec![content]).await.unwrap();
    }
    Arc::new(disk)
}

/// A server that has read its data directory, and is not registered.
struct Opened {
    server: Server,
    log: Log,
}

/// Small enough that segments come and go.
const SMALL: LogOptions = LogOptions {
    segment_bytes: 512,
    sync_every: Duration::from_millis(1),
    floor_bytes: 4 << 10,
};

async fn open_with(disk: &Arc<dyn Disk>, options: LogOptions) -> Result<Opened, ServerError> {
    let config = ServerConfig {
        disk: Some(Arc::clone(disk)),
        log: options,
        ..ServerConfig::new("http://master:7100".parse().unwrap(), 16 << 20)
    };
    let world = World::real();
    let server = Server::new(world.clone(), &config, &url());
    let link = Link::new(&world, config.master.clone());
    let log = opening::open(&server.state, disk, options, &link).await?;
    Ok(Opened { server, log })
}

async fn open(disk: &Arc<dyn Disk>) -> Result<Opened, ServerError> {
    open_with(disk, LogOptions::default()).await
}

fn durable(spec: ModelSpec, durability: Durability) -> ModelSpec {
    let draft = ModelDraft {
        durability: Some(durability),
        ..spec.draft
    };
    ModelSpec { draft, ..spec }
}

fn sync_vector() -> ModelSpec {
    durable(vector(), Durability::Sync)
}

/// What a partition is, to the bit.
#[derive(Clone, Debug, PartialEq)]
struct Image {
    values: Vec<u8>,
    ledger: Ledger,
    position: Position,
    last: Epoch,
}

/// A partition after it was opened.
#[derive(Clone, Debug, PartialEq)]
enum Found {
    Whole(Image),
    Lost(String),
}

impl Opened {
    /// Registers with orders to hold a model, to be made or as it was.
    async fn hold(&self, spec: &ModelSpec, creating: bool) {
        let answer = registration(&self.server, vec![hold(spec.clone(), MODEL, creating)]);
        self.server.registered(answer).await.unwrap();
    }

    /// Pushes, and waits until everything is on the disk.
    async fn push(&self, number: u64, groups: &[Group]) -> Vec<Status> {
        let statuses = self.push_now(number, groups);
        self.log.reached(self.log.next_offset()).await.unwrap();
        statuses
    }

    fn push_now(&self, number: u64, groups: &[Group]) -> Vec<Status> {
        let reply = self.server.push_body(&push(number, groups), LANE.birth);
        results(&reply.unwrap()).into_iter().map(|r| r.0).collect()
    }

    /// A partition as it is here.
    fn found(&self, partition: u32) -> Found {
        let models = self.server.state.models.load();
        let model = models.by_incarnation.get(&MODEL);
        let slot = model.and_then(|m| m.slots[partition as usize].as_ref());
        let Some(slot) = slot else {
            let why = self.server.state.why_absent(MODEL, partition);
            return Found::Lost(why.to_string());
        };
        let partition = slot.lock();
        if let Some(loss) = partition.loss() {
            return Found::Lost(loss.to_string());
        }
        Found::Whole(Image {
            values: partition.values().to_le(0..partition.values().len()),
            ledger: partition.ledger().clone(),
            position: partition.position(),
            last: partition.last_epoch(),
        })
    }

    fn shape(&self, partition: u32) -> Image {
        match self.found(partition) {
            Found::Whole(shape) => shape,
            Found::Lost(why) => panic!("partition {partition} is lost: {why}"),
        }
    }

    fn keeper(&self, options: LogOptions) -> Keeper {
        let state = Arc::clone(&self.server.state);
        let disk = state.disk.clone().unwrap();
        Keeper::new(state, disk, self.log.clone(), options)
    }

    /// Writes a snapshot of a partition.
    async fn snapshot(&self, partition: u32) {
        let models = self.server.state.models.load_full();
        let slot = models.by_incarnation[&MODEL].slots[partition as usize].as_ref();
        let keeper = self.keeper(LogOptions::default());
        keeper.snapshot(slot.unwrap(), u64::MAX / 4).await.unwrap();
    }

    /// Ends it as SIGKILL does, when all that it began is done.
    async fn kill(self) {
        let _ = self.log.close().await;
    }
}
