//! The servers, ordered so that those of a zone, and in it those of a node, stand next to each other: so "the least loaded one
//! in another zone" is a question about at most a few ranges, answered in logarithmic time by a tree of minima.

use super::{Partition, Server, Standing};

/// A place in the order.
type Leaf = usize;

/// How far copies are apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Apart {
    Servers,
    Nodes,
    Zones,
}

/// Load and room of the servers that may take copies.
pub(super) struct Ground {
    /// Per leaf, the server.
    servers: Vec<u32>,
    /// Per server, its leaf.
    leaves: Vec<u32>,
    /// Per leaf, the first and last+1 of its zone and of its node.
    zones: Vec<(u32, u32)>,
    nodes: Vec<(u32, u32)>,
    /// Per leaf.
    bytes: Vec<u64>,
    free: Vec<u64>,
    /// Per leaf, copies of the model that is being placed.
    of_model: Vec<u32>,
    durable: Vec<bool>,
    live: Vec<bool>,
    draining: Vec<bool>,
    tree: Vec<Branch>,
    /// Leaves of the tree: a power of two.
    width: usize,
}

/// Of a range of leaves.
#[derive(Clone, Copy)]
struct Branch {
    /// The least loaded leaf that is live; [`NONE`] if there is none.
    least: u32,
    /// The most room of one that is live, and of one that is durable too.
    room: u64,
    durable_room: u64,
    /// Whether there is any, as room may be 0.
    any: bool,
    any_durable: bool,
}

const NONE: u32 = u32::MAX;
const NOTHING: Branch = Branch {
    least: NONE,
    room: 0,
    durable_room: 0,
    any: false,
    any_durable: false,
};

/// What a copy asks of a server.
#[derive(Clone, Copy, Debug)]
pub(super) struct Need {
    pub(super) bytes: u64,
    pub(super) durable: bool,
}

impl Ground {
    pub(super) fn new(servers: &[Server], partitions: &[Partition]) -> Self {
        let count = servers.len();
        let mut order: Vec<u32> = (0..count as u32).collect();
        // Without a label: apart from all others, by its own number.
        let zone = |s: u32| {
            let zone = &servers[s as usize].zone;
            (zone.as_deref(), if zone.is_none() { s } else { 0 })
        };
        let node = |s: u32| {
            let node = &servers[s as usize].node;
            (node.as_deref(), if node.is_none() { s } else { 0 })
        };
        order.sort_by_key(|&s| (zone(s), node(s), s));
        let mut leaves = vec![0; count];
        for (leaf, &server) in order.iter().enumerate() {
            leaves[server as usize] = leaf as u32;
        }
        let zones = ranges(&order, |&a, &b| zone(a) == zone(b));
        let nodes = ranges(&order, |&a, &b| (zone(a), node(a)) == (zone(b), node(b)));
        let mut bytes: Vec<u64> = order
            .iter()
            .map(|&s| servers[s as usize].other_bytes)
            .collect();
        for partition in partitions {
            for &server in partition.members.iter().chain(&partition.learners) {
                let leaf = leaves[server as usize] as usize;
                bytes[leaf] = bytes[leaf].saturating_add(partition.bytes);
            }
        }
        let room = |(leaf, &server): (Leaf, &u32)| match servers[server as usize].capacity {
            None => u64::MAX,
            Some(capacity) => capacity.saturating_sub(bytes[leaf]),
        };
        let free = order.iter().enumerate().map(room).collect();
        let server = |&s: &u32| &servers[s as usize];
        let width = count.next_power_of_two().max(1);
        let mut ground = Self {
            leaves,
            zones,
            nodes,
            free,
            of_model: vec![0; count],
            durable: order.iter().map(|s| server(s).durable).collect(),
            live: order
                .iter()
                .map(|s| server(s).standing == Standing::Live)
                .collect(),
            draining: order
                .iter()
                .map(|s| server(s).standing == Standing::Draining)
                .collect(),
            servers: order,
            bytes,
            tree: vec![NOTHING; 2 * width],
            width,
        };
        for leaf in 0..count {
            ground.tree[width + leaf] = ground.branch_of(leaf);
        }
        for at in (1..width).rev() {
            ground.tree[at] = ground.joined(ground.tree[2 * at], ground.tree[2 * at + 1]);
        }
        ground
    }

