//! Which steps may happen in a state.
//!
//! The network is a set of messages that never shrinks: each may come late, twice, or never, so a cut link is one whose
//! messages do not come. A push that was ever sent may arrive at any server that serves, at any time, whatever epoch it bore.

use crate::{
    action::{Action, NO_SERVER},
    copy::Copy,
    message::Message,
    mutant::Mutant,
    scenario::Scenario,
    set::Set,
    state::{Configuration, Partition, State},
};

/// Beyond this epoch nothing is promoted any more, so that there is an end.
const LAST_EPOCH: u8 = 14;

impl Scenario {
    pub(crate) fn possible(&self, state: &State, actions: &mut Vec<Action>) {
        if Self::ended(state) {
            return;
        }
        self.of_clients(state, actions);
        self.of_machines(state, actions);
        for partition in 0..state.partitions.len() as u8 {
            self.of_network(state, partition, actions);
            for server in 0..self.servers {
                self.of_copy(state, partition, server, actions);
            }
            self.of_master(state, partition, actions);
        }
        if state.used.master_crashes < self.limits.master_crashes
            && state.partitions.iter().any(|p| p.decided != p.durable)
        {
            actions.push(Action::CrashMaster);
        }
    }

    fn of_clients(&self, state: &State, actions: &mut Vec<Action>) {
        for (client, knows) in (0u8..).zip(&state.clients) {
            if self.may_begin(knows) {
                actions.push(Action::Begin { client });
            }
            if knows.incarnation != state.partitions[0].durable.incarnation {
                actions.push(Action::Reopen { client });
            }
            if state.used.abandons < self.limits.abandons {
                let open = knows.open.iter().filter(|(_, push)| !push.skip);
                actions.extend(open.map(|&(partition, _)| Action::Abandon { client, partition }));
            }
        }
    }

    fn of_machines(&self, state: &State, actions: &mut Vec<Action>) {
        let (used, limits) = (&state.used, &self.limits);
        if state
            .backup
            .as_ref()
            .is_some_and(|(server, _)| !state.server(*server).up)
            && used.disks_set_back < limits.disks_set_back
        {
            actions.push(Action::SetBack);
        }
        for server in 0..self.servers {
            if !state.server(server).up {
                actions.push(Action::Restart { server });
                continue;
            }
            if used.crashes < limits.crashes {
                actions.push(Action::Crash { server });
            }
            if used.disks_lost < limits.disks_lost {
                actions.push(Action::LoseDisk { server });
            }
            if !self.in_memory() {
                actions.push(Action::Sync { server });
                if state.backup.is_none() && limits.disks_set_back > 0 {
                    actions.push(Action::BackUp { server });
                }
            }
        }
    }

    fn of_network(&self, state: &State, partition: u8, actions: &mut Vec<Action>) {
        for message in &state.partition(partition).net {
            let mut arrives = |server| {
                actions.push(Action::Deliver {
                    partition,
                    server,
                    message: message.clone(),
                });
            };
            match message {
                Message::Append { .. } | Message::Yield { .. } => {
                    (0..self.servers).for_each(arrives);
                }
                // A report is read where it lies.
                Message::Have { .. } => {}
                other => arrives(other.addressee().unwrap_or(NO_SERVER)),
            }
        }
    }

    fn of_copy(&self, state: &State, partition: u8, server: u8, actions: &mut Vec<Action>) {
        let place = state.partition(partition);
        if !state.server(server).up {
            return;
        }
        let Some(copy) = place.copy(server) else {
            return;
        };
        let Some(holder) = copy.holder() else {
            if self.lacks(Mutant::DiscardedFirst) && place.durable.epoch > copy.epoch {
                actions.push(Action::Discard { partition, server });
            }
            return;
        };
        if !holder.leases.is_empty() {
            actions.push(Action::Expire {
                partition,
                holder: server,
            });
        }
        if self.yields && copy.epoch < place.durable.epoch {
            actions.push(Action::Yield {
                partition,
                holder: server,
            });
        }
        // It need not wait for the end of the leases that it gave to see to its followers.
        for follower in (0..self.servers).filter(|&f| f != server) {
            self.of_follower(state, partition, server, follower, actions);
        }
        if !holder.serving {
            actions.push(Action::Serve { partition, server });
            return;
        }
        for &push in &place.sent {
            actions.push(Action::Arrive {
                partition,
                server,
                push,
            });
        }
        if state.used.evictions < self.limits.evictions {
            let lanes = state.clients.iter().map(|client| client.lane);
            actions.extend(
                lanes
                    .filter(|&lane| copy.entry(lane).is_some())
                    .map(|lane| Action::Evict {
                        partition,
                        holder: server,
                        lane,
                    }),
            );
        }
    }

