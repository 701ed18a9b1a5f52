//! The protocol spoken by hand: what a client that keeps no rule can send.

use bytes::Bytes;
use glint_protocol::{
    BINARY, ElementType, Epoch, ErrorBody, ErrorCode, Incarnation, JSON, LaneId, ModelMap, Number,
    frame::{
        GroupHeader, Kind, Op, ReadMode, ReplyHeader, RequestHeader, ResultHeader, Status,
        digest as digest_of,
    },
};
use glint_world::{
    World,
    http::{Connections, Frames},
};
use serde_json::Value;

/// A connection to one master or server.
#[derive(Debug)]
pub struct Wire {
    connections: Connections,
}

/// How one group of a frame ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The bytes of a pull's values.
    Values(Bytes),
    /// Applied, at this position.
    Applied(u64),
    /// Settled by a skip.
    Skipped,
    /// Refused.
    Error(ErrorBody),
}

impl Outcome {
    /// The code of an error.
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Error(error) => Some(error.code),
            _ => None,
        }
    }
}

impl Wire {
    /// To the URL of a master or server.
    pub fn to(url: &str) -> Self {
        let url = url.parse().unwrap_or_else(|e| panic!("{e}"));
        Self {
            connections: Connections::new(World::real(), url, 1),
        }
    }

    /// One exchange: status and body.
    pub async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> (u16, Bytes) {
        let mut request = http::Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Frames::from(body)).expect("a valid request");
        let response = self.connections.send(request).await.expect("an answer");
        let status = response.head.status.as_u16();
        let body = response.collect(64 << 20).await.expect("a whole answer");
        (status, body)
    }

    /// An exchange in JSON; `Null` sends no body.
    ///
    /// # Errors
    /// What the other side refused, whose HTTP status must be that of its code.
    pub async fn json(&self, method: &str, path: &str, body: Value) -> Result<Value, ErrorBody> {
        let body = if body.is_null() {
            Vec::new()
        } else {
            body.to_string().into_bytes()
        };
        let (status, answer) = self
            .send(method, path, &[("content-type", JSON)], body)
            .await;
        if status == 200 {
            return Ok(serde_json::from_slice(&answer).expect("JSON"));
        }
        let error: ErrorBody = serde_json::from_slice(&answer).expect("an error of the protocol");
        assert_eq!(error.code.http_status(), status, "{error}");
        Err(error)
    }

    /// The map of a model, from the master.
    ///
    /// # Errors
    /// What the master refused.
    pub async fn map(&self, name: &str) -> Result<ModelMap, ErrorBody> {
        let path = format!("/v1/models/{name}");
        let map = self.json("GET", &path, Value::Null).await?;
        Ok(serde_json::from_value(map).expect("a map"))
    }

    /// Sends a binary frame as it is.
    ///
    /// # Errors
    /// What the server refused of the whole request.
    pub async fn frame(&self, path: &str, body: Vec<u8>) -> Result<Vec<Outcome>, ErrorBody> {
        let (status, answer) = self
            .send("POST", path, &[("content-type", BINARY)], body)
            .await;
        if status != 200 {
            let error: ErrorBody = serde_json::from_slice(&answer).expect("an error");
            assert_eq!(error.code.http_status(), status, "{error}");
            return Err(error);
        }
        let head = ReplyHeader::decode(&answer).expect("a reply");
        let (mut at, mut outcomes) = (ReplyHeader::SIZE, Vec::new());
        for _ in 0..head.results {
            let result = ResultHeader::decode(&answer[at..]).expect("a result");
            let start = at + ResultHeader::SIZE;
            at = start + result.length as usize;
            let payload = answer.slice(start..at);
            outcomes.push(match result.status {
                Status::Values => Outcome::Values(payload),
                Status::Applied => Outcome::Applied(result.position.0),
                Status::Skipped => Outcome::Skipped,
                Status::Error(code) => {
                    let error = ErrorBody::from_json(&payload);
                    assert_eq!(error.code, code);
                    Outcome::Error(error)
                }
            });
        }
        assert_eq!(at, answer.len(), "bytes follow the last result");
        Ok(outcomes)
    }
}

/// One partition, as a client knows it.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "fields of a group's header")]
pub struct Target {
    pub url: String,
    pub incarnation: Incarnation,
    pub partition: u32,
    pub epoch: Epoch,
    pub element: ElementType,
}

impl Target {
    /// A partition of a map.
    pub fn new(map: &ModelMap, partition: u32) -> Self {
        let (server, epoch) = map.holder(partition).expect("a holder");
        Self {
            url: server.url.clone(),
            incarnation: map.incarnation,
            partition,
            epoch,
            element: map.spec.element,
        }
    }

    /// A pull of `count` sections that lie in `sections`.
    pub fn pull(&self, sections: &[u8], count: u16) -> Vec<u8> {
        let lane = LaneId {
            birth: 0,
            random: 0,
        };
        self.frame(Op::Pull, lane, 0, 0, sections, count)
    }

    /// A push of `count` sections that lie in `sections`, with the right digest.
    pub fn push(
        &self,
        lane: LaneId,
        number: u64,
        prev: u64,
        sections: &[u8],
        count: u16,
    ) -> Vec<u8> {
        self.frame(Op::Update, lane, number, prev, sections, count)
    }

    /// A skip of a number.
    pub fn skip(&self, lane: LaneId, number: u64, prev: u64) -> Vec<u8> {
        self.frame(Op::Skip, lane, number, prev, &[], 0)
    }

    fn frame(
        &self,
        op: Op,
        lane: LaneId,
        number: u64,
        prev: u64,
        sections: &[u8],
        count: u16,
    ) -> Vec<u8> {
        let kind = if op == Op::Pull {
            Kind::Pull
        } else {
            Kind::Push
        };
        let digest = match op {
            Op::Update => digest_of(self.incarnation, self.partition, [sections]),
            Op::Pull | Op::Skip => 0,
        };
        let request = RequestHeader {
            kind,
            groups: 1,
            lane,
            number: Number(number),
        };
        let group = GroupHeader {
            incarnation: self.incarnation,
            partition: self.partition,
            epoch: self.epoch,
            prev: Number(prev),
            digest,
            read: ReadMode::Latest,
            op,
            element: (op != Op::Skip).then_some(self.element),
            sections: count,
            length: sections.len() as u32,
        };
        [&request.encode()[..], &group.encode(), sections].concat()
    }
}
