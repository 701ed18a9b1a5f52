//! What comes back: values to the bit, the ledger with what it refuses, what is lost and what was dropped.

use super::*;
use crate::{log::snapshot, server::eviction::sweep};

/// A group of a model of floats: single values by local index.
fn floats<T: Element>(partition: u32, rule: Rule, values: &[T]) -> Group {
    let mut bytes = Vec::new();
    write::range(&mut bytes, Some(rule), T::SIZE, 0, values.len());
    T::append(values, &mut bytes);
    let mut group = group(Op::Update, partition, bytes);
    group.header.element = Some(T::TYPE);
    group
}

fn float_vector(element: ElementType, rule: Rule) -> ModelSpec {
    let draft = ModelDraft {
        partitions: Partitions::Exactly(2),
        rule,
        durability: Some(Durability::Async),
        ..ModelDraft::new("floats", Shape::Vector { keys: 10 }, element)
    };
    draft.resolve(1).unwrap()
}

async fn comes_back(spec: &ModelSpec, pushes: impl Fn(u64) -> Vec<Group>) {
    for snapshot_at in [None, Some(0), Some(3), Some(6)] {
        let disk = disk_with(&Files::new()).await;
        let opened = open(&disk).await.unwrap();
        opened.hold(spec, true).await;
        for number in 1..=6 {
            if snapshot_at == Some(number - 1) {
                opened.snapshot(0).await;
                opened.snapshot(1).await;
            }
            for status in opened.push(number, &pushes(number)).await {
                assert_eq!(status, Status::Applied);
            }
        }
        if snapshot_at == Some(6) {
            opened.snapshot(0).await;
        }
        let before = [opened.shape(0), opened.shape(1)];
        opened.kill().await;
        for _ in 0..2 {
            let opened = open(&disk).await.unwrap();
            assert_eq!([opened.shape(0), opened.shape(1)], before);
            opened.kill().await;
        }
    }
}

#[tokio::test]
async fn floats_come_back_bit_for_bit() {
    let odd = |i: u64| match i % 5 {
        0 => f64::from_bits(0x7ff8_0000_0000_1234 + i),
        1 => -0.0,
        2 => f64::from_bits(i),
        3 => 0.1 * i as f64,
        _ => f64::NEG_INFINITY,
    };
    for rule in [Rule::Add, Rule::Assign, Rule::Max, Rule::Min] {
        comes_back(&float_vector(ElementType::F64, rule), |number| {
            let values: Vec<f64> = (0..5).map(|i| odd(number * 3 + i)).collect();
            vec![floats(0, rule, &values), floats(1, rule, &values[..3])]
        })
        .await;
        comes_back(&float_vector(ElementType::F32, rule), |number| {
            let values: Vec<f32> = (0..5)
                .map(|i| match i {
                    0 => f32::from_bits(0x7fc0_0001 + number as u32),
                    1 => -0.0,
                    _ => 0.1 / number as f32,
                })
                .collect();
            vec![
                floats(0, rule, &values),
                floats(1, rule, &values[..=(number as usize % 5)]),
            ]
        })
        .await;
    }
}

/// Registers a server that was opened again.
async fn serving_again(disk: &Arc<dyn Disk>) -> Opened {
    let opened = open(disk).await.unwrap();
    opened.hold(&sync_vector(), false).await;
    opened
}

#[tokio::test]
async fn after_a_restart_a_repeated_push_is_answered_and_not_applied_again() {
    for with_snapshot in [false, true] {
        let disk = disk_with(&Files::new()).await;
        let opened = open(&disk).await.unwrap();
        opened.hold(&sync_vector(), true).await;
        opened.push(1, &[add(0, 0, &[1])]).await;
        opened.push(2, &[add(0, 0, &[10]), add(1, 0, &[5])]).await;
        if with_snapshot {
            opened.snapshot(0).await;
            opened.snapshot(1).await;
        }
        let before = [opened.shape(0), opened.shape(1)];
        opened.kill().await;

        let opened = serving_again(&disk).await;
        let again = [add(0, 0, &[10]), add(1, 0, &[5])];
        assert_eq!(opened.push_now(2, &again), [Status::Applied; 2]);
        let other = opened.push_now(2, &[add(0, 0, &[11])]);
        assert_eq!(other, [Status::Error(ErrorCode::LaneConflict)]);
        let older = opened.push_now(1, &[add(0, 0, &[1])]);
        assert_eq!(older, [Status::Error(ErrorCode::Superseded)]);
        assert_eq!([opened.shape(0), opened.shape(1)], before);
        assert_eq!(opened.push_now(3, &again[..1]), [Status::Applied]);
        opened.kill().await;
    }
}

