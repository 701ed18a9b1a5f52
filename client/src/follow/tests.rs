//! Partitions that move while they are used: nobody waits for where they were, nothing is lost, nothing counts twice, and the
//! master is not asked more than it must be.

use std::time::Duration;

use glint_protocol::{ErrorCode, frame::Op};
use tokio::{task::JoinHandle, time::Instant};

use crate::{
    BufferOptions, Client, Error, Result, Vector,
    testing::{Fake, Fault},
};

const NEVER: Fault = Fault::Late(Duration::from_secs(100_000));

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

async fn open(fake: &Fake, coalesce: bool) -> Vector<i64> {
    let builder = fake.builder().lanes(1).coalesce(coalesce);
    let client = builder
        .deadline(Duration::from_secs(60))
        .connect()
        .await
        .unwrap();
    client.open_vector("v").await.unwrap()
}

/// A vector whose map is being followed.
async fn followed(fake: &Fake, coalesce: bool) -> Vector<i64> {
    let vector = open(fake, coalesce).await;
    vector.push(&[], &[]).await.unwrap();
    tokio::time::sleep(ms(200)).await;
    assert_eq!(fake.state().polls_open, 1);
    vector
}

fn push(vector: &Vector<i64>, key: u64, value: i64) -> JoinHandle<Result<()>> {
    let vector = vector.clone();
    tokio::spawn(async move { vector.push(&[key], &[value]).await })
}

/// Moves a partition, and says how long it took then until `ended`.
async fn moved_away<T>(fake: &Fake, partition: usize, ended: JoinHandle<T>) -> (T, Duration) {
    tokio::time::sleep(ms(300)).await;
    fake.move_away(partition);
    let began = Instant::now();
    (ended.await.unwrap(), began.elapsed())
}

