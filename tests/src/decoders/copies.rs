//! What servers say to each other about copies, as a follower takes it.

use bytes::Bytes;
use glint_protocol::{
    Boot, Element, ElementType, Incarnation, LaneId, ModelDraft, ModelId, Number, Partitions,
    Position, Rule, Shape,
    frame::{Kind, Status, digest, write},
};
use glint_server::{
    log::{
        record::{self, Header},
        snapshot::{self, About},
    },
    server::Server,
};

use super::{
    frames::{EPOCH, VECTOR, everything, server},
    reply, run, variants,
};

/// The model of the copy that arrives: a vector of four `i64` in one partition.
const ARRIVING: Incarnation = Incarnation {
    model: ModelId(9),
    generation: 1,
};
const SESSION: u64 = 5;
const LANE: LaneId = LaneId {
    birth: 1_700_000_000_000,
    random: 2,
};

/// Who speaks, as every body begins: another server, to this start of this one.
fn hello(server: &Server) -> serde_json::Value {
    serde_json::json!({
        "cluster": glint_protocol::ClusterId(1),
        "server": "s9",
        "boot": Boot(77),
        "to": server.boot(),
    })
}

fn greeting(server: &Server) -> Vec<u8> {
    let text = hello(server).to_string();
    let mut out = (text.len() as u32).to_le_bytes().to_vec();
    out.extend_from_slice(text.as_bytes());
    out
}

/// One frame: kind, partition, generation, length (u32 each), model, epoch, session, place (u64 each), and its content.
fn frame(kind: u32, incarnation: Incarnation, place: u64, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for number in [kind, 0, incarnation.generation, content.len() as u32] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    for number in [incarnation.model.0, EPOCH.0, SESSION, place] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    out.extend_from_slice(content);
    out
}

/// What the partition is, before its values come: its description as JSON behind its length, and a ledger without lanes.
fn begin() -> Vec<u8> {
    let mut draft = ModelDraft::new("arriving", Shape::Vector { keys: 4 }, ElementType::I64);
    draft.partitions = Partitions::Exactly(1);
    let about = About {
        version: snapshot::VERSION,
        incarnation: ARRIVING,
        partition: 0,
        position: Position(3),
        epoch: EPOCH,
        offset: 0,
        spec: draft.resolve(1).expect("a valid draft"),
    };
    let about = serde_json::to_vec(&about).expect("numbers and strings");
    let mut out = (about.len() as u32).to_le_bytes().to_vec();
    out.extend_from_slice(&about);
    out.extend_from_slice(&0_u64.to_le_bytes());
    out
}

/// The record that comes after the state.
fn append() -> Vec<u8> {
    let mut payload = Vec::new();
    write::range(&mut payload, Some(Rule::Add), 8, 0, 2);
    i64::append(&[5, 6], &mut payload);
    let header = Header {
        epoch: EPOCH,
        position: Position(4),
        previous: EPOCH,
        lane: LANE,
        number: Number(1),
        digest: digest(ARRIVING, 0, [&payload[..]]),
        sections: 1,
        ..Header::new(record::Kind::Update, ARRIVING, 0, Boot(77), &payload)
    };
    [&header.encode(0)[..], &payload].concat()
}

/// A whole state with a record behind it; an offer of a partition that this server has; a copy that is to go.
fn bodies(server: &Server) -> Vec<Vec<u8>> {
    let mut values = Vec::new();
    i64::append(&[1, 2, 3, 4], &mut values);
    let of = |kind, place, content: &[u8]| frame(kind, ARRIVING, place, content);
    let all = [
        vec![
            of(1, 0, &[]),
            of(2, 0, &begin()),
            of(3, 0, &values[..16]),
            of(3, 2, &values[16..]),
            of(4, 0, &[]),
            of(5, 0, &append()),
        ],
        vec![frame(1, VECTOR, 0, &[])],
        vec![of(6, 0, &[])],
    ];
    let whole = |frames: Vec<Vec<u8>>| [greeting(server), frames.concat()].concat();
    all.map(whole).into()
}

/// A beacon that echoes something (u64), with an attachment: generation, partition (u32 each), model, epoch, session (u64 each),
/// whether it is whole (u32).
fn beacon(server: &Server) -> Vec<u8> {
    let mut out = greeting(server);
    out.extend_from_slice(&1_u64.to_le_bytes());
    for number in [ARRIVING.generation, 0] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    for number in [ARRIVING.model.0, EPOCH.0, SESSION] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    out.extend_from_slice(&1_u32.to_le_bytes());
    out
}

fn ceased(server: &Server) -> Vec<u8> {
    let word = serde_json::json!({
        "hello": hello(server), "incarnation": ARRIVING, "partition": 0, "ceased": EPOCH,
    });
    word.to_string().into_bytes()
}

/// Copies, beacons and yields, once and again: what this server holds stays as it is, or is held by another at a higher epoch.
pub fn copies(data: &[u8]) {
    let server = server();
    let before = everything(&server);
    for bytes in variants(data, &bodies(&server)) {
        for _ in 0..2 {
            let _ = run(server.copies_body(Bytes::from(bytes.clone())));
        }
    }
    for bytes in variants(data, &[beacon(&server), ceased(&server)]) {
        let _ = server.beacon_body(Bytes::from(bytes.clone()));
        let _ = server.yield_body(&bytes);
    }
    let after = everything(&server);
    if after != before {
        let answers = reply::answers(&after, Kind::PullReply, 2).expect("an answer for each");
        let refused = |answer: &reply::Answer| matches!(answer.status, Status::Error(_));
        assert!(answers.iter().any(refused), "values were changed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_target_starts_from_is_taken() {
        let server = server();
        let answers: Vec<_> = bodies(&server)
            .into_iter()
            .map(|body| run(server.copies_body(body.into())).unwrap())
            .collect();
        let outcome = |at: usize| &answers[at]["answers"][0]["outcome"];
        assert_eq!(outcome(0), &serde_json::json!({ "has": 4 }));
        assert_eq!(outcome(1), &serde_json::json!({ "refused": EPOCH }));
        assert_eq!(outcome(2), "detached");
        server.beacon_body(beacon(&server).into()).unwrap();
        server.yield_body(&ceased(&server)).unwrap();
    }
}
