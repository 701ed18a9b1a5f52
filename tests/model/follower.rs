//! The follower: what it takes, what it reports, what makes it throw its copy away.

use crate::{
    copy::{Copy, Record},
    message::Message,
    mutant::Mutant,
    scenario::Scenario,
    state::State,
};

/// A record on its way.
pub(crate) struct Append {
    pub(crate) from: u8,
    pub(crate) epoch: u8,
    pub(crate) position: u8,
    pub(crate) previous_epoch: u8,
    pub(crate) record: Record,
}

/// A whole state on its way.
pub(crate) struct Snapshot {
    pub(crate) epoch: u8,
    pub(crate) session: u8,
    pub(crate) incarnation: u8,
    pub(crate) log: Vec<Record>,
}

impl Scenario {
    /// Tells the holder what this copy has, in the sense of its durability [R17].
    pub(crate) fn report(&self, state: &mut State, partition: u8, server: u8) {
        let place = state.partition_mut(partition);
        let site = place.site(server);
        let Some((copy, session)) = site.memory.as_ref().and_then(|c| Some((c, c.session()?)))
        else {
            return;
        };
        let length = if self.in_memory() || self.lacks(Mutant::ReportsBeforeDisk) {
            copy.length()
        } else {
            let same = |disk: &&Copy| disk.epoch == copy.epoch && disk.session() == Some(session);
            match site.disk.as_ref().filter(same) {
                Some(disk) => disk.length().min(copy.length()),
                None => return,
            }
        };
        let epoch = copy.epoch;
        place.send(Message::Have {
            from: server,
            epoch,
            session,
            length,
        });
    }

    /// Records of its epoch only [R3], in order, each after the record that it names [R27].
    pub(crate) fn take(
        &self,
        state: &mut State,
        partition: u8,
        server: u8,
        append: &Append,
    ) -> Option<()> {
        if !state.server(server).up || append.from == server {
            return None;
        }
        let in_memory = self.in_memory();
        let place = state.partition_mut(partition);
        let copy = place.copy_mut(server)?;
        let (length, epoch) = (copy.length(), copy.epoch);
        let record = self.as_kept(append.record);
        if self.lacks(Mutant::OldEpochTaken)
            && in_memory
            && epoch > append.epoch
            && length >= append.position
        {
            if length == append.position {
                copy.log.push(record);
            }
            place.send(Message::Have {
                from: server,
                epoch: append.epoch,
                session: 1,
                length: append.position + 1,
            });
            return Some(());
        }
        if length != append.position || copy.session().is_none() || epoch != append.epoch {
            return None;
        }
        if copy.last_epoch() != append.previous_epoch && !self.lacks(Mutant::PredecessorIgnored) {
            return None;
        }
        copy.log.push(record);
        if in_memory || self.lacks(Mutant::ReportsBeforeDisk) {
            self.report(state, partition, server);
        }
        Some(())
    }

    /// As it stands; the mutant keeps a `skip` as a record that settles nothing.
    fn as_kept(&self, record: Record) -> Record {
        match record {
            Record::Skip { epoch, lane, .. } if self.lacks(Mutant::SkipNotInLedger) => {
                Record::Skip {
                    epoch,
                    lane,
                    number: 0,
                }
            }
            other => other,
        }
    }

    /// Not below the floor [R21], not over a copy of the same epoch and an equal or later session [R31].
    pub(crate) fn install(
        &self,
        state: &mut State,
        partition: u8,
        server: u8,
        snapshot: Snapshot,
    ) -> Option<()> {
        if !state.server(server).up {
            return None;
        }
        let site = state.partition_mut(partition).site_mut(server);
        let Snapshot {
            epoch,
            session,
            incarnation,
            log,
        } = snapshot;
        if epoch < site.floor && !self.lacks(Mutant::NoFloor) {
            return None;
        }
        let stays = |copy: &Copy| match copy.session() {
            _ if copy.epoch > epoch => true,
            _ if copy.epoch < epoch => false,
            Some(own) => own >= session && !self.lacks(Mutant::LateSnapshotTaken),
            None => true,
        };
        if site.memory.as_ref().is_some_and(stays) {
            return None;
        }
        site.memory = Some(Copy::follower(incarnation, epoch, session, log));
        if self.in_memory() {
            self.report(state, partition, server);
        }
        Some(())
    }

    /// By the holder of its epoch and session [R22b].
    pub(crate) fn be_detached(
        &self,
        state: &mut State,
        partition: u8,
        server: u8,
        epoch: u8,
        session: u8,
    ) -> Option<()> {
        if !state.server(server).up {
            return None;
        }
        let site = state.partition_mut(partition).site_mut(server);
        let copy = site.memory.as_ref()?;
        let own = copy.session()?;
        if copy.epoch != epoch || own != session && !self.lacks(Mutant::DetachesAnySession) {
            return None;
        }
        site.memory = None;
        site.promised = 0;
        site.floor = site.floor.max(epoch);
        Some(())
    }

    /// By the master: only what is below the epoch [R22], and nothing below it may come back [R21].
    pub(crate) fn be_dropped(
        &self,
        state: &mut State,
        partition: u8,
        server: u8,
        epoch: u8,
    ) -> Option<()> {
        if !state.server(server).up {
            return None;
        }
        let site = state.partition_mut(partition).site_mut(server);
        if site.memory.as_ref()?.epoch >= epoch && !self.lacks(Mutant::DropsNewer) {
            return None;
        }
        site.memory = None;
        site.promised = 0;
        if !self.lacks(Mutant::NoFloor) {
            site.floor = site.floor.max(epoch);
        }
        Some(())
    }
}
