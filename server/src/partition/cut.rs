//! A partition's whole state at one position, read piece by piece while updates go on: no lock is held for longer than
//! one piece takes to copy. An update that is about to change values that were not read yet keeps them first.

use std::collections::BTreeMap;

use bytes::Bytes;
use glint_protocol::{
    Epoch, Position,
    frame::{Form, Section},
};

use super::{Ledger, Partition, Values};

/// Bytes of one piece.
pub const PIECE_BYTES: usize = 1 << 20;

/// What a cut has beside the values.
#[derive(Clone, Debug)]
pub struct Cut {
    /// The position at which it is.
    pub position: Position,
    /// The epoch of the record at that position.
    pub epoch: Epoch,
    /// The ledger at that position.
    pub ledger: Ledger,
}

/// How far a cut is read.
#[derive(Debug)]
pub(super) struct Reading {
    /// Values of a piece.
    size: usize,
    /// The next piece to be read.
    next: usize,
    /// Pieces that are not read yet and have changed since: as they were at the cut.
    kept: BTreeMap<usize, Vec<u8>>,
}

impl Reading {
    /// Keeps what these sections are about to change.
    pub(super) fn keep(&mut self, values: &Values, cols: u32, sections: &[Section<'_>]) {
        let cols = cols as usize;
        for section in sections {
            match section.form {
                Form::Range { start } => {
                    self.keep_range(values, start as usize, section.count as usize);
                }
                Form::Indices(indices) => {
                    for index in indices.iter() {
                        self.keep_range(values, index as usize, 1);
                    }
                }
                Form::Rows { rows, .. } => {
                    for row in rows.iter() {
                        self.keep_range(values, row as usize * cols, cols);
                    }
                }
                Form::Pairs { rows, columns } => {
                    for (row, column) in rows.iter().zip(columns.iter()) {
                        self.keep_range(values, row as usize * cols + column as usize, 1);
                    }
                }
            }
        }
    }

    fn keep_range(&mut self, values: &Values, start: usize, count: usize) {
        if count == 0 {
            return;
        }
        let (first, last) = (start / self.size, (start + count - 1) / self.size);
        for piece in first.max(self.next)..=last {
            let size = self.size;
            self.kept
                .entry(piece)
                .or_insert_with(|| piece_of(values, piece, size));
        }
    }
}

fn piece_of(values: &Values, piece: usize, size: usize) -> Vec<u8> {
    let start = piece * size;
    values.to_le(start..values.len().min(start + size))
}

impl Partition {
    /// Begins to read the state as it is now; one that was begun before is given up.
    pub fn cut(&mut self, piece_bytes: usize) -> Cut {
        self.reading = Some(Reading {
            size: (piece_bytes / self.values.element().size()).max(1),
            next: 0,
            kept: BTreeMap::new(),
        });
        Cut {
            position: self.position,
            epoch: self.last,
            ledger: self.ledger.clone(),
        }
    }

    /// The next piece of the values at the cut, little-endian; none when all were read, or none is being read.
    pub fn next_piece(&mut self) -> Option<Bytes> {
        let reading = self.reading.as_mut()?;
        let piece = reading.next;
        if piece * reading.size >= self.values.len() {
            self.reading = None;
            return None;
        }
        reading.next += 1;
        let kept = reading.kept.remove(&piece);
        let size = reading.size;
        Some(
            kept.unwrap_or_else(|| piece_of(&self.values, piece, size))
                .into(),
        )
    }

    /// Gives up reading.
    pub fn abandon_cut(&mut self) {
        self.reading = None;
    }
}
