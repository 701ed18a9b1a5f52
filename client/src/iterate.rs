//! Going through a matrix by rows, blocks of rows or columns, with the next ones pulled ahead.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use glint_protocol::Element;
use tokio::sync::oneshot;

use crate::{Error, Matrix, Result};

/// What [`Matrix::rows_iter`] pulls at once, in bytes.
const ROWS_BYTES: usize = 1 << 20;

/// Whole rows of a matrix, one after another.
#[derive(Debug)]
pub struct Block<T> {
    /// The first row.
    pub start: u64,
    cols: usize,
    values: Vec<T>,
    home: Spares<T>,
}

/// Buffers of blocks that were dropped, to be used again: fresh memory is what costs most.
type Spares<T> = Arc<Mutex<Vec<Vec<T>>>>;

impl<T> Block<T> {
    /// How many rows it has.
    pub fn rows(&self) -> usize {
        self.values.len() / self.cols
    }

    /// The values of its `at`-th row.
    ///
    /// # Panics
    /// When `at` is not below [`Self::rows`].
    pub fn row(&self, at: usize) -> &[T] {
        &self.values[at * self.cols..(at + 1) * self.cols]
    }

    /// All its values, row-major.
    pub fn values(&self) -> &[T] {
        &self.values
    }
}

impl<T> Drop for Block<T> {
    fn drop(&mut self) {
        let values = std::mem::take(&mut self.values);
        let mut spares = self.home.lock().unwrap_or_else(PoisonError::into_inner);
        // As many as the iterator has out at once will come back; more would never be used.
        if spares.len() < 2 {
            spares.push(values);
        }
    }
}

/// Blocks of rows, in order: [`Matrix::row_blocks`].
#[derive(Debug)]
pub struct RowBlocks<T: Element> {
    matrix: Matrix<T>,
    size: u64,
    prefetch: usize,
    next: u64,
    ahead: VecDeque<oneshot::Receiver<Result<Block<T>>>>,
    spares: Spares<T>,
}

impl<T: Element> RowBlocks<T> {
    /// How many blocks are pulled ahead of the one in hand: 1 unless said otherwise.
    #[must_use]
    pub fn prefetch(mut self, blocks: usize) -> Self {
        self.prefetch = blocks;
        self
    }

    /// The next block; none behind the last.
    ///
    /// # Errors
    /// Those of [`Matrix::pull_rows`]. The block that failed is skipped: its rows are not asked for again.
    pub async fn next(&mut self) -> Result<Option<Block<T>>> {
        self.start();
        let Some(block) = self.ahead.pop_front() else {
            return Ok(None);
        };
        // Started before this one is waited for, so that there are always as many ahead as asked for.
        self.start();
        match block.await {
            Ok(block) => block.map(Some),
            Err(_) => Err(Error::Closed),
        }
    }

    fn start(&mut self) {
        while self.next < self.matrix.rows() && self.ahead.len() <= self.prefetch {
            let start = self.next;
            self.next = start.saturating_add(self.size).min(self.matrix.rows());
            let (sender, receiver) = oneshot::channel();
            let (matrix, end, home) = (self.matrix.clone(), self.next, Arc::clone(&self.spares));
            let tasks = Arc::clone(&self.matrix.client().shared.world.tasks);
            tasks.spawn(Box::pin(async move {
                let spare = home.lock().unwrap_or_else(PoisonError::into_inner).pop();
                let mut values = spare.unwrap_or_default();
                let cols = matrix.cols() as usize;
                values.resize((end - start) as usize * cols, T::default());
                let pulled = matrix.pull_row_range_into(start..end, &mut values).await;
                // Nobody waits any more when the iterator was dropped.
                let _ = sender.send(pulled.map(|()| Block {
                    start,
                    cols,
                    values,
                    home,
                }));
            }));
            self.ahead.push_back(receiver);
        }
    }
}

