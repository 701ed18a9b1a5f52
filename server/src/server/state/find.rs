//! The partition that a request names, or why it is not here.

use std::sync::Arc;

use glint_protocol::{ErrorBody, ErrorCode, Incarnation, error::GoneReason, frame::GroupHeader};

use super::{Models, Slot, State};

impl State {
    /// The partition that a group names.
    ///
    /// # Errors
    /// `retry`, `gone`, `bad` or `stale_map`, as the first lines of the table say.
    pub(in crate::server) fn find<'a>(
        &self,
        models: &'a Models,
        header: &GroupHeader,
    ) -> Result<&'a Arc<Slot>, ErrorBody> {
        if !self.is_registered() {
            return Err(ErrorBody::new(
                ErrorCode::Retry,
                format!(
                    "server {} has not registered with the master since its start; send it again after a pause",
                    self.id
                ),
            ));
        }
        let incarnation = header.incarnation;
        let Some(model) = models.by_incarnation.get(&incarnation) else {
            return Err(self.unknown(models, header));
        };
        match model.slots.get(header.partition as usize) {
            Some(Some(slot)) => Ok(slot),
            Some(None) => Err(self.elsewhere(
                header,
                format!(
                    "server {} does not hold partition {} of model '{}'; take a fresh map",
                    self.id, header.partition, model.spec.name
                ),
            )),
            None => Err(ErrorBody::new(
                ErrorCode::Bad,
                format!(
                    "partition {} is out of range: model '{}' has {} partitions",
                    header.partition,
                    model.spec.name,
                    model.slots.len()
                ),
            )),
        }
    }

    /// Another server has it: who, if it was let go of here.
    fn elsewhere(&self, header: &GroupHeader, message: String) -> ErrorBody {
        let hint = self.forwarding().of((header.incarnation, header.partition));
        ErrorBody::new(ErrorCode::StaleMap, message).with(|detail| detail.hint = hint)
    }

    fn unknown(&self, models: &Models, header: &GroupHeader) -> ErrorBody {
        let incarnation = header.incarnation;
        let gone = |reason, what: String| {
            ErrorBody::new(ErrorCode::Gone, what).with(|detail| detail.reason = Some(reason))
        };
        if let Some(reason) = self.tombstones().reason(incarnation) {
            let what = match reason {
                GoneReason::Deleted => "was deleted",
                GoneReason::Reset => "was reset",
                GoneReason::Restored => "was restored from a checkpoint",
                GoneReason::Unknown => "is gone",
            };
            return gone(
                reason,
                format!("model {incarnation} {what}; open it again by its name"),
            );
        }
        let first = Incarnation {
            generation: 0,
            ..incarnation
        };
        let known = models
            .by_incarnation
            .range(first..)
            .map(|(i, _)| i)
            .take_while(|i| i.model == incarnation.model)
            .last();
        match known {
            // The client has heard of the new generation before this server has. `gone` would settle the number, and
            // a late copy of the request could still be applied once the generation is here.
            Some(known) if known.generation < incarnation.generation => ErrorBody::new(
                ErrorCode::StaleMap,
                format!(
                    "model {incarnation} is at generation {} here; ask the master for the map, or send it again after a pause",
                    known.generation
                ),
            ),
            Some(_) => gone(
                GoneReason::Unknown,
                format!(
                    "server {} knows a later generation of model {incarnation}; open it by its name",
                    self.id
                ),
            ),
            // It may have had partitions of it that have moved since: what became of the model only the master knows.
            None => self.elsewhere(
                header,
                format!(
                    "server {} holds nothing of model {incarnation}; take a fresh map",
                    self.id
                ),
            ),
        }
    }
}
