//! The client's conveniences: buffers that combine, iterators with prefetch, handles, the blocking facade, many at once.

use std::sync::{Arc, Mutex};

use glint::{BufferOptions, Error, Partitioning};
use glint_tests::cluster::Cluster;

#[tokio::test]
async fn a_buffer_shows_nothing_before_it_is_flushed_and_sums_after() {
    let cluster = Cluster::start(2).await;
    let client = cluster.client().await;
    let matrix = client.matrix::<f64>("m", 10, 3).create().await.unwrap();
    let buffer = matrix.buffered(BufferOptions::default());
    buffer.add(9, 2, 0.5).await.unwrap();
    buffer.add(9, 2, 0.25).await.unwrap();
    buffer.add(0, 0, -1.0).await.unwrap();
    assert_eq!(
        matrix.pull_pairs(&[(9, 2), (0, 0)]).await.unwrap(),
        [0.0, 0.0]
    );
    buffer.flush().await.unwrap();
    assert_eq!(
        matrix.pull_pairs(&[(9, 2), (0, 0)]).await.unwrap(),
        [0.75, -1.0]
    );
    buffer.flush().await.unwrap();
    buffer.add(9, 2, 0.25).await.unwrap();
    buffer.flush().await.unwrap();
    assert_eq!(matrix.pull_pairs(&[(9, 2)]).await.unwrap(), [1.0]);
    assert_eq!(client.stats().values_unflushed, 0);
    cluster.stop().await;
}

#[tokio::test]
async fn a_small_buffer_flushes_by_itself_and_loses_nothing_with_hot_rows_too() {
    let cluster = Cluster::start(2).await;
    let client = cluster.client().await;
    let (rows, cols) = (50_u64, 4_u32);
    let matrix = client
        .matrix::<i64>("m", rows, cols)
        .partitioning(Partitioning::Cyclic)
        .create()
        .await
        .unwrap();
    let buffer = matrix.buffered(BufferOptions {
        capacity: 16,
        hot_rows: 5,
        max_in_flight: 2,
        ..Default::default()
    });
    let mut expected = vec![0; rows as usize * cols as usize];
    for i in 0..5_000_u64 {
        let (row, col) = (i * i % rows, (i % u64::from(cols)) as u32);
        buffer.add(row, col, i as i64).await.unwrap();
        expected[(row * u64::from(cols)) as usize + col as usize] += i as i64;
    }
    assert!(client.stats().pushes > 10, "it never flushed by itself");
    buffer.flush().await.unwrap();
    assert_eq!(matrix.pull_row_range(0..rows).await.unwrap(), expected);
    cluster.stop().await;
}

#[tokio::test]
async fn operations_that_end_with_an_error_are_counted() {
    let cluster = Cluster::start(1).await;
    let client = cluster.client().await;
    let vector = client.vector::<i64>("v", 10).create().await.unwrap();
    vector.push(&[9], &[1]).await.unwrap();
    assert_eq!(client.stats().failed, 0);
    vector.push(&[10], &[1]).await.unwrap_err();
    client.delete("v").await.unwrap();
    vector.pull(&[9]).await.unwrap_err();
    vector.push_range(0, &[1; 10]).await.unwrap_err();
    let stats = client.stats();
    assert_eq!((stats.pushes, stats.pulls, stats.failed), (3, 1, 3));
    cluster.stop().await;
}

#[tokio::test]
async fn a_buffer_dropped_with_values_reports_how_many_were_lost() {
    let cluster = Cluster::start(1).await;
    let client = cluster.client().await;
    let matrix = client.matrix::<i64>("m", 10, 3).create().await.unwrap();
    let told = Arc::new(Mutex::new(Vec::new()));
    let options = || BufferOptions {
        capacity: 8,
        on_loss: Some(Arc::new({
            let told = Arc::clone(&told);
            move |values| told.lock().unwrap().push(values)
        })),
        ..BufferOptions::default()
    };
    let buffer = matrix.buffered(options());
    for row in 0..7 {
        buffer.add(row, 1, 1).await.unwrap();
    }
    let clone = buffer.clone();
    drop(buffer);
    assert_eq!(
        client.stats().values_unflushed,
        0,
        "there is another handle"
    );
    drop(clone);
    assert_eq!(client.stats().values_unflushed, 7);
    assert_eq!(*told.lock().unwrap(), [7]);
    assert_eq!(matrix.pull_row_range(0..10).await.unwrap(), [0; 30]);
    // What was pushed and acknowledged is not lost; what could not be pushed is, and is told once.
    let buffer = matrix.buffered(options());
    for row in 0..10 {
        buffer.add(row, 1, 1).await.unwrap();
    }
    buffer.flush().await.unwrap();
    client.delete("m").await.unwrap();
    for row in 0..8 {
        buffer.add(row, 1, 1).await.unwrap();
    }
    let error = buffer.flush().await.unwrap_err();
    assert!(matches!(error, Error::Gone { .. }), "{error:?}");
    drop(buffer);
    assert_eq!(*told.lock().unwrap(), [7, 8]);
    assert_eq!(client.stats().values_unflushed, 15);
    cluster.stop().await;
}

