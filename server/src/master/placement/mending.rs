//! Copies that are missing or must leave: each partition gets as many copies on live servers as it should have, those that
//! stand well stay.

use super::{
    Partition, Reason, Target,
    change::Unplaced,
    ground::{Ground, Need},
};

/// In which order partitions choose their servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    AsGiven,
    LargestFirst,
}

/// Fills in the targets; what found no server.
pub(super) fn mend(
    ground: &mut Ground,
    partitions: &[Partition],
    targets: &mut [Target],
    order: Order,
) -> Vec<Unplaced> {
    let able = [ground.able(false), ground.able(true)];
    let mut short: Vec<u32> = Vec::new();
    for (index, (partition, target)) in partitions.iter().zip(targets.iter_mut()).enumerate() {
        // A partition whose values are on silent servers only has nothing to copy from, and nobody else to serve it.
        target.waits = partition.holder.is_some() && !has_source(partition, ground);
        if target.waits {
            continue;
        }
        let all = partition.members.iter().chain(&partition.learners);
        target.servers = all.copied().filter(|&s| ground.is_live(s)).collect();
        target.servers.dedup();
        let wanted =
            (partition.copies.max(1) as usize).min(able[usize::from(partition.durable)].max(1));
        if target.servers.len() < wanted {
            short.push(index as u32);
        }
        if target.servers.len() > wanted {
            thin_out(ground, partition, target, wanted);
        }
    }
    match order {
        Order::AsGiven => {}
        Order::LargestFirst => {
            short.sort_by_key(|&p| std::cmp::Reverse(partitions[p as usize].bytes));
        }
    }
    let mut unplaced = Vec::new();
    let mut model = None;
    for index in short {
        let partition = &partitions[index as usize];
        if model != Some(partition.model) {
            model = Some(partition.model);
            let of_model =
                same_model(partitions, index).flat_map(|p| targets[p].servers.iter().copied());
            ground.turn_to_model(of_model.collect::<Vec<_>>().into_iter());
        }
        let target = &mut targets[index as usize];
        fill(ground, partition, target, able, index, &mut unplaced);
    }
    for (partition, target) in partitions.iter().zip(targets) {
        target.keeps_silent = target.servers.len() < partition.copies.max(1) as usize;
    }
    unplaced
}

/// The partitions that stand together with this one.
fn same_model(partitions: &[Partition], index: u32) -> impl Iterator<Item = usize> {
    let model = partitions[index as usize].model;
    let start = partitions[..index as usize]
        .iter()
        .rposition(|p| p.model != model)
        .map_or(0, |p| p + 1);
    let rest = &partitions[start..];
    let end = rest
        .iter()
        .position(|p| p.model != model)
        .map_or(partitions.len(), |p| start + p);
    start..end
}

fn fill(
    ground: &mut Ground,
    partition: &Partition,
    target: &mut Target,
    able: [usize; 2],
    index: u32,
    unplaced: &mut Vec<Unplaced>,
) {
    let need = Need {
        bytes: partition.bytes,
        durable: partition.durable,
    };
    let able = able[usize::from(partition.durable)];
    let copies = partition.copies.max(1) as usize;
    let drains = partition.members.iter().any(|&m| ground.is_draining(m));
    target.reason = match (target.servers.len(), drains) {
        (_, true) => Reason::Draining,
        (alive, false) => Reason::Missing {
            alive: alive as u32,
        },
    };
    while target.servers.len() < copies.min(able.max(1)) {
        let Some(server) = ground.farthest(need, &target.servers) else {
            unplaced.push(Unplaced {
                partition: index,
                bytes: partition.bytes,
                copies: (copies.min(able.max(1)) - target.servers.len()) as u32,
                fits_nowhere: able <= target.servers.len(),
            });
            // What drains stays until there is room.
            target.keeps_draining = true;
            return;
        };
        ground.put(server, partition.bytes);
        target.servers.push(server);
    }
}

fn has_source(partition: &Partition, ground: &Ground) -> bool {
    partition
        .members
        .iter()
        .any(|&m| ground.is_live(m) || ground.is_draining(m))
}

/// Copies beyond what is wanted go: of the worst placed ones, that of the most loaded server, the holder's last. So a move whose new copy is
/// not complete yet goes on, and its old one is what leaves.
fn thin_out(ground: &mut Ground, partition: &Partition, target: &mut Target, wanted: usize) {
    while target.servers.len() > wanted {
        let worst = (0..target.servers.len()).max_by_key(|&at| {
            let server = target.servers[at];
            let mut others = target.servers.clone();
            others.swap_remove(at);
            let spread = spread_of(ground, &others);
            let serves = partition.holder == Some(server);
            (spread, !serves, ground.bytes_on(server), server)
        });
        let Some(at) = worst else { return };
        let server = target.servers.remove(at);
        ground.take(server, partition.bytes);
    }
}

/// How far apart the closest two of them are.
fn spread_of(ground: &Ground, servers: &[u32]) -> super::ground::Apart {
    let each = servers.iter().map(|&s| ground.apart(s, servers));
    each.min().unwrap_or(super::ground::Apart::Zones)
}
