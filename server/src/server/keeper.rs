//! Keeps the data directory small: writes snapshots of partitions whose records hold the oldest segments, lets those
//! segments go, and clears away the files of what was dropped.

use std::{
    collections::BTreeSet,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use glint_protocol::{Durability, ErrorBody, ErrorCode, Incarnation};
use glint_world::{
    Disk, Shutdown,
    disk::{PARTIAL, is_unsynced, replace, unsynced},
};
use tokio::{sync::oneshot, time::Instant};

use super::state::{Slot, State};
use crate::{
    log::{
        Entry, Log, LogOptions, Stuck,
        record::{ALL_PARTITIONS, Header, Kind},
        snapshot::{self, About, Named},
        volume,
    },
    partition::cut::{Cut, PIECE_BYTES},
    safe::SafePosition,
};

/// How often the length of the log is looked at.
const PERIOD: Duration = Duration::from_millis(50);
/// How long to wait after a snapshot that could not be written.
const PAUSE: Duration = Duration::from_secs(1);

/// Keeps the log of `state` short until `shutdown`.
pub(super) async fn run(
    state: Arc<State>,
    disk: Arc<dyn Disk>,
    log: Log,
    options: LogOptions,
    shutdown: Shutdown,
) {
    let mut keeper = Keeper::new(state, disk, log, options).reusing();
    let work = async {
        loop {
            let pause = match keeper.look().await {
                Ok(()) => PERIOD,
                Err(error) if is_unsynced(&error) => {
                    keeper.log.fail(&error);
                    return;
                }
                Err(error) => {
                    // It may have been for want of room.
                    let _ = keeper.remove_spares().await;
                    let _ = keeper.release().await;
                    tracing::warn!(%error, "a snapshot could not be written; trying again");
                    PAUSE
                }
            };
            tokio::time::sleep(pause).await;
        }
    };
    tokio::select! {
        biased;
        () = shutdown.cancelled() => {}
        () = work => {}
    }
}

pub(super) struct Keeper {
    state: Arc<State>,
    disk: Arc<dyn Disk>,
    log: Log,
    options: LogOptions,
    /// Partitions of which the disk has that they are lost.
    marked: BTreeSet<(Incarnation, u32)>,
    /// Whether the file of a snapshot that was replaced is written over as the next: one keeper of a directory does that.
    reuses: bool,
    /// Bytes of the values in that file, if there is one.
    spare: Mutex<Option<u64>>,
}

impl Keeper {
    pub(super) fn new(
        state: Arc<State>,
        disk: Arc<dyn Disk>,
        log: Log,
        options: LogOptions,
    ) -> Self {
        Self {
            state,
            disk,
            log,
            options,
            marked: BTreeSet::new(),
            reuses: false,
            spare: Mutex::new(None),
        }
    }

    /// Uses files of snapshots again: of all keepers of a directory at most one may.
    pub(super) fn reusing(self) -> Self {
        Self {
            reuses: true,
            ..self
        }
    }

    fn spare(&self) -> MutexGuard<'_, Option<u64>> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes the files that are kept to be used again: there is no room for them.
    async fn remove_spares(&self) -> io::Result<()> {
        let spare = self.spare().take();
        if spare.is_some() {
            self.disk.remove(snapshot::SPARE).await?;
        }
        self.log.remove_spares().await
    }

    /// Writes the snapshots that are due, and lets go what nobody needs.
    pub(super) async fn look(&mut self) -> io::Result<()> {
        let slots: Vec<_> = self.state.models.load().slots().cloned().collect();
        let logged = || {
            slots
                .iter()
                .filter_map(|slot| Some((slot, slot.durable.as_ref()?)))
        };
        let mut values = 0;
        for (slot, _) in logged() {
            values += slot.description.value_bytes();
            self.mark_lost(slot).await?;
        }
        if self.log.is_full() {
            self.remove_spares().await?;
        }
        let from = self.options.snapshots_from(values);
        let bytes = self.log.bytes();
        self.log.set_bound(self.options.bound(values));
        if bytes > from {
            let keep = self.log.next_offset().saturating_sub(from / 2);
            let mut old: Vec<_> = logged()
                .filter_map(|(slot, durable)| Some((durable.needed_from()?, slot)))
                .filter(|&(needed, _)| needed < keep)
                .collect();
            old.sort_by_key(|&(needed, _)| needed);
            for (_, slot) in old {
                self.snapshot(slot, values).await?;
                self.release().await?;
            }
        }
        self.release().await
    }

    /// Lets the segments go that no partition needs.
    pub(super) async fn release(&self) -> io::Result<()> {
        // In this order: what is not needed at the end was not needed before either, or is needed from there on only.
        let end = self.log.next_offset();
        let making = self.state.making();
        let models = self.state.models.load_full();
        let partitions = models
            .slots()
            // What is noted to be lost is not had back from its records.
            .filter(|slot| !self.marked.contains(&slot.key()))
            .filter_map(|slot| slot.durable.as_ref()?.needed_from());
        let drops = self.state.dropped().iter().map(|&(_, at)| at).min();
        let released = self.state.released().iter().map(|&(_, at)| at).min();
        let needed = partitions
            .chain(drops)
            .chain(released)
            .chain(making)
            .fold(end, u64::min);
        if end - needed > self.options.bound(0) {
            tracing::debug!(needed, end, ?drops, ?released, ?making, "the log is long");
        }
        self.log.release(needed).await
    }

    /// Writes a snapshot of a partition, of all whose values take so many bytes.
    pub(super) async fn snapshot(&self, slot: &Arc<Slot>, values: u64) -> io::Result<()> {
        let Some(durable) = &slot.durable else {
            return Ok(());
        };
        let description = &slot.description;
        let key = slot.key();
        let Some(spec) = self.state.spec(description.incarnation) else {
            return Ok(());
        };
        let (cut, offset) = {
            let mut partition = slot.lock();
            if partition.loss().is_some() {
                return Ok(());
            }
            (partition.cut(PIECE_BYTES), self.log.next_offset())
        };
        let about = About {
            version: snapshot::version_for(&cut.ledger),
            incarnation: key.0,
            partition: key.1,
            position: cut.position,
            epoch: cut.epoch,
            offset,
            spec,
        };
        let written = self.write(slot, &about, &cut, values).await;
        if written.is_err() {
            slot.lock().abandon_cut();
            let partial = format!("{}{PARTIAL}", snapshot::name(key.0, key.1));
            self.disk.remove(&partial).await?;
        }
        written?;
        let _files = self.state.files.lock().await;
        if !self.state.holds(slot) {
            // Dropped meanwhile: its snapshot must not come back.
            let partial = format!("{}{PARTIAL}", snapshot::name(key.0, key.1));
            return self.disk.remove(&partial).await;
        }
        // One file that is no larger than a segment: as little as may be needed for nothing.
        let bytes = description.value_bytes();
        if self.reuses && bytes <= self.options.segment_bytes && !self.log.is_full() {
            let kept = snapshot::replace_keeping(&*self.disk, key.0, key.1).await?;
            *self.spare() = kept.then_some(bytes);
        } else {
            snapshot::replace(&*self.disk, key.0, key.1).await?;
        }
        let partition = slot.lock();
        durable.covered(offset, partition.position() != cut.position);
        tracing::debug!(
            model = %description.model, partition = key.1, position = %cut.position, "snapshot written"
        );
        Ok(())
    }

    async fn write(&self, slot: &Slot, about: &About, cut: &Cut, values: u64) -> io::Result<()> {
        let bytes = slot.description.value_bytes();
        let spare = self.spare().take();
        let mut writer = match spare {
            // What the former one has beyond the end of this takes room for nothing.
            Some(spare) if spare / 2 <= bytes => {
                snapshot::Writer::begin_over(&*self.disk, about, cut).await?
            }
            spare => {
                if spare.is_some() {
                    self.disk.remove(snapshot::SPARE).await?;
                }
                snapshot::Writer::begin(&*self.disk, about, cut).await?
            }
        };
        loop {
            let began = Instant::now();
            let Some(piece) = slot.lock().next_piece() else {
                return writer.finish().await;
            };
            writer.piece(piece).await?;
            // Pushes come first, as long as the log has room for them.
            if self.log.bytes() < self.options.bound(values) / 2 {
                tokio::time::sleep(began.elapsed()).await;
            }
        }
    }

    /// Notes on the disk that a partition is lost, before the records go that show it.
    async fn mark_lost(&mut self, slot: &Arc<Slot>) -> io::Result<()> {
        let key = slot.key();
        let why = slot.lock().loss().map(ToString::to_string);
        if why.is_none() {
            // Another copy may have come since: what it has counts.
            self.marked.remove(&key);
        }
        if let Some(why) = why
            && !self.marked.contains(&key)
        {
            let _files = self.state.files.lock().await;
            if self.state.holds(slot) {
                mark(&*self.disk, key, &why).await?;
                self.marked.insert(key);
            }
        }
        Ok(())
    }
}

/// Writes down that a partition is lost, and why.
pub(super) async fn mark(
    disk: &dyn Disk,
    (incarnation, partition): (Incarnation, u32),
    why: &str,
) -> io::Result<()> {
    let name = snapshot::lost_name(incarnation, partition);
    replace(disk, &name, vec![Bytes::copy_from_slice(why.as_bytes())]).await
}

/// Takes back that a partition is lost: a copy of it has come whose snapshot is on the disk.
///
/// # Errors
/// Those of the disk.
pub(super) async fn unmark(state: &State, slot: &Arc<Slot>) -> io::Result<()> {
    let Some(disk) = &state.disk else {
        return Ok(());
    };
    let (incarnation, partition) = slot.key();
    let name = snapshot::lost_name(incarnation, partition);
    let _files = state.files.lock().await;
    // That copy may be lost too by now, and noted to be.
    if !state.holds(slot) || slot.lock().loss().is_some() {
        return Ok(());
    }
    match disk.open(&name).await {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        opened => drop(opened?),
    }
    disk.remove(&name).await?;
    disk.sync_directory().await.map_err(unsynced)
}

/// Removes what a process that was ended has left behind half written.
pub(super) async fn clear_partial(disk: &dyn Disk) -> io::Result<()> {
    for (name, _) in disk.list().await? {
        if name.strip_suffix(PARTIAL).is_some_and(volume::is_ours) {
            disk.remove(&name).await?;
        }
    }
    Ok(())
}

/// Removes the files of models that were dropped.
pub(super) async fn clear(disk: &dyn Disk, dropped: &[Incarnation]) -> io::Result<()> {
    if dropped.is_empty() {
        return Ok(());
    }
    for (name, _) in disk.list().await? {
        let whole = name.strip_suffix(PARTIAL).unwrap_or(&name);
        let goes = Named::parse(whole)
            .map(Named::incarnation)
            .is_some_and(|file| {
                dropped
                    .iter()
                    .any(|d| d.model == file.model && file.generation <= d.generation)
            });
        if goes {
            disk.remove(&name).await?;
        }
    }
    disk.sync_directory().await.map_err(unsynced)
}

/// Says in the log that models were dropped, and clears their files away once that is sure. They are not held any more.
///
/// # Errors
/// `storage_failed`, `retry` when this server ends.
pub(super) async fn dropped(state: &Arc<State>, models: Vec<Incarnation>) -> Result<(), ErrorBody> {
    let (tell, told) = oneshot::channel();
    let inside = Arc::clone(state);
    // Whoever asks may go away meanwhile. Half done, the log would keep all that comes after until it is asked for again.
    state.spawn(async move {
        let _ = tell.send(drop_whole(&inside, models).await);
    });
    told.await
        .unwrap_or_else(|_| Err(ErrorBody::new(ErrorCode::Retry, "this server ends")))
}

async fn drop_whole(state: &State, models: Vec<Incarnation>) -> Result<(), ErrorBody> {
    let (Some(log), Some(disk)) = (state.log.get(), &state.disk) else {
        return Ok(());
    };
    for &incarnation in &models {
        let at = log.append(Entry {
            header: Header::new(Kind::Drop, incarnation, ALL_PARTITIONS, state.boot, &[]),
            payload: Bytes::new(),
            safe: Arc::new(SafePosition::default()),
            durability: Durability::Sync,
        });
        state.dropped().push((incarnation, at));
    }
    let failed = |error: String| ErrorBody::new(ErrorCode::StorageFailed, error);
    let cleared = async || {
        let _files = state.files.lock().await;
        clear(&**disk, &models).await.map_err(|error| {
            if is_unsynced(&error) {
                log.fail(&error);
            }
            failed(format!(
                "files of a dropped model cannot be removed: {error}"
            ))
        })
    };
    tokio::select! {
        biased;
        reached = log.reached(log.next_offset()) => {
            reached.map_err(|failure| failed(failure.to_string()))?;
        }
        Stuck::Full = log.stuck(true) => {
            // Room for it may come of these very files. Whatever a start would find of the model without them, the master, which
            // has told that it is to be dropped, tells so again.
            cleared().await?;
            log.reached(log.next_offset())
                .await
                .map_err(|failure| failed(failure.to_string()))?;
        }
    }
    cleared().await?;
    state.dropped().retain(|(i, _)| !models.contains(i));
    Ok(())
}