#[tokio::test(start_paused = true)]
async fn a_push_that_the_old_holder_never_answers_goes_to_the_new_one_under_its_number() {
    // Whether it was applied there or not.
    for fault in [NEVER, Fault::Silence] {
        let fake = Fake::new(10, 1);
        let vector = followed(&fake, true).await;
        let obeyed = matches!(fault, Fault::Late(_));
        fake.fail([fault]);
        let (end, took) = moved_away(&fake, 0, push(&vector, 3, 5)).await;
        end.unwrap();
        assert!(took < ms(20), "{took:?}");
        assert_eq!(fake.sum(), 5);
        let seen = fake.state().seen.clone();
        let first = usize::from(!obeyed);
        let servers: Vec<_> = seen.iter().map(|s| s.server).collect();
        assert_eq!(servers, [0, 1][first..]);
        assert!(
            seen.iter()
                .all(|s| s.number.0 == 1 && s.lane == seen[0].lane)
        );
        vector.push(&[3], &[1]).await.unwrap();
        assert_eq!(fake.sum(), 6);
        assert_eq!(vector.client().stats().aborted, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_pull_that_the_old_holder_never_answers_is_asked_of_the_new_one() {
    for coalesce in [true, false] {
        let fake = Fake::new(10, 1);
        let vector = followed(&fake, coalesce).await;
        vector.push(&[3], &[5]).await.unwrap();
        fake.fail([NEVER]);
        let pull = tokio::spawn({
            let vector = vector.clone();
            async move { vector.pull(&[3]).await }
        });
        let (end, took) = moved_away(&fake, 0, pull).await;
        assert_eq!(end.unwrap(), [5]);
        assert!(took < ms(20), "{took:?}");
        assert_eq!(vector.client().stats().aborted, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn what_has_moved_of_a_pull_is_asked_for_at_once_though_the_rest_is_late() {
    for coalesce in [true, false] {
        let fake = Fake::new(8, 4);
        let vector = followed(&fake, coalesce).await;
        vector.push_range(0, &[7; 8]).await.unwrap();
        fake.state().seen.clear();
        fake.fail([NEVER, Fault::Late(ms(3000))]);
        let pull = tokio::spawn({
            let vector = vector.clone();
            async move { vector.pull_range(0..8).await }
        });
        tokio::time::sleep(ms(300)).await;
        let silent = fake.state().seen[0].server;
        for partition in [silent, silent + 2] {
            fake.move_away(partition);
        }
        tokio::time::sleep(ms(20)).await;
        let seen = fake.state().seen.clone();
        assert_eq!(seen.last().unwrap().server, 1 - silent);
        assert!(seen.len() > 2, "{seen:?}");
        assert_eq!(pull.await.unwrap().unwrap(), [7; 8]);
    }
}

#[tokio::test(start_paused = true)]
async fn pulls_that_queue_behind_a_silent_server_are_asked_of_the_new_holder() {
    let fake = Fake::new(10, 1);
    let vector = followed(&fake, true).await;
    fake.fail(std::iter::repeat_n(NEVER, 3));
    let pulls = (0..50u64).map(|key| {
        let vector = vector.clone();
        tokio::spawn(async move {
            tokio::time::sleep(ms(key)).await;
            vector.pull(&[key % 10]).await
        })
    });
    let pulls: Vec<_> = pulls.collect();
    tokio::time::sleep(ms(300)).await;
    let began = Instant::now();
    fake.move_away(0);
    for pull in pulls {
        assert_eq!(pull.await.unwrap().unwrap(), [0]);
    }
    assert!(began.elapsed() < ms(20), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn what_stays_where_it_was_is_still_waited_for_and_not_sent_again() {
    // Partitions 0 and 2 are at one server, and so in one request.
    let fake = Fake::new(8, 4);
    let vector = followed(&fake, true).await;
    fake.fail([Fault::Late(ms(3000))]);
    let both = tokio::spawn({
        let vector = vector.clone();
        async move { vector.push(&[0, 4], &[1, 1]).await }
    });
    let (end, took) = moved_away(&fake, 0, both).await;
    end.unwrap();
    assert!(took > ms(2000), "the late answer is needed: {took:?}");
    assert_eq!(fake.sum(), 2);
    let seen = fake.state().seen.clone();
    let partitions = |at: usize| seen[at].groups.iter().map(|g| g.0).collect::<Vec<_>>();
    assert_eq!(seen.len(), 2);
    assert_eq!((seen[0].server, partitions(0)), (0, vec![0, 2]));
    assert_eq!((seen[1].server, partitions(1)), (1, vec![0]));
    assert_eq!(seen[0].number, seen[1].number);
}

#[tokio::test(start_paused = true)]
async fn what_is_ready_behind_a_silent_server_goes_where_its_partition_has_moved() {
    let fake = Fake::new(8, 4);
    let vector = followed(&fake, true).await;
    fake.fail([Fault::Silence]);
    let stuck = push(&vector, 4, 1);
    tokio::time::sleep(ms(10)).await;
    let (end, took) = moved_away(&fake, 0, push(&vector, 0, 1)).await;
    end.unwrap();
    assert!(took < ms(20), "{took:?}");
    assert_eq!(fake.sum(), 1);
    stuck.await.unwrap().unwrap();
    assert_eq!(fake.sum(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_hint_is_followed_at_once_and_without_the_master() {
    for coalesce in [true, false] {
        let fake = Fake::new(10, 2);
        let vector = open(&fake, coalesce).await;
        {
            let mut state = fake.state();
            state.hints = true;
            state.master_down = true;
        }
        fake.move_away(0);
        let began = Instant::now();
        vector.push(&[0], &[1]).await.unwrap();
        fake.move_away(0);
        assert_eq!(vector.pull(&[0]).await.unwrap(), [1]);
        assert!(began.elapsed() < ms(5), "{:?}", began.elapsed());
        let seen = fake.state().seen.clone();
        assert_eq!(seen[0].number, seen[1].number);
        let servers: Vec<_> = seen.iter().map(|s| s.server).collect();
        assert_eq!(servers[..4], [0, 1, 1, 0]);
    }
}

#[tokio::test(start_paused = true)]
async fn refusals_while_a_partition_fails_over_do_not_lengthen_it() {
    let fake = Fake::new(10, 1);
    let vector = followed(&fake, true).await;
    fake.fail(
        (0..1000)
            .map(|_| Fault::Refuse(glint_protocol::ErrorBody::new(ErrorCode::Retry, "no lease"))),
    );
    let pushed = push(&vector, 3, 5);
    tokio::time::sleep(ms(1500)).await;
    let tried = fake.state().seen.len();
    assert!((15..40).contains(&tried), "{tried} attempts in 1.5 s");
    fake.state().faults.clear();
    let (end, took) = moved_away(&fake, 0, pushed).await;
    end.unwrap();
    assert!(took < ms(20), "{took:?}");
    assert_eq!(fake.sum(), 5);
    // The poll would bring what is new: the master is hardly asked beside it.
    assert!(fake.state().maps_asked <= 4, "{}", fake.state().maps_asked);
}

#[tokio::test(start_paused = true)]
async fn a_master_that_is_down_while_a_partition_moves_is_found_again() {
    let fake = Fake::new(10, 2);
    let vector = followed(&fake, true).await;
    fake.state().master_down = true;
    fake.fail([NEVER]);
    let pushed = push(&vector, 0, 5);
    tokio::time::sleep(Duration::from_secs(3)).await;
    vector.push(&[9], &[1]).await.unwrap();
    fake.move_away(0);
    tokio::time::sleep(Duration::from_secs(4)).await;
    fake.state().master_down = false;
    let began = Instant::now();
    pushed.await.unwrap().unwrap();
    let took = began.elapsed();
    assert!(took < Duration::from_secs(6), "{took:?}");
    assert_eq!(fake.sum(), 6);
}

#[tokio::test(start_paused = true)]
async fn a_model_is_polled_for_once_while_it_is_used_and_not_after() {
    let fake = Fake::new(10, 2);
    let vector = followed(&fake, true).await;
    let other: Vector<i64> = vector.client().open_vector("v").await.unwrap();
    for i in 0..100 {
        let used = if i % 2 == 0 { &vector } else { &other };
        used.push(&[1], &[1]).await.unwrap();
        tokio::time::sleep(ms(500)).await;
        assert!(fake.state().polls_open <= 1);
    }
    let polls = fake.state().polls.len();
    assert!((3..=7).contains(&polls), "{polls} polls in 50 s");
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_eq!(fake.state().polls_open, 0, "nobody uses it");
    other.push(&[1], &[1]).await.unwrap();
    tokio::time::sleep(ms(200)).await;
    assert_eq!(fake.state().polls_open, 1, "it is used again");
    drop(vector);
    tokio::time::sleep(ms(200)).await;
    assert_eq!(fake.state().polls_open, 1);
    drop(other);
    tokio::time::sleep(ms(200)).await;
    assert_eq!(fake.state().polls_open, 0, "the last handle is gone");
}

#[tokio::test(start_paused = true)]
async fn many_clients_that_hear_of_a_move_together_do_not_poll_again_together() {
    let fake = Fake::new(10, 2);
    let mut clients = Vec::new();
    for seed in 0..300 {
        let builder = Client::builder("http://master:1").world(fake.world_of(seed));
        let vector: Vector<i64> = builder
            .connect()
            .await
            .unwrap()
            .open_vector("v")
            .await
            .unwrap();
        vector.push(&[], &[]).await.unwrap();
        clients.push(vector);
    }
    tokio::time::sleep(ms(500)).await;
    assert_eq!(fake.state().polls_open, 300);
    for _ in 0..2 {
        fake.state().polls.clear();
        fake.move_away(0);
        tokio::time::sleep(ms(500)).await;
        let mut polls = fake.state().polls.clone();
        polls.sort_unstable();
        assert_eq!(polls.len(), 300, "one poll each");
        let crowd = polls.iter().enumerate();
        let crowd =
            crowd.map(|(at, poll)| polls[at..].iter().filter(|p| **p < *poll + ms(10)).count());
        assert!(crowd.max().unwrap() < 70);
        let maps: u64 = clients
            .iter()
            .map(|v| v.client().stats().map_refreshes)
            .sum();
        assert_eq!(maps, 0, "nobody was in trouble");
    }
}

#[tokio::test(start_paused = true)]
async fn a_master_that_does_not_hold_polls_is_not_flooded() {
    let fake = Fake::new(10, 2);
    let vector = followed(&fake, true).await;
    fake.state().master_down = true;
    tokio::time::sleep(Duration::from_secs(50)).await;
    let polls = vector.client().stats().map_polls;
    assert!((8..25).contains(&polls), "{polls} polls of a dead master");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_was_suspended_for_hours_tells_what_is_unknown_and_goes_on() {
    let fake = Fake::new(10, 1);
    let vector = followed(&fake, true).await;
    // Applied, but the answer never comes; then hours in which no timer moves, and the server forgets the lane.
    fake.fail([Fault::LoseReply, Fault::Silence]);
    let pushed = push(&vector, 3, 5);
    tokio::time::sleep(ms(200)).await;
    {
        let mut state = fake.state();
        state.now_ms += 5 * 3600 * 1000;
        state.horizon = state.now_ms - 3600 * 1000;
    }
    fake.forget_ledgers();
    let error = pushed.await.unwrap().unwrap_err();
    assert!(matches!(error, Error::Unknown { .. }), "{error}");
    assert_eq!(fake.sum(), 5, "and not sent as a new one");
    vector.push(&[3], &[1]).await.unwrap();
    assert_eq!(fake.sum(), 6);
    let seen = fake.state().seen.clone();
    let last = seen.last().unwrap();
    assert!(last.lane.birth > fake.state().horizon, "on a new lane");
    // What was begun after waking up is certainly not applied when its lane has expired, and is sent anew.
    fake.state().now_ms += 5 * 3600 * 1000;
    let now = fake.state().now_ms;
    fake.state().horizon = now - 1;
    fake.forget_ledgers();
    vector.push(&[3], &[1]).await.unwrap();
    assert_eq!(fake.sum(), 7);
}

#[tokio::test(start_paused = true)]
async fn a_buffer_loses_nothing_while_partitions_move_and_holders_fall_silent() {
    let fake = Fake::new(40, 4);
    let vector = followed(&fake, true).await;
    let options = BufferOptions {
        capacity: 16,
        ..BufferOptions::default()
    };
    let buffer = vector.buffered(options);
    for round in 0..40u64 {
        fake.fail([NEVER, Fault::None, Fault::Silence]);
        for key in 0..40 {
            buffer.add(key, 1).await.unwrap();
        }
        let flushed = tokio::spawn({
            let buffer = buffer.clone();
            async move { buffer.flush().await }
        });
        tokio::time::sleep(ms(20)).await;
        for partition in 0..4 {
            fake.move_away(partition);
        }
        let _ = round;
        flushed.await.unwrap().unwrap();
    }
    assert_eq!(fake.sum(), 40 * 40);
    let skips = fake
        .state()
        .seen
        .iter()
        .filter(|s| s.groups.iter().any(|g| g.1 == Op::Skip))
        .count();
    assert_eq!(skips, 0, "nothing came near its deadline");
}
