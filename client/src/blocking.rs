//! The same client without async, for programs that have no runtime: every call waits for its result.
//!
//! ```no_run
//! # fn train() -> glint::Result<()> {
//! let client = glint::blocking::Client::connect("http://127.0.0.1:7100")?;
//! let weights = client.open_or_create(client.vector::<f32>("weights", 1_000_000))?;
//! weights.push(&[3, 141, 59], &[0.5, -0.25, 1.0])?;
//! let values = weights.pull(&[3, 141, 59])?;
//! # Ok(())
//! # }
//! ```
//!
//! A client owns a runtime of two threads, shared by everything that is opened from it. Inside an async runtime its calls
//! fail with [`Error::InsideAsync`], since waiting there would stop other tasks.

use std::{ops::Range, sync::Arc};

use glint_protocol::{
    Element, ModelMap,
    control::{ClusterStatus, ModelSummary},
};

use crate::{
    Attach, BufferOptions, ClientBuilder, ClientStats, Error, MatrixBuilder, ModelHandle, Result,
    VectorBuilder, iterate::Block,
};

/// The runtime of a blocking client.
#[derive(Debug)]
struct Runtime(Option<tokio::runtime::Runtime>);

impl Drop for Runtime {
    fn drop(&mut self) {
        // Waiting for its threads is not allowed where this may be dropped; no call is in flight any more.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Runtime {
    fn start() -> Result<Arc<Self>> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("glint-client")
            .enable_all()
            .build()
            .map_err(|error| Error::Runtime {
                message: error.to_string(),
            })?;
        Ok(Arc::new(Self(Some(runtime))))
    }

    fn wait<R>(&self, call: impl Future<Output = Result<R>>) -> Result<R> {
        if tokio::runtime::Handle::try_current().is_ok() {
            return Err(Error::InsideAsync);
        }
        match &self.0 {
            Some(runtime) => runtime.block_on(call),
            None => Err(Error::Closed),
        }
    }
}

/// A connection to a cluster: [`crate::Client`] without async. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Client {
    inner: crate::Client,
    runtime: Arc<Runtime>,
}

/// What a builder opens: [`VectorBuilder`] and [`MatrixBuilder`].
pub trait Opens: Sized {
    /// The async model.
    type Model;
    /// The blocking model.
    type Blocking;
    #[doc(hidden)]
    fn open(self) -> impl Future<Output = Result<Self::Model>>;
    #[doc(hidden)]
    fn create(self) -> impl Future<Output = Result<Self::Model>>;
    #[doc(hidden)]
    fn open_or_create(self) -> impl Future<Output = Result<Self::Model>>;
    #[doc(hidden)]
    fn wrap(model: Self::Model, client: &Client) -> Self::Blocking;
}

macro_rules! opens {
    ($builder:ident, $model:ident) => {
        impl<T: Element> Opens for $builder<T> {
            type Model = crate::$model<T>;
            type Blocking = $model<T>;

            fn open(self) -> impl Future<Output = Result<Self::Model>> {
                $builder::open(self)
            }

            fn create(self) -> impl Future<Output = Result<Self::Model>> {
                $builder::create(self)
            }

            fn open_or_create(self) -> impl Future<Output = Result<Self::Model>> {
                $builder::open_or_create(self)
            }

            fn wrap(inner: Self::Model, client: &Client) -> $model<T> {
                $model {
                    inner,
                    runtime: Arc::clone(&client.runtime),
                }
            }
        }
    };
}
opens!(VectorBuilder, Vector);
opens!(MatrixBuilder, Matrix);

impl Client {
    /// Connects: see [`crate::Client::connect`].
    ///
    /// # Errors
    /// As there, and [`Error::InsideAsync`], [`Error::Runtime`].
    pub fn connect(url: &str) -> Result<Self> {
        Self::with(crate::Client::builder(url))
    }

    /// Connects with options of your own: those of [`crate::Client::builder`].
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub fn with(builder: ClientBuilder) -> Result<Self> {
        let runtime = Runtime::start()?;
        Ok(Self {
            inner: runtime.wait(builder.connect())?,
            runtime,
        })
    }

    /// The async client within.
    pub fn inner(&self) -> &crate::Client {
        &self.inner
    }

    /// Describes a vector, for [`Self::open`], [`Self::create`] and [`Self::open_or_create`].
    pub fn vector<T: Element>(&self, name: impl Into<String>, keys: u64) -> VectorBuilder<T> {
        self.inner.vector(name, keys)
    }

    /// Describes a matrix, for [`Self::open`], [`Self::create`] and [`Self::open_or_create`].
    pub fn matrix<T: Element>(
        &self,
        name: impl Into<String>,
        rows: u64,
        cols: u32,
    ) -> MatrixBuilder<T> {
        self.inner.matrix(name, rows, cols)
    }

