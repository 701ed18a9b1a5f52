//! Pull and push as JSON, for `curl` and small programs: the same groups and sections as in a binary frame, and turned
//! into one before they are judged, so that there is one path through a server.

use serde::{Deserialize, Serialize};

use crate::{
    Rule,
    element::{Element, ElementType, Scalar},
    error::{ErrorBody, ErrorCode},
    frame::{self, GroupHeader, Kind, Op, ReadMode, RequestHeader, write},
    ids::{Epoch, Incarnation, LaneId, ModelId, Number, Position},
};

/// `POST /v1/pull` with content type `application/json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct PullRequest {
    /// At most one per partition.
    pub groups: Vec<PullGroup>,
}

/// What to read of one partition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct PullGroup {
    /// The model's id, from its map.
    pub model: ModelId,
    /// The model's generation, from its map.
    pub generation: u32,
    /// The partition.
    pub partition: u32,
    /// The partition's epoch, from the map.
    pub epoch: Epoch,
    /// The model's element type.
    pub element: ElementType,
    /// Which copies may answer: `latest` (the holder only) when left out.
    #[serde(default, skip_serializing_if = "ReadMode::is_latest")]
    pub read: ReadMode,
    /// Which values, in which order.
    pub sections: Vec<JsonSection>,
}

/// `POST /v1/push` with content type `application/json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct PushRequest {
    /// The lane.
    pub lane: LaneId,
    /// Rises by one with each request of the lane; the same in every copy of one request.
    pub number: Number,
    /// At most one per partition.
    pub groups: Vec<PushGroup>,
}

/// What to update of one partition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct PushGroup {
    /// The model's id, from its map.
    pub model: ModelId,
    /// The model's generation, from its map.
    pub generation: u32,
    /// The partition.
    pub partition: u32,
    /// The partition's epoch, from the map.
    pub epoch: Epoch,
    /// The last number of this lane that was acknowledged for this partition; 0 if none.
    #[serde(default)]
    pub prev: Number,
    /// Settle the number without changing a value; then there are no sections.
    #[serde(default)]
    pub skip: bool,
    /// The model's element type; may be left out of a skip.
    #[serde(default)]
    pub element: Option<ElementType>,
    /// The model's update rule; `add` when left out.
    #[serde(default)]
    pub rule: Rule,
    /// Which values, and what to merge into them.
    #[serde(default)]
    pub sections: Vec<JsonSection>,
}

/// One section; indices are local to the partition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "form", rename_all = "lowercase", deny_unknown_fields)]
pub enum JsonSection {
    /// A run of values; of a matrix row-major.
    Range {
        /// Local index of the first value.
        start: u64,
        /// How many, in a pull.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        count: Option<u64>,
        /// What to merge, in a push.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        values: Option<Vec<Scalar>>,
    },
    /// Single values of a vector.
    Indices {
        /// Local indices.
        indices: Vec<u64>,
        /// What to merge, in a push: as many as indices.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        values: Option<Vec<Scalar>>,
    },
    /// Whole rows of a matrix.
    Rows {
        /// Local rows.
        rows: Vec<u64>,
        /// Columns of the matrix.
        cols: u32,
        /// What to merge, in a push: row after row.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        values: Option<Vec<Scalar>>,
    },
    /// Single values of a matrix.
    Pairs {
        /// Local rows.
        rows: Vec<u64>,
        /// Columns: as many as rows.
        columns: Vec<u32>,
        /// What to merge, in a push: as many as rows.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        values: Option<Vec<Scalar>>,
    },
}

/// The answer to a pull or push in JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Reply {
    /// One per group of the request, in order.
    pub results: Vec<GroupResult>,
}

/// How one group ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct GroupResult {
    /// `values`, `applied`, `skipped` or `error`.
    pub status: String,
    /// Epoch of the partition at the server.
    pub epoch: Epoch,
    /// Log position that was read, or at which the verdict was formed.
    pub position: Position,
    /// Of a pull that a copy answered which is not the holder: how many milliseconds ago it had everything that was acknowledged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age_ms: Option<u64>,
    /// Of an update that was applied though earlier ones of its lane are lost: the last number of the lane that was known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after_loss: Option<Number>,
    /// With `values`: the values of all sections one after another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub values: Option<Vec<Scalar>>,
    /// With `error`: what went wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorBody>,
}

fn bad(message: String) -> ErrorBody {
    ErrorBody::new(ErrorCode::BadRequest, message)
}

