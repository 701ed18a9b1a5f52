//! From full servers to empty ones: one copy at a time, from the most loaded to the least, never more than evens them out.

use std::collections::{BTreeMap, BinaryHeap, HashMap};

use super::{
    Partition, Reason, Target,
    ground::{Apart, Ground, Need},
};

/// Copies of one size that are looked at for the one whose model is best spread by its move.
const SAMPLES: usize = 8;

/// Changes the targets so that copies are as far apart as they can be and loads are even.
pub(super) fn balance(ground: &mut Ground, partitions: &[Partition], targets: &mut [Target]) {
    let mut work = Work::new(ground, partitions, targets);
    work.move_apart();
    while work.even_out() {}
}

struct Work<'a> {
    ground: &'a mut Ground,
    partitions: &'a [Partition],
    targets: &'a mut [Target],
    /// Per server, its copies by size.
    copies: Vec<BTreeMap<u64, Vec<u32>>>,
    /// Per server and model, how many copies; only for servers that something came to or left.
    of_model: HashMap<u32, HashMap<u32, u32>>,
    /// Bytes per live server.
    mean: u64,
    turn: u32,
}

impl<'a> Work<'a> {
    fn new(ground: &'a mut Ground, partitions: &'a [Partition], targets: &'a mut [Target]) -> Self {
        let live: Vec<u32> = ground.live_servers().collect();
        let bytes: u128 = live.iter().map(|&s| u128::from(ground.bytes_on(s))).sum();
        let mut copies = vec![BTreeMap::<u64, Vec<u32>>::new(); ground.count()];
        for (index, (partition, target)) in partitions.iter().zip(targets.iter()).enumerate() {
            for &server in target.servers.iter().filter(|&&s| ground.is_live(s)) {
                let of_size = copies[server as usize].entry(partition.bytes).or_default();
                of_size.push(index as u32);
            }
        }
        Self {
            mean: (bytes / live.len().max(1) as u128) as u64,
            ground,
            partitions,
            targets,
            copies,
            of_model: HashMap::new(),
            turn: 0,
        }
    }

    /// Copies that share a zone or a node, though others have room for them.
    fn move_apart(&mut self) {
        for index in 0..self.partitions.len() as u32 {
            let servers = self.targets[index as usize].servers.clone();
            if servers.len() < 2 {
                continue;
            }
            // The later copies give way: the first is most often the holder.
            for &server in servers.iter().rev() {
                let others = self.others(index, server);
                let now = self.ground.apart(server, &others);
                let wider = [Apart::Zones, Apart::Nodes]
                    .into_iter()
                    .filter(|&apart| apart > now);
                let need = self.need(index);
                let found = wider
                    .into_iter()
                    .find_map(|apart| self.ground.best(need, &others, apart));
                if let Some(to) = found.filter(|&to| to != server) {
                    self.relocate(index, server, to, Reason::Apart);
                }
            }
        }
    }

    /// One pass over the servers, the most loaded first; whether anything moved.
    fn even_out(&mut self) -> bool {
        let mut moved = false;
        let live: Vec<u32> = self.ground.live_servers().collect();
        let mut heap: BinaryHeap<(u64, u32)> =
            live.iter().map(|&s| (self.ground.bytes_on(s), s)).collect();
        while let Some((bytes, server)) = heap.pop() {
            let now = self.ground.bytes_on(server);
            if now != bytes {
                continue;
            }
            let Some((&largest, _)) = self.copies[server as usize].last_key_value() else {
                continue;
            };
            if now - self.ground.least() <= largest {
                continue;
            }
            if let Some(to) = self.relieve(server) {
                moved = true;
                heap.push((self.ground.bytes_on(server), server));
                heap.push((self.ground.bytes_on(to), to));
            }
        }
        moved
    }

