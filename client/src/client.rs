//! The client: one connection to a cluster, from which models are opened.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, OnceLock, PoisonError, Weak},
    time::Duration,
};

use glint_protocol::{
    ClusterId, Element, Incarnation, Layout, ModelMap, Partitioner, RequestId, Shape,
    buffer::BufferPool,
    control::{ClusterStatus, CreateModel, ModelSummary},
};
use glint_world::World;
use tokio::{sync::Semaphore, time::Instant};

use crate::{
    ClientBuilder, ClientOptions, ClientStats, Error, ForgottenPushes, Matrix, ModelHandle, Result,
    Vector,
    control::{Control, same_cluster},
    losses::Losses,
    open::{MatrixBuilder, VectorBuilder},
    push::{LaneSender, start},
    retry::Pauses,
    routing::Model,
    stats::Counters,
    transport::Transport,
};

/// A connection to a cluster. Cheap to clone; clones share connections, lanes and counters.
///
/// Its tasks run in the runtime in which it was made, which must live as long as it is used.
///
/// ```no_run
/// use glint::{Client, Matrix, Partitioning, Vector};
///
/// # async fn train() -> glint::Result<()> {
/// let client = Client::connect("http://127.0.0.1:7100").await?;
/// let weights: Vector<f32> = client.vector("weights", 1_000_000).open_or_create().await?;
/// let topics: Matrix<i64> = client
///     .matrix("topics", 50_000, 20)
///     .partitioning(Partitioning::Cyclic)
///     .open_or_create()
///     .await?;
///
/// let keys = [3, 141, 59];
/// let values = weights.pull(&keys).await?;
/// let gradient: Vec<f32> = values.iter().map(|w| -0.1 * w).collect();
/// weights.push(&keys, &gradient).await?;
///
/// topics.push_pairs(&[(7, 2), (7, 5)], &[-1, 1]).await?;
/// let row = topics.pull_rows(&[7]).await?;
/// assert_eq!(row.len(), 20);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Client {
    pub(crate) shared: Arc<Shared>,
}

/// What all clones and handles of a client share.
pub(crate) struct Shared {
    pub(crate) world: World,
    pub(crate) options: ClientOptions,
    cluster: OnceLock<ClusterId>,
    pub(crate) control: Arc<Control>,
    pub(crate) transport: Arc<Transport>,
    pub(crate) pauses: Arc<Pauses>,
    pub(crate) counters: Arc<Counters>,
    losses: Arc<Losses>,
    pub(crate) lanes: Vec<LaneSender>,
    pub(crate) pool: BufferPool,
    /// Bytes of pushes that may still be taken in flight.
    pub(crate) in_flight: Arc<Semaphore>,
    partitioners: BTreeMap<String, Arc<dyn Partitioner>>,
    /// What is open: handles of one model share its map, and one task follows it.
    models: Mutex<BTreeMap<Incarnation, Weak<Model>>>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("master", &self.shared.control.url())
            .field("cluster", &self.cluster())
            .finish_non_exhaustive()
    }
}

impl Shared {
    /// When an operation that begins now must have ended.
    pub(crate) fn deadline(&self) -> Instant {
        Instant::now() + self.options.deadline
    }

    /// Refuses what comes from another cluster than the first that answered.
    fn check_cluster(&self, found: ClusterId) -> Result<()> {
        let expected = *self.cluster.get_or_init(|| found);
        same_cluster(&self.control.url(), expected, found)
    }
}

impl Client {
    /// Connects to the cluster whose master answers at `url`, such as `http://127.0.0.1:7100`, with the default options.
    ///
    /// # Errors
    /// [`Error::Url`], [`Error::Unreachable`] when no master answers within 30 seconds, [`Error::NotGlint`],
    /// [`Error::UnsupportedProtocol`].
    pub async fn connect(url: &str) -> Result<Self> {
        Self::builder(url).connect().await
    }

    /// A client with options of your own.
    pub fn builder(url: &str) -> ClientBuilder {
        ClientBuilder::new(url)
    }

