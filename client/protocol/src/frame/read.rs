//! Which copies of a partition may answer a pull.

use serde::{Deserialize, Serialize};

use crate::{
    error::{ErrorBody, ErrorCode},
    ids::Position,
};

/// Which copies may answer a pull of a partition, and how much of what was acknowledged they must have. The holder answers all
/// of them with its newest values: it has everything that was ever acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum ReadMode {
    /// The holder only.
    #[default]
    Latest,
    /// A copy that has everything in that was acknowledged so many milliseconds ago.
    #[serde(rename = "within_ms")]
    Within(u64),
    /// Any copy, however far behind.
    Any,
    /// A copy that has everything up to this log position.
    AtLeast(Position),
}

impl ReadMode {
    /// Its code in a group's header, and its bound.
    pub(super) const fn to_wire(self) -> (u8, u64) {
        match self {
            Self::Latest => (0, 0),
            Self::Within(milliseconds) => (1, milliseconds),
            Self::Any => (2, 0),
            Self::AtLeast(position) => (3, position.0),
        }
    }

    pub(super) fn from_wire(code: u8, bound: u64) -> Result<Self, ErrorBody> {
        match code {
            0 => Ok(Self::Latest),
            1 => Ok(Self::Within(bound)),
            2 => Ok(Self::Any),
            3 => Ok(Self::AtLeast(Position(bound))),
            other => Err(ErrorBody::new(
                ErrorCode::BadRequest,
                format!("a group has read mode {other}; 0 is latest, 1 within, 2 any, 3 at_least"),
            )),
        }
    }

    /// What satisfies both, when the two are of one kind; none when they are not.
    #[must_use]
    pub fn both(self, other: Self) -> Option<Self> {
        match (self, other) {
            (Self::Latest, Self::Latest) => Some(Self::Latest),
            (Self::Within(a), Self::Within(b)) => Some(Self::Within(a.min(b))),
            (Self::Any, Self::Any) => Some(Self::Any),
            (Self::AtLeast(a), Self::AtLeast(b)) => Some(Self::AtLeast(a.max(b))),
            _ => None,
        }
    }

    /// Its code in a group's header.
    pub const fn code(self) -> u8 {
        self.to_wire().0
    }

    /// How many codes there are.
    pub const CODES: usize = 4;

    /// Whether only the holder may answer.
    #[allow(
        clippy::trivially_copy_pass_by_ref,
        reason = "serde passes a reference"
    )]
    pub const fn is_latest(&self) -> bool {
        matches!(self, Self::Latest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ElementType, Epoch, Incarnation, Number,
        frame::{GroupHeader, Op},
    };

    const ALL: [ReadMode; 4] = [
        ReadMode::Latest,
        ReadMode::Within(250),
        ReadMode::Any,
        ReadMode::AtLeast(Position(1 << 40)),
    ];

    fn header(op: Op, read: ReadMode, prev: u64) -> GroupHeader {
        GroupHeader {
            incarnation: Incarnation::default(),
            partition: 3,
            epoch: Epoch(9),
            prev: Number(prev),
            digest: 0,
            read,
            op,
            element: Some(ElementType::F32),
            sections: 1,
            length: 0,
        }
    }

    #[test]
    fn read_modes_survive_the_header_of_a_pull_and_json() {
        for mode in ALL {
            let pull = header(Op::Pull, mode, 0);
            assert_eq!(GroupHeader::decode(&pull.encode()), Ok(pull));
            let text = serde_json::to_string(&mode).unwrap();
            assert_eq!(serde_json::from_str::<ReadMode>(&text).unwrap(), mode);
        }
        assert_eq!(
            serde_json::to_string(&ALL).unwrap(),
            r#"["latest",{"within_ms":250},"any",{"at_least":1099511627776}]"#
        );
    }

    #[test]
    fn bytes_of_before_there_were_read_modes_ask_for_the_latest_and_pushes_have_none() {
        let pull = header(Op::Pull, ReadMode::Latest, 0);
        assert_eq!(pull.encode()[44..], [0; 4]);
        assert_eq!(pull.encode()[24..32], [0; 8]);
        let mut push = header(Op::Update, ReadMode::Latest, 41);
        assert_eq!(GroupHeader::decode(&push.encode()), Ok(push));
        push.read = ReadMode::Any;
        assert_eq!(push.encode()[44], 0);
        let mut strange = pull.encode();
        strange[44] = 4;
        let error = GroupHeader::decode(&strange).unwrap_err();
        assert!(error.message.contains("read mode 4"), "{error}");
    }

    #[test]
    fn what_satisfies_two_pulls_satisfies_each() {
        let (within, at_least) = (ReadMode::Within, |p| ReadMode::AtLeast(Position(p)));
        assert_eq!(within(5).both(within(9)), Some(within(5)));
        assert_eq!(at_least(5).both(at_least(9)), Some(at_least(9)));
        assert_eq!(ReadMode::Any.both(within(9)), None);
    }
}
