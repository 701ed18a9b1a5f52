//! Every line of the table, in its order.

use glint_protocol::{Durability, Epoch, ErrorCode, Position};

use super::*;
use crate::partition::judge::FUTURE_MS;

const LANE: LaneId = LaneId {
    birth: NOW - 1000,
    random: 1,
};

#[test]
fn a_new_number_is_applied_and_moves_the_position_by_one() {
    let mut alone = Alone::vector(10);
    let verdict = alone.add(LANE, 1, 0, 5);
    assert_eq!(
        (verdict.outcome, verdict.position, verdict.epoch),
        (Outcome::Applied, Position(1), EPOCH)
    );
    assert_eq!(alone.add(LANE, 2, 1, 5).position, Position(2));
    assert_eq!(alone.first(), 10);
}

#[test]
fn numbers_may_leave_gaps_since_a_request_need_not_touch_every_partition() {
    let mut alone = Alone::vector(10);
    alone.add(LANE, 3, 0, 5);
    assert_eq!(alone.add(LANE, 9, 3, 5).outcome, Outcome::Applied);
}

#[test]
fn a_repeated_number_is_answered_and_not_applied_again() {
    let mut alone = Alone::vector(10);
    alone.add(LANE, 1, 0, 5);
    for _ in 0..3 {
        let verdict = alone.add(LANE, 1, 0, 5);
        assert!(verdict.repeated);
        assert_eq!(
            (verdict.outcome, verdict.position),
            (Outcome::Applied, Position(1))
        );
    }
    assert_eq!(alone.first(), 5);
}

#[test]
fn a_repeated_number_with_other_sections_is_a_conflict() {
    let mut alone = Alone::vector(10);
    alone.add(LANE, 1, 0, 5);
    let before = alone.state();
    let verdict = alone.add(LANE, 1, 0, 6);
    assert_eq!(refusal(&verdict).code, ErrorCode::LaneConflict);
    assert_eq!(alone.state(), before);
}

#[test]
fn a_number_below_the_last_is_superseded() {
    let mut alone = Alone::vector(10);
    alone.add(LANE, 4, 0, 5);
    let before = alone.state();
    assert_eq!(
        refusal(&alone.add(LANE, 3, 0, 5)).code,
        ErrorCode::Superseded
    );
    assert_eq!(refusal(&alone.skip(LANE, 3, 0)).code, ErrorCode::Superseded);
    assert_eq!(alone.state(), before);
}

#[test]
fn a_skip_settles_a_number_that_never_arrived_and_the_late_push_is_not_applied() {
    let mut alone = Alone::vector(10);
    let verdict = alone.skip(LANE, 1, 0);
    assert_eq!(
        (verdict.outcome, verdict.position),
        (Outcome::Skipped, Position(1))
    );
    assert_eq!(alone.add(LANE, 1, 0, 5).outcome, Outcome::Skipped);
    assert_eq!(alone.skip(LANE, 1, 0).outcome, Outcome::Skipped);
    assert_eq!(
        (alone.first(), alone.partition.position()),
        (0, Position(1))
    );
}

#[test]
fn a_skip_of_a_number_that_was_applied_says_so() {
    let mut alone = Alone::vector(10);
    alone.add(LANE, 1, 0, 5);
    let verdict = alone.skip(LANE, 1, 0);
    assert_eq!(
        (verdict.outcome, verdict.repeated),
        (Outcome::Applied, true)
    );
    assert_eq!(alone.first(), 5);
}

