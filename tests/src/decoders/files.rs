//! Files: each as it lies on a disk, and with its checksums put right, so that what they protect is reached.

use bytes::Bytes;
use glint_protocol::{
    Boot, ElementType, Epoch, Incarnation, ModelDraft, ModelId, ModelSpec, Partitions, Position,
    Shape, VolumeId,
};
use glint_server::{
    log::{
        checksum,
        record::{Header, Kind, decode_lanes},
        segment::{self, HEADER_BYTES, Item, SegmentHeader},
        snapshot::{self, About},
        volume::{self, Manifest},
    },
    master,
    partition::{Description, Ledger, Partition, cut::Cut},
};
use glint_world::{MemoryDisk, disk::load};

use super::{run, variants};

/// The model of all files.
pub(super) const MODEL: Incarnation = Incarnation {
    model: ModelId(7),
    generation: 1,
};
/// What the records of all files are salted with.
pub(super) const SALT: u64 = 5;

/// A vector of ten `i64` in two partitions.
pub(super) fn spec() -> ModelSpec {
    let draft = ModelDraft {
        partitions: Partitions::Exactly(2),
        ..ModelDraft::new("w", Shape::Vector { keys: 10 }, ElementType::I64)
    };
    draft.resolve(1).expect("a valid draft")
}

pub(super) fn manifest() -> Manifest {
    Manifest {
        format: volume::FORMAT,
        volume: VolumeId(1),
        cluster: None,
        start: 3,
        clean: false,
        end: 0,
        salt: SALT,
        starts: Vec::new(),
    }
}

/// The bytes of one record at this place.
pub(super) fn encode_record(header: &Header, payload: &[u8]) -> Vec<u8> {
    let mut out = header.encode(SALT).to_vec();
    out.extend_from_slice(payload);
    out.resize(header.record_bytes() as usize, 0);
    out
}

fn make() -> Vec<u8> {
    let payload = serde_json::to_vec(&spec()).expect("JSON");
    let header = Header::new(Kind::Make, MODEL, 0, Boot(1), &payload);
    encode_record(&header, &payload)
}

/// A record's header, and the lanes of an evict.
pub fn record(data: &[u8]) {
    for bytes in variants(data, &[make()]) {
        let _ = decode_lanes(&bytes);
        let offset = bytes.get(16..24).map_or(0, |b| {
            u64::from_le_bytes(b.try_into().expect("eight bytes"))
        });
        if let Some(header) = Header::decode(&bytes, SALT, offset) {
            assert_eq!(header.encode(SALT)[..], bytes[..Header::SIZE]);
            assert!(header.record_bytes() >= 128);
        }
    }
}

/// A segment: whatever is in it is a row of records and damage without gaps.
pub fn segment(data: &[u8]) {
    let header = SegmentHeader {
        volume: VolumeId(1),
        start: 0,
        synced: 0,
        life: 1,
        boot: Boot(1),
        follows: 0,
    };
    let mut file = header.encode().to_vec();
    file.extend(make());
    let payload = [0; 16];
    let mut evict = Header::new(Kind::Evict, MODEL, 0, Boot(1), &payload);
    evict.offset = (file.len() - HEADER_BYTES) as u64;
    file.extend(encode_record(&evict, &payload));
    for bytes in variants(data, &[file]) {
        let _ = SegmentHeader::decode(&bytes);
        let file = Bytes::from(bytes);
        for start in [0, u64::MAX / 2] {
            let Ok(parsed) = segment::parse(&file, start, SALT) else {
                continue;
            };
            let mut at = start;
            for item in &parsed.items {
                let range = item.range();
                assert_eq!(range.start, at);
                assert!(range.end > at);
                at = range.end;
                if let Item::Record(record) = item {
                    assert_eq!(record.payload.len(), record.header.length as usize);
                }
            }
            assert_eq!(at, parsed.end);
        }
        if let Ok(name) = std::str::from_utf8(&file) {
            if let Some(start) = segment::start_of(name) {
                assert_eq!(segment::name(start), name);
            }
            let _ = snapshot::Named::parse(name);
        }
    }
}

fn about() -> About {
    About {
        version: snapshot::VERSION,
        incarnation: MODEL,
        partition: 1,
        position: Position(4),
        epoch: Epoch(2),
        offset: 64,
        spec: spec(),
    }
}

