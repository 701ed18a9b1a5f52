//! Update rules: how a push is merged into the values that are there.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How a pushed value `u` is merged into the value `v` that is there. Fixed for the life of a model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Rule {
    /// `v + u`: integers wrap around, floats round once, in the order of arrival at the partition.
    #[default]
    Add = 1,
    /// `u`: of duplicate keys in one push the last wins.
    Assign = 2,
    /// The greater; for floats a NaN wins and +0 is above −0.
    Max = 3,
    /// The lesser; for floats a NaN wins and −0 is below +0.
    Min = 4,
}

impl Rule {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Add, Self::Assign, Self::Max, Self::Min];

    /// The rule with this code in a frame.
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Add),
            2 => Some(Self::Assign),
            3 => Some(Self::Max),
            4 => Some(Self::Min),
            _ => None,
        }
    }

    /// Its code in a frame.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// Its name: `add`, `assign`, `max`, `min`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Add => "add",
            Self::Assign => "assign",
            Self::Max => "max",
            Self::Min => "min",
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for Rule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|r| r.name() == text)
            .ok_or_else(|| format!("'{text}' is not an update rule: use add, assign, max or min"))
    }
}
