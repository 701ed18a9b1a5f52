//! Asking one server for one partition, past the client's library: also a server that is not, or no more, its holder.

use std::{collections::BTreeMap, time::Duration};

use glint_protocol::{
    BINARY, ErrorCode, LaneId, Layout, ModelMap, Number, Position,
    frame::{
        GroupHeader, Kind, Op, ReadMode, ReplyHeader, RequestHeader, ResultHeader, Status, write,
    },
};
use glint_world::{
    World,
    http::{Connections, Frames},
};
use tokio::time::timeout;

/// How long a server may take to answer.
const WITHIN: Duration = Duration::from_secs(2);

/// What a server said.
pub(super) enum Said {
    /// All values of the partition, and up to which record they are.
    Values(Position, Vec<u8>),
    Refused(ErrorCode),
    /// Nothing, or nothing that makes sense.
    Nothing,
}

/// Ways to servers, by their URLs.
pub(super) struct Direct {
    world: World,
    known: BTreeMap<String, Connections>,
}

impl Direct {
    pub(super) fn new(world: World) -> Self {
        Self {
            world,
            known: BTreeMap::new(),
        }
    }

    /// All values of a partition, as one of a map's servers has them.
    pub(super) async fn pull(
        &mut self,
        map: &ModelMap,
        server: u32,
        partition: u32,
        read: ReadMode,
    ) -> Said {
        let asked = self.ask(map, server, partition, read);
        match timeout(WITHIN, asked).await {
            Ok(Some(said)) => said,
            _ => Said::Nothing,
        }
    }

    async fn ask(
        &mut self,
        map: &ModelMap,
        server: u32,
        partition: u32,
        read: ReadMode,
    ) -> Option<Said> {
        let url = &map.servers[server as usize].url;
        if !self.known.contains_key(url) {
            let connections = Connections::new(self.world.clone(), url.parse().ok()?, 1);
            self.known.insert(url.clone(), connections);
        }
        let request = http::Request::post("/v1/pull")
            .header(http::header::CONTENT_TYPE, BINARY)
            .body(Frames::from(whole(map, partition, read)?))
            .ok()?;
        let response = self.known[url].send(request).await.ok()?;
        let reply = response.collect(1 << 20).await.ok()?;
        let result = ResultHeader::decode(reply.get(ReplyHeader::SIZE..)?).ok()?;
        Some(match result.status {
            Status::Values => {
                let values = reply.get(ReplyHeader::SIZE + ResultHeader::SIZE..)?;
                Said::Values(result.position, values.to_vec())
            }
            Status::Error(code) => Said::Refused(code),
            Status::Applied | Status::Skipped => Said::Nothing,
        })
    }
}

/// A request for a partition as a whole.
fn whole(map: &ModelMap, partition: u32, read: ReadMode) -> Option<Vec<u8>> {
    let layout = Layout::new(&map.spec, |_| None).ok()?;
    let count = layout.size(partition) * u64::from(map.spec.shape.cols());
    let mut section = Vec::new();
    let element = map.spec.element;
    write::range(&mut section, None, element.size(), 0, count as usize);
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
        partition,
        epoch: map.epochs[partition as usize],
        prev: Number(0),
        digest: 0,
        read,
        op: Op::Pull,
        element: Some(element),
        sections: 1,
        length: section.len() as u32,
    };
    Some([&request.encode()[..], &group.encode(), &section].concat())
}
