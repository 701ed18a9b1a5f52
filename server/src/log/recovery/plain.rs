//! The part of the stream about which nothing is in doubt: read in pieces that the processor's cache holds, and handed on to be
//! applied while the next is read.
//!
//! What a segment is worth is in its own header and in those of the two after it. Where they say that one simply follows
//! another, the records are what they are, up to the first place that is not a whole record: from there on
//! [`super::stream`] judges.

use std::{io, sync::Arc};

use bytes::Bytes;
use glint_world::{Disk, World};
use tokio::sync::mpsc;

use super::{RecoveryError, beside, stream::Judged};
use crate::log::{
    checksum,
    record::Header,
    segment::{self, HEADER_BYTES, Item, Located, SegmentHeader},
    volume::Manifest,
};

/// Bytes that are read at once: some records of the usual size, which is a little more than 1 MiB.
const PIECE_BYTES: u64 = (4 << 20) + (64 << 10);
/// Pieces that a segment has at least, however small it is.
const PIECES: u64 = 8;
/// Pieces that wait to be applied.
const AHEAD: usize = 2;

/// Where the segments lie.
#[derive(Debug)]
pub(super) struct Plain {
    /// Those that simply follow each other, the oldest first.
    segments: Vec<Simple>,
    /// What their headers say to be synced.
    known: u64,
}

/// A segment that simply follows the one before.
#[derive(Debug)]
struct Simple {
    start: u64,
    end: u64,
    /// The start of the process that made it.
    life: u64,
}

/// A part of the stream.
#[derive(Debug)]
pub(super) enum Piece {
    /// Records, and the bytes that they take.
    Records(Judged, u64),
    /// From this place on the stream is to be judged.
    Ends(Doubt),
}

/// Where what is plain ends.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Doubt {
    /// How many segments are behind it.
    pub(super) segments: usize,
    /// The place in the stream.
    pub(super) at: u64,
    /// What was found to be synced.
    pub(super) known: u64,
    /// The highest start of a process that made a segment up to there.
    pub(super) life: u64,
}

impl Plain {
    /// Reads the headers of all segments (where each begins, and its bytes), and finds those that simply follow each other.
    pub(super) async fn find(
        disk: &dyn Disk,
        segments: &[(u64, u64)],
        manifest: &Manifest,
    ) -> Result<Self, RecoveryError> {
        let mut heads = Vec::with_capacity(segments.len());
        for &(start, _) in segments {
            let name = segment::name(start);
            let head = async { disk.open(&name).await?.read(0, HEADER_BYTES).await };
            let head = head.await.map_err(|error| named(&name, &error))?;
            let head = SegmentHeader::decode(&head).ok();
            heads.push(head.filter(|h| h.volume == manifest.volume && h.start == start));
        }
        let follows = |head: &Option<SegmentHeader>, life: u64| {
            let head = head.as_ref()?;
            (head.follows == head.start && head.life >= life).then_some(head.life)
        };
        let mut plain = Self {
            segments: Vec::new(),
            known: 0,
        };
        let mut before = None::<&Simple>;
        for (at, &(start, bytes)) in segments.iter().enumerate() {
            let life = before.map_or(0, |before| before.life);
            // Whatever takes the place of a part of this one is one of the next two.
            let simple = heads[at..]
                .iter()
                .take(3)
                .try_fold(life, |life, head| follows(head, life))
                .is_some();
            let own = start.saturating_add(bytes.saturating_sub(HEADER_BYTES as u64));
            let end = segments.get(at + 1).map_or(own, |&(next, _)| next);
            let Some(head) = heads[at].as_ref().filter(|_| simple && end <= own) else {
                break;
            };
            // That it was made says that what lies before the one before it was synced.
            let synced = before.map_or(0, |before| before.start).max(head.synced);
            plain.known = plain.known.max(synced);
            plain.segments.push(Simple {
                start,
                end,
                life: head.life,
            });
            before = plain.segments.last();
        }
        Ok(plain)
    }

