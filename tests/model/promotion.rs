//! How a server becomes the holder: an order of the master, and the end of every lease that it gave, or the word of the one
//! before.

use crate::{
    copy::{Copy, Holder, Part},
    message::Message,
    mutant::Mutant,
    scenario::Scenario,
    set::Set,
    state::{Configuration, State, UNKNOWN},
};

impl Scenario {
    /// Whether a server is the member that a configuration means, not another copy of its name [R10].
    pub(crate) fn is_known(&self, state: &State, configuration: Configuration, server: u8) -> bool {
        let identity = configuration.identities[server as usize];
        state.server(server).identity == identity || self.lacks(Mutant::KnownByName)
    }

    /// Adopts the epoch at once, so that the old holder can never be acknowledged again; takes all its records as its own.
    pub(crate) fn configure(
        &self,
        state: &mut State,
        partition: u8,
        server: u8,
        boot: u8,
        ordered: Configuration,
    ) -> Option<()> {
        // Servers register before they obey: an order to an earlier boot is void [R32].
        if boot != state.server(server).boot && !self.lacks(Mutant::OldOrderObeyed) {
            return None;
        }
        if !state.server(server).up || !self.is_known(state, ordered, server) {
            return None;
        }
        let site = state.partition_mut(partition).site_mut(server);
        let awaited = match site.promised {
            UNKNOWN => ordered.epoch - 1,
            epoch => epoch,
        };
        if ordered.epoch < site.floor && !self.lacks(Mutant::NoFloor) {
            return None;
        }
        let older =
            |copy: &Copy| copy.incarnation < ordered.incarnation && copy.epoch < ordered.epoch;
        if ordered.incarnation > 1 && site.memory.as_ref().is_none_or(older) {
            // A reset: from its initial value, with an empty ledger.
            let empty = Copy::follower(ordered.incarnation, ordered.epoch, 0, Vec::new());
            let holder = Holder {
                awaited,
                ..Holder::of(ordered, 0)
            };
            site.memory = Some(Copy {
                part: Part::Holder(holder),
                ..empty
            });
            return Some(());
        }
        let copy = site.memory.as_mut()?;
        if copy.epoch == ordered.epoch
            && let Part::Holder(holder) = &mut copy.part
        {
            if ordered.revision <= holder.confirmed.revision {
                return None;
            }
            holder.confirmed = ordered;
            holder.joining = Set::NONE;
            holder.leaving = Set::NONE;
            holder.leases = holder.leases.common(ordered.set);
            return Some(());
        }
        let goes_on = self.lacks(Mutant::GoesOnAfterRestart);
        if copy.epoch >= ordered.epoch && !(goes_on && copy.epoch == ordered.epoch) {
            return None;
        }
        let mut holder = Holder::of(ordered, copy.length());
        if goes_on {
            holder.sessions = [1; crate::state::SERVERS];
            holder.last_session = 1;
        }
        holder.awaited = awaited;
        copy.epoch = ordered.epoch;
        copy.part = Part::Holder(holder);
        Some(())
    }

    /// A holder of an earlier epoch ceases to serve, and says so: of its epoch nobody serves any more, and of none before, or it
    /// would not have begun. Who waits itself for the end of a lease cannot say that [Y1].
    pub(crate) fn give_way(&self, state: &mut State, partition: u8, server: u8) -> Option<()> {
        let place = state.partition_mut(partition);
        let copy = place.copy(server)?;
        let ceased = copy.epoch;
        let may_yield = copy.holder()?.serving || self.lacks(Mutant::YieldsBeforeServing);
        if !self.lacks(Mutant::YieldsAndGoesOn) {
            let rests = place.site_mut(server).memory.take()?.at_rest();
            place.site_mut(server).memory = Some(rests);
        }
        if may_yield {
            place.send(Message::Yield { ceased });
        }
        Some(())
    }

    /// It may come late: what counts is the epoch that it names [Y3].
    pub(crate) fn hear_yield(
        state: &mut State,
        partition: u8,
        server: u8,
        ceased: u8,
    ) -> Option<()> {
        if !state.server(server).up {
            return None;
        }
        let site = state.partition_mut(partition).site_mut(server);
        site.yielded = site.yielded.max(ceased);
        Some(())
    }

    /// When every lease that it gave has ended [R13, R14], and its epoch is on its disk.
    pub(crate) fn serve(&self, state: &mut State, partition: u8, server: u8) -> Option<()> {
        let place = state.partition(partition);
        let site = place.site(server);
        let epoch = site.memory.as_ref()?.epoch;
        if !self.in_memory() && site.disk.as_ref().is_none_or(|disk| disk.epoch != epoch) {
            return None;
        }
        let leased = |other: u8| {
            let holder = place.copy(other).and_then(Copy::holder);
            state.server(other).up && holder.is_some_and(|h| h.leases.has(server))
        };
        let awaited = site.memory.as_ref()?.holder()?.awaited;
        let remembers = if self.lacks(Mutant::AnyYieldCounts) {
            awaited > 0 && site.yielded == 0
        } else {
            awaited > site.yielded
        };
        let waits = remembers && (0..self.servers).any(|other| other != server && leased(other));
        if waits && !self.lacks(Mutant::ServesAtOnce) {
            return None;
        }
        let place = state.partition_mut(partition);
        let copy = place.copy_mut(server)?;
        let incarnation = copy.incarnation;
        copy.holder_mut()?.serving = true;
        place.history.served = place.history.served.max(incarnation);
        Some(())
    }
}
