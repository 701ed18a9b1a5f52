//! Where the partitions went that this server has let go of: whoever still asks for them here is sent there at once, and does not
//! have to ask the master.

use std::collections::{BTreeMap, VecDeque};

use glint_protocol::{Incarnation, error::Hint};

/// Partitions that are remembered: of the oldest the master knows.
const MOST: usize = 1 << 14;

/// Who holds what this server has let go of, as far as it knows.
#[derive(Debug, Default)]
pub(in crate::server) struct Forwarding {
    hints: BTreeMap<(Incarnation, u32), Hint>,
    /// The same, oldest first.
    order: VecDeque<(Incarnation, u32)>,
}

impl Forwarding {
    /// Remembers who holds a partition.
    pub(in crate::server) fn put(&mut self, key: (Incarnation, u32), hint: Hint) {
        if self.hints.insert(key, hint).is_none() {
            self.order.push_back(key);
        }
        if self.order.len() > MOST
            && let Some(oldest) = self.order.pop_front()
        {
            self.hints.remove(&oldest);
        }
    }

    /// Who holds a partition.
    pub(in crate::server) fn of(&self, key: (Incarnation, u32)) -> Option<Hint> {
        self.hints.get(&key).cloned()
    }
}

#[cfg(test)]
mod tests {
    use glint_protocol::{Epoch, ServerId};

    use super::*;

    #[test]
    fn the_latest_hint_counts_and_the_oldest_partitions_are_forgotten() {
        let hint = |server: &str| Hint {
            server: ServerId(server.into()),
            url: format!("http://{server}:1"),
            epoch: Epoch(1),
        };
        let key = |partition| (Incarnation::default(), partition);
        let mut forwarding = Forwarding::default();
        forwarding.put(key(0), hint("s1"));
        forwarding.put(key(0), hint("s2"));
        assert_eq!(forwarding.of(key(0)), Some(hint("s2")));
        for partition in 1..=MOST as u32 {
            forwarding.put(key(partition), hint("s3"));
        }
        assert_eq!(forwarding.of(key(0)), None);
        assert_eq!(forwarding.of(key(MOST as u32)), Some(hint("s3")));
    }
}
