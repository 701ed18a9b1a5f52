mod cutting;
mod judging;
mod ledger_bound;
mod merging;
mod refusing;

use glint_protocol::{
    Element, ElementType, Epoch, ErrorBody, Incarnation, LaneId, ModelDraft, ModelId, Number, Rule,
    Scalar, Shape,
    frame::{Group, GroupHeader, Op, ReadMode, digest, write},
};

use super::{
    Description, Loss, Outcome, Partition, Record, Values, Verdict,
    check::{Checked, check},
    judge::Pushed,
};

const NOW: u64 = 1_800_000_000_000;
const EPOCH: Epoch = Epoch(5);

fn lane(birth: u64, random: u64) -> LaneId {
    LaneId { birth, random }
}

/// A partition alone: the only one of a model.
struct Alone {
    description: Description,
    partition: Partition,
}

impl Alone {
    fn new(shape: Shape, element: ElementType, rule: Rule, initial: Scalar) -> Self {
        let draft = ModelDraft {
            partitions: glint_protocol::Partitions::Exactly(1),
            rule,
            initial,
            ..ModelDraft::new("weights", shape, element)
        };
        let spec = draft.resolve(1).unwrap();
        let incarnation = Incarnation {
            model: ModelId(7),
            generation: 1,
        };
        let description = Description::new(&spec, incarnation, 0);
        let partition = Partition::new(&description, &spec, EPOCH).unwrap();
        Self {
            description,
            partition,
        }
    }

    fn vector(keys: u64) -> Self {
        Self::new(
            Shape::Vector { keys },
            ElementType::I64,
            Rule::Add,
            Scalar::Integer(0),
        )
    }

    fn header(&self, op: Op, sections: &[u8], count: u16) -> GroupHeader {
        GroupHeader {
            incarnation: self.description.incarnation,
            partition: 0,
            epoch: EPOCH,
            prev: Number(0),
            digest: digest(self.description.incarnation, 0, [sections]),
            read: ReadMode::Latest,
            op,
            element: (op != Op::Skip).then_some(self.description.element),
            sections: count,
            length: sections.len() as u32,
        }
    }

    fn judge(&mut self, lane: LaneId, number: u64, header: GroupHeader, bytes: &[u8]) -> Verdict {
        let group = Group { header, bytes };
        let checked = check(&self.description, &group, number);
        let pushed = Pushed {
            lane,
            number: Number(number),
            header: &header,
        };
        self.partition
            .judge_and_apply(&self.description, pushed, checked.as_ref(), Ok(()), || NOW)
    }

    /// Adds to the first value of an `i64` vector.
    fn add(&mut self, lane: LaneId, number: u64, prev: u64, value: i64) -> Verdict {
        let bytes = add_section(value);
        let header = GroupHeader {
            prev: Number(prev),
            ..self.header(Op::Update, &bytes, 1)
        };
        self.judge(lane, number, header, &bytes)
    }

    fn skip(&mut self, lane: LaneId, number: u64, prev: u64) -> Verdict {
        let header = GroupHeader {
            prev: Number(prev),
            digest: 0,
            ..self.header(Op::Skip, &[], 0)
        };
        self.judge(lane, number, header, &[])
    }

    fn first(&self) -> i64 {
        match self.partition.values() {
            Values::I64(values) => values[0],
            other => panic!("{other:?}"),
        }
    }

    fn evict(&mut self, lanes: &[LaneId]) {
        self.partition.apply(Rule::Add, 1, Record::Evict { lanes });
    }

    /// Everything that a refused push must leave as it was.
    fn state(&self) -> (Values, super::Ledger, u64, Option<Loss>) {
        (
            self.partition.values().clone(),
            self.partition.ledger().clone(),
            self.partition.position().0,
            self.partition.loss().cloned(),
        )
    }
}

fn add_section(value: i64) -> Vec<u8> {
    let mut bytes = Vec::new();
    write::range(&mut bytes, Some(Rule::Add), 8, 0, 1);
    i64::append(&[value], &mut bytes);
    bytes
}

fn refusal(verdict: &Verdict) -> &ErrorBody {
    match &verdict.outcome {
        Outcome::Refused(error) => error,
        other => panic!("not refused: {other:?}"),
    }
}

fn checked<'a>(
    alone: &Alone,
    header: GroupHeader,
    bytes: &'a [u8],
) -> Result<Checked<'a>, ErrorBody> {
    check(&alone.description, &Group { header, bytes }, u64::MAX)
}