    fn branch_of(&self, leaf: Leaf) -> Branch {
        if !self.live[leaf] {
            return NOTHING;
        }
        let durable = self.durable[leaf];
        Branch {
            least: leaf as u32,
            room: self.free[leaf],
            durable_room: if durable { self.free[leaf] } else { 0 },
            any: true,
            any_durable: durable,
        }
    }

    /// Who takes the next: the least bytes, then the fewest of this model, then the first server.
    fn rank(&self, leaf: u32) -> (u64, u32, u32) {
        let at = leaf as usize;
        (self.bytes[at], self.of_model[at], self.servers[at])
    }

    fn joined(&self, a: Branch, b: Branch) -> Branch {
        let least = match (a.least, b.least) {
            (NONE, other) | (other, NONE) => other,
            (x, y) if self.rank(y) < self.rank(x) => y,
            (x, _) => x,
        };
        Branch {
            least,
            room: a.room.max(b.room),
            durable_room: a.durable_room.max(b.durable_room),
            any: a.any | b.any,
            any_durable: a.any_durable | b.any_durable,
        }
    }

    fn refresh(&mut self, leaf: Leaf) {
        let mut at = self.width + leaf;
        self.tree[at] = self.branch_of(leaf);
        while at > 1 {
            at /= 2;
            self.tree[at] = self.joined(self.tree[2 * at], self.tree[2 * at + 1]);
        }
    }

    /// A copy comes.
    pub(super) fn put(&mut self, server: u32, bytes: u64) {
        let leaf = self.leaves[server as usize] as usize;
        self.bytes[leaf] = self.bytes[leaf].saturating_add(bytes);
        if self.free[leaf] != u64::MAX {
            self.free[leaf] = self.free[leaf].saturating_sub(bytes);
        }
        self.of_model[leaf] += 1;
        self.refresh(leaf);
    }

    /// A copy goes. Its room is not given to another in the same plan: it is there only when the copy has gone.
    pub(super) fn take(&mut self, server: u32, bytes: u64) {
        let leaf = self.leaves[server as usize] as usize;
        self.bytes[leaf] = self.bytes[leaf].saturating_sub(bytes);
        self.refresh(leaf);
    }

    /// From now on copies of another model are placed: so many of it are on these servers.
    pub(super) fn turn_to_model(&mut self, copies: impl Iterator<Item = u32>) {
        let mut touched: Vec<Leaf> = (0..self.of_model.len())
            .filter(|&l| self.of_model[l] > 0)
            .collect();
        for &leaf in &touched {
            self.of_model[leaf] = 0;
        }
        for server in copies {
            let leaf = self.leaves[server as usize] as usize;
            if self.of_model[leaf] == 0 {
                touched.push(leaf);
            }
            self.of_model[leaf] += 1;
        }
        touched.sort_unstable();
        touched.dedup();
        for leaf in touched {
            self.refresh(leaf);
        }
    }

    pub(super) fn is_live(&self, server: u32) -> bool {
        self.live[self.leaves[server as usize] as usize]
    }

    pub(super) fn is_draining(&self, server: u32) -> bool {
        self.draining[self.leaves[server as usize] as usize]
    }

    /// How many servers there are.
    pub(super) fn count(&self) -> usize {
        self.servers.len()
    }

    pub(super) fn live_servers(&self) -> impl Iterator<Item = u32> {
        let live = self.servers.iter().zip(&self.live);
        live.filter(|(_, live)| **live).map(|(&server, _)| server)
    }

