//! What the original Glint could do and tested, done again: models of every type, sums, order, shapes, partitions.
//! The names follow the lines of its test suite; partition arithmetic itself is tested where it lives, in the protocol.

use glint::{Element, Partitioning, Rule};
use glint_protocol::Partitions;
use glint_tests::cluster::Cluster;

/// Values of a type that show its range: negative, and beyond 32 bits where the type has them.
trait Sample: Element {
    fn sample(at: u64) -> Self;
}
impl Sample for i32 {
    fn sample(at: u64) -> Self {
        -7 + 100_003 * at as i32
    }
}
impl Sample for i64 {
    fn sample(at: u64) -> Self {
        -7 + 5_000_000_000 * at as i64
    }
}
impl Sample for f32 {
    fn sample(at: u64) -> Self {
        -0.25 + 1.5 * at as f32
    }
}
impl Sample for f64 {
    fn sample(at: u64) -> Self {
        -0.1 + 1e10 * at as f64
    }
}

async fn a_vector_gives_back_what_was_stored<T: Sample>(servers: usize) {
    let cluster = Cluster::start(servers).await;
    let client = cluster.client().await;
    let vector = client
        .vector::<T>("v", 1_000)
        .partitions_per_server(3)
        .create()
        .await
        .unwrap();
    let keys = [0, 999, 500, 7, 333];
    let values: Vec<T> = keys.iter().map(|&k| T::sample(k)).collect();
    vector.push(&keys, &values).await.unwrap();
    assert_eq!(vector.pull(&keys).await.unwrap(), values);
    let mut into = [T::default(); 2];
    vector.pull_into(&[500, 1], &mut into).await.unwrap();
    assert_eq!(into, [T::sample(500), T::default()]);
    vector
        .push_range(998, &[T::sample(1), T::sample(2)])
        .await
        .unwrap();
    let all = vector.pull_range(0..1_000).await.unwrap();
    assert_eq!(all[998], T::sample(1));
    assert_eq!(all[999], T::sample(999).plus(T::sample(2)));
    let mut into = vec![T::default(); 3];
    vector.pull_range_into(332..335, &mut into).await.unwrap();
    assert_eq!(into, [T::default(), T::sample(333), T::default()]);
    cluster.stop().await;
}

async fn a_matrix_gives_back_what_was_stored<T: Sample>(
    servers: usize,
    partitioning: Partitioning,
) {
    let cluster = Cluster::start(servers).await;
    let client = cluster.client().await;
    let (rows, cols) = (49_u64, 6_u32);
    let matrix = client.matrix::<T>("m", rows, cols);
    let matrix = matrix
        .partitioning(partitioning)
        .partitions_per_server(8)
        .create()
        .await
        .unwrap();
    let pairs = [(48, 5), (0, 0), (20, 3), (20, 2)];
    let values: Vec<T> = (1..5).map(T::sample).collect();
    matrix.push_pairs(&pairs, &values).await.unwrap();
    assert_eq!(matrix.pull_pairs(&pairs).await.unwrap(), values);
    let row: Vec<T> = (0..6).map(T::sample).collect();
    matrix
        .push_rows(&[20, 48], &[row.clone(), row.clone()].concat())
        .await
        .unwrap();
    let pulled = matrix.pull_rows(&[48, 0, 20]).await.unwrap();
    assert_eq!(pulled.len(), 18);
    for col in 0..6 {
        let at = |row, col| {
            pairs
                .iter()
                .position(|&p| p == (row, col))
                .map_or(T::default(), |i| values[i])
        };
        assert_eq!(pulled[col], at(48, col as u32).plus(row[col]));
        assert_eq!(pulled[6 + col], at(0, col as u32));
        assert_eq!(pulled[12 + col], at(20, col as u32).plus(row[col]));
    }
    matrix.push_row_range(19, &row).await.unwrap();
    let mut into = vec![T::default(); 12];
    matrix.pull_row_range_into(18..20, &mut into).await.unwrap();
    assert_eq!(into[..6], [T::default(); 6]);
    assert_eq!(into[6..], row);
    let mut one = [T::default()];
    matrix.pull_pairs_into(&[(19, 5)], &mut one).await.unwrap();
    assert_eq!(one[0], row[5]);
    cluster.stop().await;
}

