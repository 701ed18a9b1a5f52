//! A disk that is full, or that fails: what was acknowledged is there, what is not is not acknowledged.

use std::io::ErrorKind;

use glint_world::disk::{FaultyDisk, Operation};

use super::*;
use crate::{
    log::snapshot,
    server::{keeper, life},
};

/// A model of another durability beside [`MODEL`].
const OTHER: Incarnation = Incarnation {
    model: ModelId(8),
    generation: 1,
};

/// A server on a disk that can be made to fail, with a `sync` model, and another model of `other`.
async fn faulty(other: Durability) -> (FaultyDisk, Arc<dyn Disk>, Opened) {
    faulty_with(other, LogOptions::default()).await
}

async fn faulty_with(
    other: Durability,
    options: LogOptions,
) -> (FaultyDisk, Arc<dyn Disk>, Opened) {
    let inner = disk_with(&Files::new()).await;
    let faulty = FaultyDisk::new(Arc::clone(&inner));
    let disk: Arc<dyn Disk> = Arc::new(faulty.clone());
    let opened = open_with(&disk, options).await.unwrap();
    let models = vec![
        hold(sync_vector(), MODEL, true),
        hold(durable(vector(), other), OTHER, true),
    ];
    let answer = registration(&opened.server, models);
    opened.server.registered(answer).await.unwrap();
    (faulty, inner, opened)
}

/// A group of [`OTHER`].
fn other(partition: u32, values: &[i64]) -> Group {
    let mut group = add(partition, 0, values);
    group.header.incarnation = OTHER;
    group.header.digest = digest(OTHER, partition, [group.bytes.as_slice()]);
    group
}

/// Pushes as a client does: the answer comes when it may.
async fn answered(server: &Server, number: u64, group: Group) -> Result<Status, ErrorCode> {
    let (status, _, reply) = post(server, "/v1/push", BINARY, push(number, &[group])).await;
    if status == StatusCode::OK {
        Ok(results(&reply)[0].0)
    } else {
        Err(ErrorBody::from_json(&reply).code)
    }
}

async fn until(condition: impl Fn() -> bool) {
    for _ in 0..2000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("it never came to be");
}

#[tokio::test]
async fn a_full_disk_refuses_durable_pushes_until_there_is_room_and_everything_else_goes_on() {
    let (faulty, inner, opened) = faulty(Durability::Memory).await;
    let server = opened.server.clone();
    assert_eq!(
        answered(&server, 1, add(0, 0, &[1])).await,
        Ok(Status::Applied)
    );
    faulty.set_room(Some(100));
    let full = Ok(Status::Error(ErrorCode::StorageFull));
    // What is taken before anybody knows that the disk is full; its repetition; what it is not; giving it up; what comes after it
    // at this partition, and at another.
    let mut given_up = group(Op::Skip, 0, Vec::new());
    given_up.header.digest = 0;
    for (number, group) in [
        (2, add(0, 0, &[10])),
        (2, add(0, 0, &[10])),
        (2, add(0, 0, &[11])),
        (2, given_up),
        (3, add(0, 0, &[100])),
        (2, add(1, 0, &[10])),
    ] {
        let answer = answered(&server, number, group);
        let answer = tokio::time::timeout(Duration::from_secs(5), answer).await;
        assert_eq!(answer.expect("it waits for room"), full, "number {number}");
    }
    let memory = answered(&server, 2, other(0, &[5])).await;
    assert_eq!(memory, Ok(Status::Applied));
    // A pull may see what is not safe yet.
    assert_eq!(values(&server, 0).await, [11, 0, 0, 0, 0]);
    assert_eq!(values(&server, 1).await, [0; 5]);
    assert!(server.state.load().disk_full);
    assert!(measured(&server, "glint_server_disk_full 1").await);
    assert!(opened.log.admits().is_err());

    faulty.set_room(None);
    until(|| opened.log.admits().is_ok()).await;
    assert!(!server.state.load().disk_full);
    assert!(measured(&server, "glint_server_disk_full 0").await);
    // What was taken is in, once.
    for (number, group, status) in [
        (2, add(0, 0, &[10]), Status::Applied),
        (2, add(0, 0, &[11]), Status::Error(ErrorCode::LaneConflict)),
        (3, add(0, 0, &[100]), Status::Applied),
        (2, add(1, 0, &[10]), Status::Applied),
    ] {
        assert_eq!(answered(&server, number, group).await, Ok(status));
    }
    assert_eq!(values(&server, 0).await, [111, 0, 0, 0, 0]);
    assert_eq!(values(&server, 1).await, [10, 0, 0, 0, 0]);
    let before = [opened.shape(0), opened.shape(1)];
    opened.kill().await;
    let opened = open(&inner).await.unwrap();
    assert_eq!([opened.shape(0), opened.shape(1)], before);
    opened.kill().await;
}

