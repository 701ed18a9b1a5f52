//! What is under way between client, holder, followers and master.

use crate::{
    copy::Record,
    set::Set,
    state::{Acknowledged, Configuration, SERVERS},
};

/// A group of a push request: what one partition gets of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Push {
    pub(crate) incarnation: u8,
    pub(crate) lane: u8,
    pub(crate) number: u8,
    /// Which push of which client it is, for the observer.
    pub(crate) id: u8,
    /// `prev`: what the lane was last acknowledged for here. The group's epoch is at least that of who acknowledged it.
    pub(crate) prev: Acknowledged,
    /// The client gave it up: only the ledger shall move.
    pub(crate) skip: bool,
}

impl Push {
    /// Whether an answer to one answers the other: a push and its `skip` share their number.
    pub(crate) fn is(self, other: Self) -> bool {
        (self.incarnation, self.lane, self.number, self.id)
            == (other.incarnation, other.lane, other.number, other.id)
    }
}

/// How a number settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Verdict {
    /// By the holder of this epoch.
    Applied { epoch: u8 },
    /// By the holder of this epoch.
    Skipped { epoch: u8 },
    /// The lane was forgotten: certainly not applied.
    Expired { horizon: u8 },
}

/// A message that concerns one partition.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Message {
    /// Holder to followers: the record at this position; each names the epoch of its predecessor [R27].
    Append {
        from: u8,
        epoch: u8,
        position: u8,
        previous_epoch: u8,
        record: Record,
    },
    /// Follower to holder: it has so much, in this session.
    Have {
        from: u8,
        epoch: u8,
        session: u8,
        length: u8,
    },
    /// Holder to follower: the whole state, ledger included.
    Snapshot {
        to: u8,
        epoch: u8,
        session: u8,
        incarnation: u8,
        log: Vec<Record>,
    },
    /// Holder to master: make the set this, if epoch and revision are still these.
    Change {
        epoch: u8,
        revision: u8,
        set: Set,
        identities: [u8; SERVERS],
    },
    /// Master to a server, under the boot number that it registered with.
    Configure {
        to: u8,
        boot: u8,
        configuration: Configuration,
    },
    /// Master to a server: delete what is below this epoch.
    Drop { to: u8, epoch: u8 },
    /// Holder to a follower: delete the copy of this session.
    Detach { to: u8, epoch: u8, session: u8 },
    /// A holder that was deposed to whoever holds now: it has ceased to serve, and was the holder of this epoch.
    Yield { ceased: u8 },
    /// Holder to a client.
    Reply { to: Push, verdict: Verdict },
}

impl Message {
    /// Which server it is for; none if it is for any, the master or a client.
    pub(crate) fn addressee(&self) -> Option<u8> {
        match self {
            Self::Snapshot { to, .. }
            | Self::Configure { to, .. }
            | Self::Drop { to, .. }
            | Self::Detach { to, .. } => Some(*to),
            Self::Append { .. }
            | Self::Have { .. }
            | Self::Change { .. }
            | Self::Yield { .. }
            | Self::Reply { .. } => None,
        }
    }
}
