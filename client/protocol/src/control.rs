//! What master, servers, clients and admins say to each other in JSON: registration, heartbeats, orders, the catalogue.
//! Pulls and pushes are in [`crate::frame`] and [`crate::data`].

use serde::{Deserialize, Serialize};

use crate::{
    admin::{Adoption, DrainState, PlannedMove, RefusedServer},
    copies::{CopyPlace, FollowedPartition, Peer, Pulse},
    ids::{
        Boot, ClusterId, Epoch, Incarnation, ModelId, OsBoot, Position, Revision, ServerId, Term,
        VolumeId,
    },
    loss::{LossReason, LossSummary},
    spec::{ModelDraft, ModelSpec},
};

/// A copy that a server has, as it tells the master when it registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CopyReport {
    /// The model.
    pub incarnation: Incarnation,
    /// The partition.
    pub partition: u32,
    /// The epoch at which the server holds it.
    pub epoch: Epoch,
    /// Its last log position.
    pub position: Position,
    /// The epoch of the record at that position: together they name it for ever.
    #[serde(default)]
    pub last_epoch: Epoch,
    /// The epoch of the holder that this copy follows; 0 if the server holds the partition itself, or has heard of no holder
    /// since its start.
    #[serde(default)]
    pub follows: Epoch,
}

/// A partition that a server holds by the word of a master, and who else has a copy that counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct HeldCopy {
    /// The model.
    pub incarnation: Incarnation,
    /// The partition.
    pub partition: u32,
    /// The servers that must have a record before it is acknowledged, beside this one: nobody else can have been promoted.
    pub with: Vec<ServerId>,
}

/// A partition that a server is to hold and whose values it knows to be lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LostCopy {
    /// The model.
    pub incarnation: Incarnation,
    /// The partition.
    pub partition: u32,
}

/// The data directory of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Volume {
    /// Which.
    pub id: VolumeId,
    /// How many processes have started on it, this one included: an older copy of it knows of fewer.
    pub start: u64,
    /// Whether the process before ended in order, with everything synced.
    pub clean: bool,
}

/// Where a server runs, as far as it was told: copies of a partition are kept on different machines, in different zones, as
/// far as there are any.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Labels {
    /// The machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// The zone that the machine is in: what fails together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
}

impl Labels {
    /// Whether nothing was said.
    pub fn is_empty(&self) -> bool {
        self.node.is_none() && self.zone.is_none()
    }
}

/// What a model is of which a server has copies: so that a master that has lost its catalogue can be told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct HeldModel {
    /// Which model.
    pub incarnation: Incarnation,
    /// What it is.
    pub spec: ModelSpec,
}

/// A server to the master while it reads its data directory and cannot register yet:
/// `POST /v1/servers/recovering`. The answer is `{}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Recovering {
    /// Its name.
    pub server: ServerId,
    /// This start of its process.
    pub boot: Boot,
    /// How far it is.
    pub progress: RecoveryProgress,
}

/// How far a recovery is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RecoveryProgress {
    /// Bytes of snapshots and log that were read and applied.
    pub done_bytes: u64,
    /// Bytes of all of them.
    pub total_bytes: u64,
    /// Whether its disk has no room for what is written at the end of it: the server waits for that.
    #[serde(default)]
    pub disk_full: bool,
}

/// A server to the master, at its start and whenever the master says that it does not know it: `POST /v1/servers/register`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Register {
    /// Its name.
    pub server: ServerId,
    /// Where clients and the master reach it.
    pub url: String,
    /// This start of its process.
    pub boot: Boot,
    /// The cluster it belongs to, if it has ever registered.
    pub cluster: Option<ClusterId>,
    /// Bytes of values that it may hold.
    pub capacity_bytes: u64,
    /// What it holds. That a copy is missing here says nothing of a start that the master has heard of before: a
    /// registration may arrive again long after it was sent, when the server has been given more.
    pub copies: Vec<CopyReport>,
    /// What it knows to be lost: that never changes, however late the master hears it.
    #[serde(default)]
    pub lost: Vec<LostCopy>,
    /// Which of these it holds by the word of a master, and with whom: for a master that has lost its state.
    #[serde(default)]
    pub holds: Vec<HeldCopy>,
    /// The models that these are copies of.
    #[serde(default)]
    pub models: Vec<HeldModel>,
    /// Its data directory, if it has one.
    #[serde(default)]
    pub volume: Option<Volume>,
    /// The starts of processes on its data directory: the last that is known to have registered, and those since. An older
    /// copy of it does not know the last that did.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub starts: Vec<Boot>,
    /// The start of the operating system that it runs on.
    #[serde(default)]
    pub os_boot: OsBoot,
    /// Where it runs.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
    /// The highest term of a master of its cluster that it has heard.
    #[serde(default)]
    pub term: Term,
    /// The word that the master has asked to be repeated, if it has: see `word` of an error's detail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub word: Option<u64>,
}

