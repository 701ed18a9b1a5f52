//! A stranger's client, written from docs/protocol.md alone: it meets the same faults, and its sums are exact too.

use std::{path::Path, process::Stdio};

use glint_tests::{
    cluster::Cluster,
    proxy::{Faults, Proxy},
};
use tokio::process::Command;

/// Runs a program of tests/python and gives what it printed.
async fn python(program: &str, arguments: &[&str]) -> String {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("python");
    let output = Command::new("python3")
        .arg(directory.join(program))
        .args(arguments)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .expect("python3 runs");
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{program} failed:\n{out}\n{err}");
    out.into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_creates_opens_pulls_and_pushes_in_binary_and_in_json() {
    let cluster = Cluster::start(2).await;
    python("basics.py", &[cluster.url()]).await;
    let client = cluster.client().await;
    let vector = client.open_vector::<f64>("from-python").await.unwrap();
    assert_eq!(vector.pull(&[0, 9]).await.unwrap(), [1.5, 2.5]);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn its_pushes_through_faults_count_once() {
    let proxy = Proxy::new(41, Faults::HARSH);
    let cluster = Cluster::start_behind(&proxy, 2).await;
    let keys = "40";
    let printed = python(
        "faults.py",
        &[&cluster.url_through(&proxy).await, keys, "400"],
    )
    .await;
    let mut lines = printed.lines();
    let sums: Vec<i64> = serde_json::from_str(lines.next().unwrap()).unwrap();
    let retries: u64 = lines.next().unwrap().parse().unwrap();
    proxy.settle().await;
    let suffered = proxy.suffered();
    assert!(suffered.everything(), "{suffered:?}");
    assert!(retries > 0, "it never had to retry");
    proxy.set(Faults::NONE);
    let client = cluster.client().await;
    let vector = client.open_vector::<i64>("faulty").await.unwrap();
    assert_eq!(vector.pull_range(0..40).await.unwrap(), sums);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_survives_a_stale_map() {
    let mut cluster = Cluster::start(2).await;
    let client = cluster.client().await;
    let vector = client
        .vector::<i64>("stale", 10)
        .partitions_per_server(2)
        .create()
        .await
        .unwrap();
    let url = cluster.url().to_owned();
    let running = tokio::spawn(async move { python("stale.py", &[&url, "200"]).await });
    while vector.pull(&[0]).await.unwrap()[0] < 20 {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    cluster.raise_epochs().await;
    let refreshes: u64 = running.await.unwrap().trim().parse().unwrap();
    assert!(refreshes > 0, "its map was never stale");
    assert_eq!(vector.pull_range(0..10).await.unwrap(), [200; 10]);
    cluster.stop().await;
}