    pub(crate) async fn start(
        url: &str,
        world: World,
        options: ClientOptions,
        partitioners: BTreeMap<String, Arc<dyn Partitioner>>,
    ) -> Result<Self> {
        options.check()?;
        let url = url.parse()?;
        let counters = Arc::new(Counters::default());
        let pauses = Arc::new(Pauses::new(&options, world.random.clone()));
        let control = Arc::new(Control::new(
            world.clone(),
            url,
            &options,
            Arc::clone(&pauses),
            Arc::clone(&counters),
        ));
        let status = control
            .status(Instant::now() + options.connect_deadline)
            .await?;
        let transport = Arc::new(Transport::new(
            world.clone(),
            options.connections,
            options.request_timeout,
            Arc::clone(&counters),
        ));
        let losses = Arc::new(Losses::default());
        let lanes = (0..options.lanes)
            .map(|_| start(&world, &options, &transport, &pauses, &counters, &losses))
            .collect();
        let kept = options.in_flight_bytes / options.request_bytes;
        let shared = Shared {
            pool: BufferPool::new(kept.max(8), 2 * options.request_bytes),
            in_flight: Arc::new(Semaphore::new(options.in_flight_bytes)),
            cluster: status.cluster.map(OnceLock::from).unwrap_or_default(),
            world,
            options,
            control,
            transport,
            pauses,
            counters,
            losses,
            lanes,
            partitioners,
            models: Mutex::default(),
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// A vector with keys `0..keys`, to be opened or created.
    pub fn vector<T: Element>(&self, name: impl Into<String>, keys: u64) -> VectorBuilder<T> {
        VectorBuilder::new(self.clone(), name.into(), Shape::Vector { keys })
    }

    /// A matrix of `rows` × `cols`, to be opened or created.
    pub fn matrix<T: Element>(
        &self,
        name: impl Into<String>,
        rows: u64,
        cols: u32,
    ) -> MatrixBuilder<T> {
        MatrixBuilder::new(self.clone(), name.into(), Shape::Matrix { rows, cols })
    }

    /// Opens the vector of this name, whatever its size.
    ///
    /// # Errors
    /// [`Error::UnknownModel`], [`Error::WrongShape`], [`Error::WrongElement`].
    pub async fn open_vector<T: Element>(&self, name: &str) -> Result<Vector<T>> {
        Vector::open(self, self.map(name).await?)
    }

    /// Opens the matrix of this name, whatever its size.
    ///
    /// # Errors
    /// [`Error::UnknownModel`], [`Error::WrongShape`], [`Error::WrongElement`].
    pub async fn open_matrix<T: Element>(&self, name: &str) -> Result<Matrix<T>> {
        Matrix::open(self, self.map(name).await?)
    }

    /// Opens what a handle from another process names: the same model, not another of the same name.
    ///
    /// # Errors
    /// As [`Self::open_vector`], and [`Error::Gone`] when the model was deleted or reset since the handle was made.
    pub async fn attach<M: Attach>(&self, handle: &ModelHandle) -> Result<M> {
        let map = self.map(&handle.name).await.map_err(|error| match error {
            Error::UnknownModel { .. } => handle.gone(),
            other => other,
        })?;
        handle.check(&map)?;
        M::open(self, map)
    }

    /// All models of the cluster, by name.
    ///
    /// # Errors
    /// [`Error::Unreachable`] when the master does not answer by the deadline.
    pub async fn models(&self) -> Result<Vec<ModelSummary>> {
        self.shared.control.models(self.shared.deadline()).await
    }

    /// What a model is and where its partitions are.
    ///
    /// # Errors
    /// [`Error::UnknownModel`], [`Error::Unreachable`].
    pub async fn map(&self, name: &str) -> Result<ModelMap> {
        let map = self
            .shared
            .control
            .map(name, self.shared.deadline())
            .await?;
        self.shared.check_cluster(map.cluster)?;
        Ok(map)
    }

    /// The whole cluster at a glance: servers, models, what they have done.
    ///
    /// # Errors
    /// [`Error::Unreachable`] when the master does not answer by the deadline.
    pub async fn status(&self) -> Result<ClusterStatus> {
        let status = self.shared.control.status(self.shared.deadline()).await?;
        if let Some(cluster) = status.cluster {
            self.shared.cluster.get_or_init(|| cluster);
        }
        Ok(status)
    }

    /// Deletes a model, for everyone. Pulls and pushes to it that are in flight end with [`Error::Gone`].
    ///
    /// # Errors
    /// [`Error::UnknownModel`], [`Error::Unreachable`].
    pub async fn delete(&self, name: &str) -> Result<()> {
        self.shared
            .control
            .delete(name, self.shared.deadline())
            .await
    }

    /// Sets all values of a model back to its initial value, for everyone: what brings a model back whose values are lost.
    /// Pulls and pushes that are in flight end with [`Error::Gone`], and so do those of handles opened before: open it again.
    ///
    /// # Errors
    /// [`Error::UnknownModel`], [`Error::Unreachable`], and [`Error::DeadlineExceeded`] while a server that holds values of
    /// the model does not answer.
    pub async fn reset(&self, name: &str) -> Result<()> {
        let id = RequestId(self.shared.world.random.bits());
        self.shared
            .control
            .reset(name, id, self.shared.deadline())
            .await
    }

    /// What servers have told of acknowledged pushes that are gone, since this was last asked: only to models of durability
    /// `async`, and only when a server's whole machine stopped without warning. At most the last 1024.
    pub fn take_losses(&self) -> Vec<ForgottenPushes> {
        self.shared.losses.take()
    }

    /// What this client has done since its start.
    pub fn stats(&self) -> ClientStats {
        self.shared.counters.read()
    }

    /// The cluster it is connected to. None as long as nobody knows which that is: its master has lost its state, adopts
    /// what servers hold, and none of them had come when it was last asked.
    pub fn cluster(&self) -> Option<ClusterId> {
        self.shared.cluster.get().copied()
    }

    /// Its options.
    pub fn options(&self) -> &ClientOptions {
        &self.shared.options
    }

    pub(crate) async fn create(&self, create: &CreateModel) -> Result<ModelMap> {
        let map = self
            .shared
            .control
            .create(create, self.shared.deadline())
            .await?;
        self.shared.check_cluster(map.cluster)?;
        Ok(map)
    }

    /// The partitioner registered under a name.
    pub(crate) fn partitioner(&self, name: &str) -> Option<Arc<dyn Partitioner>> {
        self.shared.partitioners.get(name).cloned()
    }

    /// A model as its map describes it, after it was found to be of the right kind.
    pub(crate) fn model(&self, map: ModelMap) -> Result<Arc<Model>> {
        let longest = Duration::from_millis(map.max_deadline_ms);
        if self.shared.options.deadline > longest {
            return Err(Error::DeadlineTooLong {
                asked: self.shared.options.deadline,
                longest,
            });
        }
        let shared = &self.shared;
        let mut models = shared.models.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(model) = models.get(&map.incarnation).and_then(Weak::upgrade) {
            drop(models);
            model.take(&map)?;
            return Ok(model);
        }
        let layout = Layout::new(&map.spec, |name| self.partitioner(name))
            .map_err(|e| Error::InvalidSpec { message: e.message })?;
        let incarnation = map.incarnation;
        let model = Arc::new(Model::new(
            map,
            layout,
            Arc::clone(&shared.control),
            Arc::clone(&shared.transport),
            Arc::clone(&shared.counters),
        )?);
        models.retain(|_, model| model.strong_count() > 0);
        models.insert(incarnation, Arc::downgrade(&model));
        Ok(model)
    }
}

/// What can be opened from a [`ModelHandle`]: [`Vector`] and [`Matrix`].
pub trait Attach: Sized + sealed::Sealed {
    #[doc(hidden)]
    fn open(client: &Client, map: ModelMap) -> Result<Self>;
}

mod sealed {
    pub trait Sealed {}
    impl<T: glint_protocol::Element> Sealed for crate::Vector<T> {}
    impl<T: glint_protocol::Element> Sealed for crate::Matrix<T> {}
}
