//! Requests of new numbers: what has gathered for a server, at most one group per partition.

use std::sync::Arc;

use super::{Request, Task, drop_unsent};
use crate::{
    push::{book::Slot, group::Group, ticket::Piece},
    transport::Server,
};

/// Groups in one request at most.
const MOST_GROUPS: usize = 4096;

enum Gathered {
    Pieces(Vec<Piece>),
    /// Nothing waits there any more, or it is queued elsewhere.
    Nothing,
    /// What waits does not fit.
    Full,
}

impl Task {
    /// A request of new numbers for one server, of what has gathered.
    pub(super) fn build(&mut self, id: usize) -> Option<Request> {
        self.open_lane_after_fork();
        let server = Arc::clone(&self.lines.get(&id)?.server);
        let lane = Arc::clone(self.book.lane());
        let now = self.now();
        let mut number = None;
        let mut groups = Vec::new();
        let mut bytes = 0;
        while groups.len() < MOST_GROUPS {
            let Some(slot) = self.lines.get_mut(&id)?.ready.pop_front() else {
                break;
            };
            let pieces = match self.gather(slot, &server, bytes) {
                Gathered::Pieces(pieces) => pieces,
                Gathered::Nothing => continue,
                Gathered::Full => {
                    self.lines.get_mut(&id)?.ready.push_front(slot);
                    break;
                }
            };
            self.book.begin(slot);
            let number = *number.get_or_insert_with(|| self.book.take_number());
            if let Some(group) = Group::freeze(slot, Arc::clone(&lane), number, pieces, now) {
                bytes += group.length;
                groups.push(group);
            }
            if !self.options.coalesce {
                break;
            }
        }
        (!groups.is_empty()).then_some(Request {
            server,
            fresh: true,
            groups,
        })
    }

    /// Takes what waits for a partition, as far as it fits behind `before` bytes.
    fn gather(&mut self, slot: Slot, server: &Arc<Server>, before: usize) -> Gathered {
        let mut pieces: Vec<Piece> = Vec::new();
        let mut bytes = before;
        while let Some(next) = self.book.waiting(slot).front() {
            if next.ticket.is_cancelled() {
                if let Some(piece) = self.book.waiting(slot).pop_front() {
                    drop_unsent(piece);
                }
                continue;
            }
            let (model, partition) = (Arc::clone(&next.model), next.partition);
            if pieces.is_empty() && model.holder(partition).0.id != server.id {
                // It has moved since it was queued here.
                self.list(slot, &model, partition);
                return Gathered::Nothing;
            }
            let length = next.section.len();
            let shares = self.options.coalesce && pieces.len() < u16::MAX.into();
            let full = bytes > 0 && bytes + length > self.options.request_bytes;
            if full || (!pieces.is_empty() && !shares) {
                break;
            }
            if let Some(piece) = self.book.waiting(slot).pop_front() {
                if piece.ticket.may_send() {
                    bytes += length;
                    pieces.push(piece);
                } else {
                    drop_unsent(piece);
                }
            }
        }
        if !pieces.is_empty() {
            Gathered::Pieces(pieces)
        } else if self.book.waiting(slot).is_empty() {
            self.book.unlist(slot);
            Gathered::Nothing
        } else {
            Gathered::Full
        }
    }

    fn open_lane_after_fork(&mut self) {
        let process = std::process::id();
        if process != self.process {
            self.process = process;
            // Parent and child draw the same random numbers: the process tells them apart.
            self.forked = u64::from(process).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            self.book.lane().end();
            self.open_lane();
        }
    }
}
