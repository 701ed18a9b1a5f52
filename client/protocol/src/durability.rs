//! What an acknowledged push survives.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// What an acknowledged push of a model survives.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// It lives as long as the process that has it in memory.
    #[default]
    Memory,
    /// It survives the end of the process, however it comes; a crash of the machine may take the last moments.
    Async,
    /// It is on the disk before it is acknowledged.
    Sync,
}

impl Durability {
    /// All of them, weakest first.
    pub const ALL: [Self; 3] = [Self::Memory, Self::Async, Self::Sync];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Async => "async",
            Self::Sync => "sync",
        }
    }

    /// Whether its partitions have a log: the holder needs a data directory.
    pub const fn is_logged(self) -> bool {
        !matches!(self, Self::Memory)
    }
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Durability {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|durability| durability.name() == text)
            .ok_or_else(|| format!("'{text}' is no durability: choose memory, async or sync"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_same_in_text_and_json_and_another_is_refused_with_the_choice() {
        for durability in Durability::ALL {
            assert_eq!(durability.name().parse(), Ok(durability));
            let json = serde_json::to_string(&durability).unwrap();
            assert_eq!(json, format!("\"{durability}\""));
        }
        let error = "disk".parse::<Durability>().unwrap_err();
        assert!(error.contains("memory, async or sync"), "{error}");
    }
}
