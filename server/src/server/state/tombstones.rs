//! Why what was dropped is gone.

use std::collections::{BTreeMap, VecDeque};

use glint_protocol::{Incarnation, ModelId, error::GoneReason};

/// Models that were dropped, so that a late request is told why; the oldest go first.
#[derive(Debug, Default)]
pub(in crate::server) struct Tombstones {
    by_model: BTreeMap<ModelId, (u32, GoneReason)>,
    order: VecDeque<ModelId>,
}

/// Tombstones that are kept.
const MAX_TOMBSTONES: usize = 16_384;

impl Tombstones {
    /// Notes why a model is gone up to a generation.
    pub(in crate::server) fn put(&mut self, incarnation: Incarnation, reason: GoneReason) {
        let entry = self.by_model.get_mut(&incarnation.model);
        match entry {
            Some((generation, _)) if *generation > incarnation.generation => {}
            Some(entry) => *entry = (incarnation.generation, reason),
            None => {
                if self.order.len() >= MAX_TOMBSTONES
                    && let Some(oldest) = self.order.pop_front()
                {
                    self.by_model.remove(&oldest);
                }
                self.order.push_back(incarnation.model);
                self.by_model
                    .insert(incarnation.model, (incarnation.generation, reason));
            }
        }
    }

    /// Why this incarnation is gone, if it was dropped.
    pub(in crate::server) fn reason(&self, incarnation: Incarnation) -> Option<GoneReason> {
        let &(generation, reason) = self.by_model.get(&incarnation.model)?;
        (incarnation.generation <= generation).then_some(reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn incarnation(model: u64, generation: u32) -> Incarnation {
        Incarnation {
            model: ModelId(model),
            generation,
        }
    }

    #[test]
    fn tombstones_cover_lower_generations_and_are_bounded() {
        let mut tombstones = Tombstones::default();
        tombstones.put(incarnation(1, 3), GoneReason::Reset);
        tombstones.put(incarnation(1, 2), GoneReason::Deleted);
        assert_eq!(
            tombstones.reason(incarnation(1, 1)),
            Some(GoneReason::Reset)
        );
        assert_eq!(tombstones.reason(incarnation(1, 4)), None);
        for model in 2..2 + MAX_TOMBSTONES as u64 {
            tombstones.put(incarnation(model, 1), GoneReason::Deleted);
        }
        assert_eq!(tombstones.reason(incarnation(1, 1)), None);
        assert_eq!(tombstones.by_model.len(), MAX_TOMBSTONES);
        assert_eq!(tombstones.order.len(), MAX_TOMBSTONES);
    }
}
