//! Sections: which values of a partition are read or updated. Indices are local to the partition.

use super::header::{SectionHeader, u32_at, u64_at};
use crate::{
    element::ElementType,
    error::{ErrorBody, ErrorCode},
    frame::Op,
    rule::Rule,
};

/// Codes of the forms in a section's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum FormCode {
    /// A run of values.
    Range = 1,
    /// Single values of a vector by local index.
    Indices = 2,
    /// Whole rows of a matrix by local row.
    Rows = 3,
    /// Single values of a matrix by local row and column.
    Pairs = 4,
}

/// Local indices as they lie in a frame: 4 or 8 bytes each, in any order, duplicates allowed.
#[derive(Clone, Copy, Debug)]
pub struct Indices<'a> {
    bytes: &'a [u8],
    wide: bool,
}

impl<'a> Indices<'a> {
    /// Indices over bytes of one width: `wide` is 8 bytes each, else 4.
    pub fn new(bytes: &'a [u8], wide: bool) -> Self {
        Self { bytes, wide }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.bytes.len() / if self.wide { 8 } else { 4 }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Whether each takes 8 bytes.
    pub fn is_wide(&self) -> bool {
        self.wide
    }

    /// The bytes they lie in.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// One of them.
    ///
    /// # Panics
    /// When `at` is not below [`Self::len`].
    #[inline]
    pub fn get(&self, at: usize) -> u64 {
        if self.wide {
            u64_at(self.bytes, at * 8)
        } else {
            u32_at(self.bytes, at * 4).into()
        }
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = u64> + 'a {
        let this = *self;
        (0..this.len()).map(move |at| this.get(at))
    }

    /// The largest, if any: one pass that the compiler vectorises.
    pub fn max(&self) -> Option<u64> {
        if self.wide {
            self.bytes.chunks_exact(8).map(|b| u64_at(b, 0)).max()
        } else {
            self.bytes
                .chunks_exact(4)
                .map(|b| u32_at(b, 0))
                .max()
                .map(u64::from)
        }
    }
}

/// What a section names.
#[derive(Clone, Copy, Debug)]
pub enum Form<'a> {
    /// `count` values from `start` on; a matrix row-major, so that a range may start and end inside a row.
    Range {
        /// The first value's local index: of a matrix `row × cols + column`.
        start: u64,
    },
    /// Single values of a vector.
    Indices(Indices<'a>),
    /// Whole rows of a matrix.
    Rows {
        /// Local rows.
        rows: Indices<'a>,
        /// Columns, as the client believes.
        cols: u32,
    },
    /// Single values of a matrix: parallel lists.
    Pairs {
        /// Local rows.
        rows: Indices<'a>,
        /// Columns, 4 bytes each.
        columns: Indices<'a>,
    },
}

/// One section of a group, as it lies in a frame.
#[derive(Clone, Copy, Debug)]
pub struct Section<'a> {
    /// What it names.
    pub form: Form<'a>,
    /// How many values (range), indices, rows or pairs.
    pub count: u64,
    /// The update rule that the client believes the model to have; none in a pull.
    pub rule: Option<Rule>,
    /// The values of a push, little-endian, in the order of the indices; empty in a pull.
    pub values: &'a [u8],
}

fn bad(message: impl Into<String>) -> ErrorBody {
    ErrorBody::new(ErrorCode::Bad, message)
}

impl<'a> Section<'a> {
    /// How many values it reads or updates.
    pub fn value_count(&self) -> u64 {
        match self.form {
            Form::Rows { cols, .. } => self.count.saturating_mul(cols.into()),
            _ => self.count,
        }
    }

    /// Takes the first section off `bytes`; the rest is returned with it.
    ///
    /// # Errors
    /// `bad`, saying which length or code does not fit.
    pub fn split(
        bytes: &'a [u8],
        op: Op,
        element: ElementType,
    ) -> Result<(Self, &'a [u8]), ErrorBody> {
        let header = SectionHeader::decode(bytes).ok_or_else(|| {
            bad(format!(
                "a section's header ends after {} of {} bytes",
                bytes.len(),
                SectionHeader::SIZE
            ))
        })?;
        if header.extension != 0 {
            return Err(bad(
                "a section has an extension, which protocol version 1 does not know",
            ));
        }
        let rest = &bytes[SectionHeader::SIZE..];
        let wide = match (header.form, header.index_width) {
            (1, 0) | (2..=4, 4) => false,
            (2..=4, 8) => true,
            (form, width) => {
                return Err(bad(format!(
                    "a section of form {form} has indices of {width} bytes; use 4 or 8 (a range has 0)"
                )));
            }
        };
        let count = usize::try_from(header.count)
            .map_err(|_| bad("a section's count is larger than its bytes"))?;
        let take =
            |bytes: &'a [u8], each: usize, what: &str| -> Result<(&'a [u8], &'a [u8]), ErrorBody> {
                count
                    .checked_mul(each)
                    .and_then(|length| bytes.split_at_checked(length))
                    .ok_or_else(|| {
                        bad(format!(
                            "a section of {count} {what} ends after {} bytes of them",
                            bytes.len()
                        ))
                    })
            };
        let width = if wide { 8 } else { 4 };
        let (form, rest) = match header.form {
            1 => (
                Form::Range {
                    start: header.start,
                },
                rest,
            ),
            2 => {
                let (indices, rest) = take(rest, width, "indices")?;
                (Form::Indices(Indices::new(indices, wide)), rest)
            }
            3 => {
                let (rows, rest) = take(rest, width, "rows")?;
                (
                    Form::Rows {
                        rows: Indices::new(rows, wide),
                        cols: header.cols,
                    },
                    rest,
                )
            }
            _ => {
                let (rows, rest) = take(rest, width, "rows of pairs")?;
                let (columns, rest) = take(rest, 4, "columns of pairs")?;
                (
                    Form::Pairs {
                        rows: Indices::new(rows, wide),
                        columns: Indices::new(columns, false),
                    },
                    rest,
                )
            }
        };
        let (values, rest) = rest
            .split_at_checked(header.value_bytes as usize)
            .ok_or_else(|| {
                bad(format!(
                    "a section's {} bytes of values end after {}",
                    header.value_bytes,
                    rest.len()
                ))
            })?;
        let rule = Rule::from_code(header.rule);
        let section = Self {
            form,
            count: header.count,
            rule,
            values,
        };
        match op {
            Op::Update => {
                if rule.is_none() {
                    return Err(bad(format!(
                        "a section has update rule {}; 1 is add, 2 assign, 3 max, 4 min",
                        header.rule
                    )));
                }
                let needed = u128::from(section.value_count()) * element.size() as u128;
                if needed != values.len() as u128 {
                    return Err(bad(format!(
                        "a section names {} values of {element}, that is {needed} bytes, and brings {}; make them equal",
                        section.value_count(),
                        values.len()
                    )));
                }
            }
            Op::Pull | Op::Skip => {
                if header.rule != 0 || !values.is_empty() {
                    return Err(bad(
                        "a section of a pull brings values or an update rule; only a push does",
                    ));
                }
            }
        }
        Ok((section, rest))
    }
}