    /// Opens a model: see [`VectorBuilder::open`].
    ///
    /// # Errors
    /// As there.
    pub fn open<B: Opens>(&self, builder: B) -> Result<B::Blocking> {
        let model = self.runtime.wait(builder.open())?;
        Ok(B::wrap(model, self))
    }

    /// Creates a model: see [`VectorBuilder::create`].
    ///
    /// # Errors
    /// As there.
    pub fn create<B: Opens>(&self, builder: B) -> Result<B::Blocking> {
        let model = self.runtime.wait(builder.create())?;
        Ok(B::wrap(model, self))
    }

    /// Opens a model or creates it: see [`VectorBuilder::open_or_create`].
    ///
    /// # Errors
    /// As there.
    pub fn open_or_create<B: Opens>(&self, builder: B) -> Result<B::Blocking> {
        let model = self.runtime.wait(builder.open_or_create())?;
        Ok(B::wrap(model, self))
    }

    /// Opens the vector of this name, whatever its size.
    ///
    /// # Errors
    /// As [`crate::Client::open_vector`].
    pub fn open_vector<T: Element>(&self, name: &str) -> Result<Vector<T>> {
        let inner = self.runtime.wait(self.inner.open_vector(name))?;
        Ok(Vector {
            inner,
            runtime: Arc::clone(&self.runtime),
        })
    }

    /// Opens the matrix of this name, whatever its size.
    ///
    /// # Errors
    /// As [`crate::Client::open_matrix`].
    pub fn open_matrix<T: Element>(&self, name: &str) -> Result<Matrix<T>> {
        let inner = self.runtime.wait(self.inner.open_matrix(name))?;
        Ok(Matrix {
            inner,
            runtime: Arc::clone(&self.runtime),
        })
    }

    /// Opens the vector that a handle from another process names.
    ///
    /// # Errors
    /// As [`crate::Client::attach`].
    pub fn attach_vector<T: Element>(&self, handle: &ModelHandle) -> Result<Vector<T>> {
        Ok(Vector {
            inner: self.attach(handle)?,
            runtime: Arc::clone(&self.runtime),
        })
    }

    /// Opens the matrix that a handle from another process names.
    ///
    /// # Errors
    /// As [`crate::Client::attach`].
    pub fn attach_matrix<T: Element>(&self, handle: &ModelHandle) -> Result<Matrix<T>> {
        Ok(Matrix {
            inner: self.attach(handle)?,
            runtime: Arc::clone(&self.runtime),
        })
    }

    fn attach<M: Attach>(&self, handle: &ModelHandle) -> Result<M> {
        self.runtime.wait(self.inner.attach(handle))
    }

    /// What this client has done since its start.
    pub fn stats(&self) -> ClientStats {
        self.inner.stats()
    }
}

macro_rules! delegate {
    ($($(#[$doc:meta])* fn $name:ident(&self $(, $arg:ident: $type:ty)*) -> $result:ty;)*) => {
        $(
            $(#[$doc])*
            ///
            /// # Errors
            /// As the async function of the same name, and [`Error::InsideAsync`].
            pub fn $name(&self $(, $arg: $type)*) -> Result<$result> {
                self.runtime.wait(self.inner.$name($($arg),*))
            }
        )*
    };
}

impl Client {
    delegate! {
        /// All models of the cluster, by name.
        fn models(&self) -> Vec<ModelSummary>;
        /// What a model is and where its partitions are.
        fn map(&self, name: &str) -> ModelMap;
        /// The whole cluster at a glance.
        fn status(&self) -> ClusterStatus;
        /// Deletes a model, for everyone.
        fn delete(&self, name: &str) -> ();
    }
}

/// A vector on the servers: [`crate::Vector`] without async. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Vector<T: Element> {
    inner: crate::Vector<T>,
    runtime: Arc<Runtime>,
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
    inner: crate::Matrix<T>,
    runtime: Arc<Runtime>,
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
}

/// Combines updates of a vector: [`crate::BufferedVector`] without async.
#[derive(Clone, Debug)]
pub struct BufferedVector<T: Element> {
    inner: crate::BufferedVector<T>,
    runtime: Arc<Runtime>,
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
    inner: crate::BufferedMatrix<T>,
    runtime: Arc<Runtime>,
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
    inner: crate::RowBlocks<T>,
    runtime: Arc<Runtime>,
}

impl<T: Element> Iterator for RowBlocks<T> {
    type Item = Result<Block<T>>;

    fn next(&mut self) -> Option<Self::Item> {
        self.runtime.wait(self.inner.next()).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn inside_a_runtime_it_says_so_instead_of_stopping_it() {
        let error = Client::connect("http://127.0.0.1:1").unwrap_err();
        assert!(matches!(error, Error::InsideAsync), "{error}");
    }

    #[test]
    fn a_url_that_is_none_is_refused_at_once() {
        let error = Client::connect("127.0.0.1:7100").unwrap_err();
        assert!(matches!(error, Error::Url(_)), "{error}");
    }
}
