//! How models and servers behave: what a model gets by default, and what a server does when it stops.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a model gets when the client that makes it does not say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
pub struct ModelDefaults {
    /// What an acknowledged push survives: `memory` while one in-sync copy lives; `async` a crash of the process, and of
    /// the machine but for the last moments; `sync` everything. The last two need storage.
    #[serde(default)]
    pub durability: Durability,

    /// On how many servers each partition is kept, 1 to 3. With 2 or 3 another server takes over when one is lost.
    #[serde(default = "one")]
    #[x_kube(validation = Rule::new("self >= 1 && self <= 3")
        .message("keep 1, 2 or 3 copies of each partition"))]
    pub copies: i32,
}

const fn one() -> i32 {
    1
}

impl Default for ModelDefaults {
    fn default() -> Self {
        Self {
            durability: Durability::default(),
            copies: one(),
        }
    }
}

/// What an acknowledged push survives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// It lives as long as the process of one in-sync copy.
    #[default]
    Memory,
    /// It survives a crash of the process; a crash of the machine may take the last moments.
    Async,
    /// It is on the disk before it is acknowledged.
    Sync,
}

/// What a server does with the partitions it holds when it is told to stop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnShutdown {
    /// Moves them to other servers.
    #[default]
    Drain,
    /// Writes them to its volume.
    Flush,
    /// Leaves at once.
    None,
}

/// How a change of the pods reaches the servers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Rollout {
    /// A server's partitions are moved away before it stops.
    #[default]
    Drain,
    /// A server stops and comes back with its volume, or its copies take over.
    Restart,
}
