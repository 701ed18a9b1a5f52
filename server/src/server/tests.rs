mod asking;
mod copying;
mod living;
mod logged;
mod obeying;
mod refusing;

use axum::body::Body;
use glint_protocol::{
    BINARY, ClusterId, Element, ElementType, Epoch, ErrorBody, ErrorCode, Incarnation, JSON,
    LaneId, ModelDraft, ModelId, ModelSpec, Number, Partitions, Position, Rule, Shape, Term,
    control::{Drop, HeldPartition, Hold, Orders, Registered},
    copies::Pulse,
    error::GoneReason,
    frame::{
        GroupHeader, Kind, Op, ReadMode, ReplyHeader, RequestHeader, ResultHeader, Status, digest,
        write,
    },
};
use http::{Request, StatusCode, header};
use http_body_util::BodyExt;
use tower::ServiceExt;

use super::*;
use crate::serve::Responder;

const CLUSTER: ClusterId = ClusterId(0xc1);
const EPOCH: Epoch = Epoch(3);
const MODEL: Incarnation = Incarnation {
    model: ModelId(7),
    generation: 1,
};
const LANE: LaneId = LaneId {
    birth: 1_700_000_000_000,
    random: 1,
};

fn url() -> Url {
    "http://server-0:7200".parse().unwrap()
}

fn unregistered(capacity: u64) -> Server {
    let config = ServerConfig::new("http://master:7100".parse().unwrap(), capacity);
    Server::new(World::real(), &config, &url())
}

/// A vector of 10 `i64` in 2 partitions.
fn vector() -> ModelSpec {
    let draft = ModelDraft {
        partitions: Partitions::Exactly(2),
        ..ModelDraft::new("counts", Shape::Vector { keys: 10 }, ElementType::I64)
    };
    draft.resolve(1).unwrap()
}

fn held(partition: u32, epoch: Epoch) -> HeldPartition {
    HeldPartition {
        partition,
        epoch,
        ..HeldPartition::default()
    }
}

fn hold(spec: ModelSpec, incarnation: Incarnation, creating: bool) -> Hold {
    let partitions = (0..spec.partition_count).map(|p| held(p, EPOCH)).collect();
    Hold {
        spec,
        incarnation,
        creating,
        partitions,
        followed: Vec::new(),
        peers: Vec::new(),
    }
}

fn orders(server: &Server, hold: Vec<Hold>, drop: Vec<Drop>) -> Orders {
    Orders {
        cluster: CLUSTER,
        term: Term(1),
        boot: server.boot(),
        hold,
        drop,
    }
}

fn registration(server: &Server, hold: Vec<Hold>) -> Registered {
    Registered {
        cluster: CLUSTER,
        heartbeat_ms: 100,
        pulse: Pulse::default(),
        orders: orders(server, hold, Vec::new()),
    }
}

/// A registered server that holds both partitions of [`vector`].
async fn serving() -> Server {
    let server = unregistered(1 << 20);
    let answer = registration(&server, vec![hold(vector(), MODEL, true)]);
    server.registered(answer).await.unwrap();
    server
}

/// A group of a request, with its sections.
struct Group {
    header: GroupHeader,
    bytes: Vec<u8>,
}

fn group(op: Op, partition: u32, bytes: Vec<u8>) -> Group {
    Group {
        header: GroupHeader {
            incarnation: MODEL,
            partition,
            epoch: EPOCH,
            prev: Number(0),
            digest: digest(MODEL, partition, [bytes.as_slice()]),
            read: ReadMode::Latest,
            op,
            element: (op != Op::Skip).then_some(ElementType::I64),
            sections: u16::from(op != Op::Skip),
            length: bytes.len() as u32,
        },
        bytes,
    }
}

/// Adds values from a local index on.
fn add(partition: u32, start: u64, values: &[i64]) -> Group {
    let mut bytes = Vec::new();
    write::range(&mut bytes, Some(Rule::Add), 8, start, values.len());
    i64::append(values, &mut bytes);
    group(Op::Update, partition, bytes)
}

/// Reads all five values.
fn read(partition: u32) -> Group {
    let mut bytes = Vec::new();
    write::range(&mut bytes, None, 8, 0, 5);
    group(Op::Pull, partition, bytes)
}

fn frame(kind: Kind, number: u64, groups: &[Group]) -> Vec<u8> {
    let mut out = RequestHeader {
        kind,
        groups: groups.len() as u32,
        lane: LANE,
        number: Number(number),
    }
    .encode()
    .to_vec();
    for group in groups {
        out.extend_from_slice(&group.header.encode());
        out.extend_from_slice(&group.bytes);
    }
    out
}

fn push(number: u64, groups: &[Group]) -> Vec<u8> {
    frame(Kind::Push, number, groups)
}

fn pull(groups: &[Group]) -> Vec<u8> {
    frame(Kind::Pull, 0, groups)
}

/// Posts a body; the answer's status, content type and body.
async fn post(
    server: &Server,
    path: &str,
    content_type: &str,
    body: impl Into<Body>,
) -> (StatusCode, String, Vec<u8>) {
    let request = Request::post(path)
        .header(header::CONTENT_TYPE, content_type)
        .body(body.into())
        .unwrap();
    let response = server.paths().respond(request).await;
    let status = response.status();
    let kind = response.headers()[header::CONTENT_TYPE]
        .to_str()
        .unwrap()
        .to_owned();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, kind, body.to_vec())
}

/// Posts a binary frame; one status, position and payload per result.
async fn ask(server: &Server, path: &str, body: Vec<u8>) -> Vec<(Status, Position, Vec<u8>)> {
    let (status, kind, reply) = post(server, path, BINARY, body).await;
    let text = String::from_utf8_lossy(&reply);
    assert_eq!((status, kind.as_str()), (StatusCode::OK, BINARY), "{text}");
    results(&reply)
}

fn results(reply: &[u8]) -> Vec<(Status, Position, Vec<u8>)> {
    let head = ReplyHeader::decode(reply).unwrap();
    let mut rest = &reply[ReplyHeader::SIZE..];
    let mut results = Vec::new();
    for _ in 0..head.results {
        let header = ResultHeader::decode(rest).unwrap();
        let (payload, after) = rest[ResultHeader::SIZE..].split_at(header.length as usize);
        results.push((header.status, header.position, payload.to_vec()));
        rest = after;
    }
    assert!(rest.is_empty());
    results
}

/// Posts what is refused as a whole.
async fn refused(
    server: &Server,
    path: &str,
    content_type: &str,
    body: impl Into<Body>,
) -> ErrorBody {
    let (status, kind, reply) = post(server, path, content_type, body).await;
    let error: ErrorBody = serde_json::from_slice(&reply).unwrap();
    assert_eq!(
        (status.as_u16(), kind.as_str()),
        (error.code.http_status(), JSON)
    );
    error
}

async fn values(server: &Server, partition: u32) -> Vec<i64> {
    let results = ask(server, "/v1/pull", pull(&[read(partition)])).await;
    let (status, _, payload) = &results[0];
    assert_eq!(
        *status,
        Status::Values,
        "{}",
        String::from_utf8_lossy(payload)
    );
    let mut values = vec![0; payload.len() / 8];
    i64::decode(payload, &mut values);
    values
}

async fn code(server: &Server, path: &str, body: Vec<u8>) -> ErrorBody {
    let results = ask(server, path, body).await;
    let (Status::Error(code), _, payload) = &results[0] else {
        panic!("{:?}", results[0])
    };
    let error = ErrorBody::from_json(payload);
    assert_eq!(error.code, *code);
    error
}
