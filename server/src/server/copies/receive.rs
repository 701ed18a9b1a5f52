//! The follower's side: takes what a holder sends, in its order, and answers what it has. Everything may come twice, or late.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
};

use bytes::Bytes;
use glint_protocol::{Epoch, ErrorBody, ErrorCode, Position, ServerId};

pub(in crate::server) use super::incoming::Receiving;

use super::{
    configure, detach,
    held::{Following, Held, Role},
    incoming::{Announced, Broken, Incoming},
    install::install,
    wire::{Answer, Answers, Arrives, Content, Frame, Head, Key, Outcome, read_hello},
};
use crate::{
    http::reading::Reading,
    log::replayed,
    server::state::{Slot, State},
};

/// What is to be answered about one attachment.
enum Pending {
    Now(Outcome),
    /// What the partition has, once it has everything up to here.
    Once(Arc<Slot>, Position),
}

/// Takes a row of frames as they arrive, and answers once this server has what they bring. A row that breaks off was taken as far as it
/// came: it is sent again, and taking frames twice is the same as once.
///
/// # Errors
/// `bad_request`, `stale_order` for another start of this server, `wrong_cluster`, `retry` when the log has failed, and those of a body
/// that does not arrive.
pub(in crate::server) async fn take(
    state: &Arc<State>,
    mut body: Reading,
) -> Result<Answers, ErrorBody> {
    let hello = read_hello(&mut body).await?;
    state.greets(&hello)?;
    let mut pending: BTreeMap<(Key, Epoch, u64), Pending> = BTreeMap::new();
    while let Some(head) = Head::read(&mut body).await? {
        let (key, (epoch, session)) = (head.key(), head.attachment());
        let outcome = match head.content(&mut body).await? {
            Arrives::Frame(frame) => one(state, &hello.server, frame).await?,
            Arrives::Piece { at, bytes } => {
                Pending::Now(piece(state, key, (epoch, session), at, bytes, &mut body).await?)
            }
        };
        pending.insert((key, epoch, session), outcome);
    }
    if let Some(log) = state.log.get() {
        log.wake();
    }
    let mut answers = Vec::with_capacity(pending.len());
    for (((incarnation, partition), epoch, session), pending) in pending {
        let outcome = match pending {
            Pending::Now(outcome) => outcome,
            Pending::Once(slot, position) => owned(state, &slot, position).await?,
        };
        answers.push(Answer {
            incarnation,
            partition,
            epoch,
            session,
            outcome,
        });
    }
    Ok(Answers { answers })
}

/// Puts values where they belong as they arrive: `bytes` of them, from the value `at` on.
async fn piece(
    state: &State,
    key: Key,
    attachment: (Epoch, u64),
    at: u64,
    bytes: usize,
    body: &mut Reading,
) -> Result<Outcome, ErrorBody> {
    let mut outcome = Outcome::Pending;
    let mut taken = 0;
    while taken < bytes {
        // Values of any type are whole in it.
        let values = body.some(bytes - taken, 8).await?;
        outcome = arriving(state, key, attachment, |copy| {
            copy.piece(at, taken, &values)
        });
        taken += values.len();
    }
    Ok(outcome)
}

/// Waits until this copy has everything up to a position, as its model's durability asks for.
async fn owned(state: &State, slot: &Slot, position: Position) -> Result<Outcome, ErrorBody> {
    let has = async {
        slot.safe.owned(position).await;
        Outcome::Has(slot.safe.own())
    };
    let Some(log) = state.log.get() else {
        return Ok(has.await);
    };
    tokio::select! {
        biased;
        has = has => Ok(has),
        failure = log.failed() => Err(ErrorBody::new(ErrorCode::Retry, failure.to_string())),
    }
}

