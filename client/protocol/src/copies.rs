//! What masters and servers say to each other about the copies of partitions: configurations, changes of them, suspicion.
//! How a holder talks to its followers is between servers of one version and not described here.

use serde::{Deserialize, Serialize};

use crate::{
    control::Orders,
    ids::{Boot, Epoch, Incarnation, Revision, ServerId},
};

/// Another server, as the master knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Peer {
    /// Its name.
    pub id: ServerId,
    /// Where it answers.
    pub url: String,
    /// The start of it that is registered.
    pub boot: Boot,
}

/// What a copy is to its partition's holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum CopyRole {
    /// In the in-sync set: an acknowledgement needs its word.
    InSync,
    /// To be attached, and added to the in-sync set once it has everything.
    Learner,
    /// To be detached: it may still have a copy, which is to go.
    Former,
}

/// One other copy of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CopyPlace {
    /// Whose, as an index into the peers of the order.
    pub peer: u32,
    /// What it is.
    pub role: CopyRole,
}

/// A partition of which a server is to keep a copy that another holds, as far as the holder attaches it. A server that held it
/// until now stops, and lets the new holder begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FollowedPartition {
    /// The partition.
    pub partition: u32,
    /// The epoch at which the other holds it.
    pub epoch: Epoch,
    /// Who holds it, as an index into the peers of the order.
    pub holder: u32,
}

/// A holder to the master: other in-sync sets for partitions that it holds: `POST /v1/servers/change`. Each is taken only if
/// the partition is still at the epoch and revision that it names; the answer says how each stands now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ChangeCopies {
    /// The holder.
    pub server: ServerId,
    /// This start of its process.
    pub boot: Boot,
    /// What it asks for.
    pub changes: Vec<CopyChange>,
}

/// What a holder asks for one partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CopyChange {
    /// The model.
    pub incarnation: Incarnation,
    /// The partition.
    pub partition: u32,
    /// The epoch at which it holds it.
    pub epoch: Epoch,
    /// The revision that it knows.
    pub revision: Revision,
    /// The whole in-sync set from now on, without the holder.
    pub in_sync: Vec<ServerId>,
    /// Former copies that are gone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub detached: Vec<ServerId>,
}

/// The master's answer to [`ChangeCopies`]: orders with the present configuration of each partition that was named and is still
/// held by the server, or which it is to follow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CopiesChanged {
    /// To be obeyed like any other orders.
    pub orders: Orders,
}

/// A follower to the master: it hears nothing any more of servers whose partitions it follows: `POST /v1/servers/suspect`. The
/// answer is `{}`. The master promotes others only if it hears nothing of them either, and the follower is in sync with something
/// that they hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Suspect {
    /// Who says so.
    pub server: ServerId,
    /// This start of its process.
    pub boot: Boot,
    /// Whom it does not hear.
    pub silent: Vec<Silence>,
}

/// A server that a follower does not hear any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Silence {
    /// The server.
    pub server: ServerId,
    /// The start of it that spoke last.
    pub boot: Boot,
    /// Milliseconds since its last word.
    pub silent_ms: u64,
}

/// How a cluster notices that servers are gone: the master says so to each server that registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Pulse {
    /// How often a holder sends its followers a beacon, in milliseconds.
    pub beacon_ms: u64,
    /// How long a follower that heard a beacon does not serve in its holder's place, in milliseconds.
    pub lease_ms: u64,
    /// After how long without a beacon a follower suspects the holder, and a holder gives up a follower, in milliseconds.
    pub suspicion_ms: u64,
}

impl Default for Pulse {
    fn default() -> Self {
        Self {
            beacon_ms: 50,
            lease_ms: 200,
            suspicion_ms: 250,
        }
    }
}
