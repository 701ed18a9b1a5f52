use glint_protocol::Durability;

use super::*;
use crate::master::testing::{copied, id, model, who};

#[test]
fn servers_that_come_and_go_leave_the_places_of_others_as_they_were() {
    let mut state = copied(3, 3, 2, Durability::Memory);
    let before: Vec<String> = (0..3).map(|p| who(&state, p)).collect();
    let first = model(&mut state).intern(&id("a"));
    assert_eq!(first, 0, "it comes first by name");
    assert_eq!((0..3).map(|p| who(&state, p)).collect::<Vec<_>>(), before);
    model(&mut state).set_role(1, first, Some(CopyRole::Learner));
    assert_eq!(who(&state, 1), "s2, a learner, s3 in sync");
    let revision = state.fresh_revision();
    let model = model(&mut state);
    model.revised(1, revision);
    assert_eq!(model.bytes_on(&id("a")), 64);
    model.strike(1, first);
    model.tidy();
    assert_eq!(model.servers, ["s1", "s2", "s3"].map(id));
    assert_eq!((0..3).map(|p| who(&state, p)).collect::<Vec<_>>(), before);
}

#[test]
fn bytes_are_counted_for_every_copy_and_stay_when_another_is_promoted() {
    let mut state = copied(3, 3, 2, Durability::Memory);
    for name in ["s1", "s2", "s3"] {
        assert_eq!(state.placed_bytes(&id(name)), 128);
    }
    let epoch = state.fresh_epoch();
    model(&mut state).promote(0, 1, epoch, CopyRole::Former);
    assert_eq!(who(&state, 0), "s2, s1 former");
    assert_eq!(state.placed_bytes(&id("s1")), 128);
    assert_eq!(state.models["w"].epochs[0], epoch);
}

/// A partition held by s1 and followed by s2 in sync, of which s3 is this, while a copy moves.
fn moving(from: u32, third: Option<CopyRole>) -> (String, bool, bool) {
    let mut state = copied(3, 1, 2, Durability::Memory);
    let model = model(&mut state);
    let third_server = model.intern(&id("s3"));
    model.set_role(0, third_server, third);
    model.copies.get_mut(&0).unwrap().moving = Some(Move {
        from,
        to: third_server,
    });
    let promoted = model.advance(0, || Epoch(99));
    let is_under_way = model.copies[&0].moving.is_some();
    assert_eq!(model.epochs[0] == Epoch(99), promoted);
    (who(&state, 0), promoted, is_under_way)
}

#[test]
fn a_move_ends_when_what_comes_is_in_sync_and_is_called_off_when_that_is_no_copy_any_more() {
    use CopyRole::{Former, InSync, Learner};
    for (from, third, expected, promoted, is_under_way) in [
        (0, Some(Learner), "s1, s2 in sync, s3 learner", false, true),
        (0, Some(InSync), "s3, s1 former, s2 in sync", true, false),
        (1, Some(InSync), "s1, s2 former, s3 in sync", false, false),
        (0, Some(Former), "s1, s2 in sync, s3 former", false, false),
        (1, None, "s1, s2 in sync", false, false),
    ] {
        let expected = (expected.to_owned(), promoted, is_under_way);
        assert_eq!(moving(from, third), expected);
    }
}

#[test]
fn of_copies_that_may_miss_the_last_moments_the_latest_holds_and_without_any_all_is_lost() {
    let claim = |server, epoch, position| Claim {
        server,
        last: (Epoch(epoch), Position(position)),
    };
    for (claims, expected, lost) in [
        (
            vec![claim(0, 3, 5), claim(1, 2, 90)],
            "s1, s2 learner",
            false,
        ),
        (
            vec![claim(0, 3, 5), claim(1, 3, 6)],
            "s2, s1 learner",
            false,
        ),
        (vec![], "s1, s2 former", true),
    ] {
        let mut state = copied(2, 1, 2, Durability::Async);
        let model = model(&mut state);
        model.set_role(0, 1, Some(CopyRole::Learner));
        let copies = model.copies.get_mut(&0).unwrap();
        (copies.vacant, copies.claims) = (true, claims);
        let is_lost = model.give_up(0, Epoch(99), LossReason::Missing);
        assert_eq!(is_lost, lost);
        assert_eq!(model.lost.contains_key(&0), lost);
        assert!(!model.is_vacant(0));
        assert_eq!(model.epochs[0], Epoch(99));
        assert_eq!(who(&state, 0), expected);
    }
}
