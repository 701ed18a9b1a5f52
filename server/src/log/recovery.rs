//! From files back to partitions: load the snapshots, replay what the log has beyond them, and judge what is damaged.
//!
//! - `plain`: the part of the log about which nothing is in doubt
//! - `stream`: the other segments as one stream, and where it ends
//! - `replay`: its records applied to partitions, many at once
//!
//! What was known to be synced must be there: damage below the highest such place makes every partition lost that may have
//! had a record there, named with file and place, and never skips it silently. Above it the pages of a machine that stopped
//! may have reached the disk in any order: the stream ends at the first bad record. What lies between is read back and
//! written anew (by [`super::Log`]): a page that could be read may still never have reached the disk.

mod plain;
mod replay;
mod stream;

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    sync::Arc,
};

use bytes::Bytes;
use glint_protocol::{Incarnation, ModelSpec, control::RecoveryProgress};
use glint_world::{Disk, World, disk::load};
use tokio::sync::{oneshot, watch};

use super::{
    record::Header,
    segment,
    snapshot::{self, Named, Unusable},
    volume::Manifest,
};
use crate::partition::Partition;
use plain::{Doubt, Piece, Plain};
use replay::Replay;
use stream::Stream;

/// Files that are read, and pieces of work that are done, at once.
const AT_ONCE: usize = 4;

/// Segments that are read at once, ahead of the one that is applied.
const READ_AHEAD: usize = 2;

/// What the files of a data directory have.
#[derive(Debug, Default)]
pub struct Recovered {
    /// Partitions by model, with what the models are.
    pub models: BTreeMap<Incarnation, RecoveredModel>,
    /// Partitions whose files are damaged, and how.
    pub lost: BTreeMap<(Incarnation, u32), Arc<str>>,
    /// Models that were dropped; their files may still be there.
    pub dropped: Vec<Incarnation>,
    /// Where each segment begins, the oldest first.
    pub(crate) segments: Vec<u64>,
    /// Where the stream that is kept ends.
    pub(crate) follows: u64,
    /// Where it goes on: there, or further on where snapshots are ahead of it, or what was known to be there is missing.
    pub(crate) start: u64,
    /// What follows there, and was not known to be synced.
    pub(crate) tail: Vec<(Header, Bytes)>,
}

/// A model of which partitions were recovered.
#[derive(Debug)]
pub struct RecoveredModel {
    /// What it is.
    pub spec: Arc<ModelSpec>,
    /// Its partitions.
    pub partitions: BTreeMap<u32, RecoveredPartition>,
}

/// A partition as it was.
#[derive(Debug)]
pub struct RecoveredPartition {
    /// Its state.
    pub partition: Partition,
    /// Where in the stream its first record begins that no snapshot has; none when there is no such record.
    pub needed_from: Option<u64>,
}

/// Why recovery is not possible at all. Nothing was touched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecoveryError {
    /// A file cannot be read.
    #[error("the data directory cannot be read: {0}; mend its disk or permissions")]
    Io(#[from] io::Error),
    /// A file was written by a later version.
    #[error("'{0}' was written by a later version of Glint (format {1}); start that version")]
    Newer(String, u32),
    /// A segment belongs elsewhere.
    #[error(
        "'{name}' is not a part of this data directory's log: it says that it is that of {says}; somebody has mixed two \
         directories, or renamed a file: put this one back as it was"
    )]
    Foreign {
        /// The file.
        name: String,
        /// What it says that it is.
        says: String,
    },
    /// There is no memory for what it holds.
    #[error("the system has no memory for '{0}'; give the server as much memory as it had before")]
    Memory(String),
}

/// Reads everything. `progress` is told how far it is.
///
/// # Errors
/// [`RecoveryError`].
pub async fn recover(
    world: &World,
    disk: &Arc<dyn Disk>,
    manifest: &Manifest,
    progress: &watch::Sender<RecoveryProgress>,
) -> Result<Recovered, RecoveryError> {
    let files = disk.list().await?;
    let (mut snapshots, mut segments, mut total) = (Vec::new(), Vec::new(), 0);
    let mut replay = Replay::default();
    for (name, bytes) in files {
        match Named::parse(&name) {
            Some(Named::Snapshot(incarnation, partition)) => {
                snapshots.push((name, incarnation, partition, bytes));
            }
            Some(Named::Lost(incarnation, partition)) => {
                let why = read(&**disk, &name).await?;
                let why = String::from_utf8_lossy(&why).into();
                replay.lose(incarnation, partition, why);
            }
            None => match segment::start_of(&name) {
                Some(start) => segments.push((start, bytes)),
                None => continue,
            },
        }
        total += bytes;
    }
    progress.send_modify(|p| p.total_bytes = total);
    let done = |bytes: u64| progress.send_modify(|p| p.done_bytes += bytes);
    load_snapshots(world, disk, snapshots, &mut replay, done).await?;
    segments.sort_unstable();
    if segments.is_empty() {
        // Whoever has a snapshot had a log.
        replay.damaged(
            0..u64::MAX,
            "the log is missing: the directory has snapshots and no 'log-' file",
        );
    }

    let first = segments.first().map_or(0, |&(start, _)| start);
    let (doubt, mut counted) =
        apply_plain(world, disk, manifest, &segments, &mut replay, done).await?;
    let mut stream = Stream::after(manifest.end, doubt);
    // While one is applied, the next are read.
    let mut reading = VecDeque::new();
    let rest = &segments[doubt.segments..];
    let mut next = rest.iter();
    for &(_, bytes) in rest {
        for &(start, _) in next.by_ref().take(READ_AHEAD - reading.len()) {
            let (disk, manifest) = (Arc::clone(disk), manifest.clone());
            reading.push_back(beside(world, async move {
                stream::read(&*disk, start, &manifest).await
            }));
        }
        let Some(read) = reading.pop_front() else {
            break;
        };
        if let Some(judged) = stream.push(read.await??) {
            replay.apply(world, judged).await?;
        }
        done(bytes.saturating_sub(std::mem::take(&mut counted)));
    }
    for judged in stream.finish() {
        replay.apply(world, judged).await?;
    }
    let (known, end) = (stream.known(), stream.end());
    // Of what follows here nobody knows whether it is on the disk.
    let reached = known.clamp(first, end.max(first));
    // If a segment begins there, it is replaced, and what it says of the one before it must be said again.
    let follows = stream.end_before(reached);
    // Places are never used again for something else: not even those that were synced and are not there any more.
    let start = reached.max(known).max(replay.highest_cut());
    let segments = segments.into_iter().map(|(start, _)| start);
    Ok(Recovered {
        segments: segments.filter(|&s| s < follows).collect(),
        follows,
        start,
        ..replay.finish(known)
    })
}

