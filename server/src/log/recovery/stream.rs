//! The segments as one stream: what is in it, where it ends, and which damage is real.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Range,
};

use glint_world::Disk;

use super::{RecoveryError, plain::Doubt};
use crate::log::{
    segment::{self, Damage, Item},
    volume::Manifest,
};

/// A segment as it was read.
#[derive(Debug)]
pub(super) struct Read {
    /// Where it begins.
    start: u64,
    /// Where it ends; once the next is known, where that begins.
    end: u64,
    /// Where the one before ends.
    follows: u64,
    items: Vec<Item>,
    /// The highest place that it knows to be synced.
    known: u64,
    /// Which start of a process made it, unless its header is damaged.
    life: Option<u64>,
}

/// A segment, or its part that belongs to the stream. Damage in it is real.
#[derive(Debug)]
pub(super) struct Judged {
    /// The file's name.
    pub(super) name: String,
    /// Where the segment begins.
    pub(super) start: u64,
    /// Its content.
    pub(super) items: Vec<Item>,
    /// From here on nothing is known to be synced.
    pub(super) known: u64,
}

/// Reads a segment.
pub(super) async fn read(
    disk: &dyn Disk,
    start: u64,
    manifest: &Manifest,
) -> Result<Read, RecoveryError> {
    let name = segment::name(start);
    let file = super::read(disk, &name).await?;
    let parsed = match segment::parse(&file, start, manifest.salt) {
        Ok(parsed) => parsed,
        Err(version) => return Err(RecoveryError::Newer(name, version)),
    };
    match parsed.header {
        Some(header) if header.volume != manifest.volume || header.start != start => {
            let says = format!("volume {} from {:016x} on", header.volume, header.start);
            return Err(RecoveryError::Foreign { name, says });
        }
        Some(_) => {}
        None => tracing::warn!(
            file = name,
            "the head of a segment is not whole; its records are read without it"
        ),
    }
    let synced = parsed.items.iter().filter_map(|item| match item {
        Item::Record(record) => Some(record.header.synced),
        Item::Damage(_) => None,
    });
    let synced = synced.chain(parsed.header.map(|h| h.synced)).max();
    Ok(Read {
        start,
        end: parsed.end,
        follows: parsed.header.map_or(start, |h| h.follows.min(start)),
        known: synced.unwrap_or(0),
        life: parsed.header.map(|h| h.life),
        items: parsed.items,
    })
}

fn damage(range: Range<u64>) -> Option<Item> {
    (!range.is_empty()).then_some(Item::Damage(Damage { range, whose: None }))
}

/// Segments on their way. Where one begins, the one before ends; and when one was made, the last but one before it was
/// synced: so of three the first can be judged.
#[derive(Debug, Default)]
pub(super) struct Stream {
    held: VecDeque<Read>,
    known: u64,
    end: u64,
    /// What lies before was applied.
    applied: u64,
    /// Whether the end was found: nothing beyond it counts.
    ended: bool,
    /// The highest of any segment so far.
    life: u64,
    /// Where segments begin further on than what they follow ends, and where that is.
    gaps: BTreeMap<u64, u64>,
}

impl Stream {
    /// A stream of which everything before `known` was on the disk.
    #[cfg(test)]
    pub(super) fn new(known: u64) -> Self {
        Self {
            known,
            ..Self::default()
        }
    }

    /// What is left of a stream of which everything before `known` was on the disk, when what is plain was applied.
    pub(super) fn after(known: u64, plain: Doubt) -> Self {
        Self {
            known: known.max(plain.known),
            end: plain.at,
            applied: plain.at,
            life: plain.life,
            ..Self::default()
        }
    }

    /// Up to where everything was known to be synced.
    pub(super) fn known(&self) -> u64 {
        self.known
    }

    /// Where the stream ends, as far as it was judged.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// Where what comes before this place ends: the place itself, unless a segment begins there that was begun further on.
    pub(super) fn end_before(&self, place: u64) -> u64 {
        self.gaps.get(&place).copied().unwrap_or(place)
    }

