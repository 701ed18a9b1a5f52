//! What answers mean: settling numbers, sending them again, giving them up.

use std::{collections::BTreeMap, sync::Arc};

use glint_protocol::{LaneId, Number};
use tokio::time::Instant;

use super::{Event, Left, Request, Task, drop_unsent};
use crate::{
    Error,
    losses::ForgottenPushes,
    push::{
        book::Slot,
        group::{Group, LaneEnd, Verdict},
    },
    reply::Answer,
    stats::count,
    transport::Trouble,
};

impl Task {
    pub(super) fn ended(&mut self, request: Request, answers: &Result<Vec<Answer>, Trouble>) {
        let id = request.server.id;
        self.free(&request);
        let now = self.now();
        let unreachable = matches!(answers, Err(Trouble::Unsent(_) | Trouble::Unanswered(_)));
        let (mut again, mut moved, mut reissued) = (Vec::new(), Vec::new(), Vec::new());
        let mut fresh_map = false;
        for mut group in request.groups {
            let place = group.place;
            let verdict = match answers {
                Ok(answers) => {
                    let answer = &answers[place];
                    group.sent = true;
                    group.judge(answer, now)
                }
                Err(trouble) => group.judge_trouble(trouble),
            };
            match verdict {
                Verdict::Applied => {
                    if let Ok(answers) = answers {
                        self.note_answer(&group, &answers[place]);
                    }
                    self.settle(&group, true);
                    group.end(&Ok(()));
                }
                Verdict::Skipped => {
                    if let Ok(answers) = answers {
                        self.note_answer(&group, &answers[place]);
                    }
                    self.settle(&group, true);
                    let end = Err(group.not_applied());
                    group.end(&end);
                }
                Verdict::Failed(error, lane) => self.fail(group, error, lane),
                // Such as by the hint of this very answer: where it is now there is no trouble yet.
                Verdict::Again { .. } if group.has_moved() => {
                    group.attempts.moved();
                    moved.push(group);
                }
                Verdict::Again { fresh_map: wanted } => {
                    fresh_map |= wanted;
                    again.push(group);
                }
                Verdict::Reissue { horizon } => {
                    self.book.hear_horizon(horizon.unwrap_or(0));
                    self.replace_lane(&group);
                    reissued.push(group);
                }
            }
        }
        if !moved.is_empty() {
            count(&self.counters.retries, 1);
            self.due(moved, None);
        }
        if !again.is_empty() {
            self.schedule(again, fresh_map, unreachable.then_some(id));
        }
        if !reissued.is_empty() {
            let number = self.book.take_number();
            for group in &mut reissued {
                group.lane = Arc::clone(self.book.lane());
                group.number = number;
            }
            self.schedule(reissued, false, None);
        }
    }

    /// A request of new numbers has ended: the next may go.
    fn free(&mut self, request: &Request) {
        let id = request.server.id;
        if request.fresh
            && let Some(line) = self.lines.get_mut(&id)
        {
            line.out = false;
        }
        self.touched.push_back(id);
    }

    /// Nothing of a request is waited for any more.
    pub(super) fn abandoned(&mut self, request: &Request, groups: Vec<Group>) {
        self.free(request);
        self.leave(Left {
            server: request.server.id,
            groups,
        });
    }

    /// The map has changed while a request was out: what it does not wait for any more goes where it is held now, under its
    /// number, and so does what is ready.
    pub(super) fn leave(&mut self, left: Left) {
        if let Some(line) = self.lines.get_mut(&left.server) {
            for slot in std::mem::take(&mut line.ready) {
                let first = self.book.waiting(slot).front();
                match first.map(|piece| (Arc::clone(&piece.model), piece.partition)) {
                    Some((model, partition)) => self.list(slot, &model, partition),
                    None => self.book.unlist(slot),
                }
            }
        }
        if left.groups.is_empty() {
            return;
        }
        count(&self.counters.aborted, 1);
        let mut groups = left.groups;
        groups.iter_mut().for_each(Group::abandon);
        self.due(groups, None);
    }

    /// A number is in the ledger: what else the answer says.
    fn note_answer(&self, group: &Group, answer: &Answer) {
        group.model.note_position(group.partition, answer.position);
        if let Some(last) = answer.after_loss {
            self.note_loss(group, last);
        }
    }

    /// The partition knew the lane up to `last` only, though later numbers of it were acknowledged.
    fn note_loss(&self, group: &Group, last: Number) {
        count(&self.counters.losses, 1);
        let prev = self.book.prev(group.slot, group.lane.id);
        self.losses.note(ForgottenPushes {
            model: group.model.name().to_owned(),
            partition: group.partition,
            at_most: prev.0.saturating_sub(last.0),
        });
    }

    fn settle(&mut self, group: &Group, in_ledger: bool) {
        let acknowledged: Option<(LaneId, Number)> =
            in_ledger.then_some((group.lane.id, group.number));
        if let Some(slot) = self.book.settle(group.slot, acknowledged) {
            let (model, partition) = (Arc::clone(&group.model), group.partition);
            self.list(slot, &model, partition);
        }
    }

