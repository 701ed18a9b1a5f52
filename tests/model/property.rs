//! What must hold in every state, and what must be seen in some.

use crate::{
    copy::Copy,
    holder::Question,
    mutant::Mutant,
    scenario::Scenario,
    state::{Partition, State},
};

/// What is promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Property {
    Kept,
    Once,
    OneAnswers,
    PullSees,
    DeadIncarnation,
    Checkpoint,
    OnePast,
    NeverLost,
    SkippedStaysOut,
    LossIsNoticed,
    NobodyAccused,
    EnoughCopies,
}

impl Property {
    pub(crate) const ALL: [Self; 12] = [
        Self::Kept,
        Self::Once,
        Self::OneAnswers,
        Self::PullSees,
        Self::DeadIncarnation,
        Self::Checkpoint,
        Self::OnePast,
        Self::NeverLost,
        Self::SkippedStaysOut,
        Self::LossIsNoticed,
        Self::NobodyAccused,
        Self::EnoughCopies,
    ];

    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Kept => "every copy that may be promoted has every acknowledged push, once",
            Self::Once => "no copy that answers or may be promoted has a push twice",
            Self::OneAnswers => "at most one server answers at a time",
            Self::PullSees => "a pull sees every acknowledged push, and none that was told skipped",
            Self::DeadIncarnation => "no incarnation acknowledges after a newer one has served",
            Self::Checkpoint => {
                "a checkpoint has all that was acknowledged before it was asked for"
            }
            Self::OnePast => "the same (epoch, position) is the same record with the same past",
            Self::NeverLost => "one failure of two in-sync copies loses nothing",
            Self::SkippedStaysOut => "what was told skipped is in no copy that may be promoted",
            Self::LossIsNoticed => {
                "nobody acknowledges a lane over an acknowledged push that is gone"
            }
            Self::NobodyAccused => "prev accuses only a server that has lost something",
            Self::EnoughCopies => {
                "minInSync copies have what is acknowledged, and the master may promote them"
            }
        }
    }
}

impl Scenario {
    fn holds(&self, property: Property, state: &State) -> bool {
        let mut partitions = (0u8..).zip(&state.partitions);
        match property {
            Property::Kept => partitions.all(|(_, p)| self.kept(state, p)),
            Property::Once => partitions.all(|(i, p)| self.nothing_twice(state, i, p)),
            Property::OneAnswers => partitions.all(|(i, _)| self.answering(state, i) <= 1),
            Property::PullSees => partitions.all(|(i, p)| self.pull_sees(state, i, p)),
            Property::DeadIncarnation => {
                partitions.all(|(_, p)| !p.history.dead_incarnation_acknowledged)
            }
            Property::Checkpoint => partitions.all(|(_, p)| {
                p.history
                    .checkpoint
                    .as_ref()
                    .is_none_or(|c| !c.lacks_something)
            }),
            Property::OnePast => partitions.all(|(_, p)| one_past(p)),
            Property::NeverLost => {
                !self.one_failure() || partitions.all(|(_, p)| !Self::is_lost(state, p))
            }
            Property::SkippedStaysOut => partitions.all(|(_, p)| self.skipped_stays_out(state, p)),
            Property::LossIsNoticed => partitions.all(|(_, p)| !p.history.silent_gap),
            Property::NobodyAccused => {
                state.used.disks_set_back > 0 || partitions.all(|(_, p)| !p.history.accused)
            }
            Property::EnoughCopies => partitions.all(|(_, p)| !p.history.too_few_copies),
        }
    }

