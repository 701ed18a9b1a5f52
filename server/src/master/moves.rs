//! Moves: copies leave servers that are drained, and spread evenly over those that join. Pure functions on [`State`].
//!
//! A move is a learner with a note: once it is in sync, the copy that it replaces is let go, and if that was the holder's, the
//! new one is promoted. See [`super::copies`]. What is planned is planned from the present state alone, with moves under way
//! taken for done: so a plan goes on where it was, whatever has happened since.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use glint_protocol::{ServerId, admin::PlannedMove, copies::CopyRole};

use super::{
    copies::{Copies, Move},
    repair::{Fleet, Flows, nearness},
    state::{Model, Phase, State},
};

/// Moves that begin in one step: others follow when these are told.
const AT_ONCE: usize = 256;

/// What is to be done about one copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// It goes to another server.
    Move(PlannedMove),
    /// Nobody else can take it: it goes, and the partition has one copy less. If it is the holder's, another that is in sync
    /// is promoted.
    Shrink {
        model: String,
        partition: u32,
        server: ServerId,
    },
    /// Its values are lost: another server holds that there are none.
    Reassign {
        model: String,
        partition: u32,
        to: ServerId,
    },
    /// It belongs to nothing: its partition's values are lost.
    Strike {
        model: String,
        partition: u32,
        server: ServerId,
    },
}

impl Step {
    fn model(&self) -> &str {
        match self {
            Self::Move(planned) => &planned.model,
            Self::Shrink { model, .. }
            | Self::Reassign { model, .. }
            | Self::Strike { model, .. } => model,
        }
    }
}

/// Servers that may take copies, with what is on them once all moves under way are done, and the room that they have now.
struct Board<'a> {
    state: &'a State,
    fleet: &'a Fleet,
    loads: BTreeMap<ServerId, u64>,
    rooms: BTreeMap<ServerId, u64>,
}

impl<'a> Board<'a> {
    fn new(state: &'a State, fleet: &'a Fleet) -> Self {
        let known = |id: &&ServerId| state.servers.get(*id).is_some_and(|s| !s.draining);
        let targets: Vec<&ServerId> = fleet.alive.iter().filter(known).collect();
        let room = |id: &ServerId| {
            let capacity = state.servers.get(id).map_or(0, |s| s.capacity_bytes);
            capacity.saturating_sub(state.placed_bytes(id))
        };
        let mut board = Self {
            state,
            fleet,
            loads: targets.iter().map(|&id| (id.clone(), 0)).collect(),
            rooms: targets.iter().map(|&id| (id.clone(), room(id))).collect(),
        };
        for model in state.models.values() {
            for partition in 0..model.spec.partition_count {
                let moving = model.copies_of(partition).and_then(|c| c.moving);
                for (server, _) in staying(model, partition) {
                    if moving.is_none_or(|m| m.from != server) {
                        let size = model.sizes[partition as usize];
                        if let Some(load) = board.loads.get_mut(&model.servers[server as usize]) {
                            *load = load.saturating_add(size);
                        }
                    }
                }
            }
        }
        board
    }

    /// Whether a server may take a copy of a partition instead of another's: it has none, and a disk if it needs one.
    fn is_eligible(&self, model: &Model, partition: u32, id: &ServerId) -> bool {
        let logged = model.spec.durability().is_logged();
        let has_disk = self
            .state
            .servers
            .get(id)
            .is_some_and(|s| s.volume.is_some());
        let index = model.index_of(id);
        self.loads.contains_key(id)
            && (!logged || has_disk)
            && index.is_none_or(|index| {
                model.holders[partition as usize] != index && model.role(partition, index).is_none()
            })
    }

    fn has_room(&self, id: &ServerId, size: u64) -> bool {
        self.rooms.get(id).is_some_and(|&room| room >= size)
    }

    fn near(&self, model: &Model, partition: u32, id: &ServerId, but: &ServerId) -> (usize, usize) {
        let nobody = Copies::default();
        let copies = model.copies_of(partition).unwrap_or(&nobody);
        let holder = model.holder(partition);
        nearness(self.state, model, copies, holder, id, Some(but))
    }

