//! A partition's whole state as a file: what it is, its ledger, its values, all at exactly one position of its log.
//!
//! A file is a row of blocks, each with its length and checksum: first what it is (JSON), then the ledger, then the values in
//! pieces, then an empty block. One without its last block is not whole. Replaced as [`glint_world::disk::replace`] does.
//!
//! The file of a snapshot that was replaced is written over as the next one, since pages that the system has are filled much
//! faster than fresh ones. So behind the last block there may be old bytes, and the checksum of every block but the first covers
//! whose it is and its place in the row too: a block of the former snapshot is never taken for one of this.

use std::{collections::TryReserveError, io, sync::Arc};

use bytes::Bytes;
use glint_protocol::{Epoch, Incarnation, LaneId, ModelSpec, Number, Position};
use glint_world::{
    Disk, DiskFile,
    disk::{PARTIAL, unsynced},
};
use serde::{Deserialize, Serialize};

use super::{checksum, u32_at, u64_at};
use crate::partition::{
    Description, Ledger, Partition, Values,
    cut::Cut,
    ledger::{Entry, Mark},
};

/// The version of the format. In the first, the checksum of a block covered its content alone; before the third, a ledger had no
/// losses.
pub const VERSION: u32 = 3;
/// The file of a snapshot that was replaced, to be written over as the next one.
pub const SPARE: &str = "snapshot-spare.partial";
const PREFIX: &str = "snapshot-";
const LOST: &str = "lost-";
/// Bytes before each block: its length (u32) and its checksum (u32).
const BLOCK_HEADER: usize = 8;
/// Bytes of a ledger's entry: birth 0, random 8, number 16 (u64 each), digest 24 (u32), mark 28 (u32: 1 applied, 2 skipped). After all of
/// them come, in the same form, lanes whose last number came after a loss (mark 3), with the last number that was known then.
const ENTRY_BYTES: usize = 32;

/// What a snapshot is of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct About {
    /// The version of the format.
    pub version: u32,
    /// Which model.
    pub incarnation: Incarnation,
    /// Which partition.
    pub partition: u32,
    /// The position at which it is cut.
    pub position: Position,
    /// The epoch of the record at that position.
    pub epoch: Epoch,
    /// Where in the stream the cut is: records of the partition that begin before it are in the snapshot.
    pub offset: u64,
    /// The model.
    pub spec: ModelSpec,
}

/// Names of the files of one partition.
fn suffix(incarnation: Incarnation, partition: u32) -> String {
    format!(
        "{}-{}-{partition}",
        incarnation.model, incarnation.generation
    )
}

/// The name of a partition's snapshot.
pub fn name(incarnation: Incarnation, partition: u32) -> String {
    format!("{PREFIX}{}", suffix(incarnation, partition))
}

/// The name of the file that says that a partition's values are lost, and why.
pub fn lost_name(incarnation: Incarnation, partition: u32) -> String {
    format!("{LOST}{}", suffix(incarnation, partition))
}

/// What a file is about, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named {
    /// A snapshot of this partition.
    Snapshot(Incarnation, u32),
    /// Why this partition is lost.
    Lost(Incarnation, u32),
}

impl Named {
    /// By a file's name; none when it is of neither kind.
    pub fn parse(name: &str) -> Option<Self> {
        let (rest, lost) = match name.strip_prefix(PREFIX) {
            Some(rest) => (rest, false),
            None => (name.strip_prefix(LOST)?, true),
        };
        let mut parts = rest.split('-');
        let model = parts.next()?.parse().ok()?;
        let generation = parts.next()?.parse().ok()?;
        let partition = parts.next()?.parse().ok()?;
        let incarnation = Incarnation { model, generation };
        if parts.next().is_some() || suffix(incarnation, partition) != rest {
            return None;
        }
        Some(if lost {
            Self::Lost(incarnation, partition)
        } else {
            Self::Snapshot(incarnation, partition)
        })
    }

    /// The model that it is of.
    pub fn incarnation(self) -> Incarnation {
        match self {
            Self::Snapshot(incarnation, _) | Self::Lost(incarnation, _) => incarnation,
        }
    }
}

/// Blocks in their order, with the checksums that they have there.
#[derive(Debug)]
pub struct Blocks {
    /// Checksum of the first, once there was one: what tells this snapshot from any other.
    first: Option<u32>,
    next: u32,
    version: u32,
}

impl Blocks {
    /// Those of a file of this version of the format.
    pub fn new(version: u32) -> Self {
        Self {
            first: None,
            next: 0,
            version,
        }
    }

