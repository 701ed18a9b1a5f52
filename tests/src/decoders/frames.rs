//! Binary frames: requests as a server meets them, and replies as a client does.

use bytes::Bytes;
use glint_protocol::{
    ClusterId, Durability, Element, ElementType, Epoch, ErrorBody, Incarnation, LaneId, ModelDraft,
    ModelId, Number, Partitions, Position, Rule, Shape, Term,
    control::{HeldPartition, Hold, Orders, Registered},
    copies::Pulse,
    frame::{
        GroupHeader, Kind, Op, ReadMode, ReplyHeader, Request, RequestHeader, ResultHeader,
        SectionHeader, Status, digest, write,
    },
};
use glint_server::server::{Server, ServerConfig};
use glint_world::World;

use super::{reply, run, variants};

pub(super) const EPOCH: Epoch = Epoch(3);
pub(super) const VECTOR: Incarnation = Incarnation {
    model: ModelId(7),
    generation: 1,
};
const MATRIX: Incarnation = Incarnation {
    model: ModelId(8),
    generation: 1,
};
const NOW: u64 = 1_700_000_000_000;

/// Every header, from any bytes.
pub fn headers(data: &[u8]) {
    for bytes in variants(data, &valid_push()) {
        let _ = RequestHeader::decode(&bytes);
        let _ = ReplyHeader::decode(&bytes);
        let _ = ResultHeader::decode(&bytes);
        let _ = SectionHeader::decode(&bytes);
        if let Ok(group) = GroupHeader::decode(&bytes) {
            assert_eq!(GroupHeader::decode(&group.encode()), Ok(group));
        }
        let _ = ErrorBody::from_json(&bytes);
    }
}

fn draft(name: &str, shape: Shape, element: ElementType) -> ModelDraft {
    ModelDraft {
        partitions: Partitions::Exactly(2),
        durability: Some(Durability::Memory),
        ..ModelDraft::new(name, shape, element)
    }
}

/// A registered server with a vector of ten `i64` and a matrix of six rows of three `f32`, in two partitions each.
pub(super) fn server() -> Server {
    thread_local! {
        static WORLD: World = World::real();
    }
    let world = WORLD.with(World::clone);
    let url = |text: &str| text.parse().expect("a URL");
    let config = ServerConfig::new(url("http://master:1"), 1 << 20);
    let server = Server::new(world, &config, &url("http://server:1"));
    let hold = |draft: ModelDraft, incarnation| Hold {
        spec: draft.resolve(1).expect("a valid draft"),
        incarnation,
        creating: true,
        partitions: (0..2)
            .map(|partition| HeldPartition {
                partition,
                epoch: EPOCH,
                ..HeldPartition::default()
            })
            .collect(),
        followed: Vec::new(),
        peers: Vec::new(),
    };
    let vector = draft("vector", Shape::Vector { keys: 10 }, ElementType::I64);
    let matrix = draft(
        "matrix",
        Shape::Matrix { rows: 6, cols: 3 },
        ElementType::F32,
    );
    let answer = Registered {
        cluster: ClusterId(1),
        heartbeat_ms: 100,
        pulse: Pulse::default(),
        orders: Orders {
            cluster: ClusterId(1),
            term: Term(1),
            boot: server.boot(),
            hold: vec![hold(vector, VECTOR), hold(matrix, MATRIX)],
            drop: Vec::new(),
        },
    };
    run(server.registered(answer)).expect("orders that can be obeyed");
    server
}

fn group(
    op: Op,
    incarnation: Incarnation,
    element: ElementType,
    sections: u16,
    bytes: &[u8],
) -> Vec<u8> {
    let header = GroupHeader {
        incarnation,
        partition: 0,
        epoch: EPOCH,
        prev: Number(0),
        digest: digest(incarnation, 0, [bytes]),
        read: ReadMode::Latest,
        op,
        element: (op != Op::Skip).then_some(element),
        sections,
        length: bytes.len() as u32,
    };
    let mut out = header.encode().to_vec();
    out.extend_from_slice(bytes);
    out
}