    fn fail(&mut self, group: Group, error: Error, lane: LaneEnd) {
        if lane == LaneEnd::End {
            group.lane.end();
        }
        if lane != LaneEnd::Keep {
            self.replace_lane(&group);
        }
        self.settle(&group, false);
        group.end(&Err(error));
    }

    /// No more numbers from the group's lane.
    fn replace_lane(&mut self, group: &Group) {
        if group.lane.id == self.book.lane().id {
            self.open_lane();
        }
    }

    /// Lets groups wait for their next attempt, and has the map asked for meanwhile. A map by which one of them is elsewhere
    /// ends the pause.
    fn schedule(&mut self, groups: Vec<Group>, fresh_map: bool, held: Option<usize>) {
        count(&self.counters.retries, 1);
        // One that is forgotten already, and made anew since, is not let go once more.
        let held = held.filter(|id| self.lines.contains_key(id));
        if let Some(line) = held.and_then(|id| self.lines.get_mut(&id)) {
            line.held += 1;
        }
        let mut seen = self.transport.changes.count();
        for group in &groups {
            group.model.note_use();
            if fresh_map {
                group.model.want_map(group.answers);
            }
        }
        let now = Instant::now();
        let trouble = groups.iter().map(|group| group.attempts.trouble());
        let too_early = groups.iter().all(|group| group.attempts.was_too_early());
        let pause = self
            .pauses
            .at_server(trouble.max().unwrap_or_default(), too_early);
        // It wakes in time to settle what can no longer be tried.
        let boundary = groups.iter().map(|group| {
            if group.skip {
                group.give_up_by(self.options.request_timeout)
            } else {
                group.settle_by()
            }
        });
        let soonest = now + self.options.first_pause;
        let wake = boundary
            .min()
            .map_or(now + pause, |at| at.max(soonest).min(now + pause));
        let transport = Arc::clone(&self.transport);
        let left = Arc::clone(&self.left);
        self.running.push(Box::pin(async move {
            let mut groups = groups;
            while !groups
                .iter()
                .any(|group| group.has_moved() || group.model.gone_by_master().is_some())
            {
                tokio::select! {
                    biased;
                    () = tokio::time::sleep_until(wake) => break,
                    () = transport.changes.since(&mut seen) => {
                        if let Some(server) = held {
                            // What waits for this attempt may be elsewhere, though this is not.
                            left.put(server, Vec::new());
                        }
                    }
                }
            }
            groups
                .iter_mut()
                .filter(|group| group.has_moved())
                .for_each(|group| group.attempts.moved());
            Event::Due { groups, held }
        }));
    }

    pub(super) fn due(&mut self, groups: Vec<Group>, held: Option<usize>) {
        if let Some(id) = held {
            if let Some(line) = self.lines.get_mut(&id) {
                line.held -= 1;
            }
            self.touched.push_back(id);
        }
        let now = Instant::now();
        let mut requests: BTreeMap<(usize, LaneId, Number), Request> = BTreeMap::new();
        for mut group in groups {
            self.clear_cancelled(group.slot);
            if let Some(mut error) = group.model.lost(group.partition) {
                if let Error::Lost { applied, .. } = &mut error
                    && group.sent
                {
                    *applied = crate::Applied::Unknown;
                }
                self.fail(group, error, LaneEnd::Replace);
                continue;
            }
            if let Some(mut error) = group.model.gone_by_master() {
                if let Error::Gone { applied, .. } = &mut error
                    && group.sent
                {
                    *applied = crate::Applied::Unknown;
                }
                self.fail(group, error, LaneEnd::Keep);
                continue;
            }
            if group.lane.has_ended() {
                let error = group.unknown("its lane has ended");
                self.fail(group, error, LaneEnd::Keep);
                continue;
            }
            if now >= group.give_up_by(self.options.request_timeout) {
                let error = group.unknown("it could not be settled by its deadline");
                self.fail(group, error, LaneEnd::Replace);
                continue;
            }
            if now >= group.settle_by() {
                if !group.sent {
                    let error = group.not_applied();
                    self.fail(group, error, LaneEnd::Keep);
                    continue;
                }
                if !group.skip {
                    count(&self.counters.skips, 1);
                    group.skip = true;
                }
            }
            let (server, _) = group.model.holder(group.partition);
            let key = (server.id, group.lane.id, group.number);
            let request = requests.entry(key).or_insert_with(|| Request {
                server,
                fresh: false,
                groups: Vec::new(),
            });
            request.groups.push(group);
        }
        for request in requests.into_values() {
            self.send(request);
        }
    }

    /// Pieces that wait behind an unsettled number and whose callers have gone away give back their room.
    fn clear_cancelled(&mut self, slot: Slot) {
        let waiting = self.book.waiting(slot);
        if waiting.iter().any(|piece| piece.ticket.is_cancelled()) {
            for piece in std::mem::take(waiting) {
                if piece.ticket.is_cancelled() {
                    drop_unsent(piece);
                } else {
                    waiting.push_back(piece);
                }
            }
        }
    }
}
