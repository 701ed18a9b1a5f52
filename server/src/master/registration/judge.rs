//! What becomes of the copies that a registering server has, or had: by their identity, which is what an acknowledgement
//! of theirs survives.
//!
//! | the copy | is | while it | then |
//! |---|---|---|---|
//! | the holder's | whole, or shortened, or gone | has a copy in sync that lives | that one is promoted |
//! | | whole | has others in sync, silent | it goes on at a new epoch, with the same set |
//! | | shortened, or gone | has others in sync, silent | nobody serves until one of them is back |
//! | | whole, or shortened | is alone | it goes on at a new epoch |
//! | | gone | is alone | lost |
//! | in sync | whole | | it stays in sync; it is promoted where nobody serves |
//! | | shortened, or gone | | it is attached anew |
//! | | | was the last where nobody serves | of the shortened the one with the latest record is promoted; else lost |

use std::collections::{BTreeMap, BTreeSet};

use glint_protocol::{
    Durability, Epoch, LossReason,
    control::{CopyReport, Register},
    copies::CopyRole,
    ids::Revision,
};

use super::super::{
    copies::Claim,
    failover::Heirs,
    state::{KnownServer, Model},
};

/// What the partitions of one model on a registering server are judged by.
pub(super) struct Judge<'a> {
    pub(super) durability: Durability,
    /// The server as it was known before.
    pub(super) before: Option<&'a KnownServer>,
    pub(super) request: &'a Register,
    pub(super) restarted: bool,
}

/// What a copy is to the one that the master knew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// The same, in the same process.
    Same,
    /// The same, in another process.
    Whole,
    /// The same, but that its last moments may be missing.
    Shortened,
    /// Another one, or none.
    Gone(LossReason),
}

/// What came of judging one model.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    /// Partitions that are lost from now on.
    pub(super) lost: BTreeMap<LossReason, usize>,
    /// Partitions that another copy holds from now on.
    pub(super) promoted: usize,
    /// Partitions that nobody serves until another copy of them is back.
    pub(super) vacated: usize,
    /// Whether anything changed.
    pub(super) changed: bool,
}

/// The copies of one model that a server reports, and those that it knows to be lost.
pub(super) struct Told<'a> {
    pub(super) copies: Option<&'a BTreeMap<u32, CopyReport>>,
    pub(super) lost: BTreeSet<u32>,
}

/// One model while its copies on a server are judged.
pub(super) struct Judged<'a, 'b, E> {
    pub(super) judge: Judge<'a>,
    pub(super) model: Model,
    /// The server's place in the model's list.
    pub(super) index: u32,
    pub(super) told: Told<'a>,
    pub(super) heirs: &'b mut Heirs<'a>,
    /// The epoch of this event.
    pub(super) fresh: &'b mut E,
    /// The revision of whatever changes.
    pub(super) revision: Revision,
    pub(super) verdict: Verdict,
}

impl<E: FnMut() -> Epoch> Judged<'_, '_, E> {
    /// Judges every copy that the server has, or had.
    pub(super) fn run(&mut self) {
        for partition in self.model.held_by(self.index).collect::<Vec<_>>() {
            self.held(partition);
        }
        let others = self.model.copies.iter();
        let others: Vec<(u32, CopyRole)> = others
            .filter_map(|(&p, copies)| Some((p, copies.role(self.index)?)))
            .collect();
        for (partition, role) in others {
            // A holder that was replaced just now has its place already.
            if self.model.revision_of(partition) != self.revision {
                self.other(partition, role);
            }
        }
    }

    fn report(&self, partition: u32) -> Option<CopyReport> {
        self.told.copies.and_then(|c| c.get(&partition)).copied()
    }

    fn fate(&self, partition: u32) -> Fate {
        let lost = self.told.lost.contains(&partition);
        self.judge.fate(self.report(partition).is_some(), lost)
    }

    fn claim(&self, partition: u32) -> Option<Claim> {
        let report = self.report(partition)?;
        Some(Claim {
            server: self.index,
            last: (report.last_epoch, report.position),
        })
    }

    fn is_above(&self, partition: u32) -> bool {
        let known = self.model.epochs[partition as usize];
        self.report(partition).is_some_and(|r| r.epoch > known)
    }

    fn held(&mut self, partition: u32) {
        let above = self.is_above(partition);
        // What is lost already stays so, at the epoch at which it was found to be.
        if self.model.lost.contains_key(&partition) {
            if above {
                self.raise(partition);
            }
            return;
        }
        let fate = self.fate(partition);
        if self.model.is_vacant(partition) {
            return self.claims_again(partition, fate);
        }
        if fate == Fate::Same {
            if above {
                self.raise(partition);
            } else if self.has_claims(partition) {
                self.model.is_held(partition);
                self.touch(partition);
            }
            return;
        }
        let (server, is_followed) = (
            &self.judge.request.server,
            self.model.in_sync(partition).next().is_some(),
        );
        if let Some(heir) = self.heirs.next(&self.model, partition, server) {
            return self.promote(partition, heir);
        }
        match fate {
            Fate::Same => {}
            Fate::Shortened | Fate::Gone(_) if is_followed => self.vacate(partition, fate),
            Fate::Shortened if self.has_claims(partition) => {
                self.vacate(partition, fate);
                self.give_up(partition, LossReason::Missing);
            }
            Fate::Whole | Fate::Shortened => self.raise(partition),
            Fate::Gone(reason) => {
                self.model.is_held(partition);
                self.give_up(partition, reason);
            }
        }
    }