/// Rows one by one, in order: [`Matrix::rows_iter`].
#[derive(Debug)]
pub struct Rows<T: Element> {
    blocks: RowBlocks<T>,
    block: Option<Block<T>>,
    at: usize,
}

impl<T: Element> Rows<T> {
    /// How many blocks of rows (about 1 MiB each) are pulled ahead: 1 unless said otherwise.
    #[must_use]
    pub fn prefetch(mut self, blocks: usize) -> Self {
        self.blocks.prefetch = blocks;
        self
    }

    /// The next row: its index and its values; none behind the last.
    ///
    /// # Errors
    /// Those of [`Matrix::pull_rows`].
    pub async fn next(&mut self) -> Result<Option<(u64, &[T])>> {
        if self
            .block
            .as_ref()
            .is_none_or(|block| self.at >= block.rows())
        {
            self.block = None;
            self.block = self.blocks.next().await?;
            self.at = 0;
        }
        let Some(block) = &self.block else {
            return Ok(None);
        };
        let at = self.at;
        self.at += 1;
        Ok(Some((block.start + at as u64, block.row(at))))
    }
}

/// Columns one by one, in order: [`Matrix::columns_iter`].
#[derive(Debug)]
pub struct Columns<T: Element> {
    matrix: Matrix<T>,
    prefetch: usize,
    next: u32,
    ahead: VecDeque<oneshot::Receiver<Result<Vec<T>>>>,
    values: Vec<T>,
}

impl<T: Element> Columns<T> {
    /// How many columns are pulled ahead: 1 unless said otherwise.
    #[must_use]
    pub fn prefetch(mut self, columns: usize) -> Self {
        self.prefetch = columns;
        self
    }

    /// The next column: its index and its values, one per row; none behind the last.
    ///
    /// # Errors
    /// Those of [`Matrix::pull_pairs`].
    pub async fn next(&mut self) -> Result<Option<(u32, &[T])>> {
        self.start();
        let Some(column) = self.ahead.pop_front() else {
            return Ok(None);
        };
        let index = self.next - self.ahead.len() as u32 - 1;
        self.start();
        self.values = match column.await {
            Ok(values) => values?,
            Err(_) => return Err(Error::Closed),
        };
        Ok(Some((index, &self.values)))
    }

    fn start(&mut self) {
        while self.next < self.matrix.cols() && self.ahead.len() <= self.prefetch {
            let column = self.next;
            self.next += 1;
            let (sender, receiver) = oneshot::channel();
            let matrix = self.matrix.clone();
            let tasks = Arc::clone(&self.matrix.client().shared.world.tasks);
            tasks.spawn(Box::pin(async move {
                let pairs: Vec<(u64, u32)> = (0..matrix.rows()).map(|row| (row, column)).collect();
                // Nobody waits any more when the iterator was dropped.
                let _ = sender.send(matrix.pull_pairs(&pairs).await);
            }));
            self.ahead.push_back(receiver);
        }
    }
}

impl<T: Element> Matrix<T> {
    /// Goes through the matrix in blocks of `rows` rows (at least 1); the last may be shorter.
    pub fn row_blocks(&self, rows: usize) -> RowBlocks<T> {
        RowBlocks {
            matrix: self.clone(),
            size: rows.max(1) as u64,
            prefetch: 1,
            next: 0,
            ahead: VecDeque::new(),
            spares: Spares::default(),
        }
    }

    /// Goes through the matrix row by row.
    pub fn rows_iter(&self) -> Rows<T> {
        let rows = ROWS_BYTES / (self.cols() as usize * T::SIZE);
        Rows {
            blocks: self.row_blocks(rows),
            block: None,
            at: 0,
        }
    }

    /// Goes through the matrix column by column. Each column is pulled from all partitions.
    pub fn columns_iter(&self) -> Columns<T> {
        Columns {
            matrix: self.clone(),
            prefetch: 1,
            next: 0,
            ahead: VecDeque::new(),
            values: Vec::new(),
        }
    }
}
