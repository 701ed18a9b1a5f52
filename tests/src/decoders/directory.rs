//! A whole data directory, made of parts that are valid by themselves and need not fit each other: the log is read as one
//! stream, judged and replayed.

use std::sync::Arc;

use bytes::Bytes;
use glint_protocol::{
    Boot, Element, Epoch, LaneId, Number, Position, Rule, control::RecoveryProgress, frame::write,
};
use glint_server::log::{
    record::{ALL_PARTITIONS, Header, Kind, encode_lanes},
    recovery::{Recovered, recover},
    segment::{self, SegmentHeader},
    snapshot::{self, About},
};
use glint_world::{Disk, MemoryDisk, World};
use tokio::sync::watch;

use super::{
    Source,
    files::{MODEL, blocks, encode_record, manifest, spec},
    run,
};

fn one_record(source: &mut Source<'_>, offset: u64) -> Vec<u8> {
    let lane = LaneId {
        birth: source.byte().into(),
        random: 1,
    };
    let (kind, payload) = match source.byte() % 8 {
        0 | 1 => (Kind::Make, serde_json::to_vec(&spec()).expect("JSON")),
        2 => (Kind::Drop, Vec::new()),
        3 => (Kind::Skip, Vec::new()),
        4 => (Kind::Evict, encode_lanes(&[lane])),
        5 => {
            let length = usize::from(source.byte());
            (Kind::Update, source.bytes(length).to_vec())
        }
        _ => {
            let mut payload = Vec::new();
            write::range(
                &mut payload,
                Some(Rule::Add),
                8,
                u64::from(source.byte()) % 7,
                1,
            );
            i64::append(&[1], &mut payload);
            (Kind::Update, payload)
        }
    };
    let partition = match kind {
        Kind::Drop => ALL_PARTITIONS,
        _ => u32::from(source.byte()) % 3,
    };
    let record = Header {
        epoch: Epoch(u64::from(source.byte()) % 3),
        position: Position(u64::from(source.byte()) % 8),
        previous: Epoch(u64::from(source.byte()) % 3),
        lane,
        number: Number(u64::from(source.byte())),
        sections: u16::from(source.byte()) % 3,
        offset,
        synced: source.short(),
        ..Header::new(kind, MODEL, partition, Boot(1), &payload)
    };
    encode_record(&record, &payload)
}

fn one_segment(source: &mut Source<'_>, start: u64) -> Vec<u8> {
    let header = SegmentHeader {
        volume: manifest().volume,
        start,
        synced: source.short(),
        life: u64::from(source.byte()) % 4,
        boot: Boot(1),
        follows: match source.byte() {
            0..200 => start,
            _ => source.short(),
        },
    };
    let mut file = header.encode().to_vec();
    for _ in 0..source.byte() % 8 {
        let offset = start + (file.len() - segment::HEADER_BYTES) as u64;
        let record = one_record(source, offset);
        file.extend(record);
    }
    match source.byte() {
        0..150 => {}
        150..200 => file.truncate(source.short() as usize % (file.len() + 1)),
        _ => {
            for _ in 0..4 {
                let at = source.short() as usize % file.len();
                file[at] ^= source.byte();
            }
        }
    }
    file
}

fn one_snapshot(source: &mut Source<'_>) -> (String, Vec<u8>) {
    let partition = u32::from(source.byte()) % 3;
    let about = About {
        version: snapshot::VERSION,
        incarnation: MODEL,
        partition,
        position: Position(u64::from(source.byte()) % 8),
        epoch: Epoch(u64::from(source.byte()) % 3),
        offset: source.short(),
        spec: spec(),
    };
    // A ledger without entries, and all values.
    let mut rest = vec![8];
    rest.extend([source.byte(); 8]);
    rest.push(40);
    rest.extend([source.byte(); 40]);
    let named = snapshot::name(MODEL, partition);
    (named, blocks(Some(&about), &rest))
}

/// Reads a directory, and checks what comes of it.
pub fn directory(data: &[u8]) {
    let Some(recovered) = read(data) else {
        return;
    };
    for (incarnation, model) in &recovered.models {
        for (&index, there) in &model.partitions {
            assert!(!recovered.lost.contains_key(&(*incarnation, index)));
            assert_eq!(there.partition.values().len(), 5);
            assert!(there.partition.loss().is_none());
        }
    }
}

fn read(data: &[u8]) -> Option<Recovered> {
    let mut source = Source(data);
    let mut manifest = manifest();
    manifest.end = match source.byte() {
        0..200 => 0,
        _ => source.short(),
    };
    let mut files = Vec::new();
    for _ in 0..source.byte() % 3 {
        files.push(one_snapshot(&mut source));
    }
    let mut start = 0;
    for _ in 0..source.byte() % 6 {
        let file = one_segment(&mut source, start);
        let length = file.len().saturating_sub(segment::HEADER_BYTES) as u64;
        files.push((segment::name(start), file));
        start += match source.byte() {
            0..200 => length.next_multiple_of(8),
            _ => source.short() * 8,
        };
        if source.is_empty() {
            break;
        }
    }
    run(async {
        let disk = MemoryDisk::default();
        for (name, content) in files {
            let file = disk.create(&name).await.expect("a disk in memory");
            let content = vec![Bytes::from(content)];
            file.append(content).await.expect("a disk in memory");
        }
        let disk: Arc<dyn Disk> = Arc::new(disk);
        let (progress, _) = watch::channel(RecoveryProgress::default());
        let world = World::real();
        let read = recover(&world, &disk, &manifest, &progress).await;
        read.ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_that_fit_each_other_are_replayed() {
        // No end, no snapshot, one segment that knows nothing to be synced, with two records.
        let head = [0, 0, 1, 0, 0, 3, 0, 2];
        let make = [0, 0, 1, 0, 0, 0, 0, 0, 0, 0];
        let skip = [9, 3, 1, 0, 1, 0, 7, 0, 0, 0];
        let mut data = head.to_vec();
        data.extend(make);
        data.extend(skip);
        let there = read(&data).expect("a directory that can be read");
        let partition = &there.models[&MODEL].partitions[&1].partition;
        assert_eq!(partition.position(), Position(1));
        assert_eq!(partition.ledger().len(), 1);
    }
}
