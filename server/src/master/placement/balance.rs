//! From full servers to empty ones: one copy at a time, from the most loaded to the least, never more than evens them out.

use std::{
    collections::{BTreeMap, BinaryHeap, HashMap, btree_map::Entry},
    ops::Bound,
};

use super::{
    Partition, Reason, Target,
    ground::{Apart, Ground, Need},
};

/// Copies of one size that are looked at for the one whose model is best spread by its move.
const SAMPLES: usize = 8;

/// Changes the targets so that copies are as far apart as they can be and loads are even.
pub(super) fn balance(ground: &mut Ground, partitions: &[Partition], targets: &mut [Target]) {
    let mut turn = 0;
    for (partition, target) in partitions.iter().zip(targets.iter_mut()) {
        move_apart(ground, partition, target, &mut turn);
    }
    let mut work = Work::new(ground, partitions, targets, turn);
    while work.even_out() {}
}

/// Copies that share a zone or a node, though others have room for them. The later ones give way: the first is most often the
/// holder.
fn move_apart(ground: &mut Ground, partition: &Partition, target: &mut Target, turn: &mut u32) {
    for at in (0..target.servers.len()).rev() {
        let server = target.servers[at];
        let now = ground.apart(server, &target.servers);
        if now == Apart::Zones {
            continue;
        }
        let others = others(target, server);
        let wider = [Apart::Zones, Apart::Nodes]
            .into_iter()
            .filter(|&apart| apart > now);
        let found = wider
            .into_iter()
            .find_map(|apart| ground.best(need(partition), &others, apart));
        let Some(to) = found.filter(|&to| to != server) else {
            continue;
        };
        *turn += 1;
        target.servers[at] = to;
        target.reason = target.reason.min(Reason::Apart);
        target.turn = *turn;
        ground.take(server, partition.bytes);
        ground.put(to, partition.bytes);
    }
}

fn others(target: &Target, server: u32) -> Vec<u32> {
    target
        .servers
        .iter()
        .copied()
        .filter(|&s| s != server)
        .collect()
}

fn need(partition: &Partition) -> Need {
    Need {
        bytes: partition.bytes,
        durable: partition.durable,
    }
}

struct Work<'a> {
    ground: &'a mut Ground,
    partitions: &'a [Partition],
    targets: &'a mut [Target],
    /// Per server, the partitions that it had before, and the size of the largest that it has.
    had: Vec<Vec<u32>>,
    largest: Vec<u64>,
    /// Per server that something came to or left, its copies; none of the others are needed.
    copies: Vec<Option<Copies>>,
    /// Bytes per live server.
    mean: u64,
    turn: u32,
}

/// The copies of one server.
#[derive(Default)]
struct Copies {
    by_size: BTreeMap<u64, Vec<u32>>,
    of_model: HashMap<u32, u32>,
}

impl<'a> Work<'a> {
    fn new(
        ground: &'a mut Ground,
        partitions: &'a [Partition],
        targets: &'a mut [Target],
        turn: u32,
    ) -> Self {
        let live: Vec<u32> = ground.live_servers().collect();
        let bytes: u128 = live.iter().map(|&s| u128::from(ground.bytes_on(s))).sum();
        let mut had = vec![Vec::new(); ground.count()];
        let mut largest = vec![0; ground.count()];
        for (index, (partition, target)) in partitions.iter().zip(targets.iter()).enumerate() {
            for &server in &target.servers {
                had[server as usize].push(index as u32);
                let largest = &mut largest[server as usize];
                *largest = partition.bytes.max(*largest);
            }
        }
        Self {
            mean: (bytes / live.len().max(1) as u128) as u64,
            copies: std::iter::repeat_with(|| None)
                .take(ground.count())
                .collect(),
            ground,
            partitions,
            targets,
            had,
            largest,
            turn,
        }
    }

