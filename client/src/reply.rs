//! Taking replies apart: whole ones, and pulls as they arrive, frame by frame, so that values go from the network's
//! buffer straight to where they belong.

use bytes::Bytes;
use glint_protocol::{
    ErrorBody, ErrorCode, Number, Position,
    frame::{Kind, ReplyHeader, ResultHeader, Status},
};

/// How one group ended.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: Status,
    pub(crate) payload: Bytes,
    /// What was read, or at which the verdict was formed.
    pub(crate) position: Position,
    /// The last number of the lane that the partition knew, when it has forgotten later ones.
    pub(crate) after_loss: Option<Number>,
}

impl Answer {
    /// The error, when the status is one.
    pub(crate) fn error(&self) -> Option<ErrorBody> {
        let Status::Error(code) = self.status else {
            return None;
        };
        Some(error(code, &self.payload))
    }
}

fn error(code: ErrorCode, payload: &[u8]) -> ErrorBody {
    let mut body = ErrorBody::from_json(payload);
    // The status decides; a payload that a later version has written otherwise still serves as text.
    body.code = code;
    body
}

/// Takes a whole reply apart.
pub(crate) fn answers(reply: &Bytes, kind: Kind, groups: usize) -> Result<Vec<Answer>, String> {
    let header = ReplyHeader::decode(reply).map_err(|e| e.message)?;
    check_header(header, kind, groups)?;
    let mut at = ReplyHeader::SIZE;
    let mut answers = Vec::with_capacity(groups);
    for _ in 0..groups {
        let head = ResultHeader::decode(&reply[at..]).map_err(|e| e.message)?;
        at += ResultHeader::SIZE;
        let end = at + head.length as usize;
        if end > reply.len() {
            return Err("the reply ends inside a result".into());
        }
        answers.push(Answer {
            status: head.status,
            payload: reply.slice(at..end),
            position: head.position,
            after_loss: head.after_loss,
        });
        at = end;
    }
    if at == reply.len() {
        Ok(answers)
    } else {
        Err(format!("{} bytes follow the last result", reply.len() - at))
    }
}

fn check_header(header: ReplyHeader, kind: Kind, groups: usize) -> Result<(), String> {
    if header.kind != kind || header.results as usize != groups {
        return Err(format!(
            "a {} with {} results answers a request of {groups} groups",
            header.kind.name(),
            header.results
        ));
    }
    Ok(())
}

/// What a pull's reply brings, as it arrives.
pub(crate) trait Sink {
    /// Values of a group, from the `skip`-th on; whole ones.
    fn values(&mut self, group: usize, skip: usize, bytes: &[u8]);
    /// The group's values follow, as they were at this log position.
    fn begins(&mut self, _group: usize, _position: Position) {}
    /// The group failed.
    fn failed(&mut self, group: usize, error: ErrorBody);
}

/// Reads the reply of a pull, however it is cut.
#[derive(Debug)]
pub(crate) struct Reader {
    /// Bytes of values that each group is to bring.
    expected: Vec<usize>,
    size: usize,
    stage: Stage,
    /// The beginning of a header, of an error or of a value whose end has not arrived.
    kept: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    Head,
    Result(usize),
    Values {
        group: usize,
        skip: usize,
        left: usize,
    },
    Error {
        group: usize,
        code: ErrorCode,
        length: usize,
    },
}

/// The longest error that is read.
const LONGEST_ERROR: usize = 1 << 20;

impl Reader {
    /// A reader of values of `size` bytes.
    pub(crate) fn new(size: usize, expected: Vec<usize>) -> Self {
        Self {
            expected,
            size,
            stage: Stage::Head,
            kept: Vec::new(),
        }
    }

    /// Whether all has arrived.
    pub(crate) fn is_complete(&self) -> bool {
        matches!(self.stage, Stage::Result(group) if group == self.expected.len())
            && self.kept.is_empty()
    }

    /// Takes the next bytes.
    pub(crate) fn feed(&mut self, mut bytes: &[u8], sink: &mut impl Sink) -> Result<(), String> {
        while !bytes.is_empty() {
            match self.stage {
                Stage::Head => {
                    if let Some(head) = self.gather(&mut bytes, ReplyHeader::SIZE) {
                        let head = ReplyHeader::decode(&head).map_err(|e| e.message)?;
                        check_header(head, Kind::PullReply, self.expected.len())?;
                        self.stage = Stage::Result(0);
                    }
                }
                Stage::Result(group) => {
                    let Some(&expected) = self.expected.get(group) else {
                        return Err(format!("{} bytes follow the last result", bytes.len()));
                    };
                    if let Some(head) = self.gather(&mut bytes, ResultHeader::SIZE) {
                        let head = ResultHeader::decode(&head).map_err(|e| e.message)?;
                        self.stage = begin(group, expected, head)?;
                        if head.status == Status::Values {
                            sink.begins(group, head.position);
                        }
                        self.finish_empty(sink);
                    }
                }
                Stage::Values { group, skip, left } => {
                    let taken = if self.kept.is_empty() && bytes.len().min(left) >= self.size {
                        let whole = bytes.len().min(left) / self.size * self.size;
                        let (now, later) = bytes.split_at(whole);
                        bytes = later;
                        sink.values(group, skip, now);
                        whole
                    } else if let Some(value) = self.gather(&mut bytes, self.size) {
                        sink.values(group, skip, &value);
                        self.size
                    } else {
                        0
                    };
                    self.stage = Stage::Values {
                        group,
                        skip: skip + taken / self.size,
                        left: left - taken,
                    };
                    self.finish_empty(sink);
                }
                Stage::Error {
                    group,
                    code,
                    length,
                } => {
                    if let Some(text) = self.gather(&mut bytes, length) {
                        sink.failed(group, error(code, &text));
                        self.stage = Stage::Result(group + 1);
                    }
                }
            }
        }
        Ok(())
    }

