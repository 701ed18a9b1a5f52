//! The task that appends what has gathered, in one write at a time, and begins new segments.

use std::{
    io,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use glint_protocol::Durability;
use tokio::time::Instant;

use super::{Entry, Open, Shared, lock};
use crate::log::{
    record::{ALIGNMENT, Header},
    segment::{self, SegmentHeader},
};

/// Bytes that are appended at once, and one record more at most: what waits behind them is not kept waiting long, and they are
/// written while the processor's cache has them.
const BATCH_BYTES: u64 = 1 << 20;
/// Payloads up to this many bytes are copied behind their header rather than handed over by themselves.
const SMALL: usize = 4 << 10;
/// How long a full disk is left alone before it is tried again.
pub(crate) const FULL_PAUSE: Duration = Duration::from_millis(100);

/// The bytes of records, in few pieces: small ones are copied together, large ones handed over as they are.
#[derive(Default)]
pub(super) struct Pieces {
    done: Vec<Bytes>,
    copied: BytesMut,
}

impl Pieces {
    /// What begins with these bytes.
    pub(super) fn beginning(head: &[u8]) -> Self {
        Self {
            done: Vec::new(),
            copied: BytesMut::from(head),
        }
    }

    /// Room for so many bytes that are copied.
    fn with_room(bytes: usize) -> Self {
        Self {
            done: Vec::new(),
            copied: BytesMut::with_capacity(bytes),
        }
    }

    /// Adds a record.
    pub(super) fn put(&mut self, record: &Header, payload: &Bytes, salt: u64) {
        self.copied.extend_from_slice(&record.encode(salt));
        if payload.len() <= SMALL {
            self.copied.extend_from_slice(payload);
        } else {
            self.done.push(self.copied.split().freeze());
            self.done.push(payload.clone());
        }
        let padding = payload.len().next_multiple_of(ALIGNMENT) - payload.len();
        self.copied.extend_from_slice(&[0; ALIGNMENT][..padding]);
    }

    /// All of them.
    pub(super) fn finish(mut self) -> Vec<Bytes> {
        if !self.copied.is_empty() {
            self.done.push(self.copied.freeze());
        }
        self.done
    }
}

impl Shared {
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

    pub(super) async fn append_all(&self) -> io::Result<()> {
        while let Some(batch) = self.gather().await {
            if lock(&self.failure).is_some() {
                return Ok(());
            }
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
            let copied = |entry: &Entry| {
                let payload = Some(entry.payload.len()).filter(|&length| length <= SMALL);
                Header::SIZE + payload.unwrap_or(0) + ALIGNMENT
            };
            let mut pieces = Pieces::with_room(batch.iter().map(copied).sum());
            for entry in &batch {
                let record = Header {
                    synced,
                    ..entry.header
                };
                pieces.put(&record, &entry.payload, self.salt);
            }
            self.append_when_there_is_room(&current, pieces.finish())
                .await?;
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
    /// The error itself if it is another, or the log is being closed.
    async fn wait_for_room(&self, error: io::Error) -> io::Result<()> {
        if !is_full(&error) || lock(&self.queue).closed {
            return Err(error);
        }
        if !self.full.swap(true, Ordering::Relaxed) {
            tracing::error!(%error, "the disk is full: pushes to durable models are refused until there is room");
            self.settled.notify_waiters();
        }
        // If that fails too, there is no less room than before.
        let _ = self.remove_spares().await;
        tokio::time::sleep(FULL_PAUSE).await;
        Ok(())
    }

    fn has_room(&self) {
        if self.full.swap(false, Ordering::Relaxed) {
            tracing::info!("the disk has room again: pushes to durable models go on");
        }
    }

    /// Notes what was appended, and tells those for whom that is enough; nobody once the log has failed.
    fn tell(&self, batch: Vec<Entry>) {
        let failure = lock(&self.failure);
        if failure.is_some() {
            return;
        }
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
                Durability::Async | Durability::Memory => entry.safe.raise_beside(position),
            }
        }
        let first = stream.since.is_none();
        stream.since.get_or_insert_with(Instant::now);
        let due = stream.is_due(self.synced.load(Ordering::Acquire));
        drop(stream);
        // Otherwise it sleeps until its time comes anyway.
        if first || due {
            self.appended.notify_one();
        }
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
            life: self.life,
            boot: self.boot,
            follows: end,
        };
        let name = segment::name(end);
        let mut spare = lock(&self.stream).spares.pop();
        let file = loop {
            // Its entry in the directory is synced before anything in it counts as synced: see `sync_once`.
            let spare = spare.take();
            let made = async {
                let file = match spare {
                    Some(spare) => {
                        let spare = segment::spare_name(spare.start);
                        self.disk.reuse(&spare, &name).await?
                    }
                    None => self.disk.create(&name).await?,
                };
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
}

/// Whether an error says that there is no room, which may end.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}
