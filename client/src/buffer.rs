//! Buffered pushes: many small updates are combined here, key by key, and pushed together.
//!
//! What is added is held until the buffer is full or flushed; a full one is pushed in the background. Every value that was
//! added is either acknowledged by the time [`BufferedMatrix::flush`] returns, or reported: by an error, and if the buffer
//! is dropped with values in it by a warning, a counter and a callback.

mod combine;

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use glint_protocol::{Element, Rule};
use tokio::sync::Semaphore;

use self::combine::Combined;
use crate::{Client, Error, Matrix, Result, Vector, error::Axis, stats::count};

/// Called with the number of values that were dropped without having been pushed.
pub type OnLoss = Arc<dyn Fn(u64) + Send + Sync>;

/// How a buffer behaves.
#[derive(Clone)]
pub struct BufferOptions {
    /// Distinct values held before they are pushed in the background: 100 000.
    pub capacity: usize,
    /// The first rows (keys) of the model are held in a plain array instead of a map: for models whose first rows are the
    /// most frequent ones, such as words ordered by frequency. 0.
    pub hot_rows: u64,
    /// Pushes in the background at most: 4. When so many are out, adding waits. With the rule `assign` it is 1, since the
    /// last one is to win.
    pub max_in_flight: usize,
    /// Called when values are lost, beside the warning and the counter.
    pub on_loss: Option<OnLoss>,
}

impl Default for BufferOptions {
    fn default() -> Self {
        Self {
            capacity: 100_000,
            hot_rows: 0,
            max_in_flight: 4,
            on_loss: None,
        }
    }
}

impl fmt::Debug for BufferOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BufferOptions")
            .field("capacity", &self.capacity)
            .field("hot_rows", &self.hot_rows)
            .field("max_in_flight", &self.max_in_flight)
            .finish_non_exhaustive()
    }
}

/// The model that a buffer pushes to.
#[derive(Clone, Debug)]
enum Target<T> {
    Vector(Vector<T>),
    Matrix(Matrix<T>),
}

impl<T: Element> Target<T> {
    fn client(&self) -> &Client {
        match self {
            Self::Vector(vector) => vector.client(),
            Self::Matrix(matrix) => matrix.client(),
        }
    }

    async fn push(&self, places: Vec<(u64, u32)>, values: &[T]) -> Result<()> {
        match self {
            Self::Matrix(matrix) => matrix.push_pairs(&places, values).await,
            Self::Vector(vector) => {
                let keys: Vec<u64> = places.into_iter().map(|(key, _)| key).collect();
                vector.push(&keys, values).await
            }
        }
    }
}

/// What the buffer's handles and its pushes in the background share.
struct Core<T: Element> {
    target: Target<T>,
    rule: Rule,
    rows: u64,
    cols: u32,
    capacity: usize,
    on_loss: Option<OnLoss>,
    state: Mutex<State<T>>,
    /// Pushes that may still be started.
    free: Arc<Semaphore>,
    max_in_flight: usize,
}

struct State<T> {
    held: Combined<T>,
    /// The first failure of a push in the background, until it is reported.
    failure: Option<Error>,
}

/// The handles' share: its drop is that of the last handle.
struct Handle<T: Element> {
    core: Arc<Core<T>>,
}

impl<T: Element> Core<T> {
    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lost(&self, values: u64, why: &str) {
        count(
            &self.target.client().shared.counters.values_unflushed,
            values,
        );
        tracing::warn!(values, target = ?self.target, "values of a buffer were not pushed: {why}");
        if let Some(on_loss) = &self.on_loss {
            on_loss(values);
        }
    }

    fn take_failure(&self) -> Result<()> {
        self.state().failure.take().map_or(Ok(()), Err)
    }

    /// Combines a value with what is held; true when the buffer is full.
    fn combine(&self, row: u64, col: u32, value: T) -> Result<bool> {
        if row >= self.rows || col >= self.cols {
            return Err(self.out_of_range(row, col));
        }
        let mut state = self.state();
        if let Some(error) = state.failure.take() {
            return Err(error);
        }
        state.held.add(self.rule, row, col, value);
        Ok(state.held.len() >= self.capacity)
    }

    fn out_of_range(&self, row: u64, col: u32) -> Error {
        let (axis, index, size) = match self.target {
            Target::Vector(_) => (Axis::Key, row, self.rows),
            Target::Matrix(_) if row >= self.rows => (Axis::Row, row, self.rows),
            Target::Matrix(_) => (Axis::Column, col.into(), self.cols.into()),
        };
        Error::OutOfRange {
            model: match &self.target {
                Target::Vector(vector) => vector.name(),
                Target::Matrix(matrix) => matrix.name(),
            }
            .to_owned(),
            axis,
            index,
            size,
        }
    }

