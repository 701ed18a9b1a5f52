//! Putting a copy in place that has arrived as a whole. One of a logged model counts once a snapshot of it is on the disk; until
//! then the disk keeps what was there before.

use std::sync::Arc;

use glint_protocol::Epoch;

use super::{
    held::{Following, Held, Role},
    incoming::Incoming,
    wire::{Key, Outcome},
};
use crate::{
    log::{
        Entry,
        record::{Header, Kind},
    },
    safe::SafePosition,
    server::{
        durable::Durable,
        keeper::{self, Keeper},
        state::{Model, Slot, State},
    },
};

/// Puts a copy in place of the one that was there, if any.
pub(super) async fn install(state: &Arc<State>, key: Key, incoming: Incoming) -> Outcome {
    let _one_at_a_time = state.obeying.lock().await;
    let (epoch, session) = (incoming.epoch, incoming.session);
    if state.tombstones().reason(key.0).is_some() {
        return Outcome::Stranger;
    }
    let before = state.slot(key);
    if let Some(before) = &before {
        let held = before.lock();
        // Whoever was promoted meanwhile, or attached anew, is not replaced.
        if held.known_epoch() > epoch {
            return Outcome::Refused(held.known_epoch());
        }
        let later = match &held.role {
            Role::Holder => held.loss().is_none() || held.epoch() >= epoch,
            Role::Follower(f) => (f.epoch, f.session) > (epoch, session),
        };
        if later {
            return Outcome::Stranger;
        }
    }
    let position = incoming.position();
    let slot = Arc::new(make(state, key, incoming, before.as_deref()));
    put(state, key, &slot);
    tracing::debug!(
        model = %slot.description.model, partition = key.1, %epoch, session, %position, "copy received"
    );
    if slot.durable.is_none() {
        return Outcome::Has(slot.safe.own());
    }
    let (inside, kept) = (Arc::clone(state), Arc::clone(&slot));
    state.spawn(async move { keep(&inside, &kept, epoch).await });
    Outcome::Pending
}

fn make(state: &Arc<State>, key: Key, incoming: Incoming, before: Option<&Slot>) -> Slot {
    let log = state
        .log
        .get()
        .filter(|_| incoming.description.durability.is_logged());
    let durable = log.map(|log| {
        let begins = log.append(Entry {
            header: Header::new(Kind::Replace, key.0, key.1, state.boot, &[]),
            payload: bytes::Bytes::new(),
            safe: Arc::new(SafePosition::default()),
            durability: incoming.description.durability,
        });
        // What the copy before needs is needed until the snapshot of this one is in place.
        let needed = before.and_then(|slot| slot.durable.as_ref()?.needed_from());
        let needed = needed.map_or(begins, |needed| needed.min(begins));
        Durable::new(
            log.clone(),
            state.boot,
            incoming.description.durability,
            Some(needed),
        )
    });
    let role = Role::Follower(Following {
        epoch: incoming.epoch,
        session: incoming.session,
        holder: Some(incoming.holder),
    });
    let keeps = state.keeps(&incoming.spec);
    let mut held = Held::new(incoming.partition, role, &incoming.description, keeps);
    if let Some(before) = before {
        held.replace(&mut before.lock());
    }
    Slot::received(
        incoming.description,
        incoming.spec,
        held,
        durable,
        (incoming.epoch, incoming.session),
    )
}

fn put(state: &State, key: Key, slot: &Arc<Slot>) {
    let mut models = state.models.load().by_incarnation.clone();
    let (spec, mut slots) = models.get(&key.0).map_or_else(
        || {
            let mut slots = Vec::new();
            slots.resize_with(slot.spec.partition_count as usize, || None);
            (Arc::clone(&slot.spec), slots)
        },
        |model| (Arc::clone(&model.spec), model.slots.clone()),
    );
    slots[key.1 as usize] = Some(Arc::clone(slot));
    let model = Model { spec, slots };
    models.insert(key.0, Arc::new(model));
    state.put_models(models);
}

/// Writes the snapshot from which on the copy counts.
async fn keep(state: &Arc<State>, slot: &Arc<Slot>, epoch: Epoch) {
    let (Some(log), Some(disk)) = (state.log.get(), &state.disk) else {
        return;
    };
    let keeper = Keeper::new(
        Arc::clone(state),
        Arc::clone(disk),
        log.clone(),
        state.log_options,
    );
    while state.holds(slot) && !state.ending.is_cancelled() {
        let values = slot.description.value_bytes();
        let kept = async {
            keeper.snapshot(slot, values).await?;
            keeper::unmark(state, slot).await
        };
        match kept.await {
            Ok(()) => {
                slot.installed();
                return;
            }
            Err(error) if glint_world::disk::is_unsynced(&error) => {
                log.fail(&error);
                return;
            }
            Err(error) => {
                tracing::warn!(%error, %epoch, "the snapshot of a copy could not be written; trying again");
                tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            }
        }
    }
}