    /// The checksum of the next block.
    fn sum(&mut self, content: &[u8]) -> u32 {
        let place = self.next;
        self.next += 1;
        match self.first {
            Some(first) if self.version > 1 => {
                checksum([&first.to_le_bytes()[..], &place.to_le_bytes(), content])
            }
            Some(_) => checksum([content]),
            None => *self.first.insert(checksum([content])),
        }
    }

    /// The next block as bytes: what is before its content, and that.
    pub fn put(&mut self, content: Bytes) -> [Bytes; 2] {
        let mut head = [0; BLOCK_HEADER];
        head[..4].copy_from_slice(&(content.len() as u32).to_le_bytes());
        head[4..].copy_from_slice(&self.sum(&content).to_le_bytes());
        [Bytes::copy_from_slice(&head), content]
    }
}

/// The version in which a ledger can be written: programs of before know all but losses.
pub fn version_for(ledger: &Ledger) -> u32 {
    match ledger.losses().next() {
        Some(_) => VERSION,
        None => 2,
    }
}

pub(crate) fn encode_ledger(ledger: &Ledger) -> Bytes {
    let mut out = Vec::with_capacity(8 + ledger.len() * ENTRY_BYTES);
    out.extend_from_slice(&ledger.horizon().to_le_bytes());
    let mut put = |lane: LaneId, number: Number, digest: u32, mark: u32| {
        out.extend_from_slice(&lane.birth.to_le_bytes());
        out.extend_from_slice(&lane.random.to_le_bytes());
        out.extend_from_slice(&number.0.to_le_bytes());
        out.extend_from_slice(&digest.to_le_bytes());
        out.extend_from_slice(&mark.to_le_bytes());
    };
    for (lane, entry) in ledger.iter() {
        match entry.mark {
            Mark::Applied(digest) => put(lane, entry.number, digest, 1),
            Mark::Skipped => put(lane, entry.number, 0, 2),
        }
    }
    for (lane, last) in ledger.losses() {
        put(lane, last, 0, 3);
    }
    out.into()
}

pub(crate) fn decode_ledger(bytes: &[u8]) -> Option<Ledger> {
    let (horizon, rows) = bytes.split_at_checked(8)?;
    if !rows.len().is_multiple_of(ENTRY_BYTES) {
        return None;
    }
    let (mut entries, mut losses) = (Vec::with_capacity(rows.len() / ENTRY_BYTES), Vec::new());
    for row in rows.chunks_exact(ENTRY_BYTES) {
        let lane = LaneId {
            birth: u64_at(row, 0),
            random: u64_at(row, 8),
        };
        let number = Number(u64_at(row, 16));
        let mark = match u32_at(row, 28) {
            1 => Mark::Applied(u32_at(row, 24)),
            2 => Mark::Skipped,
            3 => {
                losses.push((lane, number));
                continue;
            }
            _ => return None,
        };
        entries.push((lane, Entry { number, mark }));
    }
    Some(Ledger::restore(u64_at(horizon, 0), entries, losses))
}

/// A snapshot that is being written, beside the one that is there. The caller puts it in place by [`replace`]; until then
/// there may be a partial file, which means nothing.
pub struct Writer {
    file: Arc<dyn DiskFile>,
    blocks: Blocks,
}

impl Writer {
    /// Begins with everything but the values.
    ///
    /// # Errors
    /// Those of the disk.
    pub async fn begin(disk: &dyn Disk, about: &About, cut: &Cut) -> io::Result<Self> {
        let file = disk.create(&partial(about)).await?;
        Self::begin_in(file, about, cut).await
    }

    /// Begins over the file that [`replace_keeping`] has kept.
    ///
    /// # Errors
    /// Those of the disk.
    pub async fn begin_over(disk: &dyn Disk, about: &About, cut: &Cut) -> io::Result<Self> {
        let file = disk.reuse(SPARE, &partial(about)).await?;
        Self::begin_in(file, about, cut).await
    }

    async fn begin_in(file: Arc<dyn DiskFile>, about: &About, cut: &Cut) -> io::Result<Self> {
        let mut blocks = Blocks::new(about.version);
        let about = serde_json::to_vec(about).map_err(io::Error::other)?;
        let mut parts: Vec<Bytes> = blocks.put(about.into()).into();
        parts.extend(blocks.put(encode_ledger(&cut.ledger)));
        file.append(parts).await?;
        Ok(Self { file, blocks })
    }

