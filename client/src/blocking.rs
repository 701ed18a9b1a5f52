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

mod model;

use std::sync::Arc;

use glint_protocol::{
    Element, ModelMap,
    control::{ClusterStatus, ModelSummary},
};

use crate::{
    Attach, ClientBuilder, ClientStats, Error, ForgottenPushes, MatrixBuilder, ModelHandle, Result,
    VectorBuilder,
};

pub use self::model::{BufferedMatrix, BufferedVector, Columns, Matrix, RowBlocks, Rows, Vector};

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

    /// What servers have told of acknowledged pushes that are gone: see [`crate::Client::take_losses`].
    pub fn take_losses(&self) -> Vec<ForgottenPushes> {
        self.inner.take_losses()
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
            /// As the async function of the same name, and [`crate::Error::InsideAsync`].
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
        /// Sets all values of a model back to its initial value, for everyone.
        fn reset(&self, name: &str) -> ();
    }
}

use delegate;

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
