//! What the lock of a slot guards: the partition, what this server is to it, and who else has copies.

use std::ops::{Deref, DerefMut};

use bytes::Bytes;
use glint_protocol::{
    Epoch, ErrorBody, ErrorCode, Position, ServerId, copies::CopyRole, error::Hint,
    frame::ReadMode, ids::Revision,
};
use tokio::time::Instant;

use super::{
    peer::{Peer, Way},
    tail::Tail,
    trail::Trail,
    wire::{Frame, Key},
};
use crate::{
    log::{Place, record::Header},
    partition::{Description, Partition},
    server::state::Slot,
};

/// What this server is to a partition.
#[derive(Clone, Debug)]
pub(in crate::server) enum Role {
    /// It serves.
    Holder,
    /// Another holds it, or is going to be told to.
    Follower(Following),
}

/// A follower's side of an attachment.
#[derive(Clone, Debug, Default)]
pub(in crate::server) struct Following {
    /// The epoch of the holder: records of another are not taken.
    pub(super) epoch: Epoch,
    /// The attachment; 0 when there is none in this epoch yet.
    pub(super) session: u64,
    /// Who is at the other end of it.
    pub(super) holder: Option<ServerId>,
}

/// Another copy, as its holder sees it.
#[derive(Debug)]
pub(super) struct Member {
    /// The way to it.
    pub(super) peer: Peer,
    /// What the master has confirmed it to be.
    pub(super) role: CopyRole,
    /// The attachment: what is said by it about another counts for nothing.
    pub(super) session: u64,
    pub(super) phase: Phase,
    /// Whether it knows the attachment: before that, a beacon that is faster than what begins it would be that of a stranger.
    pub(super) known: bool,
    /// Whether acknowledgements wait for its word: it is in sync, or is asked to be added.
    pub(super) waits: bool,
    /// Whether the master is to be asked to take it out of the in-sync set.
    pub(super) given_up: bool,
    /// What it has reported to have in this session.
    pub(super) has: Option<Position>,
    /// Until when it will not serve in our place, in microseconds since our start.
    pub(super) promised: u64,
    /// What it had when it was looked at last, and since when it has not come further though there is more.
    pub(super) behind: Option<(Position, Instant)>,
}

/// How far an attachment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// To be offered.
    New,
    /// Offered: its answer says what it lacks.
    Offered,
    /// It gets records from the log, up to where memory has the rest: this one was sent last.
    Behind {
        /// Its epoch and position.
        last: (Epoch, Position),
    },
    /// It needs the whole state, and others are sent theirs first.
    Queued,
    /// The pieces of the state are sent, from this value on; records go out as they come.
    Sending {
        /// The next value to be sent.
        next: usize,
    },
    /// All pieces are sent; records go out behind them until they are answered.
    Ending,
    /// Records go out as they come.
    Streaming,
    /// To be detached; once it is, the master is told.
    Leaving,
    /// Detached, which the master does not know yet.
    Gone,
}

impl Member {
    /// Whether records are sent to it.
    pub(super) fn is_attached(&self) -> bool {
        matches!(
            self.phase,
            Phase::Sending { .. } | Phase::Ending | Phase::Streaming
        )
    }

    /// Whether it goes on from the copy that it has, or gets another one.
    pub(super) fn is_served(&self) -> bool {
        self.is_attached() || matches!(self.phase, Phase::Behind { .. })
    }

    /// Sends what belongs to its attachment, behind what was sent before.
    pub(super) fn send(&self, frame: Frame) {
        let way = match self.phase {
            Phase::Sending { .. } | Phase::Ending => Way::Bulk,
            _ => Way::Live,
        };
        self.peer.send(way, frame);
    }
}

/// A payload that is copied rather than kept with the body that it came in.
const SMALL: usize = 16 << 10;

