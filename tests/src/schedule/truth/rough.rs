//! What the cells of a model must be whose sums are rounded: as long as the order of the pushes to a cell is known, so are its bits.

use std::collections::BTreeMap;

use glint_protocol::ElementType;

use super::{Verdict, Violation, Wrong, violation};
use crate::schedule::target::with_rough;

/// One cell.
#[derive(Clone, Copy, Debug, Default)]
struct Cell {
    /// Its bits, as long as `lost` is not set.
    bits: u64,
    /// The push to it that is under way.
    open: Option<usize>,
    /// When a push to it was acknowledged last.
    changed: u64,
    /// Nobody knows any more which pushes it has, and in which order: two were under way at once, or one of unknown end was.
    lost: bool,
}

/// All cells of one model.
pub(super) struct Rough {
    element: ElementType,
    cells: Vec<Cell>,
    /// What pushes add, while they are under way.
    adds: BTreeMap<usize, Vec<(u64, u64)>>,
    /// Something has happened that may have taken pushes which were acknowledged.
    shortened: bool,
    so_far: u64,
}

impl Rough {
    pub(super) fn new(element: ElementType, cells: usize) -> Self {
        Self {
            element,
            cells: vec![Cell::default(); cells],
            adds: BTreeMap::new(),
            shortened: false,
            so_far: 0,
        }
    }

    /// Something has happened that may have taken pushes which were acknowledged.
    pub(super) fn shorten(&mut self) {
        self.shortened = true;
    }

    /// A push to these cells begins; the numbers that it adds.
    pub(super) fn begin(&mut self, push: usize, cells: &[u64]) -> Vec<u64> {
        self.so_far += 1;
        let first = self.so_far * 31;
        let numbers: Vec<u64> = (0..cells.len() as u64).map(|i| first + i).collect();
        for &at in cells {
            let cell = &mut self.cells[at as usize];
            cell.lost |= cell.open.is_some();
            cell.open = Some(push);
        }
        let adds = cells.iter().copied().zip(numbers.iter().copied());
        self.adds.insert(push, adds.collect());
        numbers
    }

    /// A push has ended.
    pub(super) fn end(&mut self, push: usize, verdict: Verdict) {
        for (at, number) in self.adds.remove(&push).unwrap_or_default() {
            let cell = &mut self.cells[at as usize];
            if cell.open == Some(push) {
                cell.open = None;
            }
            match verdict {
                Verdict::Acknowledged(order, _) => {
                    cell.bits = with_rough(self.element, cell.bits, number);
                    cell.changed = order;
                }
                Verdict::Refused(_) => {}
                Verdict::Open | Verdict::Unknown => cell.lost = true,
            }
        }
    }

    /// Compares what a pull found that began at `since`; how many cells could be.
    pub(super) fn judge(&self, since: u64, cells: &[u64], found: &[u64]) -> Result<u64, Violation> {
        let mut compared = 0;
        for (&at, &found) in cells.iter().zip(found) {
            let cell = self.cells[at as usize];
            if self.shortened || cell.lost || cell.open.is_some() || cell.changed > since {
                continue;
            }
            compared += 1;
            if found != cell.bits {
                let text = format!(
                    "cell {at} has the bits {found:x}, the acknowledged pushes in their order make {:x}",
                    cell.bits
                );
                return Err(violation(Wrong::Lost, text));
            }
        }
        Ok(compared)
    }
}
