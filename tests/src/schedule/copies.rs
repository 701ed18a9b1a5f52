//! The copies of a partition are the same: when faults are over, every copy that the master believes to be in sync has, bit for
//! bit, what its holder has. So a copy that took what it should not, or lacks something, is found without being promoted first.

use std::{collections::BTreeMap, time::Duration};

use glint_protocol::{
    BINARY, ElementType, LaneId, Layout, ModelMap, Number, Position,
    frame::{
        GroupHeader, Kind, Op, ReadMode, ReplyHeader, RequestHeader, ResultHeader, Status, write,
    },
};
use glint_world::{
    World,
    http::{Connections, Frames},
};
use tokio::time::{Instant, sleep, timeout};

use super::{SETTLES_WITHIN, truth::Wrong, work::Session};

/// How long copies may differ: one may have been taken out of the in-sync set, and the master not have said so yet.
const DIFFER: Duration = Duration::from_secs(10);

/// What one server answered to a pull of a whole partition.
type Answer = Option<(Position, Vec<u8>)>;

/// Compares the copies of every model, and tells the truth.
pub(super) async fn compare(session: &Session) {
    let cluster = &session.cluster;
    let world = cluster.witness(77);
    let mut ways = Ways {
        world,
        known: BTreeMap::new(),
    };
    for model in cluster.plan.models.iter().filter(|m| m.copies > 1) {
        let began = Instant::now();
        let mut differ_since: Option<Instant> = None;
        let why = loop {
            let verdict = match session.client.map(&model.name).await {
                Ok(map) => ways.differ(session, &map).await,
                Err(_) => Verdict::Unknown,
            };
            match verdict {
                Verdict::Same => break None,
                Verdict::Different(text) => {
                    if differ_since.get_or_insert_with(Instant::now).elapsed() > DIFFER {
                        break Some((Wrong::Lost, text));
                    }
                }
                Verdict::Unknown => {
                    differ_since = None;
                    if began.elapsed() > SETTLES_WITHIN {
                        let text = format!(
                            "the copies of {} could not be read for {SETTLES_WITHIN:?}",
                            model.name
                        );
                        break Some((Wrong::Other, text));
                    }
                }
            }
            sleep(Duration::from_millis(200)).await;
        };
        if let Some((wrong, text)) = why {
            cluster.truth.violated(wrong, text);
            return;
        }
    }
}

enum Verdict {
    Same,
    Different(String),
    /// Somebody did not answer, or who has copies has changed.
    Unknown,
}

/// Connections to servers, by their URLs.
struct Ways {
    world: World,
    known: BTreeMap<String, Connections>,
}

impl Ways {
    async fn differ(&mut self, session: &Session, map: &ModelMap) -> Verdict {
        let Ok(layout) = Layout::new(&map.spec, |_| None) else {
            return Verdict::Unknown;
        };
        let mut different = None;
        for (partition, followers) in (0..).zip(&map.followers) {
            if followers.is_empty() || map.lost.contains(&partition) {
                continue;
            }
            let count = layout.size(partition) * u64::from(map.spec.shape.cols());
            let of = Whole {
                partition,
                count: count as usize,
            };
            let holder = map.holders[partition as usize];
            let Some((position, values)) = self.pull(map, holder, &of, ReadMode::Latest).await
            else {
                return Verdict::Unknown;
            };
            for &follower in followers {
                let read = ReadMode::AtLeast(position);
                let Some((at, copy)) = self.pull(map, follower, &of, read).await else {
                    return Verdict::Unknown;
                };
                if copy != values && different.is_none() {
                    let server = |at: u32| &map.servers[at as usize].id;
                    different = Some(format!(
                        "partition {partition} of {}: the copy of {} differs at position {at} from that of its holder {} at {position}: \
                         {copy:x?} there, {values:x?} here",
                        map.spec.name,
                        server(follower),
                        server(holder)
                    ));
                }
            }
        }
        match (session.client.map(&map.spec.name).await, different) {
            (Ok(now), Some(text)) if now.revision == map.revision => Verdict::Different(text),
            (Ok(now), None) if now.revision == map.revision => Verdict::Same,
            _ => Verdict::Unknown,
        }
    }

    /// All values of a partition, as one server has them.
    async fn pull(&mut self, map: &ModelMap, server: u32, of: &Whole, read: ReadMode) -> Answer {
        let url = &map.servers[server as usize].url;
        if !self.known.contains_key(url) {
            let connections = Connections::new(self.world.clone(), url.parse().ok()?, 1);
            self.known.insert(url.clone(), connections);
        }
        let request = http::Request::post("/v1/pull")
            .header(http::header::CONTENT_TYPE, BINARY)
            .body(Frames::from(of.frame(map, read)))
            .ok()?;
        let asked = async {
            let response = self.known[url].send(request).await.ok()?;
            response.collect(1 << 20).await.ok()
        };
        let reply = timeout(Duration::from_secs(2), asked).await.ok()??;
        let result = ResultHeader::decode(reply.get(ReplyHeader::SIZE..)?).ok()?;
        let values = reply.get(ReplyHeader::SIZE + ResultHeader::SIZE..)?;
        (result.status == Status::Values).then(|| (result.position, values.to_vec()))
    }
}

/// A partition as a whole.
struct Whole {
    partition: u32,
    count: usize,
}

impl Whole {
    fn frame(&self, map: &ModelMap, read: ReadMode) -> Vec<u8> {
        let mut section = Vec::new();
        let element: ElementType = map.spec.element;
        write::range(&mut section, None, element.size(), 0, self.count);
        let lane = LaneId {
            birth: 0,
            random: 0,
        };
        let request = RequestHeader {
            kind: Kind::Pull,
            groups: 1,
            lane,
            number: Number(0),
        };
        let group = GroupHeader {
            incarnation: map.incarnation,
            partition: self.partition,
            epoch: map.epochs[self.partition as usize],
            prev: Number(0),
            digest: 0,
            read,
            op: Op::Pull,
            element: Some(element),
            sections: 1,
            length: section.len() as u32,
        };
        [&request.encode()[..], &group.encode(), &section].concat()
    }
}