/// What the lock of a slot guards.
#[derive(Debug)]
pub(in crate::server) struct Held {
    partition: Partition,
    pub(super) role: Role,
    /// Of the configuration that was obeyed last.
    pub(super) revision: Revision,
    /// The other copies, while this is the holder.
    pub(super) members: Vec<Member>,
    pub(super) tail: Option<Tail>,
    /// Of a logged model: where its last records lie in the log.
    pub(super) trail: Option<Trail>,
    /// What it had when it became the holder: any of it may have been acknowledged.
    pub(super) inherited: Position,
    /// When this server last promised another not to serve, and at which epoch that one holds: whatever becomes of this copy, that
    /// one may still answer.
    pub(super) promised: Option<(Instant, Epoch)>,
    /// The epoch of the holder before, while the end of its lease is waited for.
    pub(super) awaited: Option<Epoch>,
    /// A beacon of this attachment has come: its holder knows that what is here is of its history.
    is_known: bool,
    /// This copy has everything that was acknowledged before, by this machine's clock.
    whole_at: Option<Instant>,
    /// At which epoch this server held it until it heard that another does; cleared once who that is was told so.
    pub(super) ceased: Option<Epoch>,
    /// The holder of this epoch has ceased to serve: its lease is not waited for.
    pub(super) yielded: Epoch,
    /// Who holds it, as far as this server knows.
    pub(super) hint: Option<Hint>,
}

impl Deref for Held {
    type Target = Partition;

    fn deref(&self) -> &Partition {
        &self.partition
    }
}

impl DerefMut for Held {
    fn deref_mut(&mut self) -> &mut Partition {
        &mut self.partition
    }
}

impl Held {
    /// A partition in this role, with no other copies; if followers are to be expected, so many of its last records are kept in
    /// memory for them.
    pub(in crate::server) fn new(
        partition: Partition,
        role: Role,
        description: &Description,
        keeps: Option<usize>,
    ) -> Self {
        Self {
            partition,
            role,
            revision: Revision(0),
            members: Vec::new(),
            inherited: Position(0),
            tail: keeps.map(|records| Tail::new(description.value_bytes(), records)),
            trail: (keeps.is_some() && description.durability.is_logged())
                .then(|| Trail::new(description.value_bytes())),
            promised: None,
            awaited: None,
            ceased: None,
            is_known: false,
            whole_at: None,
            yielded: Epoch(0),
            hint: None,
        }
    }

    /// Whether this server is the holder.
    pub(in crate::server) fn is_holder(&self) -> bool {
        matches!(self.role, Role::Holder)
    }

    /// The highest epoch that this copy has heard of: messages of lower ones come late.
    pub(in crate::server) fn known_epoch(&self) -> Epoch {
        self.partition.epoch().max(self.followed())
    }

    /// The epoch of the holder that this copy follows; 0 for the holder, and for a copy that has heard of none.
    pub(in crate::server) fn followed(&self) -> Epoch {
        match &self.role {
            Role::Holder => Epoch(0),
            Role::Follower(following) => following.epoch,
        }
    }

    /// The servers whose word acknowledgements wait for.
    pub(in crate::server) fn waits_for(&self) -> Vec<ServerId> {
        let needed = self.members.iter().filter(|m| m.waits);
        needed.map(|m| m.peer.id().clone()).collect()
    }

    /// Whether requests are for this server to answer.
    ///
    /// # Errors
    /// `stale_map`, with a hint at who holds the partition if that is known.
    pub(in crate::server) fn serves(&self, description: &Description) -> Result<(), ErrorBody> {
        if self.is_holder() {
            return Ok(());
        }
        Err(self.elsewhere(description))
    }

    /// What to answer when another server holds the partition.
    pub(in crate::server) fn elsewhere(&self, description: &Description) -> ErrorBody {
        ErrorBody::new(
            ErrorCode::StaleMap,
            format!(
                "this server does not hold partition {} of model '{}' any more; take a fresh map",
                description.partition, description.model
            ),
        )
        .with(|detail| {
            detail.epoch = Some(self.known_epoch());
            detail.hint.clone_from(&self.hint);
        })
    }

    /// A beacon of this attachment has come. If it says that this copy was whole when it was sent, then everything is here that
    /// was acknowledged until this server gave the last answer that had come before: when that was, `answered` says, however
    /// late the beacon is.
    pub(super) fn note_beacon(&mut self, answered: Option<Instant>) {
        self.is_known = true;
        self.whole_at = self.whole_at.max(answered);
    }

    /// Whether this copy came by this attachment, and its holder has not said since that it is whole.
    pub(in crate::server) fn has_just_come(&self, attachment: (Epoch, u64)) -> bool {
        let by_it = matches!(&self.role, Role::Follower(f) if (f.epoch, f.session) == attachment);
        by_it && self.whole_at.is_none()
    }