macro_rules! of_every_type {
    ($($type:ident)*) => { $(mod $type {
        use super::*;

        #[tokio::test]
        async fn a_vector_on_one_server_gives_back_what_was_stored() {
            a_vector_gives_back_what_was_stored::<$type>(1).await;
        }
        #[tokio::test]
        async fn a_vector_on_three_servers_gives_back_what_was_stored() {
            a_vector_gives_back_what_was_stored::<$type>(3).await;
        }
        #[tokio::test]
        async fn a_matrix_by_ranges_gives_back_what_was_stored() {
            a_matrix_gives_back_what_was_stored::<$type>(2, Partitioning::Range).await;
        }
        #[tokio::test]
        async fn a_cyclic_matrix_gives_back_what_was_stored() {
            a_matrix_gives_back_what_was_stored::<$type>(3, Partitioning::Cyclic).await;
        }
    })* };
}
of_every_type!(i32 i64 f32 f64);

#[tokio::test]
async fn partitions_are_what_was_asked_per_server_but_never_more_than_keys() {
    // servers, keys, per server, expected: 2×1, 2×3, 3×1, 3×8, fewer rows than servers, more rows than servers
    for (servers, keys, per_server, expected) in [
        (2, 4_200, 1, 2),
        (2, 4_200, 3, 6),
        (3, 4_200, 1, 3),
        (3, 4_200, 8, 24),
        (3, 2, 1, 2),
        (2, 49, 1, 2),
    ] {
        let cluster = Cluster::start(servers).await;
        let client = cluster.client().await;
        let builder = client
            .vector::<f64>("v", keys)
            .partitions_per_server(per_server);
        builder.create().await.unwrap();
        let builder = client
            .matrix::<i64>("m", keys, 3)
            .partitions_per_server(per_server);
        builder.create().await.unwrap();
        for model in client.models().await.unwrap() {
            assert_eq!(
                model.spec.partition_count, expected,
                "{servers} × {per_server}"
            );
            assert_eq!(model.spec.partitions, Partitions::PerServer(per_server));
        }
        let spread = cluster.partitions_per_server().await;
        let (least, most) = (spread.iter().min().unwrap(), spread.iter().max().unwrap());
        assert!(most - least <= 2, "uneven: {spread:?}");
        cluster.stop().await;
    }
}

#[tokio::test]
async fn two_pushes_add_up_and_duplicate_keys_accumulate_in_order_of_the_request() {
    let cluster = Cluster::start(2).await;
    let client = cluster.client().await;
    let vector = client
        .vector::<i64>("v", 10)
        .partitions_per_server(2)
        .create()
        .await
        .unwrap();
    vector.push(&[3, 9, 3], &[1, 10, 100]).await.unwrap();
    vector.push(&[9, 3], &[5, 7]).await.unwrap();
    assert_eq!(vector.pull(&[3, 9, 0, 3]).await.unwrap(), [108, 15, 0, 108]);
    let matrix = client.matrix::<f64>("m", 5, 2).create().await.unwrap();
    matrix
        .push_pairs(&[(4, 1), (0, 0), (4, 1)], &[0.5, 1.0, 0.25])
        .await
        .unwrap();
    matrix
        .push_rows(&[4, 4], &[1.0, 2.0, 3.0, 4.0])
        .await
        .unwrap();
    assert_eq!(
        matrix.pull_rows(&[4, 0, 4]).await.unwrap(),
        [4.0, 6.75, 1.0, 0.0, 4.0, 6.75]
    );
    cluster.stop().await;
}

#[tokio::test]
async fn empty_requests_are_done_at_once() {
    let cluster = Cluster::start(1).await;
    let client = cluster.client().await;
    let vector = client.vector::<i32>("v", 10).create().await.unwrap();
    let matrix = client.matrix::<i32>("m", 10, 3).create().await.unwrap();
    let before = client.stats().requests;
    assert_eq!(vector.pull(&[]).await.unwrap(), Vec::<i32>::new());
    assert_eq!(vector.pull_range(4..4).await.unwrap(), Vec::<i32>::new());
    vector.push(&[], &[]).await.unwrap();
    vector.push_range(10, &[]).await.unwrap();
    assert_eq!(matrix.pull_rows(&[]).await.unwrap(), Vec::<i32>::new());
    assert_eq!(matrix.pull_pairs(&[]).await.unwrap(), Vec::<i32>::new());
    matrix.push_rows(&[], &[]).await.unwrap();
    matrix.push_pairs(&[], &[]).await.unwrap();
    assert_eq!(client.stats().requests, before);
    cluster.stop().await;
}