    fn copies(&mut self, server: u32) -> &mut Copies {
        let (had, partitions) = (&self.had[server as usize], self.partitions);
        self.copies[server as usize].get_or_insert_with(|| {
            let mut copies = Copies::default();
            for &index in had {
                copies.add(index, &partitions[index as usize]);
            }
            copies
        })
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
            if now - self.ground.least() <= self.largest[server as usize] {
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
        let mut limit = Some(enough);
        // The largest that is small enough, then smaller ones; then the smallest of the others.
        while let Some(size) = limit.and_then(|limit| self.copies(server).at_most(limit)) {
            if let Some(to) = self.relieve_of(server, size) {
                return Some(to);
            }
            limit = size.checked_sub(1).filter(|&limit| limit > 0);
        }
        let mut limit = enough;
        while let Some(size) = self.copies(server).above(limit).filter(|&size| size < gap) {
            if let Some(to) = self.relieve_of(server, size) {
                return Some(to);
            }
            limit = size;
        }
        None
    }

    /// Moves one of the copies of this size that may move, if possible one whose model the other has least of; where to.
    fn relieve_of(&mut self, server: u32, size: u64) -> Option<u32> {
        let of_size = self.copies(server).by_size.get(&size)?;
        let count = of_size.len();
        let stride = (count / SAMPLES).max(1);
        let mut best: Option<((i64, u32), usize, u32)> = None;
        for at in (0..count).step_by(stride) {
            let index = self.copies(server).by_size.get(&size)?[at];
            let Some(to) = self.destination(server, index) else {
                continue;
            };
            let model = self.partitions[index as usize].model;
            let gain = i64::from(self.copies(to).count(model))
                - i64::from(self.copies(server).count(model));
            if best.is_none_or(|(rank, ..)| (gain, index) < rank) {
                best = Some(((gain, index), at, to));
            }
        }
        if best.is_none() && stride > 1 {
            for at in 0..count {
                let index = self.copies(server).by_size.get(&size)?[at];
                if let Some(to) = self.destination(server, index) {
                    best = Some(((0, index), at, to));
                    break;
                }
            }
        }
        let ((_, index), at, to) = best?;
        self.relocate(index, at, server, to);
        Some(to)
    }

    /// The least loaded server that may have this copy instead, if it has less by more than a partition; copies stay as far
    /// apart.
    fn destination(&self, server: u32, index: u32) -> Option<u32> {
        let partition = &self.partitions[index as usize];
        let others = others(&self.targets[index as usize], server);
        let apart = self.ground.apart(server, &others);
        let to = self.ground.best(need(partition), &others, apart)?;
        let gap = self
            .ground
            .bytes_on(server)
            .checked_sub(self.ground.bytes_on(to))?;
        (to != server && gap > self.largest[server as usize]).then_some(to)
    }

    /// The copy stands at this place among those of its size.
    fn relocate(&mut self, index: u32, at: usize, from: u32, to: u32) {
        let partition = &self.partitions[index as usize];
        let target = &mut self.targets[index as usize];
        for server in &mut target.servers {
            if *server == from {
                *server = to;
            }
        }
        self.turn += 1;
        target.reason = target.reason.min(Reason::Balance);
        target.turn = self.turn;
        self.ground.take(from, partition.bytes);
        self.ground.put(to, partition.bytes);
        self.copies(from).remove(at, partition);
        self.largest[from as usize] = self.copies(from).at_most(u64::MAX).unwrap_or(0);
        self.copies(to).add(index, partition);
        self.largest[to as usize] = self.largest[to as usize].max(partition.bytes);
    }
}

impl Copies {
    fn add(&mut self, index: u32, partition: &Partition) {
        self.by_size.entry(partition.bytes).or_default().push(index);
        *self.of_model.entry(partition.model).or_default() += 1;
    }

    fn remove(&mut self, at: usize, partition: &Partition) {
        if let Entry::Occupied(mut of_size) = self.by_size.entry(partition.bytes) {
            of_size.get_mut().swap_remove(at);
            if of_size.get().is_empty() {
                of_size.remove();
            }
        }
        if let Some(count) = self.of_model.get_mut(&partition.model) {
            *count = count.saturating_sub(1);
        }
    }

    fn count(&self, model: u32) -> u32 {
        self.of_model.get(&model).copied().unwrap_or(0)
    }

    /// The largest size up to this one that any copy has.
    fn at_most(&self, limit: u64) -> Option<u64> {
        self.by_size
            .range(..=limit)
            .next_back()
            .map(|(&size, _)| size)
    }

    fn above(&self, limit: u64) -> Option<u64> {
        let above = (Bound::Excluded(limit), Bound::Unbounded);
        self.by_size.range(above).next().map(|(&size, _)| size)
    }
}