/// Whether `GET /metrics` has this line.
async fn measured(server: &Server, line: &str) -> bool {
    let text = get(server, "/metrics").await.1;
    text.lines().any(|l| l == line)
}

async fn get(server: &Server, path: &str) -> (StatusCode, String) {
    let request = Request::get(path).body(Body::empty()).unwrap();
    let response = server.router().oneshot(request).await.unwrap();
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn a_server_that_starts_on_a_full_disk_waits_for_room_and_says_so() {
    let (_, inner, opened) = faulty(Durability::Memory).await;
    opened.push(1, &[add(0, 0, &[1])]).await;
    let before = opened.shape(0);
    opened.kill().await;
    let there = files(&inner).await;
    let manifest = there["volume.json"].len() as u64;
    // Before anything is noted, while that is written, and where the log is to begin.
    for room in [0, manifest / 2, manifest + 100] {
        let inner = disk_with(&there).await;
        let faulty = FaultyDisk::new(Arc::clone(&inner));
        faulty.set_room(Some(room));
        let disk: Arc<dyn Disk> = Arc::new(faulty.clone());
        let config = ServerConfig {
            disk: Some(Arc::clone(&disk)),
            ..ServerConfig::new("http://127.0.0.1:9".parse().unwrap(), 16 << 20)
        };
        let world = World::real();
        let server = Server::new(world.clone(), &config, &url());
        let link = Link::new(&world, config.master.clone());
        let starting = tokio::spawn({
            let state = Arc::clone(&server.state);
            async move { opening::open(&state, &disk, LogOptions::default(), &link).await }
        });
        until(|| faulty.happened() > 1).await;
        let (status, why) = get(&server, "/readyz").await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(
            why.contains("the disk of the data directory is full"),
            "{why}"
        );
        assert!(server.state.load().disk_full);
        assert!(!starting.is_finished());
        for (name, content) in &there {
            let now = load(&*inner, name).await.unwrap();
            let stays = name != "volume.json" || room < manifest;
            assert_eq!(
                now.as_deref() == Some(&content[..]),
                stays,
                "'{name}' with {room}"
            );
        }
        faulty.set_room(None);
        let started = tokio::time::timeout(Duration::from_secs(5), starting).await;
        let log = started.unwrap().unwrap().unwrap();
        assert!(!server.state.disk_is_full());
        let opened = Opened { server, log };
        assert_eq!(opened.shape(0), before);
        opened.kill().await;
        let opened = open(&inner).await.unwrap();
        assert_eq!(opened.shape(0), before);
        opened.kill().await;
    }
}

#[tokio::test]
async fn a_start_whose_sync_finds_the_disk_full_ends() {
    let (_, inner, opened) = faulty(Durability::Memory).await;
    opened.kill().await;
    for prefix in ["volume.json", "log-"] {
        let faulty = FaultyDisk::new(Arc::clone(&inner));
        faulty.fail(Operation::Sync, prefix, ErrorKind::StorageFull, 0..1);
        let disk: Arc<dyn Disk> = Arc::new(faulty);
        let opened = tokio::time::timeout(Duration::from_secs(5), open(&disk)).await;
        let error = opened.unwrap().map(drop).unwrap_err().to_string();
        assert!(error.contains("cannot be written"), "{error}");
    }
}

#[tokio::test]
async fn a_model_that_is_deleted_makes_room_on_a_full_disk() {
    let (faulty, inner, opened) = faulty(Durability::Sync).await;
    for partition in 0..2 {
        let pushed = answered(&opened.server, 1, other(partition, &[1])).await;
        assert_eq!(pushed, Ok(Status::Applied));
        let models = opened.server.state.models.load_full();
        let slot = models.by_incarnation[&OTHER].slots[partition as usize].as_ref();
        let keeper = opened.keeper(LogOptions::default());
        keeper.snapshot(slot.unwrap(), 0).await.unwrap();
    }
    faulty.set_room(Some(0));
    let full = answered(&opened.server, 1, add(0, 0, &[1])).await;
    assert_eq!(full, Ok(Status::Error(ErrorCode::StorageFull)));
    let drop = Drop {
        incarnation: OTHER,
        reason: GoneReason::Deleted,
    };
    let obeyed = opened
        .server
        .obey(orders(&opened.server, Vec::new(), vec![drop]));
    let obeyed = tokio::time::timeout(Duration::from_secs(5), obeyed).await;
    obeyed.expect("it waits for room").unwrap();
    until(|| opened.log.admits().is_ok()).await;
    let again = answered(&opened.server, 1, add(0, 0, &[1])).await;
    assert_eq!(again, Ok(Status::Applied));
    let before = opened.shape(0);
    opened.kill().await;
    assert!(!files(&inner).await.contains_key(&snapshot::name(OTHER, 0)));
    let opened = open(&inner).await.unwrap();
    assert_eq!(opened.shape(0), before);
    let models = opened.server.state.models.load_full();
    assert!(!models.by_incarnation.contains_key(&OTHER));
    opened.kill().await;
}

#[tokio::test]
async fn a_full_disk_may_be_met_at_any_write_also_where_a_segment_begins() {
    for operation in [Operation::Create, Operation::Append] {
        let (faulty, inner, opened) = faulty_with(Durability::Async, SMALL).await;
        let mut number = 0;
        for _ in 0..12 {
            faulty.fail(operation, "log-", ErrorKind::StorageFull, 0..1);
            number += 1;
            let status = loop {
                match answered(&opened.server, number, add(0, 0, &[1])).await {
                    Ok(Status::Error(ErrorCode::StorageFull)) => {
                        tokio::time::sleep(Duration::from_millis(10)).await;
                    }
                    answer => break answer,
                }
            };
            assert_eq!(status, Ok(Status::Applied));
        }
        assert!(faulty.happened() > 2);
        let before = opened.shape(0);
        assert_eq!(before.position.0, number);
        opened.kill().await;
        let opened = open(&inner).await.unwrap();
        assert_eq!(opened.shape(0), before);
        opened.kill().await;
    }
}

#[tokio::test]
async fn a_stop_does_not_wait_for_room() {
    let (faulty, inner, opened) = faulty(Durability::Async).await;
    assert_eq!(
        answered(&opened.server, 1, other(0, &[1])).await,
        Ok(Status::Applied)
    );
    faulty.set_room(Some(0));
    opened.push_now(2, &[add(0, 0, &[1])]);
    until(|| faulty.happened() > 0).await;
    let ended = tokio::time::timeout(Duration::from_secs(5), opened.server.flush()).await;
    assert!(ended.unwrap().is_err());
    faulty.mend();
    let opened = open(&inner).await.unwrap();
    let models = opened.server.state.models.load();
    let slot = models.by_incarnation[&OTHER].slots[0].as_ref().unwrap();
    assert_eq!(slot.lock().position().0, 1);
    assert_eq!(opened.shape(0).position.0, 0);
}

/// Makes something about the disk fail while pushes are under way: none is acknowledged after it, the server ends and says
/// why, and what was acknowledged is there again, also when the system has thrown away what it could not write.
async fn fails(operation: Operation, kind: ErrorKind) {
    let (faulty, inner, opened) = faulty(Durability::Async).await;
    let server = opened.server.clone();
    for number in 1..=3 {
        for group in [add(0, 0, &[1]), other(0, &[1])] {
            assert_eq!(answered(&server, number, group).await, Ok(Status::Applied));
        }
    }
    opened.log.reached(opened.log.next_offset()).await.unwrap();
    let safe = files(&inner).await;
    faulty.fail(operation, "log-", kind, 0..usize::MAX);
    let sync = answered(&server, 4, add(0, 0, &[1])).await;
    assert_eq!(sync, Err(ErrorCode::Retry));
    let failure = opened.log.failed().await.to_string();
    assert!(
        failure.contains("nothing more is acknowledged"),
        "{failure}"
    );
    // And never again, though the disk may seem to be well.
    faulty.mend();
    for (number, group) in [
        (4, add(0, 0, &[1])),
        (5, other(0, &[1])),
        (4, add(1, 0, &[1])),
    ] {
        let refused = match answered(&server, number, group).await {
            Ok(Status::Error(code)) | Err(code) => code,
            Ok(status) => panic!("{status:?}"),
        };
        assert_eq!(refused, ErrorCode::Retry);
    }
    assert_eq!(values(&server, 1).await, [0; 5], "pulls go on");
    for files in [files(&inner).await, safe] {
        let opened = open(&disk_with(&files).await).await.unwrap();
        let sum = opened.shape(0).position.0;
        assert!((3..=4).contains(&sum), "{sum}");
        let models = opened.server.state.models.load_full();
        let slot = models.by_incarnation[&OTHER].slots[0].as_ref().unwrap();
        assert_eq!(slot.lock().position().0, 3);
        opened.kill().await;
    }
}

#[tokio::test]
async fn after_a_failed_sync_nothing_is_acknowledged_and_what_was_is_there_again() {
    fails(Operation::Sync, ErrorKind::Other).await;
    // Also where the system says only then that the disk is full.
    fails(Operation::Sync, ErrorKind::StorageFull).await;
}

#[tokio::test]
async fn after_a_failed_write_nothing_is_acknowledged_and_what_was_is_there_again() {
    fails(Operation::Append, ErrorKind::Other).await;
}

#[tokio::test]
async fn an_async_push_that_is_being_written_when_a_sync_fails_is_not_acknowledged() {
    let (faulty, _, opened) = faulty(Durability::Async).await;
    let push = |number, group| {
        let server = opened.server.clone();
        tokio::spawn(async move { answered(&server, number, group).await })
    };
    faulty.hold(Operation::Sync, "log-");
    let sync = push(1, add(0, 0, &[1]));
    until(|| opened.log.bytes() > opened.log.synced()).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    faulty.hold(Operation::Append, "log-");
    let written = push(1, other(0, &[1]));
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(!sync.is_finished() && !written.is_finished());
    faulty.fail(Operation::Sync, "log-", ErrorKind::Other, 0..1);
    faulty.let_go(Operation::Sync);
    assert_eq!(sync.await.unwrap(), Err(ErrorCode::Retry));
    faulty.let_go(Operation::Append);
    assert_eq!(written.await.unwrap(), Err(ErrorCode::Retry));
    let models = opened.server.state.models.load();
    let slot = models.by_incarnation[&OTHER].slots[0].as_ref().unwrap();
    let waiting = slot.safe.owned(Position(1));
    let waited = tokio::time::timeout(Duration::from_millis(50), waiting).await;
    assert!(waited.is_err(), "told to be safe after a failed sync");
}

#[tokio::test]
async fn a_server_whose_disk_fails_ends_and_says_why() {
    let inner = disk_with(&Files::new()).await;
    let faulty = FaultyDisk::new(inner);
    let config = ServerConfig {
        disk: Some(Arc::new(faulty.clone())),
        ..ServerConfig::new("http://127.0.0.1:9".parse().unwrap(), 1 << 20)
    };
    let world = World::real();
    let server = Server::new(world.clone(), &config, &url());
    let link = Link::new(&world, config.master.clone());
    let stop = Shutdown::new();
    let life = tokio::spawn(life(
        Arc::clone(&server.state),
        config,
        link,
        url().to_string(),
        stop.clone(),
        stop,
    ));
    until(|| server.state.log.get().is_some()).await;
    let answer = registration(&server, vec![hold(sync_vector(), MODEL, true)]);
    server.registered(answer).await.unwrap();
    faulty.fail(Operation::Sync, "log-", ErrorKind::Other, 0..1);
    assert_eq!(
        answered(&server, 1, add(0, 0, &[1])).await,
        Err(ErrorCode::Retry)
    );
    let ended = tokio::time::timeout(Duration::from_secs(5), life).await;
    let error = ended.unwrap().unwrap().unwrap_err().to_string();
    assert!(error.contains("start the server again"), "{error}");
}

#[tokio::test]
async fn a_snapshot_that_cannot_be_written_costs_nothing_but_is_tried_again() {
    let cases = [
        (Operation::Create, ErrorKind::StorageFull),
        (Operation::Append, ErrorKind::StorageFull),
        (Operation::Append, ErrorKind::Other),
        (Operation::Rename, ErrorKind::Other),
    ];
    for (operation, kind) in cases {
        let (faulty, inner, opened) = faulty(Durability::Memory).await;
        opened.push(1, &[add(0, 0, &[1])]).await;
        let models = opened.server.state.models.load_full();
        let slot = models.by_incarnation[&MODEL].slots[0].as_ref().unwrap();
        let keeper = opened.keeper(LogOptions::default());
        faulty.fail(operation, "snapshot-", kind, 0..1);
        keeper.snapshot(slot, 0).await.unwrap_err();
        assert!(opened.log.failure().is_none());
        let there = files(&inner).await;
        assert!(!there.contains_key(&snapshot::name(MODEL, 0)));
        opened.push(2, &[add(0, 0, &[1])]).await;
        keeper.snapshot(slot, 0).await.unwrap();
        opened.push(3, &[add(0, 0, &[1])]).await;
        let before = opened.shape(0);
        drop(models);
        opened.kill().await;
        let opened = open(&inner).await.unwrap();
        assert_eq!(opened.shape(0), before, "{operation:?}");
        opened.kill().await;
    }
}

#[tokio::test]
async fn a_failed_sync_beside_the_log_ends_it_too() {
    for (operation, prefix) in [
        (Operation::Sync, "snapshot-"),
        (Operation::SyncDirectory, ""),
    ] {
        let (faulty, inner, opened) = faulty_with(Durability::Memory, SMALL).await;
        let mut number = 0;
        while opened.log.bytes() <= SMALL.snapshots_from(0) {
            number += 1;
            opened.push(number, &[add(0, 0, &[1])]).await;
        }
        faulty.fail(operation, prefix, ErrorKind::Other, 0..1);
        let state = Arc::clone(&opened.server.state);
        let disk: Arc<dyn Disk> = Arc::new(faulty.clone());
        let kept = keeper::run(state, disk, opened.log.clone(), SMALL, Shutdown::new());
        let ended = tokio::time::timeout(Duration::from_secs(5), kept).await;
        ended.unwrap();
        assert!(opened.log.failure().is_some());
        let before = opened.shape(0);
        let opened = open(&inner).await.unwrap();
        assert_eq!(opened.shape(0), before, "{operation:?}");
        opened.kill().await;
    }
}
