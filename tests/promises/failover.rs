//! Who takes over, and how soon: also when both that have copies are gone for a while, and when a server is told to end.

use std::time::Duration;

use glint::Durability;
use glint_protocol::copies::Pulse;
use glint_server::log::LogOptions;
use glint_tests::cluster::Cluster;
use tokio::time::timeout;

use crate::copies::{KEYS, Load};

/// The server that holds the only partition of `counts`.
async fn holder(client: &glint::Client) -> usize {
    let map = client.map("counts").await.unwrap();
    let name = &map.holder(0).unwrap().0.id.0;
    name.strip_prefix("server-").unwrap().parse().unwrap()
}

/// Both servers end at once; one of them comes back. It follows what the other held, and has never heard it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_comes_back_before_its_dead_holder_takes_over() {
    for (durability, first) in [
        (Durability::Async, 0),
        (Durability::Sync, 0),
        (Durability::Sync, 1),
    ] {
        let mut cluster = Cluster::durable(2, LogOptions::default()).await;
        let client = cluster.client().await;
        let counts = client
            .vector::<i64>("counts", KEYS)
            .partitions(6)
            .durability(durability)
            .copies(2)
            .create()
            .await
            .unwrap();
        cluster.wait_for_copies("counts", 2).await;
        let held = cluster.partitions_per_server().await;
        assert!(held.iter().all(|&held| held > 0), "each follows the other");
        counts.push_range(0, &[1; KEYS as usize]).await.unwrap();
        cluster.kill_server(1 - first).await;
        cluster.kill_server(first).await;
        cluster.start_server(first).await;
        let pushed = counts.push_range(0, &[1; KEYS as usize]);
        let pushed = timeout(Duration::from_secs(20), pushed).await;
        pushed.expect("pushes go on without the other").unwrap();
        let values = counts.pull_range(0..KEYS).await.unwrap();
        assert_eq!(values, [2; KEYS as usize], "{durability}");
        // The other has nothing that counts any more, and gets what it has missed.
        cluster.start_server(1 - first).await;
        cluster.wait_for_copies("counts", 2).await;
        cluster.kill_server(first).await;
        let values = timeout(Duration::from_secs(20), counts.pull_range(0..KEYS)).await;
        assert_eq!(values.unwrap().unwrap(), [2; KEYS as usize], "{durability}");
        cluster.stop().await;
    }
}

/// Nobody suspects anybody in this test, and no lease ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_told_to_end_hands_over_at_once() {
    const FAR: Duration = Duration::from_secs(120);
    for durability in Durability::ALL {
        let mut cluster = Cluster::prepare(3);
        // Who is asked to end is the holder still.
        cluster.keeps_places();
        if durability != Durability::Memory {
            cluster.has_directories(LogOptions::default());
        }
        cluster.set_pulse(Pulse {
            lease_ms: FAR.as_millis() as u64,
            suspicion_ms: FAR.as_millis() as u64,
            ..Pulse::default()
        });
        cluster.start_all().await;
        let client = cluster.client().await;
        let counts = client.vector::<i64>("counts", KEYS).partitions(1);
        let counts = counts.durability(durability).copies(2);
        let counts = counts.create().await.unwrap();
        cluster.wait_for_copies("counts", 2).await;
        let load = Load::start(&counts);
        load.so_many_more(20).await;
        cluster.stop_server(holder(&client).await).await;
        // This gives up long before anything could be noticed.
        load.so_many_more(50).await;
        let pushed = load.end().await;
        let values = counts.pull_range(0..KEYS).await.unwrap();
        assert_eq!(values, [pushed; KEYS as usize], "{durability}");
        cluster.stop().await;
    }
}
