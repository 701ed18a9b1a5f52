//! The holder: what it waits for, and when it may answer.

use crate::{
    copy::{Copy, Holder, Record},
    message::Message,
    mutant::Mutant,
    scenario::Scenario,
    set::Set,
    state::{Partition, State},
};

/// What a holder is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Question {
    Pull,
    Verdict,
}

impl Scenario {
    /// What a server has reported to this holder: in its epoch and session only [R11, R11b].
    pub(crate) fn reported(
        &self,
        place: &Partition,
        copy: &Copy,
        holder: &Holder,
        follower: u8,
    ) -> Option<u8> {
        let current = holder.sessions[follower as usize];
        let any_epoch = self.lacks(Mutant::AnyEpochCounts);
        let any_session = any_epoch || self.lacks(Mutant::AnySessionCounts);
        let lengths = place.net.iter().filter_map(|message| match *message {
            Message::Have {
                from,
                epoch,
                session,
                length,
            } => {
                let counts = from == follower
                    && (epoch == copy.epoch || any_epoch)
                    && (current != 0 && session == current || any_session);
                counts.then_some(length.min(copy.length()))
            }
            _ => None,
        });
        lengths.max()
    }

    /// Whose word an acknowledgement needs beside the holder's own: the set, and whom it has asked to add [R6, R24].
    fn awaited(&self, copy: &Copy, holder: &Holder, server: u8) -> Set {
        if self.lacks(Mutant::PromotedAlone) && copy.epoch > 1 {
            return holder.joining;
        }
        if self.lacks(Mutant::AddedAtMasterFirst) {
            return holder.confirmed.set.without(server);
        }
        holder.confirmed.set.and(holder.joining).without(server)
    }

    /// The position that all have who must [R1, R18].
    pub(crate) fn safe(&self, state: &State, partition: u8, server: u8) -> Option<u8> {
        let place = state.partition(partition);
        let copy = place.copy(server)?;
        let holder = copy.holder()?;
        let mut safe = copy.length();
        if !self.in_memory() && !self.lacks(Mutant::OwnDiskNotAwaited) {
            let on_disk = place.site(server).disk.as_ref();
            let same = |disk: &Copy| {
                disk.log
                    .iter()
                    .zip(&copy.log)
                    .take_while(|(a, b)| a == b)
                    .count()
            };
            safe = on_disk.map_or(0, same) as u8;
        }
        for follower in self.awaited(copy, holder, server).members() {
            safe = safe.min(self.reported(place, copy, holder, follower).unwrap_or(0));
        }
        Some(safe)
    }

    /// Whether a server answers now: it serves, and every other member has promised not to [R12, R12b, R15].
    pub(crate) fn answers(
        &self,
        state: &State,
        partition: u8,
        server: u8,
        question: Question,
    ) -> bool {
        let Some(copy) = state.partition(partition).copy(server) else {
            return false;
        };
        let Some(holder) = copy
            .holder()
            .filter(|h| h.serving && state.server(server).up)
        else {
            return false;
        };
        let without = match question {
            Question::Pull => Mutant::PullWithoutLease,
            Question::Verdict => Mutant::VerdictWithoutLease,
        };
        let mut needed = self.awaited(copy, holder, server);
        if self.lacks(Mutant::JoiningWithoutLease) {
            needed = needed.common(holder.confirmed.set);
        }
        self.lacks(without) || holder.leases.contains(needed)
    }

    /// `minInSync` counts what the master has confirmed, less what the holder itself has asked to remove [C3], less members that
    /// are attached under another identity than the confirmed one [C4]: the others may be promoted for sure. A follower that it
    /// has asked to add may never be [C2].
    pub(crate) fn enough_copies(&self, state: &State, partition: u8, server: u8) -> bool {
        let holder = state
            .partition(partition)
            .copy(server)
            .and_then(Copy::holder);
        let Some(holder) = holder else {
            return false;
        };
        let mut counted = holder.confirmed.set;
        if self.lacks(Mutant::JoiningCounted) {
            counted = counted.and(holder.joining);
        }
        if !self.lacks(Mutant::LeavingCounted) {
            counted = counted.minus(holder.leaving);
        }
        let another = |&member: &u8| {
            let attached = holder.identities[member as usize];
            let joins = holder.joining.has(member) && self.lacks(Mutant::JoiningCounted);
            attached != 0 && attached != holder.confirmed.identities[member as usize] && !joins
        };
        if !self.lacks(Mutant::OtherIdentityCounted) {
            counted = counted
                .members()
                .filter(another)
                .fold(counted, Set::without);
        }
        counted.len() >= self.min_in_sync
    }

    /// Into its own log, and on its way to the followers.
    pub(crate) fn append(
        &self,
        state: &mut State,
        partition: u8,
        server: u8,
        make: impl Fn(u8) -> Record,
    ) -> Option<()> {
        let place = state.partition_mut(partition);
        let copy = place.copy_mut(server)?;
        let record = make(copy.epoch);
        let message = Message::Append {
            from: server,
            epoch: copy.epoch,
            position: copy.length(),
            previous_epoch: copy.last_epoch(),
            record,
        };
        copy.log.push(record);
        if self.servers > 1 {
            place.send(message);
        }
        Some(())
    }

    /// Forgets a lane that nobody has used for long enough; nothing of it may be waiting [M15].
    pub(crate) fn evict(
        &self,
        state: &mut State,
        partition: u8,
        server: u8,
        lane: u8,
    ) -> Option<()> {
        state.used.evictions += 1;
        let last = state.partition(partition).copy(server)?.entry(lane)?.number;
        let waits = |push: &crate::message::Push| push.lane == lane && push.number == last;
        let open = state.clients.iter().flat_map(|client| &client.open);
        if open
            .into_iter()
            .any(|(p, push)| *p == partition && waits(push))
        {
            return None;
        }
        self.append(state, partition, server, |epoch| Record::Evict {
            epoch,
            lane,
        })
    }

    /// A follower of its epoch [R15b], by its present attachment [R15d], promises not to serve for now.
    pub(crate) fn lease(
        &self,
        state: &mut State,
        partition: u8,
        server: u8,
        follower: u8,
    ) -> Option<()> {
        let place = state.partition_mut(partition);
        let copy = place.copy(server)?;
        let (epoch, session) = (copy.epoch, copy.holder()?.sessions[follower as usize]);
        let other = place.copy(follower)?;
        let gives = if self.lacks(Mutant::LeaseFromHigherEpoch) {
            other.epoch >= epoch
        } else {
            let any = self.lacks(Mutant::LeaseOfAnySession);
            let attached = other.session().is_some_and(|own| own == session || any);
            attached && other.epoch == epoch
        };
        let holder = place.copy_mut(server)?.holder_mut()?;
        holder.leases = holder.leases.with(follower);
        place.site_mut(follower).promised = epoch;
        gives.then_some(())
    }

    /// Time passes; what the holder has asked for it keeps until the master answers [R25].
    pub(crate) fn expire(&self, state: &mut State, partition: u8, server: u8) -> Option<()> {
        let holder = state
            .partition_mut(partition)
            .copy_mut(server)?
            .holder_mut()?;
        holder.leases = Set::NONE;
        if self.lacks(Mutant::JoiningForgotten) {
            holder.joining = Set::NONE;
        }
        Some(())
    }
}
