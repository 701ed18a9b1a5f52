//! Orders of the master: what to hold and what to drop. Obeying twice is the same as once.

use std::sync::Arc;

use glint_protocol::{
    ErrorBody, ErrorCode, Incarnation, ModelSpec,
    control::{HeldPartition, Hold, Orders},
};

use super::{
    copies,
    durable::Durable,
    keeper,
    state::{Model, Models, Slot, State},
};
use crate::partition::{Description, Loss, Partition};

/// Obeys, or refuses as a whole what it is told to hold; what it is told to drop is dropped either way.
pub(super) async fn obey(state: &Arc<State>, orders: Orders) -> Result<(), ErrorBody> {
    let _one_at_a_time = state.obeying.lock().await;
    admit(state, &orders)?;
    let mut models = Models::clone(&state.models.load());
    if !orders.drop.is_empty() {
        for drop in &orders.drop {
            state.tombstones().put(drop.incarnation, drop.reason);
            models.by_incarnation.retain(|held, _| {
                let goes = held.model == drop.incarnation.model
                    && held.generation <= drop.incarnation.generation;
                if goes {
                    tracing::info!(model = %held, reason = ?drop.reason, "model dropped");
                }
                !goes
            });
        }
        state.models.store(Arc::new(models.clone()));
        let dropped = |model: &Incarnation| state.tombstones().reason(*model).is_some();
        state.receiving.forget(|(model, _)| dropped(model));
        // What was dropped may not come back with the next start: whoever ordered it is told when that is sure.
        let drops = orders.drop.iter().map(|d| d.incarnation).collect();
        keeper::dropped(state, drops).await?;
    }
    if orders.hold.is_empty() {
        return Ok(());
    }
    let mut used = models.bytes();
    let mut made = 0;
    let _making = state.begin_making();
    for hold in orders.hold {
        made = made.max(take(state, &mut models, &mut used, hold).await?);
    }
    if let Some(log) = state.log.get() {
        // What is confirmed to be made is there after a restart.
        let reached = log.reached(made).await;
        reached.map_err(|failure| ErrorBody::new(ErrorCode::StorageFailed, failure.to_string()))?;
    }
    state.models.store(Arc::new(models));
    Ok(())
}

/// Whether these orders come from the master of now, for this start of this server.
fn admit(state: &State, orders: &Orders) -> Result<(), ErrorBody> {
    let refuse = |code, message| Err(ErrorBody::new(code, message));
    if orders.boot != state.boot {
        return refuse(
            ErrorCode::StaleOrder,
            format!(
                "the orders are for boot {}, server {} has boot {} now",
                orders.boot, state.id, state.boot
            ),
        );
    }
    let holds = state.has_values();
    let mut heard = state.heard();
    match heard.cluster {
        Some(cluster) if cluster != orders.cluster && holds => {
            return refuse(
                ErrorCode::WrongCluster,
                format!(
                    "server {} holds partitions of cluster {cluster}, the orders are of cluster {}",
                    state.id, orders.cluster
                ),
            );
        }
        Some(cluster) if cluster == orders.cluster && orders.term < heard.term => {
            return refuse(
                ErrorCode::StaleOrder,
                format!(
                    "the orders are of term {}, server {} has heard of term {}",
                    orders.term, state.id, heard.term
                ),
            );
        }
        // The same cluster and no lower term, or the first cluster, or another one while nothing is held.
        _ => {}
    }
    heard.cluster = Some(orders.cluster);
    heard.term = orders.term;
    Ok(())
}

