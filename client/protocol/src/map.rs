//! The partition map: per partition of a model, which server holds it and at which epoch.

use serde::{Deserialize, Serialize};

use crate::{
    ids::{ClusterId, Epoch, Incarnation, Revision, ServerId},
    spec::ModelSpec,
};

/// A server and where it answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ServerAddress {
    /// Its name.
    pub id: ServerId,
    /// Its URL, such as `http://10.0.0.7:7200`.
    pub url: String,
}

/// The master's answer to a client that opens a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ModelMap {
    /// The cluster; a client that has seen another one refuses.
    pub cluster: ClusterId,
    /// What the model is.
    pub spec: ModelSpec,
    /// Which model of that name, and its generation.
    pub incarnation: Incarnation,
    /// Rises at every change of this map. Clients keep the map with the highest epoch per partition, then revision.
    pub revision: Revision,
    /// The longest deadline an operation of this cluster may have, in milliseconds.
    pub max_deadline_ms: u64,
    /// The servers that have copies of partitions of it.
    pub servers: Vec<ServerAddress>,
    /// Per partition: its holder, as an index into `servers`.
    pub holders: Vec<u32>,
    /// Per partition: its epoch.
    pub epochs: Vec<Epoch>,
    /// Per partition: the other copies that are in sync, as indices into `servers`. They answer pulls that do not ask for the
    /// latest values. Empty when no partition has any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub followers: Vec<Vec<u32>>,
    /// Partitions whose values are lost: they serve again after a reset or a restore only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lost: Vec<u32>,
}

impl ModelMap {
    /// Holder and epoch of a partition; none when the map has no such partition or contradicts itself.
    pub fn holder(&self, partition: u32) -> Option<(&ServerAddress, Epoch)> {
        let server = *self.holders.get(partition as usize)?;
        Some((
            self.servers.get(server as usize)?,
            *self.epochs.get(partition as usize)?,
        ))
    }

    /// Whether lists and counts agree; a map that does not is not used.
    pub fn is_consistent(&self) -> bool {
        let count = self.spec.partition_count as usize;
        let mut copies = self.holders.iter().chain(self.followers.iter().flatten());
        self.holders.len() == count
            && self.epochs.len() == count
            && (self.followers.is_empty() || self.followers.len() == count)
            && copies.all(|&server| (server as usize) < self.servers.len())
            && self.lost.iter().all(|&p| (p as usize) < count)
    }
}
