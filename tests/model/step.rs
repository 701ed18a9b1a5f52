//! From an action to the state after it.

use crate::{
    action::Action,
    copy::Copy,
    explore::{Model, Progress},
    follower::{Append, Snapshot},
    master::make_durable,
    message::Message,
    scenario::Scenario,
    state::{Partition, State},
};

impl Scenario {
    /// None: not possible here.
    fn step(&self, state: &mut State, action: &Action) -> Option<()> {
        match *action {
            Action::Begin { client } => self.begin(state, client)?,
            Action::Abandon { client, partition } => self.abandon(state, client, partition)?,
            Action::Reopen { client } => self.reopen(state, client)?,
            Action::Arrive {
                partition,
                server,
                push,
            } => self.judge(state, partition, server, push)?,
            Action::Deliver {
                partition,
                server,
                ref message,
            } => self.deliver(state, partition, server, message)?,
            Action::Sync { server } => self.sync(state, server),
            Action::Crash { server } => self.crash(state, server, false),
            Action::LoseDisk { server } => self.crash(state, server, true),
            Action::Restart { server } => self.restart(state, server),
            Action::BackUp { server } => Self::back_up(state, server),
            Action::SetBack => Self::set_back(state)?,
            Action::Attach {
                partition,
                holder,
                follower,
            } => self.attach(state, partition, holder, follower)?,
            Action::Add {
                partition,
                holder,
                follower,
            } => self.add(state, partition, holder, follower)?,
            Action::Remove {
                partition,
                holder,
                member,
            } => self.remove(state, partition, holder, member)?,
            Action::Detach {
                partition,
                holder,
                follower,
            } => Self::detach(state, partition, holder, follower)?,
            Action::Evict {
                partition,
                holder,
                lane,
            } => self.evict(state, partition, holder, lane)?,
            Action::Lease {
                partition,
                holder,
                follower,
            } => self.lease(state, partition, holder, follower)?,
            Action::Expire { partition, holder } => self.expire(state, partition, holder)?,
            Action::Yield { partition, holder } => self.give_way(state, partition, holder)?,
            Action::Serve { partition, server } => self.serve(state, partition, server)?,
            Action::Discard { partition, server } => {
                state.partition_mut(partition).site_mut(server).memory = None;
            }
            Action::Promote {
                partition,
                server,
                set,
            } => self.promote(state, partition, server, set),
            Action::Reset { partition, server } => self.reset(state, partition, server)?,
            Action::DropOld { partition, server } => Self::drop_old(state, partition, server),
            Action::Persist { partition } => make_durable(state.partition_mut(partition)),
            Action::CrashMaster => Self::crash_master(state),
            Action::BeginCheckpoint { partition } => self.begin_checkpoint(state, partition)?,
            Action::WriteCheckpoint { partition, server } => {
                self.write_checkpoint(state, partition, server)?;
            }
        }
        Some(())
    }

    fn deliver(
        &self,
        state: &mut State,
        partition: u8,
        server: u8,
        message: &Message,
    ) -> Option<()> {
        match *message {
            Message::Append {
                from,
                epoch,
                position,
                previous_epoch,
                record,
            } => {
                let append = Append {
                    from,
                    epoch,
                    position,
                    previous_epoch,
                    record,
                };
                self.take(state, partition, server, &append)
            }
            Message::Snapshot {
                epoch,
                session,
                incarnation,
                ref log,
                ..
            } => {
                let log = log.clone();
                self.install(
                    state,
                    partition,
                    server,
                    Snapshot {
                        epoch,
                        session,
                        incarnation,
                        log,
                    },
                )
            }
            Message::Change {
                epoch,
                revision,
                set,
                identities,
            } => self.change(state, partition, (epoch, revision), set, identities),
            Message::Configure {
                boot,
                configuration,
                ..
            } => self.configure(state, partition, server, boot, configuration),
            Message::Drop { epoch, .. } => self.be_dropped(state, partition, server, epoch),
            Message::Detach { epoch, session, .. } => {
                self.be_detached(state, partition, server, epoch, session)
            }
            Message::Yield { ceased } => Self::hear_yield(state, partition, server, ceased),
            Message::Reply { to, verdict } => self.hear(state, partition, to, verdict),
            Message::Have { .. } => None,
        }
    }

    /// What was promised reaches no further: a partition has no copy left, or its loss was found.
    pub(crate) fn ended(state: &State) -> bool {
        let mut partitions = state.partitions.iter();
        partitions.any(|place| place.history.accused || Self::is_lost(state, place))
    }

    /// The holder serves under the newest configuration, every member follows it, and there are enough of them.
    fn is_healthy(&self, state: &State, index: u8, place: &Partition) -> bool {
        let durable = &place.durable;
        let Some(copy) = place.copy(durable.holder) else {
            return false;
        };
        let Some(holder) = copy.holder() else {
            return false;
        };
        let follows = |member: u8| {
            let session = place
                .copy(member)
                .filter(|c| c.epoch == copy.epoch)
                .and_then(Copy::session);
            state.server(member).up && session == Some(holder.sessions[member as usize])
        };
        state.server(durable.holder).up
            && holder.serving
            && holder.confirmed == *durable
            && holder.joining.is_empty()
            && place.decided == *durable
            && durable.set.without(durable.holder).members().all(follows)
            && self.enough_copies(state, index, durable.holder)
    }
}

impl Model for Scenario {
    type State = State;
    type Action = Action;

    fn first(&self) -> State {
        let mut state = self.beginning();
        self.observe_copies(&mut state);
        state
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        self.possible(state, actions);
    }

    fn after(&self, state: &State, action: &Action) -> Option<State> {
        let mut after = state.clone();
        self.step(&mut after, action)?;
        self.observe_copies(&mut after);
        (after != *state).then_some(after)
    }

    fn broken(&self, state: &State) -> Option<&'static str> {
        self.first_broken(state)
    }

    fn sights(&self, state: &State) -> u32 {
        self.seen(state)
    }

    fn progress(&self, state: &State) -> Progress {
        let mut partitions = (0u8..).zip(&state.partitions);
        Progress {
            settled: self.all_settled(state),
            ended: Self::ended(state),
            healthy: partitions.all(|(i, place)| self.is_healthy(state, i, place)),
        }
    }

    fn is_from_outside(&self, action: &Action) -> bool {
        matches!(
            action,
            Action::Promote { .. }
                | Action::Persist { .. }
                | Action::CrashMaster
                | Action::DropOld { .. }
                | Action::Crash { .. }
                | Action::LoseDisk { .. }
                | Action::SetBack
                | Action::Deliver {
                    message: Message::Change { .. },
                    ..
                }
        )
    }
}