#[tokio::test]
async fn blocks_rows_and_columns_come_in_order_and_each_once() {
    let cluster = Cluster::start(2).await;
    let client = cluster.client().await;
    for (partitioning, name) in [
        (Partitioning::Range, "range"),
        (Partitioning::Cyclic, "cyclic"),
    ] {
        let (rows, cols) = (5_u64, 3_u32);
        let matrix = client
            .matrix::<f32>(name, rows, cols)
            .partitioning(partitioning)
            .partitions_per_server(2)
            .create()
            .await
            .unwrap();
        let values: Vec<f32> = (0..15).map(|v| v as f32).collect();
        matrix.push_row_range(0, &values).await.unwrap();
        for size in [1, 2, 5, 100] {
            let mut blocks = matrix.row_blocks(size).prefetch(1);
            let (mut seen, mut next) = (Vec::new(), 0);
            while let Some(block) = blocks.next().await.unwrap() {
                assert_eq!(block.start, next);
                next += block.rows() as u64;
                for i in 0..block.rows() {
                    seen.extend_from_slice(block.row(i));
                }
            }
            assert_eq!(seen, values, "blocks of {size}");
        }
        let (mut iterator, mut seen) = (matrix.rows_iter(), Vec::new());
        while let Some((row, values)) = iterator.next().await.unwrap() {
            assert_eq!(row as usize, seen.len() / cols as usize);
            seen.extend_from_slice(values);
        }
        assert_eq!(seen, values);
        let (mut iterator, mut at) = (matrix.columns_iter(), 0);
        while let Some((column, values)) = iterator.next().await.unwrap() {
            let expected: Vec<f32> = (0..rows).map(|r| (r * 3 + at) as f32).collect();
            assert_eq!((u64::from(column), values), (at, expected.as_slice()));
            at += 1;
        }
        assert_eq!(at, u64::from(cols));
    }
    cluster.stop().await;
}

#[tokio::test]
async fn many_small_operations_at_once_share_requests_and_lose_nothing() {
    let cluster = Cluster::start(1).await;
    let client = cluster.client().await;
    let vector = client.vector::<i64>("v", 100).create().await.unwrap();
    let before = client.stats();
    let pushes = (0..1_000_u64).map(|i| {
        let vector = vector.clone();
        async move { vector.push(&[i % 100], &[1]).await }
    });
    let done = futures_util::future::join_all(pushes).await;
    assert!(done.iter().all(Result::is_ok));
    assert_eq!(vector.pull_range(0..100).await.unwrap(), [10; 100]);
    let after = client.stats();
    assert_eq!(after.pushes - before.pushes, 1_000);
    let requests = after.requests - before.requests;
    assert!(
        requests < 500,
        "{requests} requests for 1000 pushes in flight at once"
    );
    cluster.stop().await;
}

#[test]
fn a_plain_thread_uses_the_blocking_client() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let cluster = runtime.block_on(Cluster::start(2));
    let url = cluster.url().to_owned();
    let thread = std::thread::spawn(move || {
        let client = glint::blocking::Client::connect(&url).unwrap();
        let vector = client
            .open_or_create(client.vector::<f64>("v", 100))
            .unwrap();
        vector.push(&[3, 97], &[0.5, 1.5]).unwrap();
        vector.push_range(96, &[1.0, 1.0]).unwrap();
        assert_eq!(vector.pull(&[97, 3]).unwrap(), [2.5, 0.5]);
        let matrix = client.create(client.matrix::<i32>("m", 4, 2)).unwrap();
        matrix.push_pairs(&[(3, 1)], &[7]).unwrap();
        assert_eq!(matrix.pull_rows(&[3]).unwrap(), [0, 7]);
        let expected = [[0, 0], [0, 0], [0, 0], [0, 7]];
        let blocks = matrix.row_blocks(3).prefetch(2);
        let blocks = blocks.collect::<Result<Vec<_>, _>>().unwrap();
        let starts: Vec<u64> = blocks.iter().map(|block| block.start).collect();
        assert_eq!(starts, [0, 3]);
        assert_eq!(blocks[1].values(), [0, 7]);
        for (at, row) in matrix.rows_iter().prefetch(0).enumerate() {
            assert_eq!(row.unwrap(), (at as u64, expected[at].to_vec()));
        }
        assert_eq!(matrix.rows_iter().count(), 4);
        let columns = matrix.columns_iter().prefetch(3);
        let columns: Vec<_> = columns.map(Result::unwrap).collect();
        assert_eq!(columns, [(0, vec![0; 4]), (1, vec![0, 0, 0, 7])]);
        client.delete("m").unwrap();
        assert_eq!(client.models().unwrap().len(), 1);
    });
    thread.join().unwrap();
    runtime.block_on(cluster.stop());
}

#[tokio::test]
async fn a_blocking_call_inside_an_async_runtime_is_an_error_and_no_panic() {
    let cluster = Cluster::start(1).await;
    let error = glint::blocking::Client::connect(cluster.url()).unwrap_err();
    assert!(matches!(error, glint::Error::InsideAsync), "{error}");
    cluster.stop().await;
}
