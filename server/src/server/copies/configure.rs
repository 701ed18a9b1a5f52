//! Obeying the master: this server becomes the holder of a partition, stays it with other followers, or ceases to be it.

use std::{sync::Arc, time::Duration};

use glint_protocol::{
    Epoch, ServerId,
    control::HeldPartition,
    copies::{self, CopyRole, FollowedPartition},
    error::Hint,
};

use super::{
    attach, beacon, detach,
    held::{Following, Held, Member, Phase, Role},
};
use crate::server::state::{Slot, State};

/// Clocks of two machines run apart by at most one part in so many.
pub(super) const DRIFT: u64 = 100;

/// Holds a partition as the master says: at this epoch, with these other copies. What comes late changes nothing.
pub(in crate::server) fn hold(
    state: &Arc<State>,
    slot: &Arc<Slot>,
    order: &HeldPartition,
    peers: &[copies::Peer],
) {
    let mut held = slot.lock();
    let held = &mut *held;
    let follows = match &held.role {
        Role::Holder => None,
        // By hearsay only, it may be this server that holds it at that epoch: its followers may have been told first.
        Role::Follower(following) => {
            let by_hearsay = following.holder.is_none() && following.session == 0;
            Some((following.epoch, by_hearsay))
        }
    };
    let late = match follows {
        None => {
            order.epoch < held.epoch()
                || (order.epoch == held.epoch() && order.revision < held.revision)
        }
        // At one epoch there is one holder.
        Some((followed, by_hearsay)) => {
            let behind = if by_hearsay {
                order.epoch < followed
            } else {
                order.epoch <= followed
            };
            behind || order.epoch < held.epoch()
        }
    };
    if late {
        return;
    }
    if held.loss().is_some() {
        held.raise_epoch(order.epoch);
        held.role = Role::Holder;
        held.revision = order.revision;
        // Others have no use for what they still have of it.
        set_members(state, slot, held, order, peers, &[]);
        dismiss(slot, held);
        held.copies_changed(slot);
        return;
    }
    let promoted = follows.is_some();
    let risen = promoted || order.epoch > held.epoch();
    // The same as before: what the master was asked for meanwhile, it may have done.
    let asked = if !risen && order.revision == held.revision {
        let learners = held.members.iter();
        let asked = learners.filter(|m| m.waits && m.role == CopyRole::Learner);
        asked.map(|m| m.peer.id().clone()).collect()
    } else {
        Vec::new()
    };
    held.raise_epoch(order.epoch);
    held.revision = order.revision;
    if promoted {
        promote(state, slot, held, order);
    }
    if risen {
        // Attachments are of one epoch.
        held.members.clear();
    }
    set_members(state, slot, held, order, peers, &asked);
    if risen {
        let sessions: Vec<u64> = (held.members.iter().filter(|m| m.waits))
            .map(|m| m.session)
            .collect();
        slot.safe.begin(&sessions);
    }
    let epoch = held.epoch();
    for member in &mut held.members {
        match member.phase {
            Phase::New if member.role != CopyRole::Former => attach::offer(slot, epoch, member),
            _ => {}
        }
    }
    dismiss(slot, held);
    held.copies_changed(slot);
    beacon::renew(slot, held);
    slot.safe.look_again();
}

/// Has former followers drop their copies.
fn dismiss(slot: &Slot, held: &mut Held) {
    let epoch = held.epoch();
    for member in &mut held.members {
        let told = matches!(member.phase, Phase::Leaving | Phase::Gone);
        if member.role == CopyRole::Former && !told {
            detach::order(slot, epoch, member);
        }
    }
}

/// From a follower to the holder: it answers once the promise that it gave to the holder before has ended.
fn promote(state: &Arc<State>, slot: &Arc<Slot>, held: &mut Held, order: &HeldPartition) {
    held.role = Role::Holder;
    (held.hint, held.ceased) = (None, None);
    held.inherited = held.position();
    let lease = state.pulse().lease_ms * 1000;
    // A start that has forgotten its promises keeps all that it may have given.
    let forgotten = slot.recovered && !order.copies.is_empty();
    let known = held.promised;
    let promised = known
        .map(|(at, to)| (state.origin.micros(at) + lease, to))
        .or(forgotten.then_some((lease, Epoch(order.epoch.0.saturating_sub(1)))));
    match promised {
        Some((until, to)) if held.yielded < to => {
            held.awaited = Some(to);
            slot.answering.wait_until(until);
            look_again_at(state, slot, until);
        }
        _ => slot.answering.wait_until(0),
    }
    held.forget_beacons();
    tracing::info!(
        model = %slot.description.model, partition = slot.description.partition, epoch = %order.epoch,
        position = %held.position(), "partition taken over"
    );
}

/// Has whoever waits for a partition look again at a time of this machine's clock.
fn look_again_at(state: &Arc<State>, slot: &Arc<Slot>, micros: u64) {
    let (slot, origin) = (Arc::clone(slot), state.origin.clone());
    state.spawn(async move {
        loop {
            // The clock that leases are measured by may be another than that of the timer.
            let left = micros.saturating_sub(origin.passed());
            tokio::time::sleep(Duration::from_micros(left + 1)).await;
            if left == 0 {
                return slot.safe.look_again();
            }
        }
    });
}

