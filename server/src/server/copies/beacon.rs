//! Beacons: a holder asks its followers again and again to promise that they do not serve in its place, and by that shows that it
//! lives. They come from the tasks that serve requests: a server that hangs sends none.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use glint_protocol::{ErrorBody, ErrorCode};
use tokio::time::Instant;

use super::{
    attach,
    configure::DRIFT,
    held::Held,
    peer::Peer,
    receive::is_attached,
    stream::post,
    wire::{Answer, Attachment, Beacon, Heard, Outcome, Yield, decode_beacon, encode_beacon},
};
use crate::server::state::{Slot, State};

/// Rounds without a partition after which the way to a peer ends.
const IDLE_ROUNDS: u32 = 20;

/// Sends beacons to a peer until the way to it ends.
pub(super) async fn run(state: Arc<State>, peer: Peer) {
    let end = peer.end().clone();
    tokio::select! {
        biased;
        () = end.cancelled() => {}
        () = beat(&state, &peer) => {}
    }
}

async fn beat(state: &Arc<State>, peer: &Peer) {
    let mut idle = 0;
    loop {
        // Before it is seen what is whole: what the peer named then lies before that.
        let echo = peer.echo();
        let attachments = attachments(state, peer);
        if attachments.is_empty() {
            peer.answered(Instant::now());
            idle += 1;
            if idle > IDLE_ROUNDS && state.peers.end_if_unused(peer) {
                return;
            }
        } else {
            idle = 0;
            speak(state, peer, echo, &attachments).await;
        }
        let pulse = state.pulse();
        tokio::select! {
            biased;
            () = peer.beacon_wanted() => {}
            () = tokio::time::sleep(Duration::from_millis(pulse.beacon_ms)) => {}
        }
    }
}

/// The attachments of a peer that a beacon speaks for.
fn attachments(state: &State, peer: &Peer) -> Vec<Attachment> {
    let models = state.models.load();
    let slots = models.slots().filter(|slot| slot.is_copied());
    let mut attachments = Vec::new();
    for slot in slots {
        let held = slot.lock();
        if held.is_holder() {
            // While others may answer in its place, they may acknowledge what this one has not heard of.
            let may_answer = slot.answering.may(&state.origin);
            let of_it = held.members.iter().filter(|m| m.peer.is(peer));
            let attached = of_it.filter(|m| m.known && m.is_served());
            attachments.extend(attached.map(|m| Attachment {
                key: slot.key(),
                epoch: held.epoch(),
                session: m.session,
                is_whole: m.waits && may_answer,
            }));
        }
    }
    attachments
}

async fn speak(state: &Arc<State>, peer: &Peer, echo: u64, attachments: &[Attachment]) {
    let pulse = state.pulse();
    let sent = state.origin.now();
    let body = encode_beacon(&peer.hello(state), echo, attachments);
    let within = Duration::from_millis(pulse.lease_ms);
    let heard: Heard = match post(peer, "/v1/copies/beacon", body.into(), within).await {
        Ok(heard) => heard,
        Err(error) => {
            tracing::debug!(peer = %peer.id(), %error, "a beacon was not answered");
            return;
        }
    };
    if heard.outcomes.len() != attachments.len() {
        return;
    }
    peer.answered(Instant::now());
    peer.stamped(heard.stamp);
    let lease = pulse.lease_ms * 1000;
    let until = state.origin.micros(sent) + lease - lease / DRIFT;
    for (attachment, &outcome) in attachments.iter().zip(&heard.outcomes) {
        let &Attachment {
            key,
            epoch,
            session,
            ..
        } = attachment;
        if let Outcome::Has(_) = outcome
            && let Some(slot) = state.slot(key)
        {
            let mut held = slot.lock();
            let held = &mut *held;
            if held.is_holder() && held.epoch() == epoch {
                let found = held.members.iter_mut().find(|m| m.session == session);
                if let Some(member) = found {
                    member.promised = member.promised.max(until);
                }
                renew(&slot, held);
            }
        }
        let answer = Answer {
            incarnation: key.0,
            partition: key.1,
            epoch,
            session,
            outcome,
        };
        attach::take(state, peer, &answer);
    }
}

/// Until when a holder may answer: until the first of the promises ends that it needs.
pub(super) fn renew(slot: &Slot, held: &Held) {
    let needed = held.members.iter().filter(|m| m.waits);
    slot.answering
        .leased_until(needed.map(|m| m.promised).min());
    slot.safe.look_again();
}

/// Promises, as a follower, not to serve in place of who sent this beacon.
///
/// # Errors
/// `bad_request`, `stale_order` for another start of this server, `wrong_cluster`.
pub(in crate::server) fn hear_beacon(state: &State, body: Bytes) -> Result<Heard, ErrorBody> {
    let Beacon {
        hello,
        echo,
        attachments,
    } = decode_beacon(body)?;
    state.greets(&hello)?;
    let now = state.origin.now();
    let answered = state.origin.at(echo).filter(|answered| *answered <= now);
    state.heard_holder(&hello.server, hello.boot, now);
    let outcome = |attachment: &Attachment| {
        let &Attachment {
            key,
            epoch,
            session,
            is_whole,
        } = attachment;
        if let Some(slot) = state.slot(key) {
            let mut held = slot.lock();
            if held.known_epoch() > epoch {
                return Outcome::Refused(held.known_epoch());
            }
            if is_attached(state, &slot, &held, epoch, session) {
                held.promised = Some((now, epoch));
                held.note_beacon(answered.filter(|_| is_whole));
                return if slot.is_installed() {
                    Outcome::Has(slot.safe.own())
                } else {
                    Outcome::Pending
                };
            }
        }
        if state.receiving.is_receiving(key, epoch, session) {
            Outcome::Pending
        } else {
            Outcome::Stranger
        }
    };
    Ok(Heard {
        stamp: state.origin.micros(now),
        outcomes: attachments.iter().map(outcome).collect(),
    })
}

/// A holder has ceased to serve: if it is the one whose lease is waited for, that is over.
///
/// # Errors
/// As [`hear_beacon`].
pub(in crate::server) fn hear_yield(state: &State, word: &[u8]) -> Result<(), ErrorBody> {
    let word: Yield = serde_json::from_slice(word)
        .map_err(|error| ErrorBody::new(ErrorCode::BadRequest, error.to_string()))?;
    state.greets(&word.hello)?;
    if let Some(slot) = state.slot((word.incarnation, word.partition)) {
        let mut held = slot.lock();
        held.yielded = held.yielded.max(word.ceased);
        if held.awaited.is_some_and(|awaited| awaited <= word.ceased) {
            held.awaited = None;
            slot.answering.wait_until(0);
            slot.safe.look_again();
        }
    }
    Ok(())
}
