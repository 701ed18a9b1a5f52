//! Who is suspected: also a holder that has never spoken to this start of its follower.

use glint_protocol::Durability;

use super::*;

/// Server 1 has a copy, in sync; server 2 knows of nothing.
async fn following() -> Servers {
    let mut servers = Servers::start(3, spec(Durability::Memory, 10)).await;
    let mut configured = Configured::default();
    servers.order(0, &configured, true).await;
    configured.learners = vec![1];
    servers.configure(&configured).await;
    servers.asked(0).await;
    configured.in_sync = std::mem::take(&mut configured.learners);
    servers.configure(&configured).await;
    servers.same(0, 1).await;
    servers
}

/// Whom server 1 suspects, and which start of it.
fn suspected(servers: &Servers) -> Vec<(ServerId, Boot)> {
    let silent = copies::suspected(&servers.all[1].server.state);
    silent.into_iter().map(|s| (s.server, s.boot)).collect()
}

fn named(servers: &Servers, server: usize) -> Vec<(ServerId, Boot)> {
    let running = &servers.all[server];
    vec![(running.id.clone(), running.server.boot())]
}

#[tokio::test]
async fn a_new_holder_that_never_sends_a_beacon_is_suspected() {
    let mut servers = following().await;
    assert_eq!(suspected(&servers), []);
    // Server 2 is made the holder, and dies before it hears of that.
    servers.epoch += 1;
    let promoted = Configured {
        holder: 2,
        in_sync: vec![1],
        ..Configured::default()
    };
    servers.order(1, &promoted, false).await;
    assert_eq!(suspected(&servers), [], "it has as long as any other");
    soon(|| (suspected(&servers) == named(&servers, 2)).then_some(())).await;
    // What comes late changes nothing: it names one that was the holder before.
    servers.epoch -= 1;
    servers.order(1, &Configured::default(), false).await;
    assert_eq!(suspected(&servers), named(&servers, 2));
}

#[tokio::test]
async fn orders_that_come_again_and_again_do_not_put_a_suspicion_off() {
    let mut servers = following().await;
    servers.epoch += 1;
    let promoted = Configured {
        holder: 2,
        in_sync: vec![1],
        ..Configured::default()
    };
    let repeated = async {
        while suspected(&servers).is_empty() {
            servers.order(1, &promoted, false).await;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let told = tokio::time::timeout(Duration::from_secs(20), repeated).await;
    assert!(told.is_ok(), "never suspected");
}

#[tokio::test]
async fn a_follower_that_takes_no_records_is_given_up_soon_in_memory_and_later_where_it_has_a_disk()
{
    let mut pairs = Vec::new();
    for durability in [Durability::Memory, Durability::Sync] {
        let mut servers = Servers::start(2, spec(durability, 10)).await;
        for running in &servers.all {
            let pulse = Pulse {
                suspicion_ms: 500,
                ..QUICK
            };
            let answer = Registered {
                pulse,
                ..registration(&running.server, Vec::new())
            };
            running.server.registered(answer).await.unwrap();
        }
        let mut configured = Configured::default();
        servers.order(0, &configured, true).await;
        configured.learners = vec![1];
        servers.configure(&configured).await;
        servers.asked(0).await;
        configured.in_sync = std::mem::take(&mut configured.learners);
        servers.configure(&configured).await;
        assert_eq!(servers.push(0, 1, 0, &[5]).await, Status::Applied);
        pairs.push(servers);
    }
    let mut waiting = Vec::new();
    for servers in &pairs {
        // Its beacons are answered as ever.
        servers.all[1].takes_nothing.store(true, Ordering::Relaxed);
        waiting.push(servers.pushing(0, 2, 0, &[1]));
    }
    let gives_up = |of: usize| {
        let wanted = copies::wanted(&pairs[of].all[0].server.state);
        wanted.iter().any(|change| change.in_sync.is_empty())
    };
    soon(|| {
        let disk = gives_up(1);
        let memory = gives_up(0);
        assert!(!disk || memory, "who has a disk may be slower");
        memory.then_some(())
    })
    .await;
    assert!(!gives_up(1), "who has a disk may be slower");
    assert_eq!(pairs[0].pull(0, 1).await, Ok(vec![6]), "it has its lease");
    assert!(waiting.iter().all(|push| !push.is_finished()));
    soon(|| gives_up(1).then_some(())).await;
}