fn request(kind: Kind, groups: &[Vec<u8>]) -> Vec<u8> {
    let header = RequestHeader {
        kind,
        groups: groups.len() as u32,
        lane: LaneId {
            birth: NOW,
            random: 1,
        },
        number: Number(u64::from(kind == Kind::Push)),
    };
    let mut out = header.encode().to_vec();
    out.extend(groups.concat());
    out
}

/// Requests that use every form.
fn valid(rule: Option<Rule>) -> Vec<Vec<u8>> {
    let (kind, op) = match rule {
        Some(_) => (Kind::Push, Op::Update),
        None => (Kind::Pull, Op::Pull),
    };
    let (mut vector, mut matrix) = (Vec::new(), Vec::new());
    let pushed = |out: &mut Vec<u8>, values: &[u8]| {
        if rule.is_some() {
            out.extend_from_slice(values);
        }
    };
    let values = |values: &[i64]| {
        let mut out = Vec::new();
        i64::append(values, &mut out);
        out
    };
    let floats = |count: usize| {
        let mut out = Vec::new();
        f32::append(&vec![0.5; count], &mut out);
        out
    };
    write::range(&mut vector, rule, 8, 1, 3);
    pushed(&mut vector, &values(&[1, 2, 3]));
    write::indices(&mut vector, rule, 8, &[4, 0, 4], false);
    pushed(&mut vector, &values(&[1, 1, 1]));
    write::indices(&mut vector, rule, 8, &[2], true);
    pushed(&mut vector, &values(&[9]));
    write::rows(&mut matrix, rule, 4, &[2, 0], 3, false);
    pushed(&mut matrix, &floats(6));
    write::pairs(&mut matrix, rule, 4, &[1, 2], &[2, 0], false);
    pushed(&mut matrix, &floats(2));
    let vector = group(op, VECTOR, ElementType::I64, 3, &vector);
    let matrix = group(op, MATRIX, ElementType::F32, 2, &matrix);
    let mut all = vec![
        request(kind, std::slice::from_ref(&vector)),
        request(kind, std::slice::from_ref(&matrix)),
        request(kind, &[vector, matrix]),
    ];
    if rule.is_some() {
        let skip = group(Op::Skip, VECTOR, ElementType::I64, 0, &[]);
        all.push(request(Kind::Push, &[skip]));
    }
    all
}

fn valid_push() -> Vec<Vec<u8>> {
    valid(Some(Rule::Add))
}

/// Everything that a server holds, as it answers.
pub(super) fn everything(server: &Server) -> Bytes {
    let whole = |incarnation, element: ElementType, count| {
        let mut bytes = Vec::new();
        write::range(&mut bytes, None, element.size(), 0, count);
        group(Op::Pull, incarnation, element, 1, &bytes)
    };
    let all = [
        whole(VECTOR, ElementType::I64, 5),
        whole(MATRIX, ElementType::F32, 9),
    ];
    server
        .pull_body(&request(Kind::Pull, &all))
        .expect("an answer")
}

/// Pushes, as a server takes them: what is refused changes nothing, and what is repeated is not applied again.
pub fn push(data: &[u8]) {
    for bytes in variants(data, &valid_push()) {
        let server = server();
        let before = everything(&server);
        match server.push_body(&bytes, NOW) {
            Ok(reply) => {
                let groups = Request::parse(&bytes, Kind::Push).expect("taken").groups;
                let answers = reply::answers(&reply, Kind::PushReply, groups.len());
                let answers = answers.expect("an answer for each group");
                let after = everything(&server);
                if answers.iter().all(|a| matches!(a.status, Status::Error(_))) {
                    // But that a partition may have been found lost.
                    let lost = |a: &reply::Answer| a.error().map(|e| e.code);
                    if answers
                        .iter()
                        .all(|a| lost(a) != Some(glint_protocol::ErrorCode::Lost))
                    {
                        assert_eq!(after, before, "refused, and applied");
                    }
                }
                server.push_body(&bytes, NOW).expect("the same again");
                assert_eq!(everything(&server), after, "applied twice");
            }
            Err(_) => assert_eq!(everything(&server), before, "refused, and applied"),
        }
    }
}

