//! What only admins ask of a master: to reset a model, to forget a server, to end an adoption. In JSON, as everything in
//! [`crate::control`].

use serde::{Deserialize, Serialize};

use crate::{
    error::ErrorBody,
    ids::{Incarnation, ModelId, RequestId, ServerId},
};

/// An admin to the master: `POST /v1/models/{name}/reset`. All values of the model become its initial value again, as a
/// new generation. The answer is the model's new map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ResetModel {
    /// Chosen at random, the same in every copy of this request: a repeated request does not reset again.
    pub id: RequestId,
    /// Reset it only if it still is this model.
    #[serde(default)]
    pub model: Option<ModelId>,
}

/// An admin to the master: `POST /v1/servers/forget`. The answer is `{}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ForgetServer {
    /// Its name.
    pub server: ServerId,
    /// It is gone for good, whatever it holds: its partitions are lost from now on, and this start of it never comes back.
    #[serde(default)]
    pub dead: bool,
}

/// Whether a server that is to be emptied is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum DrainState {
    /// Copies are left on it.
    Draining,
    /// It has nothing any more, and gets nothing: it may go.
    Drained,
}

/// What is left on a server: the answer to `POST` and `DELETE /v1/servers/{name}/drain`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Draining {
    /// Its name.
    pub server: ServerId,
    /// Whether it is being drained, and whether it is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<DrainState>,
    /// Copies of partitions on it.
    pub copies: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Partitions that it holds and whose values are lost: nothing of them can be moved, and another server says so instead.
    pub lost: u64,
}

/// An admin to the master: `POST /v1/models/{name}/partitions/{partition}/move`. The answer is the [`PlannedMove`] that has
/// begun.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct MoveCopy {
    /// Who has the copy that is to go; the holder, if nobody is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<ServerId>,
    /// Who shall have it.
    pub to: ServerId,
}

/// An admin to the master: `POST /v1/servers/drain`. All of them are emptied, or none; the answer is one [`Draining`] each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DrainServers {
    /// Their names, at most 10 000.
    pub servers: Vec<ServerId>,
}

/// A copy that goes to another server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PlannedMove {
    /// Name of the model.
    pub model: String,
    /// The partition.
    pub partition: u32,
    /// Who has the copy.
    pub from: ServerId,
    /// Who shall have it.
    pub to: ServerId,
    /// Bytes of its values.
    pub bytes: u64,
}

/// The moves that give all servers about as much to keep, and to serve: the answer to `POST /v1/rebalance`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RebalancePlan {
    /// Whether it was only asked for, and nothing moves.
    pub dry_run: bool,
    /// How many moves there are.
    pub count: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Partitions that another of their copies holds then; no bytes move for that.
    #[serde(default)]
    pub promotions: u64,
    /// The first of the moves, at most 10 000.
    pub moves: Vec<PlannedMove>,
}

/// Where the copies of a model are: the answer to `GET /v1/models/{name}/copies`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ModelCopies {
    /// Name of the model.
    pub name: String,
    /// Which model.
    pub incarnation: Incarnation,
    /// How many copies each partition shall have.
    pub wanted: u8,
    /// Its partitions, in order.
    pub partitions: Vec<PartitionCopies>,
}

/// Where the copies of one partition are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PartitionCopies {
    /// Who serves it.
    pub holder: ServerId,
    /// Who else has everything that was acknowledged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub in_sync: Vec<ServerId>,
    /// Who is being sent what it lacks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub learning: Vec<ServerId>,
    /// Who is to drop its copy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub leaving: Vec<ServerId>,
    /// Whose copy goes once one that is learning has come in its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moving_from: Option<ServerId>,
    /// Nobody serves it until a server with a copy that is in sync is back.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub waiting: bool,
    /// Its values are lost.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub lost: bool,
}

/// A server that asked to be registered and was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RefusedServer {
    /// Its name.
    pub server: ServerId,
    /// Where it says that it answers.
    pub url: String,
    /// Why it was refused, and what to do.
    pub error: ErrorBody,
    /// Milliseconds since it asked last.
    pub ago_ms: u64,
}

/// How far a master is that lost its state and rebuilds it from what servers report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Adoption {
    /// Whether a server with partitions has said which cluster this is.
    pub cluster_known: bool,
    /// Servers that have come, and know that this is their master: what they report counts.
    pub servers: Vec<ServerId>,
    /// Models that were reported, by name; several of one name when servers disagree.
    pub models: Vec<AdoptedModel>,
    /// What was reported and is not taken, with the reason; servers keep it.
    pub orphans: Vec<String>,
}

/// What is to become of partitions whose copies are not known to have everything, when an adoption ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Uncertain {
    /// The adoption does not end.
    #[default]
    Refuse,
    /// The copy with the latest record is taken: it has everything if all servers have come that had a copy in sync.
    Take,
    /// They are lost.
    Lose,
}

/// One model of an [`Adoption`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AdoptedModel {
    /// Its name.
    pub name: String,
    /// Which model.
    pub incarnation: Incarnation,
    /// Partitions that it has.
    pub partitions: u32,
    /// Partitions of which a copy was found that has everything acknowledged, for certain.
    pub found: u32,
    /// Partitions of which copies were found, none of which is known to have everything.
    #[serde(default)]
    pub uncertain: u32,
    /// Whether it serves: as soon as all its partitions are found.
    pub live: bool,
}