    fn note(&mut self, from: &ServerId, to: &ServerId, size: u64) {
        if let Some(load) = self.loads.get_mut(from) {
            *load = load.saturating_sub(size);
        }
        if let Some(load) = self.loads.get_mut(to) {
            *load = load.saturating_add(size);
        }
        if let Some(room) = self.rooms.get_mut(to) {
            *room = room.saturating_sub(size);
        }
    }
}

/// The copies of a partition that are there to stay: the holder's, those in sync, and learners.
fn staying(model: &Model, partition: u32) -> impl Iterator<Item = (u32, Option<CopyRole>)> + '_ {
    let others = model.copies_of(partition).into_iter();
    let others = others.flat_map(|c| &c.places);
    let others = others.filter(|place| place.role != CopyRole::Former);
    let holder = (model.holders[partition as usize], None);
    std::iter::once(holder).chain(others.map(|place| (place.server, Some(place.role))))
}

/// Whether copies of a partition can be moved now at all.
fn can_move(model: &Model, partition: u32) -> bool {
    model.phase == Phase::Live
        && !model.lost.contains_key(&partition)
        && !model.is_vacant(partition)
        && model
            .copies_of(partition)
            .is_none_or(|c| c.moving.is_none())
}

/// What may begin now, so that servers that are to be drained become empty, and, while servers are to be levelled, all have
/// about as much.
pub(crate) fn plan(state: &State, fleet: &Fleet, levels: bool) -> Vec<Step> {
    let drains = state.servers.values().any(|s| s.draining);
    if !drains && !levels {
        return Vec::new();
    }
    let mut board = Board::new(state, fleet);
    let mut flows = Flows::under_way(state, &fleet.alive);
    let mut steps = Vec::new();
    if drains {
        drain(&mut board, &mut flows, &mut steps);
    }
    if levels {
        for planned in level(&mut board, AT_ONCE) {
            let holder = state.models.get(&planned.model);
            let holder = holder.map(|m| m.holder(planned.partition));
            if let Some(holder) = holder
                && flows.admit(holder, &planned.to, planned.bytes)
            {
                flows.add(holder, &planned.to, planned.bytes);
                steps.push(Step::Move(planned));
            }
        }
    }
    steps
}

/// All moves that would make the servers level.
pub(crate) fn levelling(state: &State, fleet: &Fleet) -> Vec<PlannedMove> {
    level(&mut Board::new(state, fleet), usize::MAX)
}

/// Whether a copy is on its way to take another's place.
pub(crate) fn is_moving(state: &State) -> bool {
    let mut copies = state.models.values().flat_map(|m| m.copies.values());
    copies.any(|c| c.moving.is_some())
}

