//! How a follower comes to have everything, as its holder sees it: an attachment is offered, the answer says what the follower
//! has, and it gets the records that it lacks (those that memory has no more, from the log: see [`behind`](super::behind)), or the
//! whole state.
//!
//! The state goes out in pieces, among the records as they come: a piece is copied under the lock of the partition, and sent
//! before the records that come after it. So the follower has exact values as soon as it has all pieces, nothing is kept
//! aside meanwhile, and no lock is held for longer than one piece takes to copy.

use std::sync::Arc;

use bytes::Bytes;
use glint_protocol::{Epoch, Position, copies::CopyRole};

use super::{
    behind, configure, detach,
    held::{Held, Member, Phase},
    peer::{Peer, Way},
    wire::{Answer, Answers, Content, Frame, Outcome},
};
use crate::{
    log::snapshot::{self, About},
    partition::cut::PIECE_BYTES,
    server::state::{Counters, Slot, State},
};

/// Offers an attachment; the answer says what the follower lacks.
pub(super) fn offer(slot: &Slot, epoch: Epoch, member: &mut Member) {
    member.phase = Phase::Offered;
    member.known = false;
    member.has = None;
    member.promised = 0;
    member.behind = None;
    let frame = Frame::new(slot.key(), epoch, member.session, Content::Offer);
    member.send(frame);
}

/// Begins another attachment of the same follower, since what it has is not what was sent.
pub(super) fn offer_anew(state: &State, slot: &Slot, epoch: Epoch, member: &mut Member) {
    let before = std::mem::replace(&mut member.session, state.next_session());
    if member.waits {
        slot.safe.require(member.session, Position(0));
        slot.safe.release(before);
    }
    offer(slot, epoch, member);
}

/// Takes what a follower has answered to what was sent this way.
pub(super) fn answered(state: &Arc<State>, peer: &Peer, way: Way, answers: Answers) {
    for answer in answers.answers {
        if way == Way::Bulk {
            go_live(state, peer, &answer);
        }
        take(state, peer, &answer);
    }
}

/// From when its state was answered on, the records of an attachment do not wait behind the states of others.
fn go_live(state: &State, peer: &Peer, answer: &Answer) {
    let key = (answer.incarnation, answer.partition);
    let Some(slot) = state.slot(key) else {
        return;
    };
    let mut held = slot.lock();
    let mut members = held.members.iter_mut();
    let of_it = |m: &&mut Member| m.peer.is(peer) && m.session == answer.session;
    if let Some(member) = members.find(of_it)
        && member.phase == Phase::Ending
        && peer.go_live(key, member.session)
    {
        member.phase = Phase::Streaming;
    }
}

/// Takes one answer: it counts for the attachment that it names, and for nothing else.
pub(super) fn take(state: &Arc<State>, peer: &Peer, answer: &Answer) {
    let key = (answer.incarnation, answer.partition);
    let Some(slot) = state.slot(key) else {
        return;
    };
    let mut held = slot.lock();
    let epoch = held.epoch();
    // What is lost nobody follows: it only matters who has let go of it.
    let dismisses = matches!(answer.outcome, Outcome::Detached | Outcome::Stranger);
    if !held.is_holder() || held.loss().is_some() && !dismisses {
        return;
    }
    if let Outcome::Refused(higher) = answer.outcome {
        if higher > epoch {
            tracing::warn!(
                model = %slot.description.model, partition = key.1, %epoch, %higher,
                "another server holds a partition at a higher epoch; not serving it any more"
            );
            if configure::depose(state, &slot, &mut held, higher, None) {
                // Most often it is that one that says so.
                detach::give_way(state, &slot, epoch, peer.clone());
            }
        }
        return;
    }
    let held = &mut *held;
    let own = (held.last_epoch(), held.position());
    let of_it = |m: &Member| m.peer.is(peer) && m.session == answer.session;
    let Some(at) = held.members.iter().position(of_it) else {
        return;
    };
    if answer.epoch != epoch {
        return;
    }
    let member = &mut held.members[at];
    match answer.outcome {
        Outcome::Attached(last) if member.phase == Phase::Offered => {
            attached(state, &slot, held, at, last, own);
        }
        Outcome::Has(position) => {
            member.known = true;
            member.has = member.has.max(Some(position));
            slot.safe.report(member.session, position);
            if member.role == CopyRole::Learner && !member.waits {
                if member.promised <= state.origin.passed() {
                    // Only its promise is missing: the next beacon would ask for it late.
                    member.peer.beacon_now();
                }
                state.copies_changed.notify_one();
            }
        }
        Outcome::Pending => member.known = true,
        Outcome::Stranger if member.is_served() => {
            offer_anew(state, &slot, epoch, member);
        }
        // Who held it until now may not have heard yet that it does not any more: it is told again after a while.
        Outcome::Stranger if member.phase == Phase::Leaving => member.phase = Phase::New,
        // It is offered again after a while.
        Outcome::Full => member.phase = Phase::New,
        Outcome::Detached => {
            member.phase = Phase::Gone;
            state.copies_changed.notify_one();
        }
        Outcome::Attached(_) | Outcome::Stranger | Outcome::Refused(_) => {}
    }
}

