//! Small pulls of one server: while its requests are out, what queues becomes the next one.

use std::{collections::HashMap, fmt, sync::Arc};

use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, StreamExt};
use glint_protocol::{
    Epoch, ErrorBody, Incarnation, Number,
    buffer::BufferPool,
    frame::{GroupHeader, Kind, Op, ReadMode, RequestHeader, Status},
};
use glint_world::http::{Connections, Frames};
use tokio::sync::{mpsc, oneshot};

use super::NO_LANE;
use crate::{
    reply,
    routing::Model,
    spread::Spreading,
    stats::{Counters, count},
    transport::{Path, Server, Transport, Trouble},
};

/// Bytes of sections and values that one shared request holds at most.
const MOST_BYTES: usize = 1 << 20;
/// Operations that share a request at most.
const MOST_PULLS: usize = 1024;

/// What one section brought.
pub(crate) type PartReply = Result<Bytes, ErrorBody>;

/// A small pull: sections of one model that are all at one server.
#[derive(Debug)]
pub(crate) struct SmallPull {
    pub(crate) model: Arc<Model>,
    pub(crate) parts: Vec<SmallPart>,
    /// The sections, one after another.
    pub(crate) sections: Vec<u8>,
    /// Whom to answer. A caller that has gone away is not asked for.
    pub(crate) reply: oneshot::Sender<Result<Vec<PartReply>, Trouble>>,
}

impl SmallPull {
    /// Whether this server may have all of it.
    fn is_at(&self, server: usize) -> bool {
        let routes = self.model.routes();
        self.parts.iter().all(|part| {
            let (_, epoch) = routes.holder(part.partition);
            routes.may_answer(part.partition, server, epoch, part.read)
        })
    }
}

/// One section of a small pull.
#[derive(Debug)]
pub(crate) struct SmallPart {
    pub(crate) partition: u32,
    /// Which copies may answer; of one kind in all that queue together.
    pub(crate) read: ReadMode,
    /// Bytes of the section.
    pub(crate) section: usize,
    /// Bytes of values it asks for.
    pub(crate) values: usize,
}

/// The queue of small pulls of a server. Every pull in it is one that a caller waits for, so that callers bound it.
#[derive(Clone)]
pub(crate) struct Puller {
    queue: mpsc::UnboundedSender<SmallPull>,
}

impl fmt::Debug for Puller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Puller")
    }
}

impl Puller {
    /// Starts the task. It ends when the server is forgotten: it does not hold it.
    pub(crate) fn start(transport: &Arc<Transport>, server: &Server, pool: &BufferPool) -> Self {
        let (queue, waiting) = mpsc::unbounded_channel();
        let task = Task {
            transport: Arc::clone(transport),
            server: server.id,
            to: server.connections.clone(),
            pool: pool.clone(),
        };
        transport.world.tasks.spawn(Box::pin(task.run(waiting)));
        Self { queue }
    }

    pub(crate) fn submit(&self, pull: SmallPull) {
        // When the task has ended, its runtime has; the pull is dropped, and its caller learns of it by that.
        let _ = self.queue.send(pull);
    }
}

struct Task {
    transport: Arc<Transport>,
    server: usize,
    to: Connections,
    pool: BufferPool,
}

/// A group of a shared request.
struct Group {
    incarnation: Incarnation,
    partition: u32,
    epoch: Epoch,
    read: ReadMode,
    element: glint_protocol::ElementType,
    sections: u16,
    length: usize,
}

/// A shared request: which section of which pull is in which group, ordered by group.
struct Batch {
    pulls: Vec<SmallPull>,
    groups: Vec<Group>,
    members: Vec<Member>,
}

#[derive(Clone, Copy)]
struct Member {
    group: u32,
    pull: u32,
    part: u32,
    /// Where its section begins in its pull's.
    from: u32,
}