/// The master's answer: what the server holds from now on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Registered {
    /// The cluster.
    pub cluster: ClusterId,
    /// How often the server shall send a heartbeat, in milliseconds.
    pub heartbeat_ms: u64,
    /// How copies notice that others are gone.
    #[serde(default)]
    pub pulse: Pulse,
    /// What to hold and what to drop, as after any change.
    pub orders: Orders,
}

/// What a server has done since its start, told in every heartbeat and shown in the status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ServerLoad {
    /// Bytes of values that it holds.
    pub value_bytes: u64,
    /// Partitions that it holds.
    pub partitions: u64,
    /// Requests that were pulls.
    pub pulls: u64,
    /// Requests that were pushes.
    pub pushes: u64,
    /// Groups of pushes that were answered from the ledger, without applying them again.
    pub repeated: u64,
    /// Bytes received in bodies.
    pub bytes_in: u64,
    /// Bytes sent in bodies.
    pub bytes_out: u64,
    /// Entries in the ledgers of all partitions.
    pub ledger_entries: u64,
    /// Bytes of the values of copies that are arriving: they take memory beside those that it holds.
    #[serde(default)]
    pub arriving_bytes: u64,
    /// How many of those have come, and of copies that have come as a whole and are not in sync yet.
    #[serde(default)]
    pub arrived_bytes: u64,
    /// Whether the disk of its data directory is full: pushes to models that are not `memory` wait for room.
    #[serde(default)]
    pub disk_full: bool,
}

/// A server to the master, again and again: `POST /v1/servers/heartbeat`. The answer is `{}`, or `not_registered`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Heartbeat {
    /// Its name.
    pub server: ServerId,
    /// This start of its process.
    pub boot: Boot,
    /// The master's term under which it registered.
    pub term: Term,
    /// What it has done.
    pub load: ServerLoad,
    /// The partitions that it is asked for most, the busiest first; at most [`MAX_BUSIEST`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub busiest: Vec<PartitionLoad>,
}

/// A server to the master when it ends in order: `POST /v1/servers/leave`. The answer is [`Left`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Leave {
    /// Its name.
    pub server: ServerId,
    /// This start of its process.
    pub boot: Boot,
}

/// The master's answer to [`Leave`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Left {
    /// What the server follows from now on, if others hold what it held: told to obey, it lets them begin at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub orders: Option<Orders>,
}

/// The master to a server, repeated until it is answered: `POST /v1/orders`. The answer is `{}` once all is obeyed.
/// Obeying twice is the same as once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Orders {
    /// The cluster.
    pub cluster: ClusterId,
    /// The master's term: a server refuses a lower one than it has heard.
    pub term: Term,
    /// The boot under which the server registered: another boot refuses.
    pub boot: Boot,
    /// What to hold.
    pub hold: Vec<Hold>,
    /// Models to drop: all partitions of this incarnation and of lower generations of the model.
    pub drop: Vec<Drop>,
}

/// Partitions of one model that a server is to hold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Hold {
    /// What the model is.
    pub spec: ModelSpec,
    /// Which model.
    pub incarnation: Incarnation,
    /// Whether the model is being made: only then may the server start a partition with initial values. A partition that
    /// it is told to hold later and does not have is `lost`.
    pub creating: bool,
    /// The partitions that it holds.
    pub partitions: Vec<HeldPartition>,
    /// The partitions of which it is to keep a copy that another server holds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub followed: Vec<FollowedPartition>,
    /// The other servers that these name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub peers: Vec<Peer>,
}

/// One partition that a server is to hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct HeldPartition {
    /// The partition.
    pub partition: u32,
    /// At this epoch.
    pub epoch: Epoch,
    /// Revision of its configuration: rises with every change of what follows.
    #[serde(default)]
    pub revision: Revision,
    /// Who has, shall have, or still may have other copies of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub copies: Vec<CopyPlace>,
    /// Its values are lost: answer `lost` to whoever asks for them.
    #[serde(default)]
    pub lost: bool,
    /// Why, if the master knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<LossReason>,
}

/// A model that a server is to drop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Drop {
    /// The model, up to this generation.
    pub incarnation: Incarnation,
    /// Why, for the answer to late requests.
    pub reason: crate::error::GoneReason,
}

/// A client to the master: `POST /v1/models`. The answer is the model's map.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CreateModel {
    /// Chosen at random by the client, the same in every copy of this request: so a repeated request finds its own model
    /// and is answered with its map, not with `already_exists`.
    pub id: ModelId,
    /// What to make.
    pub model: ModelDraft,
    /// Whether a model of that name and the same spec is fine too (`open_or_create`); else `already_exists`.
    #[serde(default)]
    pub or_open: bool,
}

