//! Making a client with options of one's own.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use glint_protocol::Partitioner;
use glint_world::World;

use crate::{Client, ClientOptions, Read, Result};

/// Collects what a client shall be like.
#[derive(Debug)]
#[must_use = "a builder does nothing before `connect`"]
pub struct ClientBuilder {
    url: String,
    options: ClientOptions,
    world: Option<World>,
    partitioners: BTreeMap<String, Arc<dyn Partitioner>>,
}

impl ClientBuilder {
    pub(crate) fn new(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            options: ClientOptions::default(),
            world: None,
            partitioners: BTreeMap::new(),
        }
    }

    /// All options at once.
    pub fn options(mut self, options: ClientOptions) -> Self {
        self.options = options;
        self
    }

    /// How long a pull or push may take, with all its retries.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.options.deadline = deadline;
        self
    }

    /// How long to wait for a master to answer.
    pub fn connect_deadline(mut self, deadline: Duration) -> Self {
        self.options.connect_deadline = deadline;
        self
    }

    /// How long one request may take before it is given up and sent again.
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.options.request_timeout = timeout;
        self
    }

    /// Connections per server.
    pub fn connections(mut self, connections: usize) -> Self {
        self.options.connections = connections;
        self
    }

    /// Lanes.
    pub fn lanes(mut self, lanes: usize) -> Self {
        self.options.lanes = lanes;
        self
    }

    /// Which copies may answer pulls, where handles do not say otherwise.
    pub fn read(mut self, read: Read) -> Self {
        self.options.read = read;
        self
    }

    /// Whether small operations that are in flight together share requests.
    pub fn coalesce(mut self, coalesce: bool) -> Self {
        self.options.coalesce = coalesce;
        self
    }

    /// Registers a partitioner of your own. Every client that opens a model laid out by it must register it under the
    /// same name.
    pub fn partitioner(mut self, name: impl Into<String>, by: Arc<dyn Partitioner>) -> Self {
        self.partitioners.insert(name.into(), by);
        self
    }

    /// Network, clock, randomness and tasks: the real ones unless given.
    pub fn world(mut self, world: World) -> Self {
        self.world = Some(world);
        self
    }

    /// Connects.
    ///
    /// # Errors
    /// [`crate::Error::Options`], and those of [`Client::connect`].
    pub async fn connect(self) -> Result<Client> {
        let world = self.world.unwrap_or_else(World::real);
        Client::start(&self.url, world, self.options, self.partitioners).await
    }
}
