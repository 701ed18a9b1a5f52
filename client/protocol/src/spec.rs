//! What a model is: its shape, element type, partitioning, initial value and update rule.

mod partitions;
mod shape;

use serde::{Deserialize, Serialize};

use crate::{
    durability::Durability,
    element::{ElementType, Scalar},
    error::{Difference, ErrorBody, ErrorCode},
    rule::Rule,
};

pub use partitions::{Partitioning, Partitions};
pub use shape::Shape;

/// The longest name of a model, in bytes.
pub const MAX_NAME_BYTES: usize = 128;
/// The most copies that a partition may have.
pub const MAX_COPIES: u8 = 3;
/// The most partitions a model may have.
pub const MAX_PARTITIONS: u32 = 65_536;

/// What a model shall be: the request to make one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ModelDraft {
    /// 1 to 128 of the characters `a-z A-Z 0-9 . _ -`, not starting with `.` or `-`.
    pub name: String,
    /// Vector or matrix, and how large.
    pub shape: Shape,
    /// Type of its values.
    pub element: ElementType,
    /// How keys are spread; `range` when left out.
    #[serde(default)]
    pub partitioning: Partitioning,
    /// How many partitions; by size when left out.
    #[serde(default)]
    pub partitions: Partitions,
    /// Every value at the start; 0 when left out.
    #[serde(default)]
    pub initial: Scalar,
    /// How pushes are merged; `add` when left out.
    #[serde(default)]
    pub rule: Rule,
    /// What an acknowledged push survives; as the cluster has it when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub durability: Option<Durability>,
    /// How many copies of each partition there shall be, 1 to 3, on different servers; as the cluster has it when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copies: Option<u8>,
    /// How many of them must be in sync for a push to be taken; 1 when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_in_sync: Option<u8>,
}

/// What a model is, fixed for its life.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ModelSpec {
    /// What was asked for.
    #[serde(flatten)]
    pub draft: ModelDraft,
    /// How many partitions it has.
    pub partition_count: u32,
}

impl ModelSpec {
    /// What an acknowledged push of it survives.
    pub fn durability(&self) -> Durability {
        self.draft.durability.unwrap_or_default()
    }

    /// How many copies of each partition there shall be.
    pub fn copies(&self) -> u8 {
        self.draft.copies.unwrap_or(1)
    }

    /// How many copies must be in sync for a push to be taken.
    pub fn min_in_sync(&self) -> u8 {
        self.draft.min_in_sync.unwrap_or(1)
    }

    /// Whether it is one that partitions can be made of: the arithmetic of layouts relies on it.
    ///
    /// # Errors
    /// `invalid_spec`, saying what is wrong.
    pub fn check(&self) -> Result<(), ErrorBody> {
        self.validate()?;
        let given = match &self.partitioning {
            Partitioning::Range | Partitioning::Cyclic => self.partition_count as usize,
            Partitioning::Boundaries { starts } => starts.len(),
            Partitioning::Named { sizes, .. } => sizes.len(),
        };
        if self.partition_count == 0
            || self.partition_count > MAX_PARTITIONS
            || given != self.partition_count as usize
        {
            return Err(invalid(format!(
                "model '{}' cannot have {} partitions",
                self.name, self.partition_count
            )));
        }
        Ok(())
    }
}

impl std::ops::Deref for ModelSpec {
    type Target = ModelDraft;

    fn deref(&self) -> &ModelDraft {
        &self.draft
    }
}

fn invalid(message: impl Into<String>) -> ErrorBody {
    ErrorBody::new(ErrorCode::InvalidSpec, message)
}

/// Whether `name` may be the name of a model.
pub fn check_name(name: &str) -> Result<(), ErrorBody> {
    let ok = !name.is_empty()
        && name.len() <= MAX_NAME_BYTES
        && !name.starts_with(['.', '-'])
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
    if ok {
        return Ok(());
    }
    Err(invalid(format!(
        "'{}' cannot name a model: use 1 to {MAX_NAME_BYTES} of the characters a-z A-Z 0-9 . _ -, not starting with . or -",
        name.chars().take(160).collect::<String>()
    )))
}