    /// Moves one copy away from a server, if that evens something out; where to.
    fn relieve(&mut self, server: u32) -> Option<u32> {
        let bytes = self.ground.bytes_on(server);
        let gap = bytes - self.ground.least();
        // Neither below the mean, nor past the other.
        let enough = (gap / 2).min(bytes.saturating_sub(self.mean));
        let sizes = &self.copies[server as usize];
        let smaller = sizes
            .range(1..=enough.max(1))
            .rev()
            .map(|(&size, _)| size)
            .filter(|&s| s <= enough);
        let larger = sizes.range(enough + 1..gap).map(|(&size, _)| size);
        let sizes: Vec<u64> = smaller.chain(larger).collect();
        for size in sizes {
            if let Some((index, to)) = self.choose(server, size) {
                self.relocate(index, server, to, Reason::Balance);
                return Some(to);
            }
        }
        None
    }

    /// Of the copies of this size, one that may move, if possible one whose model the other has least of.
    fn choose(&mut self, server: u32, size: u64) -> Option<(u32, u32)> {
        let all = self.copies[server as usize].get(&size)?;
        let stride = (all.len() / SAMPLES).max(1);
        let candidates: Vec<u32> = all.iter().copied().step_by(stride).collect();
        let mut best: Option<((i64, u32), u32)> = None;
        for index in candidates {
            if let Some(to) = self.destination(server, index) {
                let model = self.partitions[index as usize].model;
                let gain = i64::from(self.count(to, model)) - i64::from(self.count(server, model));
                if best.is_none_or(|(rank, _)| (gain, index) < rank) {
                    best = Some(((gain, index), to));
                }
            }
        }
        if let Some(((_, index), to)) = best {
            return Some((index, to));
        }
        let all = self.copies[server as usize].get(&size)?;
        all.iter()
            .find_map(|&index| Some((index, self.destination(server, index)?)))
    }

    /// The least loaded server that may have this copy instead, and is less loaded even then; copies stay as far apart.
    fn destination(&self, server: u32, index: u32) -> Option<u32> {
        let others = self.others(index, server);
        let apart = self.ground.apart(server, &others);
        let to = self.ground.best(self.need(index), &others, apart)?;
        let size = self.partitions[index as usize].bytes;
        let gap = self
            .ground
            .bytes_on(server)
            .checked_sub(self.ground.bytes_on(to))?;
        (to != server && size < gap).then_some(to)
    }

    fn relocate(&mut self, index: u32, from: u32, to: u32, reason: Reason) {
        let partition = &self.partitions[index as usize];
        let (bytes, model) = (partition.bytes, partition.model);
        let target = &mut self.targets[index as usize];
        for server in &mut target.servers {
            if *server == from {
                *server = to;
            }
        }
        target.reason = target.reason.min(reason);
        self.turn += 1;
        target.turn = self.turn;
        self.ground.take(from, bytes);
        self.ground.put(to, bytes);
        if let Some(of_size) = self.copies[from as usize].get_mut(&bytes) {
            if let Some(at) = of_size.iter().position(|&p| p == index) {
                of_size.swap_remove(at);
            }
            if of_size.is_empty() {
                self.copies[from as usize].remove(&bytes);
            }
        }
        self.copies[to as usize]
            .entry(bytes)
            .or_default()
            .push(index);
        for (server, change) in [(from, -1), (to, 1)] {
            if let Some(counts) = self.of_model.get_mut(&server) {
                let count = counts.entry(model).or_default();
                *count = count.saturating_add_signed(change);
            }
        }
    }

    fn count(&mut self, server: u32, model: u32) -> u32 {
        let (copies, partitions) = (&self.copies, self.partitions);
        let counts = self.of_model.entry(server).or_insert_with(|| {
            let mut counts = HashMap::new();
            for &index in copies[server as usize].values().flatten() {
                *counts.entry(partitions[index as usize].model).or_default() += 1;
            }
            counts
        });
        counts.get(&model).copied().unwrap_or(0)
    }

    fn others(&self, index: u32, server: u32) -> Vec<u32> {
        let servers = &self.targets[index as usize].servers;
        servers.iter().copied().filter(|&s| s != server).collect()
    }

    fn need(&self, index: u32) -> Need {
        let partition = &self.partitions[index as usize];
        Need {
            bytes: partition.bytes,
            durable: partition.durable,
        }
    }
}