/// A follower has said what it has.
fn attached(
    state: &State,
    slot: &Arc<Slot>,
    held: &mut Held,
    at: usize,
    last: Option<(Epoch, Position)>,
    own: (Epoch, Position),
) {
    let key = slot.key();
    let epoch = held.epoch();
    let since = last.and_then(|last| {
        if last == own {
            return Some(Vec::new());
        }
        held.tail.as_ref()?.since(last)
    });
    let last = last.filter(|last| held.reaches(*last, own));
    let member = &mut held.members[at];
    let session = member.session;
    let counters = &state.counters;
    if let Some(records) = since {
        Counters::add(&counters.level_from_memory, 1);
        member.phase = Phase::Streaming;
        member.known = true;
        for (header, payload) in records {
            member.send(Frame::append(key, epoch, session, header, payload));
        }
        // What it has as the model's durability asks for, it reports by itself.
        member.peer.beacon_now();
    } else if let Some(last) = last {
        // Whether what it has is of this history shows when its records are read: until then nothing that it says counts.
        member.phase = Phase::Behind { last };
        member.peer.feed(slot);
    } else {
        member.phase = Phase::Queued;
        member.peer.feed(slot);
    }
}

/// What a follower must know before the first piece: what the partition is, and its ledger.
fn begin(state: &State, slot: &Slot, held: &Held) -> Option<Bytes> {
    let (incarnation, partition) = slot.key();
    let about = About {
        version: snapshot::version_for(held.ledger()),
        incarnation,
        partition,
        position: held.position(),
        epoch: held.last_epoch(),
        offset: 0,
        spec: state.spec(incarnation)?,
    };
    let about = serde_json::to_vec(&about).ok()?;
    let mut out = (about.len() as u32).to_le_bytes().to_vec();
    out.extend_from_slice(&about);
    out.extend_from_slice(&snapshot::encode_ledger(held.ledger()));
    Some(out.into())
}

/// What was sent of a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sent {
    pub(super) bytes: usize,
    /// Nothing more is to be sent of it.
    pub(super) was_last: bool,
}

/// Has the next piece of a partition's state, or of the records that a peer lacks, sent to it. Before the first piece of a state,
/// records are not sent: they are in it.
pub(super) async fn send_piece(state: &State, slot: &Arc<Slot>, peer: &Peer) -> Sent {
    if let Some(sent) = behind::send_records(state, slot, peer).await {
        return sent;
    }
    piece(state, slot, peer).unwrap_or(Sent {
        bytes: 0,
        was_last: true,
    })
}

fn piece(state: &State, slot: &Arc<Slot>, peer: &Peer) -> Option<Sent> {
    let mut held = slot.lock();
    let epoch = held.epoch();
    let held = &mut *held;
    if !held.is_holder() || held.loss().is_some() {
        return None;
    }
    let is_fed =
        |m: &Member| m.peer.is(peer) && matches!(m.phase, Phase::Queued | Phase::Sending { .. });
    let at = held.members.iter().position(is_fed)?;
    let session = held.members[at].session;
    let send = |content| {
        let frame = Frame::new(slot.key(), epoch, session, content);
        peer.send(Way::Bulk, frame);
    };
    let next = if let Phase::Sending { next } = held.members[at].phase {
        next
    } else {
        send(Content::Begin(begin(state, slot, held)?));
        Counters::add(&state.counters.level_by_state, 1);
        0
    };
    let size = (PIECE_BYTES / slot.description.element.size()).max(1);
    let count = held.values().len();
    let end = (next + size).min(count);
    let values = Bytes::from(held.values().to_le(next..end));
    let bytes = values.len();
    send(Content::Piece {
        at: next as u64,
        values,
    });
    let was_last = end == count;
    held.members[at].phase = if was_last {
        send(Content::End);
        Phase::Ending
    } else {
        Phase::Sending { next: end }
    };
    Some(Sent { bytes, was_last })
}
