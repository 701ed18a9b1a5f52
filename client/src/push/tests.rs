//! Pushes against servers that fail as told: what is acknowledged was applied once, what is refused was not.

use std::time::Duration;

use glint_protocol::{Epoch, ErrorBody, ErrorCode, Number, error::GoneReason, frame::Op};
use glint_world::Random;
use tokio::time::Instant;

use crate::{
    Applied, BufferOptions, ClientOptions, Error, Vector,
    testing::{Fake, Fault},
};

async fn vector(fake: &Fake) -> Vector<i64> {
    let client = fake
        .builder()
        .lanes(1)
        .deadline(Duration::from_secs(60))
        .connect()
        .await
        .unwrap();
    client.open_vector("v").await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_push_whose_reply_is_lost_is_applied_once() {
    let fake = Fake::new(10, 1);
    let vector = vector(&fake).await;
    fake.fail([Fault::LoseReply, Fault::LoseRequest, Fault::LoseReply]);
    vector.push(&[3], &[5]).await.unwrap();
    vector.push(&[3], &[1]).await.unwrap();
    assert_eq!(vector.pull(&[3]).await.unwrap(), [6]);
    let seen = fake.state().seen.clone();
    let numbers: Vec<_> = seen.iter().map(|s| s.number.0).collect();
    assert_eq!(numbers, [1, 1, 1, 2, 0], "a retry has the same number");
    assert_eq!(
        seen[3].groups[0].3,
        Number(1),
        "what was acknowledged is told"
    );
}

#[tokio::test(start_paused = true)]
async fn a_partition_that_moved_is_found_by_the_masters_map() {
    let fake = Fake::new(10, 2);
    let vector = vector(&fake).await;
    fake.fail([Fault::LoseReply]);
    fake.move_away(0);
    vector.push_range(0, &[1; 10]).await.unwrap();
    assert_eq!(fake.sum(), 10);
    assert_eq!(vector.pull_range(0..10).await.unwrap(), [1; 10]);
    assert!(
        fake.state().maps_asked <= 3,
        "the map is asked for once per need"
    );
}

#[tokio::test(start_paused = true)]
async fn a_partition_that_moved_is_found_by_a_servers_hint_while_the_master_is_down() {
    let fake = Fake::new(10, 2);
    let vector = vector(&fake).await;
    vector.push(&[0], &[1]).await.unwrap();
    {
        let mut state = fake.state();
        state.master_down = true;
        state.hints = true;
    }
    fake.move_away(0);
    vector.push(&[0], &[1]).await.unwrap();
    assert_eq!(vector.pull(&[0]).await.unwrap(), [2]);
    let seen = fake.state().seen.clone();
    assert_eq!(seen[1].number, seen[2].number);
    assert_ne!(seen[1].server, seen[2].server);
}

#[tokio::test(start_paused = true)]
async fn an_expired_lane_is_replaced_without_the_caller_noticing() {
    let fake = Fake::new(10, 1);
    let vector = vector(&fake).await;
    fake.state().horizon = 2_000_000;
    vector.push(&[3], &[5]).await.unwrap();
    vector.push(&[3], &[5]).await.unwrap();
    assert_eq!(fake.sum(), 10);
    let seen = fake.state().seen.clone();
    assert_eq!(seen[0].lane.birth, 1_000_000);
    assert_eq!(seen[1].lane.birth, 2_000_001, "born above the horizon");
    assert_eq!(seen[2].number, Number(2), "the new lane is kept");
}

/// Pushes 5 with a deadline of 60 s; after its first copy has come to nothing, or to a lost reply, the machine sleeps: its timers
/// stand still, the time of day goes on, and the servers forget the lane.
async fn slept(reply: Fault, sleep: Duration) -> (Result<(), Error>, i64) {
    let fake = Fake::new(10, 1);
    let vector = vector(&fake).await;
    fake.fail([reply]);
    let pushing = tokio::spawn(async move { vector.push(&[3], &[5]).await });
    // Timers do not go on while somebody is busy.
    while !fake.state().faults.is_empty() {
        tokio::task::yield_now().await;
    }
    fake.forget_ledgers();
    {
        let mut state = fake.state();
        state.now_ms += sleep.as_millis() as u64;
        state.horizon = state.now_ms;
    }
    (pushing.await.unwrap(), fake.sum())
}

#[tokio::test(start_paused = true)]
async fn a_lane_that_was_forgotten_while_the_machine_slept_past_the_deadline_leaves_its_push_unknown()
 {
    let (pushed, sum) = slept(Fault::LoseReply, Duration::from_secs(61)).await;
    let error = pushed.unwrap_err();
    assert!(matches!(error, Error::Unknown { .. }), "{error}");
    assert_eq!(error.applied(), Applied::Unknown);
    assert_eq!(sum, 5, "it is not applied again");
    // Before its deadline no lane is forgotten that was heard of: the push never came, and is sent by another.
    let (pushed, sum) = slept(Fault::LoseRequest, Duration::from_secs(59)).await;
    assert!(pushed.is_ok() && sum == 5, "{pushed:?}, {sum}");
}

#[tokio::test(start_paused = true)]
async fn at_its_deadline_a_push_is_settled_by_a_skip_and_certainly_not_applied() {
    let fake = Fake::new(10, 1);
    let vector = vector(&fake).await;
    // Lost for so long that it is given up, and only then heard.
    fake.fail(std::iter::repeat_n(Fault::Silence, 6));
    let error = vector.push(&[3], &[5]).await.unwrap_err();
    assert!(matches!(error, Error::DeadlineExceeded { .. }), "{error}");
    assert_eq!(error.applied(), Applied::No);
    assert!(
        error.to_string().contains("did not answer in time"),
        "{error}"
    );
    assert_eq!(fake.sum(), 0);
    assert_eq!(fake.state().seen[0].groups[0].1, Op::Skip);
    // The lane and the partition go on.
    vector.push(&[3], &[5]).await.unwrap();
    assert_eq!(fake.sum(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_skip_that_finds_the_push_applied_makes_it_succeed() {
    let fake = Fake::new(10, 1);
    let vector = vector(&fake).await;
    fake.fail([Fault::LoseReply]);
    fake.fail(std::iter::repeat_n(Fault::Silence, 6));
    vector.push(&[3], &[5]).await.unwrap();
    assert_eq!(fake.sum(), 5);
    let last = fake.state().seen.last().cloned().unwrap();
    assert_eq!(last.groups[0].1, Op::Skip);
}

#[tokio::test(start_paused = true)]
async fn a_push_that_cannot_be_settled_is_unknown_and_one_never_sent_is_not() {
    let fake = Fake::new(10, 1);
    let vector = vector(&fake).await;
    fake.fail(std::iter::repeat_n(Fault::Silence, 100));
    let error = vector.push(&[3], &[5]).await.unwrap_err();
    assert!(matches!(error, Error::Unknown { .. }), "{error}");
    assert_eq!(error.applied(), Applied::Unknown);

    let fake = Fake::new(10, 1);
    let vector = self::vector(&fake).await;
    fake.state().unreachable = vec![0, 1];
    let error = vector.push(&[3], &[5]).await.unwrap_err();
    assert_eq!(error.applied(), Applied::No, "{error}");
    assert!(error.to_string().contains("cannot connect"), "{error}");
    fake.state().unreachable.clear();
    vector.push(&[3], &[5]).await.unwrap();
    assert_eq!(fake.sum(), 5);
}

#[tokio::test(start_paused = true)]
async fn other_partitions_go_on_while_one_is_unsettled() {
    let fake = Fake::new(10, 2);
    let vector = vector(&fake).await;
    fake.state().unreachable = vec![0];
    let slow = tokio::spawn({
        let vector = vector.clone();
        async move { vector.push(&[0], &[1]).await }
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    for _ in 0..5 {
        vector.push(&[9], &[1]).await.unwrap();
    }
    assert_eq!(fake.sum(), 5);
    fake.state().unreachable.clear();
    slow.await.unwrap().unwrap();
    assert_eq!(fake.sum(), 6);
    let seen = fake.state().seen.clone();
    assert_eq!(
        seen.last().unwrap().number,
        Number(1),
        "an earlier number, later"
    );
}

#[tokio::test(start_paused = true)]
async fn small_pushes_in_flight_share_requests_and_one_group_per_partition() {
    let fake = Fake::new(10, 2);
    let vector = vector(&fake).await;
    let pushes = (0..200u64).map(|i| {
        let vector = vector.clone();
        tokio::spawn(async move { vector.push(&[i % 10], &[1]).await })
    });
    for push in pushes.collect::<Vec<_>>() {
        push.await.unwrap().unwrap();
    }
    assert_eq!(fake.sum(), 200);
    let seen = fake.state().seen.clone();
    assert!(seen.len() < 20, "{} requests", seen.len());
    assert!(seen.iter().all(|s| s.groups.len() == 1));
    let sections: u16 = seen.iter().map(|s| s.groups[0].2).sum();
    assert_eq!(sections, 200);
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_push_is_left_out_if_unsent_and_settled_if_sent() {
    let fake = Fake::new(10, 1);
    let vector = vector(&fake).await;
    fake.fail([Fault::Silence]);
    let push = |key: u64| {
        let vector = vector.clone();
        tokio::spawn(async move { vector.push(&[key], &[1]).await })
    };
    let sent = push(1);
    tokio::time::sleep(Duration::from_millis(10)).await;
    let unsent = push(2);
    tokio::time::sleep(Duration::from_millis(10)).await;
    sent.abort();
    unsent.abort();
    let _ = (sent.await, unsent.await);
    vector.push(&[3], &[1]).await.unwrap();
    assert_eq!(vector.pull(&[1, 2, 3]).await.unwrap(), [1, 0, 1]);
    let numbers: Vec<_> = fake.state().seen.iter().map(|s| s.number.0).collect();
    assert_eq!(
        numbers,
        [1, 2, 0],
        "the number of the cancelled push was settled first"
    );
}

#[tokio::test(start_paused = true)]
async fn refusals_that_time_does_not_change_fail_at_once() {
    for (code, applied) in [
        (ErrorCode::Bad, Applied::No),
        (ErrorCode::Lost, Applied::No),
        (ErrorCode::Gone, Applied::No),
        (ErrorCode::Superseded, Applied::Unknown),
        (ErrorCode::LaneConflict, Applied::Unknown),
        (ErrorCode::LaneFromFuture, Applied::Unknown),
    ] {
        let fake = Fake::new(10, 1);
        let vector = vector(&fake).await;
        fake.refuse(code);
        let error = vector.push(&[3], &[5]).await.unwrap_err();
        assert_eq!(error.applied(), applied, "{code}: {error}");
        assert_eq!(fake.state().seen.len(), 1, "{code}");
        vector.push(&[3], &[5]).await.unwrap();
        assert_eq!(fake.sum(), 5, "{code}");
        let seen = fake.state().seen.clone();
        let ends_lane = applied == Applied::Unknown || code == ErrorCode::Lost;
        assert_eq!(seen[0].lane != seen[1].lane, ends_lane, "{code}");
    }
}

#[tokio::test(start_paused = true)]
async fn refusals_that_time_may_change_are_tried_again() {
    for code in [
        ErrorCode::Retry,
        ErrorCode::NotYet,
        ErrorCode::Busy,
        ErrorCode::StorageFull,
        ErrorCode::NotEnoughCopies,
        ErrorCode::Internal,
    ] {
        let fake = Fake::new(10, 1);
        let vector = vector(&fake).await;
        fake.refuse(code);
        let whole = ErrorBody::new(code, "all of it");
        fake.fail([Fault::RefuseWhole(whole.clone()), Fault::RefuseWhole(whole)]);
        vector.push(&[3], &[5]).await.unwrap();
        assert_eq!(fake.sum(), 5, "{code}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_comes_before_the_server_has_heard_that_it_holds_a_partition_waits_for_moments_only() {
    let fake = Fake::new(10, 1);
    let vector = vector(&fake).await;
    let epoch = fake.state().map.epochs[0];
    for (heard, soon) in [(Epoch(epoch.0 - 1), true), (epoch, false)] {
        let refusal = ErrorBody::new(ErrorCode::StaleMap, "told to")
            .with(|detail| detail.epoch = Some(heard));
        fake.fail([Fault::Refuse(refusal)]);
        let began = Instant::now();
        vector.push(&[3], &[5]).await.unwrap();
        assert_eq!(began.elapsed() < Duration::from_millis(2), soon);
    }
    assert_eq!(fake.sum(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_push_to_a_deleted_model_says_so() {
    let fake = Fake::new(10, 2);
    let vector = vector(&fake).await;
    fake.state().gone = true;
    let error = vector.push(&[3], &[5]).await.unwrap_err();
    let reason = GoneReason::Deleted;
    assert!(
        matches!(error, Error::Gone { reason: r, .. } if r == reason),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn whatever_fails_every_acknowledged_push_counts_once() {
    for seed in 0..20 {
        let random = Random::from_seed(seed);
        let fake = Fake::new(40, 4);
        let client = fake.builder().lanes(2).connect().await.unwrap();
        let vector: Vector<i64> = client.open_vector("v").await.unwrap();
        let faults = (0..400).map(|_| match random.bits() % 10 {
            0 => Fault::LoseRequest,
            1 => Fault::LoseReply,
            2 => Fault::Refuse(ErrorBody::new(ErrorCode::Retry, "")),
            3 => Fault::Silence,
            _ => Fault::None,
        });
        fake.fail(faults.collect::<Vec<_>>());
        let tasks = (0..16u64).map(|task| {
            let vector = vector.clone();
            tokio::spawn(async move {
                for i in 0..25u64 {
                    let keys = [(task + i) % 40, (task * i) % 40, i];
                    vector.push(&keys, &[1, 1, 1]).await.unwrap();
                }
            })
        });
        let tasks: Vec<_> = tasks.collect();
        for moved in 0..40 {
            tokio::time::sleep(Duration::from_millis(200)).await;
            fake.move_away(moved % 4);
        }
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(fake.sum(), 16 * 25 * 3, "seed {seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn acknowledged_pushes_that_a_partition_has_forgotten_are_told_to_the_caller() {
    let fake = Fake::new(10, 1);
    let vector = vector(&fake).await;
    for _ in 0..3 {
        vector.push(&[3], &[1]).await.unwrap();
    }
    assert!(vector.client().take_losses().is_empty());
    fake.forget_ledgers();
    vector.push(&[3], &[1]).await.unwrap();
    let losses = vector.client().take_losses();
    assert_eq!(losses.len(), 1);
    assert_eq!((losses[0].model.as_str(), losses[0].partition), ("v", 0));
    assert_eq!(losses[0].at_most, 3);
    assert_eq!(vector.client().stats().losses, 1);
    vector.push(&[3], &[1]).await.unwrap();
    assert!(vector.client().take_losses().is_empty(), "told once");
}

#[tokio::test(start_paused = true)]
async fn a_push_to_a_lost_partition_fails_at_once_though_its_server_never_answers() {
    let fake = Fake::new(10, 2);
    let vector = vector(&fake).await;
    {
        let mut state = fake.state();
        state.unreachable = vec![0];
        state.map.lost = vec![0];
        state.map.revision = state.map.revision.next();
    }
    let began = tokio::time::Instant::now();
    let error = vector.push(&[1], &[5]).await.unwrap_err();
    assert!(matches!(error, Error::Lost { partition: 0, .. }), "{error}");
    assert!(error.to_string().contains("glint model reset v"), "{error}");
    assert_eq!(error.applied(), Applied::No);
    let error = vector.pull(&[1]).await.unwrap_err();
    assert!(matches!(error, Error::Lost { partition: 0, .. }), "{error}");
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
    vector.push(&[9], &[5]).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn bytes_in_flight_are_bounded_and_what_waited_for_room_was_never_sent() {
    let fake = Fake::new(10, 1);
    let options = ClientOptions {
        lanes: 1,
        deadline: Duration::from_secs(20),
        request_timeout: Duration::from_secs(2),
        request_bytes: 4096,
        // Each push counts for 1 KiB, however small it is.
        in_flight_bytes: 4096,
        ..ClientOptions::default()
    };
    let client = fake.builder().options(options).connect().await.unwrap();
    let vector: Vector<i64> = client.open_vector("v").await.unwrap();
    fake.fail(vec![Fault::Silence; 100]);
    let pushes = (0..10).map(|_| {
        let vector = vector.clone();
        tokio::spawn(async move { vector.push(&[3], &[1]).await })
    });
    let pushes: Vec<_> = pushes.collect();
    let mut waited = 0;
    for push in pushes {
        let error = push.await.unwrap().unwrap_err();
        if error.to_string().contains("too many pushes are in flight") {
            assert_eq!(error.applied(), Applied::No, "{error}");
            waited += 1;
        }
    }
    assert_eq!(waited, 6, "four of 1 KiB each may be in flight");
    // The room comes back.
    fake.state().faults.clear();
    for _ in 0..20 {
        vector.push(&[4], &[1]).await.unwrap();
    }
    assert_eq!(vector.pull(&[4]).await.unwrap(), [20]);
}

#[tokio::test(start_paused = true)]
async fn a_buffer_has_so_many_pushes_out_and_then_adding_waits_and_loses_nothing() {
    let fake = Fake::new(10, 1);
    let vector = vector(&fake).await;
    let late = Duration::from_secs(5);
    fake.fail([Fault::Late(late)]);
    let buffer = vector.buffered(BufferOptions {
        capacity: 1,
        max_in_flight: 2,
        ..BufferOptions::default()
    });
    let began = Instant::now();
    for key in 0..2 {
        buffer.add(key, 1).await.unwrap();
    }
    assert!(began.elapsed() < late, "two may be out");
    let waits = tokio::time::timeout(late / 2, buffer.add(2, 1)).await;
    assert!(waits.is_err(), "a third was begun");
    // That call was dropped, and the value is held.
    assert_eq!(buffer.held(), 1);
    buffer.add(3, 1).await.unwrap();
    assert!(began.elapsed() >= late, "{:?}", began.elapsed());
    buffer.flush().await.unwrap();
    assert_eq!(vector.pull_range(0..5).await.unwrap(), [1, 1, 1, 1, 0]);
}
