//! What a scenario should come to see: one in which nothing happens proves nothing.

use crate::{
    holder::Question,
    scenario::Scenario,
    state::{Partition, State},
};

/// What should be seen in some state, if the scenario has it at all.
pub(crate) const SIGHTS: [&str; 10] = [
    "all settled, and another server serves than at first",
    "a server that was added later has all and serves",
    "all acknowledged after every failure",
    "an old holder still believes while the new one serves",
    "a checkpoint was written",
    "what was given up was skipped",
    "what was given up was found applied",
    "the groups of a request settled at different holders after one had changed",
    "a holder found by prev that it had lost something",
    "a push waited because there were fewer copies than minInSync",
];

impl Scenario {
    /// A bit for each of [`SIGHTS`].
    pub(crate) fn seen(&self, state: &State) -> u32 {
        let limits = &self.limits;
        let settled = self.all_settled(state);
        let places = &state.partitions;
        let open = || state.clients.iter().flat_map(|client| &client.open);
        let now: [bool; SIGHTS.len()] = [
            limits.promotions == 0 || settled && another_serves(places, self.holders),
            limits.additions == 0
                || limits.promotions == 0
                || settled && self.newcomer_serves(state),
            limits.crashes + limits.disks_lost == 0
                || limits.disks_set_back > 0
                || settled && every_failure_happened(self, state) && self.all_acknowledged(state),
            limits.promotions == 0 || places.iter().any(old_holder_believes),
            limits.checkpoints == 0 || places.iter().any(checkpoint_written),
            limits.abandons == 0
                || places
                    .iter()
                    .any(|p| p.history.told.iter().any(|t| t.skipped)),
            limits.abandons == 0 || places.iter().any(found_applied),
            places.len() == 1
                || settled && places.iter().any(|p| p.durable.epoch > 1) && apart(places),
            limits.disks_set_back == 0 || places.iter().any(|p| p.history.accused),
            self.min_in_sync == 1
                || open().any(|(p, _)| state.partition(*p).durable.set.len() < self.min_in_sync),
        ];
        now.iter()
            .enumerate()
            .fold(0, |bits, (i, &seen)| bits | u32::from(seen) << i)
    }

    fn all_acknowledged(&self, state: &State) -> bool {
        let due: usize = self.requests.iter().map(|touched| touched.len()).sum();
        let told: usize = state.partitions.iter().map(|p| p.history.told.len()).sum();
        told == due * self.clients as usize || self.limits.resets > 0
    }

    /// Of a scenario in which not every server was a member at first.
    fn newcomer_serves(&self, state: &State) -> bool {
        let place = &state.partitions[0];
        let holder = place.durable.holder;
        let all = (0..self.servers).all(|server| self.in_sync.has(server));
        all || !self.in_sync.has(holder) && self.answers(state, 0, holder, Question::Pull)
    }
}

fn every_failure_happened(scenario: &Scenario, state: &State) -> bool {
    let (used, limits) = (&state.used, &scenario.limits);
    (used.crashes, used.disks_lost) == (limits.crashes, limits.disks_lost)
}

fn serves(place: &Partition, server: u8) -> bool {
    let holder = place.copy(server).and_then(|copy| copy.holder());
    holder.is_some_and(|h| h.serving)
}

fn another_serves(places: &[Partition], first: &[u8]) -> bool {
    let mut places = places.iter().zip(first);
    places
        .any(|(place, first)| place.durable.holder != *first && serves(place, place.durable.holder))
}

fn old_holder_believes(place: &Partition) -> bool {
    (0..place.sites.len() as u8)
        .filter(|&server| serves(place, server))
        .count()
        == 2
}

fn checkpoint_written(place: &Partition) -> bool {
    place
        .history
        .checkpoint
        .as_ref()
        .is_some_and(|begun| begun.done)
}

fn found_applied(place: &Partition) -> bool {
    let mut told = place.history.told.iter().filter(|t| !t.skipped);
    told.any(|t| place.sent.iter().any(|push| push.skip && push.id == t.id))
}

fn apart(places: &[Partition]) -> bool {
    places
        .windows(2)
        .any(|two| two[0].durable.holder != two[1].durable.holder)
}