/// How a model fares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum ModelState {
    /// Being made, or being reset: its servers have not all confirmed yet.
    Creating,
    /// Serving.
    Live,
    /// Serving, with fewer copies in sync than there shall be.
    Degraded,
    /// At least one partition is lost.
    Lost,
}

/// One model in a list: `GET /v1/models`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ModelSummary {
    /// What it is.
    pub spec: ModelSpec,
    /// Which model.
    pub incarnation: Incarnation,
    /// How it fares.
    pub state: ModelState,
    /// Revision of its map.
    pub revision: Revision,
    /// Partitions whose values are lost.
    pub lost_partitions: u32,
    /// Where and why they were lost.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub losses: Vec<LossSummary>,
    /// Bytes of its values.
    pub bytes: u64,
    /// How many copies its partitions have.
    #[serde(default)]
    pub copies: CopiesSummary,
}

/// How many copies the partitions of a model have, lost ones aside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CopiesSummary {
    /// How many each shall have.
    pub wanted: u8,
    /// How many are in sync of that which has the fewest.
    pub fewest: u8,
    /// Partitions with fewer in sync than there shall be.
    pub below: u32,
    /// Partitions that nobody serves until a server with a copy of them that is in sync is back.
    pub waiting: u32,
}

/// One partition of those that a server was asked for most.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PartitionLoad {
    /// Name of its model.
    pub model: String,
    /// Which.
    pub partition: u32,
    /// Groups of pulls and pushes of it since the server has it.
    pub requests: u64,
    /// Bytes of them, in both directions.
    pub bytes: u64,
    /// Groups per second, of late.
    #[serde(default)]
    pub requests_per_second: u64,
    /// Bytes per second, of late.
    #[serde(default)]
    pub bytes_per_second: u64,
}

impl PartitionLoad {
    /// By this the busiest are found, whether they are asked for often or for much: a request weighs as much as 16 KiB.
    pub fn weight(&self) -> u64 {
        let bytes = self.bytes_per_second / (16 << 10);
        self.requests_per_second.saturating_add(bytes)
    }
}

/// The most partitions that a heartbeat names as busiest.
pub const MAX_BUSIEST: usize = 16;

/// How a server fares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum ServerState {
    /// Its heartbeats arrive.
    Alive,
    /// Its heartbeats have stopped; it keeps its partitions.
    Silent,
    /// It ended in order.
    Left,
    /// It reads its data directory, and registers when it has.
    Recovering,
}

/// One server in the status.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ServerSummary {
    /// Its name.
    pub id: ServerId,
    /// Where it answers.
    pub url: String,
    /// How it fares.
    pub state: ServerState,
    /// Milliseconds since its last word.
    pub silent_ms: u64,
    /// Bytes of values that it may hold.
    pub capacity_bytes: u64,
    /// Bytes of values that are placed on it.
    pub placed_bytes: u64,
    /// What it has done.
    pub load: ServerLoad,
    /// Whether it has a data directory, which models of durability `async` and `sync` need.
    #[serde(default)]
    pub durable: bool,
    /// How far it is, while it is `recovering`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery: Option<RecoveryProgress>,
    /// Copies of partitions that are, or may still be, on it: `placed_bytes` are theirs.
    #[serde(default)]
    pub copies: u64,
    /// Partitions that it serves, and nobody else: they wait for it when it is gone.
    #[serde(default)]
    pub holds: u64,
    /// Whether it is being drained: then these copies are left to move.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain: Option<DrainState>,
    /// Where it runs.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
    /// The partitions that it is asked for most, the busiest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub busiest: Vec<PartitionLoad>,
}

/// Copies that are being sent to other servers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Transfers {
    /// Copies that move.
    pub moving: u64,
    /// Their bytes.
    pub moving_bytes: u64,
    /// Copies that are made because there are too few.
    pub learning: u64,
    /// Their bytes.
    pub learning_bytes: u64,
    /// Copies that there are too few, and that cannot be made now: the server that shall have them does not answer.
    #[serde(default)]
    pub stalled: u64,
    /// Whether more moves follow until all servers have about as much.
    pub levelling: bool,
    /// Some of the moves.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub moves: Vec<PlannedMove>,
}

/// The whole cluster at a glance: `GET /v1/status`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ClusterStatus {
    /// The cluster. None while a master that adopts what servers hold has not heard from any of them which it is.
    #[serde(default)]
    pub cluster: Option<ClusterId>,
    /// The master's term.
    pub term: Term,
    /// Version of the master's program.
    pub version: String,
    /// Servers, by name.
    pub servers: Vec<ServerSummary>,
    /// Models, by name.
    pub models: Vec<ModelSummary>,
    /// Copies that are being sent.
    #[serde(default)]
    pub transfers: Transfers,
    /// Servers that asked to be registered of late and were refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<RefusedServer>,
    /// How far the adoption is, if the master was started with `--adopt`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adoption: Option<Adoption>,
}
