//! What servers have reported of one model to a master that adopts, and which copy of a partition is known to have everything
//! that was acknowledged.
//!
//! A holder that lives knows whom its acknowledgements wait for, and the master that is gone could promote none but those. So
//! when all of them have come, and none has heard of a higher epoch than the holder's, nobody was promoted, and the holder has
//! everything. Where no holder lives any more, nobody knows who was in sync: of a model with copies, the one with the latest
//! record has everything only if all that were in sync have come, which an admin has to say.

use std::collections::BTreeMap;

use glint_protocol::{Epoch, ModelSpec, Position, ServerId};

/// What has been reported of one model.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Found {
    pub(crate) spec: ModelSpec,
    /// Per partition its copies, one per server.
    pub(crate) copies: BTreeMap<u32, Vec<FoundCopy>>,
    /// Per partition a server that knows its values to be lost.
    pub(crate) lost: BTreeMap<u32, ServerId>,
}

/// A copy of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FoundCopy {
    pub(crate) server: ServerId,
    pub(crate) epoch: Epoch,
    /// Its last record.
    pub(crate) last: (Epoch, Position),
    /// The epoch of the holder that it follows; 0 if it does not know of any.
    pub(crate) follows: Epoch,
    /// If its server holds the partition: whom acknowledgements wait for beside it.
    pub(crate) with: Option<Vec<ServerId>>,
}

impl FoundCopy {
    /// The highest epoch that its server has heard of.
    fn heard(&self) -> Epoch {
        self.epoch.max(self.follows).max(self.last.0)
    }
}

impl Found {
    pub(crate) fn of(spec: ModelSpec) -> Self {
        Self {
            spec,
            copies: BTreeMap::new(),
            lost: BTreeMap::new(),
        }
    }

    /// Whether nobody has reported anything of it.
    pub(crate) fn is_empty(&self) -> bool {
        self.copies.is_empty() && self.lost.is_empty()
    }

    /// Enters a copy; one server has one.
    pub(crate) fn enter(&mut self, partition: u32, copy: FoundCopy) {
        let copies = self.copies.entry(partition).or_default();
        copies.retain(|known| known.server != copy.server);
        copies.push(copy);
    }

    /// Forgets what a server has said.
    pub(crate) fn forget(&mut self, server: &ServerId) {
        self.copies.retain(|_, copies| {
            copies.retain(|copy| copy.server != *server);
            !copies.is_empty()
        });
        self.lost.retain(|_, known| known != server);
    }

    /// The copies of a partition.
    pub(crate) fn of_partition(&self, partition: u32) -> &[FoundCopy] {
        self.copies.get(&partition).map_or(&[], Vec::as_slice)
    }

    /// The copy of a partition that has everything for certain: that of its holder, which lives.
    pub(crate) fn certain(&self, partition: u32) -> Option<&FoundCopy> {
        let copies = self.of_partition(partition);
        let heard = copies.iter().map(FoundCopy::heard).max()?;
        let holds = |copy: &&FoundCopy| copy.with.is_some() && copy.epoch == heard;
        let holder = copies.iter().find(holds)?;
        let came = |id: &ServerId| copies.iter().any(|copy| copy.server == *id);
        let mut with = holder.with.iter().flatten();
        with.all(came).then_some(holder)
    }

    /// The same when all servers have come: of a model that has one copy of each partition, also one that was found on a disk,
    /// unless somebody knows of another that is not here. Before, it may be of a model that was deleted since.
    pub(crate) fn certain_in_the_end(&self, partition: u32) -> Option<&FoundCopy> {
        let copies = self.of_partition(partition);
        if self.spec.copies() > 1 || copies.iter().any(|copy| copy.with.is_some()) {
            return self.certain(partition);
        }
        let single = copies.iter().filter(|copy| copy.follows == Epoch(0));
        single.max_by_key(|copy| (copy.last, std::cmp::Reverse(&copy.server)))
    }

    /// The copy of a partition with the latest record.
    pub(crate) fn latest(&self, partition: u32) -> Option<&FoundCopy> {
        let copies = self.of_partition(partition).iter();
        copies.max_by_key(|copy| (copy.last, std::cmp::Reverse(&copy.server)))
    }

    /// How many of its partitions have a copy that has everything for certain.
    pub(crate) fn certain_count(&self) -> u32 {
        self.copies.len() as u32 - self.uncertain().len() as u32
    }

    /// Partitions of which there are copies, none of which has everything for certain.
    pub(crate) fn uncertain(&self) -> Vec<u32> {
        let partitions = self.copies.keys().copied();
        let certain = |p: u32| self.certain_in_the_end(p).is_some();
        partitions.filter(|&p| !certain(p)).collect()
    }

    /// Whether it may serve before all servers have come.
    pub(crate) fn is_complete(&self) -> bool {
        (0..self.spec.partition_count).all(|p| self.certain(p).is_some())
    }

    /// Which of two models of one name is the later one: epochs are given out once, so the higher was made after.
    pub(crate) fn rank(&self) -> (Epoch, usize) {
        let copies = self.copies.values().flatten();
        let epoch = copies.map(|copy| copy.epoch).max();
        (epoch.unwrap_or_default(), self.copies.len())
    }
}
