//! Writing the log: one task appends what has gathered, another syncs what was appended during its last sync. No timer
//! makes anybody wait; only where no push waits for a sync, one is made now and then.
//!
//! A disk that is full is waited for: what was applied already is appended as soon as there is room, and meanwhile
//! [`Log::admits`] lets nothing new be applied. Any other failure ends the log for good ([`Log::failed`]): what the disk has
//! is then known only to the next start, which reads it.
//!
//! - `open`: how a log begins
//! - `append`: the task that appends
//! - `sync`: the task that syncs
//! - `again`: reading what was appended

mod again;
mod append;
mod open;
mod sync;

use std::{
    collections::VecDeque,
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use glint_protocol::{Boot, Durability, ErrorBody, ErrorCode, Position, VolumeId};
use glint_world::{Disk, DiskFile, disk::unsynced};
use tokio::{sync::Notify, time::Instant};

use super::{
    LogOptions,
    record::Header,
    segment::{self, SegmentHeader},
};
use crate::safe::SafePosition;
pub(crate) use again::Place;
pub(crate) use append::{FULL_PAUSE, is_full};
pub(crate) use open::Beginning;

/// A record on its way into the log.
#[derive(Debug)]
pub struct Entry {
    /// What it says of itself; offset and `synced` are filled in by the log.
    pub header: Header,
    /// Its payload.
    pub payload: Bytes,
    /// What rises when it is as safe as its model asks for.
    pub safe: Arc<SafePosition>,
    /// What its model asks for.
    pub durability: Durability,
}

/// Why a log has ended: a file could not be written or synced.
#[derive(Clone, Debug, thiserror::Error)]
#[error(
    "the log cannot be written ({0}): nothing more is acknowledged, since nobody knows what the disk has; mend the disk and \
     start the server again, which recovers from its files"
)]
pub struct LogFailure(pub(crate) Arc<str>);

/// Why what was put into the log may not be safe for long.
#[derive(Clone, Debug)]
pub(crate) enum Stuck {
    /// The log has failed: it never will be.
    Failed(LogFailure),
    /// The disk has no room for it.
    Full,
}

/// What whoever pushes to a logged model is told while the disk is full.
pub(crate) fn no_room() -> ErrorBody {
    ErrorBody::new(
        ErrorCode::StorageFull,
        "the disk of this server's data directory is full: pulls go on, and pushes to models that are not `memory` will as \
         soon as there is room; make room, or give it a larger disk",
    )
}

/// The log of a server. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Log {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    options: LogOptions,
    disk: Arc<dyn Disk>,
    volume: VolumeId,
    salt: u64,
    life: u64,
    boot: Boot,
    queue: Mutex<Queue>,
    /// Told when something is in the queue.
    gathered: Notify,
    stream: Mutex<Stream>,
    /// Told when more was appended.
    appended: Notify,
    /// Told when more is on the disk, the disk is full, or the log has failed.
    settled: Notify,
    synced: AtomicU64,
    /// Where the stream begins: what lies before was removed.
    begin: AtomicU64,
    full: AtomicBool,
    /// Bytes above which pushes wait for snapshots.
    bound: AtomicU64,
    failure: Mutex<Option<LogFailure>>,
}

#[derive(Debug)]
struct Queue {
    entries: VecDeque<Entry>,
    next_offset: u64,
    closed: bool,
}

/// What was appended.
struct Stream {
    /// The segment that is appended to.
    current: Arc<Open>,
    /// The one before, while it is not synced.
    before: Option<Arc<Open>>,
    end: u64,
    /// Records that wait for a sync, with the end of each.
    waiting: VecDeque<(u64, Arc<SafePosition>, Position)>,
    /// The last record of a model that asks for syncs.
    urgent: u64,
    /// Since when something is appended and not synced.
    since: Option<Instant>,
    /// Where each segment begins, the oldest first.
    segments: Vec<u64>,
    /// Segments that are to be used again.
    spares: Vec<Spare>,
}

