//! The bytes of one file, and which of them are on the disk.

use std::ops::Range;

use super::Dice;

#[derive(Default)]
pub(super) struct File {
    /// What processes read.
    pub(super) bytes: Vec<u8>,
    /// Up to here it was synced.
    synced: usize,
    /// Up to where it was synced the time before.
    before: usize,
    /// Below `synced`, and yet not on the disk: a sync of it failed.
    forgotten: Vec<Range<usize>>,
}

impl File {
    /// A file that is on the disk with all its bytes.
    pub(super) fn durable(bytes: Vec<u8>) -> Self {
        Self {
            synced: bytes.len(),
            before: bytes.len(),
            bytes,
            forgotten: Vec::new(),
        }
    }

    /// Everything up to `length` was synced; what an earlier sync has failed to write is not.
    pub(super) fn synced_to(&mut self, length: usize) {
        if length > self.synced {
            self.before = self.synced;
            self.synced = length;
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
        let length = self.bytes.len();
        let synced = self.synced.min(length);
        // How long the file is, the disk knows or knows not.
        let kept = match dice.below(4) {
            0 => synced,
            1 => length,
            _ => synced + dice.below((length - synced) as u64 + 1) as usize,
        };
        self.bytes.truncate(kept);
        self.scatter(synced..kept, dice);
        self.synced = kept;
        self.before = self.before.min(kept);
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
                    0 => self.bytes[at..end].fill(0),
                    1 => {
                        let torn = dice.within(at as u64..end as u64) as usize;
                        self.bytes[torn..end].fill(0);
                    }
                    _ => {}
                }
            }
            at = end;
        }
    }
}
