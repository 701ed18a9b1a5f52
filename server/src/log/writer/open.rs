//! How a log begins: in a new segment, with all that is not known to be on the disk written anew.

use std::{
    collections::VecDeque,
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64},
    },
};

use bytes::Bytes;
use glint_protocol::Boot;
use glint_world::{Disk, Shutdown, World, disk::unsynced};
use tokio::sync::Notify;

use super::{Log, Open, Queue, Shared, Stream, append::Pieces};
use crate::log::{
    LogOptions,
    record::Header,
    segment::{self, SegmentHeader},
    volume::Manifest,
};

/// What a log goes on from: the stream as it was recovered.
pub(crate) struct Beginning {
    /// Whose log it is.
    pub(crate) manifest: Manifest,
    /// This start of the server.
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
    /// on the disk when this returns. Then runs until [`Log::close`], or until it fails. Where the disk was full it may be
    /// tried again, as long as no [sync](unsynced) has failed.
    ///
    /// # Errors
    /// Those of the disk.
    pub(crate) async fn open(
        world: &World,
        disk: Arc<dyn Disk>,
        options: LogOptions,
        beginning: &Beginning,
    ) -> io::Result<Self> {
        let (manifest, start) = (&beginning.manifest, beginning.start);
        let tail = beginning.tail.iter().map(|(r, _)| r.record_bytes());
        // The file gets its name when all of it is synced.
        let synced = start + tail.sum::<u64>();
        let header = SegmentHeader {
            volume: manifest.volume,
            start,
            synced,
            life: manifest.start,
            boot: beginning.boot,
            follows: beginning.follows,
        };
        let mut pieces = Pieces::beginning(&header.encode());
        let mut end = start;
        for (record, payload) in &beginning.tail {
            let record = Header {
                offset: end,
                synced,
                ..*record
            };
            end += record.record_bytes();
            pieces.put(&record, payload, manifest.salt);
        }
        let name = segment::name(start);
        let partial = segment::spare_name(start);
        let file = disk.create(&partial).await?;
        file.append(pieces.finish()).await?;
        file.sync().await.map_err(unsynced)?;
        disk.rename(&partial, &name).await?;
        disk.sync_directory().await.map_err(unsynced)?;
        // What lay beyond the end of the stream is written anew now, or was torn. It must not come back: it would be taken
        // for segments that follow.
        for (other, _) in disk.list().await? {
            let beyond = segment::start_of(&other).is_some_and(|s| s >= beginning.follows);
            if beyond && other != name {
                disk.remove(&other).await?;
            }
        }
        disk.sync_directory().await.map_err(unsynced)?;

        let mut segments = beginning.segments.clone();
        segments.push(start);
        let begin = segments[0];
        let shared = Arc::new(Shared {
            options,
            disk,
            volume: manifest.volume,
            salt: manifest.salt,
            life: manifest.start,
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
                spares: Vec::new(),
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
}