impl Task {
    async fn run(self, mut waiting: mpsc::UnboundedReceiver<SmallPull>) {
        let mut running = FuturesUnordered::new();
        let mut queue = Vec::new();
        let mut open = true;
        let mut seen = self.transport.changes.count();
        while open || !running.is_empty() || !queue.is_empty() {
            let free = running.len() < self.transport.per_server;
            if free && !queue.is_empty() {
                let batch = Self::take_batch(&mut queue);
                if !batch.is_empty() {
                    running.push(self.exchange(batch));
                }
                continue;
            }
            tokio::select! {
                biased;
                Some(()) = running.next(), if !running.is_empty() => {}
                some = waiting.recv_many(&mut queue, MOST_PULLS), if open && free => open = some > 0,
                // What queues behind requests to a server that does not answer may be asked for elsewhere.
                () = self.transport.changes.since(&mut seen), if !free => {
                    while let Ok(pull) = waiting.try_recv() {
                        queue.push(pull);
                    }
                    self.turn_away(&mut queue);
                }
            }
        }
    }

    /// The next pulls that share a request; those whose callers have gone away are left out.
    fn take_batch(queue: &mut Vec<SmallPull>) -> Vec<SmallPull> {
        let mut bytes = 0;
        let fitting = queue
            .iter()
            .take(MOST_PULLS)
            .take_while(|pull| {
                let values: usize = pull.parts.iter().map(|part| part.values).sum();
                bytes += pull.sections.len().max(values);
                bytes <= MOST_BYTES
            })
            .count()
            .max(1);
        let rest = queue.split_off(fitting);
        let mut batch = std::mem::replace(queue, rest);
        batch.retain(|pull| !pull.reply.is_closed());
        batch
    }

    /// Tells pulls of partitions that are not here any more.
    fn turn_away(&self, pulls: &mut Vec<SmallPull>) {
        if pulls.iter().all(|pull| pull.is_at(self.server)) {
            return;
        }
        for pull in std::mem::take(pulls) {
            if pull.is_at(self.server) {
                pulls.push(pull);
            } else {
                let _ = pull.reply.send(Err(Trouble::Moved));
            }
        }
    }

    async fn exchange(&self, mut pulls: Vec<SmallPull>) {
        let mut seen = self.transport.changes.count();
        self.turn_away(&mut pulls);
        if pulls.is_empty() {
            return;
        }
        let (mut batch, body) = self.build(pulls);
        let give_up = self.transport.give_up();
        let sending = self.transport.exchange(&self.to, Path::Pull, body, give_up);
        let mut sending = std::pin::pin!(sending);
        loop {
            tokio::select! {
                biased;
                reply = &mut sending => return match reply {
                    Ok(reply) => batch.distribute(&reply),
                    Err(trouble) => batch.fail(&trouble),
                },
                () = self.transport.changes.since(&mut seen) => {
                    if batch.give_up_moved(self.server, &self.transport.counters) {
                        return;
                    }
                }
            }
        }
    }