#[tokio::test]
async fn a_skipped_number_stays_skipped() {
    let disk = disk_with(&Files::new()).await;
    let opened = open(&disk).await.unwrap();
    opened.hold(&sync_vector(), true).await;
    let skip = || group(Op::Skip, 0, Vec::new());
    assert_eq!(opened.push(1, &[skip()]).await, [Status::Skipped]);
    opened.kill().await;
    let opened = serving_again(&disk).await;
    let late = opened.push_now(1, &[add(0, 0, &[1])]);
    assert_eq!(late, [Status::Skipped]);
    assert_eq!(values(&opened.server, 0).await, [0; 5]);
    opened.kill().await;
}

#[tokio::test]
async fn an_evicted_lane_is_refused_the_same_before_and_after_a_restart() {
    let idle = Duration::from_secs(6000);
    for with_snapshot in [false, true] {
        let disk = disk_with(&Files::new()).await;
        let opened = open(&disk).await.unwrap();
        opened.hold(&sync_vector(), true).await;
        opened.push(1, &[add(0, 0, &[1])]).await;
        opened.push(2, &[add(1, 0, &[1])]).await;
        let late = |opened: &Opened| {
            let reply = opened
                .server
                .push_body(&push(3, &[add(0, 0, &[7])]), LANE.birth);
            let (status, _, payload) = results(&reply.unwrap()).remove(0);
            (status, ErrorBody::from_json(&payload))
        };
        {
            let models = opened.server.state.models.load();
            let slot = models.by_incarnation[&MODEL].slots[0].as_ref().unwrap();
            let now = tokio::time::Instant::now();
            assert_eq!(sweep(slot, now, idle), 0);
            assert_eq!(sweep(slot, now + idle / 2, idle), 0);
            assert_eq!(sweep(slot, now + idle, idle), 1);
        }
        opened.log.reached(opened.log.next_offset()).await.unwrap();
        if with_snapshot {
            opened.snapshot(0).await;
        }
        let before = opened.shape(0);
        assert!(before.ledger.is_empty());
        assert_eq!(before.ledger.horizon(), LANE.birth);
        let refused = late(&opened);
        assert_eq!(refused.0, Status::Error(ErrorCode::LaneExpired));
        assert_eq!(refused.1.detail.as_ref().unwrap().horizon, Some(LANE.birth));
        opened.kill().await;

        let opened = serving_again(&disk).await;
        assert_eq!(opened.shape(0), before);
        assert_eq!(late(&opened), refused);
        // The lane lives on where it was not idle for so long.
        let known = opened.push_now(2, &[add(1, 0, &[1])]);
        assert_eq!(known, [Status::Applied]);
        // Idle ages begin anew with the process.
        {
            let models = opened.server.state.models.load();
            let slot = models.by_incarnation[&MODEL].slots[1].as_ref().unwrap();
            assert_eq!(sweep(slot, tokio::time::Instant::now(), idle), 0);
        }
        opened.kill().await;
    }
}

