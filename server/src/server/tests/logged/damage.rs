//! A log cut at every byte, and a bit flipped at every byte of everything on the disk: never a wrong value, never a loss
//! that is not told, of what was known to be on the disk.

use glint_protocol::VolumeId;
use glint_world::disk::{FaultyDisk, Operation};

use super::*;
use crate::log::{
    record::Header,
    segment::{HEADER_BYTES, Item, SegmentHeader},
};

/// What was on a disk, and what the partitions were after each of their records.
struct Story {
    files: Files,
    shapes: [Vec<Image>; 2],
}

impl Story {
    /// Both partitions, some pushes known to be on the disk and some that are not.
    async fn tell(options: LogOptions, snapshot_after: Option<u64>) -> Self {
        let disk = disk_with(&Files::new()).await;
        let opened = open_with(&disk, options).await.unwrap();
        opened.hold(&sync_vector(), true).await;
        let mut shapes = [0, 1].map(|p| vec![opened.shape(p)]);
        for number in 1..=6 {
            let both = [add(0, 1, &[1, 10]), add(1, number % 5, &[100])];
            let groups = if number % 3 == 0 {
                &both[..1]
            } else {
                &both[..]
            };
            for status in opened.push(number, groups).await {
                assert_eq!(status, Status::Applied);
            }
            for group in groups {
                let partition = group.header.partition;
                shapes[partition as usize].push(opened.shape(partition));
            }
            if snapshot_after == Some(number) {
                opened.snapshot(1).await;
            }
        }
        let files = files(&disk).await;
        opened.kill().await;
        Self { files, shapes }
    }

    fn segments(&self) -> Vec<(&String, &Vec<u8>)> {
        let log = |name: &&String| segment::start_of(name).is_some();
        self.files.iter().filter(|(name, _)| log(name)).collect()
    }

    fn salt(&self) -> u64 {
        let manifest = crate::log::volume::Manifest::decode(&self.files["volume.json"]);
        manifest.unwrap().salt
    }

    /// Every record in the log: where it lies, whose it is, which position it makes, and what it knows to be synced.
    fn records(&self) -> Vec<(std::ops::Range<u64>, u32, u64, u64)> {
        let mut records = Vec::new();
        for (name, content) in self.segments() {
            let start = segment::start_of(name).unwrap();
            let file = Bytes::copy_from_slice(content);
            for item in segment::parse(&file, start, self.salt()).unwrap().items {
                let range = item.range();
                let Item::Record(record) = item else {
                    panic!("{item:?}")
                };
                let header = record.header;
                records.push((range, header.partition, header.position.0, header.synced));
            }
        }
        records
    }

    /// Up to which position each partition is known to be on the disk by the records that are not at `harmed`.
    fn known(&self, harmed: &std::ops::Range<u64>) -> [u64; 2] {
        let whole =
            |range: &std::ops::Range<u64>| range.end <= harmed.start || harmed.end <= range.start;
        let records = self.records();
        let marks = records.iter().filter(|r| whole(&r.0)).map(|r| r.3);
        let known = marks.max().unwrap_or(0);
        [0, 1].map(|partition| {
            let synced = records
                .iter()
                .filter(|r| r.1 == partition && r.0.end <= known);
            synced.map(|r| r.2).max().unwrap_or(0)
        })
    }

    /// Opens the disk with one file changed; what is found, or why it cannot be opened at all.
    async fn with(&self, name: &str, content: Vec<u8>) -> Result<[Found; 2], ServerError> {
        let mut files = self.files.clone();
        files.insert(name.into(), content);
        let disk = disk_with(&files).await;
        let opened = open(&disk).await?;
        let found = [opened.found(0), opened.found(1)];
        opened.kill().await;
        // And what was found is found again.
        let opened = open(&disk).await?;
        assert_eq!([opened.found(0), opened.found(1)], found, "{name}");
        opened.kill().await;
        Ok(found)
    }

