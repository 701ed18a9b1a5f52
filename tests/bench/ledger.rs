//! What exactly-once costs a server: the instructions of a push that is taken apart, checked, judged by the ledger and
//! applied, against those of the same push taken apart, checked and merged into the values without a ledger.
//!
//! The child ([`main`]) runs one of the two so often as it is told; the directing process counts its instructions for two
//! counts ([`cost`]), so that start and end cancel out.

use std::hint::black_box;

use anyhow::Context;
use clap::ValueEnum;
use glint_protocol::{
    BINARY, ClusterId, Element, ElementType, Epoch, Incarnation, LaneId, ModelDraft, ModelId,
    ModelSpec, Number, Rule, Shape, Term,
    control::{HeldPartition, Hold, Orders, Registered},
    copies::Pulse,
    frame::{
        GroupHeader, Kind, Op, ReadMode, ReplyHeader, Request, RequestHeader, ResultHeader, Status,
        digest, write,
    },
    spec::Partitions,
};
use glint_server::{
    partition::{Description, Outcome, Partition, check::check, judge::Pushed},
    serve::{Limits, serve},
    server::{Server, ServerConfig},
};
use glint_world::{Clock, Shutdown, SystemClock, World, http::Url};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::instructions::Counter;

/// Instructions of a push of one key as a whole request right before models could have copies (x86-64, valgrind):
/// `git switch --detach d8e2159 && make bench ARGS="--only 'exactly-once, push of 1 key'"`.
pub(crate) const BEFORE_COPIES: f64 = 30_000.0;
/// Values of the partition: 4 MiB, the size that the cluster cuts large models into.
const VALUES: u64 = 1 << 20;
/// Lanes that the ledger knows: 16 workers with 4 each.
const LANES: u64 = 64;
const INCARNATION: Incarnation = Incarnation {
    model: ModelId(7),
    generation: 1,
};
const EPOCH: Epoch = Epoch(3);

/// A push.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Push {
    /// A range of 256 Ki values: 1 MiB, what a client sends at once.
    Dense,
    /// 10 000 sorted keys.
    Sparse,
    /// One key.
    One,
}

/// The way of a push through the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Path {
    /// As the server does it.
    Ledger,
    /// Without judging and without noting.
    Direct,
    /// As an HTTP request over TCP to the whole server.
    Request,
}

impl Push {
    pub(crate) const ALL: [Self; 3] = [Self::Dense, Self::Sparse, Self::One];

    /// Its name in the report.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Dense => "exactly-once, push of 1 MiB",
            Self::Sparse => "exactly-once, push of 10k keys",
            Self::One => "exactly-once, push of 1 key",
        }
    }

    /// How often it is run: once few, once more times.
    const fn counts(self) -> [u64; 2] {
        match self {
            Self::Dense => [5, 55],
            Self::Sparse => [10, 210],
            Self::One => [500, 20_500],
        }
    }

    fn indices(self) -> Vec<u64> {
        match self {
            Self::Dense => Vec::new(),
            // An odd step that shares no factor with the size: distinct, and sorted below.
            Self::Sparse => {
                let mut keys: Vec<u64> = (0..10_000).map(|i| i * 7919 % VALUES).collect();
                keys.sort_unstable();
                keys
            }
            Self::One => vec![VALUES / 3],
        }
    }

    /// The request's body, as the client writes it.
    fn body(self, lane: LaneId) -> Vec<u8> {
        let mut sections = Vec::new();
        let rule = Some(Rule::Add);
        let count = match self {
            Self::Dense => {
                let count = 1 << 18;
                write::range(&mut sections, rule, f32::SIZE, 1 << 10, count);
                count
            }
            Self::Sparse | Self::One => {
                let indices = self.indices();
                write::indices(&mut sections, rule, f32::SIZE, &indices, false);
                indices.len()
            }
        };
        f32::append(&vec![1.0; count], &mut sections);
        let group = GroupHeader {
            incarnation: INCARNATION,
            partition: 0,
            epoch: EPOCH,
            prev: Number(0),
            digest: digest(INCARNATION, 0, [&sections[..]]),
            read: ReadMode::Latest,
            op: Op::Update,
            element: Some(ElementType::F32),
            sections: 1,
            length: sections.len() as u32,
        };
        let header = RequestHeader {
            kind: Kind::Push,
            groups: 1,
            lane,
            number: Number(1),
        };
        [&header.encode()[..], &group.encode(), &sections].concat()
    }
}

/// Instructions per push of one path, outside the kernel.
pub(crate) async fn cost(counter: Counter, push: Push, path: Path) -> anyhow::Result<f64> {
    let program = std::env::current_exe()?;
    let program = program.to_string_lossy().into_owned();
    let path = match path {
        Path::Ledger => "ledger",
        Path::Direct => "direct",
        Path::Request => "request",
    };
    let [few, many] = push.counts();
    let mut counted = [0; 2];
    for (count, instructions) in [few, many].into_iter().zip(&mut counted) {
        let json = serde_json::to_string(&push)?;
        let count = count.to_string();
        let arguments = ["ledger", "--push", &json, "--path", path, "--count", &count];
        let mut line = vec![program.clone()];
        line.extend(arguments.map(String::from));
        *instructions = counter.count(&line).await?;
    }
    let [base, more] = counted;
    let difference = more
        .checked_sub(base)
        .context("more pushes took fewer instructions")?;
    Ok(difference as f64 / (many - few) as f64)
}

