//! Vectors, matrices, buffers and blocks without async.

use std::{ops::Range, sync::Arc};

use glint_protocol::Element;

use super::{Runtime, delegate};
use crate::{BufferOptions, Read, Result, iterate::Block};

/// A vector on the servers: [`crate::Vector`] without async. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Vector<T: Element> {
    pub(super) inner: crate::Vector<T>,
    pub(super) runtime: Arc<Runtime>,
}

impl<T: Element> Vector<T> {
    delegate! {
        /// The values of `keys`, in their order.
        fn pull(&self, keys: &[u64]) -> Vec<T>;
        /// The values of `keys` into `out`, which is as long.
        fn pull_into(&self, keys: &[u64], out: &mut [T]) -> ();
        /// The values of a run of keys.
        fn pull_range(&self, range: Range<u64>) -> Vec<T>;
        /// The values of a run of keys into `out`, which is as long.
        fn pull_range_into(&self, range: Range<u64>, out: &mut [T]) -> ();
        /// Merges `values[i]` into the value of `keys[i]`, each once, in order.
        fn push(&self, keys: &[u64], values: &[T]) -> ();
        /// Merges `values` into the run of keys that begins with `start`.
        fn push_range(&self, start: u64, values: &[T]) -> ();
    }

    /// The same vector, whose pulls may be answered by other copies than the holder: see [`Read`].
    #[must_use]
    pub fn reading(&self, read: Read) -> Self {
        Self {
            inner: self.inner.reading(read),
            runtime: Arc::clone(&self.runtime),
        }
    }

    /// The async vector within: its size, name, spec and handle.
    pub fn inner(&self) -> &crate::Vector<T> {
        &self.inner
    }

    /// A buffer that combines updates of this vector and pushes them together.
    pub fn buffered(&self, options: BufferOptions) -> BufferedVector<T> {
        BufferedVector {
            inner: self.inner.buffered(options),
            runtime: Arc::clone(&self.runtime),
        }
    }
}

/// A matrix on the servers: [`crate::Matrix`] without async. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Matrix<T: Element> {
    pub(super) inner: crate::Matrix<T>,
    pub(super) runtime: Arc<Runtime>,
}

impl<T: Element> Matrix<T> {
    delegate! {
        /// Whole rows, one after another in the order of `rows`.
        fn pull_rows(&self, rows: &[u64]) -> Vec<T>;
        /// Whole rows into `out`, which holds `rows.len() × cols` values.
        fn pull_rows_into(&self, rows: &[u64], out: &mut [T]) -> ();
        /// A run of whole rows.
        fn pull_row_range(&self, range: Range<u64>) -> Vec<T>;
        /// A run of whole rows into `out`, which holds as many values.
        fn pull_row_range_into(&self, range: Range<u64>, out: &mut [T]) -> ();
        /// Single values, named by (row, column), in the order of `pairs`.
        fn pull_pairs(&self, pairs: &[(u64, u32)]) -> Vec<T>;
        /// Single values into `out`, which is as long as `pairs`.
        fn pull_pairs_into(&self, pairs: &[(u64, u32)], out: &mut [T]) -> ();
        /// Merges values into whole rows: `values` is row-major.
        fn push_rows(&self, rows: &[u64], values: &[T]) -> ();
        /// Merges values into the run of whole rows that begins with `start`.
        fn push_row_range(&self, start: u64, values: &[T]) -> ();
        /// Merges `values[i]` into the value at `pairs[i]`, (row, column), each once, in order.
        fn push_pairs(&self, pairs: &[(u64, u32)], values: &[T]) -> ();
    }

    /// The same matrix, whose pulls may be answered by other copies than the holder: see [`Read`].
    #[must_use]
    pub fn reading(&self, read: Read) -> Self {
        Self {
            inner: self.inner.reading(read),
            runtime: Arc::clone(&self.runtime),
        }
    }

    /// The async matrix within: its size, name, spec and handle.
    pub fn inner(&self) -> &crate::Matrix<T> {
        &self.inner
    }

    /// A buffer that combines updates of this matrix and pushes them together.
    pub fn buffered(&self, options: BufferOptions) -> BufferedMatrix<T> {
        BufferedMatrix {
            inner: self.inner.buffered(options),
            runtime: Arc::clone(&self.runtime),
        }
    }

