//! Processes and disks: they fail for all partitions at once.

use crate::{
    copy::{Copy, Holder, Part},
    mutant::Mutant,
    scenario::Scenario,
    state::{SERVERS, State, UNKNOWN},
};

impl Scenario {
    /// One sync of a server's disk serves all its partitions.
    pub(crate) fn sync(&self, state: &mut State, server: u8) {
        for partition in 0..state.partitions.len() as u8 {
            let site = state.partition_mut(partition).site_mut(server);
            site.disk = site.memory.clone().map(Copy::at_rest);
            site.floor_on_disk = site.floor;
            self.report(state, partition, server);
        }
    }

    pub(crate) fn crash(&self, state: &mut State, server: u8, disk_too: bool) {
        if disk_too {
            state.used.disks_lost += 1;
        } else {
            state.used.crashes += 1;
        }
        for place in &mut state.partitions {
            let site = place.site_mut(server);
            site.memory = None;
            if disk_too {
                site.disk = None;
                site.floor_on_disk = 0;
            }
            site.floor = if self.in_memory() {
                0
            } else {
                site.floor_on_disk
            };
        }
        let process = &mut state.servers[server as usize];
        process.up = false;
        if disk_too || self.in_memory() {
            process.identity += 1;
        }
    }

    /// With a new boot number, and whatever its disk has.
    pub(crate) fn restart(&self, state: &mut State, server: u8) {
        let process = &mut state.servers[server as usize];
        process.up = true;
        process.boot += 1;
        for place in &mut state.partitions {
            let durable = place.durable;
            let site = place.site_mut(server);
            site.memory = site.disk.clone();
            site.floor = site.floor_on_disk;
            site.yielded = 0;
            site.promised = if self.in_memory() || self.lacks(Mutant::ForgetsPromises) {
                0
            } else {
                UNKNOWN
            };
            if self.lacks(Mutant::GoesOnAfterRestart)
                && durable.holder == server
                && let Some(copy) = site.memory.as_mut().filter(|c| c.epoch == durable.epoch)
            {
                let mut sessions = [1; SERVERS];
                sessions[server as usize] = 0;
                let inherited = copy.length();
                copy.part = Part::Holder(Holder {
                    serving: true,
                    sessions,
                    last_session: 1,
                    ..Holder::of(durable, inherited)
                });
            }
        }
    }

    pub(crate) fn back_up(state: &mut State, server: u8) {
        let disks = state
            .partitions
            .iter()
            .map(|place| place.site(server).disk.clone());
        state.backup = Some((server, disks.collect()));
    }

    /// The volume has an older state of the same identity.
    pub(crate) fn set_back(state: &mut State) -> Option<()> {
        state.used.disks_set_back += 1;
        let (server, disks) = state.backup.take()?;
        for (place, disk) in state.partitions.iter_mut().zip(disks) {
            place.site_mut(server).disk = disk;
        }
        Some(())
    }
}
