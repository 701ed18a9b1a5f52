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