fn drain(board: &mut Board<'_>, flows: &mut Flows, steps: &mut Vec<Step>) {
    let (state, fleet) = (board.state, board.fleet);
    for (name, model) in &state.models {
        if model.phase != Phase::Live {
            continue;
        }
        let is_draining = |server: u32| {
            let known = state.servers.get(&model.servers[server as usize]);
            known.is_some_and(|s| s.draining)
        };
        if !(0..model.servers.len() as u32).any(is_draining) {
            continue;
        }
        for partition in 0..model.spec.partition_count {
            if steps.len() >= AT_ONCE {
                return;
            }
            if model.lost.contains_key(&partition) {
                drain_lost(board, name, model, partition, is_draining, steps);
                continue;
            }
            let leaves = staying(model, partition)
                .find(|&(s, role)| role != Some(CopyRole::Learner) && is_draining(s));
            let Some((server, role)) = leaves else {
                continue;
            };
            if !can_move(model, partition) {
                continue;
            }
            let (from, size) = (
                &model.servers[server as usize],
                model.sizes[partition as usize],
            );
            let holder = model.holder(partition);
            let eligible = board
                .loads
                .iter()
                .filter(|(id, _)| board.is_eligible(model, partition, id));
            let eligible: Vec<(&ServerId, u64)> = eligible.map(|(id, &load)| (id, load)).collect();
            if eligible.is_empty() {
                let another = model.in_sync(partition).any(|s| {
                    s != server
                        && !is_draining(s)
                        && fleet.alive.contains(&model.servers[s as usize])
                });
                if role.is_some() || another {
                    steps.push(Step::Shrink {
                        model: name.clone(),
                        partition,
                        server: from.clone(),
                    });
                }
                continue;
            }
            let to = eligible
                .into_iter()
                .filter(|(id, _)| {
                    fleet.alive.contains(holder)
                        && board.has_room(id, size)
                        && flows.admit(holder, id, size)
                })
                .min_by_key(|&(id, load)| (board.near(model, partition, id, from), load, id));
            if let Some(to) = to.map(|(id, _)| id.clone()) {
                flows.add(holder, &to, size);
                board.note(from, &to, size);
                steps.push(Step::Move(PlannedMove {
                    model: name.clone(),
                    partition,
                    from: from.clone(),
                    to,
                    bytes: size,
                }));
            }
        }
    }
}

/// What is lost is no burden: whoever lives says so as well.
fn drain_lost(
    board: &Board<'_>,
    name: &str,
    model: &Model,
    partition: u32,
    is_draining: impl Fn(u32) -> bool,
    steps: &mut Vec<Step>,
) {
    if is_draining(model.holders[partition as usize]) {
        let fewest = board.loads.iter().min_by_key(|&(id, load)| (load, id));
        if let Some((to, _)) = fewest {
            steps.push(Step::Reassign {
                model: name.to_owned(),
                partition,
                to: to.clone(),
            });
        }
        return;
    }
    let places = model
        .copies_of(partition)
        .into_iter()
        .flat_map(|c| &c.places);
    for place in places.filter(|place| is_draining(place.server)) {
        steps.push(Step::Strike {
            model: name.to_owned(),
            partition,
            server: model.servers[place.server as usize].clone(),
        });
    }
}

/// Copies by size, so that one that fits a difference is found at once.
type BySize<'a> = BTreeMap<u64, Vec<(&'a Model, u32)>>;

/// Moves from the fullest server to the emptiest, as long as that makes the two more equal: of the copies of the fullest the one
/// that comes nearest to half the difference. So no two servers differ by more than one copy in the end, and little is moved.
fn level(board: &mut Board<'_>, most: usize) -> Vec<PlannedMove> {
    let mut moves = Vec::new();
    let mut copies: BTreeMap<ServerId, BySize<'_>> = BTreeMap::new();
    let state = board.state;
    for model in state.models.values() {
        for partition in (0..model.spec.partition_count).filter(|&p| can_move(model, p)) {
            if !board.fleet.alive.contains(model.holder(partition)) {
                continue;
            }
            for (server, role) in staying(model, partition) {
                if role != Some(CopyRole::Learner) {
                    let on = copies.entry(model.servers[server as usize].clone());
                    let of_size = on.or_default().entry(model.sizes[partition as usize]);
                    of_size.or_default().push((model, partition));
                }
            }
        }
    }
    // Of one partition one copy moves at a time.
    let mut moved: BTreeSet<(&str, u32)> = BTreeSet::new();
    let mut exhausted: BTreeSet<ServerId> = BTreeSet::new();
    while moves.len() < most {
        let fullest = board
            .loads
            .iter()
            .filter(|(id, _)| !exhausted.contains(*id));
        let Some((from, load)) = fullest.max_by_key(|&(id, load)| (load, std::cmp::Reverse(id)))
        else {
            break;
        };
        let (from, load) = (from.clone(), *load);
        let Some((to, model, partition, size)) = copies
            .get(&from)
            .and_then(|on| next(board, on, &moved, &from, load))
        else {
            exhausted.insert(from);
            continue;
        };
        moved.insert((&model.spec.name, partition));
        board.note(&from, &to, size);
        moves.push(PlannedMove {
            model: model.spec.name.clone(),
            partition,
            from,
            to,
            bytes: size,
        });
    }
    moves
}