    /// That a partition is as it was at some time, not before what was known to be on the disk.
    fn check(&self, partition: usize, shape: &Image, known: u64, what: &str) {
        let position = shape.position.0;
        assert!(position >= known, "{what}: {position} < {known}");
        assert_eq!(*shape, self.shapes[partition][position as usize], "{what}");
    }
}

#[tokio::test]
async fn a_log_that_ends_at_any_byte_has_exactly_the_records_that_are_whole() {
    let story = Story::tell(LogOptions::default(), None).await;
    let (name, content) = story.segments()[0];
    let records = story.records();
    assert_eq!(records.len(), 2 + 6 + 4);
    // Behind both makes: what was confirmed to be made is known to be synced by the first push.
    let from = records[4].0.start as usize + HEADER_BYTES;
    for end in from..=content.len() {
        let found = story.with(name, content[..end].to_vec()).await.unwrap();
        for (partition, found) in found.into_iter().enumerate() {
            let there = |r: &&(std::ops::Range<u64>, u32, u64, u64)| {
                r.1 as usize == partition && r.0.end as usize + HEADER_BYTES <= end
            };
            let position = records.iter().filter(there).map(|r| r.2).max().unwrap();
            let Found::Whole(shape) = found else {
                panic!("cut at {end}: {found:?}")
            };
            assert_eq!(shape, story.shapes[partition][position as usize], "{end}");
        }
    }
}

#[tokio::test]
async fn what_is_missing_at_the_end_after_an_orderly_stop_is_lost_with_file_and_place() {
    let disk = disk_with(&Files::new()).await;
    let opened = open(&disk).await.unwrap();
    opened.hold(&sync_vector(), true).await;
    opened.push(1, &[add(0, 0, &[1])]).await;
    opened.push(2, &[add(0, 0, &[1])]).await;
    let before = opened.shape(0);
    opened.server.flush().await.unwrap();
    let whole = files(&disk).await;
    let log = whole.keys().find(|n| segment::start_of(n).is_some());
    let log = log.unwrap().clone();
    for missing in [1, 8, 200] {
        let mut harmed = whole.clone();
        let content = harmed.get_mut(&log).unwrap();
        content.truncate(content.len() - missing);
        let opened = open(&disk_with(&harmed).await).await.unwrap();
        let Found::Lost(why) = opened.found(0) else {
            panic!("{:?}", opened.found(0))
        };
        assert!(why.contains(&log) && why.contains("at byte"), "{why}");
        opened.kill().await;
    }
    let opened = open(&disk_with(&whole).await).await.unwrap();
    assert_eq!(opened.shape(0), before);
    opened.kill().await;
}

/// Flips one bit of every byte of every file.
async fn flip_everything(story: &Story) {
    for (name, content) in &story.files {
        let start = segment::start_of(name);
        for at in 0..content.len() {
            let mut flipped = content.clone();
            flipped[at] ^= 1 << (at % 8);
            let what = format!("{name}, byte {at}");
            let found = match story.with(name, flipped).await {
                Ok(found) => found,
                Err(error) => {
                    assert_eq!(name, "volume.json", "{what}: {error}");
                    continue;
                }
            };
            let harmed = match start {
                Some(start) if at >= HEADER_BYTES => {
                    let at = start + (at - HEADER_BYTES) as u64;
                    at..at + 1
                }
                _ => 0..0,
            };
            let known = story.known(&harmed);
            let mine = story
                .records()
                .into_iter()
                .find(|r| r.0.contains(&harmed.start));
            for (partition, found) in found.into_iter().enumerate() {
                match found {
                    Found::Whole(shape) => {
                        story.check(partition, &shape, known[partition], &what);
                    }
                    Found::Lost(why) => {
                        let here = why.contains(name.as_str()) && why.contains("byte");
                        let unheard = why.contains("without them");
                        assert!(here || unheard, "{what}: {why}");
                        // A record whose header is whole says whose it is; nobody else suffers.
                        if let Some((range, whose, ..)) = &mine
                            && harmed.start >= range.start + 128
                        {
                            assert_eq!(*whose as usize, partition, "{what}: {why}");
                        }
                        assert!(!harmed.is_empty() || start.is_none(), "{what}: {why}");
                    }
                }
            }
        }
    }
}

