//! What a holder does about its followers: attach, ask to add, ask to remove, detach. A move is the first two, and a promotion.

use crate::{copy::Copy, message::Message, mutant::Mutant, scenario::Scenario, state::State};

impl Scenario {
    /// Asks the master to add a follower. It must have reported, in this session, all that may have been acknowledged [R7],
    /// what the holder inherited included [R7b]; no report is no report [R7c]. From now on the holder waits for it [R6].
    pub(crate) fn add(
        &self,
        state: &mut State,
        partition: u8,
        server: u8,
        follower: u8,
    ) -> Option<()> {
        state.used.additions = (state.used.additions + 1).min(self.limits.additions);
        let safe = self.safe(state, partition, server)?;
        let place = state.partition(partition);
        let copy = place.copy(server)?;
        let holder = copy.holder()?;
        let confirmed = holder.confirmed;
        let identity = holder.identities[follower as usize];
        let member =
            confirmed.set.has(follower) && confirmed.identities[follower as usize] == identity;
        if member || holder.joining.has(follower) {
            return None;
        }
        let needed = if self.lacks(Mutant::AddedBehind) {
            0
        } else if self.lacks(Mutant::InheritedForgotten) {
            safe
        } else {
            safe.max(holder.acknowledged)
        };
        let silent = self.lacks(Mutant::SilenceIsReport).then_some(0);
        let reported = self.reported(place, copy, holder, follower).or(silent)?;
        if reported < needed {
            return None;
        }
        let mut identities = confirmed.identities;
        identities[follower as usize] = identity;
        let place = state.partition_mut(partition);
        place.send(Message::Change {
            epoch: confirmed.epoch,
            revision: confirmed.revision,
            set: confirmed.set.with(follower),
            identities,
        });
        let holder = place.copy_mut(server)?.holder_mut()?;
        holder.joining = holder.joining.with(follower);
        Some(())
    }

    /// Asks the master to remove a member, and goes on waiting for it until the answer [R5].
    pub(crate) fn remove(
        &self,
        state: &mut State,
        partition: u8,
        server: u8,
        member: u8,
    ) -> Option<()> {
        state.used.removals = (state.used.removals + 1).min(self.limits.removals);
        let counts_copies = self.min_in_sync > 1;
        let place = state.partition_mut(partition);
        let holder = place.copy_mut(server)?.holder_mut()?;
        let confirmed = holder.confirmed;
        if self.lacks(Mutant::RemovedAlone) {
            holder.confirmed.set = confirmed.set.without(member);
        }
        if counts_copies {
            holder.leaving = holder.leaving.with(member);
        }
        place.send(Message::Change {
            epoch: confirmed.epoch,
            revision: confirmed.revision,
            set: confirmed.set.without(member),
            identities: confirmed.identities,
        });
        Some(())
    }

    /// Gives a server the whole state under a new session.
    pub(crate) fn attach(
        &self,
        state: &mut State,
        partition: u8,
        server: u8,
        follower: u8,
    ) -> Option<()> {
        state.used.attachments = (state.used.attachments + 1).min(self.limits.attachments);
        let identity = state.server(follower).identity;
        let place = state.partition_mut(partition);
        let source = place.copy(server)?.clone();
        let there = place.site(follower);
        if self.snapshots_travel {
            let session = place
                .copy_mut(server)?
                .holder_mut()?
                .attach(follower, identity);
            place.send(Message::Snapshot {
                to: follower,
                epoch: source.epoch,
                session,
                incarnation: source.incarnation,
                log: source.log,
            });
            return Some(());
        }
        if source.epoch < there.floor && !self.lacks(Mutant::NoFloor) {
            return None;
        }
        if there
            .memory
            .as_ref()
            .is_some_and(|c| c.epoch >= source.epoch)
        {
            return None;
        }
        let mut log = source.log.clone();
        // The mutant catches up by the tail's length: whatever it had before stays, be it of another past.
        if let Some(own) = there
            .memory
            .as_ref()
            .filter(|_| self.lacks(Mutant::PredecessorIgnored))
            && own.log.len() <= log.len()
        {
            log[..own.log.len()].copy_from_slice(&own.log);
        }
        let session = place
            .copy_mut(server)?
            .holder_mut()?
            .attach(follower, identity);
        let mut copy = Copy::follower(source.incarnation, source.epoch, session, log);
        copy.ledger_from = if self.lacks(Mutant::SnapshotWithoutLedger) {
            source.length()
        } else {
            source.ledger_from
        };
        let site = place.site_mut(follower);
        site.memory = Some(copy);
        if self.lacks(Mutant::PromiseOfAttachment) {
            site.promised = 0;
        }
        if self.in_memory() || self.lacks(Mutant::ReportsBeforeDisk) {
            self.report(state, partition, follower);
        }
        Some(())
    }

    /// Only the holder detaches within its epoch, and by session [R22b].
    pub(crate) fn detach(state: &mut State, partition: u8, server: u8, follower: u8) -> Option<()> {
        state.used.drops += 1;
        let place = state.partition_mut(partition);
        let copy = place.copy_mut(server)?;
        let epoch = copy.epoch;
        let holder = copy.holder_mut()?;
        if holder.confirmed.set.and(holder.joining).has(follower) {
            return None;
        }
        let session = std::mem::take(&mut holder.sessions[follower as usize]);
        place.send(Message::Detach {
            to: follower,
            epoch,
            session,
        });
        Some(())
    }
}
