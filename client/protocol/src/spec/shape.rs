//! Vector or matrix, and how large.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Vector or matrix, and how large.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Shape {
    /// A vector with keys `0..keys`.
    Vector {
        /// How many keys.
        keys: u64,
    },
    /// A matrix of rows `0..rows` and columns `0..cols`; a partition holds whole rows, row-major.
    Matrix {
        /// How many rows.
        rows: u64,
        /// How many columns.
        cols: u32,
    },
}

impl Shape {
    /// Keys by which the model is partitioned: a vector's keys, a matrix's rows.
    pub const fn keys(self) -> u64 {
        match self {
            Self::Vector { keys } => keys,
            Self::Matrix { rows, .. } => rows,
        }
    }

    /// Values per key: 1 for a vector, the columns of a matrix.
    pub const fn cols(self) -> u32 {
        match self {
            Self::Vector { .. } => 1,
            Self::Matrix { cols, .. } => cols,
        }
    }

    /// Whether it is a matrix.
    pub const fn is_matrix(self) -> bool {
        matches!(self, Self::Matrix { .. })
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vector { keys } => write!(f, "vector of {keys}"),
            Self::Matrix { rows, cols } => write!(f, "matrix of {rows} x {cols}"),
        }
    }
}
