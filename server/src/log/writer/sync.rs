//! The task that syncs what was appended during its last sync, and tells who waits for it.

use std::{
    io,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use glint_world::Shutdown;
use tokio::time::Instant;

use super::{Shared, Stream, lock};

/// Bytes that may be appended without a sync. What was not known to be synced is written anew at the next start.
const UNSYNCED_BYTES: u64 = 8 << 20;

impl Stream {
    /// Whether a sync is to begin at once.
    pub(super) fn is_due(&self, synced: u64) -> bool {
        self.urgent > synced || self.end - synced >= UNSYNCED_BYTES || self.before.is_some()
    }
}

impl Shared {
    pub(super) async fn sync_all(&self, closed: &Shutdown) -> io::Result<()> {
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
        Some(if stream.is_due(synced) {
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
            position.raise_beside(to);
        }
        self.settled.notify_waiters();
        Ok(())
    }
}