    /// Starts a push of what is held, once fewer than the most are out. Nothing is taken before, so that a cancelled
    /// caller loses nothing.
    async fn push_held(self: &Arc<Self>, only_if_full: bool) -> Result<()> {
        let permit = Arc::clone(&self.free)
            .acquire_owned()
            .await
            .map_err(|_| Error::Closed)?;
        let (places, values) = {
            let mut state = self.state();
            let enough = if only_if_full { self.capacity } else { 1 };
            if state.held.len() < enough {
                return Ok(());
            }
            state.held.take()
        };
        let core = Arc::clone(self);
        let tasks = Arc::clone(&self.target.client().shared.world.tasks);
        tasks.spawn(Box::pin(async move {
            if let Err(error) = core.target.push(places, &values).await {
                core.lost(values.len() as u64, &error.to_string());
                core.state().failure.get_or_insert(error);
            }
            drop(permit);
        }));
        Ok(())
    }

    async fn flush(self: &Arc<Self>) -> Result<()> {
        self.push_held(false).await?;
        // All permits free means that no push is out.
        let all = self.free.acquire_many(self.max_in_flight as u32).await;
        drop(all.map_err(|_| Error::Closed)?);
        self.take_failure()
    }
}

impl<T: Element> Drop for Handle<T> {
    fn drop(&mut self) {
        let values = self.core.state().held.len() as u64;
        if values > 0 {
            self.core
                .lost(values, "it was dropped without being flushed");
        }
    }
}

fn start<T: Element>(
    target: Target<T>,
    rule: Rule,
    rows: u64,
    cols: u32,
    options: BufferOptions,
) -> Arc<Handle<T>> {
    let max_in_flight = if rule == Rule::Assign {
        1
    } else {
        options.max_in_flight.clamp(1, 1024)
    };
    let hot_rows = options.hot_rows.min(rows);
    Arc::new(Handle {
        core: Arc::new(Core {
            target,
            rule,
            rows,
            cols,
            capacity: options.capacity.max(1),
            on_loss: options.on_loss,
            state: Mutex::new(State {
                held: Combined::new(hot_rows as usize, cols as usize),
                failure: None,
            }),
            free: Arc::new(Semaphore::new(max_in_flight)),
            max_in_flight,
        }),
    })
}

macro_rules! buffered {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        pub struct $name<T: Element> {
            handle: Arc<Handle<T>>,
        }

        impl<T: Element> Clone for $name<T> {
            fn clone(&self) -> Self {
                Self { handle: Arc::clone(&self.handle) }
            }
        }

        impl<T: Element> fmt::Debug for $name<T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({:?})", stringify!($name), self.handle.core.target)
            }
        }

        impl<T: Element> $name<T> {
            /// Pushes what is held, and waits until everything that was added before is acknowledged.
            ///
            /// # Errors
            /// The first failure of a push since the last one was reported. Its values are no longer held:
            /// [`Error::applied`] says what became of them.
            pub async fn flush(&self) -> Result<()> {
                self.handle.core.flush().await
            }

            /// How many distinct values are held.
            pub fn held(&self) -> usize {
                self.handle.core.state().held.len()
            }
        }
    };
}

buffered! {
    /// Combines updates of a matrix and pushes them together: [`Matrix::buffered`]. Clones share what is held.
    BufferedMatrix
}
buffered! {
    /// Combines updates of a vector and pushes them together: [`Vector::buffered`]. Clones share what is held.
    BufferedVector
}

impl<T: Element> BufferedMatrix<T> {
    /// Adds an update of one value: combined with what is held for it by the model's rule. Waits only when the buffer is
    /// full and the most pushes are out.
    ///
    /// # Errors
    /// [`Error::OutOfRange`]; then the update is not held. The failure of an earlier push in the background; then it is
    /// not held either.
    pub async fn add(&self, row: u64, col: u32, value: T) -> Result<()> {
        if self.handle.core.combine(row, col, value)? {
            self.handle.core.push_held(true).await?;
        }
        Ok(())
    }
}

impl<T: Element> BufferedVector<T> {
    /// Adds an update of one value: combined with what is held for it by the model's rule. Waits only when the buffer is
    /// full and the most pushes are out.
    ///
    /// # Errors
    /// [`Error::OutOfRange`]; then the update is not held. The failure of an earlier push in the background; then it is
    /// not held either.
    pub async fn add(&self, key: u64, value: T) -> Result<()> {
        if self.handle.core.combine(key, 0, value)? {
            self.handle.core.push_held(true).await?;
        }
        Ok(())
    }
}

impl<T: Element> Matrix<T> {
    /// A buffer that combines updates of this matrix and pushes them together.
    pub fn buffered(&self, options: BufferOptions) -> BufferedMatrix<T> {
        let (rule, rows, cols) = (self.spec().rule, self.rows(), self.cols());
        BufferedMatrix {
            handle: start(Target::Matrix(self.clone()), rule, rows, cols, options),
        }
    }
}

impl<T: Element> Vector<T> {
    /// A buffer that combines updates of this vector and pushes them together.
    pub fn buffered(&self, options: BufferOptions) -> BufferedVector<T> {
        let (rule, keys) = (self.spec().rule, self.len());
        BufferedVector {
            handle: start(Target::Vector(self.clone()), rule, keys, 1, options),
        }
    }
}