    fn other(&mut self, partition: u32, role: CopyRole) {
        if self.is_above(partition) {
            self.raise(partition);
        }
        if self.model.lost.contains_key(&partition) {
            return;
        }
        let fate = self.fate(partition);
        match (role, fate) {
            (_, Fate::Same) => {}
            (CopyRole::InSync, Fate::Whole) if self.model.is_vacant(partition) => {
                self.promote(partition, self.index);
            }
            (CopyRole::InSync, Fate::Whole) => self.touch(partition),
            (CopyRole::InSync, Fate::Shortened | Fate::Gone(_)) => {
                let learner = Some(CopyRole::Learner);
                self.model.set_role(partition, self.index, learner);
                self.claims_again(partition, fate);
            }
            // A late word that this copy has everything must not be taken for one of this start.
            (CopyRole::Learner | CopyRole::Former, _) => self.claims_again(partition, fate),
        }
    }

    /// Notes what the server has of a partition, and settles who holds it if nobody does and nobody else will come.
    fn claims_again(&mut self, partition: u32, fate: Fate) {
        if fate == Fate::Same {
            return;
        }
        let had = self.has_claim(partition);
        let claim = match fate {
            Fate::Shortened => self.claim(partition),
            Fate::Whole if had => self.claim(partition),
            _ => None,
        };
        let copies = self.model.copies.entry(partition).or_default();
        copies.claims.retain(|c| c.server != self.index);
        copies.claims.extend(claim);
        let is_over = copies.vacant && copies.of(CopyRole::InSync).next().is_none();
        self.touch(partition);
        if is_over {
            let reason = match fate {
                Fate::Gone(reason) => reason,
                _ => LossReason::Missing,
            };
            self.give_up(partition, reason);
        }
    }

    fn give_up(&mut self, partition: u32, reason: LossReason) {
        let epoch = (self.fresh)();
        if self.model.give_up(partition, epoch, reason) {
            *self.verdict.lost.entry(reason).or_default() += 1;
        }
        self.touch(partition);
    }

    fn has_claims(&self, partition: u32) -> bool {
        let copies = self.model.copies_of(partition);
        copies.is_some_and(|c| !c.claims.is_empty())
    }

    fn has_claim(&self, partition: u32) -> bool {
        let copies = self.model.copies_of(partition);
        copies.is_some_and(|c| c.claims.iter().any(|c| c.server == self.index))
    }

    fn vacate(&mut self, partition: u32, fate: Fate) {
        let claim = match fate {
            Fate::Shortened => self.claim(partition),
            _ => None,
        };
        let copies = self.model.copies.entry(partition).or_default();
        copies.vacant = true;
        copies.claims.extend(claim);
        self.verdict.vacated += 1;
        self.touch(partition);
    }

    fn promote(&mut self, partition: u32, heir: u32) {
        let epoch = (self.fresh)();
        self.model
            .promote(partition, heir, epoch, CopyRole::Learner);
        self.model.advance(partition, &mut *self.fresh);
        self.verdict.promoted += 1;
        self.touch(partition);
    }

    fn raise(&mut self, partition: u32) {
        let epoch = (self.fresh)();
        self.model.raise(partition, epoch);
        self.touch(partition);
    }

    fn touch(&mut self, partition: u32) {
        self.verdict.changed = true;
        if self.model.copies_of(partition).is_some() {
            self.model.revised(partition, self.revision);
        }
    }
}

impl Judge<'_> {
    /// What a copy is, given whether the server reports it, or that it is lost.
    ///
    /// A start that is known already has lost what it says, and nothing else: a registration of it that arrives late, or
    /// twice, does not know yet what it was given since. Of another start, another identity is another copy, whatever is in
    /// it. The identity of a `memory` copy is the start of its server. That of a logged one is the data
    /// directory, on which more processes have started than the master has heard of: one that was set back has fewer; and of
    /// an `async` one the start of its machine too, unless it was left clean.
    fn fate(&self, reported: bool, lost: bool) -> Fate {
        if !self.restarted {
            return if lost {
                Fate::Gone(LossReason::Missing)
            } else {
                Fate::Same
            };
        }
        if !self.durability.is_logged() {
            return Fate::Gone(LossReason::Restarted);
        }
        let known = self.before.and_then(|s| s.volume);
        match (known, self.request.volume) {
            (_, None) => Fate::Gone(LossReason::Missing),
            (Some(known), Some(volume)) if known.id == volume.id => {
                if volume.start <= known.start || !self.knows_the_last_start() {
                    Fate::Gone(LossReason::OlderVolume)
                } else if lost || !reported {
                    Fate::Gone(LossReason::Missing)
                } else if self.is_shortened() {
                    Fate::Shortened
                } else {
                    Fate::Whole
                }
            }
            (_, Some(volume)) if volume.start <= 1 => Fate::Gone(LossReason::Emptied),
            (_, Some(_)) => Fate::Gone(LossReason::OtherVolume),
        }
    }

    /// Whether the data directory has been through the last start of the server that has registered. Those of an older copy
    /// of it may have become as many since.
    fn knows_the_last_start(&self) -> bool {
        let starts = &self.request.starts;
        starts.is_empty()
            || self
                .before
                .is_none_or(|before| starts.contains(&before.boot))
    }

    /// Whether what an `async` copy had not synced is gone with the machine's memory.
    pub(super) fn is_shortened(&self) -> bool {
        let rebooted = self
            .before
            .is_some_and(|s| s.os_boot != self.request.os_boot);
        let clean = self.request.volume.is_some_and(|v| v.clean);
        self.durability == Durability::Async && self.restarted && rebooted && !clean
    }
}