/// Pulls, as a server takes them.
pub fn pull(data: &[u8]) {
    for bytes in variants(data, &valid(None)) {
        let server = server();
        if let Ok(reply) = server.pull_body(&bytes) {
            let groups = Request::parse(&bytes, Kind::Pull).expect("taken").groups;
            let answers = reply::answers(&reply, Kind::PullReply, groups.len());
            assert_eq!(
                answers.expect("an answer for each group").len(),
                groups.len()
            );
        }
    }
}

#[derive(Default)]
struct Counted {
    bytes: usize,
    failed: usize,
}

impl reply::Sink for Counted {
    fn values(&mut self, _: usize, _: usize, bytes: &[u8]) {
        assert_eq!(bytes.len() % 8, 0, "part of a value");
        self.bytes += bytes.len();
    }

    fn failed(&mut self, _: usize, _: ErrorBody) {
        self.failed += 1;
    }
}

/// Replies, as a client takes them: whole, and in pieces.
pub fn results(data: &[u8]) {
    let result = |out: &mut Vec<u8>, status, payload: &[u8]| {
        let header = ResultHeader {
            status,
            length: payload.len() as u32,
            epoch: EPOCH,
            position: Position(1),
            after_loss: None,
            age_ms: None,
        };
        out.extend_from_slice(&header.encode());
        out.extend_from_slice(payload);
    };
    let head = |kind| ReplyHeader { kind, results: 2 }.encode().to_vec();
    let (mut pulled, mut pushed) = (head(Kind::PullReply), head(Kind::PushReply));
    let error = ErrorBody::new(glint_protocol::ErrorCode::Lost, "lost").to_json();
    let lost = Status::Error(glint_protocol::ErrorCode::Lost);
    result(&mut pulled, Status::Values, &[1; 16]);
    result(&mut pulled, lost, &error);
    result(&mut pushed, Status::Applied, &[]);
    result(&mut pushed, lost, &error);
    for bytes in variants(data, &[pulled, pushed]) {
        let whole = Bytes::from(bytes);
        for kind in [Kind::PullReply, Kind::PushReply] {
            for answer in reply::answers(&whole, kind, 2).unwrap_or_default() {
                let _ = answer.error();
            }
        }
        let size = usize::from(data.first().copied().unwrap_or(0)) % 40 + 1;
        let (mut at_once, mut in_pieces) = (Counted::default(), Counted::default());
        let mut reader = reply::Reader::new(8, vec![16, 16]);
        let taken = reader.feed(&whole, &mut at_once).is_ok();
        let mut pieces = reply::Reader::new(8, vec![16, 16]);
        let also = whole
            .chunks(size)
            .all(|piece| pieces.feed(piece, &mut in_pieces).is_ok());
        assert_eq!((taken, reader.is_complete()), (also, pieces.is_complete()));
        assert_eq!(at_once.failed, in_pieces.failed);
        if taken {
            assert!(at_once.bytes <= 32 && at_once.failed <= 2);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_targets_start_from_is_valid() {
        for bytes in valid_push() {
            let reply = server().push_body(&bytes, NOW).unwrap();
            let groups = Request::parse(&bytes, Kind::Push).unwrap().groups.len();
            for answer in reply::answers(&reply, Kind::PushReply, groups).unwrap() {
                let settled = matches!(answer.status, Status::Applied | Status::Skipped);
                assert!(settled, "{:?}", answer.error());
            }
        }
        for bytes in valid(None) {
            let reply = server().pull_body(&bytes).unwrap();
            let groups = Request::parse(&bytes, Kind::Pull).unwrap().groups.len();
            for answer in reply::answers(&reply, Kind::PullReply, groups).unwrap() {
                assert_eq!(answer.status, Status::Values, "{:?}", answer.error());
            }
        }
    }
}