#[test]
fn an_evicted_lane_is_expired_and_so_is_every_unknown_one_born_no_later() {
    let mut alone = Alone::vector(10);
    let (old, young) = (lane(100, 1), lane(200, 2));
    alone.add(old, 1, 0, 1);
    alone.add(young, 1, 0, 1);
    alone.evict(&[old]);
    assert_eq!(
        alone.partition.position(),
        Position(3),
        "eviction is a record"
    );
    for late in [old, lane(100, 9), lane(7, 7)] {
        let verdict = alone.add(late, 2, 1, 1);
        let error = refusal(&verdict);
        assert_eq!(error.code, ErrorCode::LaneExpired);
        assert_eq!(error.detail.as_ref().unwrap().horizon, Some(100));
    }
    assert_eq!(alone.add(lane(101, 3), 1, 0, 1).outcome, Outcome::Applied);
    alone.evict(&[young]);
    // What is still in the ledger goes on, though it was born before the horizon.
    assert_eq!(alone.add(lane(101, 3), 2, 1, 1).outcome, Outcome::Applied);
    assert_eq!(
        refusal(&alone.add(lane(150, 4), 1, 0, 1)).code,
        ErrorCode::LaneExpired
    );
}

#[test]
fn evicting_an_unknown_lane_does_not_raise_the_horizon() {
    let mut alone = Alone::vector(10);
    alone.evict(&[lane(NOW, 1)]);
    assert_eq!(alone.partition.ledger().horizon(), 0);
}

#[test]
fn a_lane_from_the_future_is_told_the_time() {
    let mut alone = Alone::vector(10);
    let verdict = alone.add(lane(NOW + FUTURE_MS + 1, 1), 1, 0, 1);
    let error = refusal(&verdict);
    assert_eq!(error.code, ErrorCode::LaneFromFuture);
    assert_eq!(error.detail.as_ref().unwrap().now, Some(NOW));
    assert_eq!(
        alone.add(lane(NOW + FUTURE_MS, 1), 1, 0, 1).outcome,
        Outcome::Applied
    );
}

#[test]
fn a_full_ledger_refuses_new_lanes_and_serves_those_it_knows() {
    let mut alone = Alone::vector(10);
    for random in 0..super::super::ledger::MAX_ENTRIES as u64 {
        assert_eq!(
            alone.add(lane(NOW, random), 1, 0, 1).outcome,
            Outcome::Applied
        );
    }
    let stranger = lane(NOW, u64::MAX);
    assert_eq!(refusal(&alone.add(stranger, 1, 0, 1)).code, ErrorCode::Busy);
    assert_eq!(alone.add(lane(NOW, 5), 2, 1, 1).outcome, Outcome::Applied);
    assert_eq!(alone.add(lane(NOW, 6), 1, 0, 1).outcome, Outcome::Applied);
    alone.evict(&[lane(NOW, 5)]);
    assert_eq!(
        alone.add(lane(NOW + 1, 0), 1, 0, 1).outcome,
        Outcome::Applied
    );
}

#[test]
fn an_acknowledgement_that_is_not_in_the_ledger_makes_the_partition_lost() {
    for (known, number, prev) in [(0, 3, 2), (1, 4, 2)] {
        let mut alone = Alone::vector(10);
        for number in 1..=known {
            alone.add(LANE, number, number - 1, 1);
        }
        let before = alone.first();
        let verdict = alone.add(LANE, number, prev, 1);
        assert_eq!(refusal(&verdict).code, ErrorCode::Lost);
        assert_eq!(alone.partition.loss(), Some(&Loss::Forgotten));
        let other = alone.add(lane(NOW, 77), 1, 0, 1);
        assert_eq!(refusal(&other).code, ErrorCode::Lost);
        assert_eq!(alone.first(), before);
    }
}

#[test]
fn a_prev_that_cannot_be_is_bad_and_loses_nothing() {
    let mut alone = Alone::vector(10);
    for prev in [1, 2, u64::MAX] {
        let verdict = alone.add(LANE, 1, prev, 1);
        assert_eq!(refusal(&verdict).code, ErrorCode::Bad);
    }
    assert_eq!(alone.partition.loss(), None);
}