    /// Goes on with a piece of the values.
    ///
    /// # Errors
    /// Those of the disk.
    pub async fn piece(&mut self, piece: Bytes) -> io::Result<()> {
        if piece.is_empty() {
            return Ok(());
        }
        self.file.append(self.blocks.put(piece).into()).await
    }

    /// Ends it: it is whole, and on the disk.
    ///
    /// # Errors
    /// Those of the disk.
    pub async fn finish(mut self) -> io::Result<()> {
        let last = self.blocks.put(Bytes::new());
        self.file.append(last.into()).await?;
        self.file.sync().await.map_err(unsynced)
    }
}

/// Puts the snapshot that was written in the place of the one before.
///
/// # Errors
/// Those of the disk.
pub async fn replace(disk: &dyn Disk, incarnation: Incarnation, partition: u32) -> io::Result<()> {
    let name = name(incarnation, partition);
    disk.rename(&format!("{name}{PARTIAL}"), &name).await?;
    disk.sync_directory().await.map_err(unsynced)
}

/// The same, and keeps the file of the one before as [`SPARE`], if it can be; says whether it did.
///
/// # Errors
/// Those of the disk.
pub async fn replace_keeping(
    disk: &dyn Disk,
    incarnation: Incarnation,
    partition: u32,
) -> io::Result<bool> {
    let name = name(incarnation, partition);
    let partial = format!("{name}{PARTIAL}");
    let kept = disk.supersede(&partial, &name, SPARE).await?;
    disk.sync_directory().await.map_err(unsynced)?;
    Ok(kept)
}

fn partial(about: &About) -> String {
    format!("{}{PARTIAL}", name(about.incarnation, about.partition))
}

/// Why a file is no snapshot that can be used.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// It is not what was written, from this byte on.
    #[error("damaged at byte {0}")]
    Damaged(u64),
    /// It was written by a later version.
    #[error("written by a later version of the program (format {0}); start that version")]
    Newer(u32),
    /// There is no memory for its values.
    #[error("no memory for its values")]
    Memory(#[from] TryReserveError),
}

/// Takes a file apart.
///
/// # Errors
/// [`Unusable`].
pub fn decode(file: &Bytes) -> Result<(About, Partition), Unusable> {
    let mut at = 0;
    let mut block = |blocks: &mut Blocks| -> Result<(usize, Bytes), Unusable> {
        let begin = at;
        let damaged = || Unusable::Damaged(begin as u64);
        let head = file.get(at..at + BLOCK_HEADER).ok_or_else(damaged)?;
        let content = at + BLOCK_HEADER;
        let end = content + u32_at(head, 0) as usize;
        if end > file.len() || blocks.sum(&file[content..end]) != u32_at(head, 4) {
            return Err(damaged());
        }
        at = end;
        Ok((begin, file.slice(content..end)))
    };
    let mut blocks = Blocks::new(VERSION);
    let (_, about) = block(&mut blocks)?;
    let about: About = {
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        match serde_json::from_slice(&about) {
            Ok(Version { version }) if version > VERSION => return Err(Unusable::Newer(version)),
            _ => serde_json::from_slice(&about).map_err(|_| Unusable::Damaged(0))?,
        }
    };
    let valid = about.spec.check().is_ok() && about.partition < about.spec.partition_count;
    if !valid {
        return Err(Unusable::Damaged(0));
    }
    let description = Description::new(&about.spec, about.incarnation, about.partition);
    blocks.version = about.version;
    let (begin, ledger) = block(&mut blocks)?;
    let ledger = decode_ledger(&ledger).ok_or(Unusable::Damaged(begin as u64))?;
    // What the file says is believed only as far as it has bytes.
    let count = description.value_count();
    let mut values = Values::with_capacity(
        description.element,
        usize::try_from(description.value_bytes())
            .unwrap_or(usize::MAX)
            .min(file.len())
            / description.element.size(),
    )?;
    loop {
        let (begin, piece) = block(&mut blocks)?;
        if piece.is_empty() {
            break;
        }
        let whole = piece.len().is_multiple_of(description.element.size());
        let sum = values.len() as u64 + (piece.len() / description.element.size()) as u64;
        if !whole || sum > count {
            return Err(Unusable::Damaged(begin as u64));
        }
        values.extend_from_le(&piece);
    }
    if values.len() as u64 != count {
        return Err(Unusable::Damaged(at as u64));
    }
    let partition = Partition::restore(values, ledger, about.position, about.epoch);
    Ok((about, partition))
}
