//! Vectors.

use std::{fmt, marker::PhantomData, ops::Range, sync::Arc};

use glint_protocol::{Element, ModelMap, ModelSpec};

use crate::{
    Attach, Client, Error, ModelHandle, Positions, Read, Result,
    operation::Operation,
    plan::{Plan, RUN},
    routing::Model,
};

/// A vector with keys `0..len` on the servers. Cheap to clone.
///
/// Lists of keys keep their order and may hold duplicates: each is read, or merged, as often as it is named. Floats may
/// be NaN or infinite: those are values like others. A push larger than one request (about 1 MiB) is applied request by
/// request, each exactly once; of one call and of pushes that await each other, a partition sees the order.
pub struct Vector<T> {
    client: Client,
    model: Arc<Model>,
    read: Read,
    element: PhantomData<T>,
}

impl<T> Clone for Vector<T> {
    fn clone(&self) -> Self {
        Self {
            client: self.client.clone(),
            model: Arc::clone(&self.model),
            read: self.read.clone(),
            element: PhantomData,
        }
    }
}

impl<T> fmt::Debug for Vector<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Vector({}, {})",
            self.model.name(),
            self.model.spec.shape
        )
    }
}

impl<T: Element> Attach for Vector<T> {
    fn open(client: &Client, map: ModelMap) -> Result<Self> {
        if map.spec.shape.is_matrix() {
            return Err(Error::WrongShape {
                model: map.spec.name.clone(),
                asked: "vector",
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

impl<T: Element> Vector<T> {
    pub(crate) fn open(client: &Client, map: ModelMap) -> Result<Self> {
        Attach::open(client, map)
    }

    /// How many keys it has.
    pub fn len(&self) -> u64 {
        self.model.layout.keys()
    }

    /// Whether it has no key at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
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

    /// The same vector, whose pulls may be answered by other copies than the holder: see [`Read`]. Pushes are the same.
    #[must_use]
    pub fn reading(&self, read: Read) -> Self {
        Self {
            read,
            ..self.clone()
        }
    }

    /// How far this client's handles have seen the vector: what their pushes were acknowledged at, and what their pulls read.
    /// Another process that reads with [`Read::AtLeast`] of it sees at least as much.
    pub fn positions(&self) -> Positions {
        self.model.positions()
    }

    fn operation(&self) -> Operation<'_> {
        Operation::new(&self.client.shared, &self.model, &self.read)
    }

    /// The values of `keys`, in their order.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] names the first key that there is not; nothing is sent then. [`Error::DeadlineExceeded`],
    /// [`Error::Gone`], [`Error::Lost`].
    pub async fn pull(&self, keys: &[u64]) -> Result<Vec<T>> {
        let mut out = vec![T::default(); keys.len()];
        self.pull_into(keys, &mut out).await?;
        Ok(out)
    }

    /// The values of `keys` into `out`, which is as long. After an error `out` holds old values, new ones, or both.
    ///
    /// # Errors
    /// [`Error::Length`], and those of [`Self::pull`].
    pub async fn pull_into(&self, keys: &[u64], out: &mut [T]) -> Result<()> {
        let operation = self.operation();
        operation.check_length(keys.len(), "keys", 1, out.len())?;
        operation.pull_runs(keys, 1, out, Plan::keys).await
    }

    /// The values of a run of keys.
    ///
    /// # Errors
    /// As [`Self::pull`].
    pub async fn pull_range(&self, range: Range<u64>) -> Result<Vec<T>> {
        let length = self.operation().ground().check_range(&range)?;
        let mut out = vec![T::default(); length];
        self.pull_range_into(range, &mut out).await?;
        Ok(out)
    }

    /// The values of a run of keys into `out`, which is as long.
    ///
    /// # Errors
    /// [`Error::Length`], and those of [`Self::pull`].
    pub async fn pull_range_into(&self, range: Range<u64>, out: &mut [T]) -> Result<()> {
        let operation = self.operation();
        let keys = operation.ground().check_range(&range)?;
        operation.check_length(keys, "keys", 1, out.len())?;
        operation.pull_range(range, out).await
    }

    /// Merges `values[i]` into the value of `keys[i]`, each once, in order.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] and [`Error::Length`] before anything is sent. [`Error::Unknown`],
    /// [`Error::DeadlineExceeded`], [`Error::Gone`], [`Error::Lost`], [`Error::Partial`]: [`Error::applied`] says
    /// whether it may be pushed again.
    pub async fn push(&self, keys: &[u64], values: &[T]) -> Result<()> {
        let operation = self.operation();
        operation.check_length(keys.len(), "keys", 1, values.len())?;
        operation.push_runs(keys, 1, values, Plan::keys).await
    }

    /// Merges `values` into the run of keys that begins with `start`.
    ///
    /// # Errors
    /// As [`Self::push`].
    pub async fn push_range(&self, start: u64, values: &[T]) -> Result<()> {
        let operation = self.operation();
        let range = start..start.saturating_add(values.len() as u64);
        operation.ground().check_range(&range)?;
        operation.push_range(range, values).await
    }
}

const _: () = assert!(RUN <= u32::MAX as usize);
