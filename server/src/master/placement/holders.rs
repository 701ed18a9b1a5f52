//! Who serves: of a partition's copies, the one whose server has the fewest bytes to serve. A promotion moves no bytes.

use super::{Effort, Partition, Target, ground::Ground};

pub(super) fn choose(
    ground: &Ground,
    partitions: &[Partition],
    targets: &mut [Target],
    effort: Effort,
) {
    let mut served = vec![0u64; ground.count()];
    let mut without: Vec<u32> = Vec::new();
    for (index, (partition, target)) in partitions.iter().zip(targets.iter_mut()).enumerate() {
        match target.holder.filter(|h| target.servers.contains(h)) {
            Some(holder) => served[holder as usize] += partition.bytes,
            None if target.waits || target.servers.is_empty() => {}
            None => without.push(index as u32),
        }
    }
    for index in without {
        let target = &mut targets[index as usize];
        let partition = &partitions[index as usize];
        // One that is in sync can take over at once.
        let rank = |server: &u32| {
            (
                !partition.members.contains(server),
                served[*server as usize],
            )
        };
        if let Some(least) = target.servers.iter().copied().min_by_key(rank) {
            target.holder = Some(least);
            served[least as usize] += partition.bytes;
        }
    }
    if effort == Effort::Balance {
        let live = ground.live_servers().count().max(1) as u128;
        let sum: u128 = served.iter().map(|&bytes| u128::from(bytes)).sum();
        even_out(partitions, targets, &mut served, (sum / live) as u64);
    }
}

/// Whoever serves more than the mean hands a partition over to a server that serves less than the mean, and has less than it
/// even then. Every such step makes the sum of squares smaller. In one plan each partition hands over once: so the master may
/// take the first few, ask again, and comes to an end.
fn even_out(partitions: &[Partition], targets: &mut [Target], served: &mut [u64], mean: u64) {
    let may = |(partition, target): (&Partition, &Target)| {
        let same = target.servers.len() > 1
            && target.servers.iter().all(|s| partition.members.contains(s));
        let unmade = partition.holder.is_none();
        (same || unmade) && partition.bytes > 0 && !target.waits
    };
    let each = partitions.iter().zip(targets.iter()).enumerate();
    let mut open: Vec<usize> = each
        .filter(|(_, pair)| may(*pair))
        .map(|(index, _)| index)
        .collect();
    let mut turn = 0;
    loop {
        let mut changed = false;
        open.retain(|&index| {
            let (partition, target) = (&partitions[index], &mut targets[index]);
            let least = target
                .servers
                .iter()
                .copied()
                .min_by_key(|&s| (served[s as usize], s));
            let (Some(holder), Some(least)) = (target.holder, least) else {
                return false;
            };
            let (much, little) = (served[holder as usize], served[least as usize]);
            if much <= little.saturating_add(partition.bytes) || much <= mean || little >= mean {
                return true;
            }
            served[holder as usize] -= partition.bytes;
            served[least as usize] += partition.bytes;
            target.holder = Some(least);
            changed = true;
            if partition.holder.is_none() {
                // What is being made has no holder yet: it may be thought over.
                return true;
            }
            turn += 1;
            target.turn = turn;
            false
        });
        if !changed {
            return;
        }
    }
}