/// Applies the part of the log about which nothing is in doubt. Says where that ends, and how many bytes of the segment in which
/// it does were counted as done.
async fn apply_plain(
    world: &World,
    disk: &Arc<dyn Disk>,
    manifest: &Manifest,
    segments: &[(u64, u64)],
    replay: &mut Replay,
    done: impl Fn(u64),
) -> Result<(Doubt, u64), RecoveryError> {
    let plain = Plain::find(&**disk, segments, manifest).await?;
    let mut pieces = plain.read(world, disk, manifest.salt);
    let mut counted = 0;
    while let Some(piece) = pieces.recv().await {
        let mut doubt = match piece? {
            Piece::Records(judged, bytes) => {
                replay.apply(world, judged).await?;
                counted += bytes;
                done(bytes);
                continue;
            }
            Piece::Ends(doubt) => doubt,
        };
        let is_missing = doubt.at < doubt.known.max(manifest.end);
        if is_missing && doubt.segments == segments.len() {
            // What was synced and is not there is missed behind the last of them.
            doubt.segments = doubt.segments.saturating_sub(1);
        }
        let behind = segments[..doubt.segments].iter().map(|&(_, bytes)| bytes);
        let behind: u64 = behind.sum();
        done(behind.saturating_sub(counted));
        return Ok((doubt, counted.saturating_sub(behind)));
    }
    Err(io::Error::other("the reading of the log was ended").into())
}

/// A file that is there.
async fn read(disk: &dyn Disk, name: &str) -> io::Result<Bytes> {
    let content = load(disk, name).await;
    let content =
        content.map_err(|error| io::Error::new(error.kind(), format!("'{name}': {error}")));
    Ok(content?.unwrap_or_default())
}

async fn load_snapshots(
    world: &World,
    disk: &Arc<dyn Disk>,
    files: Vec<(String, Incarnation, u32, u64)>,
    replay: &mut Replay,
    done: impl Fn(u64),
) -> Result<(), RecoveryError> {
    let mut files = files.into_iter().peekable();
    while files.peek().is_some() {
        let some: Vec<_> = files.by_ref().take(AT_ONCE).collect();
        let mut loading = Vec::new();
        for (name, incarnation, partition, bytes) in some {
            let (file, disk) = (name.clone(), Arc::clone(disk));
            let loaded = beside(world, async move {
                let content = read(&*disk, &file).await?;
                io::Result::Ok(snapshot::decode(&content))
            });
            loading.push((name, incarnation, partition, bytes, loaded));
        }
        for (name, incarnation, partition, bytes, loaded) in loading {
            take_snapshot(replay, &name, (incarnation, partition), loaded.await??)?;
            done(bytes);
        }
    }
    Ok(())
}

fn take_snapshot(
    replay: &mut Replay,
    name: &str,
    (incarnation, partition): (Incarnation, u32),
    decoded: Result<(snapshot::About, Partition), Unusable>,
) -> Result<(), RecoveryError> {
    let why = match decoded {
        Ok((about, restored))
            if (about.incarnation, about.partition) == (incarnation, partition) =>
        {
            replay.base(about, restored);
            return Ok(());
        }
        Ok(_) => format!("'{name}' is the snapshot of another partition"),
        Err(Unusable::Newer(version)) => return Err(RecoveryError::Newer(name.into(), version)),
        Err(Unusable::Memory(_)) => return Err(RecoveryError::Memory(name.into())),
        Err(error @ Unusable::Damaged(_)) => format!("'{name}' is {error}"),
    };
    replay.lose(incarnation, partition, why.into());
    Ok(())
}

/// Runs work beside the caller, from now on.
fn beside<T: Send + 'static>(
    world: &World,
    work: impl Future<Output = T> + Send + 'static,
) -> impl Future<Output = io::Result<T>> + Send + 'static {
    let (sender, receiver) = oneshot::channel();
    world.tasks.spawn(Box::pin(async move {
        // Whoever waited has gone only with the whole recovery.
        let _ = sender.send(work.await);
    }));
    async {
        let ended = |_| io::Error::other("a part of the recovery was ended");
        receiver.await.map_err(ended)
    }
}