    /// Goes through the matrix in blocks of `rows` rows (at least 1), the next one pulled ahead.
    pub fn row_blocks(&self, rows: usize) -> RowBlocks<T> {
        RowBlocks {
            inner: self.inner.row_blocks(rows),
            runtime: Arc::clone(&self.runtime),
        }
    }

    /// Goes through the matrix row by row, blocks of about 1 MiB pulled ahead.
    pub fn rows_iter(&self) -> Rows<T> {
        Rows {
            inner: self.inner.rows_iter(),
            runtime: Arc::clone(&self.runtime),
        }
    }

    /// Goes through the matrix column by column, the next one pulled ahead. Each is pulled from all partitions.
    pub fn columns_iter(&self) -> Columns<T> {
        Columns {
            inner: self.inner.columns_iter(),
            runtime: Arc::clone(&self.runtime),
        }
    }
}

/// Combines updates of a vector: [`crate::BufferedVector`] without async.
#[derive(Clone, Debug)]
pub struct BufferedVector<T: Element> {
    pub(super) inner: crate::BufferedVector<T>,
    pub(super) runtime: Arc<Runtime>,
}

impl<T: Element> BufferedVector<T> {
    delegate! {
        /// Adds an update of one value.
        fn add(&self, key: u64, value: T) -> ();
        /// Pushes what is held, and waits until everything that was added before is acknowledged.
        fn flush(&self) -> ();
    }
}

/// Combines updates of a matrix: [`crate::BufferedMatrix`] without async.
#[derive(Clone, Debug)]
pub struct BufferedMatrix<T: Element> {
    pub(super) inner: crate::BufferedMatrix<T>,
    pub(super) runtime: Arc<Runtime>,
}

impl<T: Element> BufferedMatrix<T> {
    delegate! {
        /// Adds an update of one value.
        fn add(&self, row: u64, col: u32, value: T) -> ();
        /// Pushes what is held, and waits until everything that was added before is acknowledged.
        fn flush(&self) -> ();
    }
}

/// Blocks of rows, in order: [`crate::RowBlocks`] as an iterator.
#[derive(Debug)]
pub struct RowBlocks<T: Element> {
    pub(super) inner: crate::RowBlocks<T>,
    pub(super) runtime: Arc<Runtime>,
}

impl<T: Element> Iterator for RowBlocks<T> {
    type Item = Result<Block<T>>;

    fn next(&mut self) -> Option<Self::Item> {
        self.runtime.wait(self.inner.next()).transpose()
    }
}

impl<T: Element> RowBlocks<T> {
    /// How many blocks are pulled ahead of the one in hand: 1 unless said otherwise.
    #[must_use]
    pub fn prefetch(mut self, blocks: usize) -> Self {
        self.inner = self.inner.prefetch(blocks);
        self
    }
}

/// Rows one by one, in order, each with its index: [`crate::Rows`] as an iterator.
#[derive(Debug)]
pub struct Rows<T: Element> {
    pub(super) inner: crate::Rows<T>,
    pub(super) runtime: Arc<Runtime>,
}

impl<T: Element> Rows<T> {
    /// How many blocks of rows (about 1 MiB each) are pulled ahead: 1 unless said otherwise.
    #[must_use]
    pub fn prefetch(mut self, blocks: usize) -> Self {
        self.inner = self.inner.prefetch(blocks);
        self
    }
}

impl<T: Element> Iterator for Rows<T> {
    type Item = Result<(u64, Vec<T>)>;

    fn next(&mut self) -> Option<Self::Item> {
        let row = self.runtime.wait(self.inner.next()).transpose()?;
        Some(row.map(|(index, values)| (index, values.to_vec())))
    }
}

/// Columns one by one, in order, each with its index: [`crate::Columns`] as an iterator.
#[derive(Debug)]
pub struct Columns<T: Element> {
    pub(super) inner: crate::Columns<T>,
    pub(super) runtime: Arc<Runtime>,
}

impl<T: Element> Columns<T> {
    /// How many columns are pulled ahead: 1 unless said otherwise.
    #[must_use]
    pub fn prefetch(mut self, columns: usize) -> Self {
        self.inner = self.inner.prefetch(columns);
        self
    }
}

impl<T: Element> Iterator for Columns<T> {
    type Item = Result<(u32, Vec<T>)>;

    fn next(&mut self) -> Option<Self::Item> {
        let column = self.runtime.wait(self.inner.next()).transpose()?;
        Some(column.map(|(index, values)| (index, values.to_vec())))
    }
}
