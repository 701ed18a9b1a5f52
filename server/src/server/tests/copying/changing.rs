//! Who is waited for, who may answer, and who is given up.

use glint_protocol::Durability;

use super::*;

async fn pair(durability: Durability) -> Servers {
    let mut servers = Servers::start(2, spec(durability, 10)).await;
    let mut configured = Configured::default();
    servers.order(0, &configured, true).await;
    configured.learners = vec![1];
    servers.configure(&configured).await;
    servers.asked(0).await;
    configured.learners.clear();
    configured.in_sync = vec![1];
    servers.configure(&configured).await;
    servers
}

#[tokio::test]
async fn a_push_waits_for_a_silent_follower_until_the_master_takes_it_out() {
    let mut servers = pair(Durability::Memory).await;
    assert_eq!(servers.push(0, 1, 0, &[1]).await, Status::Applied);
    // It answers nothing from here on.
    servers.all[1].stop.cancel();
    let follower = servers.all[1].server.state.clone();
    follower
        .registered
        .store(false, std::sync::atomic::Ordering::Release);
    let waiting = servers.push(0, 2, 0, &[1]);
    let waited = tokio::time::timeout(Duration::from_millis(300), waiting).await;
    assert!(waited.is_err(), "the follower does not have it");
    let asked = soon(|| {
        let change = copies::wanted(&servers.all[0].server.state).pop()?;
        change.in_sync.is_empty().then_some(change)
    })
    .await;
    assert_eq!(asked.epoch, servers.epoch());
    assert_eq!(servers.pull(0, 1).await, Err(ErrorCode::Retry), "no lease");
    servers
        .configure(&Configured {
            learners: vec![1],
            ..Configured::default()
        })
        .await;
    assert_eq!(servers.push(0, 2, 0, &[1]).await, Status::Applied);
    assert_eq!(servers.pull(0, 1).await, Ok(vec![2]));
}

#[tokio::test]
async fn the_holder_of_lost_values_has_the_others_let_go_of_their_copies() {
    for durability in Durability::ALL {
        let mut servers = pair(durability).await;
        assert_eq!(servers.push(0, 1, 0, &[1]).await, Status::Applied);
        let has_copy = |servers: &Servers| servers.all[1].server.state.slot((MODEL, 0)).is_some();
        assert!(has_copy(&servers));
        servers
            .promote(&Configured {
                former: vec![1],
                lost: true,
                ..Configured::default()
            })
            .await;
        let asked = servers.asked(0).await;
        assert_eq!(asked.detached, [servers.all[1].id.clone()]);
        assert!(asked.in_sync.is_empty());
        assert!(!has_copy(&servers), "{durability}");
        assert_eq!(servers.pull(0, 1).await, Err(ErrorCode::Lost));
    }
}

#[tokio::test]
async fn a_holder_that_hears_late_that_it_is_none_any_more_lets_its_copy_go_all_the_same() {
    for durability in Durability::ALL {
        let mut servers = pair(durability).await;
        let moved = Configured {
            holder: 1,
            former: vec![0],
            ..Configured::default()
        };
        servers.epoch += 1;
        servers.revision += 1;
        servers.order(1, &moved, false).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        // The new holder has told it to go, and it took itself for the holder.
        servers.order(0, &moved, false).await;
        let asked = servers.asked(1).await;
        assert_eq!(asked.detached, [servers.all[0].id.clone()], "{durability}");
        assert!(servers.all[0].server.state.slot((MODEL, 0)).is_none());
    }
}

#[tokio::test]
async fn an_order_that_comes_twice_tells_no_verdict_that_waits_for_a_learner_that_was_asked_for() {
    let mut servers = Servers::start(2, spec(Durability::Memory, 10)).await;
    let learning = Configured {
        learners: vec![1],
        ..Configured::default()
    };
    servers.order(0, &Configured::default(), true).await;
    servers.configure(&learning).await;
    // From here on the master may have added it.
    servers.asked(0).await;
    servers.answers_others(1, false);
    let mut waiting = servers.pushing(0, 1, 0, &[1]);
    for _ in 0..3 {
        servers.order(0, &learning, false).await;
        let waited = tokio::time::timeout(Duration::from_millis(100), &mut waiting).await;
        assert!(waited.is_err(), "the learner does not have it");
    }
    servers.answers_others(1, true);
    assert_eq!(waiting.await.unwrap(), Status::Applied);
    servers.same(0, 1).await;
}