/// Takes partitions of a model; says up to where the log must be synced until they are there for good.
async fn take(
    state: &Arc<State>,
    models: &mut Models,
    used: &mut u64,
    hold: Hold,
) -> Result<u64, ErrorBody> {
    let incarnation = hold.incarnation;
    if state.tombstones().reason(incarnation).is_some() {
        tracing::debug!(model = %incarnation, "a late order for a model that was dropped");
        return Ok(0);
    }
    hold.spec.check()?;
    let (spec, mut slots) = match models.by_incarnation.get(&incarnation) {
        Some(model) if *model.spec == hold.spec => (Arc::clone(&model.spec), model.slots.clone()),
        Some(model) => {
            return Err(ErrorBody::new(
                ErrorCode::InvalidSpec,
                format!(
                    "model '{}' ({incarnation}) is held here with another spec",
                    model.spec.name
                ),
            ));
        }
        None => {
            let mut slots = Vec::new();
            slots.resize_with(hold.spec.partition_count as usize, || None);
            (Arc::new(hold.spec), slots)
        }
    };
    let log = state.log.get().filter(|_| spec.durability().is_logged());
    if log.is_none()
        && spec.durability().is_logged()
        && hold.creating
        && !hold.partitions.is_empty()
    {
        return Err(no_disk(state, &spec));
    }
    let (mut made, mut absent, mut end) = (0, 0, 0);
    for held in &hold.partitions {
        let count = slots.len();
        let Some(slot) = slots.get_mut(held.partition as usize) else {
            return Err(ErrorBody::new(
                ErrorCode::BadRequest,
                format!(
                    "partition {} is out of range: model '{}' has {count}",
                    held.partition, spec.name
                ),
            ));
        };
        if let Some(slot) = slot {
            copies::hold(state, slot, held, &hold.peers);
            let mut partition = slot.lock();
            if held.lost && held.epoch >= partition.known_epoch() {
                partition.raise_epoch(held.epoch);
                partition.lose(Loss::Told(held.reason));
                slot.loss_is_known();
            }
            continue;
        }
        if state
            .receiving
            .was_let_go((incarnation, held.partition), held.epoch)
        {
            tracing::debug!(
                model = %incarnation, partition = held.partition, epoch = %held.epoch,
                "a late order to hold what was handed over and let go since"
            );
            continue;
        }
        let description = Description::new(&spec, incarnation, held.partition);
        let partition = if hold.creating && !held.lost {
            if let Some(log) = log {
                log.admits()?;
            }
            made += 1;
            make(state, used, &description, &spec, held)?
        } else {
            absent += 1;
            let loss = match (state.why_absent(incarnation, held.partition), held.reason) {
                // What its files say is more than what the master knows.
                (Loss::Absent, Some(reason)) => Loss::Told(Some(reason)),
                (loss, _) => loss,
            };
            Partition::absent(&description, held.epoch, loss)
        };
        let lost = partition.loss().is_some();
        let durable = log.map(|log| Durable::new(log.clone(), state.boot, spec.durability(), None));
        let new = Arc::new(Slot::new(
            description,
            Arc::clone(&spec),
            partition,
            durable,
            state.keeps(&spec),
        ));
        if !lost && let Some(durable) = &new.durable {
            let made = durable.made(&new.description, &spec, held.epoch, &new.safe);
            end = made.map_err(|error| ErrorBody::new(ErrorCode::Internal, error.to_string()))?;
        }
        if held.lost {
            new.loss_is_known();
        } else if lost {
            state.note_loss(&new);
        }
        copies::hold(state, &new, held, &hold.peers);
        *slot = Some(new);
        // Making values takes long; others have work too.
        tokio::task::yield_now().await;
    }
    report(&spec, incarnation, made, absent);
    for followed in &hold.followed {
        if let Some(Some(slot)) = slots.get(followed.partition as usize) {
            copies::follow(state, slot, followed, &hold.peers);
        }
    }
    if slots.iter().all(Option::is_none) {
        return Ok(end);
    }
    models
        .by_incarnation
        .insert(incarnation, Arc::new(Model { spec, slots }));
    Ok(end)
}

fn no_disk(state: &State, spec: &ModelSpec) -> ErrorBody {
    ErrorBody::new(
        ErrorCode::DoesNotFit,
        format!(
            "model '{}' is to survive the end of a process ({}), and server {} has no data directory; start it with \
             --data-dir DIR",
            spec.name,
            spec.durability(),
            state.id
        ),
    )
}

fn report(spec: &ModelSpec, incarnation: Incarnation, made: usize, absent: usize) {
    if made > 0 {
        tracing::info!(model = spec.name, %incarnation, partitions = made, "partitions made");
    }
    if absent > 0 {
        tracing::error!(
            model = spec.name, %incarnation, partitions = absent,
            "partitions are lost: this server is to hold them and has no values of them"
        );
    }
}

fn make(
    state: &State,
    used: &mut u64,
    description: &Description,
    spec: &ModelSpec,
    held: &HeldPartition,
) -> Result<Partition, ErrorBody> {
    let bytes = description.value_bytes();
    let does_not_fit = |why: String| {
        ErrorBody::new(
            ErrorCode::DoesNotFit,
            format!(
                "server {} cannot hold partition {} of model '{}' ({bytes} bytes): {why}",
                state.id, description.partition, description.model
            ),
        )
    };
    let sum = used.saturating_add(bytes);
    if sum > state.capacity_bytes {
        return Err(does_not_fit(format!(
            "it holds {used} bytes already, and may hold {}; add servers, or give this one more",
            state.capacity_bytes
        )));
    }
    let partition = Partition::new(description, spec, held.epoch)
        .map_err(|error| does_not_fit(format!("the system has no memory for it ({error})")))?;
    *used = sum;
    Ok(partition)
}