#[tokio::test]
async fn an_empty_model_is_a_model() {
    let cluster = Cluster::start(2).await;
    let client = cluster.client().await;
    let vector = client.vector::<f32>("v", 0).create().await.unwrap();
    assert_eq!(vector.pull_range(0..0).await.unwrap(), Vec::<f32>::new());
    assert!(vector.pull(&[0]).await.is_err());
    let matrix = client.matrix::<f32>("m", 0, 3).create().await.unwrap();
    assert!(matrix.row_blocks(10).next().await.unwrap().is_none());
    assert!(matrix.rows_iter().next().await.unwrap().is_none());
    assert_eq!(client.models().await.unwrap().len(), 2);
    cluster.stop().await;
}

#[tokio::test]
async fn a_million_doubles_survive_a_push_and_a_pull_though_they_take_many_requests() {
    let cluster = Cluster::start(2).await;
    let client = cluster.client().await;
    let vector = client.vector::<f64>("v", 1_000_000).create().await.unwrap();
    let keys: Vec<u64> = (0..1_000_000).map(|i| i * 7_919 % 1_000_000).collect();
    let values: Vec<f64> = keys.iter().map(|&k| (k as f64).sqrt()).collect();
    vector.push(&keys, &values).await.unwrap();
    assert!(vector.pull(&keys).await.unwrap() == values);
    let all = vector.pull_range(0..1_000_000).await.unwrap();
    assert!((0..1_000_000).all(|k| all[k] == (k as f64).sqrt()));
    vector.push_range(0, &all).await.unwrap();
    assert_eq!(
        vector.pull(&[999_999]).await.unwrap(),
        [2.0 * 999_999_f64.sqrt()]
    );
    cluster.stop().await;
}

#[tokio::test]
async fn a_matrix_whose_rows_are_longer_than_a_request_is_pulled_and_pushed_whole() {
    let cluster = Cluster::start(2).await;
    let client = cluster.client().await;
    let cols = 600_000_u32;
    let matrix = client.matrix::<f32>("m", 3, cols).create().await.unwrap();
    let row: Vec<f32> = (0..cols).map(|c| c as f32).collect();
    matrix
        .push_rows(&[2, 0], &[row.clone(), row.clone()].concat())
        .await
        .unwrap();
    let pulled = matrix.pull_rows(&[0, 1, 2]).await.unwrap();
    let cols = cols as usize;
    assert!(pulled[..cols] == row && pulled[2 * cols..] == row);
    assert!(pulled[cols..2 * cols].iter().all(|&v| v == 0.0));
    assert!(matrix.pull_row_range(2..3).await.unwrap() == row);
    cluster.stop().await;
}

#[tokio::test]
async fn rules_other_than_add_and_an_initial_value_do_what_they_say() {
    let cluster = Cluster::start(2).await;
    let client = cluster.client().await;
    for (rule, expected) in [
        (Rule::Add, [5 + 3 + 9, 5 - 2]),
        (Rule::Assign, [9, -2]),
        (Rule::Max, [9, 5]),
        (Rule::Min, [3, -2]),
    ] {
        let vector = client
            .vector::<i64>(rule.name(), 4)
            .initial(5)
            .rule(rule)
            .create()
            .await
            .unwrap();
        vector.push(&[0, 3, 0], &[3, -2, 9]).await.unwrap();
        assert_eq!(vector.pull(&[0, 3]).await.unwrap(), expected, "{rule}");
        assert_eq!(vector.pull(&[1, 2]).await.unwrap(), [5, 5]);
    }
    let floats = client
        .vector::<f32>("floats", 2)
        .initial(f32::NEG_INFINITY)
        .rule(Rule::Max);
    let floats = floats.create().await.unwrap();
    floats.push(&[0, 1], &[1.5, f32::NAN]).await.unwrap();
    let pulled = floats.pull(&[0, 1]).await.unwrap();
    assert!(pulled[0] == 1.5 && pulled[1].is_nan());
    cluster.stop().await;
}

#[tokio::test]
async fn integers_wrap_around_and_nan_is_a_value() {
    let cluster = Cluster::start(1).await;
    let client = cluster.client().await;
    let integers = client.vector::<i32>("i", 2).create().await.unwrap();
    integers.push(&[0, 0], &[i32::MAX, 1]).await.unwrap();
    assert_eq!(integers.pull(&[0]).await.unwrap(), [i32::MIN]);
    let floats = client.vector::<f64>("f", 3).create().await.unwrap();
    floats
        .push(&[0, 1], &[f64::NAN, f64::INFINITY])
        .await
        .unwrap();
    floats.push(&[0, 1], &[1.0, 1.0]).await.unwrap();
    let pulled = floats.pull(&[0, 1, 2]).await.unwrap();
    assert!(pulled[0].is_nan() && pulled[1].is_infinite() && pulled[2] == 0.0);
    cluster.stop().await;
}