impl PullRequest {
    /// As a binary frame.
    ///
    /// # Errors
    /// `bad_request` when a section brings values or lacks its count.
    pub fn to_frame(&self) -> Result<Vec<u8>, ErrorBody> {
        let head = RequestHeader {
            kind: Kind::Pull,
            groups: self.groups.len() as u32,
            lane: LaneId {
                birth: 0,
                random: 0,
            },
            number: Number(0),
        };
        let mut out = head.encode().to_vec();
        for (index, group) in self.groups.iter().enumerate() {
            let mut sections = Vec::new();
            for section in &group.sections {
                section
                    .put(&mut sections, None, group.element)
                    .map_err(|e| bad(format!("group {index}: {e}")))?;
            }
            let header = GroupHeader {
                incarnation: Incarnation {
                    model: group.model,
                    generation: group.generation,
                },
                partition: group.partition,
                epoch: group.epoch,
                prev: Number(0),
                digest: 0,
                read: group.read,
                op: Op::Pull,
                element: Some(group.element),
                sections: section_count(group.sections.len(), index)?,
                length: sections.len() as u32,
            };
            out.extend_from_slice(&header.encode());
            out.extend_from_slice(&sections);
        }
        Ok(out)
    }
}

impl PushRequest {
    /// As a binary frame; the digests are computed here, so that a JSON client needs none.
    ///
    /// # Errors
    /// `bad_request` when a section lacks its values, or a number does not fit the element type.
    pub fn to_frame(&self) -> Result<Vec<u8>, ErrorBody> {
        let head = RequestHeader {
            kind: Kind::Push,
            groups: self.groups.len() as u32,
            lane: self.lane,
            number: self.number,
        };
        let mut out = head.encode().to_vec();
        for (index, group) in self.groups.iter().enumerate() {
            let incarnation = Incarnation {
                model: group.model,
                generation: group.generation,
            };
            let mut sections = Vec::new();
            if let Some(element) = group.element {
                for section in &group.sections {
                    section
                        .put(&mut sections, Some(group.rule), element)
                        .map_err(|e| bad(format!("group {index}: {e}")))?;
                }
            } else if !group.skip {
                return Err(bad(format!(
                    "group {index}: 'element' is missing; give the model's element type, such as \"f32\""
                )));
            }
            if group.skip && !group.sections.is_empty() {
                return Err(bad(format!("group {index}: a skip has no sections")));
            }
            let header = GroupHeader {
                incarnation,
                partition: group.partition,
                epoch: group.epoch,
                prev: group.prev,
                digest: if group.skip {
                    0
                } else {
                    frame::digest(incarnation, group.partition, [sections.as_slice()])
                },
                read: ReadMode::Latest,
                op: if group.skip { Op::Skip } else { Op::Update },
                element: if group.skip { None } else { group.element },
                sections: section_count(group.sections.len(), index)?,
                length: sections.len() as u32,
            };
            out.extend_from_slice(&header.encode());
            out.extend_from_slice(&sections);
        }
        Ok(out)
    }
}

fn section_count(count: usize, group: usize) -> Result<u16, ErrorBody> {
    u16::try_from(count).map_err(|_| {
        bad(format!(
            "group {group}: {count} sections are more than {}; merge them",
            u16::MAX
        ))
    })
}

fn is_wide(indices: &[u64]) -> bool {
    indices.iter().any(|&index| index > u32::MAX.into())
}

impl JsonSection {
    fn values(&self) -> Option<&Vec<Scalar>> {
        match self {
            Self::Range { values, .. }
            | Self::Indices { values, .. }
            | Self::Rows { values, .. }
            | Self::Pairs { values, .. } => values.as_ref(),
        }
    }

    fn put(
        &self,
        out: &mut Vec<u8>,
        rule: Option<Rule>,
        element: ElementType,
    ) -> Result<(), String> {
        let values = match (rule, self.values()) {
            (None, None) => &Vec::new(),
            (None, Some(_)) => {
                return Err("a section of a pull brings 'values'; only a push does".into());
            }
            (Some(_), None) => return Err("a section of a push lacks its 'values'".into()),
            (Some(_), Some(values)) => values,
        };
        let named = match self {
            Self::Range { count, .. } => match (rule, count) {
                (None, None) => return Err("a range of a pull lacks its 'count'".into()),
                (None, Some(count)) => *count,
                (Some(_), Some(count)) if *count != values.len() as u64 => {
                    return Err(format!("a range of {count} values brings {}", values.len()));
                }
                (Some(_), _) => values.len() as u64,
            },
            Self::Indices { indices, .. } => indices.len() as u64,
            Self::Rows { rows, cols, .. } => rows.len() as u64 * u64::from(*cols),
            Self::Pairs { rows, columns, .. } if rows.len() != columns.len() => {
                return Err(format!(
                    "{} rows and {} columns make no pairs; give as many of each",
                    rows.len(),
                    columns.len()
                ));
            }
            Self::Pairs { rows, .. } => rows.len() as u64,
        };
        if rule.is_some() && named != values.len() as u64 {
            return Err(format!(
                "a section names {named} values and brings {}; make them equal",
                values.len()
            ));
        }
        let size = element.size();
        match self {
            Self::Range { start, .. } => write::range(out, rule, size, *start, named as usize),
            Self::Indices { indices, .. } => {
                write::indices(out, rule, size, indices, is_wide(indices));
            }
            Self::Rows { rows, cols, .. } => {
                write::rows(out, rule, size, rows, *cols, is_wide(rows));
            }
            Self::Pairs { rows, columns, .. } => {
                write::pairs(out, rule, size, rows, columns, is_wide(rows));
            }
        }
        for value in values {
            if !value.append(element, out) {
                return Err(format!("{value} does not fit element type {element}"));
            }
        }
        Ok(())
    }
}

