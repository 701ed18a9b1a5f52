//! How a holder judges a push: the table of the protocol, line by line.

use crate::{
    client::note,
    copy::{Copy, Entry, Record},
    holder::Question,
    message::{Push, Verdict},
    mutant::Mutant,
    scenario::Scenario,
    state::{Held, State, insert},
};

impl Scenario {
    /// A push arrives at a copy that serves.
    pub(crate) fn judge(
        &self,
        state: &mut State,
        partition: u8,
        server: u8,
        push: Push,
    ) -> Option<()> {
        let copy = state.partition(partition).copy(server)?;
        // A push of another incarnation is `gone` [R30].
        if push.incarnation != copy.incarnation && !self.lacks(Mutant::NoIncarnation) {
            return None;
        }
        // The client has heard of a newer holder: `stale_map`. What that one acknowledged cannot be expected here [V5].
        if copy.epoch < push.prev.epoch && !self.lacks(Mutant::NoEpochOnPush) {
            return None;
        }
        let horizon = copy.horizon();
        let end = copy.length();
        let entry = self.entry(state, partition, server, push.lane);
        let last = entry.map_or(0, |e| e.number);
        match entry {
            // `superseded`: no correct client waits for it [M13].
            Some(entry) if push.number < entry.number => None,
            Some(entry) if push.number == entry.number => {
                self.answer_again(state, partition, server, push, entry)
            }
            None if birth_is_past(push, horizon) && !self.accused_first(last, push) => {
                // Rests on the record that evicted it: waits until that is safe [R23].
                let early = self.lacks(Mutant::ExpiredEarly);
                self.may_answer(state, partition, server, end, early)?;
                Self::reply(state, partition, push, Verdict::Expired { horizon });
                Some(())
            }
            _ if last < push.prev.number && !self.lacks(Mutant::PrevIgnored) => {
                // This server has lost something.
                self.may_answer(state, partition, server, 0, false)?;
                state.partition_mut(partition).history.accused = true;
                Some(())
            }
            _ => self.append_push(state, partition, server, push),
        }
    }

    /// What the ledger knows of the lane here.
    fn entry(&self, state: &State, partition: u8, server: u8, lane: u8) -> Option<Entry> {
        if self.lacks(Mutant::LedgerPerServer) {
            let copies = state.partitions.iter().filter_map(|p| p.copy(server));
            let newest = copies
                .filter_map(|c| c.entry(lane))
                .max_by_key(|e| e.number)?;
            let position = newest
                .position
                .min(state.partition(partition).copy(server)?.length());
            return Some(Entry { position, ..newest });
        }
        state.partition(partition).copy(server)?.entry(lane)
    }

    fn accused_first(&self, last: u8, push: Push) -> bool {
        self.lacks(Mutant::PrevBeforeHorizon) && last < push.prev.number
    }

    /// The number is known: its verdict waits until the record that settled it is safe [R2, M17b].
    fn answer_again(
        &self,
        state: &mut State,
        partition: u8,
        server: u8,
        push: Push,
        entry: Entry,
    ) -> Option<()> {
        let early = self.lacks(if entry.skipped {
            Mutant::SkipAnsweredEarly
        } else {
            Mutant::RepeatAnsweredEarly
        });
        self.may_answer(state, partition, server, entry.position, early)?;
        // Members may have gone since it was appended: the acknowledgement is what `minInSync` promises something about [C1].
        if !self.enough_copies(state, partition, server)
            && !self.lacks(Mutant::CopiesCountedAtAppendOnly)
        {
            return None;
        }
        let told_skipped = entry.skipped || push.skip && self.lacks(Mutant::SkipOverApplied);
        self.acknowledge(state, partition, server, push, told_skipped)?;
        let holder = state
            .partition_mut(partition)
            .copy_mut(server)?
            .holder_mut()?;
        holder.acknowledged = holder.acknowledged.max(entry.position);
        Some(())
    }

