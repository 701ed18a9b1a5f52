//! Matrices.

use std::{fmt, marker::PhantomData, ops::Range, sync::Arc};

use glint_protocol::{Element, ModelMap, ModelSpec};

use crate::{
    Attach, Client, Error, ModelHandle, Positions, Read, Result, operation::Operation, plan::Plan,
    routing::Model,
};

/// A matrix of `rows` × `cols` on the servers; a row lies on one server. Cheap to clone.
///
/// Values of rows are row-major: the `c`-th value of the `i`-th row named is at `i × cols + c`. What [`crate::Vector`]
/// says of order, duplicates, NaN and large pushes holds here too.
pub struct Matrix<T> {
    client: Client,
    model: Arc<Model>,
    read: Read,
    element: PhantomData<T>,
}

impl<T> Clone for Matrix<T> {
    fn clone(&self) -> Self {
        Self {
            client: self.client.clone(),
            model: Arc::clone(&self.model),
            read: self.read.clone(),
            element: PhantomData,
        }
    }
}

impl<T> fmt::Debug for Matrix<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Matrix({}, {})",
            self.model.name(),
            self.model.spec.shape
        )
    }
}

impl<T: Element> Attach for Matrix<T> {
    fn open(client: &Client, map: ModelMap) -> Result<Self> {
        if !map.spec.shape.is_matrix() {
            return Err(Error::WrongShape {
                model: map.spec.name.clone(),
                asked: "matrix",
                has: map.spec.shape,
            });
        }
        crate::operation::check_element::<T>(&map)?;
        Ok(Self {
            model: client.model(map)?,
            read: client.shared.options.read.clone(),
            client: client.clone(),
            element: PhantomData,
        })
    }
}

impl<T: Element> Matrix<T> {
    pub(crate) fn open(client: &Client, map: ModelMap) -> Result<Self> {
        Attach::open(client, map)
    }

    /// How many rows it has.
    pub fn rows(&self) -> u64 {
        self.model.layout.keys()
    }

    /// How many columns it has.
    pub fn cols(&self) -> u32 {
        self.model.spec.shape.cols()
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.model.name()
    }

    /// What it is.
    pub fn spec(&self) -> &ModelSpec {
        &self.model.spec
    }

    /// What names it in another process.
    pub fn handle(&self) -> ModelHandle {
        ModelHandle::of(&self.model)
    }

    /// The client it was opened with.
    pub fn client(&self) -> &Client {
        &self.client
    }

    fn width(&self) -> usize {
        self.cols() as usize
    }

    /// The same matrix, whose pulls may be answered by other copies than the holder: see [`Read`]. Pushes are the same.
    #[must_use]
    pub fn reading(&self, read: Read) -> Self {
        Self {
            read,
            ..self.clone()
        }
    }

    /// How far this client's handles have seen the matrix: what their pushes were acknowledged at, and what their pulls read.
    /// Another process that reads with [`Read::AtLeast`] of it sees at least as much.
    pub fn positions(&self) -> Positions {
        self.model.positions()
    }

    fn operation(&self) -> Operation<'_> {
        Operation::new(&self.client.shared, &self.model, &self.read)
    }

    /// Whole rows, one after another in the order of `rows`: `rows.len() × cols` values.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] names the first row that there is not; nothing is sent then. [`Error::DeadlineExceeded`],
    /// [`Error::Gone`], [`Error::Lost`].
    pub async fn pull_rows(&self, rows: &[u64]) -> Result<Vec<T>> {
        let mut out = vec![T::default(); rows.len() * self.width()];
        self.pull_rows_into(rows, &mut out).await?;
        Ok(out)
    }

    /// Whole rows into `out`, which holds `rows.len() × cols` values. After an error `out` holds old values, new ones,
    /// or both.
    ///
    /// # Errors
    /// [`Error::Length`], and those of [`Self::pull_rows`].
    pub async fn pull_rows_into(&self, rows: &[u64], out: &mut [T]) -> Result<()> {
        let operation = self.operation();
        operation.check_length(rows.len(), "rows", self.width(), out.len())?;
        operation
            .pull_runs(rows, self.width(), out, Plan::keys)
            .await
    }

    /// A run of whole rows.
    ///
    /// # Errors
    /// As [`Self::pull_rows`].
    pub async fn pull_row_range(&self, range: Range<u64>) -> Result<Vec<T>> {
        let rows = self.operation().ground().check_range(&range)?;
        let mut out = vec![T::default(); rows * self.width()];
        self.pull_row_range_into(range, &mut out).await?;
        Ok(out)
    }

    /// A run of whole rows into `out`, which holds as many values.
    ///
    /// # Errors
    /// [`Error::Length`], and those of [`Self::pull_rows`].
    pub async fn pull_row_range_into(&self, range: Range<u64>, out: &mut [T]) -> Result<()> {
        let operation = self.operation();
        let rows = operation.ground().check_range(&range)?;
        operation.check_length(rows, "rows", self.width(), out.len())?;
        operation.pull_range(range, out).await
    }

    /// Single values, named by (row, column), in the order of `pairs`.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] names the first row or column that there is not; and those of [`Self::pull_rows`].
    pub async fn pull_pairs(&self, pairs: &[(u64, u32)]) -> Result<Vec<T>> {
        let mut out = vec![T::default(); pairs.len()];
        self.pull_pairs_into(pairs, &mut out).await?;
        Ok(out)
    }

    /// Single values into `out`, which is as long as `pairs`.
    ///
    /// # Errors
    /// [`Error::Length`], and those of [`Self::pull_pairs`].
    pub async fn pull_pairs_into(&self, pairs: &[(u64, u32)], out: &mut [T]) -> Result<()> {
        let operation = self.operation();
        operation.check_length(pairs.len(), "pairs", 1, out.len())?;
        operation.pull_runs(pairs, 1, out, Plan::pairs).await
    }

    /// Merges values into whole rows: `values` is row-major and holds `rows.len() × cols` of them.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] and [`Error::Length`] before anything is sent. [`Error::Unknown`],
    /// [`Error::DeadlineExceeded`], [`Error::Gone`], [`Error::Lost`], [`Error::Partial`]: [`Error::applied`] says
    /// whether it may be pushed again.
    pub async fn push_rows(&self, rows: &[u64], values: &[T]) -> Result<()> {
        let operation = self.operation();
        operation.check_length(rows.len(), "rows", self.width(), values.len())?;
        operation
            .push_runs(rows, self.width(), values, Plan::keys)
            .await
    }

    /// Merges values into the run of whole rows that begins with `start`.
    ///
    /// # Errors
    /// As [`Self::push_rows`]; [`Error::Length`] when `values` ends inside a row.
    pub async fn push_row_range(&self, start: u64, values: &[T]) -> Result<()> {
        let operation = self.operation();
        let rows = values.len().div_ceil(self.width());
        operation.check_length(rows, "rows", self.width(), values.len())?;
        let range = start..start.saturating_add(rows as u64);
        operation.ground().check_range(&range)?;
        operation.push_range(range, values).await
    }

    /// Merges `values[i]` into the value at `pairs[i]`, (row, column), each once, in order.
    ///
    /// # Errors
    /// As [`Self::push_rows`].
    pub async fn push_pairs(&self, pairs: &[(u64, u32)], values: &[T]) -> Result<()> {
        let operation = self.operation();
        operation.check_length(pairs.len(), "pairs", 1, values.len())?;
        operation.push_runs(pairs, 1, values, Plan::pairs).await
    }
}