    /// Takes the next segment; gives one that can be judged now.
    pub(super) fn push(&mut self, mut read: Read) -> Option<Judged> {
        let applied = self.applied;
        read.items.retain(|item| item.range().start >= applied);
        if read.life.is_some_and(|life| life < self.life) {
            // Left behind by a process that wrote it anew elsewhere and was ended before it could remove it.
            return None;
        }
        self.life = read.life.unwrap_or(self.life);
        if read.follows < read.start {
            self.gaps.insert(read.start, read.follows);
        }
        // That it was made says that what lies before the one before it was synced.
        let before = self.held.back().map_or(0, |before| before.start);
        self.known = self.known.max(read.known).max(before);
        if let Some(before) = self.held.back_mut() {
            before.items.extend(damage(before.end..read.follows));
        }
        for before in &mut self.held {
            before
                .items
                .retain(|item| item.range().start < read.follows);
            before.end = before.end.min(read.follows).max(before.start);
        }
        self.held.push_back(read);
        if self.held.len() < 3 {
            return None;
        }
        self.judge()
    }

    /// Judges the rest.
    pub(super) fn finish(&mut self) -> Vec<Judged> {
        if let Some(last) = self.held.back_mut() {
            // What was synced and is not there any more.
            last.items.extend(damage(last.end..self.known));
            last.end = last.end.max(self.known);
        }
        std::iter::from_fn(|| self.judge()).collect()
    }

    fn judge(&mut self) -> Option<Judged> {
        if self.ended {
            return None;
        }
        let mut read = self.held.pop_front()?;
        let known = self.known;
        let torn = read.items.iter().find_map(|item| match item {
            Item::Damage(damage) if damage.range.end > known => Some(damage.range.start.max(known)),
            _ => None,
        });
        if let Some(cut) = torn {
            let bytes = self.held.back().map_or(read.end, |last| last.end);
            let bytes = bytes.saturating_sub(cut);
            tracing::info!(
                file = segment::name(read.start),
                at = cut.saturating_sub(read.start) + segment::HEADER_BYTES as u64,
                bytes,
                "the log ends here: what the file has beyond is not whole, or of an earlier use of it, and no file says that any of it was synced"
            );
            read.items.retain(|item| item.range().start < cut);
            read.end = cut;
            self.ended = true;
        }
        self.end = read.end;
        Some(Judged {
            name: segment::name(read.start),
            start: read.start,
            items: read.items,
            known,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A segment of which nothing is known to be synced, with damage at its end.
    fn segment(start: u64, end: u64, damaged: bool) -> Read {
        let items = if damaged {
            damage(start..end).into_iter().collect()
        } else {
            Vec::new()
        };
        Read {
            start,
            end,
            follows: start,
            items,
            known: 0,
            life: None,
        }
    }

    #[test]
    fn damage_at_the_end_of_one_segment_or_two_is_where_the_stream_ends() {
        let mut stream = Stream::new(0);
        assert!(stream.push(segment(0, 100, true)).is_none());
        assert!(stream.push(segment(100, 200, true)).is_none());
        let judged = stream.finish();
        assert!(judged.iter().all(|judged| judged.items.is_empty()));
        assert_eq!((stream.known(), stream.end()), (0, 0));
    }

    #[test]
    fn that_a_third_segment_was_made_says_that_the_first_was_synced() {
        let mut stream = Stream::new(0);
        assert!(stream.push(segment(0, 100, true)).is_none());
        assert!(stream.push(segment(100, 200, true)).is_none());
        let first = stream.push(segment(200, 200, false)).unwrap();
        assert_eq!(first.items.len(), 1, "its damage is real");
        let rest = stream.finish();
        assert!(rest.iter().all(|judged| judged.items.is_empty()));
        assert_eq!((stream.known(), stream.end()), (100, 100));
    }

    #[test]
    fn what_an_orderly_stop_noted_to_be_there_is_missed() {
        let mut stream = Stream::new(150);
        assert!(stream.push(segment(0, 100, false)).is_none());
        let judged = stream.finish();
        assert_eq!(judged[0].items[0].range(), 100..150);
    }
}
