//! How a follower comes to have everything, and keeps it.

use glint_protocol::Durability;

use super::*;

pub(super) fn alone(holder: usize) -> Configured {
    Configured {
        holder,
        ..Configured::default()
    }
}

pub(super) fn learning(holder: usize, learner: usize) -> Configured {
    Configured {
        learners: vec![learner],
        ..alone(holder)
    }
}

pub(super) fn paired(holder: usize, follower: usize) -> Configured {
    Configured {
        in_sync: vec![follower],
        ..alone(holder)
    }
}

#[tokio::test]
async fn a_follower_gets_the_whole_state_while_pushes_go_on_and_is_then_asked_for() {
    for durability in Durability::ALL {
        // Several pieces, so that pushes come between them.
        let keys = 400_000;
        let mut servers = Servers::start(2, spec(durability, keys)).await;
        servers.order(0, &alone(0), true).await;
        assert_eq!(servers.push(0, 1, 0, &[1, 2, 3]).await, Status::Applied);
        servers.configure(&learning(0, 1)).await;
        for number in 2..60 {
            let at = number * 6_000;
            assert_eq!(servers.push(0, number, at, &[7; 50]).await, Status::Applied);
        }
        let asked = servers.asked(0).await;
        assert_eq!(asked.in_sync, [servers.all[1].id.clone()]);
        servers.configure(&paired(0, 1)).await;
        assert_eq!(servers.push(0, 60, 1, &[5]).await, Status::Applied);
        servers.same(0, 1).await;
        // A verdict that was told is at the follower.
        let (_, position, lanes) = servers.copy(1).unwrap();
        assert_eq!((position, lanes), (Position(60), 1), "{durability}");
    }
}

#[tokio::test]
async fn a_follower_of_a_partition_that_nobody_has_pushed_to_is_asked_for_once_it_says_that_it_has_it()
 {
    for durability in Durability::ALL {
        let disk = FaultyDisk::new(Arc::new(MemoryDisk::default()));
        let mut all = vec![start(0, Some(Arc::new(MemoryDisk::default()))).await];
        all.push(start(1, Some(Arc::new(disk.clone()))).await);
        let mut servers = Servers::of(all, spec(durability, 10));
        servers.order(0, &alone(0), true).await;
        disk.hold(Operation::Sync, "snapshot-");
        servers.configure(&learning(0, 1)).await;
        if durability.is_logged() {
            // It has got all that there is, position 0, and answers; but its disk does not have it.
            soon(|| servers.copy(1)).await;
            let asked = soon_or(Duration::from_millis(300), || {
                copies::wanted(&servers.all[0].server.state).pop()
            });
            assert!(asked.await.is_none(), "{durability}");
            disk.mend();
        }
        let asked = servers.asked(0).await;
        assert_eq!(asked.in_sync, [servers.all[1].id.clone()], "{durability}");
        let empty = (vec![0; 80], Position(0), 0);
        assert_eq!(servers.copy(1), Some(empty), "{durability}");
        servers.configure(&paired(0, 1)).await;
        // It counts from its first record on.
        assert_eq!(servers.push(0, 1, 0, &[5]).await, Status::Applied);
        let (_, position, lanes) = servers.copy(1).unwrap();
        assert_eq!((position, lanes), (Position(1), 1), "{durability}");
    }
}

#[tokio::test]
async fn an_in_sync_follower_that_is_promoted_has_everything_and_knows_every_number() {
    for durability in Durability::ALL {
        let mut servers = Servers::start(2, spec(durability, 10)).await;
        servers.order(0, &alone(0), true).await;
        servers.push(0, 1, 0, &[1, 2, 3]).await;
        servers.configure(&learning(0, 1)).await;
        servers.asked(0).await;
        servers.configure(&paired(0, 1)).await;
        assert_eq!(servers.push(0, 2, 0, &[10]).await, Status::Applied);
        servers.all[0].stop.cancel();
        servers.epoch += 1;
        servers.order(1, &alone(1), false).await;
        // Its promise to the old holder has to end first.
        let values = loop {
            match servers.pull(1, 4).await {
                Ok(values) => break values,
                Err(code) => assert_eq!(code, ErrorCode::Retry),
            }
        };
        assert_eq!(values, [11, 2, 3, 0]);
        assert_eq!(servers.push(1, 2, 0, &[10]).await, Status::Applied);
        assert_eq!(servers.pull(1, 1).await, Ok(vec![11]), "not applied again");
        assert_eq!(servers.push(1, 3, 0, &[100]).await, Status::Applied);
        assert_eq!(servers.pull(1, 1).await, Ok(vec![111]), "{durability}");
    }
}

#[tokio::test]
async fn a_partition_moves_by_following_and_promotion_and_the_old_copy_goes() {
    for durability in Durability::ALL {
        let mut servers = Servers::start(2, spec(durability, 10)).await;
        servers.order(0, &alone(0), true).await;
        servers.push(0, 1, 0, &[1]).await;
        servers.configure(&learning(0, 1)).await;
        servers.asked(0).await;
        servers.configure(&paired(0, 1)).await;
        let moved = Configured {
            former: vec![0],
            ..alone(1)
        };
        let before = servers.epoch();
        servers.promote(&moved).await;
        // Who held it says where it is now.
        let mut late = add(0, 0, &[1]);
        late.header.epoch = before;
        let error = code(&servers.all[0].server, "/v1/push", push(2, &[late])).await;
        assert_eq!(error.code, ErrorCode::StaleMap);
        if let Some(hint) = error.detail.unwrap().hint {
            assert_eq!(hint.server, servers.all[1].id);
        }
        assert_eq!(servers.push(1, 2, 0, &[1]).await, Status::Applied);
        let asked = servers.asked(1).await;
        assert_eq!(asked.detached, [servers.all[0].id.clone()]);
        assert!(servers.copy(0).is_none(), "{durability}");
    }
}

#[tokio::test]
async fn the_state_of_a_partition_goes_no_faster_than_the_rate_allows() {
    const RATE: u64 = 4 << 20;
    // Eight pieces.
    let spec = spec(Durability::Memory, 1 << 20);
    let mut all = Vec::new();
    for index in 0..2 {
        let limited = |config: &mut ServerConfig| config.move_rate = Some(RATE);
        all.push(start_as(index, None, "127.0.0.1:0", limited).await);
    }
    let mut servers = Servers::of(all, spec);
    servers.order(0, &alone(0), true).await;
    let began = Instant::now();
    servers.configure(&learning(0, 1)).await;
    // Pushes do not wait for that.
    for number in 1..20 {
        assert_eq!(servers.push(0, number, number, &[7]).await, Status::Applied);
    }
    let arrived = || {
        let load = servers.all[1].server.state.load();
        (load.arriving_bytes, load.arrived_bytes)
    };
    // What has come is told meanwhile, and that it takes memory.
    let some = soon(|| {
        let (arriving, arrived) = arrived();
        (arrived > 0).then_some((arriving, arrived))
    })
    .await;
    assert!(some.0 == 8 << 20 && some.1 < 8 << 20, "{some:?}");
    soon(|| (arrived() == (0, 8 << 20)).then_some(())).await;
    servers.same(0, 1).await;
    // The last piece goes when those before are paid for, of which a few milliseconds' worth were free.
    let least = Duration::from_secs_f64(f64::from(7 << 20) / RATE as f64 - 0.1);
    assert!(began.elapsed() >= least, "{:?}", began.elapsed());
    // It has come once acknowledgements wait for it: nothing is on its way any more.
    servers.asked(0).await;
    soon(|| (arrived() == (0, 0)).then_some(())).await;
}
