//! The explorer: every state that any order of steps can reach, nearest first, so that a trace is a shortest one.
//!
//! Written here rather than taken from a library: it is short, it needs nothing, and it answers a question that the libraries
//! do not: whether from *every* state reached all can still settle ([`Explored::wedged`]).

#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, VecDeque},
    fmt::Debug,
    hash::Hash,
};

use crate::fingerprint::{ByFingerprint, fingerprint};

/// What is explored.
pub(crate) trait Model {
    /// A state of everything.
    type State: Clone + Hash;
    /// A step.
    type Action: Debug;

    /// Where it begins.
    fn first(&self) -> Self::State;
    /// What may happen in a state; some of it may turn out impossible.
    fn actions(&self, state: &Self::State, actions: &mut Vec<Self::Action>);
    /// The state after a step; none when it is impossible or changes nothing.
    fn after(&self, state: &Self::State, action: &Self::Action) -> Option<Self::State>;
    /// A property that does not hold in this state.
    fn broken(&self, state: &Self::State) -> Option<&'static str>;
    /// What should be seen in some state: a bit each.
    fn sights(&self, state: &Self::State) -> u32;
    /// How far it is from done.
    fn progress(&self, state: &Self::State) -> Progress;
    /// Whether it is a step that somebody outside takes: a failure, or a decision of the master.
    fn is_from_outside(&self, action: &Self::Action) -> bool;
}

/// What of a state matters to whether all can settle.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Progress {
    /// All that was asked has been answered.
    pub(crate) settled: bool,
    /// Nothing more can be asked of it: what was promised reached no further.
    pub(crate) ended: bool,
    /// It must settle without any step from outside.
    pub(crate) healthy: bool,
}

/// How far to explore.
#[derive(Clone, Copy)]
pub(crate) struct Extent {
    /// States at most; more is an error, never a silent end.
    pub(crate) states: usize,
    /// Whether to ask that all can settle from every state.
    pub(crate) settles: bool,
}

/// A property that does not hold, and the shortest way there.
#[derive(Clone, Debug)]
pub(crate) struct Violation {
    pub(crate) property: &'static str,
    pub(crate) trace: Vec<String>,
}

/// What came out.
#[derive(Debug, Default)]
pub(crate) struct Explored {
    /// Different states.
    pub(crate) states: usize,
    /// Steps between them.
    pub(crate) steps: usize,
    /// Steps of the longest of the shortest ways.
    pub(crate) depth: usize,
    /// States from which it must settle by itself.
    pub(crate) healthy: usize,
    /// The first property that did not hold.
    pub(crate) violation: Option<Violation>,
    /// What was seen in some state.
    pub(crate) sights: u32,
    /// The extent did not suffice.
    pub(crate) cut_short: bool,
}

/// How a state was first reached: from which, by which of its actions.
type Origin = (u32, u16);

/// Explores until a property breaks, or to the end.
pub(crate) fn explore<M: Model>(model: &M, extent: Extent) -> Explored {
    let mut found = Explored::default();
    let mut known: HashMap<u64, u32, ByFingerprint> = HashMap::default();
    let mut origins: Vec<Origin> = vec![(0, 0)];
    let mut graph = Graph::default();
    let mut queue = VecDeque::new();
    let first = model.first();
    known.insert(fingerprint(&first), 0);
    queue.push_back((0u32, 0usize, first));
    let mut actions = Vec::new();
    while let Some((number, depth, state)) = queue.pop_front() {
        found.depth = depth;
        found.sights |= model.sights(&state);
        if let Some(property) = model.broken(&state) {
            found.states = origins.len();
            found.violation = Some(Violation {
                property,
                trace: retrace(model, &origins, number),
            });
            return found;
        }
        if extent.settles {
            graph.note(number, model.progress(&state));
        }
        actions.clear();
        model.actions(&state, &mut actions);
        for (ordinal, action) in actions.iter().enumerate() {
            let Some(after) = model.after(&state, action) else {
                continue;
            };
            found.steps += 1;
            let next = *known.entry(fingerprint(&after)).or_insert_with(|| {
                let next = origins.len() as u32;
                origins.push((number, ordinal as u16));
                queue.push_back((next, depth + 1, after));
                next
            });
            if extent.settles {
                graph.step(number, next, model.is_from_outside(action));
            }
        }
        if origins.len() > extent.states {
            found.cut_short = true;
            break;
        }
    }
    found.states = origins.len();
    found.healthy = graph.healthy.len();
    if extent.settles && !found.cut_short {
        found.violation = graph
            .wedged(origins.len())
            .map(|(property, number)| Violation {
                property,
                trace: retrace(model, &origins, number),
            });
    }
    found
}

fn retrace<M: Model>(model: &M, origins: &[Origin], mut number: u32) -> Vec<String> {
    let mut ordinals = Vec::new();
    while number != 0 {
        let (from, ordinal) = origins[number as usize];
        ordinals.push(ordinal);
        number = from;
    }
    let mut state = model.first();
    let mut trace = Vec::new();
    for ordinal in ordinals.into_iter().rev() {
        let mut actions = Vec::new();
        model.actions(&state, &mut actions);
        let action = &actions[usize::from(ordinal)];
        trace.push(format!("{action:?}"));
        match model.after(&state, action) {
            Some(after) => state = after,
            None => break,
        }
    }
    trace
}

/// The steps between states, kept backwards: (to, from).
#[derive(Default)]
struct Graph {
    steps: Vec<(u32, u32)>,
    from_inside: Vec<(u32, u32)>,
    settled: Vec<u32>,
    ended: Vec<u32>,
    healthy: Vec<u32>,
}

impl Graph {
    fn note(&mut self, number: u32, progress: Progress) {
        if progress.settled {
            self.settled.push(number);
        }
        if progress.ended {
            self.ended.push(number);
        }
        if progress.healthy {
            self.healthy.push(number);
        }
    }

    fn step(&mut self, from: u32, to: u32, from_outside: bool) {
        self.steps.push((to, from));
        if !from_outside {
            self.from_inside.push((to, from));
        }
    }

    /// A state from which nothing leads to an end; or a healthy one that needs help from outside.
    fn wedged(&mut self, states: usize) -> Option<(&'static str, u32)> {
        let ends = || self.settled.iter().chain(&self.ended);
        let by_itself = reaching(states, &mut self.from_inside, ends());
        if let Some(&number) = self.healthy.iter().find(|&&h| !by_itself[h as usize]) {
            return Some(("a healthy partition settles by itself", number));
        }
        let somehow = reaching(states, &mut self.steps, ends());
        let number = somehow.iter().position(|&reaches| !reaches)?;
        Some(("from every state all can still settle", number as u32))
    }
}

/// Which states lead to one of `ends`.
fn reaching<'a>(
    states: usize,
    steps: &mut [(u32, u32)],
    ends: impl Iterator<Item = &'a u32>,
) -> Vec<bool> {
    steps.sort_unstable();
    let mut reaches = vec![false; states];
    let mut todo: Vec<u32> = ends.copied().collect();
    for &end in &todo {
        reaches[end as usize] = true;
    }
    while let Some(to) = todo.pop() {
        let start = steps.partition_point(|step| step.0 < to);
        for &(_, from) in steps[start..].iter().take_while(|step| step.0 == to) {
            if !std::mem::replace(&mut reaches[from as usize], true) {
                todo.push(from);
            }
        }
    }
    reaches
}