/// Runs a push, given as JSON, `count` times.
pub(crate) fn main(push: &str, path: Path, count: u64) -> anyhow::Result<()> {
    let push: Push = serde_json::from_str(push)?;
    let now = SystemClock.unix_ms();
    let mut draft = ModelDraft::new("bench", Shape::Vector { keys: VALUES }, ElementType::F32);
    draft.partitions = Partitions::Exactly(1);
    let spec = draft.resolve(1)?;
    if path == Path::Request {
        return as_requests(push, spec, now, count);
    }
    let description = Description::new(&spec, INCARNATION, 0);
    let mut partition = Partition::new(&description, &spec, EPOCH)?;
    let lane = |random| LaneId { birth: now, random };
    for other in 0..LANES {
        let body = Push::One.body(lane(other));
        through_ledger(&mut partition, &description, &body)?;
    }
    let mut body = push.body(lane(LANES / 2));
    for number in 2..2 + count {
        renumber(&mut body, number);
        match path {
            Path::Direct => direct(&mut partition, &description, black_box(&body))?,
            _ => through_ledger(&mut partition, &description, black_box(&body))?,
        }
    }
    let position = partition.position().0;
    anyhow::ensure!(
        position == LANES + count,
        "the partition is at position {position} after {LANES} + {count} pushes"
    );
    black_box(&partition);
    Ok(())
}

/// Number and prev of the one group: what differs between the requests of a lane.
fn renumber(body: &mut [u8], number: u64) {
    body[32..40].copy_from_slice(&number.to_le_bytes());
    let prev = RequestHeader::SIZE + 24;
    body[prev..prev + 8].copy_from_slice(&(number - 1).to_le_bytes());
}

/// Sends the push `count` times to a whole server in this process, one request after another over one connection.
fn as_requests(push: Push, spec: ModelSpec, now: u64, count: u64) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let world = World::real();
        let listener = world.network.listen("127.0.0.1:0").await?;
        let address = listener.address()?;
        let url: Url = format!("http://{address}").parse()?;
        let server = Server::new(
            world.clone(),
            &ServerConfig::new(url.clone(), 1 << 30),
            &url,
        );
        let held = HeldPartition {
            partition: 0,
            epoch: EPOCH,
            ..HeldPartition::default()
        };
        let hold = Hold {
            spec,
            incarnation: INCARNATION,
            creating: true,
            partitions: vec![held],
            followed: Vec::new(),
            peers: Vec::new(),
        };
        let orders = Orders {
            cluster: ClusterId(1),
            term: Term(1),
            boot: server.boot(),
            hold: vec![hold],
            drop: Vec::new(),
        };
        let registered = Registered {
            cluster: ClusterId(1),
            heartbeat_ms: 100,
            pulse: Pulse::default(),
            orders,
        };
        server.registered(registered).await?;
        let shutdown = Shutdown::new();
        let serving = serve(
            world,
            listener,
            server.paths(),
            Limits::default(),
            shutdown.clone(),
        );
        let serving = tokio::spawn(serving);
        let mut stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let lane = |random| LaneId { birth: now, random };
        for other in 0..LANES {
            exchange(&mut stream, &Push::One.body(lane(other))).await?;
        }
        let mut body = push.body(lane(LANES / 2));
        for number in 2..2 + count {
            renumber(&mut body, number);
            exchange(&mut stream, &body).await?;
        }
        drop(stream);
        shutdown.cancel();
        serving.await?;
        anyhow::Ok(())
    })
}

/// One request and its answer, which must say that the push is in.
async fn exchange(stream: &mut TcpStream, body: &[u8]) -> anyhow::Result<()> {
    let mut request = format!(
        "POST /v1/push HTTP/1.1\r\nhost: s\r\ncontent-type: {BINARY}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    request.extend_from_slice(body);
    stream.write_all(&request).await?;
    let answer = ReplyHeader::SIZE + ResultHeader::SIZE;
    let mut read = Vec::with_capacity(1024);
    let end = loop {
        anyhow::ensure!(stream.read_buf(&mut read).await? > 0, "the server hung up");
        let head = read.windows(4).position(|w| w == b"\r\n\r\n");
        if let Some(head) = head.filter(|head| read.len() >= head + 4 + answer) {
            break head + 4;
        }
    };
    let result = ResultHeader::decode(&read[end + ReplyHeader::SIZE..])?;
    anyhow::ensure!(
        result.status == Status::Applied,
        "the push ended as {result:?}"
    );
    Ok(())
}

fn through_ledger(
    partition: &mut Partition,
    description: &Description,
    body: &[u8],
) -> anyhow::Result<()> {
    let request = Request::parse(body, Kind::Push)?;
    for group in &request.groups {
        let checked = check(description, group, request.header.number.0);
        let pushed = Pushed {
            lane: request.header.lane,
            number: request.header.number,
            header: &group.header,
        };
        let now = || SystemClock.unix_ms();
        let verdict = partition.judge_and_apply(description, pushed, checked.as_ref(), Ok(()), now);
        anyhow::ensure!(
            verdict.outcome == Outcome::Applied && !verdict.repeated,
            "the push ended as {verdict:?}"
        );
    }
    Ok(())
}

fn direct(partition: &mut Partition, description: &Description, body: &[u8]) -> anyhow::Result<()> {
    let request = Request::parse(body, Kind::Push)?;
    for group in &request.groups {
        let checked = check(description, group, request.header.number.0)?;
        partition.merge_only(description.rule, description.cols, &checked.sections);
    }
    Ok(())
}
