//! Where order matters (the last wins), it is kept: among pushes that await each other, and within one.

use glint::Rule;
use glint_tests::{
    cluster::Cluster,
    proxy::{Faults, Proxy},
};
use rand::{RngExt, SeedableRng, rngs::StdRng};

#[tokio::test]
async fn where_the_last_wins_late_copies_of_older_pushes_change_nothing_back() {
    let cluster = Cluster::start(2).await;
    let proxy = Proxy::new(61, Faults::HARSH);
    let client = cluster.client_through(&proxy).await;
    let vector = client.vector::<i64>("v", 50).rule(Rule::Assign);
    let vector = vector.partitions_per_server(2).create().await.unwrap();
    let (mut expected, mut dice) = ([0; 50], StdRng::seed_from_u64(61));
    for turn in 1..1_500 {
        let keys: Vec<u64> = (0..8).map(|_| dice.random_range(0..50)).collect();
        let values: Vec<i64> = (0..8).map(|at| turn * 8 + at).collect();
        vector.push(&keys, &values).await.unwrap();
        for (&key, &value) in keys.iter().zip(&values) {
            expected[key as usize] = value;
        }
        if turn % 100 == 0 {
            assert_eq!(
                vector.pull_range(0..50).await.unwrap(),
                expected,
                "turn {turn}"
            );
        }
    }
    proxy.settle().await;
    assert!(proxy.suffered().everything(), "{:?}", proxy.suffered());
    assert_eq!(vector.pull_range(0..50).await.unwrap(), expected);
    cluster.stop().await;
}

#[tokio::test]
async fn of_duplicate_keys_in_a_push_of_many_requests_the_last_wins() {
    let cluster = Cluster::start(2).await;
    let client = cluster.client().await;
    let vector = client.vector::<i64>("v", 1_000).rule(Rule::Assign);
    let vector = vector.partitions_per_server(2).create().await.unwrap();
    let keys: Vec<u64> = (0..500_000).map(|at| at * 31 % 1_000).collect();
    let values: Vec<i64> = (0..500_000).collect();
    let mut expected = vec![0; 1_000];
    for (&key, &value) in keys.iter().zip(&values) {
        expected[key as usize] = value;
    }
    for _ in 0..3 {
        vector.push(&keys, &values).await.unwrap();
        assert!(vector.pull_range(0..1_000).await.unwrap() == expected);
    }
    cluster.stop().await;
}