#[tokio::test]
async fn a_bit_flipped_anywhere_shows_no_wrong_value_and_loses_nothing_silently() {
    flip_everything(&Story::tell(LogOptions::default(), None).await).await;
}

#[tokio::test]
async fn nor_does_one_where_there_are_segments_and_a_snapshot() {
    let story = Story::tell(SMALL, Some(3)).await;
    assert!(story.segments().len() >= 2);
    assert_eq!(story.files.len(), story.segments().len() + 2);
    flip_everything(&story).await;
}

#[tokio::test]
async fn the_whole_head_of_a_segment_may_be_unreadable_and_its_records_are_not() {
    let story = Story::tell(SMALL, None).await;
    for (name, content) in story.segments() {
        let mut harmed = content.clone();
        harmed[..HEADER_BYTES].fill(0);
        let found = story.with(name, harmed).await.unwrap();
        for (partition, found) in found.into_iter().enumerate() {
            let last = story.shapes[partition].last().unwrap().clone();
            assert_eq!(found, Found::Whole(last), "{name}");
        }
    }
}

#[tokio::test]
async fn a_segment_that_is_missing_or_of_another_directory_is_never_passed_over() {
    let story = Story::tell(SMALL, None).await;
    let segments = story.segments();
    assert!(segments.len() >= 3);
    let (name, content) = segments[1];
    let mut without = story.files.clone();
    without.remove(name);
    let opened = open(&disk_with(&without).await).await.unwrap();
    for partition in 0..2 {
        let Found::Lost(why) = opened.found(partition) else {
            panic!("{partition}")
        };
        assert!(why.contains(segments[0].0), "{why}");
    }
    opened.kill().await;

    let foreign = SegmentHeader {
        volume: VolumeId(1),
        ..SegmentHeader::decode(content).unwrap()
    };
    let mut harmed = content.clone();
    harmed[..HEADER_BYTES].copy_from_slice(&foreign.encode());
    let mut mixed = story.files.clone();
    mixed.insert(name.clone(), harmed);
    let disk = disk_with(&mixed).await;
    let Err(error) = open(&disk).await else {
        panic!("a foreign segment was taken")
    };
    assert!(error.to_string().contains(name), "{error}");
    assert!(files(&disk).await == mixed, "files were touched");
}

#[tokio::test]
async fn what_a_start_wrote_anew_and_could_not_remove_before_it_was_killed_is_not_taken_twice() {
    let lazy = LogOptions {
        sync_every: Duration::from_secs(3600),
        segment_bytes: 1 << 10,
        ..SMALL
    };
    let slow = FaultyDisk::new(disk_with(&Files::new()).await);
    let disk: Arc<dyn Disk> = Arc::new(slow.clone());
    let opened = open_with(&disk, lazy).await.unwrap();
    opened
        .hold(&durable(vector(), Durability::Async), true)
        .await;
    slow.hold(Operation::Sync, "log-");
    let segments = async || {
        let names = files(&disk).await.into_keys();
        names.filter(|n| segment::start_of(n).is_some()).count()
    };
    let mut number = 0;
    // The last is not known to be synced, nor all of the one before.
    while segments().await < 2 {
        number += 1;
        let groups = [add(0, 0, &[1]), add(1, 0, &[1])];
        opened.push_now(number, &groups[..=(number as usize % 2)]);
        tokio::time::sleep(Duration::from_millis(2)).await;
        if number == 1 {
            // It is ahead of what is known to be there of the log, and cut where the last segment has not begun.
            opened.snapshot(1).await;
        }
    }
    let shapes = [opened.shape(0), opened.shape(1)];
    let before = files(&disk).await;
    drop(opened);
    let disk = disk_with(&before).await;
    let opened = open_with(&disk, lazy).await.unwrap();
    assert_eq!([opened.shape(0), opened.shape(1)], shapes);
    let after = files(&disk).await;
    let removed: Vec<_> = before.keys().filter(|n| !after.contains_key(*n)).collect();
    assert!(!removed.is_empty());
    for some in 1..1 << removed.len() {
        let mut left = after.clone();
        for (at, &name) in removed.iter().enumerate() {
            if some & (1 << at) != 0 {
                left.insert(name.clone(), before[name].clone());
            }
        }
        let opened = open(&disk_with(&left).await).await.unwrap();
        assert_eq!([opened.shape(0), opened.shape(1)], shapes, "{some}");
        opened.kill().await;
    }
}

