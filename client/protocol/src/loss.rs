//! Why the values of a partition are lost: found by the master when a server registers, told to servers, shown to people.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::ServerId;

/// Why the values of a partition are lost. Its text goes on after "the values are lost: ".
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum LossReason {
    /// A `memory` model whose server's process started again.
    Restarted,
    /// The server has its data directory and this partition is not in it whole, or has lost acknowledged updates.
    Missing,
    /// The server came back with a data directory on which nothing had ever started.
    Emptied,
    /// The server came back with the data directory of something else.
    OtherVolume,
    /// The server came back with an older copy of its data directory.
    OlderVolume,
    /// An admin said that the server is gone for good.
    ServerDead,
    /// The master was rebuilt from what servers reported, and none reported this partition.
    NotFound,
}

impl LossReason {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Restarted,
        Self::Missing,
        Self::Emptied,
        Self::OtherVolume,
        Self::OlderVolume,
        Self::ServerDead,
        Self::NotFound,
    ];
}

impl fmt::Display for LossReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Restarted => {
                "its server started again, which durability `memory` does not survive"
            }
            Self::Missing => "its server found them damaged or incomplete, and its log says where",
            Self::Emptied => "its server came back with an emptied data directory",
            Self::OtherVolume => "its server came back with another data directory",
            Self::OlderVolume => "its server came back with an older copy of its data directory",
            Self::ServerDead => "an admin said that the server that held them is dead",
            Self::NotFound => "no server reported it to the rebuilt master",
        })
    }
}

/// Partitions of one model that were lost on one server for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LossSummary {
    /// The server that is to hold them.
    pub server: ServerId,
    /// Why they are lost.
    pub reason: LossReason,
    /// How many.
    pub partitions: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_name_and_a_text_of_its_own() {
        let mut seen = std::collections::BTreeSet::new();
        for reason in LossReason::ALL {
            let name = serde_json::to_string(&reason).unwrap();
            assert_eq!(serde_json::from_str::<LossReason>(&name).unwrap(), reason);
            assert!(seen.insert(name) && seen.insert(reason.to_string()));
        }
    }
}