impl ModelDraft {
    /// A draft with the defaults: range partitioning, partitions by size, initial value 0, rule add.
    pub fn new(name: impl Into<String>, shape: Shape, element: ElementType) -> Self {
        Self {
            name: name.into(),
            shape,
            element,
            partitioning: Partitioning::default(),
            partitions: Partitions::default(),
            initial: Scalar::default(),
            rule: Rule::default(),
            durability: None,
            copies: None,
            min_in_sync: None,
        }
    }

    /// Bytes of all its values; none when that is more than 2^63 − 1.
    pub fn bytes(&self) -> Option<u64> {
        let bytes = u128::from(self.shape.keys())
            * u128::from(self.shape.cols())
            * self.element.size() as u128;
        u64::try_from(bytes)
            .ok()
            .filter(|&b| i64::try_from(b).is_ok())
    }

    /// Checks everything that can be checked without a cluster.
    pub fn validate(&self) -> Result<(), ErrorBody> {
        check_name(&self.name)?;
        if self.shape.cols() == 0 {
            return Err(invalid(format!(
                "model '{}': a matrix needs at least one column",
                self.name
            )));
        }
        if self.bytes().is_none() {
            return Err(invalid(format!(
                "model '{}': a {} of {} is larger than any machine can address; give smaller sizes",
                self.name, self.shape, self.element
            )));
        }
        if !self.initial.fits(self.element) {
            return Err(invalid(format!(
                "model '{}': the initial value {} is no {}; give one that fits the element type",
                self.name, self.initial, self.element
            )));
        }
        let copies = self.copies.unwrap_or(1);
        if !(1..=MAX_COPIES).contains(&copies) {
            return Err(invalid(format!(
                "model '{}': {copies} copies of each partition cannot be had; give 1 to {MAX_COPIES}",
                self.name
            )));
        }
        let needed = self.min_in_sync.unwrap_or(1);
        if !(1..=MAX_COPIES).contains(&needed) || self.copies.is_some() && needed > copies {
            return Err(invalid(format!(
                "model '{}': {needed} of {copies} copies cannot be in sync; give 1 to {copies} as minInSync, or more copies",
                self.name
            )));
        }
        match self.partitions {
            Partitions::Exactly(0) | Partitions::PerServer(0) => {
                return Err(invalid(format!(
                    "model '{}': give at least 1 partition",
                    self.name
                )));
            }
            Partitions::Exactly(count) if count > MAX_PARTITIONS => {
                return Err(invalid(format!(
                    "model '{}': {count} partitions are more than {MAX_PARTITIONS}; give fewer",
                    self.name
                )));
            }
            _ => {}
        }
        self.validate_partitioning()
    }

    fn validate_partitioning(&self) -> Result<(), ErrorBody> {
        let keys = self.shape.keys();
        let given = match &self.partitioning {
            Partitioning::Range | Partitioning::Cyclic => return Ok(()),
            Partitioning::Boundaries { starts } => {
                let rising = starts.windows(2).all(|pair| pair[0] <= pair[1]);
                if starts.first() != Some(&0)
                    || !rising
                    || starts.last().is_some_and(|&last| last > keys)
                {
                    return Err(invalid(format!(
                        "model '{}': boundaries are the first key of each partition: start with 0, never fall, end at most at {keys}",
                        self.name
                    )));
                }
                starts.len()
            }
            Partitioning::Named { name, sizes } => {
                check_name(name)?;
                let sum: u128 = sizes.iter().map(|&s| u128::from(s)).sum();
                if sizes.is_empty() || sum != u128::from(keys) {
                    return Err(invalid(format!(
                        "model '{}': the sizes of partitioner '{name}' add up to {sum}, the model has {keys} keys; make them equal",
                        self.name
                    )));
                }
                sizes.len()
            }
        };
        if given > MAX_PARTITIONS as usize {
            return Err(invalid(format!(
                "model '{}': {given} partitions are more than {MAX_PARTITIONS}; give fewer",
                self.name
            )));
        }
        match self.partitions {
            Partitions::Auto => Ok(()),
            Partitions::Exactly(count) if count as usize == given => Ok(()),
            other => Err(invalid(format!(
                "model '{}': {other} partitions were asked for, its partitioning has {given}; leave the count out",
                self.name
            ))),
        }
    }