/// A file that was a segment.
#[derive(Clone, Copy, Debug)]
struct Spare {
    /// Where that began.
    start: u64,
    /// Bytes of the stream that it had.
    bytes: u64,
}

struct Open {
    file: Arc<dyn DiskFile>,
    header: SegmentHeader,
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stream")
            .field("end", &self.end)
            .field("segments", &self.segments)
            .finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What they guard is changed in single steps.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Log {
    /// Puts a record into the log, to be called under the lock of its partition; says where it begins. It is written after
    /// [`Self::wake`]: so the records of one push go together, and nobody is woken under a lock.
    pub fn append(&self, mut entry: Entry) -> u64 {
        let mut queue = lock(&self.shared.queue);
        let offset = queue.next_offset;
        entry.header.offset = offset;
        queue.next_offset += entry.header.record_bytes();
        queue.entries.push_back(entry);
        offset
    }

    /// Has written what was put into the log.
    pub fn wake(&self) {
        self.shared.gathered.notify_one();
    }

    /// Whether a new push to a logged model may be applied.
    ///
    /// # Errors
    /// `storage_full`, `busy`; `retry` when the log has failed.
    pub fn admits(&self) -> Result<(), ErrorBody> {
        if let Some(failure) = self.failure() {
            return Err(ErrorBody::new(ErrorCode::Retry, failure.to_string()));
        }
        if self.shared.full.load(Ordering::Relaxed) {
            return Err(no_room());
        }
        if self.bytes() > self.shared.bound.load(Ordering::Relaxed) {
            return Err(ErrorBody::new(
                ErrorCode::Busy,
                "the log of this server is as long as it may be, until snapshots are written: its disk is slower than the \
                 pushes; send again after a pause",
            ));
        }
        Ok(())
    }

    /// Whether the disk had no room for the last that was to be written.
    pub(crate) fn is_full(&self) -> bool {
        self.shared.full.load(Ordering::Relaxed)
    }

    /// Where the next record will begin.
    pub fn next_offset(&self) -> u64 {
        lock(&self.shared.queue).next_offset
    }

    /// Bytes from the oldest segment to the end.
    pub fn bytes(&self) -> u64 {
        self.next_offset()
            .saturating_sub(self.shared.begin.load(Ordering::Relaxed))
    }

    /// Up to where the stream is on the disk.
    pub fn synced(&self) -> u64 {
        self.shared.synced.load(Ordering::Acquire)
    }

    /// Says how long the log may be: above it, pushes wait for snapshots.
    pub(crate) fn set_bound(&self, bytes: u64) {
        self.shared.bound.store(bytes, Ordering::Relaxed);
    }

    /// Waits until everything before `offset` is on the disk.
    ///
    /// # Errors
    /// [`LogFailure`] when it will never be known to be.
    pub async fn reached(&self, offset: u64) -> Result<(), LogFailure> {
        {
            let mut stream = lock(&self.shared.stream);
            stream.urgent = stream.urgent.max(offset);
        }
        self.wake();
        self.shared.appended.notify_one();
        loop {
            let settled = self.shared.settled.notified();
            let mut settled = std::pin::pin!(settled);
            settled.as_mut().enable();
            if self.synced() >= offset {
                return Ok(());
            }
            if let Some(failure) = self.failure() {
                return Err(failure);
            }
            settled.await;
        }
    }

    /// Ends the log: a file beside it could not be synced, and nobody knows what the disk has.
    pub(crate) fn fail(&self, error: &io::Error) {
        self.shared.fail(error);
    }

    /// Why the log has ended, if it has.
    pub fn failure(&self) -> Option<LogFailure> {
        lock(&self.shared.failure).clone()
    }

    /// Waits until the log fails.
    pub async fn failed(&self) -> LogFailure {
        loop {
            let settled = self.shared.settled.notified();
            let mut settled = std::pin::pin!(settled);
            settled.as_mut().enable();
            if let Some(failure) = self.failure() {
                return failure;
            }
            settled.await;
        }
    }

    /// Waits until the log fails; or, if `or_full`, until the disk has no room for what is to be written.
    pub(crate) async fn stuck(&self, or_full: bool) -> Stuck {
        loop {
            let settled = self.shared.settled.notified();
            let mut settled = std::pin::pin!(settled);
            settled.as_mut().enable();
            if let Some(failure) = self.failure() {
                return Stuck::Failed(failure);
            }
            if or_full && self.is_full() {
                return Stuck::Full;
            }
            settled.await;
        }
    }

    /// Takes no more, and waits until everything that it has taken is on the disk. A disk that is full is not waited for any
    /// more: nothing that is not on it was acknowledged.
    ///
    /// # Errors
    /// [`LogFailure`].
    pub async fn close(&self) -> Result<(), LogFailure> {
        let end = {
            let mut queue = lock(&self.shared.queue);
            queue.closed = true;
            queue.next_offset
        };
        self.shared.gathered.notify_one();
        self.reached(end).await
    }

    /// Lets go of the segments that lie wholly before `needed`: as many are kept to be used again as the log may grow by.
    ///
    /// # Errors
    /// Those of the disk; what could not be removed is tried again with the next call.
    pub async fn release(&self, needed: u64) -> io::Result<()> {
        let shared = &self.shared;
        let gone: Vec<Spare> = {
            let stream = lock(&shared.stream);
            let ends = stream.segments.iter().zip(stream.segments.iter().skip(1));
            ends.take_while(|&(_, &end)| end <= needed)
                .map(|(&start, &end)| Spare {
                    start,
                    bytes: end - start,
                })
                .collect()
        };
        // The oldest first, so that what remains is always one stretch of the stream.
        for segment in gone {
            let kept = self.set_aside(segment).await?;
            let mut stream = lock(&shared.stream);
            stream.segments.retain(|&other| other != segment.start);
            let begin = stream.segments.first().copied().unwrap_or(needed);
            shared.begin.store(begin, Ordering::Relaxed);
            stream.spares.extend(kept);
        }
        Ok(())
    }

    /// Takes a segment out of the log: the file is kept, if log and such files together stay below the bound.
    async fn set_aside(&self, segment: Spare) -> io::Result<Option<Spare>> {
        let Shared { disk, stream, .. } = &*self.shared;
        let spare = |spares: &[Spare]| spares.iter().fold(0, |sum: u64, s| sum + s.bytes);
        let all = self.bytes() + spare(&lock(stream).spares);
        let name = segment::name(segment.start);
        if all > self.shared.bound.load(Ordering::Relaxed)
            || self.shared.full.load(Ordering::Relaxed)
        {
            disk.remove(&name).await?;
            disk.sync_directory().await.map_err(unsynced)?;
            return Ok(None);
        }
        let file = disk
            .reuse(&name, &segment::spare_name(segment.start))
            .await?;
        disk.sync_directory().await.map_err(unsynced)?;
        // Its next name may come to the disk before its next head does: the old one must not be taken for it.
        let blank = vec![Bytes::from_static(&[0; segment::HEADER_BYTES])];
        if file.append(blank).await.is_err() {
            disk.remove(&segment::spare_name(segment.start)).await?;
            return Ok(None);
        }
        file.sync().await.map_err(unsynced)?;
        Ok(Some(segment))
    }

    /// Removes the files that are kept to be used again: the disk is full.
    pub(crate) async fn remove_spares(&self) -> io::Result<()> {
        self.shared.remove_spares().await
    }
}

impl Shared {
    async fn remove_spares(&self) -> io::Result<()> {
        let spares = std::mem::take(&mut lock(&self.stream).spares);
        for spare in spares {
            self.disk.remove(&segment::spare_name(spare.start)).await?;
        }
        Ok(())
    }

    fn fail(&self, error: &io::Error) {
        tracing::error!(%error, "the log cannot be written; this server acknowledges nothing more");
        lock(&self.failure).get_or_insert_with(|| LogFailure(error.to_string().into()));
        self.settled.notify_waiters();
    }
}