async fn one(state: &Arc<State>, from: &ServerId, frame: Frame) -> Result<Pending, ErrorBody> {
    let Frame {
        key,
        epoch,
        session,
        content,
    } = frame;
    let outcome = match content {
        Content::Offer => offered(state, from, key, epoch, session),
        Content::Append { header, payload } => {
            return Ok(append(state, key, (epoch, session), &header, &payload));
        }
        Content::Begin(content) => begin(state, from, key, (epoch, session), &content),
        // Taken as its values arrive.
        Content::Piece { .. } => Outcome::Stranger,
        Content::End => {
            let whole = state.receiving.take_whole(key, (epoch, session));
            match whole {
                Some(incoming) => install(state, key, incoming).await,
                // Installed already, or never whole.
                None => present(state, key, epoch, session),
            }
        }
        Content::Detach => {
            if detach::drop_copy(state, key, epoch, session).await? {
                Outcome::Detached
            } else {
                Outcome::Stranger
            }
        }
    };
    Ok(Pending::Now(outcome))
}

/// What there is of an attachment whose state has arrived.
fn present(state: &State, key: Key, epoch: Epoch, session: u64) -> Outcome {
    let Some(slot) = state.slot(key) else {
        return Outcome::Stranger;
    };
    let held = slot.lock();
    if is_attached(state, &slot, &held, epoch, session) {
        if slot.is_installed() {
            Outcome::Has(slot.safe.own())
        } else {
            Outcome::Pending
        }
    } else if held.known_epoch() > epoch {
        Outcome::Refused(held.known_epoch())
    } else {
        Outcome::Stranger
    }
}

/// Whether a copy takes what comes by this attachment: one that is going to be replaced by it does not, or records that are in
/// what replaces it would be missing there.
pub(super) fn is_attached(
    state: &State,
    slot: &Slot,
    held: &Held,
    epoch: Epoch,
    session: u64,
) -> bool {
    let named = matches!(&held.role, Role::Follower(f) if (f.epoch, f.session) == (epoch, session));
    named
        && held.loss().is_none()
        && (slot.is_of(epoch, session) || !state.receiving.brings_all(slot.key(), epoch, session))
}

/// An attachment begins: records of it, and of no other, are taken from now on.
fn offered(state: &Arc<State>, from: &ServerId, key: Key, epoch: Epoch, session: u64) -> Outcome {
    if !state.receiving.lock().admits(key, epoch, session) {
        return Outcome::Stranger;
    }
    // Who ends would be in sync for a moment, and then be waited for: also by whom it has just handed over to.
    let ends = state.leaves.load(Ordering::Acquire);
    let Some(slot) = state.slot(key) else {
        return if ends {
            Outcome::Full
        } else {
            Outcome::Attached(None)
        };
    };
    let mut held = slot.lock();
    let known = held.known_epoch();
    if known > epoch || (held.is_holder() && known == epoch) {
        return Outcome::Refused(known);
    }
    if held.is_holder() {
        // Only a holder that the master has made one speaks at a higher epoch.
        configure::depose(state, &slot, &mut held, epoch, None);
    }
    if ends {
        return Outcome::Full;
    }
    let whole = held.loss().is_none() && slot.is_installed();
    let last = (held.last_epoch(), held.position());
    if let Role::Follower(following) = &mut held.role {
        if (following.epoch, following.session) > (epoch, session) {
            return Outcome::Stranger;
        }
        // A copy that is being put in place is of the attachment by which it came, and of no other.
        if !whole {
            return Outcome::Attached(None);
        }
        *following = Following {
            epoch,
            session,
            holder: Some(from.clone()),
        };
        held.forget_beacons();
    }
    Outcome::Attached(Some(last))
}

