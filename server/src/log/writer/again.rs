//! Reading records again that were appended: what a follower lacks, and memory has no more.

use std::{io, sync::Arc};

use bytes::Bytes;
use glint_world::DiskFile;

use super::{Log, lock};
use crate::log::{checksum, record::Header, segment};

/// Where a record lies in the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) offset: u64,
    /// Its header and its payload, and what fills it up.
    pub(crate) bytes: u64,
}

impl Place {
    /// Where it ends.
    pub(crate) fn end(&self) -> u64 {
        self.offset + self.bytes
    }
}

/// Bytes between two records that are read for nothing, rather than reading twice.
const GAP: u64 = 16 << 10;
/// Bytes that are read at once, and one record more at most.
const AT_ONCE: u64 = 1 << 20;
/// Payloads up to this many bytes are copied out of what was read, rather than keeping all of it.
const SMALL: usize = 16 << 10;

impl Log {
    /// Where the stream begins: what lies before was removed.
    pub(crate) fn begin(&self) -> u64 {
        self.shared.begin.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// Up to where the stream was appended.
    pub(crate) fn appended(&self) -> u64 {
        lock(&self.shared.stream).end
    }

    /// Reads the records at these places, which ascend; fewer when one is not there any more.
    ///
    /// # Errors
    /// Those of the disk.
    pub(crate) async fn read(&self, places: &[Place]) -> io::Result<Vec<(Header, Bytes)>> {
        let mut records = Vec::with_capacity(places.len());
        let mut rest = places;
        let mut open: Option<(u64, Arc<dyn DiskFile>)> = None;
        while let Some(first) = rest.first() {
            let Some((start, end)) = self.segment_of(first.offset) else {
                return Ok(records);
            };
            let file = match open.take().filter(|(of, _)| *of == start) {
                Some((_, file)) => file,
                None => match self.shared.disk.open(&segment::name(start)).await {
                    Ok(file) => file,
                    // It was let go just now.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(records),
                    Err(error) => return Err(error),
                },
            };
            let (run, after) = rest.split_at(at_once(rest, end));
            let length = run.last().map_or(0, Place::end) - first.offset;
            let at = segment::HEADER_BYTES as u64 + (first.offset - start);
            let bytes = file.read(at, length as usize).await?;
            for place in run {
                let Some(record) = self.record(&bytes, first.offset, *place) else {
                    return Ok(records);
                };
                records.push(record);
            }
            open = Some((start, file));
            rest = after;
        }
        Ok(records)
    }

    /// Where the segment begins and ends that has this place.
    fn segment_of(&self, offset: u64) -> Option<(u64, u64)> {
        let stream = lock(&self.shared.stream);
        let next = stream.segments.partition_point(|&start| start <= offset);
        let start = *stream.segments.get(next.checked_sub(1)?)?;
        let end = stream.segments.get(next).copied().unwrap_or(u64::MAX);
        Some((start, end))
    }

    /// A record out of what was read from an offset on. Files are used again: it must be what was written at its place.
    fn record(&self, read: &Bytes, from: u64, place: Place) -> Option<(Header, Bytes)> {
        let bytes = read.get((place.offset - from) as usize..)?;
        let header = Header::decode(bytes, self.shared.salt, place.offset)?;
        let payload = bytes.get(Header::SIZE..Header::SIZE + header.length as usize)?;
        if header.record_bytes() != place.bytes || checksum([payload]) != header.payload_checksum {
            return None;
        }
        let payload = if payload.len() <= SMALL {
            Bytes::copy_from_slice(payload)
        } else {
            read.slice_ref(payload)
        };
        Some((header, payload))
    }
}

/// How many of these places are read at once: those that lie in this segment, near to each other.
fn at_once(places: &[Place], segment_end: u64) -> usize {
    let first = places.first().map_or(0, |place| place.offset);
    let near = |pair: &[Place]| {
        let [before, place] = [pair[0], pair[1]];
        place.offset < segment_end
            && place.offset.saturating_sub(before.end()) <= GAP
            && place.end() - first <= AT_ONCE
    };
    1 + places.windows(2).take_while(|pair| near(pair)).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_near_to_each_other_are_read_at_once_up_to_the_end_of_their_segment() {
        let place = |offset, bytes| Place { offset, bytes };
        let places = [place(0, 100), place(100, 100), place(200 + GAP, 100)];
        assert_eq!(at_once(&places, u64::MAX), 3);
        assert_eq!(at_once(&places, 100), 1);
        assert_eq!(at_once(&[place(0, 100), place(101 + GAP, 8)], u64::MAX), 1);
        assert_eq!(
            at_once(&[place(0, AT_ONCE), place(AT_ONCE, 8)], u64::MAX),
            1
        );
    }
}