/// Takes over the followers of an order; for those that the master was `asked` to add, acknowledgements wait as before.
fn set_members(
    state: &Arc<State>,
    slot: &Arc<Slot>,
    held: &mut Held,
    order: &HeldPartition,
    peers: &[copies::Peer],
    asked: &[ServerId],
) {
    let mut before = std::mem::take(&mut held.members);
    for place in &order.copies {
        let Some(peer) = peers.get(place.peer as usize) else {
            continue;
        };
        if peer.id == state.id {
            continue;
        }
        let Some(peer) = state.peers.to(state, peer) else {
            continue;
        };
        // One that was to be let go of, and is wanted again, comes as if it had never been: this server may not have been told
        // in between that it was none.
        let goes_on = |m: &Member| {
            let leaves = matches!(m.phase, Phase::Leaving | Phase::Gone);
            m.peer.is(&peer) && (place.role == CopyRole::Former || !leaves)
        };
        let known = before.iter().position(goes_on);
        let mut member = match known {
            Some(at) => before.swap_remove(at),
            None => Member {
                peer,
                role: place.role,
                session: state.next_session(),
                phase: Phase::New,
                known: false,
                waits: false,
                given_up: false,
                has: None,
                promised: 0,
                behind: None,
            },
        };
        member.role = place.role;
        member.given_up = false;
        let is_asked = place.role == CopyRole::Learner && asked.contains(member.peer.id());
        let waits = place.role == CopyRole::InSync || is_asked;
        if waits && !member.waits {
            // What it has reported counts; without a report nothing is safe before it has everything.
            slot.safe
                .require(member.session, member.has.unwrap_or_default());
        } else if !waits && member.waits {
            slot.safe.release(member.session);
        }
        member.waits = waits;
        held.members.push(member);
    }
    for gone in before {
        slot.safe.release(gone.session);
    }
}

/// Follows a partition that another server holds: who held it until now stops at once, and lets the other begin.
pub(in crate::server) fn follow(
    state: &Arc<State>,
    slot: &Arc<Slot>,
    order: &FollowedPartition,
    peers: &[copies::Peer],
) {
    let Some(holder) = peers.get(order.holder as usize) else {
        return;
    };
    let mut held = slot.lock();
    let hint = Hint {
        server: holder.id.clone(),
        url: holder.url.clone(),
        epoch: order.epoch,
    };
    let epoch = held.epoch();
    if held.known_epoch() <= order.epoch
        && let Some(ceased) = held.ceased.take()
    {
        // Who told that another holds it need not have been that one.
        give_way(state, slot, ceased, holder);
    }
    match &mut held.role {
        Role::Holder if epoch < order.epoch => {
            let may_yield = depose(state, slot, &mut held, order.epoch, Some(hint));
            drop(held);
            state.expect_holder(&holder.id, holder.boot, false);
            if may_yield {
                give_way(state, slot, epoch, holder);
            }
        }
        Role::Holder => {}
        Role::Follower(following) => {
            // What comes late names a holder, or a start of it, that is none any more.
            if following.epoch <= order.epoch {
                let known = following.epoch == order.epoch && following.holder.is_some();
                state.expect_holder(&holder.id, holder.boot, known);
            }
            if following.epoch < order.epoch {
                *following = Following {
                    epoch: order.epoch,
                    session: 0,
                    holder: Some(holder.id.clone()),
                };
            } else if following.epoch == order.epoch && following.holder.is_none() {
                following.holder = Some(holder.id.clone());
            }
            if held
                .hint
                .as_ref()
                .is_none_or(|known| known.epoch <= hint.epoch)
            {
                held.hint = Some(hint);
            }
        }
    }
}

/// Tells another server, unless it is this one, that it need not wait for what this one held at this epoch.
fn give_way(state: &Arc<State>, slot: &Slot, ceased: Epoch, to: &copies::Peer) {
    if to.id != state.id
        && let Some(peer) = state.peers.to(state, to)
    {
        detach::give_way(state, slot, ceased, peer);
    }
}

/// Ceases to be the holder: another is, at this epoch. What waits for a verdict gets none. Whether nobody need wait for what this
/// server held: while it waited itself for the one before, that one may serve still.
pub(super) fn depose(
    state: &State,
    slot: &Slot,
    held: &mut Held,
    epoch: Epoch,
    hint: Option<Hint>,
) -> bool {
    let may_yield = held.loss().is_none() && slot.answering.has_begun(&state.origin);
    let holder: Option<ServerId> = hint.as_ref().map(|hint| hint.server.clone());
    tracing::info!(
        model = %slot.description.model, partition = slot.description.partition, %epoch,
        "partition handed over"
    );
    held.role = Role::Follower(Following {
        epoch,
        session: 0,
        holder,
    });
    held.members.clear();
    held.forget_beacons();
    held.ceased = (may_yield && hint.is_none()).then(|| held.epoch());
    held.hint = hint;
    held.awaited = None;
    slot.answering.leased_until(None);
    slot.answering.wait_until(0);
    slot.safe.depose();
    state.copies_changed.notify_one();
    may_yield
}
