//! Snapshots while pushes go on, and the segments that they let go.

use std::collections::BTreeSet;

use glint_world::disk::{FaultyDisk, Operation, PARTIAL};

use super::*;
use crate::log::{
    record::{Header, Kind},
    snapshot,
};

/// A vector of so many `i64` in 2 partitions.
fn large(keys: u64) -> ModelSpec {
    let draft = ModelDraft {
        partitions: Partitions::Exactly(2),
        durability: Some(Durability::Sync),
        ..ModelDraft::new(
            "large",
            glint_protocol::Shape::Vector { keys },
            ElementType::I64,
        )
    };
    draft.resolve(1).unwrap()
}

#[tokio::test]
async fn a_snapshot_written_while_pushes_go_on_is_the_state_at_its_position() {
    // Four pieces each.
    let keys = 2 * (4 << 20) / 8;
    let disk = disk_with(&Files::new()).await;
    let opened = open(&disk).await.unwrap();
    opened.hold(&large(keys), true).await;
    let ones = vec![1_i64; 60_000];
    // Each push adds one to what the four pieces begin and end with.
    let all = |number: u64| {
        let start = number * 7919 % (keys / 2 - 60_000);
        [add(0, start, &ones)]
    };
    let mut number = 1;
    opened.push(number, &all(number)).await;
    let snapshots = async {
        opened.snapshot(0).await;
        opened.snapshot(1).await;
    };
    let mut snapshots = Box::pin(snapshots);
    loop {
        tokio::select! {
            biased;
            () = &mut snapshots => break,
            () = tokio::task::yield_now() => {}
        }
        number += 1;
        assert_eq!(opened.push_now(number, &all(number)), [Status::Applied]);
    }
    drop(snapshots);
    assert!(number > 5, "{number} pushes went on beside it");
    let file = load(&*disk, &snapshot::name(MODEL, 0)).await.unwrap();
    let (about, partition) = snapshot::decode(&file.unwrap()).unwrap();
    assert!(about.position.0 >= 1 && about.position.0 < number);
    let mut expected = vec![0_i64; keys as usize / 2];
    for number in 1..=about.position.0 {
        let start = (number * 7919 % (keys / 2 - 60_000)) as usize;
        for value in &mut expected[start..start + 60_000] {
            *value += 1;
        }
    }
    let crate::partition::Values::I64(values) = partition.values() else {
        panic!()
    };
    assert!(*values == expected, "position {}", about.position);
    let entry = partition.ledger().entry(LANE).unwrap();
    assert_eq!(entry.number.0, about.position.0);
    // And with the log beyond it, what there is now.
    opened.log.reached(opened.log.next_offset()).await.unwrap();
    let before = opened.shape(0);
    opened.kill().await;
    let opened = open(&disk).await.unwrap();
    assert!(opened.shape(0) == before);
    opened.kill().await;
}

/// Bytes of segments, and of those that are to be used again.
fn log_bytes(files: &Files) -> u64 {
    let log = |name: &&String| {
        let segment = name.strip_suffix(PARTIAL).unwrap_or(name);
        segment::start_of(segment).is_some()
    };
    let lengths = files.iter().filter(|(name, _)| log(name));
    lengths.map(|(_, content)| content.len() as u64).sum()
}

#[tokio::test]
async fn segments_go_and_are_used_again_only_when_no_partition_needs_them_and_the_log_stays_within_its_bound()
 {
    let disk = disk_with(&Files::new()).await;
    let opened = open_with(&disk, SMALL).await.unwrap();
    opened.hold(&sync_vector(), true).await;
    let mut keeper = opened.keeper(SMALL);
    let bound = SMALL.bound(80) + 4096;
    let (mut removed, mut spare, mut reused) = (false, BTreeSet::new(), false);
    for number in 1..=400 {
        // The second partition is idle most of the time: its few records must not go with the many of the first.
        let mut groups = vec![add(0, number % 5, &[1])];
        if number % 90 == 7 {
            groups.push(add(1, 0, &[1]));
        }
        opened.push(number, &groups).await;
        if number % 10 == 0 {
            keeper.look().await.unwrap();
        }
        if number % 37 == 0 || number > 390 {
            let there = files(&disk).await;
            assert!(log_bytes(&there) <= bound, "{} bytes", log_bytes(&there));
            removed |= !there.contains_key(&segment::name(0));
            let now: BTreeSet<String> = there
                .keys()
                .filter(|name| name.ends_with(PARTIAL))
                .cloned()
                .collect();
            reused |= !spare.is_subset(&now);
            spare = now;
            // A copy of the disk as a kill would leave it.
            let again = open(&disk_with(&there).await).await.unwrap();
            for partition in 0..2 {
                assert_eq!(again.found(partition), opened.found(partition), "{number}");
            }
            again.kill().await;
        }
    }
    assert!(removed && reused, "old segments are let go and used again");
    opened.kill().await;
}

