//! Checkpoints: the holder names a cut, any copy of that epoch writes it.

use crate::{
    copy::Copy,
    holder::Question,
    mutant::Mutant,
    scenario::Scenario,
    state::{Checkpoint, State},
};

impl Scenario {
    /// Only a holder with its lease names the cut [R28c].
    pub(crate) fn begin_checkpoint(&self, state: &mut State, partition: u8) -> Option<()> {
        state.used.checkpoints += 1;
        let place = state.partition(partition);
        let serves = |&server: &u8| {
            place
                .copy(server)
                .and_then(Copy::holder)
                .is_some_and(|h| h.serving)
        };
        let names = |server: &u8| {
            if self.lacks(Mutant::CheckpointWithoutLease) {
                serves(server)
            } else {
                self.answers(state, partition, *server, Question::Pull)
            }
        };
        let server = (0..self.servers).find(names)?;
        let copy = place.copy(server)?;
        let (epoch, position) = (copy.epoch, copy.length());
        let history = &mut state.partition_mut(partition).history;
        history.checkpoint = Some(Checkpoint {
            epoch,
            position,
            before: history
                .told
                .iter()
                .filter(|t| !t.skipped)
                .copied()
                .collect(),
            done: false,
            lacks_something: false,
        });
        Some(())
    }

    /// A copy that has the position [R28], in the same epoch [R28b].
    pub(crate) fn write_checkpoint(
        &self,
        state: &mut State,
        partition: u8,
        server: u8,
    ) -> Option<()> {
        if !state.server(server).up {
            return None;
        }
        let place = state.partition(partition);
        let copy = place.copy(server)?;
        let begun = place.history.checkpoint.as_ref()?;
        let any = self.lacks(Mutant::CheckpointAnywhere);
        let same_epoch = copy.epoch == begun.epoch || self.lacks(Mutant::CheckpointOfAnyEpoch);
        if !any && (copy.length() < begun.position || !same_epoch) {
            return None;
        }
        let due = begun
            .before
            .iter()
            .filter(|t| t.incarnation == copy.incarnation);
        let lacks = due.into_iter().any(|t| copy.count(t.id) != 1);
        let begun = state.partition_mut(partition).history.checkpoint.as_mut()?;
        begun.done = true;
        begun.lacks_something |= lacks;
        Some(())
    }
}
