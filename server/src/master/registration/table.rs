//! How the copies of a registering server are judged: every row of the table.

use glint_protocol::{LossReason, OsBoot, VolumeId, control::Volume};

use super::*;

/// What a server comes back with.
#[derive(Clone, Copy)]
struct Return {
    boot: u64,
    volume: Option<Volume>,
    os_boot: u64,
    reports: bool,
}

const KNOWN: Volume = volume(7, 5, true);
const SAME: Return = Return {
    boot: 1,
    volume: Some(KNOWN),
    os_boot: 1,
    reports: true,
};
const AGAIN: Return = Return {
    boot: 2,
    volume: Some(volume(7, 6, false)),
    ..SAME
};

const fn volume(id: u64, start: u64, clean: bool) -> Volume {
    Volume {
        id: VolumeId(id),
        start,
        clean,
    }
}

/// A live model of this durability on one server that is known with [`KNOWN`], and what its registration changes.
fn judged(durability: Durability, back: Return) -> (State, State, Findings) {
    let mut state = state_with_servers(1);
    state.servers.get_mut(&id("s1")).unwrap().volume = Some(KNOWN);
    let mut draft = draft("w", 10);
    draft.durability = Some(durability);
    make(&mut state, draft, 1);
    let before = state.clone();
    let mut request = registration(&state, "s1", back.boot);
    request.volume = back.volume;
    request.os_boot = OsBoot(back.os_boot);
    if !back.reports {
        request.copies.clear();
    }
    let findings = register(&mut state, &request, &BTreeSet::new()).unwrap();
    (before, state, findings)
}

fn loss(durability: Durability, back: Return) -> Option<LossReason> {
    let (before, after, findings) = judged(durability, back);
    let lost = after.models["w"].lost.get(&0).copied();
    let told = findings.lost.first().map(|(_, reason, _)| *reason);
    assert_eq!(told, lost, "what is lost is told");
    let rose = after.models["w"].epochs[0] > before.models["w"].epochs[0];
    assert_eq!(
        rose,
        lost.is_some() || back.boot != 1,
        "the epoch rises with a restart and with a loss"
    );
    lost
}

#[test]
fn the_same_start_keeps_what_it_has_also_when_an_early_report_of_it_comes_again() {
    for durability in Durability::ALL {
        assert_eq!(loss(durability, SAME), None);
        let early = Return {
            reports: false,
            ..SAME
        };
        assert_eq!(loss(durability, early), None);
    }
}

#[test]
fn a_memory_copy_ends_with_its_start_even_if_one_is_reported() {
    for reports in [true, false] {
        let back = Return { reports, ..AGAIN };
        assert_eq!(loss(Durability::Memory, back), Some(LossReason::Restarted));
    }
}

#[test]
fn a_logged_copy_is_judged_by_its_volume() {
    let with = |volume| Return { volume, ..AGAIN };
    let missing = Return {
        reports: false,
        ..AGAIN
    };
    for durability in [Durability::Async, Durability::Sync] {
        for (back, expected) in [
            (AGAIN, None),
            (with(Some(volume(7, 60, true))), None),
            (missing, Some(LossReason::Missing)),
            (with(Some(volume(8, 1, false))), Some(LossReason::Emptied)),
            (
                with(Some(volume(8, 9, true))),
                Some(LossReason::OtherVolume),
            ),
            (
                with(Some(volume(7, 5, true))),
                Some(LossReason::OlderVolume),
            ),
            (
                with(Some(volume(7, 2, true))),
                Some(LossReason::OlderVolume),
            ),
        ] {
            assert_eq!(loss(durability, back), expected, "{:?}", back.volume);
        }
    }
}