    pub(crate) fn first_broken(&self, state: &State) -> Option<&'static str> {
        let asked = Property::ALL.into_iter().filter(|&p| self.asks(p));
        asked
            .into_iter()
            .find(|&p| !self.holds(p, state))
            .map(Property::title)
    }

    /// A member of the durable in-sync set, under the identity it has there.
    fn may_be_promoted(&self, state: &State, partition: &Partition, server: u8) -> bool {
        let durable = &partition.durable;
        let known = state.server(server).identity == durable.identities[server as usize];
        durable.set.has(server) && (known || self.lacks(Mutant::KnownByName))
    }

    fn kept(&self, state: &State, partition: &Partition) -> bool {
        let incarnation = partition.durable.incarnation;
        let all = |copy: &Option<Copy>| {
            let has = |c: &Copy, id| c.incarnation == incarnation && c.count(id) == 1;
            partition
                .acknowledged(incarnation)
                .all(|id| copy.as_ref().is_some_and(|c| has(c, id)))
        };
        (0..self.servers).all(|server| {
            if !self.may_be_promoted(state, partition, server) {
                return true;
            }
            let site = partition.site(server);
            if self.in_memory() {
                all(&site.memory)
            } else {
                all(&site.disk) && (!state.server(server).up || all(&site.memory))
            }
        })
    }

    fn nothing_twice(&self, state: &State, index: u8, partition: &Partition) -> bool {
        let once = |copy: &Copy| (0..self.pushes()).all(|id| copy.count(id) <= 1);
        (0..self.servers).all(|server| {
            let matters = Self::is_durable_member(state, partition, server)
                || self.answers(state, index, server, Question::Pull);
            let site = partition.site(server);
            !matters || [&site.memory, &site.disk].into_iter().flatten().all(once)
        })
    }

    fn is_durable_member(state: &State, partition: &Partition, server: u8) -> bool {
        let durable = &partition.durable;
        durable.set.has(server)
            && state.server(server).identity == durable.identities[server as usize]
    }

    fn skipped_stays_out(&self, state: &State, partition: &Partition) -> bool {
        let without = |copy: &Copy| {
            partition
                .skipped(copy.incarnation)
                .all(|id| copy.count(id) == 0)
        };
        (0..self.servers).all(|server| {
            let site = partition.site(server);
            !Self::is_durable_member(state, partition, server)
                || [&site.memory, &site.disk]
                    .into_iter()
                    .flatten()
                    .all(without)
        })
    }

    fn answering(&self, state: &State, index: u8) -> usize {
        let answers = |&server: &u8| {
            self.answers(state, index, server, Question::Pull)
                || self.answers(state, index, server, Question::Verdict)
        };
        (0..self.servers).filter(answers).count()
    }

    fn pull_sees(&self, state: &State, index: u8, partition: &Partition) -> bool {
        (0..self.servers).all(|server| {
            let Some(copy) = partition.copy(server) else {
                return true;
            };
            !self.answers(state, index, server, Question::Pull)
                || partition
                    .acknowledged(copy.incarnation)
                    .all(|id| copy.count(id) == 1)
                    && partition
                        .skipped(copy.incarnation)
                        .all(|id| copy.count(id) == 0)
        })
    }

    /// Two copies of everything, one failure, and nobody changes the configuration.
    fn one_failure(&self) -> bool {
        let limits = &self.limits;
        self.in_sync.len() == 2
            && limits.promotions + limits.removals + limits.attachments + limits.resets == 0
            && limits.crashes + limits.disks_lost == 1
    }

    /// No copy is left whose word an acknowledgement needed.
    pub(crate) fn is_lost(state: &State, partition: &Partition) -> bool {
        let durable = &partition.durable;
        let gone =
            |server: u8| state.server(server).identity != durable.identities[server as usize];
        durable.incarnation > 1 && gone(durable.holder) || durable.set.members().all(gone)
    }
}

/// (epoch, position) names a record for ever.
fn one_past(partition: &Partition) -> bool {
    let copies: Vec<&Copy> = partition
        .sites
        .iter()
        .flat_map(|s| [&s.memory, &s.disk])
        .flatten()
        .collect();
    copies.iter().enumerate().all(|(i, a)| {
        copies[..i].iter().all(|b| {
            let both = a.log.len().min(b.log.len());
            let last_same = (0..both)
                .rev()
                .find(|&at| a.log[at].epoch() == b.log[at].epoch());
            last_same.is_none_or(|at| a.log[..=at] == b.log[..=at])
        })
    })
}