    /// Reads what is plain, a little ahead of whoever takes it. The last is always [`Piece::Ends`], unless there is an error.
    pub(super) fn read(
        self,
        world: &World,
        disk: &Arc<dyn Disk>,
        salt: u64,
    ) -> mpsc::Receiver<Result<Piece, RecoveryError>> {
        let (sender, receiver) = mpsc::channel(AHEAD);
        let disk = Arc::clone(disk);
        // Whoever takes the pieces learns of its end by that of the channel.
        drop(beside(world, async move {
            let last = self.send_all(&*disk, salt, &sender).await;
            // Whoever took the pieces has gone only with the whole recovery.
            let _ = sender.send(last.map(Piece::Ends)).await;
        }));
        receiver
    }

    async fn send_all(
        &self,
        disk: &dyn Disk,
        salt: u64,
        sender: &mpsc::Sender<Result<Piece, RecoveryError>>,
    ) -> Result<Doubt, RecoveryError> {
        let mut doubt = Doubt {
            known: self.known,
            ..Doubt::default()
        };
        for &Simple { start, end, life } in &self.segments {
            let name = segment::name(start);
            let failed = |error: io::Error| named(&name, &error);
            let file = disk.open(&name).await.map_err(failed)?;
            doubt.life = life;
            let usual = ((end - start) / PIECES).clamp(Header::SIZE as u64, PIECE_BYTES);
            let mut wanted = usual;
            doubt.at = start;
            while doubt.at < end {
                let place = HEADER_BYTES as u64 + doubt.at - start;
                let length = wanted.min(end - doubt.at);
                let length = usize::try_from(length).unwrap_or(usize::MAX);
                let bytes = file.read(place, length).await.map_err(failed)?;
                let taken = take(&bytes, doubt.at, end, salt);
                let at = doubt.at;
                doubt.at = taken.end;
                wanted = usual.max(taken.wanted);
                let synced = taken.items.iter().map(|record| record.header.synced);
                doubt.known = synced.fold(doubt.known, u64::max);
                let is_short = bytes.len() < length;
                if !taken.items.is_empty() {
                    let judged = Judged {
                        name: name.clone(),
                        start,
                        items: taken.items.into_iter().map(Item::Record).collect(),
                        known: doubt.known,
                    };
                    let piece = Piece::Records(judged, doubt.at - at);
                    if sender.send(Ok(piece)).await.is_err() {
                        return Ok(doubt);
                    }
                }
                if taken.damaged || is_short && doubt.at < end {
                    return Ok(doubt);
                }
            }
            doubt.segments += 1;
        }
        Ok(doubt)
    }
}

fn named(name: &str, error: &io::Error) -> RecoveryError {
    io::Error::new(error.kind(), format!("'{name}': {error}")).into()
}

/// What a piece has.
struct Taken {
    items: Vec<Located>,
    /// Where the last of them ends.
    end: u64,
    /// Bytes that the next record takes.
    wanted: u64,
    /// What follows there is no whole record.
    damaged: bool,
}

/// Takes a piece of the stream apart that begins at `start`, in a segment that ends at `end`.
fn take(piece: &Bytes, start: u64, end: u64, salt: u64) -> Taken {
    let mut taken = Taken {
        items: Vec::new(),
        end: start,
        wanted: Header::SIZE as u64,
        damaged: false,
    };
    let mut at = 0;
    while taken.end < end {
        let rest = &piece[at..];
        let left = end - taken.end;
        if rest.len() < Header::SIZE && left >= Header::SIZE as u64 {
            return taken;
        }
        let record = Header::decode(rest, salt, taken.end);
        let Some(record) = record.filter(|record| record.record_bytes() <= left) else {
            taken.damaged = true;
            return taken;
        };
        taken.wanted = record.record_bytes();
        let next = at + record.record_bytes() as usize;
        if next > piece.len() {
            return taken;
        }
        let begin = at + Header::SIZE;
        let payload = piece.slice(begin..begin + record.length as usize);
        if checksum([&payload[..]]) != record.payload_checksum {
            taken.damaged = true;
            return taken;
        }
        taken.items.push(Located {
            header: record,
            payload,
        });
        taken.end += record.record_bytes();
        taken.wanted = Header::SIZE as u64;
        at = next;
    }
    taken
}

#[cfg(test)]
mod tests;
