//! The bytes of one file, and which of them are on the disk.

use std::ops::Range;

use tokio::time::Instant;

use super::Dice;

pub(super) struct File {
    /// What processes read.
    pub(super) bytes: Vec<u8>,
    /// Up to here it was appended to: less than all of it, while it is used again.
    end: usize,
    /// What the disk has where nothing was synced since it is used again.
    old: Vec<u8>,
    /// Up to here it was synced.
    synced: usize,
    /// Up to where it was synced the time before.
    before: usize,
    /// When that sync began; before the first two, when it was made or used again.
    before_at: Instant,
    /// When the last sync began.
    synced_at: Instant,
    /// Below `synced`, and yet not on the disk: a sync of it failed.
    forgotten: Vec<Range<usize>>,
}

impl File {
    /// An empty file.
    pub(super) fn new() -> Self {
        Self::durable(Vec::new())
    }

    /// A file that is on the disk with all its bytes.
    pub(super) fn durable(bytes: Vec<u8>) -> Self {
        let now = Instant::now();
        Self {
            synced: bytes.len(),
            before: bytes.len(),
            before_at: now,
            synced_at: now,
            end: bytes.len(),
            old: Vec::new(),
            bytes,
            forgotten: Vec::new(),
        }
    }

    /// It is written over from its beginning from now on.
    pub(super) fn begin_again(&mut self) {
        self.old.clone_from(&self.bytes);
        (self.end, self.synced, self.before) = (0, 0, 0);
        self.before_at = Instant::now();
        self.synced_at = self.before_at;
        self.forgotten.clear();
    }

    /// Appends.
    pub(super) fn append(&mut self, bytes: &[u8]) {
        let over = bytes.len().min(self.bytes.len() - self.end);
        self.bytes[self.end..self.end + over].copy_from_slice(&bytes[..over]);
        self.bytes.extend_from_slice(&bytes[over..]);
        self.end += bytes.len();
    }

    /// Up to where it was appended to.
    pub(super) fn end(&self) -> usize {
        self.end
    }

    /// Everything up to `length` was synced by a sync that began then; what an earlier sync has failed to write is not.
    pub(super) fn synced_to(&mut self, length: usize, began: Instant) {
        if length > self.synced {
            self.before = self.synced;
            self.before_at = self.synced_at;
            self.synced = length;
            self.synced_at = began;
        }
    }

    /// A sync up to `length` failed: nobody will write those bytes any more.
    pub(super) fn forget_unsynced(&mut self, length: usize) {
        if length > self.synced {
            self.forgotten.push(self.synced..length);
            self.synced = length;
        }
    }

    /// Up to where damage can be told from what a crash leaves: what was synced before the last sync.
    pub(super) fn settled(&self) -> usize {
        self.before
    }

    /// When the sync began that brought that to the disk.
    pub(super) fn settled_at(&self) -> Instant {
        self.before_at
    }

    /// Whether pages are in memory only that are never going to be written.
    pub(super) fn has_forgotten(&self) -> bool {
        !self.forgotten.is_empty()
    }

    /// The machine forgets what is in memory only and was never going to be written.
    pub(super) fn lose_forgotten(&mut self, dice: &mut Dice) {
        for range in std::mem::take(&mut self.forgotten) {
            let end = range.end.min(self.bytes.len());
            self.scatter(range.start.min(end)..end, dice);
        }
    }

    /// The machine stops: each page that was not synced is there, or not, or torn.
    pub(super) fn crash(&mut self, dice: &mut Dice) {
        self.lose_forgotten(dice);
        let synced = self.synced.min(self.end);
        // How long the file is, the disk knows or knows not; where it was long before, it stays so.
        let kept = match dice.below(4) {
            0 => synced,
            1 => self.end,
            _ => synced + dice.below((self.end - synced) as u64 + 1) as usize,
        };
        let old = self.old.len();
        for at in kept..self.end.min(old) {
            self.bytes[at] = self.old[at];
        }
        self.bytes.truncate(kept.max(old));
        self.scatter(synced..kept, dice);
        self.end = self.bytes.len();
        self.synced = self.end;
        self.before = self.before.min(kept);
        self.old.clear();
    }

    /// Pages of a range come out as they may: whole, empty, or torn.
    fn scatter(&mut self, range: Range<usize>, dice: &mut Dice) {
        let page = *dice.pick(&[64, 512, 4096]);
        // In half of all cases nothing of it is harmed but its end.
        let orderly = dice.chance(0.5);
        let mut at = range.start;
        while at < range.end {
            let end = (at / page * page + page).min(range.end);
            if !orderly {
                match dice.below(4) {
                    0 => self.forget(at..end),
                    1 => {
                        let torn = dice.within(at as u64..end as u64) as usize;
                        self.forget(torn..end);
                    }
                    _ => {}
                }
            }
            at = end;
        }
    }

    /// These bytes never came to the disk: it has what it had.
    fn forget(&mut self, range: Range<usize>) {
        for at in range {
            self.bytes[at] = self.old.get(at).copied().unwrap_or(0);
        }
    }
}