    fn finish_empty(&mut self, sink: &mut impl Sink) {
        match self.stage {
            Stage::Values { group, left: 0, .. } => self.stage = Stage::Result(group + 1),
            Stage::Error {
                group,
                code,
                length: 0,
            } => {
                sink.failed(group, error(code, b""));
                self.stage = Stage::Result(group + 1);
            }
            _ => {}
        }
    }

    /// `length` bytes in one piece, once they are there.
    fn gather(&mut self, bytes: &mut &[u8], length: usize) -> Option<Vec<u8>> {
        let take = (length - self.kept.len()).min(bytes.len());
        let (now, later) = bytes.split_at(take);
        self.kept.extend_from_slice(now);
        *bytes = later;
        (self.kept.len() == length).then(|| std::mem::take(&mut self.kept))
    }
}

fn begin(group: usize, expected: usize, head: ResultHeader) -> Result<Stage, String> {
    let length = head.length as usize;
    match head.status {
        Status::Values if length == expected => Ok(Stage::Values {
            group,
            skip: 0,
            left: length,
        }),
        Status::Values => Err(format!(
            "a result of {length} bytes answers a group of {expected}"
        )),
        Status::Error(code) if length <= LONGEST_ERROR => Ok(Stage::Error {
            group,
            code,
            length,
        }),
        Status::Error(_) => Err(format!("an error of {length} bytes is too long to be one")),
        Status::Applied | Status::Skipped => Err("the verdict of a push answers a pull".into()),
    }
}

#[cfg(test)]
mod tests {
    use glint_protocol::{Element, Epoch};
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Default, PartialEq)]
    struct Seen(Vec<(usize, Vec<i64>)>, Vec<(usize, ErrorCode)>);

    impl Sink for Seen {
        fn values(&mut self, group: usize, skip: usize, bytes: &[u8]) {
            if self.0.last().is_none_or(|(last, _)| *last != group) {
                self.0.push((group, Vec::new()));
            }
            let values = &mut self.0.last_mut().unwrap().1;
            assert_eq!(values.len(), skip);
            values.extend(bytes.chunks_exact(8).map(<i64 as Element>::from_le));
        }

        fn failed(&mut self, group: usize, error: ErrorBody) {
            self.1.push((group, error.code));
        }
    }

    fn result(out: &mut Vec<u8>, status: Status, payload: &[u8]) {
        let head = ResultHeader {
            status,
            length: payload.len() as u32,
            epoch: Epoch(1),
            position: Position(1),
            after_loss: None,
            age_ms: None,
        };
        out.extend_from_slice(&head.encode());
        out.extend_from_slice(payload);
    }

    fn reply() -> (Vec<u8>, Vec<usize>, Seen) {
        let head = ReplyHeader {
            kind: Kind::PullReply,
            results: 4,
        };
        let mut out = head.encode().to_vec();
        let values: Vec<i64> = (0..50).collect();
        let mut bytes = Vec::new();
        i64::append(&values, &mut bytes);
        result(&mut out, Status::Values, &bytes);
        let lost = ErrorBody::new(ErrorCode::Lost, "gone for good");
        result(&mut out, Status::Error(ErrorCode::Lost), &lost.to_json());
        result(&mut out, Status::Values, &[]);
        result(&mut out, Status::Values, &bytes[..16]);
        let seen = Seen(
            vec![(0, values), (3, vec![0, 1])],
            vec![(1, ErrorCode::Lost)],
        );
        (out, vec![400, 8, 0, 16], seen)
    }

    proptest! {
        #[test]
        fn a_reply_reads_the_same_however_it_is_cut(cuts in prop::collection::vec(1usize..90, 1..60)) {
            let (bytes, expected, complete) = reply();
            let mut reader = Reader::new(8, expected);
            let mut seen = Seen::default();
            let mut rest = &bytes[..];
            for cut in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                prop_assert!(!reader.is_complete());
                let (now, later) = rest.split_at((*cut).min(rest.len()));
                reader.feed(now, &mut seen).unwrap();
                rest = later;
            }
            prop_assert!(reader.is_complete());
            prop_assert_eq!(seen, complete);
        }
    }

    #[test]
    fn a_reply_that_does_not_fit_its_request_is_refused() {
        let (bytes, expected, _) = reply();
        let mut fewer = Reader::new(8, expected[..3].to_vec());
        assert!(fewer.feed(&bytes, &mut Seen::default()).is_err());
        let mut other = Reader::new(8, vec![408, 8, 0, 16]);
        assert!(other.feed(&bytes, &mut Seen::default()).is_err());
        let mut longer = bytes.clone();
        longer.push(0);
        let mut reader = Reader::new(8, expected.clone());
        assert!(reader.feed(&longer, &mut Seen::default()).is_err());
        for cut in 0..bytes.len() {
            let part = Bytes::copy_from_slice(&bytes[..cut]);
            assert!(answers(&part, Kind::PullReply, 4).is_err(), "cut at {cut}");
        }
        let whole = answers(&bytes.into(), Kind::PullReply, 4).unwrap();
        assert_eq!(whole[1].error().unwrap().message, "gone for good");
    }
}