    /// Another attachment, or another role: what beacons said counts no more. What was promised to who sent them stays.
    pub(super) fn forget_beacons(&mut self) {
        self.is_known = false;
        self.whole_at = None;
    }

    /// Takes the place of another copy: what that one promised, and what it heard of who has ceased, is this server's.
    pub(super) fn replace(&mut self, before: &mut Self) {
        if let (Role::Follower(was), Role::Follower(is)) = (&mut before.role, &self.role) {
            // It promises nothing more.
            *was = is.clone();
        }
        (self.promised, self.yielded) = (before.promised, before.yielded);
    }

    /// Whether a copy that is not the holder's may answer a pull; how many milliseconds ago its values were whole.
    ///
    /// # Errors
    /// `stale_map` for whoever asks for the latest values, `not_yet` when this copy does not know enough.
    pub(in crate::server) fn answers(
        &self,
        description: &Description,
        read: ReadMode,
        epoch: Epoch,
        now: Instant,
    ) -> Result<u64, ErrorBody> {
        // Rounded up: a bound holds to the last part of a millisecond.
        let whole = self.whole_at.map(|at| {
            let passed = now.saturating_duration_since(at);
            passed.as_micros().div_ceil(1000) as u64
        });
        let age = whole.unwrap_or(u64::MAX);
        let enough = match read {
            ReadMode::Latest => return Err(self.elsewhere(description)),
            ReadMode::Any => true,
            ReadMode::Within(milliseconds) => age <= milliseconds,
            // Positions of a copy that its holder does not know to be of its history yet are those of another.
            ReadMode::AtLeast(position) => self.is_known && self.partition.position() >= position,
        };
        if self.partition.loss().is_some() {
            return Err(self.elsewhere(description));
        }
        if !enough || epoch > self.known_epoch() {
            return Err(ErrorBody::new(
                ErrorCode::NotYet,
                format!(
                    "this copy of partition {} of model '{}' is behind what is asked for; ask its holder",
                    description.partition, description.model
                ),
            )
            .with(|detail| {
                detail.epoch = Some(self.known_epoch());
                detail.hint.clone_from(&self.hint);
            }));
        }
        Ok(age)
    }

    /// To be called when the followers have changed.
    pub(super) fn copies_changed(&self, slot: &Slot) {
        slot.note_copied(self.is_copied());
    }

    /// Whether records have to be kept or sent anywhere but to the log.
    pub(in crate::server) fn is_copied(&self) -> bool {
        self.tail.is_some() || !self.members.is_empty()
    }

    /// Sends a record that was applied just now to everyone who is attached.
    pub(in crate::server) fn copy_out(&mut self, key: Key, header: Header, payload: &Bytes) {
        let epoch = self.partition.epoch();
        // A payload is a part of a request's body: waiting for a follower, a small one would keep all of that.
        let small = payload.len() <= SMALL && !self.members.is_empty();
        let copied = small.then(|| Bytes::copy_from_slice(payload));
        let payload = copied.as_ref().unwrap_or(payload);
        for member in &self.members {
            if member.is_attached() {
                member.send(Frame::append(
                    key,
                    epoch,
                    member.session,
                    header,
                    payload.clone(),
                ));
            }
        }
        if let Some(tail) = &mut self.tail {
            let mut members = self.members.iter();
            let awaited = members.any(|m| matches!(m.phase, Phase::Behind { .. }));
            tail.push(header, payload, awaited);
        }
    }

    /// Notes where in the log, which begins at `begin` by now, the record lies that was applied just now.
    pub(in crate::server) fn lies_at(&mut self, position: Position, place: Place, begin: u64) {
        if let Some(trail) = &mut self.trail {
            trail.push(position, place, begin);
        }
    }

    /// How many copies are in sync by the master's word, this one included; not those that it was asked to take out, since it
    /// may have.
    pub(in crate::server) fn in_sync(&self) -> usize {
        let others = self.members.iter();
        1 + others
            .filter(|m| m.role == CopyRole::InSync && !m.given_up)
            .count()
    }

    /// Whether what is on its way to a copy that acknowledgements wait for is more than may be.
    pub(in crate::server) fn is_congested(&self) -> bool {
        self.members.iter().any(|m| m.peer.is_congested())
    }
}
