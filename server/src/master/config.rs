//! How a master behaves, and why it may not start or must end.

use std::time::Duration;

use glint_protocol::{ClusterId, Durability, ErrorBody, MAX_DEADLINE_MS, copies::Pulse};

use super::file::FileError;
use crate::serve::Limits;

/// How a master behaves.
#[derive(Clone, Debug)]
pub struct MasterConfig {
    /// How often servers send a heartbeat.
    pub heartbeat: Duration,
    /// How copies notice that others are gone.
    pub pulse: Pulse,
    /// A server that was not heard for so long counts as silent: nothing new is placed on it. It keeps its partitions.
    pub silent_after: Duration,
    /// A server that holds nothing and was not heard for so long is forgotten.
    pub forget_after: Duration,
    /// A model that is being made on a server that has been silent for so long is placed anew.
    pub replace_after: Duration,
    /// What a model survives whose maker says nothing of it.
    pub durability: Durability,
    /// How many copies a model has of each partition whose maker says nothing of it.
    pub copies: u8,
    /// Whether a server that joins gets its share of what the others have.
    pub rebalance: bool,
    /// Whether it begins without a state of its own and takes over what servers report. A state that has models is then an
    /// error.
    pub adopt: bool,
    /// The longest deadline that an operation of this cluster may have, in milliseconds.
    pub max_deadline_ms: u64,
    /// Bounds of its connections.
    pub limits: Limits,
}

impl Default for MasterConfig {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_millis(50),
            pulse: Pulse::default(),
            silent_after: Duration::from_secs(1),
            forget_after: Duration::from_secs(600),
            replace_after: Duration::from_secs(5),
            durability: Durability::default(),
            copies: 1,
            rebalance: true,
            adopt: false,
            max_deadline_ms: MAX_DEADLINE_MS,
            limits: Limits::default(),
        }
    }
}

/// Why a master does not start, or ends.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MasterError {
    /// Its storage cannot be read.
    #[error("the master's state cannot be read; mend its data directory")]
    Load(#[source] std::io::Error),
    /// Its state cannot be understood.
    #[error(transparent)]
    File(#[from] FileError),
    /// Its storage cannot be written.
    #[error("the master cannot start: {0}")]
    Store(ErrorBody),
    /// A sync of its storage failed while it ran, so that nobody knows what the disk has, or another master uses it.
    #[error(
        "the master has ended, since its state could not be kept: {0}; look after its disk, and that no other master uses it, \
         then start the master again: it goes on from what the disk gives back"
    )]
    Unsynced(String),
    /// It is to adopt what servers hold, and knows models of its own.
    #[error(
        "--adopt is for a master that has lost its state, and this one knows {models} models of cluster {cluster}; start it without \
         --adopt, or with an empty data directory (--data-dir)"
    )]
    Adopt {
        /// What it is.
        cluster: ClusterId,
        /// How many it knows.
        models: usize,
    },
    /// Its heartbeat and limit of silence contradict each other.
    #[error(
        "servers would count as silent after {silent_after:?} and send a heartbeat every {heartbeat:?}; make the first at least three times the second"
    )]
    Intervals {
        /// The configured interval.
        heartbeat: Duration,
        /// The configured limit.
        silent_after: Duration,
    },
    /// Its signs of life between copies contradict each other.
    #[error(
        "with a sign of life every {} ms, a lease of {} ms and a suspicion after {} ms copies would take each other for gone while all is well; make the last two at least twice the first (--beacon-ms, --lease-ms, --suspicion-ms)",
        .0.beacon_ms, .0.lease_ms, .0.suspicion_ms
    )]
    Pulse(Pulse),
}