#[test]
fn another_epoch_is_told_which_one_is_served() {
    let mut alone = Alone::vector(10);
    for (epoch, code) in [(4, ErrorCode::StaleMap), (6, ErrorCode::NotYet)] {
        let bytes = add_section(1);
        let header = GroupHeader {
            epoch: Epoch(epoch),
            ..alone.header(Op::Update, &bytes, 1)
        };
        let verdict = alone.judge(LANE, 1, header, &bytes);
        let error = refusal(&verdict);
        assert_eq!(error.code, code);
        assert_eq!(error.detail.as_ref().unwrap().epoch, Some(EPOCH));
    }
    alone.partition.raise_epoch(Epoch(6));
    alone.partition.raise_epoch(Epoch(3));
    assert_eq!(alone.partition.epoch(), Epoch(6));
}

#[test]
fn a_repeated_push_is_recognised_at_a_higher_epoch() {
    let mut alone = Alone::vector(10);
    alone.add(LANE, 1, 0, 5);
    alone.partition.raise_epoch(Epoch(6));
    let bytes = add_section(5);
    let header = GroupHeader {
        epoch: Epoch(6),
        ..alone.header(Op::Update, &bytes, 1)
    };
    let verdict = alone.judge(LANE, 1, header, &bytes);
    assert!(verdict.repeated);
    assert_eq!(alone.first(), 5);
}

#[test]
fn the_first_line_that_fits_is_the_answer() {
    // Each case breaks everything from its line on; the answer is that of the line.
    let future = lane(NOW + 2 * FUTURE_MS, 1);
    let broken = vec![0; 7];
    let cases: [(&str, ErrorCode); 6] = [
        ("lost", ErrorCode::Lost),
        ("epoch", ErrorCode::StaleMap),
        ("bad", ErrorCode::Bad),
        ("superseded", ErrorCode::Superseded),
        ("expired", ErrorCode::LaneExpired),
        ("future", ErrorCode::LaneFromFuture),
    ];
    for (case, code) in cases {
        let mut alone = Alone::vector(10);
        let mut lane = future;
        let valid = add_section(1);
        let mut header = GroupHeader {
            prev: Number(2),
            ..alone.header(Op::Update, &valid, 1)
        };
        let mut bytes = &valid;
        match case {
            "lost" => {
                alone.partition.lose(Loss::Told(None));
                header.epoch = Epoch(1);
                bytes = &broken;
            }
            "epoch" => {
                header.epoch = Epoch(1);
                bytes = &broken;
            }
            "bad" => bytes = &broken,
            "superseded" => {
                lane = LANE;
                alone.add(LANE, 9, 0, 1);
            }
            "expired" => {
                // The future lane is both expired and from the future.
                alone.evict(&[]);
                let ahead = super::lane(NOW + FUTURE_MS, 2);
                alone.add(ahead, 1, 0, 1);
                alone.evict(&[ahead]);
                lane = ahead;
            }
            _ => {}
        }
        header.length = bytes.len() as u32;
        let verdict = alone.judge(lane, 3, header, bytes);
        assert_eq!(refusal(&verdict).code, code, "{case}");
    }
}

#[test]
fn a_loss_is_told_until_the_lane_goes_on_and_is_forgotten_with_it() {
    let mut alone = Alone::vector(1);
    alone.description.durability = Durability::Async;
    assert_eq!(alone.add(LANE, 1, 0, 1).after_loss, None);
    assert_eq!(alone.add(LANE, 5, 4, 1).after_loss, Some(Number(1)));
    let again = alone.add(LANE, 5, 4, 1);
    assert_eq!((again.repeated, again.after_loss), (true, Some(Number(1))));
    assert_eq!(alone.add(LANE, 6, 5, 1).after_loss, None);
    assert_eq!(alone.add(LANE, 6, 5, 1).after_loss, None);
    for _ in 0..2 {
        let given_up = alone.skip(LANE, 9, 8);
        assert_eq!(given_up.outcome, Outcome::Skipped);
        assert_eq!(given_up.after_loss, Some(Number(6)));
    }
    alone.evict(&[LANE]);
    assert_eq!(alone.partition.ledger().losses().count(), 0);
}