#[test]
fn a_server_that_comes_without_its_data_directory_is_refused_as_long_as_that_has_values() {
    for (durability, is_let_in) in [
        (Durability::Memory, true),
        (Durability::Async, false),
        (Durability::Sync, false),
    ] {
        let mut state = state_with_servers(1);
        state.servers.get_mut(&id("s1")).unwrap().volume = Some(KNOWN);
        let mut draft = draft("w", 10);
        draft.durability = Some(durability);
        make(&mut state, draft, 1);
        let mut request = registration(&state, "s1", 2);
        request.volume = None;
        let before = state.clone();
        match register(&mut state, &request, &BTreeSet::new()) {
            Ok(_) => assert!(is_let_in),
            Err(error) => {
                assert!(
                    !is_let_in && error.message.contains("--data-dir"),
                    "{error}"
                );
                assert!(state == before, "nothing changed");
            }
        }
    }
}

#[test]
fn an_older_copy_on_which_more_processes_have_started_since_is_still_an_older_copy() {
    let (_, mut state, _) = judged(Durability::Sync, SAME);
    let mut request = registration(&state, "s1", 9);
    request.volume = Some(volume(7, 60, false));
    request.starts = [0, 7, 8, 9].map(Boot).into();
    let mut right = state.clone();
    register(&mut state, &request, &BTreeSet::new()).unwrap();
    assert_eq!(
        state.models["w"].lost,
        [(0, LossReason::OlderVolume)].into()
    );
    request.starts[0] = Boot(1);
    register(&mut right, &request, &BTreeSet::new()).unwrap();
    assert!(right.models["w"].lost.is_empty());
}

#[test]
fn a_copy_of_another_identity_is_kept_by_its_server_and_held_as_lost() {
    let back = Return {
        volume: Some(volume(8, 9, true)),
        ..AGAIN
    };
    let (_, after, findings) = judged(Durability::Sync, back);
    assert!(findings.orphans.is_empty());
    let orders = orders(&after, &id("s1"), glint_protocol::Boot(2));
    assert!(orders.drop.is_empty(), "it is not told to delete anything");
    let held = &orders.hold[0].partitions[0];
    assert!(held.lost);
    assert_eq!(held.reason, Some(LossReason::OtherVolume));
}

#[test]
fn what_is_lost_stays_so_though_the_right_volume_comes_back() {
    let (_, mut after, _) = judged(
        Durability::Sync,
        Return {
            volume: Some(volume(8, 1, false)),
            ..AGAIN
        },
    );
    let mut request = registration(&after, "s1", 3);
    request.volume = Some(volume(7, 6, true));
    register(&mut after, &request, &BTreeSet::new()).unwrap();
    assert_eq!(after.models["w"].lost, [(0, LossReason::Emptied)].into());
}

#[test]
fn a_machine_that_stopped_may_have_shortened_async_copies_unless_they_were_left_clean() {
    let rebooted = Return {
        os_boot: 2,
        ..AGAIN
    };
    let clean = Return {
        volume: Some(volume(7, 6, true)),
        ..rebooted
    };
    for (durability, back, expected) in [
        (Durability::Async, rebooted, 1),
        (Durability::Async, clean, 0),
        (Durability::Async, AGAIN, 0),
        (Durability::Sync, rebooted, 0),
    ] {
        let (_, after, findings) = judged(durability, back);
        assert!(after.models["w"].lost.is_empty());
        assert_eq!(findings.shortened.len(), expected, "{durability}");
    }
}

#[test]
fn a_term_above_the_masters_is_overtaken_so_that_its_orders_are_obeyed() {
    let mut state = state_with_servers(1);
    let mut request = registration(&state, "s1", 1);
    request.term = glint_protocol::Term(9);
    register(&mut state, &request, &BTreeSet::new()).unwrap();
    assert_eq!(state.term, glint_protocol::Term(10));
    request.cluster = Some(glint_protocol::ClusterId(0xbad));
    request.term = glint_protocol::Term(90);
    register(&mut state, &request, &BTreeSet::new()).unwrap();
    assert_eq!(
        state.term,
        glint_protocol::Term(10),
        "of its own cluster only"
    );
}
