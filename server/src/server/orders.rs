//! Orders of the master: what to hold and what to drop. Obeying twice is the same as once.

use std::{collections::BTreeMap, sync::Arc};

use glint_protocol::{
    ErrorBody, ErrorCode, Incarnation,
    control::{Drop, HeldPartition, Hold, Orders},
    error::GoneReason,
};

use super::{
    slot::Slot,
    state::{Model, Models, ServerState},
};
use crate::partition::{Description, Loss, Partition};

fn stale(message: String) -> ErrorBody {
    ErrorBody::new(ErrorCode::StaleOrder, message)
}

/// Obeys, or says why not; of a refused order nothing was obeyed.
///
/// # Errors
/// `wrong_cluster`, `stale_order`, `does_not_fit`.
pub(super) fn obey(state: &ServerState, orders: Orders) -> Result<(), ErrorBody> {
    if orders.boot != state.boot() {
        return Err(stale(format!(
            "the order is for boot {}, this is {}; wait for this server to register",
            orders.boot,
            state.boot()
        )));
    }
    {
        let mut allegiance = state.allegiance();
        let other = allegiance
            .cluster
            .is_some_and(|cluster| cluster != orders.cluster);
        if other && !state.models().held.is_empty() {
            return Err(wrong_cluster(state, &orders));
        }
        if !other && orders.term < allegiance.term {
            return Err(stale(format!(
                "the order is of term {}, and {} was heard",
                orders.term, allegiance.term
            )));
        }
        allegiance.cluster = Some(orders.cluster);
        allegiance.term = orders.term;
    }
    // Values are made before anything is changed, and outside of what pulls and pushes wait for.
    let made = orders
        .hold
        .iter()
        .map(|hold| make(state, hold))
        .collect::<Result<Vec<_>, _>>()?;
    state.change(|models| {
        for (hold, made) in orders.hold.into_iter().zip(made) {
            self::hold(models, hold, made);
        }
        for drop in &orders.drop {
            self::drop(models, drop);
        }
    });
    Ok(())
}

fn wrong_cluster(state: &ServerState, orders: &Orders) -> ErrorBody {
    tracing::error!(cluster = %orders.cluster, "a master of another cluster gives orders; they are refused, since this server holds partitions");
    ErrorBody::new(
        ErrorCode::WrongCluster,
        format!(
            "server {} holds partitions of another cluster than {}; restart it to let it join",
            state.id(),
            orders.cluster
        ),
    )
}

/// Initial values of the partitions that are to be made and are not here yet.
fn make(state: &ServerState, hold: &Hold) -> Result<BTreeMap<u32, Slot>, ErrorBody> {
    let mut made = BTreeMap::new();
    if !hold.creating {
        return Ok(made);
    }
    let models = state.models();
    if models.is_buried(hold.incarnation) {
        return Ok(made);
    }
    let here = models
        .held
        .get(&hold.incarnation.model)
        .filter(|model| model.incarnation == hold.incarnation);
    for held in hold.partitions.iter().filter(|held| !held.lost) {
        if here.is_some_and(|model| model.slots.contains_key(&held.partition)) {
            continue;
        }
        let description = Description::new(&hold.spec, hold.incarnation, held.partition);
        let partition = Partition::new(&description, &hold.spec, held.epoch).map_err(|_| {
            ErrorBody::new(
                ErrorCode::DoesNotFit,
                format!(
                    "server {} has no memory for the {} bytes of partition {} of model '{}'; add servers or memory",
                    state.id(),
                    description.value_bytes(),
                    held.partition,
                    hold.spec.name
                ),
            )
        })?;
        made.insert(held.partition, Slot::new(description, partition));
    }
    Ok(made)
}

fn hold(models: &mut Models, hold: Hold, mut made: BTreeMap<u32, Slot>) {
    let Hold {
        spec,
        incarnation,
        partitions,
        ..
    } = hold;
    if models.is_buried(incarnation) {
        return;
    }
    let mut model = match models.held.get(&incarnation.model) {
        Some(model) if model.incarnation == incarnation => Model::clone(model),
        Some(model) if model.incarnation.generation > incarnation.generation => return,
        older => {
            if let Some(older) = older {
                let replaced = older.incarnation;
                models.bury(replaced, GoneReason::Reset);
            }
            Model {
                spec: Arc::new(spec),
                incarnation,
                slots: BTreeMap::new(),
            }
        }
    };
    for held in partitions {
        hold_partition(&mut model, held, &mut made);
    }
    models.held.insert(incarnation.model, Arc::new(model));
}

fn hold_partition(model: &mut Model, held: HeldPartition, made: &mut BTreeMap<u32, Slot>) {
    let HeldPartition {
        partition,
        epoch,
        lost,
    } = held;
    if let Some(slot) = model.slots.get(&partition) {
        let mut here = slot.lock();
        if epoch < here.epoch() {
            return;
        }
        here.raise_epoch(epoch);
        if lost {
            here.lose(Loss::Told);
        }
        return;
    }
    // Absence means lost, never zeros, unless the model is being made right now.
    let slot = made.remove(&partition).unwrap_or_else(|| {
        tracing::error!(
            model = model.spec.name,
            partition,
            "this server is to hold a partition that it does not have: its values are lost"
        );
        let description = Description::new(&model.spec, model.incarnation, partition);
        let absent = Partition::absent(&description, epoch);
        Slot::new(description, absent)
    });
    model.slots.insert(partition, Arc::new(slot));
}

fn drop(models: &mut Models, drop: &Drop) {
    let Incarnation { model, generation } = drop.incarnation;
    models.bury(drop.incarnation, drop.reason);
    if models
        .held
        .get(&model)
        .is_some_and(|held| held.incarnation.generation <= generation)
    {
        models.held.remove(&model);
    }
}
