//! One attempt at everything that a pull still lacks: many requests at once, whose values are put in place as they arrive.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use futures_util::stream::{FuturesUnordered, StreamExt};
use glint_protocol::{
    Element, ErrorBody, ErrorCode, Number, Position,
    error::Retry,
    frame::{GroupHeader, Kind, Op, RequestHeader},
};
use glint_world::http::Frames;

use super::{
    Asked, NO_LANE, SMALL, count_follower,
    fetch::{Bundle, Fetch, News, State, advance},
    has_moved,
    puller::SmallPart,
    queue, refusal, take_hint,
};
use crate::{
    Error, Read,
    error::Applied,
    plan::Part,
    reply::{Reader, Sink},
    retry::Attempts,
    routing::Routes,
    spread::Spreading,
    transport::Trouble,
};

/// One attempt at all parts that are not there yet.
pub(super) struct Round<'a> {
    pub(super) asked: Asked<'a>,
    /// Where everything was when it was last asked for.
    pub(super) routes: Arc<Routes>,
    /// What picks the copy to read; without it, it is the holder.
    pub(super) dice: Option<u64>,
    /// The changes of maps that were seen before.
    pub(super) seen: u64,
    pub(super) again: Vec<u32>,
    /// Parts that have moved while they were asked for.
    pub(super) moved: Vec<u32>,
    /// Something failed that was asked of its holder.
    pub(super) holder_failed: bool,
    pub(super) fresh_map: bool,
    pub(super) attempts: &'a mut Attempts,
    pub(super) failure: Option<Error>,
}