#[tokio::test]
async fn what_a_start_wrote_anew_is_known_to_be_on_the_disk() {
    let disk = disk_with(&Files::new()).await;
    let opened = open(&disk).await.unwrap();
    opened.hold(&sync_vector(), true).await;
    for number in 1..=3 {
        opened.push(number, &[add(0, 0, &[1])]).await;
    }
    opened.kill().await;
    // No record says that the last is synced; this start makes sure that it is.
    let opened = open(&disk).await.unwrap();
    assert_eq!(opened.shape(0).position.0, 3);
    opened.kill().await;
    let after = files(&disk).await;
    let (name, content) = after
        .iter()
        .rfind(|(name, _)| segment::start_of(name).is_some())
        .unwrap();
    assert!(content.len() > HEADER_BYTES, "the last record is in it");
    let mut harmed = after.clone();
    *harmed.get_mut(name).unwrap().last_mut().unwrap() ^= 1;
    let opened = open(&disk_with(&harmed).await).await.unwrap();
    let Found::Lost(why) = opened.found(0) else {
        panic!("{:?}", opened.found(0))
    };
    assert!(why.contains(name.as_str()), "{why}");
    opened.kill().await;
}

#[tokio::test]
async fn a_damaged_record_that_a_snapshot_has_loses_nothing() {
    let story = Story::tell(LogOptions::default(), Some(3)).await;
    let (name, content) = story.segments()[0];
    let mut covered = 0;
    for (range, partition, position, _) in story.records() {
        if partition == 1 && position <= 2 {
            // In its payload: its header says whose it is.
            let mut harmed = content.clone();
            harmed[HEADER_BYTES + range.start as usize + 128] ^= 1;
            let found = story.with(name, harmed).await.unwrap();
            for (partition, found) in found.into_iter().enumerate() {
                let last = story.shapes[partition].last().unwrap().clone();
                assert_eq!(found, Found::Whole(last), "{position}");
            }
            covered += 1;
        }
    }
    assert_eq!(covered, 3, "its making and two pushes");
}

#[tokio::test]
async fn a_record_that_follows_another_history_is_not_applied() {
    let story = Story::tell(LogOptions::default(), None).await;
    let (name, content) = story.segments()[0];
    let last = story.records().last().unwrap().0.clone();
    let at = HEADER_BYTES + last.start as usize;
    let header = Header::decode(&content[at..], story.salt(), last.start).unwrap();
    let other = Header {
        previous: Epoch(header.previous.0 + 1),
        ..header
    };
    let mut forged = content.clone();
    forged[at..at + Header::SIZE].copy_from_slice(&other.encode(story.salt()));
    let found = story.with(name, forged).await.unwrap();
    let (mine, others) = (header.partition as usize, 1 - header.partition as usize);
    let Found::Lost(why) = &found[mine] else {
        panic!("{found:?}")
    };
    assert!(why.contains("of epoch"), "{why}");
    let whole = story.shapes[others].last().unwrap().clone();
    assert_eq!(found[others], Found::Whole(whole));
}