    /// What a holder may do about another server.
    fn of_follower(
        &self,
        state: &State,
        partition: u8,
        server: u8,
        other: u8,
        actions: &mut Vec<Action>,
    ) {
        let place = state.partition(partition);
        let Some((copy, holder)) = place.copy(server).and_then(|c| Some((c, c.holder()?))) else {
            return;
        };
        let (used, limits) = (&state.used, &self.limits);
        let there = state.server(other);
        let confirmed = &holder.confirmed;
        let short = confirmed.set.len() < self.min_in_sync;
        if there.up && !holder.leases.has(other) {
            actions.push(Action::Lease {
                partition,
                holder: server,
                follower: other,
            });
        }
        if there.up && (used.attachments < limits.attachments || short) {
            actions.push(Action::Attach {
                partition,
                holder: server,
                follower: other,
            });
        }
        let other_epoch = place.copy(other).is_none_or(|c| c.epoch != copy.epoch);
        let dead =
            !there.up || there.identity != confirmed.identities[other as usize] || other_epoch;
        if confirmed.set.has(other) && (used.removals < limits.removals || dead) {
            actions.push(Action::Remove {
                partition,
                holder: server,
                member: other,
            });
        }
        let session = holder.sessions[other as usize];
        let attached = session != 0;
        let follows =
            there.up && !other_epoch && place.copy(other).and_then(Copy::session) == Some(session);
        let lives = follows && there.identity == holder.identities[other as usize];
        // Who waits itself for the end of a lease adds nobody: one that never gave it would not wait [R15c].
        let adds = holder.serving || self.lacks(Mutant::AddsBeforeServing);
        if attached && adds && (used.additions < limits.additions || short && lives) {
            actions.push(Action::Add {
                partition,
                holder: server,
                follower: other,
            });
        }
        if attached && used.drops < limits.drops {
            actions.push(Action::Detach {
                partition,
                holder: server,
                follower: other,
            });
        }
    }

    fn of_master(&self, state: &State, partition: u8, actions: &mut Vec<Action>) {
        let place = state.partition(partition);
        let (used, limits) = (&state.used, &self.limits);
        let decided = &place.decided;
        let stuck = cannot_serve(state, place);
        for server in 0..self.servers {
            let site = place.site(server);
            let member = decided.set.has(server)
                || self.lacks(Mutant::AnyCopyPromoted) && site.memory.is_some();
            let needed = stuck
                && state.server(server).up
                && (site.memory.is_some() || decided.incarnation > 1)
                && self.is_known(state, *decided, server);
            if member && (used.promotions < limits.promotions || needed) && place.next < LAST_EPOCH
            {
                let sets = self.sets_after(*decided, server);
                actions.extend(sets.into_iter().map(|set| Action::Promote {
                    partition,
                    server,
                    set,
                }));
            }
            if used.drops < limits.drops && !decided.set.has(server) {
                actions.push(Action::DropOld { partition, server });
            }
        }
        if used.resets < limits.resets {
            actions.extend((0..self.servers).map(|server| Action::Reset { partition, server }));
        }
        match &place.history.checkpoint {
            _ if used.checkpoints < limits.checkpoints => {
                actions.push(Action::BeginCheckpoint { partition });
            }
            Some(begun) if !begun.done => {
                actions.extend(
                    (0..self.servers).map(|server| Action::WriteCheckpoint { partition, server }),
                );
            }
            _ => {}
        }
        if place.decided != place.durable {
            actions.push(Action::Persist { partition });
        }
    }

    /// The sets that a promotion may write: without the old holder, the new one alone, or with the old one.
    fn sets_after(&self, decided: Configuration, promoted: u8) -> Vec<Set> {
        let rest = if promoted == decided.holder {
            decided.set
        } else {
            decided.set.without(decided.holder)
        };
        let mut sets = vec![rest.with(promoted), Set::of(&[promoted])];
        if self.keeps_old_holder {
            sets.push(decided.set.with(promoted));
        }
        sets.sort_unstable();
        sets.dedup();
        sets
    }
}

/// The holder that the master has decided on cannot serve, or cannot hear that it is the holder.
fn cannot_serve(state: &State, place: &Partition) -> bool {
    let decided = &place.decided;
    let holder = state.server(decided.holder);
    if !holder.up || holder.identity != decided.identities[decided.holder as usize] {
        return true;
    }
    let ordered = |message: &Message| {
        matches!(message, Message::Configure { to, boot, configuration }
            if *to == decided.holder && *boot == holder.boot && configuration.epoch == decided.epoch)
    };
    match place.copy(decided.holder) {
        Some(copy) if copy.epoch == decided.epoch => copy.holder().is_none(),
        Some(copy) if copy.epoch > decided.epoch => true,
        // It has nothing, or something older: an order must be under way.
        nothing => nothing.is_none() || !place.net.iter().any(ordered),
    }
}
