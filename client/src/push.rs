//! Pushes. The caller's task encodes pieces and hands them to lanes; a lane's task numbers them, sends them and settles
//! them, whatever becomes of the caller.

mod book;
mod bundle;
mod group;
mod lane;
#[cfg(test)]
mod tests;
mod ticket;

use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, StreamExt};
use glint_protocol::{Element, Rule};
use tokio::{sync::OwnedSemaphorePermit, time::Instant};

use self::bundle::{Bundle, lane_of};
pub(crate) use self::lane::{LaneSender, start};
use self::ticket::{Outcome, Piece, Ticket, Waiting};
use crate::{
    ClientOptions, Error, Result,
    client::Shared,
    plan::{Part, Plan},
    retry::Attempts,
    routing::Model,
    stats::count,
};

/// Hand-overs of at least this many bytes use pooled buffers; smaller ones would pin large buffers for little.
const POOLED: usize = 256 << 10;

/// Pushes the caller's values to where the plan says.
pub(crate) async fn push<T: Element>(
    shared: &Shared,
    model: &Arc<Model>,
    plan: &Plan,
    values: &[T],
    deadline: Instant,
) -> Result<()> {
    let mut push = Push {
        shared,
        model,
        plan,
        deadline,
        started: Attempts::new(),
        bytes: 0,
        applied: 0,
        failure: None,
    };
    match &plan.parts[..] {
        [] => {}
        // The usual small operation: nothing to run beside.
        [part] => push.single(part, values).await,
        _ => push.all(values).await,
    }
    push.end(values.len() as u64)
}

/// Hand-overs that have not ended.
type Running = FuturesUnordered<Waiting>;

struct Push<'a> {
    shared: &'a Shared,
    model: &'a Arc<Model>,
    plan: &'a Plan,
    deadline: Instant,
    started: Attempts,
    /// Bytes handed over and not ended.
    bytes: usize,
    applied: u64,
    failure: Option<Error>,
}

