//! A copy of a partition: its log, the ledger that follows from it, and its part as holder or follower.

use crate::{
    client::birth,
    set::Set,
    state::{Configuration, SERVERS},
};

/// One record of the log. Values are not modelled: that a push is in the log is its effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Record {
    /// An update: values and ledger move.
    Update {
        epoch: u8,
        lane: u8,
        number: u8,
        id: u8,
    },
    /// A number that was given up: only the ledger moves.
    Skip { epoch: u8, lane: u8, number: u8 },
    /// A lane is forgotten, and the horizon rises to its birth [M14].
    Evict { epoch: u8, lane: u8 },
}

impl Record {
    /// The epoch of the holder that wrote it.
    pub(crate) fn epoch(self) -> u8 {
        match self {
            Self::Update { epoch, .. } | Self::Skip { epoch, .. } | Self::Evict { epoch, .. } => {
                epoch
            }
        }
    }
}

/// What the ledger knows of a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) number: u8,
    /// After the record that made it.
    pub(crate) position: u8,
    pub(crate) skipped: bool,
}

/// What a holder knows beside the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Holder {
    /// Every lease that this copy gave as a follower has ended.
    pub(crate) serving: bool,
    /// The epoch of the holder to which its server gave the last one; 0 if to none.
    pub(crate) awaited: u8,
    /// The newest configuration that it heard from the master.
    pub(crate) confirmed: Configuration,
    /// Followers that it has asked the master to add: it waits for them already [R6].
    pub(crate) joining: Set,
    /// Members that it has asked the master to remove: it waits for them still [R5].
    pub(crate) leaving: Set,
    /// Per server, the session of its attachment; 0 if there is none.
    pub(crate) sessions: [u8; SERVERS],
    /// Per server, its identity when it was attached.
    pub(crate) identities: [u8; SERVERS],
    pub(crate) last_session: u8,
    /// Followers that promised not to serve for now.
    pub(crate) leases: Set,
    /// The highest position that may have been acknowledged: all that it inherited, then what became safe.
    pub(crate) acknowledged: u8,
}

/// Its part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Part {
    Follower { session: u8 },
    Holder(Holder),
}

/// A copy.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Copy {
    pub(crate) incarnation: u8,
    pub(crate) epoch: u8,
    pub(crate) log: Vec<Record>,
    /// Of so many records the ledger knows nothing (mutant: the ledger is not in the snapshot).
    pub(crate) ledger_from: u8,
    pub(crate) part: Part,
}

impl Copy {
    pub(crate) fn follower(incarnation: u8, epoch: u8, session: u8, log: Vec<Record>) -> Self {
        Self {
            incarnation,
            epoch,
            log,
            ledger_from: 0,
            part: Part::Follower { session },
        }
    }

    /// The first holder, its followers attached, with leases of all of them.
    pub(crate) fn serving_from_the_start(first: Configuration) -> Self {
        let mut sessions = [0; SERVERS];
        for follower in first.set.without(first.holder).members() {
            sessions[follower as usize] = 1;
        }
        let holder = Holder {
            serving: true,
            sessions,
            identities: [1; SERVERS],
            last_session: 1,
            leases: first.set.without(first.holder),
            ..Holder::of(first, 0)
        };
        Self {
            part: Part::Holder(holder),
            ..Self::follower(1, first.epoch, 0, Vec::new())
        }
    }

    pub(crate) fn holder(&self) -> Option<&Holder> {
        match &self.part {
            Part::Holder(holder) => Some(holder),
            Part::Follower { .. } => None,
        }
    }

    pub(crate) fn holder_mut(&mut self) -> Option<&mut Holder> {
        match &mut self.part {
            Part::Holder(holder) => Some(holder),
            Part::Follower { .. } => None,
        }
    }

    pub(crate) fn session(&self) -> Option<u8> {
        match self.part {
            Part::Follower { session } => Some(session),
            Part::Holder(_) => None,
        }
    }

    /// What a disk keeps of it: a restarted holder is nobody's holder until a higher epoch says so [R9].
    pub(crate) fn at_rest(mut self) -> Self {
        if let Part::Holder(_) = self.part {
            self.part = Part::Follower { session: 0 };
        }
        self
    }

    pub(crate) fn length(&self) -> u8 {
        self.log.len() as u8
    }

    pub(crate) fn last_epoch(&self) -> u8 {
        self.log.last().map_or(0, |record| record.epoch())
    }

    /// What the ledger knows of a lane; it is a function of the log.
    pub(crate) fn entry(&self, of: u8) -> Option<Entry> {
        let mut entry: Option<Entry> = None;
        for (i, record) in self.log.iter().enumerate().skip(self.ledger_from as usize) {
            let position = i as u8 + 1;
            let (lane, number, skipped) = match *record {
                Record::Update { lane, number, .. } => (lane, number, false),
                Record::Skip { lane, number, .. } => (lane, number, true),
                Record::Evict { lane, .. } => {
                    if lane == of {
                        entry = None;
                    }
                    continue;
                }
            };
            if lane == of && entry.is_none_or(|e| number > e.number) {
                entry = Some(Entry {
                    number,
                    position,
                    skipped,
                });
            }
        }
        entry
    }

    /// Lanes born up to here and unknown to the ledger have been forgotten.
    pub(crate) fn horizon(&self) -> u8 {
        let evicted = self
            .log
            .iter()
            .skip(self.ledger_from as usize)
            .filter_map(|record| match record {
                Record::Evict { lane, .. } => Some(birth(*lane)),
                _ => None,
            });
        evicted.max().unwrap_or(0)
    }

    /// How often a push was applied.
    pub(crate) fn count(&self, push: u8) -> usize {
        let applied = |record: &&Record| matches!(record, Record::Update { id, .. } if *id == push);
        self.log.iter().filter(applied).count()
    }
}

impl Holder {
    /// Of a copy that has just been promoted; all that it inherited may have been acknowledged.
    pub(crate) fn of(configuration: Configuration, inherited: u8) -> Self {
        Self {
            serving: false,
            awaited: 0,
            confirmed: configuration,
            joining: Set::NONE,
            leaving: Set::NONE,
            sessions: [0; SERVERS],
            identities: [0; SERVERS],
            last_session: 0,
            leases: Set::NONE,
            acknowledged: inherited,
        }
    }

    pub(crate) fn attach(&mut self, follower: u8, identity: u8) -> u8 {
        self.last_session += 1;
        self.sessions[follower as usize] = self.last_session;
        self.identities[follower as usize] = identity;
        // A lease is of one attachment.
        self.leases = self.leases.without(follower);
        self.last_session
    }
}