    fn build(&self, pulls: Vec<SmallPull>) -> (Batch, Frames) {
        let mut groups: Vec<Group> = Vec::new();
        let mut places: HashMap<(Incarnation, u32), u32, Spreading> = HashMap::default();
        let mut members = Vec::with_capacity(pulls.len());
        for (at, pull) in pulls.iter().enumerate() {
            let mut from = 0;
            for (part_at, part) in pull.parts.iter().enumerate() {
                let key = (pull.model.incarnation, part.partition);
                let place = *places.entry(key).or_insert_with(|| {
                    groups.push(Group {
                        incarnation: key.0,
                        partition: key.1,
                        epoch: pull.model.holder(key.1).1,
                        read: part.read,
                        element: pull.model.spec.element,
                        sections: 0,
                        length: 0,
                    });
                    groups.len() as u32 - 1
                });
                let group = &mut groups[place as usize];
                // What satisfies all that share the group; the holder's newest values always do.
                group.read = group.read.both(part.read).unwrap_or_default();
                group.sections += 1;
                group.length += part.section;
                members.push(Member {
                    group: place,
                    pull: at as u32,
                    part: part_at as u32,
                    from,
                });
                from += part.section as u32;
            }
        }
        members.sort_by_key(|member| member.group);
        let head = RequestHeader {
            kind: Kind::Pull,
            groups: groups.len() as u32,
            lane: NO_LANE,
            number: Number(0),
        };
        let mut body = self.pool.take(16 << 10);
        body.extend_from_slice(&head.encode());
        let mut begun = None;
        for member in &members {
            if begun != Some(member.group) {
                begun = Some(member.group);
                let group = &groups[member.group as usize];
                let header = GroupHeader {
                    incarnation: group.incarnation,
                    partition: group.partition,
                    epoch: group.epoch,
                    prev: Number(0),
                    digest: 0,
                    read: group.read,
                    op: Op::Pull,
                    element: Some(group.element),
                    sections: group.sections,
                    length: group.length as u32,
                };
                body.extend_from_slice(&header.encode());
            }
            let pull = &pulls[member.pull as usize];
            let from = member.from as usize;
            let length = pull.parts[member.part as usize].section;
            body.extend_from_slice(&pull.sections[from..from + length]);
        }
        let batch = Batch {
            pulls,
            groups,
            members,
        };
        (batch, Frames::from(body.freeze()))
    }
}

impl Batch {
    /// Lets go of the pulls of partitions that have moved since; true when nobody waits any more.
    fn give_up_moved(&mut self, server: usize, counters: &Counters) -> bool {
        let mut moved = vec![false; self.pulls.len()];
        for member in &self.members {
            let group = &self.groups[member.group as usize];
            let routes = self.pulls[member.pull as usize].model.routes();
            moved[member.pull as usize] |=
                !routes.may_answer(group.partition, server, group.epoch, group.read);
        }
        if moved.contains(&true) {
            count(&counters.aborted, 1);
        }
        for (pull, moved) in self.pulls.iter_mut().zip(moved) {
            if moved {
                // Nobody listens at the other end of what takes its place.
                let reply = std::mem::replace(&mut pull.reply, oneshot::channel().0);
                let _ = reply.send(Err(Trouble::Moved));
            }
        }
        self.pulls.iter().all(|pull| pull.reply.is_closed())
    }

    fn fail(self, trouble: &Trouble) {
        for pull in self.pulls {
            let _ = pull.reply.send(Err(trouble.clone()));
        }
    }

    fn distribute(self, bytes: &Bytes) {
        let answers = match reply::answers(bytes, Kind::PullReply, self.groups.len()) {
            Ok(answers) => answers,
            Err(strange) => return self.fail(&Trouble::NotGlint(strange)),
        };
        let mut replies: Vec<Vec<PartReply>> = self
            .pulls
            .iter()
            .map(|pull| vec![Ok(Bytes::new()); pull.parts.len()])
            .collect();
        let (mut begun, mut at) = (None, 0);
        for member in &self.members {
            let answer = &answers[member.group as usize];
            if begun != Some(member.group) {
                begun = Some(member.group);
                at = 0;
                if answer.status == Status::Values {
                    let model = &self.pulls[member.pull as usize].model;
                    let partition = self.groups[member.group as usize].partition;
                    model.note_position(partition, answer.position);
                }
            }
            let length = self.pulls[member.pull as usize].parts[member.part as usize].values;
            let place = &mut replies[member.pull as usize][member.part as usize];
            if let Some(error) = answer.error() {
                *place = Err(error);
            } else if at + length <= answer.payload.len() {
                *place = Ok(answer.payload.slice(at..at + length));
                at += length;
            } else {
                let strange = "a result has fewer values than its group asks for".to_owned();
                return self.fail(&Trouble::NotGlint(strange));
            }
        }
        for (pull, reply) in self.pulls.into_iter().zip(replies) {
            // A caller that has gone away meanwhile needs no answer.
            let _ = pull.reply.send(Ok(reply));
        }
    }
}