fn valid_snapshot() -> Vec<u8> {
    let (disk, about) = (MemoryDisk::default(), about());
    let description = Description::new(&about.spec, MODEL, 1);
    let made = Partition::new(&description, &about.spec, Epoch(2)).expect("memory");
    let cut = Cut {
        position: about.position,
        epoch: about.epoch,
        ledger: Ledger::default(),
    };
    run(async {
        let mut writer = snapshot::Writer::begin(&disk, &about, &cut).await?;
        let values = made.values();
        writer.piece(values.to_le(0..values.len()).into()).await?;
        writer.finish().await?;
        snapshot::replace(&disk, MODEL, 1).await?;
        let file = load(&disk, &snapshot::name(MODEL, 1)).await?;
        std::io::Result::Ok(file.expect("a file").to_vec())
    })
    .expect("a disk in memory")
}

/// A file of blocks with the right checksums, of pieces of the bytes.
pub(super) fn blocks(about: Option<&About>, rest: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut blocks = snapshot::Blocks::new(snapshot::VERSION);
    let mut block = |content: &[u8]| {
        for part in blocks.put(Bytes::copy_from_slice(content)) {
            out.extend(part);
        }
    };
    if let Some(about) = about {
        block(&serde_json::to_vec(about).expect("JSON"));
    }
    let mut rest = rest;
    while let Some((&length, after)) = rest.split_first() {
        let (content, after) = after.split_at(usize::from(length).min(after.len()));
        block(content);
        rest = after;
    }
    block(&[]);
    out
}

/// A snapshot.
pub fn snapshot(data: &[u8]) {
    let mut all = variants(data, &[valid_snapshot()]);
    all.push(blocks(None, data));
    all.push(blocks(Some(&about()), data));
    for bytes in all {
        if let Ok((about, partition)) = snapshot::decode(&Bytes::from(bytes)) {
            let description = Description::new(&about.spec, about.incarnation, about.partition);
            assert_eq!(partition.values().len() as u64, description.value_count());
            assert_eq!(partition.position(), about.position);
        }
    }
}

/// The file that says whose a data directory is.
pub fn volume(data: &[u8]) {
    let valid = manifest().encode().expect("JSON");
    for bytes in variants(data, &[valid]) {
        if let Ok(manifest) = Manifest::decode(&bytes) {
            let again = manifest.encode().expect("JSON");
            assert!(Manifest::decode(&again).is_ok_and(|same| same == manifest));
        }
    }
}

const MASTER: &str = r#"{"cluster":"000000000000000c","term":3,"epoch":9,"revision":4,"servers":[{"id":"s1","url":"http://s1:1","boot":"0000000000000001","capacity_bytes":1000,"volume":{"id":"0000000000000006","start":4,"clean":true}}],"models":[{"spec":{"name":"w","shape":{"vector":{"keys":4}},"element":"i64","partitions":{"exactly":2},"partition_count":2},"incarnation":{"model":"0000000000000007","generation":1},"live":true,"revision":4,"servers":["s1"],"holders":[0,0],"epochs":[[9,2]],"losses":{"emptied":[1]},"copies":[{"partition":1,"revision":3}]}],"tombstones":[{"incarnation":{"model":"0000000000000009","generation":2},"reason":"deleted","awaited":["s1"]}],"dead":{"s9":"http://s9:1"}}"#;

/// The master's state.
pub fn master(data: &[u8]) {
    let mut all = variants(data, &[MASTER.into()]);
    for format in [1, 2, 3] {
        for at in 0..2 {
            let sum = checksum([&all[at.min(all.len() - 1)][..]]);
            let sum = if format < 3 { sum } else { sum ^ format };
            let mut file = format!("glint-master {format} {sum:08x}\n").into_bytes();
            file.extend_from_slice(&all[at.min(all.len() - 1)]);
            all.push(file);
        }
    }
    for bytes in all {
        let _ = master::check_file(&bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_targets_start_from_is_valid() {
        snapshot::decode(&valid_snapshot().into()).unwrap();
        let by_hand = {
            let mut rest = vec![8];
            rest.extend([0; 8]);
            rest.push(40);
            rest.extend([1; 40]);
            blocks(Some(&about()), &rest)
        };
        snapshot::decode(&by_hand.into()).unwrap();
        assert!(Header::decode(&make(), SALT, 0).is_some());
        let sum = checksum([MASTER.as_bytes()]);
        let file = format!("glint-master 1 {sum:08x}\n{MASTER}");
        master::check_file(file.as_bytes()).unwrap();
    }
}