#[tokio::test]
async fn what_is_lost_stays_lost_over_restarts() {
    let disk = disk_with(&Files::new()).await;
    let opened = open(&disk).await.unwrap();
    opened.hold(&sync_vector(), true).await;
    opened.push(1, &[add(0, 0, &[1]), add(1, 0, &[1])]).await;
    // A client remembers what is not here.
    let mut group = add(0, 0, &[1]);
    group.header.prev = Number(7);
    let found = opened.push_now(8, &[group]);
    assert_eq!(found, [Status::Error(ErrorCode::Lost)]);
    opened.keeper(LogOptions::default()).look().await.unwrap();
    let marker = snapshot::lost_name(MODEL, 0);
    assert!(files(&disk).await.contains_key(&marker));
    let other = opened.shape(1);
    opened.kill().await;
    for _ in 0..2 {
        let opened = serving_again(&disk).await;
        assert_eq!(
            opened.found(0),
            Found::Lost("an acknowledged update is missing".into())
        );
        assert_eq!(opened.shape(1), other);
        opened.kill().await;
    }
}

#[tokio::test]
async fn what_was_dropped_stays_so_and_its_files_go() {
    let disk = disk_with(&Files::new()).await;
    let opened = open(&disk).await.unwrap();
    opened.hold(&sync_vector(), true).await;
    opened.push(1, &[add(0, 0, &[1])]).await;
    opened.snapshot(0).await;
    let told = Drop {
        incarnation: MODEL,
        reason: GoneReason::Deleted,
    };
    let before = files(&disk).await;
    let orders = orders(&opened.server, Vec::new(), vec![told]);
    opened.server.obey(orders).await.unwrap();
    let mut after = files(&disk).await;
    assert!(before.contains_key(&snapshot::name(MODEL, 0)));
    assert!(!after.contains_key(&snapshot::name(MODEL, 0)));
    opened.kill().await;
    // Also when the process ended before it had removed them.
    after.insert(
        snapshot::name(MODEL, 0),
        before[&snapshot::name(MODEL, 0)].clone(),
    );
    for disk in [disk, disk_with(&after).await] {
        for _ in 0..2 {
            let opened = open(&disk).await.unwrap();
            assert!(opened.server.state.models.load().by_incarnation.is_empty());
            opened.kill().await;
        }
        assert!(!files(&disk).await.contains_key(&snapshot::name(MODEL, 0)));
    }
}

#[tokio::test]
async fn a_partition_made_twice_at_different_epochs_is_the_later_one() {
    let disk = disk_with(&Files::new()).await;
    let opened = open(&disk).await.unwrap();
    let mut first = registration(&opened.server, vec![hold(sync_vector(), MODEL, true)]);
    // The second partition does not exist: the order is refused as a whole, after the first was written down.
    first.orders.hold[0].partitions[1].partition = 2;
    assert!(opened.server.registered(first).await.is_err());
    let mut second = registration(&opened.server, vec![hold(sync_vector(), MODEL, true)]);
    for held in &mut second.orders.hold[0].partitions {
        held.epoch = Epoch(9);
    }
    opened.server.registered(second).await.unwrap();
    let mut group = add(0, 0, &[4]);
    group.header.epoch = Epoch(9);
    assert_eq!(opened.push(1, &[group]).await, [Status::Applied]);
    let before = [opened.shape(0), opened.shape(1)];
    opened.kill().await;
    let opened = open(&disk).await.unwrap();
    assert_eq!([opened.shape(0), opened.shape(1)], before);
    opened.kill().await;
}

#[tokio::test]
async fn the_directory_names_the_last_start_that_registered_and_those_since() {
    let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::default());
    let register = async |opened: &Opened, creating| {
        let hold = hold(sync_vector(), MODEL, creating);
        let answer = registration(&opened.server, vec![hold]);
        opened.server.registered(answer).await.unwrap();
        opened.server.state.starts().await
    };
    let first = open(&disk).await.unwrap();
    let one = first.server.boot();
    assert_eq!(first.server.state.starts().await, [one]);
    assert_eq!(register(&first, true).await, [one]);
    first.kill().await;
    let second = open(&disk).await.unwrap();
    let two = second.server.boot();
    second.kill().await;
    let third = open(&disk).await.unwrap();
    let three = third.server.boot();
    assert_eq!(third.server.state.starts().await, [one, two, three]);
    assert_eq!(register(&third, false).await, [three], "it holds values");
    third.kill().await;
}
