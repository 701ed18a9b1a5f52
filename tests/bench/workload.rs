//! What is measured: the workloads, and how large they are.

use serde::{Deserialize, Serialize};

/// One workload, run by one worker in a process of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Workload {
    /// Pull and push of the range `0..values` of the vector.
    Dense { values: u64, repetitions: u32 },
    /// Pull and push of `keys` distinct random sorted keys of the vector, the same each time.
    Sparse { keys: u64, repetitions: u32 },
    /// Pull and push of `rows` distinct random sorted rows of the matrix.
    Rows { rows: u64, repetitions: u32 },
    /// Pulls, then pushes, of one random key of the vector each, `in_flight` at once.
    Small {
        in_flight: u32,
        requests: u32,
        sending: Sending,
    },
}

/// How the client sends small operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Sending {
    /// As the client does unless told otherwise: what queues behind a request is sent together.
    Coalesced,
    /// Each operation in a request of its own, over the client's usual connections.
    Single,
    /// Each in a request of its own, with as many connections and lanes as operations in flight.
    SingleWide,
}

/// How large everything is.
#[derive(Clone, Debug)]
pub(crate) struct Sizes {
    /// Values of the vector.
    pub(crate) vector: u64,
    /// Rows of the matrix, which has [`COLUMNS`] columns.
    pub(crate) rows: u64,
    /// In the order in which they run.
    pub(crate) workloads: Vec<Workload>,
}

/// Columns of the matrix.
pub(crate) const COLUMNS: u32 = 64;
/// The vector's name.
pub(crate) const VECTOR: &str = "bench-vector";
/// The matrix's name.
pub(crate) const MATRIX: &str = "bench-matrix";

/// A count in words: 1 Mi, 10k.
fn count(n: u64) -> String {
    for (unit, name) in [
        (1 << 20, " Mi"),
        (1 << 10, " Ki"),
        (1_000_000, "M"),
        (1000, "k"),
    ] {
        if n >= unit && n.is_multiple_of(unit) {
            return format!("{}{name}", n / unit);
        }
    }
    n.to_string()
}

impl Workload {
    /// Its name, without the direction.
    pub(crate) fn name(&self) -> String {
        match *self {
            Self::Dense { values, .. } => format!("dense {}", count(values)),
            Self::Sparse { keys, .. } => format!("sparse {}", count(keys)),
            Self::Rows { rows, .. } => format!("rows {}×{COLUMNS}", count(rows)),
            Self::Small {
                in_flight, sending, ..
            } => {
                let sending = match sending {
                    Sending::Coalesced if in_flight == 1 => "",
                    Sending::Coalesced => " coalesced",
                    Sending::Single => " single",
                    Sending::SingleWide => " single, 64 connections",
                };
                format!("small k=1 q={in_flight}{sending}")
            }
        }
    }

    /// Bytes of keys (rows) and values that one operation moves, both directions together; keys take 4 bytes.
    pub(crate) fn bytes(&self) -> u64 {
        match *self {
            Self::Dense { values, .. } => values * 4,
            Self::Sparse { keys, .. } => keys * 8,
            Self::Rows { rows, .. } => rows * (4 + u64::from(COLUMNS) * 4),
            Self::Small { .. } => 8,
        }
    }

    /// Whether each of its operations is a request of its own, though many are in flight.
    pub(crate) fn is_single(&self) -> bool {
        matches!(
            self,
            Self::Small {
                sending: Sending::Single | Sending::SingleWide,
                ..
            }
        )
    }

    /// Whether it works on the matrix; the others on the vector.
    pub(crate) fn on_matrix(&self) -> bool {
        matches!(self, Self::Rows { .. })
    }
}

impl Sizes {
    /// The real ones, or with `quick` small ones that only show that everything runs.
    pub(crate) fn new(quick: bool) -> Self {
        let small = |in_flight, sending| Workload::Small {
            in_flight,
            requests: match (in_flight, quick) {
                (1, false) => 4000,
                (_, false) => 25_000,
                (1, true) => 400,
                (_, true) => 2500,
            },
            sending,
        };
        let dense = |values, repetitions| Workload::Dense {
            values,
            repetitions,
        };
        let sparse = |keys, repetitions| Workload::Sparse { keys, repetitions };
        let mut workloads = if quick {
            vec![
                dense(1 << 16, 5),
                dense(1 << 20, 5),
                sparse(1000, 5),
                sparse(100_000, 5),
                Workload::Rows {
                    rows: 1000,
                    repetitions: 5,
                },
            ]
        } else {
            vec![
                dense(1 << 20, 41),
                dense(1 << 24, 9),
                sparse(10_000, 41),
                sparse(100_000, 41),
                sparse(1_000_000, 11),
                Workload::Rows {
                    rows: 10_000,
                    repetitions: 41,
                },
            ]
        };
        workloads.extend([
            small(1, Sending::Coalesced),
            small(64, Sending::Coalesced),
            small(64, Sending::Single),
            small(64, Sending::SingleWide),
        ]);
        Self {
            vector: if quick { 4_000_000 } else { 100_000_000 },
            rows: if quick { 62_500 } else { 1_562_500 },
            workloads,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workloads_are_named_as_people_say_them() {
        let names: Vec<String> = Sizes::new(false)
            .workloads
            .iter()
            .map(Workload::name)
            .collect();
        assert_eq!(
            names[..7],
            [
                "dense 1 Mi",
                "dense 16 Mi",
                "sparse 10k",
                "sparse 100k",
                "sparse 1M",
                "rows 10k×64",
                "small k=1 q=1"
            ]
        );
    }
}
