//! What can be found to be wrong, and what is counted.

use std::fmt;

/// What was found to be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// What was acknowledged is gone.
    Lost,
    /// A push is in more than once.
    Doubled,
    /// Something else is not as promised.
    Other,
}

/// What was found to be wrong, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// What kind of thing.
    pub wrong: Wrong,
    /// What exactly.
    pub text: String,
}

/// How the operations of a schedule ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Pushes and pulls that were begun.
    pub operations: u64,
    /// Pushes that were acknowledged.
    pub acknowledged: u64,
    /// Pushes that ended with an error, certainly not applied.
    pub refused: u64,
    /// Pushes of which the caller does not know.
    pub unknown: u64,
    /// Pulls that were answered.
    pub pulled: u64,
    /// Cells whose sums are rounded that had the bits which those of the same pushes in the same order have.
    pub rounded: u64,
    /// Operations that met lost values.
    pub lost: u64,
    /// Times that clients were told of acknowledged pushes to `async` models which are gone.
    pub forgotten: u64,
}

/// Something that is wrong.
pub(super) fn violation(wrong: Wrong, text: impl fmt::Display) -> Violation {
    Violation {
        wrong,
        text: text.to_string(),
    }
}