impl Round<'_> {
    pub(super) async fn run<T: Element>(&mut self, pending: Vec<u32>, out: &mut [T]) {
        let asked = self.asked;
        let mut waiting = self.bundles::<T>(pending, self.dice);
        if let [one] = &mut waiting[..]
            && one.len() == 1
            && let Some(bundle) = one.pop_front()
        {
            // The usual small operation: nothing to run beside.
            let mut fetch = self.begin::<T>(bundle);
            loop {
                let (back, news) = advance(asked, fetch).await;
                match self.take(back, news, out) {
                    Ok(more) => fetch = more,
                    Err(_) if self.moved.is_empty() || self.failure.is_some() => return,
                    Err(_) => break,
                }
            }
        }
        let mut running = FuturesUnordered::new();
        let mut lines = HashMap::new();
        for (line, queue) in waiting.iter_mut().enumerate() {
            for _ in 0..=asked.shared.options.connections {
                if let Some(bundle) = queue.pop_front() {
                    lines.insert(bundle.server.id, line);
                    running.push(advance(asked, self.begin::<T>(bundle)));
                }
            }
        }
        loop {
            // What has moved is asked for at once where it is now, whatever else is waited for.
            if !self.moved.is_empty() {
                let moved = self.take_moved();
                for bundle in self.bundles::<T>(moved, None).into_iter().flatten() {
                    running.push(advance(asked, self.begin::<T>(bundle)));
                }
            }
            let Some((fetch, news)) = running.next().await else {
                return;
            };
            match self.take(fetch, news, out) {
                Ok(fetch) => running.push(advance(asked, fetch)),
                Err(_) if self.failure.is_some() => return,
                Err(server) => {
                    let next = lines
                        .get(&server)
                        .and_then(|&line| waiting[line].pop_front());
                    if let Some(bundle) = next {
                        running.push(advance(asked, self.begin::<T>(bundle)));
                    }
                }
            }
        }
    }

    fn take_moved(&mut self) -> Vec<u32> {
        let mut moved = std::mem::take(&mut self.moved);
        moved.sort_unstable();
        moved.dedup();
        self.attempts.moved();
        self.seen = self.asked.shared.transport.changes.count();
        self.routes = Arc::clone(&self.asked.model.routes());
        moved
    }

    /// Parts by server, in bundles that fit a request; one queue per server.
    fn bundles<T: Element>(&self, pending: Vec<u32>, dice: Option<u64>) -> Vec<VecDeque<Bundle>> {
        let mut lines: Vec<VecDeque<Bundle>> = Vec::new();
        let mut places: HashMap<usize, usize, Spreading> = HashMap::default();
        for index in pending {
            let part = &self.asked.plan.parts[index as usize];
            let server = Read::choose(&self.routes, part.partition, dice);
            if dice.is_some() {
                count_follower(self.asked.shared, &self.routes, part.partition, server);
            }
            let line = *places.entry(server.id).or_insert_with(|| {
                lines.push(VecDeque::new());
                lines.len() - 1
            });
            let bytes = self
                .asked
                .plan
                .section_length(part, T::SIZE, false)
                .max(part.values * T::SIZE);
            let fits = |bundle: &&mut Bundle| {
                let last = bundle.parts.last().copied().unwrap_or(0);
                bundle.bytes + bytes <= self.asked.shared.options.request_bytes
                    && self.asked.plan.parts[last as usize].partition != part.partition
            };
            if let Some(bundle) = lines[line].back_mut().filter(fits) {
                bundle.parts.push(index);
                bundle.bytes += bytes;
            } else {
                lines[line].push_back(Bundle {
                    server: Arc::clone(server),
                    routes: Arc::clone(&self.routes),
                    seen: self.seen,
                    parts: vec![index],
                    bytes,
                });
            }
        }
        lines
    }

    fn begin<T: Element>(&self, bundle: Bundle) -> Fetch {
        let expected = |&part: &u32| self.asked.plan.parts[part as usize].values * T::SIZE;
        let lengths = bundle.parts.iter().map(expected).collect();
        let give_up = self.asked.shared.transport.give_up();
        let state = if self.asked.shared.options.coalesce && bundle.bytes <= SMALL {
            let mut sections = Vec::new();
            let mut parts = Vec::with_capacity(bundle.parts.len());
            for &index in &bundle.parts {
                let part = &self.asked.plan.parts[index as usize];
                let from = sections.len();
                self.asked
                    .plan
                    .write_section(part, None, T::SIZE, &mut sections);
                parts.push(SmallPart {
                    partition: part.partition,
                    read: self.asked.read.mode(self.asked.model, part.partition),
                    section: sections.len() - from,
                    values: part.values * T::SIZE,
                });
            }
            State::Queued(queue(
                self.asked.shared,
                &bundle.server,
                self.asked.model,
                parts,
                sections,
            ))
        } else {
            State::Start(self.request::<T>(&bundle))
        };
        Fetch {
            bundle,
            state,
            reader: Reader::new(T::SIZE, lengths),
            give_up,
        }
    }

    fn request<T: Element>(&self, bundle: &Bundle) -> Frames {
        let header = RequestHeader {
            kind: Kind::Pull,
            groups: bundle.parts.len() as u32,
            lane: NO_LANE,
            number: Number(0),
        };
        let mut body = self.asked.shared.pool.take(4096);
        body.extend_from_slice(&header.encode());
        for &index in &bundle.parts {
            let part = &self.asked.plan.parts[index as usize];
            let (_, epoch) = bundle.routes.holder(part.partition);
            let group = GroupHeader {
                incarnation: self.asked.model.incarnation,
                partition: part.partition,
                epoch,
                prev: Number(0),
                digest: 0,
                read: self.asked.read.mode(self.asked.model, part.partition),
                op: Op::Pull,
                element: Some(T::TYPE),
                sections: 1,
                length: self.asked.plan.section_length(part, T::SIZE, false) as u32,
            };
            body.extend_from_slice(&group.encode());
            self.asked
                .plan
                .write_section(part, None, T::SIZE, &mut body);
        }
        Frames::from(body.freeze())
    }

    /// What has happened to a request: gives it back when it goes on, its server when it has ended.
    fn take<T: Element>(
        &mut self,
        mut fetch: Fetch,
        news: News,
        out: &mut [T],
    ) -> Result<Fetch, usize> {
        let server = fetch.bundle.server.id;
        match news {
            News::Bytes(bytes) => {
                let mut sink = Scatter {
                    round: self,
                    bundle: &fetch.bundle,
                    out,
                };
                match fetch.reader.feed(&bytes, &mut sink) {
                    Ok(()) if self.failure.is_none() => return Ok(fetch),
                    Ok(()) => {}
                    Err(strange) => {
                        self.trouble(&fetch.bundle, &Trouble::NotGlint(strange));
                    }
                }
            }
            News::End if fetch.reader.is_complete() => {}
            News::End => {
                let cause = "the reply ends before its last result".to_owned();
                self.trouble(&fetch.bundle, &Trouble::Unanswered(cause));
            }
            News::Parts(replies) => {
                for (&index, reply) in fetch.bundle.parts.iter().zip(replies) {
                    let part = &self.asked.plan.parts[index as usize];
                    match reply {
                        Ok(bytes) => self.asked.plan.scatter(part, 0, &bytes, out),
                        Err(body) => self.part_failed(index, &fetch.bundle, body),
                    }
                }
            }
            News::Trouble(trouble) => self.trouble(&fetch.bundle, &trouble),
        }
        Err(server)
    }

    fn part(&self, index: u32) -> &Part {
        &self.asked.plan.parts[index as usize]
    }

    /// A whole request failed.
    fn trouble(&mut self, bundle: &Bundle, trouble: &Trouble) {
        self.attempts.failed(trouble);
        for &index in &bundle.parts {
            self.note_failed(index, bundle);
        }
        if let Trouble::Refused(body) = trouble
            && !matches!(body.code.retry(), Retry::Later | Retry::FreshMap)
        {
            let url = bundle.server.connections.url().to_string();
            self.failure = Some(Error::refusal(body.clone(), url));
            return;
        }
        if matches!(trouble, Trouble::Moved) {
            self.moved.extend_from_slice(&bundle.parts);
        } else {
            self.fresh_map = true;
            self.again.extend_from_slice(&bundle.parts);
        }
    }

    fn note_failed(&mut self, index: u32, bundle: &Bundle) {
        let (holder, _) = bundle.routes.holder(self.part(index).partition);
        self.holder_failed |= holder.id == bundle.server.id;
    }

    /// One group of a request failed.
    fn part_failed(&mut self, index: u32, bundle: &Bundle, body: ErrorBody) {
        let partition = self.part(index).partition;
        self.attempts
            .refused(&body, bundle.routes.holder(partition).1);
        self.note_failed(index, bundle);
        match body.code.retry() {
            Retry::Later => {
                // Such as a holder without its lease, or one that has come back: another may hold the partition by now.
                self.fresh_map |= body.code == ErrorCode::Retry;
                self.again.push(index);
            }
            Retry::FreshMap => {
                take_hint(self.asked.model, partition, &body);
                if has_moved(self.asked.model, &bundle.routes, partition) {
                    self.moved.push(index);
                } else {
                    self.fresh_map = true;
                    self.again.push(index);
                }
            }
            Retry::Never | Retry::NewLane => {
                self.failure = Some(refusal(self.asked.model, partition, body, Applied::No));
            }
        }
    }
}

struct Scatter<'a, 'b, T> {
    round: &'a mut Round<'b>,
    bundle: &'a Bundle,
    out: &'a mut [T],
}

impl<T: Element> Sink for Scatter<'_, '_, T> {
    fn values(&mut self, group: usize, skip: usize, bytes: &[u8]) {
        let part = &self.round.asked.plan.parts[self.bundle.parts[group] as usize];
        self.round.asked.plan.scatter(part, skip, bytes, self.out);
    }

    fn begins(&mut self, group: usize, position: Position) {
        let partition = self.round.part(self.bundle.parts[group]).partition;
        self.round.asked.model.note_position(partition, position);
    }

    fn failed(&mut self, group: usize, error: ErrorBody) {
        self.round
            .part_failed(self.bundle.parts[group], self.bundle, error);
    }
}
