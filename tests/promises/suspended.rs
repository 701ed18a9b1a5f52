//! A client that slept through everything: its lanes are forgotten, all that it used has moved.

use std::{sync::mpsc, thread, time::Duration};

use futures_util::future::join_all;
use glint::{Client, ClientOptions, Error};
use glint_tests::cluster::Cluster;
use tokio::time::Instant;

use crate::moving::move_all;

/// The cluster's longest deadline: lanes are forgotten after ten times that, as after 100 minutes by default.
const LONGEST: Duration = Duration::from_millis(200);
/// How many pushes are under way when it falls asleep.
const AT_ONCE: usize = 16;

/// What came of the pushes of a client that was suspended.
#[derive(Debug, Default)]
struct Came {
    before: i64,
    after: i64,
    unknown: i64,
    lanes_before: u64,
    lanes_after: u64,
}

fn settle(pushed: Result<(), Error>, sure: &mut i64, unknown: &mut i64) {
    match pushed {
        Ok(()) => *sure += 1,
        Err(Error::Unknown { .. }) => *unknown += 1,
        // Certainly not applied.
        Err(Error::DeadlineExceeded { .. }) => {}
        Err(other) => panic!("{other}"),
    }
}

/// A client with a thread of its own, which is suspended in the midst of pushing and goes on when it is told to.
fn sleeper(url: &str, asleep: &mpsc::Sender<()>, wake: &mpsc::Receiver<()>) -> Came {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let options = ClientOptions {
            deadline: LONGEST,
            first_pause: Duration::from_millis(1),
            longest_pause: Duration::from_millis(50),
            ..ClientOptions::default()
        };
        let client = Client::builder(url).options(options).connect();
        let client = client.await.unwrap();
        let vector = client.open_vector::<i64>("v").await.unwrap();
        let mut came = Came::default();
        let pushers = || {
            let push = |v: glint::Vector<i64>| async move { v.push(&[3, 4], &[1, 1]).await };
            let vectors = std::iter::repeat_with(|| vector.clone()).take(AT_ONCE);
            vectors.map(|v| tokio::spawn(push(v))).collect::<Vec<_>>()
        };
        for pushed in join_all(pushers()).await {
            settle(pushed.unwrap(), &mut came.before, &mut came.unknown);
        }
        came.lanes_before = client.stats().lanes_opened;
        let under_way = pushers();
        // Some are on their way, and their answers come while nobody listens; others have not left.
        for _ in 0..4 {
            tokio::task::yield_now().await;
        }
        asleep.send(()).unwrap();
        wake.recv().unwrap();
        for pushed in join_all(under_way).await {
            settle(pushed.unwrap(), &mut came.after, &mut came.unknown);
        }
        let until = Instant::now() + Duration::from_secs(20);
        let woken = came.after;
        while came.after < woken + 50 {
            assert!(Instant::now() < until, "it does not go on: {came:?}");
            let pushed = vector.push(&[3, 4], &[1, 1]).await;
            settle(pushed, &mut came.after, &mut came.unknown);
            // A read may run into its deadline as well; it must not be of what was before.
            if let Ok(values) = vector.pull(&[3, 4]).await {
                assert_eq!(values[0], values[1]);
                assert!(values[0] >= came.before + came.after, "{values:?} {came:?}");
            }
        }
        came.lanes_after = client.stats().lanes_opened;
        came
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_sleeps_until_its_lanes_are_forgotten_and_everything_has_moved_goes_on_exactly()
 {
    let cluster = Cluster::with_max_deadline(2, LONGEST).await;
    let client = cluster.client_for(LONGEST).await;
    let vector = client.vector::<i64>("v", 64).partitions(8);
    let vector = vector.create().await.unwrap();
    move_all(&cluster, "v", "server-0").await;
    let (asleep, sleeps) = mpsc::channel();
    let (wake, woken) = mpsc::channel();
    let url = cluster.url().to_owned();
    let sleeper = thread::spawn(move || sleeper(&url, &asleep, &woken));
    tokio::task::block_in_place(|| sleeps.recv_timeout(Duration::from_secs(20))).unwrap();
    move_all(&cluster, "v", "server-1").await;
    // The new holder forgets its lanes; that it has is seen by those which have to be opened anew.
    tokio::time::sleep(LONGEST * 20).await;
    wake.send(()).unwrap();
    let came = tokio::task::block_in_place(|| sleeper.join()).unwrap();
    assert!(came.before > 0 && came.after >= 50, "{came:?}");
    assert!(
        came.lanes_after > came.lanes_before,
        "its lanes were never forgotten: {came:?}"
    );
    let counted = vector.pull(&[3, 4]).await.unwrap();
    assert_eq!(counted[0], counted[1]);
    let sure = came.before + came.after;
    println!("{came:?}, counted {counted:?}");
    assert!(
        (sure..=sure + came.unknown).contains(&counted[0]),
        "{counted:?}: {came:?}"
    );
    cluster.stop().await;
}
