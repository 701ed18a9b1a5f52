//! Opening the data directory at the start: whose it is, what it has, and a log that goes on from there. Meanwhile the master
//! is told how far that is, and requests are answered `retry`. Where the disk is full, it is waited for.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, PoisonError, atomic::Ordering},
    time::Duration,
};

use glint_protocol::{
    Incarnation,
    control::{Recovering, RecoveryProgress},
};
use glint_world::{Disk, disk::is_unsynced};
use serde::Deserialize;
use tokio::{sync::watch, time::Instant};

use super::{
    ServerError,
    durable::Durable,
    keeper,
    link::Link,
    state::{Model, Models, Slot, State},
};
use crate::{
    log::{
        Beginning, FULL_PAUSE, Log, LogOptions, is_full,
        recovery::{Recovered, recover},
        volume::Manifest,
    },
    partition::Description,
};

/// How often the master and the log are told how far the recovery is.
const TELL_MASTER: Duration = Duration::from_millis(200);
const TELL_LOG: Duration = Duration::from_secs(2);

/// What is said while there is no room to begin the log.
pub(super) const AWAITS_ROOM: &str = "the disk of the data directory is full: this server has read it, and waits for room before it \
     registers and serves; make room, or give it a larger disk";

#[derive(Deserialize)]
struct Done {}

/// Opens the data directory, and takes what it has.
///
/// # Errors
/// When it cannot be used; what is in it was not changed then.
pub(super) async fn open(
    state: &State,
    disk: &Arc<dyn Disk>,
    options: LogOptions,
    link: &Link,
) -> Result<Log, ServerError> {
    let (mut manifest, volume) = Manifest::begin(&state.world, &**disk).await?;
    manifest.add_start(state.boot);
    state.heard().cluster = manifest.cluster;
    let (progress, told) = watch::channel(RecoveryProgress::default());
    let began = Instant::now();
    let opened = async {
        let recovered = recover(&state.world, disk, &manifest, &progress).await?;
        let log = begin(state, disk, options, (&manifest, &recovered), &progress).await;
        Ok::<_, ServerError>((recovered, log.map_err(ServerError::Disk)?))
    };
    let (recovered, log) = tokio::select! {
        biased;
        opened = opened => opened?,
        told = tell(state, link, told) => match told {},
    };
    let bytes = progress.borrow().done_bytes;
    let partitions: usize = recovered.models.values().map(|m| m.partitions.len()).sum();
    tracing::info!(
        volume = %volume.id, start = volume.start, clean = volume.clean, partitions, lost = recovered.lost.len(), bytes,
        seconds = began.elapsed().as_secs_f64(), "data directory read"
    );
    take(state, &log, recovered);
    // Nobody else sets these.
    let _ = state.volume.set(volume);
    let _ = state.log.set(log.clone());
    *state.manifest.lock().await = Some(manifest);
    Ok(log)
}

/// Notes this start in the data directory, and begins a log that goes on from what was recovered. From here on the directory is
/// changed.
async fn begin(
    state: &State,
    disk: &Arc<dyn Disk>,
    options: LogOptions,
    (manifest, recovered): (&Manifest, &Recovered),
    progress: &watch::Sender<RecoveryProgress>,
) -> io::Result<Log> {
    let room = Room {
        state,
        disk: &**disk,
        progress,
    };
    room.until(|| manifest.store(&**disk)).await?;
    keeper::clear_partial(&**disk).await?;
    keeper::clear(&**disk, &recovered.dropped).await?;
    for (&key, why) in &recovered.lost {
        tracing::error!(model = %key.0, partition = key.1, %why, "a partition is lost: its files are damaged");
        room.until(|| keeper::mark(&**disk, key, why)).await?;
    }
    let beginning = Beginning {
        manifest: manifest.clone(),
        boot: state.boot,
        segments: recovered.segments.clone(),
        follows: recovered.follows,
        start: recovered.start,
        tail: recovered.tail.clone(),
    };
    let (world, beginning) = (&state.world, &beginning);
    room.until(|| Log::open(world, Arc::clone(disk), options, beginning))
        .await
}

/// The room of a disk that is waited for.
struct Room<'a> {
    state: &'a State,
    disk: &'a dyn Disk,
    progress: &'a watch::Sender<RecoveryProgress>,
}

impl Room<'_> {
    /// Does something as often as it takes while the disk is full, and says so meanwhile.
    async fn until<T, F>(&self, attempt: impl Fn() -> F) -> io::Result<T>
    where
        F: Future<Output = io::Result<T>>,
    {
        let done = loop {
            match attempt().await {
                Err(error) if is_full(&error) && !is_unsynced(&error) => {
                    self.lacks(&error);
                    // What was left half written means nothing, and takes room.
                    let _ = keeper::clear_partial(self.disk).await;
                    tokio::time::sleep(FULL_PAUSE).await;
                }
                done => break done,
            }
        };
        if self.state.awaits_room.swap(false, Ordering::Relaxed) {
            tracing::info!("the disk has room again: the server goes on with its start");
        }
        self.progress.send_modify(|p| p.disk_full = false);
        done
    }

    fn lacks(&self, error: &io::Error) {
        if !self.state.awaits_room.swap(true, Ordering::Relaxed) {
            tracing::error!(%error, "{AWAITS_ROOM}");
        }
        self.progress.send_modify(|p| p.disk_full = true);
    }
}

/// Tells how far it is, for ever.
async fn tell(
    state: &State,
    link: &Link,
    progress: watch::Receiver<RecoveryProgress>,
) -> std::convert::Infallible {
    let mut logged = Instant::now();
    loop {
        tokio::time::sleep(TELL_MASTER).await;
        let progress = *progress.borrow();
        if logged.elapsed() >= TELL_LOG {
            logged = Instant::now();
            tracing::info!(
                id = %state.id, done_bytes = progress.done_bytes, total_bytes = progress.total_bytes, "recovering"
            );
        }
        let recovering = Recovering {
            server: state.id.clone(),
            boot: state.boot,
            progress,
        };
        // Whether the master hears it changes nothing.
        let told = link.post::<Done>("/v1/servers/recovering", &recovering);
        if let Ok(Err(error)) = tokio::time::timeout(TELL_MASTER, told).await {
            tracing::debug!(%error, "the master could not be told of the recovery");
        }
    }
}

/// Holds what was recovered.
fn take(state: &State, log: &Log, recovered: Recovered) {
    *state.damaged.lock().unwrap_or_else(PoisonError::into_inner) = recovered.lost;
    let mut models: BTreeMap<Incarnation, Arc<Model>> = BTreeMap::new();
    for (incarnation, model) in recovered.models {
        let mut slots = Vec::new();
        slots.resize_with(model.spec.partition_count as usize, || None);
        for (index, recovered) in model.partitions {
            let description = Description::new(&model.spec, incarnation, index);
            let durable = Durable::new(
                log.clone(),
                state.boot,
                model.spec.durability(),
                recovered.needed_from,
            );
            let spec = Arc::clone(&model.spec);
            let keeps = state.keeps(&spec);
            let slot =
                Slot::recovered(description, spec, recovered.partition, Some(durable), keeps);
            slots[index as usize] = Some(Arc::new(slot));
        }
        let spec = model.spec;
        models.insert(incarnation, Arc::new(Model { spec, slots }));
    }
    state.models.store(Arc::new(Models {
        by_incarnation: models,
    }));
}