#[tokio::test]
async fn a_model_is_dropped_though_who_ordered_it_went_away_and_the_log_keeps_nothing_for_it() {
    const OTHER: Incarnation = Incarnation {
        model: ModelId(8),
        generation: 1,
    };
    let faulty = FaultyDisk::new(disk_with(&Files::new()).await);
    let disk: Arc<dyn Disk> = Arc::new(faulty.clone());
    let opened = open_with(&disk, SMALL).await.unwrap();
    let models = vec![
        hold(sync_vector(), MODEL, true),
        hold(sync_vector(), OTHER, true),
    ];
    let answer = registration(&opened.server, models);
    opened.server.registered(answer).await.unwrap();
    opened.push(1, &[add(0, 0, &[1])]).await;
    opened.snapshot(0).await;
    let told = Drop {
        incarnation: MODEL,
        reason: GoneReason::Deleted,
    };
    faulty.hold(Operation::Sync, "log-");
    let order = orders(&opened.server, Vec::new(), vec![told]);
    let asked = opened.server.obey(order);
    let told = tokio::time::timeout(Duration::from_millis(50), asked).await;
    assert!(told.is_err(), "the log does not have it yet");
    faulty.mend();
    let gone = async {
        while files(&disk).await.contains_key(&snapshot::name(MODEL, 0)) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let gone = tokio::time::timeout(Duration::from_secs(5), gone).await;
    assert!(gone.is_ok(), "its files stay");
    let mut keeper = opened.keeper(SMALL);
    for number in 2..=200 {
        let mut group = add(0, number % 5, &[1]);
        group.header.incarnation = OTHER;
        group.header.digest = digest(OTHER, 0, [group.bytes.as_slice()]);
        assert_eq!(opened.push(number, &[group]).await, [Status::Applied]);
        keeper.look().await.unwrap();
    }
    let bytes = log_bytes(&files(&disk).await);
    assert!(bytes <= SMALL.bound(80) + 4096, "{bytes} bytes");
    opened.kill().await;
}

#[tokio::test]
async fn what_is_being_made_keeps_its_records_until_it_is_held() {
    let disk = disk_with(&Files::new()).await;
    let opened = open_with(&disk, SMALL).await.unwrap();
    let state = &opened.server.state;
    let making = state.begin_making();
    let payload = Bytes::from_static(&[0; 100]);
    for _ in 0..20 {
        // Of nobody who is held.
        opened.log.append(crate::log::Entry {
            header: Header::new(Kind::Update, MODEL, 0, state.boot, &payload),
            payload: payload.clone(),
            safe: Arc::default(),
            durability: Durability::Sync,
        });
        opened.log.reached(opened.log.next_offset()).await.unwrap();
    }
    let mut keeper = opened.keeper(SMALL);
    keeper.look().await.unwrap();
    assert!(files(&disk).await.contains_key(&segment::name(0)));
    drop(making);
    keeper.look().await.unwrap();
    assert!(!files(&disk).await.contains_key(&segment::name(0)));
    opened.kill().await;
}

#[tokio::test]
async fn records_of_a_lost_partition_go_only_when_the_disk_has_that_it_is_lost() {
    let disk = disk_with(&Files::new()).await;
    let opened = open_with(&disk, SMALL).await.unwrap();
    opened.hold(&sync_vector(), true).await;
    opened.snapshot(1).await;
    for number in 1..=20 {
        opened.push(number, &[add(0, 0, &[1])]).await;
    }
    let mut group = add(0, 0, &[1]);
    group.header.prev = Number(99);
    opened.push_now(100, &[group]);
    let mut keeper = opened.keeper(SMALL);
    // Between its finding and its noting.
    keeper.release().await.unwrap();
    assert!(files(&disk).await.contains_key(&segment::name(0)));
    keeper.look().await.unwrap();
    let after = files(&disk).await;
    assert!(!after.contains_key(&segment::name(0)));
    assert!(after.contains_key(&snapshot::lost_name(MODEL, 0)));
    opened.kill().await;
}

#[tokio::test]
async fn what_was_left_half_written_is_cleared_away() {
    let disk = disk_with(&Files::new()).await;
    let opened = open(&disk).await.unwrap();
    opened.hold(&sync_vector(), true).await;
    opened.push(1, &[add(0, 0, &[1])]).await;
    let before = opened.shape(0);
    opened.kill().await;
    let mut left = files(&disk).await;
    let half = [
        format!("{}.partial", snapshot::name(MODEL, 0)),
        "log-00000000000000ff.partial".to_owned(),
    ];
    for name in &half {
        left.insert(name.clone(), vec![1, 2, 3]);
    }
    left.insert("somebody's.partial".into(), vec![4]);
    let disk = disk_with(&left).await;
    let opened = open(&disk).await.unwrap();
    assert_eq!(opened.shape(0), before);
    let after = files(&disk).await;
    assert!(half.iter().all(|name| !after.contains_key(name)));
    assert!(after.contains_key("somebody's.partial"));
    opened.kill().await;
}

#[tokio::test]
async fn what_is_pushed_while_a_snapshot_is_written_keeps_its_segments() {
    let slow = FaultyDisk::new(disk_with(&Files::new()).await);
    let disk: Arc<dyn Disk> = Arc::new(slow.clone());
    let opened = open_with(&disk, SMALL).await.unwrap();
    opened.hold(&sync_vector(), true).await;
    opened.push(1, &[add(0, 0, &[1])]).await;
    slow.hold(Operation::Sync, "snapshot-");
    let meanwhile = async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        opened.push(2, &[add(0, 0, &[1])]).await;
        slow.let_go(Operation::Sync);
    };
    tokio::join!(opened.snapshot(0), meanwhile);
    for number in 1..=12 {
        opened.push(number, &[add(1, 0, &[1])]).await;
    }
    opened.snapshot(1).await;
    opened.keeper(SMALL).release().await.unwrap();
    let there = files(&disk).await;
    assert!(!there.contains_key(&segment::name(0)), "some are let go");
    let again = open(&disk_with(&there).await).await.unwrap();
    assert_eq!(again.shape(0), opened.shape(0));
    assert_eq!(again.shape(1), opened.shape(1));
    again.kill().await;
    opened.kill().await;
}

