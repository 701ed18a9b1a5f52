//! What may begin now, so that every partition has its copies, drained servers become empty, and, while servers are to be
//! levelled, all have about as much. Pure functions on [`State`]; where copies go is decided by [`super::placement`].
//!
//! Nothing here takes a copy away that is needed: one that is in sync goes only when enough others are. A move is a learner
//! with a note: once it is in sync, the copy that it replaces is let go, and if that was the holder's, the new one is promoted.
//! See [`super::copies`].

use std::collections::BTreeSet;

use glint_protocol::{ServerId, admin::PlannedMove, copies::CopyRole};

use super::{
    copies::Copies,
    flows::Flows,
    placement::{self, Change, Effort, Reason, Standing},
    state::{Model, Phase, State},
    step::{Act, Step},
    survey::Survey,
};

/// Steps that begin at once: others follow when these are told.
const AT_ONCE: usize = 256;

/// Who lives, as far as it matters for copies.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Fleet {
    /// Servers that live.
    pub(crate) alive: BTreeSet<ServerId>,
    /// Servers that have been gone for so long that others take their places.
    pub(crate) gone: BTreeSet<ServerId>,
}

/// What making servers level takes.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Levelling {
    /// Copies that go to another server.
    pub(crate) moves: Vec<PlannedMove>,
    /// Partitions whose holder becomes another of their copies: no bytes move for that.
    pub(crate) promotions: u64,
}

/// What is to be done, as far as it may begin now.
pub(crate) fn plan(state: &State, fleet: &Fleet, levels: bool) -> Vec<Step> {
    let mut steps = Vec::new();
    if is_plain(state) && !levels {
        return steps;
    }
    let called_off = call_off(state, fleet, &mut steps);
    let effort = if levels {
        Effort::Balance
    } else {
        Effort::Mend
    };
    let survey = Survey::of(state, fleet);
    let mut flows = Flows::under_way(state, &fleet.alive);
    for change in placement::plan(&survey.servers, &survey.partitions, effort).changes {
        if steps.len() >= AT_ONCE {
            break;
        }
        let (name, model, partition) = survey.named[change.partition as usize];
        let nobody = Copies::default();
        let begin = Begin {
            survey: &survey,
            fleet,
            change: &change,
            model,
            partition,
            copies: model.copies_of(partition).unwrap_or(&nobody),
        };
        if !called_off.contains(&(name, partition)) {
            let acts = begin.acts(&mut flows).into_iter();
            steps.extend(acts.map(|act| begin.step(name, act)));
        }
    }
    steps
}

/// Whether every partition has the only copy that it should have, and no server is drained.
fn is_plain(state: &State) -> bool {
    let mut models = state.models.values();
    models.all(|m| m.spec.copies() == 1 && m.copies.is_empty())
        && !state.servers.values().any(|s| s.draining)
}

/// What making servers level takes, from here to its end.
pub(crate) fn levelling(state: &State, fleet: &Fleet) -> Levelling {
    let survey = Survey::of(state, fleet);
    let mut levelling = Levelling::default();
    for change in placement::plan(&survey.servers, &survey.partitions, Effort::Balance).changes {
        let (name, model, partition) = survey.named[change.partition as usize];
        let now = &survey.partitions[change.partition as usize];
        if !is_optional(change.reason) || !fleet.alive.contains(model.holder(partition)) {
            continue;
        }
        if change.reason == Reason::Holder {
            levelling.promotions += 1;
        }
        let comes = change.servers.iter().filter(|&&s| !now.is_on(s));
        let all = now.members.iter().chain(&now.learners);
        let goes = all.filter(|s| !change.servers.contains(s));
        let id = |server: u32| survey.ids[server as usize].clone();
        for (&from, &to) in goes.zip(comes) {
            levelling.moves.push(PlannedMove {
                model: name.to_owned(),
                partition,
                from: id(from),
                to: id(to),
                bytes: now.bytes,
            });
        }
    }
    levelling
}

/// Whether servers that were to be made level are: those that are about to come, or to be heard again, too.
pub(crate) fn is_level(state: &State, fleet: &Fleet) -> bool {
    let mut copies = state.models.values().flat_map(|m| m.copies.values());
    let mut servers = state.servers.iter();
    let is_settled = |id| fleet.alive.contains(id) || fleet.gone.contains(id);
    servers.all(|(id, server)| server.draining || is_settled(id))
        && copies.all(|c| c.moving.is_none())
        && levelling(state, fleet) == Levelling::default()
}

/// A change that nobody misses as long as it has not happened.
fn is_optional(reason: Reason) -> bool {
    matches!(reason, Reason::Apart | Reason::Balance | Reason::Holder)
}

/// How many copies of a partition are in sync.
pub(crate) fn in_sync(copies: &Copies) -> usize {
    1 + copies.of(CopyRole::InSync).count()
}

