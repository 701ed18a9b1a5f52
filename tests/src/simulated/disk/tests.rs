use std::{collections::BTreeSet, io};

use bytes::Bytes;
use glint_world::{Storage, disk::Files};

use super::*;
use crate::simulated::{Doom, End};

fn disk(seed: u64) -> Disk {
    Disk::new("machine", Dice::new(seed), Trace::off())
}

fn alive() -> Life {
    Life::new(|_| {})
}

async fn read(disk: &Disk, name: &str) -> Option<Bytes> {
    glint_world::disk::load(&*disk.of(&alive()), name)
        .await
        .unwrap()
}

#[tokio::test(start_paused = true)]
async fn what_was_synced_survives_and_of_the_rest_anything_may() {
    let mut rests = BTreeSet::new();
    for seed in 0..300 {
        let disk = disk(seed);
        let view = disk.of(&alive());
        let file = view.create("log").await.unwrap();
        view.sync_directory().await.unwrap();
        file.append(vec![Bytes::from(vec![1; 100])]).await.unwrap();
        file.sync().await.unwrap();
        file.append(vec![Bytes::from(vec![2; 400])]).await.unwrap();
        disk.crash();
        let left = read(&disk, "log").await.unwrap();
        assert_eq!(left[..100], [1; 100]);
        let rest = &left[100..];
        assert!(rest.iter().all(|byte| *byte == 0 || *byte == 2));
        let hole = rest
            .iter()
            .position(|byte| *byte == 0)
            .is_some_and(|hole| rest[hole..].contains(&2));
        rests.insert((rest.is_empty(), rest.len() == 400, rest.contains(&0), hole));
    }
    for must in [
        (true, false, false, false),
        (false, true, false, false),
        (false, true, true, true),
        (false, false, true, false),
    ] {
        assert!(rests.contains(&must), "{must:?} never happened: {rests:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn of_a_file_that_is_used_again_what_was_not_synced_may_be_as_it_was() {
    let mut rests = BTreeSet::new();
    for seed in 0..300 {
        let disk = disk(seed);
        let view = disk.of(&alive());
        let file = view.create("log").await.unwrap();
        file.append(vec![Bytes::from(vec![1; 400])]).await.unwrap();
        file.sync().await.unwrap();
        view.sync_directory().await.unwrap();
        let file = view.reuse("log", "log").await.unwrap();
        file.append(vec![Bytes::from(vec![2; 100])]).await.unwrap();
        file.sync().await.unwrap();
        file.append(vec![Bytes::from(vec![3; 200])]).await.unwrap();
        disk.crash();
        let left = read(&disk, "log").await.unwrap();
        assert_eq!((left.len(), &left[..100]), (400, &[2; 100][..]));
        assert_eq!(left[300..], [1; 100]);
        let rest = &left[100..300];
        assert!(rest.iter().all(|byte| *byte == 1 || *byte == 3));
        rests.insert((rest.contains(&1), rest.contains(&3)));
    }
    assert_eq!(rests.len(), 3, "all of it, some of it, nothing: {rests:?}");
}

#[tokio::test(start_paused = true)]
async fn a_name_is_durable_when_the_directory_is_synced() {
    let (mut kept, mut gone) = (0, 0);
    for seed in 0..100 {
        let disk = disk(seed);
        let view = disk.of(&alive());
        let file = view.create("a").await.unwrap();
        file.append(vec![Bytes::from_static(b"one")]).await.unwrap();
        file.sync().await.unwrap();
        disk.crash();
        match read(&disk, "a").await {
            Some(bytes) => {
                assert_eq!(bytes, "one");
                kept += 1;
            }
            None => gone += 1,
        }
    }
    assert!(kept > 10 && gone > 10, "{kept} kept, {gone} gone");
}

#[tokio::test(start_paused = true)]
async fn a_file_replaced_as_a_whole_is_the_old_one_or_the_new_whenever_the_machine_stops() {
    let (mut old, mut new) = (0, 0);
    for seed in 0..400 {
        let disk = disk(seed);
        let files = Files::new(disk.of(&alive()));
        files.store("state", vec![1; 3000]).await.unwrap();
        let crashed = disk.clone();
        let life = Life::new(move |_| crashed.crash());
        life.doom(Doom::Writes(1 + seed % 12), End::Machine);
        let doomed = Files::new(disk.of(&life));
        let stored =
            tokio::time::timeout(Duration::from_secs(9), doomed.store("state", vec![2; 3000]));
        let ended = stored.await.is_ok();
        let left = read(&disk, "state").await.unwrap();
        assert!(
            left == vec![1; 3000] || left == vec![2; 3000],
            "seed {seed}"
        );
        if left[0] == 1 {
            assert!(!ended, "seed {seed}: what was acknowledged is gone");
            old += 1;
        } else {
            new += 1;
        }
    }
    assert!(old > 100 && new > 100, "{old} old, {new} new");
}

#[tokio::test(start_paused = true)]
async fn after_a_failed_sync_a_later_one_does_not_make_the_bytes_durable() {
    let mut lost = 0;
    for seed in 0..100 {
        let disk = disk(seed);
        let view = disk.of(&alive());
        let file = view.create("log").await.unwrap();
        view.sync_directory().await.unwrap();
        let failing = Trouble {
            sync_fails: 1.0,
            ..Trouble::default()
        };
        disk.set_trouble(failing);
        file.append(vec![Bytes::from(vec![1; 100])]).await.unwrap();
        assert!(file.sync().await.is_err());
        disk.set_trouble(Trouble::default());
        file.sync().await.unwrap();
        assert_eq!(read(&disk, "log").await.unwrap(), vec![1; 100]);
        disk.crash();
        lost += u32::from(read(&disk, "log").await.unwrap() != vec![1; 100]);
    }
    assert!(lost > 20, "{lost}");
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_refuses_and_a_killed_process_leaves_what_it_wrote() {
    let disk = disk(1);
    let life = alive();
    let view = disk.of(&life);
    let file = view.create("log").await.unwrap();
    file.append(vec![Bytes::from_static(b"abc")]).await.unwrap();
    let full = Trouble {
        full: true,
        ..Trouble::default()
    };
    disk.set_trouble(full);
    let refused = file.append(vec![Bytes::from_static(b"d")]).await;
    assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::StorageFull);
    life.end(End::Process);
    assert_eq!(read(&disk, "log").await.unwrap(), "abc");
    disk.set_trouble(Trouble::default());
    assert!(disk.flip().is_some());
    assert_ne!(read(&disk, "log").await.unwrap(), "abc");
    let copy = disk.copy();
    disk.empty();
    assert!(disk.list().is_empty());
    disk.restore(&copy);
    assert_eq!(disk.list(), [("log".to_owned(), 3)]);
}
