//! Pulls against servers that fail as told.

use std::time::Duration;

use glint_protocol::{ErrorBody, ErrorCode, Position, frame::ReadMode};

use crate::{
    Client, Error, Read, Vector,
    testing::{Fake, Fault},
};

async fn vector(fake: &Fake, coalesce: bool) -> Vector<i64> {
    let client = fake.builder().coalesce(coalesce).connect().await.unwrap();
    client.open_vector("v").await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_pull_goes_on_through_lost_replies_refusals_and_moves() {
    for coalesce in [true, false] {
        let fake = Fake::new(100, 8);
        let vector = vector(&fake, coalesce).await;
        let values: Vec<i64> = (0..100).collect();
        vector.push_range(0, &values).await.unwrap();
        fake.fail([Fault::LoseReply, Fault::LoseRequest, Fault::Silence]);
        fake.refuse(ErrorCode::Retry);
        fake.move_away(3);
        assert_eq!(vector.pull_range(0..100).await.unwrap(), values);
        fake.move_away(0);
        assert_eq!(vector.pull(&[99, 0, 99]).await.unwrap(), [99, 0, 99]);
        assert!(vector.client().stats().retries > 0);
    }
}

#[tokio::test(start_paused = true)]
async fn one_lost_partition_fails_the_pull_at_once_and_by_name() {
    let fake = Fake::new(100, 8);
    let vector = vector(&fake, true).await;
    fake.refuse(ErrorCode::Lost);
    fake.refuse(ErrorCode::Lost);
    let error = vector.pull(&[3]).await.unwrap_err();
    assert!(matches!(error, Error::Lost { partition: 0, .. }), "{error}");
}

#[tokio::test(start_paused = true)]
async fn at_its_deadline_a_pull_tells_what_was_tried() {
    let fake = Fake::new(100, 8);
    let vector = vector(&fake, true).await;
    fake.fail(std::iter::repeat_n(
        Fault::Refuse(ErrorBody::new(ErrorCode::Busy, "no room")),
        100_000,
    ));
    let error = vector.pull(&[3]).await.unwrap_err();
    let text = error.to_string();
    assert!(error.is_retryable() && text.contains("no room"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn small_pulls_in_flight_share_requests() {
    let fake = Fake::new(100, 8);
    let vector = vector(&fake, true).await;
    vector
        .push_range(0, &(0..100).collect::<Vec<i64>>())
        .await
        .unwrap();
    let before = fake.state().seen.len();
    let pulls = (0..200u64).map(|i| {
        let vector = vector.clone();
        tokio::spawn(async move { vector.pull(&[i % 100, (i * 7) % 100]).await })
    });
    for (i, pull) in pulls.collect::<Vec<_>>().into_iter().enumerate() {
        let i = i as i64;
        assert_eq!(pull.await.unwrap().unwrap(), [i % 100, (i * 7) % 100]);
    }
    let seen = fake.state().seen[before..].to_vec();
    assert!(seen.len() < 40, "{} requests", seen.len());
    for request in seen {
        let mut partitions: Vec<_> = request.groups.iter().map(|g| g.0).collect();
        partitions.sort_unstable();
        partitions.dedup();
        assert_eq!(
            partitions.len(),
            request.groups.len(),
            "two groups of one partition"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn pulls_and_pushes_go_on_while_the_master_is_down() {
    let fake = Fake::new(100, 8);
    let vector = vector(&fake, true).await;
    fake.state().master_down = true;
    fake.fail([Fault::LoseReply, Fault::LoseRequest]);
    vector.push(&[5], &[1]).await.unwrap();
    assert_eq!(vector.pull(&[5]).await.unwrap(), [1]);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_sent_for_what_is_empty_or_out_of_range() {
    let fake = Fake::new(100, 8);
    let vector = vector(&fake, true).await;
    assert!(vector.pull(&[]).await.unwrap().is_empty());
    vector.push(&[], &[]).await.unwrap();
    vector.push_range(100, &[]).await.unwrap();
    assert!(vector.pull_range(7..7).await.unwrap().is_empty());
    let error = vector.push(&[5, 100], &[1, 2]).await.unwrap_err();
    assert!(
        matches!(
            error,
            Error::OutOfRange {
                index: 100,
                size: 100,
                ..
            }
        ),
        "{error}"
    );
    let error = vector.push(&[5], &[1, 2]).await.unwrap_err();
    assert!(
        matches!(
            error,
            Error::Length {
                expected: 1,
                given: 2,
                ..
            }
        ),
        "{error}"
    );
    let error = vector.pull_range(90..101).await.unwrap_err();
    assert!(
        matches!(error, Error::OutOfRange { index: 100, .. }),
        "{error}"
    );
    assert!(fake.state().seen.is_empty());
}

#[tokio::test(start_paused = true)]
async fn without_servers_creating_waits_and_then_says_so() {
    let fake = Fake::new(100, 8);
    fake.state().has_servers = false;
    let client = fake
        .builder()
        .deadline(Duration::from_secs(20))
        .connect()
        .await
        .unwrap();
    let start = tokio::time::Instant::now();
    let error = client.vector::<i64>("w", 10).create().await.unwrap_err();
    assert!(matches!(error, Error::NoServers { .. }), "{error}");
    assert!(start.elapsed() > Duration::from_secs(15));
    assert!(error.to_string().contains("glint server"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_master_that_does_not_answer_is_named_with_what_was_tried() {
    let fake = Fake::new(100, 8);
    fake.state().master_down = true;
    let error = fake.builder().connect().await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains("http://master:1"), "{error}");
    let error = Client::builder("http://s0:1")
        .world(fake.world())
        .connect()
        .await
        .unwrap_err();
    assert!(matches!(error, Error::NotGlint { .. }), "{error}");
}

/// A vector whose partitions have followers, and how many requests of a kind each server has seen since.
async fn copied(fake: &Fake, coalesce: bool) -> Vector<i64> {
    fake.add_followers();
    let vector = vector(fake, coalesce).await;
    vector.push_range(0, &[7; 100]).await.unwrap();
    fake.state().seen.clear();
    vector
}

fn seen_by(fake: &Fake, server: usize) -> usize {
    let state = fake.state();
    state.seen.iter().filter(|s| s.server == server).count()
}

#[tokio::test(start_paused = true)]
async fn reads_of_any_copy_are_spread_over_all_of_them_and_those_of_the_latest_are_not() {
    for coalesce in [true, false] {
        let fake = Fake::new(100, 1);
        let vector = copied(&fake, coalesce).await;
        let any = vector.reading(Read::Any);
        for key in 0..100 {
            assert_eq!(any.pull(&[key]).await.unwrap(), [7]);
        }
        let holders = seen_by(&fake, 0);
        assert!((25..75).contains(&holders), "{holders} of 100");
        assert_eq!(seen_by(&fake, 1), 100 - holders);
        let stats = vector.client().stats();
        assert_eq!(stats.follower_reads, 100 - holders as u64);
        for key in 0..100 {
            vector.pull(&[key]).await.unwrap();
        }
        assert_eq!(seen_by(&fake, 0), 100 + holders);
    }
}

#[tokio::test(start_paused = true)]
async fn a_copy_that_cannot_answer_is_passed_over_for_the_holder_at_once() {
    for coalesce in [true, false] {
        for refusal in [
            Some(ErrorCode::NotYet),
            Some(ErrorCode::StaleMap),
            Some(ErrorCode::Retry),
            None,
        ] {
            let fake = Fake::new(100, 1);
            let vector = copied(&fake, coalesce).await;
            fake.state().follower_refuses = refusal;
            if refusal.is_none() {
                fake.state().unreachable = vec![1];
            }
            let began = tokio::time::Instant::now();
            let within = vector.reading(Read::Within(Duration::from_millis(250)));
            for key in 0..40 {
                assert_eq!(within.pull(&[key]).await.unwrap(), [7]);
            }
            assert_eq!(within.pull_range(0..100).await.unwrap(), [7; 100]);
            assert!(began.elapsed() < Duration::from_millis(5), "{refusal:?}");
            let modes: Vec<_> = fake
                .state()
                .seen
                .iter()
                .flat_map(|s| s.reads.clone())
                .collect();
            assert!(modes.iter().all(|mode| *mode == ReadMode::Within(250)));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn own_writes_are_asked_for_by_the_position_at_which_they_were_acknowledged() {
    let fake = Fake::new(100, 1);
    let vector = copied(&fake, true).await;
    for _ in 0..4 {
        vector.push(&[3], &[1]).await.unwrap();
    }
    let own = vector.reading(Read::OwnWrites);
    fake.state().seen.clear();
    own.pull(&[3]).await.unwrap();
    let asked = |fake: &Fake| fake.state().seen.last().unwrap().reads[0];
    assert_eq!(asked(&fake), ReadMode::AtLeast(Position(5)));
    // Another client is told how far this one has seen, and then sees as far.
    let other = self::vector(&fake, true).await;
    let told = serde_json::to_string(&vector.positions()).unwrap();
    let told = serde_json::from_str(&told).unwrap();
    let told = other.reading(Read::AtLeast(told));
    told.pull(&[3]).await.unwrap();
    assert_eq!(asked(&fake), ReadMode::AtLeast(Position(5)));
    // What a pull has read is not unread by the next.
    vector.push(&[3], &[1]).await.unwrap();
    other.pull(&[3]).await.unwrap();
    other.reading(Read::OwnWrites).pull(&[3]).await.unwrap();
    assert_eq!(asked(&fake), ReadMode::AtLeast(Position(6)));
}

#[tokio::test(start_paused = true)]
async fn pulls_in_flight_that_ask_for_different_copies_are_answered_as_they_ask() {
    let fake = Fake::new(100, 4);
    let vector = copied(&fake, true).await;
    let modes = [
        Read::Latest,
        Read::Any,
        Read::OwnWrites,
        Read::Within(Duration::from_secs(1)),
        Read::Within(Duration::from_secs(2)),
    ];
    let pulls = (0..200usize).map(|i| {
        let vector = vector.reading(modes[i % modes.len()].clone());
        tokio::spawn(async move { vector.pull(&[i as u64 % 100]).await })
    });
    for pull in pulls.collect::<Vec<_>>() {
        assert_eq!(pull.await.unwrap().unwrap(), [7]);
    }
    let seen = fake.state().seen.clone();
    assert!(seen.len() < 60, "{} requests", seen.len());
    assert_eq!(vector.client().stats().retries, 0);
}
