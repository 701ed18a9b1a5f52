//! Which parts of a push go together, through which lane, and when. Pure arithmetic.

use crate::plan::Plan;

/// Parts that go through one lane together.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Bundle {
    pub(super) lane: usize,
    /// Places in the plan.
    pub(super) parts: Vec<u32>,
    pub(super) bytes: usize,
}

/// The lane that pushes of this client to a partition go through, so that they stay in order. Neighbouring partitions have
/// different lanes. `model` is any number that differs between models.
pub(super) fn lane_of(model: u64, partition: u32, lanes: usize) -> usize {
    (model as usize % lanes + partition as usize) % lanes
}

/// Bytes for which a request of their own is worth waking those who send, take and answer it.
const WORTHWHILE: usize = 32 << 10;

/// Among how many of `all` lanes to divide so many bytes that go to so many servers.
pub(super) fn lanes_for(bytes: usize, servers: usize, all: usize) -> usize {
    (bytes / servers.max(1) / WORTHWHILE).clamp(1, all)
}

/// All parts, in bundles of `most` bytes: those of one lane in the order of the plan, and the lanes by turns. A lane has
/// one request out at a server, so that taking one lane's bundles after another's would leave all lanes but one idle.
///
/// With `spread`, the parts of one partition go through all lanes by turns: only for a plan whose parts touch different
/// values, and an update rule that does not ask which of two updates came first.
pub(super) fn bundles(
    plan: &Plan,
    model: u64,
    size: usize,
    lanes: usize,
    most: usize,
    spread: bool,
) -> Vec<Bundle> {
    let mut queues: Vec<Vec<Bundle>> = Vec::new();
    queues.resize_with(lanes, Vec::new);
    let (mut partition, mut turn) = (None, 0);
    for (index, part) in plan.parts.iter().enumerate() {
        turn = if spread && partition == Some(part.partition) {
            turn + 1
        } else {
            0
        };
        partition = Some(part.partition);
        let lane = (lane_of(model, part.partition, lanes) + turn) % lanes;
        let bytes = plan.section_length(part, size, true);
        match queues[lane].last_mut() {
            Some(bundle) if bundle.bytes + bytes <= most => {
                bundle.parts.push(index as u32);
                bundle.bytes += bytes;
            }
            _ => queues[lane].push(Bundle {
                lane,
                parts: vec![index as u32],
                bytes,
            }),
        }
    }
    let mut queues: Vec<_> = queues.into_iter().map(Vec::into_iter).collect();
    let mut bundles = Vec::new();
    loop {
        let before = bundles.len();
        bundles.extend(queues.iter_mut().filter_map(Iterator::next));
        if bundles.len() == before {
            return bundles;
        }
    }
}

#[cfg(test)]
mod tests {
    use glint_protocol::{ElementType, Layout, ModelDraft, Partitions, Shape};

    use super::*;
    use crate::plan::Ground;

    /// 4 partitions of 1000 values each, 250 values per request: 4 parts per partition.
    fn plan() -> Plan {
        let mut draft = ModelDraft::new("m", Shape::Vector { keys: 4000 }, ElementType::F32);
        draft.partitions = Partitions::Exactly(4);
        let spec = draft.resolve(1).unwrap();
        let layout = Layout::new(&spec, |_| None).unwrap();
        let ground = Ground {
            spec: &spec,
            layout: &layout,
            request_bytes: 1000,
        };
        Plan::range(&ground, 0..4000).unwrap()
    }

    fn lanes(spread: bool) -> Vec<(usize, Vec<u32>)> {
        bundles(&plan(), 8, 4, 4, 1100, spread)
            .into_iter()
            .map(|bundle| (bundle.lane, bundle.parts))
            .collect()
    }

    #[test]
    fn a_small_push_is_not_divided_among_all_lanes() {
        assert_eq!(lanes_for(100, 1, 4), 1);
        assert_eq!(lanes_for(100 << 10, 1, 4), 3);
        assert_eq!(lanes_for(100 << 10, 2, 4), 1);
        assert_eq!(lanes_for(64 << 20, 2, 4), 4);
        assert_eq!(lanes_for(1 << 20, 0, 1), 1);
    }

    #[test]
    fn lanes_take_turns_and_keep_the_order_of_a_partition() {
        let all = lanes(false);
        assert_eq!(
            all[..5],
            [0, 4, 8, 12, 1].map(|part| (part as usize / 4, vec![part]))
        );
        for lane in 0..4 {
            let parts: Vec<u32> = all
                .iter()
                .filter(|(of, _)| *of == lane)
                .flat_map(|(_, parts)| parts.clone())
                .collect();
            let first = lane as u32 * 4;
            assert_eq!(parts, (first..first + 4).collect::<Vec<_>>());
        }
    }

    #[test]
    fn parts_of_one_partition_go_beside_each_other_where_their_order_does_not_matter() {
        let all = lanes(true);
        let mut of_first: Vec<usize> = all
            .iter()
            .filter(|(_, parts)| parts[0] < 4)
            .map(|(lane, _)| *lane)
            .collect();
        of_first.sort_unstable();
        assert_eq!(of_first, [0, 1, 2, 3]);
        let mut parts: Vec<u32> = all.into_iter().flat_map(|(_, parts)| parts).collect();
        parts.sort_unstable();
        assert_eq!(parts, (0..16).collect::<Vec<_>>());
    }
}
