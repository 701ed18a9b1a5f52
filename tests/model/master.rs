//! The master: a register per partition with compare-and-swap, durable before it is told.
//!
//! A master that is down is one that does not act.

use crate::{
    message::Message,
    mutant::Mutant,
    scenario::Scenario,
    set::Set,
    state::{Configuration, Partition, SERVERS, State},
};

impl Scenario {
    /// What was decided is on the disk before anyone hears of it [R16].
    fn tell(&self, state: &mut State, partition: u8) {
        let boot = state.server(state.partition(partition).decided.holder).boot;
        let place = state.partition_mut(partition);
        if !self.lacks(Mutant::ToldBeforeDurable) {
            make_durable(place);
        }
        let configuration = place.decided;
        let to = configuration.holder;
        place.send(Message::Configure {
            to,
            boot,
            configuration,
        });
    }

    /// A holder's change of its set, if nothing changed since it asked [R8].
    pub(crate) fn change(
        &self,
        state: &mut State,
        partition: u8,
        asked: (u8, u8),
        set: Set,
        identities: [u8; SERVERS],
    ) -> Option<()> {
        let decided = &mut state.partition_mut(partition).decided;
        if self.lacks(Mutant::NoCompareAndSwap) {
            if decided.set == set || !set.has(decided.holder) {
                return None;
            }
        } else if asked != (decided.epoch, decided.revision) {
            return None;
        }
        decided.set = set;
        decided.identities = identities;
        let place = state.partition_mut(partition);
        place.decided.revision = take_number(place);
        self.tell(state, partition);
        Some(())
    }

    /// Any member of the in-sync set [R4], under a new epoch.
    pub(crate) fn promote(&self, state: &mut State, partition: u8, server: u8, set: Set) {
        state.used.promotions = (state.used.promotions + 1).min(self.limits.promotions);
        let identity = state.server(server).identity;
        let place = state.partition_mut(partition);
        let number = take_number(place);
        let mut identities = place.decided.identities;
        if self.lacks(Mutant::AnyCopyPromoted) {
            identities[server as usize] = identity;
        }
        place.decided = Configuration {
            incarnation: place.decided.incarnation,
            epoch: number,
            revision: number,
            holder: server,
            set,
            identities,
        };
        self.tell(state, partition);
    }

    /// From the initial value on a server, under a new incarnation. Proof that the old holder is fenced: it is dead, or the
    /// server is a member of its set, as which it keeps its promise, or itself [R29].
    pub(crate) fn reset(&self, state: &mut State, partition: u8, server: u8) -> Option<()> {
        state.used.resets += 1;
        let decided = state.partition(partition).decided;
        let member = decided.set.has(server) && self.is_known(state, decided, server);
        let fenced = decided.holder == server || member || !state.server(decided.holder).up;
        if !fenced && !self.lacks(Mutant::ResetWhileAlive) {
            return None;
        }
        let mut identities = decided.identities;
        identities[server as usize] = state.server(server).identity;
        let place = state.partition_mut(partition);
        let number = take_number(place);
        place.decided = Configuration {
            incarnation: decided.incarnation + 1,
            epoch: number,
            revision: number,
            holder: server,
            set: Set::of(&[server]),
            identities,
        };
        self.tell(state, partition);
        Some(())
    }

    /// Has what is older than the present epoch deleted.
    pub(crate) fn drop_old(state: &mut State, partition: u8, server: u8) {
        state.used.drops += 1;
        let place = state.partition_mut(partition);
        let epoch = place.decided.epoch;
        place.send(Message::Drop { to: server, epoch });
    }

    /// It knows again what its disk has.
    pub(crate) fn crash_master(state: &mut State) {
        state.used.master_crashes += 1;
        for place in &mut state.partitions {
            place.decided = place.durable;
            place.next = place.next_durable;
        }
    }
}

pub(crate) fn make_durable(place: &mut Partition) {
    place.durable = place.decided;
    place.next_durable = place.next;
}

/// Epochs and revisions come from one counter and are never reused.
fn take_number(place: &mut Partition) -> u8 {
    let number = place.next;
    place.next += 1;
    number
}