    fn append_push(&self, state: &mut State, partition: u8, server: u8, push: Push) -> Option<()> {
        if !self.enough_copies(state, partition, server) {
            // `not_enough_copies` settles nothing: an earlier copy of the push may still be on its way [C5].
            if !self.lacks(Mutant::RefusalSettles) {
                return None;
            }
            return self.acknowledge(state, partition, server, push, true);
        }
        let Push {
            lane, number, id, ..
        } = push;
        let skip = push.skip;
        self.append(state, partition, server, |epoch| {
            if skip {
                Record::Skip {
                    epoch,
                    lane,
                    number,
                }
            } else {
                Record::Update {
                    epoch,
                    lane,
                    number,
                    id,
                }
            }
        })?;
        let early = self.lacks(Mutant::AcknowledgedEarly);
        if early && self.answers(state, partition, server, Question::Verdict) {
            self.acknowledge(state, partition, server, push, skip)?;
        }
        Some(())
    }

    /// A verdict needs the lease, and waits until the position at which it was formed is safe.
    fn may_answer(
        &self,
        state: &State,
        partition: u8,
        server: u8,
        position: u8,
        early: bool,
    ) -> Option<()> {
        let now = self.answers(state, partition, server, Question::Verdict)
            && (early || self.safe(state, partition, server)? >= position);
        now.then_some(())
    }

    fn acknowledge(
        &self,
        state: &mut State,
        partition: u8,
        server: u8,
        push: Push,
        skipped: bool,
    ) -> Option<()> {
        let place = state.partition(partition);
        let copy = place.copy(server)?;
        let (epoch, incarnation) = (copy.epoch, copy.incarnation);
        let dead = incarnation < place.history.served;
        let earlier = place.history.told.iter().filter(|t| {
            !t.skipped
                && t.incarnation == incarnation
                && t.lane == push.lane
                && t.number < push.number
        });
        let gap = !skipped && earlier.into_iter().any(|t| copy.count(t.id) == 0);
        let too_few = !skipped && self.had_by(state, partition, copy, push.id) < self.min_in_sync;
        let history = &mut state.partition_mut(partition).history;
        history.dead_incarnation_acknowledged |= dead;
        history.silent_gap |= gap;
        history.too_few_copies |= too_few;
        note(state, partition, push, skipped);
        let verdict = if skipped {
            Verdict::Skipped { epoch }
        } else {
            Verdict::Applied { epoch }
        };
        Self::reply(state, partition, push, verdict);
        Some(())
    }

    /// Copies that ever had it; while this holder is the newest, only those that the master may promote.
    fn had_by(&self, state: &State, partition: u8, copy: &Copy, id: u8) -> u8 {
        if self.min_in_sync == 1 {
            return 1;
        }
        let place = state.partition(partition);
        let durable = &place.durable;
        let counts = |held: &&Held| {
            let member = durable.set.has(held.server)
                && durable.identities[held.server as usize] == held.identity;
            held.id == id && (durable.epoch > copy.epoch || member)
        };
        place.history.held.iter().filter(counts).count() as u8
    }

    /// The observer sees which copy has what, where it matters.
    pub(crate) fn observe_copies(&self, state: &mut State) {
        if self.min_in_sync == 1 {
            return;
        }
        for partition in &mut state.partitions {
            for (server, site) in (0u8..).zip(&partition.sites) {
                let has = if self.in_memory() {
                    &site.memory
                } else {
                    &site.disk
                };
                let identity = state.servers[server as usize].identity;
                for id in
                    (0..self.pushes()).filter(|&id| has.as_ref().is_some_and(|c| c.count(id) > 0))
                {
                    insert(
                        &mut partition.history.held,
                        Held {
                            id,
                            server,
                            identity,
                        },
                    );
                }
            }
        }
    }
}

/// Its lane was forgotten: born no later than one that was.
fn birth_is_past(push: Push, horizon: u8) -> bool {
    crate::client::birth(push.lane) <= horizon
}