/// Copies that come to nothing are let go of: those on their way to a server that is drained or gone, those that are too many,
/// and on servers that are drained those of lost partitions. The partitions that this is about.
fn call_off<'a>(
    state: &'a State,
    fleet: &Fleet,
    steps: &mut Vec<Step>,
) -> BTreeSet<(&'a str, u32)> {
    let mut about = BTreeSet::new();
    let is_draining = |id: &ServerId| state.servers.get(id).is_some_and(|s| s.draining);
    for (name, model) in &state.models {
        if model.phase != Phase::Live {
            continue;
        }
        let id = |server: u32| &model.servers[server as usize];
        let mut push = |partition, act| {
            about.insert((name.as_str(), partition));
            let model = name.clone();
            steps.push(Step {
                model,
                partition,
                act,
            });
        };
        for &partition in model.lost.keys() {
            let holder = model.holder(partition);
            let lives = fleet.alive.contains(holder);
            if is_draining(holder) {
                // What is lost is no burden: whoever lives says so as well.
                let others = fleet.alive.iter();
                let others =
                    others.filter(|id| state.servers.contains_key(*id) && !is_draining(id));
                if let Some(to) = others.min_by_key(|id| (state.placed_bytes(id), *id)) {
                    let to = to.clone();
                    push(partition, Act::Reassign { to, lives });
                }
                continue;
            }
            // Its holder has those that live drop what they have.
            let places = model.copies_of(partition).into_iter();
            let places = places.flat_map(|c| &c.places);
            let of_nobody =
                |id: &&ServerId| is_draining(id) && !(lives && fleet.alive.contains(*id));
            for server in places.map(|place| id(place.server)).filter(of_nobody) {
                push(partition, Act::Strike(server.clone()));
            }
        }
        for (&partition, copies) in &model.copies {
            if model.lost.contains_key(&partition) || model.is_vacant(partition) {
                continue;
            }
            let mut learners = copies.of(CopyRole::Learner);
            let unwanted = learners.find(|&s| is_draining(id(s)));
            let astray = || {
                copies
                    .moving
                    .map(|m| m.to)
                    .filter(|&s| fleet.gone.contains(id(s)))
            };
            if let Some(server) = unwanted.or_else(astray).or_else(|| excess(model, copies)) {
                push(partition, Act::Release(id(server).clone()));
            }
        }
    }
    about
}

/// A learner that nobody waits for any more.
fn excess(model: &Model, copies: &Copies) -> Option<u32> {
    let wanted = usize::from(model.spec.copies());
    let had = in_sync(copies) + copies.of(CopyRole::Learner).count();
    let moved = usize::from(copies.moving.is_some());
    if had - moved <= wanted || in_sync(copies) < wanted {
        return None;
    }
    let moves = |server: u32| copies.moving.is_some_and(|m| m.to == server);
    copies.of(CopyRole::Learner).find(|&s| !moves(s))
}

/// One change, and how its partition is.
struct Begin<'a> {
    survey: &'a Survey<'a>,
    fleet: &'a Fleet,
    change: &'a Change,
    model: &'a Model,
    partition: u32,
    copies: &'a Copies,
}

impl Begin<'_> {
    fn id(&self, server: u32) -> ServerId {
        self.survey.ids[server as usize].clone()
    }

    fn step(&self, name: &str, act: Act) -> Step {
        Step {
            model: name.to_owned(),
            partition: self.partition,
            act,
        }
    }

    /// What can be done of the change now.
    fn acts(&self, flows: &mut Flows) -> Vec<Act> {
        let (change, survey) = (self.change, self.survey);
        let now = &survey.partitions[change.partition as usize];
        let mut acts = Vec::new();
        let holder = self.model.holder(self.partition);
        let settled = self.copies.moving.is_none();
        if !self.fleet.alive.contains(holder)
            || is_optional(change.reason) && !(settled && now.learners.is_empty())
        {
            return acts;
        }
        let stays = |server: &u32| change.servers.contains(server);
        // A member on a server that is gone stays one until the holder lets go of it.
        let is_gone = |server: u32| survey.servers[server as usize].standing == Standing::Silent;
        let mut goes = now.members.iter().filter(|&s| !stays(s) && !is_gone(*s));
        let dead: Vec<u32> = now.learners.iter().copied().filter(|s| !stays(s)).collect();
        // Where a copy is being let go of, none comes before it is gone; nor to a holder that is to move elsewhere: it has one.
        let free = |server: u32| {
            let index = self.model.index_of(survey.ids[server as usize]);
            index.is_none_or(|index| {
                self.copies.role(index).is_none()
                    && self.model.holders[self.partition as usize] != index
            })
        };
        let mut comes = change.servers.iter().copied().filter(|&s| !now.is_on(s));
        let mut admitted = || {
            comes.find(|&to| {
                if !free(to) {
                    return false;
                }
                let to = &survey.ids[to as usize];
                self.fleet.alive.contains(*to) && flows.admit(holder, to, now.bytes)
            })
        };
        let has_room = change.servers.iter().any(|&s| !now.is_on(s));
        if has_room {
            let missing = (now.copies as usize)
                .saturating_sub(now.members.len() + now.learners.len() - dead.len());
            for _ in 0..missing {
                let Some(to) = admitted() else { break };
                acts.push(Act::Place(self.id(to)));
            }
            if !acts.is_empty() {
                acts.extend(dead.into_iter().map(|s| Act::Release(self.id(s))));
            } else if settled
                && let Some(&from) = goes.next()
                && let Some(to) = admitted()
            {
                let (from, to) = (self.id(from), self.id(to));
                acts.push(Act::Move { from, to });
            }
            return acts;
        }
        let complete = change.servers.iter().all(|s| now.members.contains(s));
        if !settled || !complete {
            return acts;
        }
        acts.extend(dead.into_iter().map(|s| Act::Release(self.id(s))));
        let serves = self.id(change.holder);
        let goes: Vec<ServerId> = goes.map(|&s| self.id(s)).collect();
        let moves_holder = serves != *holder && self.fleet.alive.contains(&serves);
        if goes.contains(holder) {
            if moves_holder {
                acts.push(Act::Promote {
                    to: serves,
                    goes: true,
                });
            }
        } else if goes.is_empty() && moves_holder && change.reason == Reason::Holder {
            acts.push(Act::Promote {
                to: serves,
                goes: false,
            });
        }
        let others = goes.into_iter().filter(|id| id != holder);
        acts.extend(others.map(Act::Release));
        acts
    }
}

#[cfg(test)]
#[path = "plan/tests.rs"]
mod tests;