/// Values as they lie in a frame, as scalars.
pub fn scalars(bytes: &[u8], element: ElementType) -> Vec<Scalar> {
    fn read<T: Element>(bytes: &[u8]) -> Vec<Scalar> {
        bytes
            .chunks_exact(T::SIZE)
            .map(|b| T::from_le(b).scalar())
            .collect()
    }
    match element {
        ElementType::I32 => read::<i32>(bytes),
        ElementType::I64 => read::<i64>(bytes),
        ElementType::F32 => read::<f32>(bytes),
        ElementType::F64 => read::<f64>(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{Form, Request};

    fn push(sections: &str) -> Result<Vec<u8>, ErrorBody> {
        let text = format!(
            r#"{{"lane":{{"birth":1,"random":"a"}},"number":1,"groups":[{{"model":"7","generation":1,"partition":0,
               "epoch":1,"element":"i32","sections":{sections}}}]}}"#
        );
        serde_json::from_str::<PushRequest>(&text)
            .map_err(|e| bad(e.to_string()))?
            .to_frame()
    }

    #[test]
    fn json_becomes_the_same_frame_that_a_binary_client_sends() {
        let body = push(r#"[{"form":"indices","indices":[3,1],"values":[10,-20]},{"form":"range","start":2,"values":[5]}]"#).unwrap();
        let request = Request::parse(&body, Kind::Push).unwrap();
        let group = request.groups[0];
        let sections = group.sections().unwrap();
        let Form::Indices(indices) = sections[0].form else {
            panic!()
        };
        assert_eq!(indices.iter().collect::<Vec<_>>(), [3, 1]);
        assert_eq!(
            scalars(sections[0].values, ElementType::I32),
            [Scalar::Integer(10), Scalar::Integer(-20)]
        );
        assert_eq!(
            group.header.digest,
            frame::digest(group.header.incarnation, 0, [group.bytes])
        );
    }

    #[test]
    fn a_pull_in_json_says_which_copies_may_answer_as_a_binary_one_does() {
        for (read, mode) in [
            ("", ReadMode::Latest),
            (r#""read":"latest","#, ReadMode::Latest),
            (r#""read":"any","#, ReadMode::Any),
            (r#""read":{"within_ms":250},"#, ReadMode::Within(250)),
            (r#""read":{"at_least":7},"#, ReadMode::AtLeast(Position(7))),
        ] {
            let text = format!(
                r#"{{"groups":[{{"model":"7","generation":1,"partition":0,"epoch":1,{read}"element":"i32",
                   "sections":[{{"form":"range","start":0,"count":1}}]}}]}}"#
            );
            let request: PullRequest = serde_json::from_str(&text).unwrap();
            let frame = request.to_frame().unwrap();
            let parsed = Request::parse(&frame, Kind::Pull).unwrap();
            assert_eq!(parsed.groups[0].header.read, mode, "{text}");
        }
    }

    #[test]
    fn json_that_does_not_add_up_is_refused_with_the_reason() {
        for (sections, reason) in [
            (
                r#"[{"form":"indices","indices":[3],"values":[1,2]}]"#,
                "make them equal",
            ),
            (
                r#"[{"form":"indices","indices":[3],"values":[2147483648]}]"#,
                "does not fit element type i32",
            ),
            (
                r#"[{"form":"indices","indices":[3],"values":[0.5]}]"#,
                "does not fit",
            ),
            (
                r#"[{"form":"indices","indices":[3]}]"#,
                "lacks its 'values'",
            ),
            (
                r#"[{"form":"pairs","rows":[3],"columns":[1,2],"values":[1]}]"#,
                "as many of each",
            ),
            (r#"[{"form":"circle"}]"#, "circle"),
            (r#"[{"form":"range","start":-1,"values":[1]}]"#, "-1"),
        ] {
            let error = push(sections).unwrap_err();
            assert_eq!(error.code, ErrorCode::BadRequest);
            assert!(error.message.contains(reason), "{}", error.message);
        }
    }
}