    /// The spec of a model made from this draft now, on `servers` servers.
    ///
    /// Where the draft says nothing of durability, `memory` is meant: who knows the cluster's default puts it in before.
    pub fn resolve(self, servers: u32) -> Result<ModelSpec, ErrorBody> {
        self.validate()?;
        let partition_count = match &self.partitioning {
            Partitioning::Boundaries { starts } => starts.len() as u32,
            Partitioning::Named { sizes, .. } => sizes.len() as u32,
            Partitioning::Range | Partitioning::Cyclic => self.partitions.resolve(
                self.shape.keys(),
                self.bytes().unwrap_or(u64::MAX),
                servers,
            ),
        };
        let durability = Some(self.durability.unwrap_or_default());
        let copies = Some(self.copies.unwrap_or(1));
        let min_in_sync = Some(self.min_in_sync.unwrap_or(1));
        Ok(ModelSpec {
            draft: Self {
                durability,
                copies,
                min_in_sync,
                ..self
            },
            partition_count,
        })
    }

    /// Where the model `has` differs from this draft; what the draft leaves to the cluster never differs.
    pub fn differences(&self, has: &ModelSpec) -> Vec<Difference> {
        let mut differences = Vec::new();
        let mut compare = |field: &str, same: bool, asked: String, has: String| {
            if !same {
                differences.push(Difference {
                    field: field.into(),
                    asked,
                    has,
                });
            }
        };
        compare(
            "shape",
            self.shape == has.shape,
            self.shape.to_string(),
            has.shape.to_string(),
        );
        compare(
            "element",
            self.element == has.element,
            self.element.to_string(),
            has.element.to_string(),
        );
        compare(
            "rule",
            self.rule == has.rule,
            self.rule.to_string(),
            has.rule.to_string(),
        );
        compare(
            "initial",
            self.initial == has.initial,
            self.initial.to_string(),
            has.initial.to_string(),
        );
        let durability = self.durability.unwrap_or_else(|| has.durability());
        compare(
            "durability",
            durability == has.durability(),
            durability.to_string(),
            has.durability().to_string(),
        );
        for (field, asked, has) in [
            ("copies", self.copies, has.copies()),
            ("min_in_sync", self.min_in_sync, has.min_in_sync()),
        ] {
            let asked = asked.unwrap_or(has);
            compare(field, asked == has, asked.to_string(), has.to_string());
        }
        let (asked, present) = (&self.partitioning, &has.partitioning);
        compare(
            "partitioning",
            asked == present,
            format!("{asked:?}").to_lowercase(),
            format!("{present:?}").to_lowercase(),
        );
        let same = match self.partitions {
            Partitions::Auto => true,
            Partitions::Exactly(count) => {
                u64::from(has.partition_count) == u64::from(count).min(has.shape.keys()).max(1)
            }
            Partitions::PerServer(_) => self.partitions == has.partitions,
        };
        compare(
            "partitions",
            same,
            self.partitions.to_string(),
            format!("{} ({})", has.partition_count, has.partitions),
        );
        differences
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vector(keys: u64) -> ModelDraft {
        ModelDraft::new("w", Shape::Vector { keys }, ElementType::F32)
    }

    #[test]
    fn partitions_follow_the_size_unless_told() {
        const MIB: u64 = 1 << 20;
        for (partitions, keys, bytes, servers, expected) in [
            (Partitions::Auto, 1000, 4000, 3, 1),
            (Partitions::Auto, 1 << 40, 64 * MIB, 3, 64),
            (Partitions::Auto, 1 << 40, 65 * MIB, 3, 64),
            (Partitions::Auto, 1 << 40, 400 * MIB, 3, 100),
            (Partitions::Auto, 1 << 50, 1 << 50, 3, MAX_PARTITIONS),
            (Partitions::Auto, 2, 400 * MIB, 3, 2),
            (Partitions::PerServer(3), 49, 196, 2, 6),
            (Partitions::PerServer(1), 2, 8, 3, 2),
            (Partitions::Exactly(7), 100, 400, 3, 7),
            (Partitions::Exactly(7), 0, 0, 3, 1),
        ] {
            assert_eq!(
                partitions.resolve(keys, bytes, servers),
                expected,
                "{partitions:?} {keys} {bytes}"
            );
        }
    }

    #[test]
    fn an_invalid_draft_is_refused_with_what_to_do() {
        let named = Partitioning::Named {
            name: "mine".into(),
            sizes: vec![3, 3],
        };
        let bad = vec![
            (
                ModelDraft {
                    name: "a/b".into(),
                    ..vector(1)
                },
                "cannot name",
            ),
            (
                ModelDraft {
                    name: "x".repeat(129),
                    ..vector(1)
                },
                "cannot name",
            ),
            (vector(u64::MAX), "smaller"),
            (
                ModelDraft {
                    shape: Shape::Matrix { rows: 1, cols: 0 },
                    ..vector(1)
                },
                "at least one column",
            ),
            (
                ModelDraft {
                    initial: Scalar::Float(0.5),
                    element: ElementType::I32,
                    ..vector(1)
                },
                "fits",
            ),
            (
                ModelDraft {
                    partitions: Partitions::Exactly(0),
                    ..vector(1)
                },
                "at least 1",
            ),
            (
                ModelDraft {
                    partitioning: Partitioning::Boundaries {
                        starts: vec![0, 5, 3],
                    },
                    ..vector(9)
                },
                "never fall",
            ),
            (
                ModelDraft {
                    partitioning: named.clone(),
                    ..vector(9)
                },
                "add up to 6",
            ),
            (
                ModelDraft {
                    partitioning: named,
                    partitions: Partitions::Exactly(3),
                    ..vector(6)
                },
                "leave the count out",
            ),
        ];
        for (draft, hint) in bad {
            let error = draft.resolve(2).unwrap_err();
            assert_eq!(error.code, ErrorCode::InvalidSpec);
            assert!(error.message.contains(hint), "{}", error.message);
        }
    }

    #[test]
    fn differences_name_the_field_and_both_sides() {
        let spec = vector(10).resolve(2).unwrap();
        assert!(vector(10).differences(&spec).is_empty());
        let other = ModelDraft {
            rule: Rule::Max,
            partitions: Partitions::Exactly(4),
            ..vector(11)
        };
        let fields: Vec<_> = other
            .differences(&spec)
            .into_iter()
            .map(|d| d.field)
            .collect();
        assert_eq!(fields, ["shape", "rule", "partitions"]);
    }

    #[test]
    fn a_spec_survives_json_and_a_misspelt_field_is_refused() {
        let spec = vector(10).resolve(2).unwrap();
        let json = serde_json::to_string(&spec).unwrap();
        assert_eq!(serde_json::from_str::<ModelSpec>(&json).unwrap(), spec);
        let draft = r#"{"name":"w","shape":{"vector":{"keys":3}},"element":"f32","rul":"max"}"#;
        assert!(
            serde_json::from_str::<ModelDraft>(draft)
                .unwrap_err()
                .to_string()
                .contains("rul")
        );
    }
}
