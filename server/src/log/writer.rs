//! Writing the log: one task appends what has gathered, another syncs what was appended during its last sync. No timer
//! makes anybody wait; only where no push waits for a sync, one is made now and then.
//!
//! A disk that is full is waited for: what was applied already is appended as soon as there is room, and meanwhile
//! [`Log::admits`] lets nothing new be applied. Any other failure ends the log for good ([`Log::failed`]): what the disk has
//! is then known only to the next start, which reads it.

use std::{
    collections::VecDeque,
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use glint_protocol::{Boot, Durability, ErrorBody, ErrorCode, VolumeId};
use glint_world::{Disk, DiskFile, Shutdown, World, disk::PARTIAL};
use tokio::{sync::Notify, time::Instant};

use super::{
    LogOptions,
    record::{ALIGNMENT, Header},
    segment::{self, SegmentHeader},
};
use crate::safe::SafePosition;

/// Bytes that are appended at once at most: what waits behind them is not kept waiting long.
const BATCH_BYTES: u64 = 4 << 20;
/// Payloads up to this many bytes are copied behind their header rather than handed over by themselves.
const SMALL: usize = 4 << 10;
/// How long a full disk is left alone before it is tried again.
const FULL_PAUSE: Duration = Duration::from_millis(100);
/// Bytes that may be appended without a sync.
const UNSYNCED_BYTES: u64 = 32 << 20;

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

/// The log of a server. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Log {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    options: LogOptions,
    disk: Arc<dyn Disk>,
    world: World,
    volume: VolumeId,
    boot: Boot,
    queue: Mutex<Queue>,
    /// Told when something is in the queue.
    gathered: Notify,
    stream: Mutex<Stream>,
    /// Told when more was appended.
    appended: Notify,
    /// Told when more is on the disk, or the log has failed.
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
    waiting: VecDeque<(u64, Arc<SafePosition>, glint_protocol::Position)>,
    /// The last record of a model that asks for syncs.
    urgent: u64,
    /// Since when something is appended and not synced.
    since: Option<Instant>,
    /// Where each segment begins, the oldest first.
    segments: Vec<u64>,
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

/// What a log goes on from: the stream as it was recovered.
pub(crate) struct Beginning {
    pub(crate) volume: VolumeId,
    pub(crate) boot: Boot,
    /// Where each segment that is kept begins, the oldest first.
    pub(crate) segments: Vec<u64>,
    /// Where the stream that is kept ends.
    pub(crate) follows: u64,
    /// Where it goes on.
    pub(crate) start: u64,
    /// Records from `start` on that nobody has synced yet: they become the first of the new segment.
    pub(crate) tail: Vec<(Header, Bytes)>,
}

impl Log {
    /// Goes on with a log in a new segment, which begins with what was not known to be synced: all that was recovered is
    /// on the disk when this returns. Then runs until [`Log::close`], or until it fails.
    ///
    /// # Errors
    /// Those of the disk.
    pub(crate) async fn open(
        world: &World,
        disk: Arc<dyn Disk>,
        options: LogOptions,
        beginning: Beginning,
    ) -> io::Result<Self> {
        let start = beginning.start;
        let header = SegmentHeader {
            volume: beginning.volume,
            start,
            synced: start,
            salt: world.random.bits(),
            boot: beginning.boot,
            follows: beginning.follows,
        };
        let mut parts = vec![Bytes::copy_from_slice(&header.encode())];
        let mut end = start;
        for (mut record, payload) in beginning.tail {
            record.offset = end;
            record.synced = start;
            end += record.record_bytes();
            put(&mut parts, &record, &payload, header.salt);
        }
        let name = segment::name(start);
        let partial = format!("{name}{PARTIAL}");
        let file = disk.create(&partial).await?;
        file.append(parts).await?;
        file.sync().await?;
        disk.rename(&partial, &name).await?;
        disk.sync_directory().await?;
        // What lay beyond the end of the stream is written anew now, or was torn. It must not come back: it would be taken
        // for segments that follow.
        for (other, _) in disk.list().await? {
            let beyond = segment::start_of(&other).is_some_and(|s| s >= beginning.follows);
            if beyond && other != name {
                disk.remove(&other).await?;
            }
        }
        disk.sync_directory().await?;

        let mut segments = beginning.segments;
        segments.push(start);
        let begin = segments[0];
        let shared = Arc::new(Shared {
            options,
            disk,
            world: world.clone(),
            volume: beginning.volume,
            boot: beginning.boot,
            queue: Mutex::new(Queue {
                entries: VecDeque::new(),
                next_offset: end,
                closed: false,
            }),
            gathered: Notify::new(),
            stream: Mutex::new(Stream {
                current: Arc::new(Open { file, header }),
                before: None,
                end,
                waiting: VecDeque::new(),
                urgent: 0,
                since: None,
                segments,
            }),
            appended: Notify::new(),
            settled: Notify::new(),
            synced: AtomicU64::new(end),
            begin: AtomicU64::new(begin),
            full: AtomicBool::new(false),
            bound: AtomicU64::new(options.bound(0)),
            failure: Mutex::new(None),
        });
        let closed = Shutdown::new();
        let (appender, syncer) = (Arc::clone(&shared), Arc::clone(&shared));
        let ended = closed.clone();
        world.tasks.spawn(Box::pin(async move {
            if let Err(error) = appender.append_all().await {
                appender.fail(&error);
            }
            ended.cancel();
            appender.appended.notify_one();
        }));
        world.tasks.spawn(Box::pin(async move {
            if let Err(error) = syncer.sync_all(&closed).await {
                syncer.fail(&error);
            }
        }));
        Ok(Self { shared })
    }

    /// Puts a record into the log, to be called under the lock of its partition; says where it begins.
    pub fn append(&self, mut entry: Entry) -> u64 {
        let mut queue = lock(&self.shared.queue);
        let offset = queue.next_offset;
        entry.header.offset = offset;
        queue.next_offset += entry.header.record_bytes();
        let first = queue.entries.is_empty();
        queue.entries.push_back(entry);
        drop(queue);
        if first {
            self.shared.gathered.notify_one();
        }
        offset
    }

    /// Whether a new push to a logged model may be applied.
    ///
    /// # Errors
    /// `storage_full`, `busy`, `retry`.
    pub fn admits(&self) -> Result<(), ErrorBody> {
        if self.shared.full.load(Ordering::Relaxed) {
            return Err(ErrorBody::new(
                ErrorCode::StorageFull,
                "the disk of this server's data directory is full: pulls go on, and pushes to models that are not `memory` will as \
                 soon as there is room; make room, or give it a larger disk",
            ));
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

    /// Takes no more, and waits until everything that it has taken is on the disk.
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

    /// Removes the segments that lie wholly before `needed`.
    ///
    /// # Errors
    /// Those of the disk; what could not be removed is tried again with the next call.
    pub async fn release(&self, needed: u64) -> io::Result<()> {
        let gone: Vec<u64> = {
            let stream = lock(&self.shared.stream);
            let ends = stream.segments.iter().zip(stream.segments.iter().skip(1));
            ends.take_while(|&(_, &end)| end <= needed)
                .map(|(&start, _)| start)
                .collect()
        };
        // The oldest first, so that what remains is always one stretch of the stream.
        for start in gone {
            self.shared.disk.remove(&segment::name(start)).await?;
            self.shared.disk.sync_directory().await?;
            let mut stream = lock(&self.shared.stream);
            stream.segments.retain(|&other| other != start);
            let begin = stream.segments.first().copied().unwrap_or(needed);
            self.shared.begin.store(begin, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// Appends a record's bytes to parts.
fn put(parts: &mut Vec<Bytes>, record: &Header, payload: &Bytes, salt: u64) {
    let padding = payload.len().next_multiple_of(ALIGNMENT) - payload.len();
    let small = if payload.len() <= SMALL {
        payload.len()
    } else {
        0
    };
    let mut head = BytesMut::with_capacity(Header::SIZE + small + ALIGNMENT);
    head.extend_from_slice(&record.encode(salt));
    if small > 0 {
        head.extend_from_slice(payload);
        head.resize(head.len() + padding, 0);
        parts.push(head.freeze());
        return;
    }
    parts.push(head.freeze());
    if !payload.is_empty() {
        parts.push(payload.clone());
        if padding > 0 {
            parts.push(Bytes::from_static(&[0; ALIGNMENT][..padding]));
        }
    }
}

impl Shared {
    fn fail(&self, error: &io::Error) {
        tracing::error!(%error, "the log cannot be written; this server acknowledges nothing more");
        lock(&self.failure).get_or_insert_with(|| LogFailure(error.to_string().into()));
        self.settled.notify_waiters();
    }

    /// What has gathered, up to a bound; none once the log is closed and everything was taken.
    async fn gather(&self) -> Option<Vec<Entry>> {
        loop {
            {
                let mut queue = lock(&self.queue);
                let mut bytes = 0;
                let mut batch = Vec::new();
                while bytes < BATCH_BYTES
                    && let Some(entry) = queue.entries.pop_front()
                {
                    bytes += entry.header.record_bytes();
                    batch.push(entry);
                }
                if !batch.is_empty() {
                    return Some(batch);
                }
                if queue.closed {
                    return None;
                }
            }
            self.gathered.notified().await;
        }
    }

    async fn append_all(&self) -> io::Result<()> {
        while let Some(batch) = self.gather().await {
            let (current, end) = {
                let stream = lock(&self.stream);
                (Arc::clone(&stream.current), stream.end)
            };
            let current = if end - current.header.start >= self.options.segment_bytes {
                self.rotate(end).await?
            } else {
                current
            };
            let synced = self.synced.load(Ordering::Acquire);
            let mut parts = Vec::with_capacity(batch.len() * 3);
            for entry in &batch {
                let record = Header {
                    synced,
                    ..entry.header
                };
                put(&mut parts, &record, &entry.payload, current.header.salt);
            }
            self.append_when_there_is_room(&current, parts).await?;
            self.tell(batch);
        }
        Ok(())
    }

    async fn append_when_there_is_room(&self, to: &Open, parts: Vec<Bytes>) -> io::Result<()> {
        loop {
            let error = match to.file.append(parts.clone()).await {
                Ok(()) => break,
                Err(error) => error,
            };
            self.wait_for_room(error).await?;
        }
        self.has_room();
        Ok(())
    }

    /// Waits a while if the disk is full.
    ///
    /// # Errors
    /// The error itself if it is another.
    async fn wait_for_room(&self, error: io::Error) -> io::Result<()> {
        if !is_full(&error) {
            return Err(error);
        }
        if !self.full.swap(true, Ordering::Relaxed) {
            tracing::error!(%error, "the disk is full: pushes to durable models are refused until there is room");
        }
        tokio::time::sleep(FULL_PAUSE).await;
        Ok(())
    }

    fn has_room(&self) {
        if self.full.swap(false, Ordering::Relaxed) {
            tracing::info!("the disk has room again: pushes to durable models go on");
        }
    }

    /// Notes what was appended, and tells those for whom that is enough.
    fn tell(&self, batch: Vec<Entry>) {
        let mut stream = lock(&self.stream);
        for entry in batch {
            let position = entry.header.position;
            stream.end = entry.header.offset + entry.header.record_bytes();
            match entry.durability {
                Durability::Sync => {
                    let end = stream.end;
                    stream.urgent = end;
                    stream.waiting.push_back((end, entry.safe, position));
                }
                Durability::Async | Durability::Memory => entry.safe.raise(position),
            }
        }
        stream.since.get_or_insert_with(Instant::now);
        drop(stream);
        self.appended.notify_one();
    }

    /// Begins a new segment. The one before the current must be synced by then: no more than two are ever in doubt.
    async fn rotate(&self, end: u64) -> io::Result<Arc<Open>> {
        loop {
            let settled = self.settled.notified();
            let mut settled = std::pin::pin!(settled);
            settled.as_mut().enable();
            {
                let mut stream = lock(&self.stream);
                if stream.before.is_none() {
                    break;
                }
                stream.urgent = stream.end;
            }
            if lock(&self.failure).is_some() {
                return Err(io::Error::other("the log has failed"));
            }
            self.appended.notify_one();
            settled.await;
        }
        let header = SegmentHeader {
            volume: self.volume,
            start: end,
            synced: self.synced.load(Ordering::Acquire),
            salt: self.world.random.bits(),
            boot: self.boot,
            follows: end,
        };
        let name = segment::name(end);
        let file = loop {
            // Its entry in the directory is synced before anything in it counts as synced: see `sync_once`.
            let made = async {
                let file = self.disk.create(&name).await?;
                let parts = vec![Bytes::copy_from_slice(&header.encode())];
                file.append(parts).await?;
                Ok(file)
            };
            match made.await {
                Ok(file) => break file,
                Err(error) => self.wait_for_room(error).await?,
            }
        };
        self.has_room();
        let open = Arc::new(Open { file, header });
        let mut stream = lock(&self.stream);
        stream.segments.push(end);
        stream.before = Some(std::mem::replace(&mut stream.current, Arc::clone(&open)));
        Ok(open)
    }

    async fn sync_all(&self, closed: &Shutdown) -> io::Result<()> {
        loop {
            let wait = self.until_sync();
            match wait {
                Some(Duration::ZERO) => self.sync_once().await?,
                Some(wait) => {
                    tokio::select! {
                        biased;
                        () = self.appended.notified() => {}
                        () = tokio::time::sleep(wait) => {}
                    }
                }
                None if closed.is_cancelled() => return Ok(()),
                None => self.appended.notified().await,
            }
        }
    }

    /// How long the next sync may wait; none when everything is synced.
    fn until_sync(&self) -> Option<Duration> {
        let stream = lock(&self.stream);
        let synced = self.synced.load(Ordering::Acquire);
        let since = stream.since?;
        let due = stream.urgent > synced
            || stream.end - synced >= UNSYNCED_BYTES
            || stream.before.is_some();
        Some(if due {
            Duration::ZERO
        } else {
            self.options.sync_every.saturating_sub(since.elapsed())
        })
    }

    /// Syncs everything that is appended now.
    async fn sync_once(&self) -> io::Result<()> {
        let (current, before, end) = {
            let mut stream = lock(&self.stream);
            stream.since = None;
            (
                Arc::clone(&stream.current),
                stream.before.clone(),
                stream.end,
            )
        };
        if let Some(before) = &before {
            before.file.sync().await?;
            // The current one was made since the last sync of the directory.
            current.file.sync().await?;
            self.disk.sync_directory().await?;
        } else {
            current.file.sync().await?;
        }
        let mut stream = lock(&self.stream);
        if before.is_some() {
            stream.before = None;
        }
        if stream.end > end {
            // It came while the disk was busy.
            stream.since.get_or_insert_with(Instant::now);
        }
        self.synced.store(end, Ordering::Release);
        let mut safe = Vec::new();
        while stream.waiting.front().is_some_and(|(to, ..)| *to <= end) {
            safe.extend(stream.waiting.pop_front());
        }
        drop(stream);
        for (_, position, to) in safe {
            position.raise(to);
        }
        self.settled.notify_waiters();
        Ok(())
    }
}

/// Whether an error says that there is no room, which may end.
fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}