/// The next copy to move from a server, and where to.
fn next<'a>(
    board: &Board<'_>,
    on: &BySize<'a>,
    moved: &BTreeSet<(&str, u32)>,
    from: &ServerId,
    load: u64,
) -> Option<(ServerId, &'a Model, u32, u64)> {
    let mut emptiest: Vec<(u64, &ServerId)> = board.loads.iter().map(|(id, &l)| (l, id)).collect();
    emptiest.sort_unstable();
    for (to_load, to) in emptiest {
        let difference = load.saturating_sub(to_load);
        if difference < 2 {
            break;
        }
        let half = difference / 2;
        let sizes = on
            .range(1..=half)
            .rev()
            .chain(on.range(half + 1..difference));
        for (&size, copies) in sizes {
            let fits = copies.iter().find(|&&(model, partition)| {
                !moved.contains(&(model.spec.name.as_str(), partition))
                    && board.has_room(to, size)
                    && board.is_eligible(model, partition, to)
                    && board.near(model, partition, to, from)
                        <= board.near(model, partition, from, from)
            });
            if let Some(&(model, partition)) = fits {
                return Some((to.clone(), model, partition, size));
            }
        }
    }
    None
}

/// Takes the steps of a plan that was made from this very state.
pub(crate) fn take(state: &mut State, steps: &[Step]) {
    let mut by_model: BTreeMap<&str, Vec<&Step>> = BTreeMap::new();
    for step in steps {
        by_model.entry(step.model()).or_default().push(step);
    }
    for (name, steps) in by_model {
        let Some(model) = state.models.get(name).cloned() else {
            continue;
        };
        let mut changed = Model::clone(&model);
        let revision = state.fresh_revision();
        let mut holders = false;
        for step in steps {
            holders |= take_one(state, &mut changed, step, revision);
        }
        if holders {
            changed.republished(revision);
        }
        changed.tidy();
        state.models.insert(name.to_owned(), Arc::new(changed));
    }
}

/// Takes one step; whether the partition has another holder now.
fn take_one(
    state: &mut State,
    model: &mut Model,
    step: &Step,
    revision: glint_protocol::ids::Revision,
) -> bool {
    match step {
        Step::Move(planned) => {
            let to = model.intern(&planned.to);
            let Some(from) = model.index_of(&planned.from) else {
                return false;
            };
            model.set_role(planned.partition, to, Some(CopyRole::Learner));
            if let Some(copies) = model.copies.get_mut(&planned.partition) {
                copies.moving = Some(Move { from, to });
            }
            model.revised(planned.partition, revision);
            false
        }
        Step::Shrink {
            partition, server, ..
        } => {
            let Some(server) = model.index_of(server) else {
                return false;
            };
            let holds = model.holders[*partition as usize] == server;
            if holds {
                let Some(heir) = model.in_sync(*partition).find(|&s| s != server) else {
                    return false;
                };
                let epoch = state.fresh_epoch();
                model.promote(*partition, heir, epoch, CopyRole::Former);
            } else {
                model.set_role(*partition, server, Some(CopyRole::Former));
            }
            model.revised(*partition, revision);
            holds
        }
        Step::Reassign { partition, to, .. } => {
            let to = model.intern(to);
            let from = model.holders[*partition as usize];
            model.set_role(*partition, to, Some(CopyRole::Learner));
            let epoch = state.fresh_epoch();
            model.promote(*partition, to, epoch, CopyRole::Former);
            model.strike(*partition, from);
            model.revised(*partition, revision);
            true
        }
        Step::Strike {
            partition, server, ..
        } => {
            if let Some(server) = model.index_of(server) {
                model.strike(*partition, server);
                model.revised(*partition, revision);
            }
            false
        }
    }
}

#[cfg(test)]
#[path = "moves/tests.rs"]
mod tests;
