//! Models with copies: a server may be lost for good while training goes on, and nothing that was acknowledged is.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::Duration,
};

use glint::{Durability, Vector};
use glint_server::log::LogOptions;
use glint_tests::cluster::Cluster;
use tokio::task::JoinSet;

pub(crate) const KEYS: u64 = 1000;

async fn cluster(durability: Durability, servers: usize) -> Cluster {
    if durability == Durability::Memory {
        Cluster::start(servers).await
    } else {
        Cluster::durable(servers, LogOptions::default()).await
    }
}

/// A model with two copies of each partition, all of them in sync.
async fn twofold(cluster: &Cluster, durability: Durability) -> Vector<i64> {
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
    counts
}

/// Pushes that go on until they are ended, and how many there were.
pub(crate) struct Load {
    end: Arc<AtomicBool>,
    pushed: Arc<AtomicI64>,
    tasks: JoinSet<()>,
}

impl Load {
    pub(crate) fn start(counts: &Vector<i64>) -> Self {
        let (end, pushed) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicI64::new(0)),
        );
        let mut tasks = JoinSet::new();
        for _ in 0..4 {
            let (counts, end, pushed) = (counts.clone(), Arc::clone(&end), Arc::clone(&pushed));
            tasks.spawn(async move {
                while !end.load(Ordering::Relaxed) {
                    counts.push_range(0, &[1; KEYS as usize]).await.unwrap();
                    pushed.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        Self { end, pushed, tasks }
    }

    pub(crate) async fn so_many_more(&self, more: i64) {
        let until = self.pushed.load(Ordering::Relaxed) + more;
        let enough = async {
            while self.pushed.load(Ordering::Relaxed) < until {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), enough)
            .await
            .expect("pushes go on");
    }

    pub(crate) async fn end(self) -> i64 {
        self.end.store(true, Ordering::Relaxed);
        self.tasks.join_all().await;
        self.pushed.load(Ordering::Relaxed)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_is_lost_for_good_under_load_and_nothing_acknowledged_is() {
    for durability in Durability::ALL {
        let mut cluster = cluster(durability, 3).await;
        let counts = twofold(&cluster, durability).await;
        let load = Load::start(&counts);
        load.so_many_more(20).await;
        cluster.kill_server(0).await;
        load.so_many_more(50).await;
        let pushed = load.end().await;
        assert_eq!(
            counts.pull_range(0..KEYS).await.unwrap(),
            [pushed; KEYS as usize],
            "{durability}"
        );
        cluster.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_restart_one_after_another_under_load_and_no_call_fails() {
    for durability in Durability::ALL {
        let mut cluster = cluster(durability, 3).await;
        let counts = twofold(&cluster, durability).await;
        let load = Load::start(&counts);
        for server in 0..3 {
            load.so_many_more(10).await;
            cluster.stop_server(server).await;
            load.so_many_more(10).await;
            cluster.start_server(server).await;
            cluster.wait_for_copies("counts", 2).await;
        }
        let pushed = load.end().await;
        assert_eq!(
            counts.pull_range(0..KEYS).await.unwrap(),
            [pushed; KEYS as usize],
            "{durability}"
        );
        cluster.stop().await;
    }
}