/// The vector of [`sync_vector`], snapshots of it written one over another, and the bytes of each.
async fn one_over_another(disk: &Arc<dyn Disk>, count: u64) -> Vec<Vec<u8>> {
    let opened = open_with(disk, SMALL).await.unwrap();
    opened.hold(&sync_vector(), true).await;
    let models = opened.server.state.models.load_full();
    let slot = models.by_incarnation[&MODEL].slots[0].as_ref().unwrap();
    let keeper = opened.keeper(SMALL).reusing();
    let mut written = Vec::new();
    for number in 1..=count {
        opened.push(number, &[add(0, 0, &[1])]).await;
        keeper.snapshot(slot, u64::MAX / 4).await.unwrap();
        let there = files(disk).await;
        assert_eq!(there.contains_key(snapshot::SPARE), number > 1, "{number}");
        written.push(there[&snapshot::name(MODEL, 0)].clone());
    }
    opened.kill().await;
    written
}

#[tokio::test]
async fn a_snapshot_is_written_over_the_file_of_the_one_before_and_what_is_kept_for_that_goes_at_a_start()
 {
    let disk = disk_with(&Files::new()).await;
    one_over_another(&disk, 4).await;
    let opened = open(&disk).await.unwrap();
    assert!(!files(&disk).await.contains_key(snapshot::SPARE));
    assert_eq!(opened.shape(0).position.0, 4);
    opened.kill().await;
}

#[tokio::test]
async fn a_block_of_the_former_snapshot_in_the_place_of_one_of_the_next_is_noticed() {
    let disk = disk_with(&Files::new()).await;
    let written = one_over_another(&disk, 3).await;
    let [.., former, last] = &written[..] else {
        panic!()
    };
    assert_eq!(former.len(), last.len());
    assert!(snapshot::decode(&last.clone().into()).is_ok());
    let mut at = 0;
    let mut mixed = 0;
    while at < last.len() {
        let end = at + 8 + crate::log::u32_at(last, at) as usize;
        if former[at..end] != last[at..end] {
            let mut file = last.clone();
            file[at..end].copy_from_slice(&former[at..end]);
            assert!(snapshot::decode(&file.into()).is_err(), "block at {at}");
            mixed += 1;
        }
        at = end;
    }
    assert_eq!(mixed, 4, "what it is, the ledger, the values, the end");
}

#[tokio::test]
async fn a_snapshot_of_the_first_version_is_read() {
    let disk = disk_with(&Files::new()).await;
    let written = one_over_another(&disk, 1).await;
    let (mut about, partition) = snapshot::decode(&written[0].clone().into()).unwrap();
    about.version = 1;
    let values = partition.values();
    let contents = [
        serde_json::to_vec(&about).unwrap(),
        snapshot::encode_ledger(partition.ledger()).to_vec(),
        values.to_le(0..values.len()),
        Vec::new(),
    ];
    let mut old = Vec::new();
    for content in contents {
        old.extend((content.len() as u32).to_le_bytes());
        old.extend(crate::log::checksum([&content[..]]).to_le_bytes());
        old.extend(content);
    }
    let (read, again) = snapshot::decode(&old.into()).unwrap();
    assert_eq!(read, about);
    assert_eq!(again.values(), values);
    assert_eq!(again.ledger(), partition.ledger());
}
