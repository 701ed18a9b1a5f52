//! Followers that were away for longer than memory remembers, and not for so long that the log has forgotten too: their records are
//! read from it, a piece at a time, until memory has the rest.
//!
//! They go by the streams of states, at their rate. Until the follower is level no record goes out to it as it comes.

use std::sync::Arc;

use bytes::Bytes;
use glint_protocol::{Epoch, Position};

use super::{
    attach::Sent,
    held::{Held, Member, Phase},
    peer::{Peer, Way},
    wire::{Frame, Key},
};
use crate::{
    log::{Place, record::Header},
    partition::cut::PIECE_BYTES,
    server::state::{Counters, Slot, State},
};

type Last = (Epoch, Position);

impl Held {
    /// Whether the log has what a copy lacks whose last record is this one, of a partition that has come so far.
    pub(super) fn reaches(&self, last: Last, own: Last) -> bool {
        let trail = self.trail.as_ref().filter(|_| last.1 < own.1);
        trail.is_some_and(|trail| trail.after(last.1, 1).is_some())
    }
}

/// What is to be read.
struct Wanted {
    session: u64,
    last: Last,
    places: Vec<Place>,
}

/// Sends the next records of the log to a peer that is to have its records of a partition from there; none when it is not, or not
/// any more.
pub(super) async fn send_records(state: &State, slot: &Arc<Slot>, peer: &Peer) -> Option<Sent> {
    let log = state.log.get()?;
    let wanted = {
        let mut held = slot.lock();
        match next(state, slot, &mut held, peer)? {
            Next::Done(bytes) => {
                return Some(Sent {
                    bytes,
                    was_last: true,
                });
            }
            Next::Read(wanted) => wanted,
        }
    };
    let appended = log.appended();
    let places = wanted.places.iter().take_while(|p| p.end() <= appended);
    let places: Vec<Place> = places.copied().collect();
    let read = log.read(&places).await;
    let records = read.unwrap_or_else(|error| {
        tracing::warn!(%error, "the log cannot be read; a follower gets the whole state");
        Vec::new()
    });
    let mut held = slot.lock();
    let epoch = held.epoch();
    let member = find(&mut held, peer)?;
    if member.session != wanted.session || member.phase != (Phase::Behind { last: wanted.last }) {
        return None;
    }
    let (key, mut last, mut bytes) = (slot.key(), wanted.last, 0);
    for (header, payload) in records {
        if !goes_on(key, last, &header) {
            break;
        }
        last = (header.epoch, header.position);
        bytes += send(key, epoch, member, header, payload);
    }
    member.phase = if bytes > 0 {
        goes_along(member);
        Phase::Behind { last }
    } else if places.is_empty() {
        // What is next is on its way to the log: it is offered again after a while.
        Phase::New
    } else {
        // It has gone from the log, or what the follower has is not of this history.
        Phase::Queued
    };
    (bytes > 0).then_some(Sent {
        bytes,
        was_last: false,
    })
}

enum Next {
    /// All that was missing is sent: so many bytes just now.
    Done(usize),
    Read(Wanted),
}

fn find<'h>(held: &'h mut Held, peer: &Peer) -> Option<&'h mut Member> {
    if !held.is_holder() || held.loss().is_some() {
        return None;
    }
    let is_behind = |m: &&mut Member| m.peer.is(peer) && matches!(m.phase, Phase::Behind { .. });
    held.members.iter_mut().find(is_behind)
}

fn next(state: &State, slot: &Slot, held: &mut Held, peer: &Peer) -> Option<Next> {
    let own = (held.last_epoch(), held.position());
    let (key, epoch) = (slot.key(), held.epoch());
    let (session, last) = {
        let member = find(held, peer)?;
        let Phase::Behind { last } = member.phase else {
            return None;
        };
        (member.session, last)
    };
    let rest = if last == own {
        Some(Vec::new())
    } else {
        held.tail.as_ref().and_then(|tail| tail.since(last))
    };
    let trail = held.trail.as_ref();
    let places = trail.and_then(|trail| trail.after(last.1, PIECE_BYTES as u64));
    let member = find(held, peer)?;
    if let Some(records) = rest {
        Counters::add(&state.counters.level_from_log, 1);
        let sent = records.into_iter();
        let bytes = sent.map(|(header, payload)| send(key, epoch, member, header, payload));
        let bytes = bytes.sum();
        goes_along(member);
        // Records go out behind these until they are answered; if all were, there is nothing to wait for.
        member.phase = if bytes == 0 && peer.go_live(key, session) {
            Phase::Streaming
        } else {
            Phase::Ending
        };
        return Some(Next::Done(bytes));
    }
    let Some(places) = places else {
        member.phase = Phase::Queued;
        return None;
    };
    Some(Next::Read(Wanted {
        session,
        last,
        places,
    }))
}

/// What a copy has turned out to be of this history: beacons speak for it from now on.
fn goes_along(member: &mut Member) {
    if !member.known {
        member.known = true;
        member.peer.beacon_now();
    }
}

/// Whether a record is the next after the last of a copy: of the same history.
fn goes_on(key: Key, last: Last, header: &Header) -> bool {
    (header.incarnation, header.partition) == key
        && header.previous == last.0
        && header.position == last.1.next()
}

fn send(key: Key, epoch: Epoch, member: &Member, header: Header, payload: Bytes) -> usize {
    let frame = Frame::append(key, epoch, member.session, header, payload);
    let bytes = frame.bytes();
    member.peer.send(Way::Bulk, frame);
    bytes
}
