//! What the values must be: sums kept beside the cluster.

use glint_protocol::Element;

/// A model in memory, row-major: what every push is added to and every pull is compared with.
#[derive(Clone, Debug, PartialEq)]
pub struct Reference<T> {
    values: Vec<T>,
    cols: usize,
}

impl<T: Element> Reference<T> {
    /// A vector (one column) or matrix of the initial value 0.
    pub fn new(rows: usize, cols: usize) -> Self {
        Self {
            values: vec![T::default(); rows * cols],
            cols,
        }
    }

    /// Adds to one value.
    pub fn add(&mut self, row: u64, col: u32, value: T) {
        let at = row as usize * self.cols + col as usize;
        self.values[at] = self.values[at].plus(value);
    }

    /// Adds whole rows, or single keys of a vector.
    pub fn add_rows(&mut self, rows: &[u64], values: &[T]) {
        for (row, values) in rows.iter().zip(values.chunks_exact(self.cols)) {
            for (col, &value) in values.iter().enumerate() {
                self.add(*row, col as u32, value);
            }
        }
    }

    /// All values.
    pub fn values(&self) -> &[T] {
        &self.values
    }
}