fn begin(
    state: &Arc<State>,
    from: &ServerId,
    key: Key,
    (epoch, session): (Epoch, u64),
    content: &Bytes,
) -> Outcome {
    if state.tombstones().reason(key.0).is_some() {
        return Outcome::Stranger;
    }
    if let Some(slot) = state.slot(key) {
        let held = slot.lock();
        if held.known_epoch() > epoch {
            return Outcome::Refused(held.known_epoch());
        }
        let installed = matches!(&held.role, Role::Follower(f) if (f.epoch, f.session) >= (epoch, session))
            && slot.is_of(epoch, session);
        if installed {
            return Outcome::Pending;
        }
    }
    {
        let arriving = state.receiving.lock();
        if !arriving.admits(key, epoch, session) {
            return Outcome::Stranger;
        }
        if arriving.has_begun(key, epoch, session) {
            return Outcome::Pending;
        }
    }
    let Ok(announced) = Announced::read(key, content) else {
        return Outcome::Stranger;
    };
    if announced.description.durability.is_logged() && state.log.get().is_none() {
        return Outcome::Full;
    }
    // The copy that it replaces goes once it is whole.
    let replaced = state
        .slot(key)
        .map_or(0, |slot| slot.lock().values().bytes() as u64);
    let bytes = announced.description.value_bytes();
    let used = state.models.load().bytes() + state.receiving.bytes();
    if used.saturating_sub(replaced).saturating_add(bytes) > state.capacity_bytes {
        tracing::warn!(
            model = %announced.description.model, partition = key.1, bytes,
            "no room for a copy; give this server more memory (--memory), or add servers"
        );
        return Outcome::Full;
    }
    // Another copy of this request may be at it.
    if !state.receiving.lock().prepare(key, bytes) {
        return Outcome::Pending;
    }
    let incoming = Incoming::begin(announced, (epoch, session), from.clone());
    let mut arriving = state.receiving.lock();
    arriving.prepared(key);
    let Ok(incoming) = incoming else {
        return Outcome::Full;
    };
    // A later attachment may have been faster.
    if arriving.admits(key, epoch, session) && !arriving.has_begun(key, epoch, session) {
        arriving.begin(key, incoming);
    }
    Outcome::Pending
}

/// Does something to the copy that is arriving by this attachment.
fn arriving(
    state: &State,
    key: Key,
    (epoch, session): (Epoch, u64),
    take: impl FnOnce(&mut Incoming) -> Result<(), Broken>,
) -> Outcome {
    let attachment = (epoch, session);
    let taken = state.receiving.with(key, attachment, |copy| {
        let fits = copy.as_mut().is_some_and(|copy| take(copy).is_ok());
        if !fits {
            *copy = None;
        }
        fits
    });
    match taken {
        Some(true) => Outcome::Pending,
        Some(false) => {
            state.receiving.end(key, attachment);
            Outcome::Stranger
        }
        None => present(state, key, epoch, session),
    }
}

fn append(
    state: &Arc<State>,
    key: Key,
    (epoch, session): (Epoch, u64),
    header: &crate::log::record::Header,
    payload: &Bytes,
) -> Pending {
    if let Some(slot) = state.slot(key) {
        let mut held = slot.lock();
        if is_attached(state, &slot, &held, epoch, session) {
            if header.position <= held.position() {
                // It came before.
            } else if !replayed::follows(&held, header) {
                return Pending::Now(Outcome::Stranger);
            } else if let Err(why) = replayed::apply(&slot.description, &mut held, header, payload)
            {
                tracing::error!(
                    model = %slot.description.model, partition = key.1, why,
                    "a record for a copy cannot be applied; the copy is made anew"
                );
                return Pending::Now(Outcome::Stranger);
            } else {
                slot.note(&mut held, *header, payload);
            }
            let position = held.position();
            drop(held);
            return if slot.is_installed() {
                Pending::Once(slot, position)
            } else {
                Pending::Now(Outcome::Pending)
            };
        }
        if held.known_epoch() > epoch {
            return Pending::Now(Outcome::Refused(held.known_epoch()));
        }
    }
    Pending::Now(arriving(state, key, (epoch, session), |incoming| {
        incoming.append(header, payload)
    }))
}
