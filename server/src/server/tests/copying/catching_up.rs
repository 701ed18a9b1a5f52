//! Copies that went on otherwise than the others, or were lost: they come back to what the others have, and show nothing before.

use glint_protocol::Durability;

use super::{
    attaching::{alone, learning, paired},
    *,
};
use crate::{
    log::LogOptions,
    server::{keeper::Keeper, state::Slot},
};

const A_WHILE: Duration = Duration::from_millis(300);

/// Two servers in sync after one push. The first is not heard any more by the other, and has gone on to position 4 alone, where
/// nothing is acknowledged.
async fn torn_apart(all: Vec<Running>, durability: Durability) -> Servers {
    let mut servers = Servers::of(all, spec(durability, 10));
    servers.order(0, &alone(0), true).await;
    servers.configure(&learning(0, 1)).await;
    servers.asked(0).await;
    servers.configure(&paired(0, 1)).await;
    assert_eq!(servers.push(0, 1, 0, &[1]).await, Status::Applied);
    servers.answers_others(1, false);
    for number in 2..=4 {
        let taken = servers.apply(0, number, 0, &[100]);
        assert_eq!(taken, Status::Applied);
    }
    servers
}

fn slot(servers: &Servers, of: usize) -> Arc<Slot> {
    servers.all[of].server.state.slot((MODEL, 0)).unwrap()
}

#[tokio::test]
async fn a_follower_that_is_to_get_records_of_the_log_does_not_count_before_they_have_shown_that_its_history_is_this_one()
 {
    for durability in [Durability::Async, Durability::Sync] {
        let disk = FaultyDisk::new(Arc::new(MemoryDisk::default()));
        // Memory has nothing of what the other lacks.
        let little = |config: &mut ServerConfig| config.tail_records = 1;
        let any = "127.0.0.1:0";
        let all = vec![
            start_as(0, Some(Arc::new(MemoryDisk::default())), any, little).await,
            start_as(1, Some(Arc::new(disk.clone())), any, little).await,
        ];
        let mut servers = torn_apart(all, durability).await;
        // The other takes over, with the first still in its set, which it cannot reach.
        servers.answers_others(0, false);
        servers.answers_others(1, true);
        servers.epoch += 1;
        servers.revision += 1;
        servers.order(1, &paired(1, 0), false).await;
        for number in 2..=9 {
            assert_eq!(servers.apply(1, number, 0, &[1]), Status::Applied);
        }
        let log = servers.all[1].server.state.log.get().unwrap().clone();
        log.reached(log.next_offset()).await.unwrap();
        // Now it can, and what it needs to know whose history that is comes late from its disk.
        disk.hold(Operation::Read, "log-");
        servers.answers_others(0, true);
        tokio::time::sleep(A_WHILE).await;
        let safe = slot(&servers, 1).safe.safe();
        assert!(safe < Position(2), "{durability}: {safe} counts as safe");
        disk.mend();
        servers.same(1, 0).await;
        soon(|| (slot(&servers, 1).safe.safe() == Position(9)).then_some(())).await;
        assert_eq!(servers.pull(1, 1).await, Ok(vec![9]), "{durability}");
    }
}

#[tokio::test]
async fn who_held_a_partition_and_missed_an_acknowledged_push_does_not_say_that_it_has_its_position()
 {
    for durability in Durability::ALL {
        let all = vec![
            start(0, Some(Arc::new(MemoryDisk::default()))).await,
            start(1, Some(Arc::new(MemoryDisk::default()))).await,
        ];
        let mut servers = torn_apart(all, durability).await;
        servers.answers_others(1, true);
        servers.promote(&alone(1)).await;
        assert_eq!(servers.push(1, 2, 0, &[1]).await, Status::Applied);
        servers.order(0, &alone(1), false).await;
        let own = ReadMode::AtLeast(Position(2));
        assert_eq!(servers.pull_as(1, 1, own).await, Ok(vec![2]));
        // It has a position 4, of another history.
        let error = servers.pull_as(0, 1, own).await;
        assert_eq!(error, Err(ErrorCode::NotYet), "{durability}");
        servers.configure(&learning(1, 0)).await;
        servers.asked(1).await;
        assert_eq!(
            servers.pull_as(0, 1, own).await,
            Ok(vec![2]),
            "{durability}"
        );
    }
}

#[tokio::test]
async fn a_copy_that_comes_where_a_partition_was_lost_keeps_its_records_and_is_there_after_a_restart()
 {
    let small = LogOptions {
        segment_bytes: 512,
        sync_every: Duration::from_millis(1),
        floor_bytes: 16 << 10,
    };
    let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::default());
    let any = "127.0.0.1:0";
    let with_small = |config: &mut ServerConfig| config.log = small;
    let all = vec![
        start_as(0, Some(Arc::clone(&disk)), any, with_small).await,
        start(1, Some(Arc::new(MemoryDisk::default()))).await,
    ];
    let mut servers = Servers::of(all, spec(Durability::Sync, 10));
    servers.order(0, &alone(0), true).await;
    servers.configure(&learning(0, 1)).await;
    servers.asked(0).await;
    servers.configure(&paired(0, 1)).await;
    assert_eq!(servers.push(0, 1, 0, &[1]).await, Status::Applied);
    let state = Arc::clone(&servers.all[0].server.state);
    let log = state.log.get().unwrap().clone();
    let mut keeper = Keeper::new(Arc::clone(&state), Arc::clone(&disk), log.clone(), small);
    // A client remembers what is not here: the disk has that it is lost.
    let mut group = add(0, 0, &[1]);
    group.header.prev = Number(99);
    let error = code(&servers.all[0].server, "/v1/push", push(100, &[group])).await;
    assert_eq!(error.code, ErrorCode::Lost);
    keeper.look().await.unwrap();
    // The other has everything, and gives it.
    servers.promote(&learning(1, 0)).await;
    servers.asked(1).await;
    servers.configure(&paired(1, 0)).await;
    for number in 2..=30 {
        let pushed = servers.push(1, number, 0, &[1]).await;
        assert_eq!(pushed, Status::Applied);
        keeper.look().await.unwrap();
    }
    servers.same(1, 0).await;
    servers.all[0].stop.cancel();
    state.ending.cancel();
    log.close().await.unwrap();
    servers.all[0] = start_as(0, Some(disk), any, with_small).await;
    assert_eq!(servers.copy(0), servers.copy(1), "what was acknowledged");
}
