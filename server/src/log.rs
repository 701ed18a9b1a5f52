//! The log of a server: one stream of records of all its partitions, in segments on one disk, and the snapshots that
//! replace its head. What durable models rest on.
//!
//! - [`record`]: one record as bytes
//! - [`segment`]: one file of the stream, written and taken apart again
//! - `writer`: appends what has gathered, syncs what has gathered during the last sync, tells who waits
//! - [`snapshot`]: a partition's whole state as a file
//! - [`volume`]: the data directory: whose it is, how often it was started
//! - [`recovery`]: from files back to partitions
//! - `replayed`: one record applied to its partition
//!
//! Nothing here knows of requests, of the master or of the table by which pushes are judged: it takes records under the
//! lock of their partition, and raises [`SafePosition`](crate::safe::SafePosition)s.

pub mod record;
pub mod recovery;
pub(crate) mod replayed;
pub mod segment;
pub mod snapshot;
pub mod volume;
mod writer;

use std::time::Duration;

pub(crate) use writer::{Beginning, FULL_PAUSE, Place, Stuck, is_full, no_room};
pub use writer::{Entry, Log, LogFailure};

/// How a log is kept.
#[derive(Clone, Copy, Debug)]
pub struct LogOptions {
    /// Bytes of a segment: the log shrinks by whole segments.
    pub segment_bytes: u64,
    /// How long what was appended may wait for a sync where no push waits for it: what an `async` model may lose with the
    /// machine is what this long, and one sync, took in.
    pub sync_every: Duration,
    /// Bytes that the log may have without a snapshot being written; above it, as many as the values have.
    pub floor_bytes: u64,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            sync_every: Duration::from_millis(100),
            floor_bytes: 256 << 20,
        }
    }
}

impl LogOptions {
    /// Bytes of log at which snapshots begin to be written, for so many bytes of values.
    pub(crate) fn snapshots_from(&self, value_bytes: u64) -> u64 {
        self.floor_bytes.max(value_bytes)
    }

    /// Bytes of log at which pushes wait for snapshots, for so many bytes of values: the bound of the log.
    pub(crate) fn bound(&self, value_bytes: u64) -> u64 {
        self.snapshots_from(value_bytes)
            .saturating_mul(3)
            .saturating_add(self.segment_bytes.saturating_mul(2))
    }
}

/// Whether bytes are what they were when their checksum was taken: CRC-32C (Castagnoli).
pub fn checksum<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> u32 {
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
    for part in parts {
        digest.update(part);
    }
    digest.finalize() as u32
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut array = [0; 4];
    array.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(array)
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut array = [0; 8];
    array.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(array)
}
