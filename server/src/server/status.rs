//! What a server holds and has done: `GET /v1/status`.

use std::sync::atomic::Ordering;

use glint_protocol::{
    Boot, ClusterId, Epoch, Incarnation, Position, ServerId, Term, control::ServerLoad,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::state::State;

/// A server at a glance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ServerStatus {
    /// Its name.
    pub id: ServerId,
    /// This start of its process.
    pub boot: Boot,
    /// The cluster it belongs to; none before it has registered.
    pub cluster: Option<ClusterId>,
    /// The highest term of the master that it has heard.
    pub term: Term,
    /// Whether it has registered since its start.
    pub registered: bool,
    /// Version of its program.
    pub version: String,
    /// Bytes of values that it may hold.
    pub capacity_bytes: u64,
    /// What it has done.
    pub load: ServerLoad,
    /// What it holds.
    pub models: Vec<HeldModel>,
}

/// A model of which a server holds partitions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HeldModel {
    /// Its name.
    pub name: String,
    /// Which model.
    pub incarnation: Incarnation,
    /// Its partitions here.
    pub partitions: Vec<HeldCopy>,
}

/// A partition that a server holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HeldCopy {
    /// The partition.
    pub partition: u32,
    /// The epoch at which it is served.
    pub epoch: Epoch,
    /// How many records it has applied.
    pub position: Position,
    /// Lanes in its ledger.
    pub ledger_entries: u64,
    /// Bytes of its values.
    pub bytes: u64,
    /// Whether its values are lost.
    pub lost: bool,
    /// Groups of pulls and pushes of it since it is here.
    pub requests: u64,
    /// Bytes of them, in both directions.
    pub request_bytes: u64,
}

pub(super) fn status(state: &State) -> ServerStatus {
    let models = state.models.load();
    let heard = *state.heard();
    ServerStatus {
        id: state.id.clone(),
        boot: state.boot,
        cluster: heard.cluster,
        term: heard.term,
        registered: state.is_registered(),
        version: env!("CARGO_PKG_VERSION").into(),
        capacity_bytes: state.capacity_bytes,
        load: state.load(),
        models: models
            .by_incarnation
            .iter()
            .map(|(&incarnation, model)| HeldModel {
                name: model.spec.name.clone(),
                incarnation,
                partitions: model
                    .slots
                    .iter()
                    .flatten()
                    .map(|slot| {
                        let (requests, request_bytes) = slot.traffic.read();
                        let partition = slot.lock();
                        HeldCopy {
                            partition: slot.description.partition,
                            epoch: partition.epoch(),
                            position: partition.position(),
                            ledger_entries: slot.entries.load(Ordering::Relaxed),
                            bytes: partition.values().bytes() as u64,
                            lost: partition.loss().is_some(),
                            requests,
                            request_bytes,
                        }
                    })
                    .collect(),
            })
            .collect(),
    }
}
