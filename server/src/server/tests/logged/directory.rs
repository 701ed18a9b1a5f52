//! Data directories that are not what they should be: each is recognised, said so, and left as it is.

use std::io::ErrorKind;

use glint_world::disk::{FaultyDisk, Operation};

use super::*;
use crate::log::{checksum, snapshot};

/// A directory with both partitions, a log and a snapshot.
async fn used() -> Files {
    let disk = disk_with(&Files::new()).await;
    let opened = open(&disk).await.unwrap();
    opened.hold(&sync_vector(), true).await;
    opened.push(1, &[add(0, 0, &[1]), add(1, 0, &[2])]).await;
    opened.snapshot(0).await;
    opened.kill().await;
    files(&disk).await
}

/// That a directory is refused with these words, and not a byte of it changed.
async fn refused_for(files_before: &Files, words: &[&str]) {
    let disk = disk_with(files_before).await;
    let Err(error) = open(&disk).await else {
        panic!("opened; {words:?}")
    };
    let error = error.to_string();
    assert!(words.iter().all(|word| error.contains(word)), "{error}");
    assert!(files(&disk).await == *files_before, "{error}: touched");
}

#[tokio::test]
async fn what_a_later_version_wrote_is_left_alone() {
    let before = used().await;
    let mut volume = before.clone();
    volume.insert(
        "volume.json".into(),
        br#"{"format":2,"new":[],"checksum":0}"#.to_vec(),
    );
    refused_for(&volume, &["later version", "format 2"]).await;

    let mut log = before.clone();
    let (name, content) = log
        .iter_mut()
        .find(|f| segment::start_of(f.0).is_some())
        .unwrap();
    for at in [0, segment::HEADER_BYTES / 2] {
        let one = &mut content[at..at + segment::HEADER_BYTES / 2];
        one[8] = 2;
        let end = one.len() - 4;
        let sum = checksum([&one[..end]]);
        one[end..].copy_from_slice(&sum.to_le_bytes());
    }
    let name = name.clone();
    refused_for(&log, &[&name, "later version", "format 2"]).await;

    let mut snapshots = before.clone();
    let name = snapshot::name(MODEL, 0);
    let later = snapshot::VERSION + 1;
    let about = format!(r#"{{"version":{later}}}"#);
    let about = about.as_bytes();
    let mut content = (about.len() as u32).to_le_bytes().to_vec();
    content.extend(checksum([about]).to_le_bytes());
    content.extend(about);
    snapshots.insert(name.clone(), content);
    let format = format!("format {later}");
    refused_for(&snapshots, &[&name, "later version", &format]).await;
}

#[tokio::test]
async fn files_without_the_one_that_says_whose_they_are_are_left_alone() {
    let mut before = used().await;
    let volume = before.remove("volume.json").unwrap();
    refused_for(&before, &["no volume.json", "put volume.json back"]).await;
    before.insert("volume.json".into(), volume[..volume.len() / 2].to_vec());
    refused_for(&before, &["volume.json", "damaged"]).await;
}

#[tokio::test]
async fn a_directory_that_cannot_be_read_or_written_is_refused_with_the_file_and_left_alone() {
    let before = used().await;
    let (log, snapshot) = ("log-", "snapshot-");
    let cases = [
        (Operation::List, "", "cannot be read"),
        (Operation::Open, "volume.json", "cannot be used"),
        (Operation::Read, log, "'log-0000000000000000'"),
        (Operation::Open, snapshot, "'snapshot-"),
        (Operation::Create, "volume.json", "cannot be written"),
        (Operation::Append, "volume.json", "cannot be written"),
    ];
    for (operation, prefix, words) in cases {
        for kind in [ErrorKind::PermissionDenied, ErrorKind::Other] {
            let inner = disk_with(&before).await;
            let faulty = FaultyDisk::new(Arc::clone(&inner));
            faulty.fail(operation, prefix, kind, 0..usize::MAX);
            let disk: Arc<dyn Disk> = Arc::new(faulty);
            let Err(error) = open(&disk).await else {
                panic!("{operation:?}")
            };
            let error = error.to_string();
            assert!(error.contains(words), "{operation:?}: {error}");
            let mut after = files(&inner).await;
            after.remove("volume.json.partial");
            assert!(after == before, "{operation:?} of {prefix}: touched");
        }
    }
}

#[tokio::test]
async fn a_start_that_fails_at_any_step_loses_nothing() {
    let disk = disk_with(&used().await).await;
    let opened = open(&disk).await.unwrap();
    opened.hold(&sync_vector(), false).await;
    // Not known to be synced by any record: written anew by the next start.
    opened.push(2, &[add(0, 1, &[1]), add(1, 0, &[2])]).await;
    let shapes = [opened.shape(0), opened.shape(1)];
    opened.kill().await;
    let before = files(&disk).await;
    let operations = [
        Operation::Create,
        Operation::Append,
        Operation::Sync,
        Operation::Rename,
        Operation::SyncDirectory,
        Operation::Remove,
    ];
    let mut failed = 0;
    for operation in operations {
        for nth in 0.. {
            let inner = disk_with(&before).await;
            let faulty = FaultyDisk::new(Arc::clone(&inner));
            faulty.fail(operation, "", ErrorKind::Other, nth..nth + 1);
            let disk: Arc<dyn Disk> = Arc::new(faulty.clone());
            let ended = open(&disk).await;
            if faulty.happened() == 0 {
                ended.unwrap().kill().await;
                break;
            }
            failed += 1;
            assert!(ended.is_err(), "{operation:?} {nth}");
            for _ in 0..2 {
                let opened = open(&inner).await.unwrap();
                assert_eq!([opened.shape(0), opened.shape(1)], shapes);
                opened.kill().await;
            }
        }
    }
    assert!(failed >= 9, "{failed} steps failed");
}

#[tokio::test]
async fn an_emptied_directory_is_another_one_and_what_was_in_it_is_lost_and_never_zero() {
    let before = used().await;
    let id = |opened: &Opened| opened.server.state.volume.get().unwrap().id;
    let first = open(&disk_with(&before).await).await.unwrap();
    let empty = open(&disk_with(&Files::new()).await).await.unwrap();
    assert_ne!(id(&first), id(&empty));
    let volume = *empty.server.state.volume.get().unwrap();
    assert_eq!((volume.start, volume.clean), (1, true));
    empty.hold(&sync_vector(), false).await;
    let error = code(&empty.server, "/v1/pull", pull(&[read(0)])).await;
    assert_eq!(error.code, ErrorCode::Lost);
    let error = code(&empty.server, "/v1/push", push(2, &[add(0, 0, &[1])])).await;
    assert_eq!(error.code, ErrorCode::Lost);
    first.kill().await;
    empty.kill().await;
}

#[tokio::test]
async fn an_older_copy_counts_fewer_starts_and_is_caught_by_the_first_push_of_a_live_lane() {
    let older = used().await;
    let disk = disk_with(&older).await;
    let opened = open(&disk).await.unwrap();
    opened.hold(&sync_vector(), false).await;
    let start = opened.server.state.volume.get().unwrap().start;
    opened.push(2, &[add(0, 0, &[1])]).await;
    opened.kill().await;
    let again = open(&disk).await.unwrap();
    assert!(again.server.state.volume.get().unwrap().start > start);
    again.kill().await;

    let opened = open(&disk_with(&older).await).await.unwrap();
    assert_eq!(opened.server.state.volume.get().unwrap().start, start);
    opened.hold(&sync_vector(), false).await;
    let mut group = add(0, 0, &[1]);
    group.header.prev = Number(2);
    let next = opened.push_now(3, &[group]);
    assert_eq!(next, [Status::Error(ErrorCode::Lost)]);
    let Found::Lost(_) = opened.found(0) else {
        panic!()
    };
    opened.kill().await;
}

#[tokio::test]
async fn another_cluster_is_refused_and_what_is_here_stays() {
    let disk = disk_with(&used().await).await;
    let opened = open(&disk).await.unwrap();
    let shapes = [opened.shape(0), opened.shape(1)];
    let before = files(&disk).await;
    let mut other = registration(&opened.server, vec![hold(sync_vector(), MODEL, true)]);
    other.cluster = ClusterId(0xbad);
    other.orders.cluster = ClusterId(0xbad);
    let error = opened.server.registered(other).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::WrongCluster);
    assert!(files(&disk).await == before);
    assert_eq!([opened.shape(0), opened.shape(1)], shapes);
    opened.hold(&sync_vector(), false).await;
    assert_eq!(values(&opened.server, 1).await, [2, 0, 0, 0, 0]);
    opened.kill().await;
}
