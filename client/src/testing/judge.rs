//! How the servers of a [`super::Fake`] judge one group: by the table of the protocol.

use glint_protocol::{
    Element, ErrorBody, ErrorCode, ServerId,
    error::{GoneReason, Hint},
    frame::{Form, Group, Op, RequestHeader, Status},
};

use super::State;

impl State {
    pub(super) fn judge(
        &mut self,
        server: usize,
        head: &RequestHeader,
        group: &Group<'_>,
    ) -> Result<(Status, Vec<u8>), ErrorBody> {
        let partition = group.header.partition;
        let error = |code| ErrorBody::new(code, "judged");
        if self.gone {
            return Err(error(ErrorCode::Gone).with(|d| d.reason = Some(GoneReason::Deleted)));
        }
        let holder = self.map.holders[partition as usize] as usize;
        let followers = self.map.followers.get(partition as usize);
        if !group.header.read.is_latest() && followers.is_some_and(|f| f.contains(&(server as u32)))
        {
            return self
                .follower_refuses
                .map_or_else(|| Ok(self.read(group)), |code| Err(error(code)));
        }
        let epoch = self.map.epochs[partition as usize];
        if holder != server || epoch != group.header.epoch {
            let hint = self.hints.then(|| Hint {
                server: ServerId(format!("s{holder}")),
                url: format!("http://s{holder}:1"),
                epoch,
            });
            return Err(error(ErrorCode::StaleMap).with(|d| d.hint = hint));
        }
        if group.header.op == Op::Pull {
            return Ok(self.read(group));
        }
        let values = &mut self.values[partition as usize];
        let skip = group.header.op == Op::Skip;
        let key = (partition, head.lane);
        if let Some(&(last, digest, skipped)) = self.ledger.get(&key) {
            if head.number < last {
                return Err(error(ErrorCode::Superseded));
            }
            if head.number == last {
                if !skip && !skipped && digest != group.header.digest {
                    return Err(error(ErrorCode::LaneConflict));
                }
                let status = if skipped {
                    Status::Skipped
                } else {
                    Status::Applied
                };
                return Ok((status, Vec::new()));
            }
            assert!(
                group.header.prev <= last,
                "a number that was never acknowledged"
            );
        } else if head.lane.birth <= self.horizon {
            let horizon = self.horizon;
            return Err(error(ErrorCode::LaneExpired).with(|d| d.horizon = Some(horizon)));
        }
        self.positions[partition as usize] += 1;
        self.ledger
            .insert(key, (head.number, group.header.digest, skip));
        if skip {
            return Ok((Status::Skipped, Vec::new()));
        }
        let updates = group.sections().unwrap();
        let updates = updates.iter().flat_map(|s| s.values.chunks_exact(8));
        for (index, bytes) in indices(group).into_iter().zip(updates) {
            *values.entry(index).or_default() += <i64 as Element>::from_le(bytes);
        }
        Ok((Status::Applied, Vec::new()))
    }
}

impl State {
    fn read(&self, group: &Group<'_>) -> (Status, Vec<u8>) {
        let values = &self.values[group.header.partition as usize];
        let mut payload = Vec::new();
        for index in indices(group) {
            i64::append(&[values.get(&index).copied().unwrap_or(0)], &mut payload);
        }
        (Status::Values, payload)
    }
}

fn indices(group: &Group<'_>) -> Vec<u64> {
    let sections = group.sections().unwrap();
    let named = sections.iter().flat_map(|section| match section.form {
        Form::Range { start } => (start..start + section.count).collect(),
        Form::Indices(indices) => indices.iter().collect::<Vec<_>>(),
        Form::Rows { .. } | Form::Pairs { .. } => panic!("the model is a vector"),
    });
    named.collect()
}