impl Push<'_> {
    async fn single<T: Element>(&mut self, part: &Part, values: &[T]) {
        let bytes = self.plan.section_length(part, T::SIZE, true);
        let Some(permit) = self.permit(bytes).await else {
            return;
        };
        let lane = lane_of(
            self.model.incarnation.model.0,
            part.partition,
            self.shared.lanes.len(),
        );
        let mut waiting = self.submit(lane, std::slice::from_ref(part), bytes, values, permit);
        match tokio::time::timeout_at(self.deadline, &mut waiting).await {
            Ok(outcome) => self.take(outcome),
            Err(_) => self.give_up(std::slice::from_ref(&waiting)),
        }
    }

    async fn all<T: Element>(&mut self, values: &[T]) {
        let mut running = Running::new();
        let model = &self.model;
        // An assignment of this push must not be overtaken by one of a push before it.
        let commutes = matches!(model.spec.rule, Rule::Add | Rule::Max | Rule::Min);
        let bundles = bundle::bundles(
            self.plan,
            model.incarnation.model.0,
            T::SIZE,
            self.lanes(T::SIZE, commutes),
            self.shared.options.request_bytes,
            self.plan.distinct && commutes,
        );
        for bundle in bundles {
            if !self.hand_over(bundle, values, &mut running).await {
                break;
            }
        }
        self.drain(running).await;
    }

    /// How many lanes share this push: all, so that pushes of several callers to a partition go together. A push that nothing else
    /// of this client runs beside takes fewer when it is small; where the order of updates matters, a partition keeps its lane.
    fn lanes(&self, size: usize, commutes: bool) -> usize {
        let all = self.shared.lanes.len();
        let is_alone =
            self.shared.in_flight.available_permits() == self.shared.options.in_flight_bytes;
        if !commutes || !is_alone {
            return all;
        }
        let parts = self.plan.parts.iter();
        let bytes: usize = parts.map(|p| self.plan.section_length(p, size, true)).sum();
        bundle::lanes_for(bytes, self.model.routes().server_count(), all)
    }

    /// Hands a bundle to its lane as soon as there is room for it; false when the push has failed meanwhile.
    async fn hand_over<T: Element>(
        &mut self,
        bundle: Bundle,
        values: &[T],
        running: &mut Running,
    ) -> bool {
        if !self.room(bundle.bytes, running).await {
            return false;
        }
        let Some(permit) = self.permit(bundle.bytes).await else {
            return false;
        };
        let parts: Vec<Part> = bundle
            .parts
            .iter()
            .map(|&index| self.plan.parts[index as usize])
            .collect();
        let waiting = self.submit(bundle.lane, &parts, bundle.bytes, values, permit);
        self.bytes += bundle.bytes;
        running.push(waiting);
        true
    }

    /// Waits until this push has few enough bytes in flight: so that its buffers are reused while they are in the cache.
    async fn room(&mut self, bytes: usize, running: &mut Running) -> bool {
        let servers = self.model.routes().server_count();
        let options = &self.shared.options;
        let window = (options.connections * servers + 2).saturating_mul(options.request_bytes);
        while self.failure.is_none() && self.bytes > 0 && self.bytes + bytes > window {
            self.one(running).await;
        }
        self.failure.is_none()
    }

    async fn permit(&mut self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let most = self.shared.options.in_flight_bytes;
        // Small pieces cost more than their bytes.
        let permits = bytes.clamp(1024.min(most), most) as u32;
        let semaphore = Arc::clone(&self.shared.in_flight);
        if let Ok(permit) = Arc::clone(&semaphore).try_acquire_many_owned(permits) {
            return Some(permit);
        }
        match tokio::time::timeout_at(self.deadline, semaphore.acquire_many_owned(permits)).await {
            Ok(Ok(permit)) => Some(permit),
            Ok(Err(_)) => {
                self.failure.get_or_insert(Error::Closed);
                None
            }
            Err(_) => {
                self.started.failed(&"too many pushes are in flight");
                // What is out already ends by the same deadline, and is waited for by whoever handed it over.
                self.give_up(&[]);
                None
            }
        }
    }

    /// Encodes parts and hands them to a lane.
    fn submit<T: Element>(
        &self,
        lane: usize,
        parts: &[Part],
        bytes: usize,
        values: &[T],
        permit: OwnedSemaphorePermit,
    ) -> Waiting {
        let settling = ClientOptions::settling(self.shared.options.deadline);
        let ticket = Arc::new(Ticket::new(
            self.deadline,
            self.deadline.checked_sub(settling).unwrap_or(self.deadline),
            parts.len(),
            permit,
        ));
        let sections = if bytes >= POOLED {
            let mut buffer = self.shared.pool.take(bytes);
            self.encode(parts, values, &mut buffer);
            buffer.freeze()
        } else {
            let mut buffer = Vec::with_capacity(bytes);
            self.encode(parts, values, &mut buffer);
            Bytes::from(buffer)
        };
        let mut at = 0;
        let mut rest = sections;
        for part in parts {
            let length = self.plan.section_length(part, T::SIZE, true);
            at += length;
            let section = if at == bytes {
                std::mem::take(&mut rest)
            } else {
                rest.split_to(length)
            };
            let piece = Piece::new(
                Arc::clone(self.model),
                part.partition,
                section,
                part.values as u64,
                Arc::clone(&ticket),
            );
            self.shared.lanes[lane].submit(piece);
        }
        Waiting::new(ticket, bytes)
    }

    fn encode<T: Element>(&self, parts: &[Part], values: &[T], out: &mut Vec<u8>) {
        let rule = Some(self.model.spec.rule);
        for part in parts {
            self.plan.write_section(part, rule, T::SIZE, out);
            self.plan.gather(part, values, out);
        }
    }

    async fn drain(&mut self, mut running: Running) {
        while !running.is_empty() {
            self.one(&mut running).await;
        }
    }

    /// Waits for one hand-over to end.
    async fn one(&mut self, running: &mut Running) {
        match tokio::time::timeout_at(self.deadline, running.next()).await {
            Ok(Some(outcome)) => {
                self.bytes -= outcome.bytes;
                self.take(outcome);
            }
            Ok(None) => self.bytes = 0,
            Err(_) => {
                let running: Vec<Waiting> = std::mem::take(running).into_iter().collect();
                self.bytes = 0;
                self.give_up(&running);
            }
        }
    }

    fn take(&mut self, outcome: Outcome) {
        self.applied += outcome.applied;
        if let Some(error) = outcome.failure {
            // What is unknown weighs more than what is certain.
            let unknown = error.applied() == crate::Applied::Unknown;
            if self.failure.is_none() || unknown {
                self.failure = Some(error);
            }
        }
    }

    /// The deadline has passed.
    fn give_up(&mut self, running: &[Waiting]) {
        let mut unknown = false;
        for waiting in running {
            if let Some(outcome) = waiting.outcome() {
                self.take(outcome);
                continue;
            }
            let (sent, attempts, last) = waiting.cancel();
            unknown |= sent;
            self.started.count = self.started.count.max(attempts);
            self.started.last = last.or(self.started.last.take());
        }
        let tried = self.started.tried();
        let model = self.model.name();
        let error = if unknown {
            Error::Unknown {
                model: model.to_owned(),
                cause: "the deadline passed before it could be settled".into(),
                tried,
            }
        } else {
            Error::DeadlineExceeded {
                what: format!("a push to model '{model}'"),
                tried,
            }
        };
        if self.failure.is_none() || unknown {
            self.failure = Some(error);
        }
    }

    fn end(&mut self, values: u64) -> Result<()> {
        count(&self.shared.counters.values_pushed, self.applied);
        match self.failure.take() {
            None => Ok(()),
            Some(error) if self.applied == 0 => Err(error),
            Some(error) => Err(Error::Partial {
                model: self.model.name().to_owned(),
                applied: self.applied,
                of: values,
                cause: Box::new(error),
            }),
        }
    }
}