    /// Live servers that may have such a copy at all, were there room.
    pub(super) fn able(&self, durable: bool) -> usize {
        let able = self.live.iter().zip(&self.durable);
        able.filter(|&(&live, &has)| live && (has || !durable))
            .count()
    }

    pub(super) fn bytes_on(&self, server: u32) -> u64 {
        self.bytes[self.leaves[server as usize] as usize]
    }

    /// The least that any live server has.
    pub(super) fn least(&self) -> u64 {
        match self.tree[1].least {
            NONE => 0,
            leaf => self.bytes[leaf as usize],
        }
    }

    /// How far a server is apart from others that have a copy.
    pub(super) fn apart(&self, server: u32, others: &[u32]) -> Apart {
        let leaf = self.leaves[server as usize] as usize;
        let distances = others.iter().filter(|&&o| o != server).map(|&other| {
            let other = self.leaves[other as usize] as usize;
            if self.zones[leaf] != self.zones[other] {
                Apart::Zones
            } else if self.nodes[leaf] != self.nodes[other] {
                Apart::Nodes
            } else {
                Apart::Servers
            }
        });
        distances.min().unwrap_or(Apart::Zones)
    }

    /// The least loaded server that has room and is at least so far apart from all others.
    pub(super) fn best(&self, need: Need, others: &[u32], apart: Apart) -> Option<u32> {
        let range = |&other: &u32| {
            let leaf = self.leaves[other as usize];
            match apart {
                Apart::Zones => self.zones[leaf as usize],
                Apart::Nodes => self.nodes[leaf as usize],
                Apart::Servers => (leaf, leaf + 1),
            }
        };
        let root = (1, 0, self.width as u32);
        let mut best = NONE;
        let mut from = 0;
        // From gap to gap between what is taken.
        while let Some((start, end)) = others.iter().map(range).filter(|r| r.1 > from).min() {
            self.search(from, start, need, root, &mut best);
            from = end;
        }
        self.search(from, self.servers.len() as u32, need, root, &mut best);
        (best != NONE).then(|| self.servers[best as usize])
    }

    /// Looks below a branch for a better one among the leaves `from..to`.
    fn search(
        &self,
        from: u32,
        to: u32,
        need: Need,
        (at, low, high): (usize, u32, u32),
        best: &mut u32,
    ) {
        if from >= to || high <= from || to <= low {
            return;
        }
        let branch = self.tree[at];
        let (any, room) = if need.durable {
            (branch.any_durable, branch.durable_room)
        } else {
            (branch.any, branch.room)
        };
        if !any || room < need.bytes {
            return;
        }
        if *best != NONE && self.rank(*best) <= self.rank(branch.least) {
            return;
        }
        let least = branch.least;
        let inside = from <= least && least < to;
        let fits = self.free[least as usize] >= need.bytes
            && (self.durable[least as usize] || !need.durable);
        if inside && fits {
            *best = least;
            return;
        }
        if high - low > 1 {
            let middle = low + (high - low) / 2;
            self.search(from, to, need, (2 * at, low, middle), best);
            self.search(from, to, need, (2 * at + 1, middle, high), best);
        }
    }

    /// The best server for one more copy: as far apart as possible, then the least loaded.
    pub(super) fn farthest(&self, need: Need, others: &[u32]) -> Option<u32> {
        [Apart::Zones, Apart::Nodes, Apart::Servers]
            .into_iter()
            .find_map(|apart| self.best(need, others, apart))
    }
}

/// Per leaf, the range of its like, which stand together.
fn ranges(order: &[u32], alike: impl Fn(&u32, &u32) -> bool) -> Vec<(u32, u32)> {
    let mut ranges = Vec::with_capacity(order.len());
    for run in order.chunk_by(alike) {
        let start = ranges.len() as u32;
        let range = (start, start + run.len() as u32);
        ranges.resize(ranges.len() + run.len(), range);
    }
    ranges
}
