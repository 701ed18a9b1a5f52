//! How keys are spread over partitions, and over how many.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::MAX_PARTITIONS;

/// How keys are spread over partitions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Partitioning {
    /// Runs of neighbouring keys, of equal length (the last ones a key longer where it does not divide).
    #[default]
    Range,
    /// Key `k` in partition `k mod P`: spreads neighbours, such as frequent words with small ids.
    Cyclic,
    /// Runs of neighbouring keys of your own choice.
    Boundaries {
        /// First key of each partition: starts with 0, never falls.
        starts: Vec<u64>,
    },
    /// A partitioner of your own, registered in every client under this name.
    Named {
        /// The name.
        name: String,
        /// How many keys each partition holds; their sum is the model's keys.
        sizes: Vec<u64>,
    },
}

impl Partitioning {
    /// Its name, for people.
    pub fn name(&self) -> &str {
        match self {
            Self::Range => "range",
            Self::Cyclic => "cyclic",
            Self::Boundaries { .. } => "boundaries",
            Self::Named { name, .. } => name,
        }
    }
}

/// How many partitions a model shall have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Partitions {
    /// By size: one per MiB up to 64, then one per 4 MiB but at least 64, at most 65 536 and one per key.
    #[default]
    Auto,
    /// This many (at most one per key).
    Exactly(u32),
    /// This many per server that is registered at creation (at most one per key).
    PerServer(u32),
}

impl Partitions {
    /// The count for a model of `keys` keys and `bytes` bytes on `servers` servers; at least 1.
    pub fn resolve(self, keys: u64, bytes: u64, servers: u32) -> u32 {
        const MIB: u64 = 1 << 20;
        let wanted = match self {
            Self::Auto => {
                let by_mib = bytes.div_ceil(MIB);
                if by_mib <= 64 {
                    by_mib
                } else {
                    bytes.div_ceil(4 * MIB).max(64)
                }
            }
            Self::Exactly(count) => count.into(),
            Self::PerServer(count) => u64::from(count) * u64::from(servers),
        };
        wanted.min(MAX_PARTITIONS.into()).min(keys).max(1) as u32
    }
}

impl fmt::Display for Partitions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Exactly(count) => write!(f, "{count}"),
            Self::PerServer(count) => write!(f, "{count} per server"),
        }
    }
}
