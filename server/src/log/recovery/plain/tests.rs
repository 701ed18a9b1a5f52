use glint_protocol::{Boot, Incarnation, ModelId, VolumeId};
use glint_world::MemoryDisk;

use super::*;
use crate::log::record::Kind;

const SALT: u64 = 7;
const VOLUME: VolumeId = VolumeId(3);
/// Payloads of the records of each segment.
const PAYLOADS: [usize; 5] = [1000, 40, 0, 3000, 200];

fn manifest() -> Manifest {
    Manifest {
        format: 1,
        volume: VOLUME,
        cluster: None,
        start: 1,
        clean: false,
        end: 0,
        salt: SALT,
        starts: Vec::new(),
    }
}

fn record(offset: u64, payload: &[u8]) -> Vec<u8> {
    let incarnation = Incarnation {
        model: ModelId(1),
        generation: 0,
    };
    let header = Header {
        offset,
        ..Header::new(Kind::Update, incarnation, 0, Boot(1), payload)
    };
    let mut out = header.encode(SALT).to_vec();
    out.extend(payload);
    out.resize(header.record_bytes() as usize, 0);
    out
}

/// A segment of records, and where it ends.
fn segment_from(start: u64, change: impl FnOnce(&mut SegmentHeader)) -> (Vec<u8>, u64) {
    let mut header = SegmentHeader {
        volume: VOLUME,
        start,
        synced: 0,
        life: 1,
        boot: Boot(1),
        follows: start,
    };
    change(&mut header);
    let mut file = header.encode().to_vec();
    let mut at = start;
    for length in PAYLOADS {
        let record = record(at, &vec![length as u8; length]);
        at += record.len() as u64;
        file.extend(record);
    }
    (file, at)
}

/// A log of files as given, behind each of which is what an earlier use of it has left.
async fn log(files: &[(u64, Vec<u8>)], junk: usize) -> (Arc<dyn Disk>, Vec<(u64, u64)>) {
    let disk = MemoryDisk::default();
    let mut segments = Vec::new();
    for (start, content) in files {
        let file = disk.create(&segment::name(*start)).await.unwrap();
        let parts = vec![content.clone().into(), vec![9; junk].into()];
        file.append(parts).await.unwrap();
        segments.push((*start, (content.len() + junk) as u64));
    }
    (Arc::new(disk), segments)
}

/// Reads what is plain: where each record begins, and where that ends.
async fn read(files: &[(u64, Vec<u8>)], junk: usize) -> (Vec<u64>, Doubt) {
    let (disk, segments) = log(files, junk).await;
    let plain = Plain::find(&*disk, &segments, &manifest()).await.unwrap();
    let mut pieces = plain.read(&World::real(), &disk, SALT);
    let mut found = Vec::new();
    loop {
        match pieces.recv().await.unwrap().unwrap() {
            Piece::Records(judged, bytes) => {
                let ranges: Vec<_> = judged.items.iter().map(Item::range).collect();
                assert_eq!(ranges.iter().map(|r| r.end - r.start).sum::<u64>(), bytes);
                found.extend(ranges.iter().map(|range| range.start));
            }
            Piece::Ends(doubt) => return (found, doubt),
        }
    }
}

fn three(change: impl Fn(usize, &mut SegmentHeader)) -> Vec<(u64, Vec<u8>)> {
    let mut start = 0;
    let mut files = Vec::new();
    for index in 0..3 {
        let (file, end) = segment_from(start, |header| change(index, header));
        files.push((start, file));
        start = end;
    }
    files
}

#[tokio::test]
async fn all_of_a_whole_log_is_plain_and_its_pieces_have_every_record_once() {
    let files = three(|_, _| {});
    let (found, doubt) = read(&files, 0).await;
    assert_eq!(found.len(), 3 * PAYLOADS.len());
    assert!(found.is_sorted());
    let end = files[2].0 + (files[2].1.len() - HEADER_BYTES) as u64;
    assert_eq!((doubt.segments, doubt.at), (3, end));
    assert_eq!(doubt.known, files[1].0, "the third was made");
}

#[tokio::test]
async fn what_an_earlier_use_of_a_file_has_left_is_not_read_but_behind_the_last() {
    let files = three(|_, _| {});
    let (found, doubt) = read(&files, 5000).await;
    assert_eq!(found.len(), 3 * PAYLOADS.len());
    assert_eq!(doubt.segments, 2, "where the last ends is to be judged");
}

#[tokio::test]
async fn what_is_plain_ends_where_a_byte_is_another() {
    let whole = three(|_, _| {});
    let (all, _) = read(&whole, 0).await;
    let (start, length) = (whole[1].0, whole[1].1.len());
    for at in (HEADER_BYTES..length).step_by(37) {
        let mut files = whole.clone();
        files[1].1[at] ^= 1;
        let (found, doubt) = read(&files, 0).await;
        let place = start + (at - HEADER_BYTES) as u64;
        let before = all.iter().filter(|&&begin| begin <= place).count() - 1;
        assert_eq!(found, all[..before], "byte {at}");
        assert_eq!((doubt.segments, doubt.at), (1, all[before]), "byte {at}");
    }
}

#[tokio::test]
async fn a_segment_is_plain_only_if_its_head_and_the_next_two_say_so() {
    let changes: [fn(&mut SegmentHeader); 4] = [
        |header| header.volume = VolumeId(4),
        |header| header.start += 8,
        |header| header.follows = header.start.wrapping_sub(8),
        |header| header.life = 0,
    ];
    for (which, change) in changes.into_iter().enumerate() {
        for index in 0..3 {
            let files = three(|at, header| {
                if at == index {
                    change(header);
                }
            });
            let (_, doubt) = read(&files, 0).await;
            let is_first_of_a_life = which == 3 && index == 0;
            let expected = if is_first_of_a_life { 3 } else { 0 };
            assert_eq!(doubt.segments, expected, "change {which} of {index}");
        }
    }
}
