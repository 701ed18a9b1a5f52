//! The protocol of Glint, without I/O: what a client in any language is written against.
//!
//! - [`ids`]: names of things (model, lane, number, epoch, …)
//! - [`element`], [`rule`], [`spec`]: what a model is
//! - [`partitioner`]: which partition holds a key, and where in it
//! - [`map`]: which server holds which partition
//! - [`frame`]: the binary bodies of pull and push
//! - [`data`]: the same bodies as JSON, for `curl` and small programs
//! - [`control`]: what master, servers, clients and admins say to each other, in JSON
//! - [`copies`]: what master and servers say about copies of partitions
//! - [`admin`]: what only admins say
//! - [`durability`], [`loss`]: what an acknowledged push survives, and what it did not
//! - [`error`]: the one enum of errors, and what each asks of the caller
//! - [`buffer`]: reused byte buffers, since fresh memory is what costs most
//!
//! `docs/protocol.md` describes the same for readers.

pub mod admin;
pub mod buffer;
pub mod control;
pub mod copies;
pub mod data;
pub mod durability;
pub mod element;
pub mod error;
pub mod frame;
pub mod ids;
pub mod loss;
pub mod map;
pub mod partitioner;
pub mod rule;
pub mod spec;

pub use durability::Durability;
pub use element::{Element, ElementType, Scalar};
pub use error::{ErrorBody, ErrorCode};
pub use ids::{
    Boot, ClusterId, Epoch, Incarnation, LaneId, ModelId, Number, OsBoot, Position, RequestId,
    ServerId, Term, VolumeId,
};
pub use loss::LossReason;
pub use map::ModelMap;
pub use partitioner::{Layout, Location, Partitioner};
pub use rule::Rule;
pub use spec::{ModelDraft, ModelSpec, Partitioning, Partitions, Shape};

/// Version of the protocol: in every binary frame, in the header [`VERSION_HEADER`], and in the paths (`/v1/…`).
pub const PROTOCOL_VERSION: u8 = 1;
/// Header by which a client or server says which protocol version it speaks; absent means the version of the path.
pub const VERSION_HEADER: &str = "glint-protocol";
/// Content type of binary frames.
pub const BINARY: &str = "application/x-glint";
/// Content type of JSON bodies.
pub const JSON: &str = "application/json";
/// The largest request body that a server takes, and the largest reply that a pull may ask for, in bytes.
pub const MAX_BODY_BYTES: usize = 8 << 20;
/// What a client aims at for one request, in bytes: small enough to stay in a processor's cache.
pub const REQUEST_BYTES: usize = 1 << 20;
/// The longest deadline that an operation may have, in milliseconds, unless the cluster says otherwise: 10 minutes.
pub const MAX_DEADLINE_MS: u64 = 10 * 60 * 1000;
