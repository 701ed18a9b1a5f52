//! Who lives: what each server's last word was, and when. Nothing here is durable, and nothing here changes the map: a
//! server that is silent keeps its partitions.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use glint_protocol::{
    Boot, ErrorBody, ErrorCode, ServerId, Term,
    admin::RefusedServer,
    control::{
        Heartbeat, MAX_BUSIEST, PartitionLoad, Recovering, RecoveryProgress, Register, ServerLoad,
        ServerState,
    },
};
use tokio::time::Instant;

/// Refused servers that are remembered, and for how long after they asked last.
const MAX_REFUSED: usize = 64;
const REFUSED_FOR: Duration = Duration::from_secs(60);
/// Servers that are remembered as recovering.
const MAX_RECOVERING: usize = 4096;
/// Servers that are remembered as asked to repeat a word.
const MAX_ASKED: usize = 4096;

/// What is known of one server's life.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    /// Its start that may speak for it.
    boot: Boot,
    /// Whether that start has registered with this master since the master started.
    registered: bool,
    /// How often any of its starts has registered with this start of the master.
    registrations: u64,
    /// Its last word; for a server that has said nothing yet, the start of this master.
    heard: Instant,
    state: ServerState,
    load: ServerLoad,
    busiest: Vec<PartitionLoad>,
}

/// The servers, and when one counts as silent.
#[derive(Debug)]
pub(crate) struct Membership {
    term: Term,
    silent_after: Duration,
    forget_after: Duration,
    members: BTreeMap<ServerId, Member>,
    /// Servers that read their data directories and have not registered yet.
    recovering: BTreeMap<ServerId, Recovery>,
    /// Servers whose registration was refused, the one that asked last at the end.
    refused: VecDeque<Refusal>,
    /// Servers of which a start was asked to repeat a word, and which word, the last asked at the end.
    asked: VecDeque<(ServerId, u64)>,
}

#[derive(Clone, Copy, Debug)]
struct Recovery {
    progress: RecoveryProgress,
    heard: Instant,
}

#[derive(Clone, Debug)]
struct Refusal {
    server: ServerId,
    boot: Boot,
    url: String,
    error: ErrorBody,
    at: Instant,
}

/// Something to tell in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A server has said nothing for so long.
    Silent(ServerId, Duration),
    /// A silent server speaks again, after so long.
    Back(ServerId, Duration),
}

impl Membership {
    /// The servers that a master knows from before its start: they have the same time as all others to say something.
    pub(crate) fn new(
        term: Term,
        silent_after: Duration,
        forget_after: Duration,
        known: impl IntoIterator<Item = (ServerId, Boot)>,
        now: Instant,
    ) -> Self {
        let members = known.into_iter().map(|(id, boot)| {
            let member = Member {
                boot,
                registered: false,
                registrations: 0,
                heard: now,
                state: ServerState::Alive,
                load: ServerLoad::default(),
                busiest: Vec::new(),
            };
            (id, member)
        });
        Self {
            term,
            silent_after,
            forget_after,
            members: members.collect(),
            recovering: BTreeMap::new(),
            refused: VecDeque::new(),
            asked: VecDeque::new(),
        }
    }

    /// The term has risen above one that a server had heard: all register again.
    pub(crate) fn raise_term(&mut self, term: Term) {
        self.term = self.term.max(term);
    }

    /// Notes that a server reads its data directory: it is there, though it cannot register yet.
    ///
    /// # Errors
    /// `busy` when too many do.
    pub(crate) fn recovering(&mut self, word: &Recovering, now: Instant) -> Result<(), ErrorBody> {
        let known = self.recovering.contains_key(&word.server);
        if !known && self.recovering.len() >= MAX_RECOVERING {
            return Err(ErrorBody::new(
                ErrorCode::Busy,
                format!(
                    "{MAX_RECOVERING} servers are recovering, the most that the master follows"
                ),
            ));
        }
        let recovery = Recovery {
            progress: word.progress,
            heard: now,
        };
        self.recovering.insert(word.server.clone(), recovery);
        Ok(())
    }

    /// How far a server is with reading its data directory, while it does.
    pub(crate) fn recovery(&self, server: &ServerId, now: Instant) -> Option<RecoveryProgress> {
        let recovery = self.recovering.get(server)?;
        let fresh = now.saturating_duration_since(recovery.heard) < self.silent_after;
        fresh.then_some(recovery.progress)
    }

    /// Servers that read their data directories now.
    pub(crate) fn all_recovering(&self, now: Instant) -> Vec<(ServerId, RecoveryProgress)> {
        self.recovering
            .keys()
            .filter_map(|id| Some((id.clone(), self.recovery(id, now)?)))
            .collect()
    }

    /// Notes that a server was refused; what is remembered is bounded.
    pub(crate) fn refuse(&mut self, request: &Register, error: &ErrorBody, now: Instant) {
        let of_it = |r: &Refusal| r.server == request.server && r.boot == request.boot;
        self.refused.retain(|r| !of_it(r));
        if self.refused.len() >= MAX_REFUSED {
            self.refused.pop_front();
        }
        self.refused.push_back(Refusal {
            server: request.server.clone(),
            boot: request.boot,
            url: request.url.chars().take(256).collect(),
            error: error.clone(),
            at: now,
        });
    }

    /// Servers that were refused of late, the one that asked last first.
    pub(crate) fn refused(&self, now: Instant) -> Vec<RefusedServer> {
        let ago = |r: &Refusal| now.saturating_duration_since(r.at);
        self.refused
            .iter()
            .rev()
            .filter(|r| ago(r) < REFUSED_FOR)
            .map(|r| RefusedServer {
                server: r.server.clone(),
                url: r.url.clone(),
                error: r.error.clone(),
                ago_ms: ago(r).as_millis() as u64,
            })
            .collect()
    }

    /// Has the first registration of a start repeated with a word that was made just now. One that arrives late, when its
    /// start is dead and another lives, cannot do that: it would be taken for the last start, and what the living one holds
    /// for lost. Of a server the last word counts, once.
    ///
    /// # Errors
    /// `retry` with the word to repeat.
    pub(crate) fn repeats_word(&mut self, request: &Register, word: u64) -> Result<(), ErrorBody> {
        let asked = self.asked.iter().position(|(id, _)| *id == request.server);
        let asked = asked.and_then(|at| self.asked.remove(at));
        if let Some((_, asked)) = asked
            && request.word == Some(asked)
        {
            return Ok(());
        }
        if self.asked.len() >= MAX_ASKED {
            self.asked.pop_front();
        }
        self.asked.push_back((request.server.clone(), word));
        let error = ErrorBody::new(
            ErrorCode::Retry,
            format!(
                "this start of server {} is new here: register again, with the word of this answer, to show that it lives",
                request.server
            ),
        );
        Err(error.with(|detail| detail.word = Some(word)))
    }

    /// Lets a start of a server speak for it from now on, before its registration is durable.
    ///
    /// # Errors
    /// `identity_in_use` when another start of it was heard within the limit of silence.
    pub(crate) fn claim(
        &mut self,
        server: &ServerId,
        boot: Boot,
        now: Instant,
    ) -> Result<(), ErrorBody> {
        if let Some(member) = self.members.get_mut(server) {
            let silence = now.saturating_duration_since(member.heard);
            if member.boot == boot {
                member.heard = now;
                return Ok(());
            }
            if member.state != ServerState::Left && silence < self.silent_after {
                return Err(ErrorBody::new(
                    ErrorCode::IdentityInUse,
                    format!(
                        "another server named {server} was heard within the last {} ms; give this one another name (--id), or wait until \
                         the other has been silent for {} ms",
                        self.silent_after.as_millis(),
                        self.silent_after.as_millis()
                    ),
                ));
            }
            member.boot = boot;
            member.registered = false;
            member.heard = now;
            member.state = ServerState::Silent;
            member.load = ServerLoad::default();
            member.busiest.clear();
        } else {
            let member = Member {
                boot,
                registered: false,
                registrations: 0,
                heard: now,
                state: ServerState::Silent,
                load: ServerLoad::default(),
                busiest: Vec::new(),
            };
            self.members.insert(server.clone(), member);
        }
        Ok(())
    }

    /// A registration is durable: the server lives. False if another start has claimed its name meanwhile.
    pub(crate) fn registered(&mut self, server: &ServerId, boot: Boot, now: Instant) -> bool {
        let Some(member) = self.members.get_mut(server).filter(|m| m.boot == boot) else {
            return false;
        };
        self.recovering.remove(server);
        self.refused
            .retain(|r| r.server != *server || r.boot != boot);
        member.registered = true;
        member.registrations += 1;
        member.heard = now;
        member.state = ServerState::Alive;
        true
    }

    /// Has a start of a server register once more, at its next heartbeat.
    pub(crate) fn asks_again(&mut self, server: &ServerId, boot: Boot) {
        let member = self.members.get_mut(server);
        if let Some(member) = member.filter(|m| m.boot == boot) {
            member.registered = false;
        }
    }

    /// Notes a heartbeat; the event if the server was silent.
    ///
    /// # Errors
    /// `not_registered` when this start has not registered with this start of the master.
    pub(crate) fn heartbeat(
        &mut self,
        heartbeat: &Heartbeat,
        now: Instant,
    ) -> Result<Option<Event>, ErrorBody> {
        let server = &heartbeat.server;
        let member = self
            .members
            .get_mut(server)
            .filter(|m| m.boot == heartbeat.boot && m.registered && heartbeat.term == self.term);
        let Some(member) = member else {
            return Err(not_registered(server));
        };
        let event = (member.state != ServerState::Alive)
            .then(|| Event::Back(server.clone(), now.saturating_duration_since(member.heard)));
        member.heard = now;
        member.load = heartbeat.load;
        member.busiest.clone_from(&heartbeat.busiest);
        member.busiest.truncate(MAX_BUSIEST);
        member.state = ServerState::Alive;
        Ok(event)
    }

    /// Notes that a server ends in order; whether it was this start's to say.
    pub(crate) fn leave(&mut self, server: &ServerId, boot: Boot, now: Instant) -> bool {
        match self.members.get_mut(server) {
            Some(member) if member.boot == boot => {
                member.heard = now;
                member.registered = false;
                member.state = ServerState::Left;
                true
            }
            _ => false,
        }
    }

    /// Looks for servers that have become silent.
    pub(crate) fn sweep(&mut self, now: Instant) -> Vec<Event> {
        let mut events = Vec::new();
        self.refused
            .retain(|r| now.saturating_duration_since(r.at) < REFUSED_FOR);
        let limit = self.silent_after;
        self.recovering
            .retain(|_, r| now.saturating_duration_since(r.heard) < limit);
        for (id, member) in &mut self.members {
            let silence = now.saturating_duration_since(member.heard);
            if member.state == ServerState::Alive && silence >= self.silent_after {
                member.state = ServerState::Silent;
                if !self.recovering.contains_key(id) {
                    events.push(Event::Silent(id.clone(), silence));
                }
            }
        }
        events
    }

    /// Servers that may be forgotten, if they hold nothing: gone for long.
    pub(crate) fn long_gone(&self, now: Instant) -> Vec<ServerId> {
        self.absent_for(self.forget_after, now)
    }

    /// Servers that have left, or have been silent for so long.
    pub(crate) fn absent_for(&self, silence: Duration, now: Instant) -> Vec<ServerId> {
        self.members
            .iter()
            .filter(|(id, m)| {
                m.state != ServerState::Alive
                    && now.saturating_duration_since(m.heard) >= silence
                    && self.recovery(id, now).is_none()
            })
            .map(|(id, _)| id.clone())
            .collect()
    }

    /// Removes a server that the state has forgotten, unless it has been heard since.
    pub(crate) fn forget(&mut self, server: &ServerId) {
        if self
            .members
            .get(server)
            .is_some_and(|m| m.state != ServerState::Alive)
        {
            self.members.remove(server);
        }
    }

    /// Whether a server is there: it sends heartbeats, or reads its data directory.
    pub(crate) fn is_present(&self, server: &ServerId, now: Instant) -> bool {
        let alive = |m: &Member| m.registered && m.state == ServerState::Alive;
        self.members.get(server).is_some_and(alive) || self.recovery(server, now).is_some()
    }

    /// Servers that are registered and live: those that a new model may be placed on.
    pub(crate) fn alive(&self) -> impl Iterator<Item = &ServerId> {
        self.members
            .iter()
            .filter(|(_, m)| m.registered && m.state == ServerState::Alive)
            .map(|(id, _)| id)
    }

    /// Servers that are registered and were heard within so short a time that they must be running.
    pub(crate) fn heard_within(&self, time: Duration, now: Instant) -> BTreeSet<ServerId> {
        self.members
            .iter()
            .filter(|(_, m)| m.registered && m.state == ServerState::Alive)
            .filter(|(_, m)| now.saturating_duration_since(m.heard) < time)
            .map(|(id, _)| id.clone())
            .collect()
    }

    /// Whether this start of a server has said nothing for so long, or nothing at all to this start of the master.
    pub(crate) fn is_silent(
        &self,
        server: &ServerId,
        boot: Boot,
        time: Duration,
        now: Instant,
    ) -> bool {
        self.members.get(server).is_some_and(|m| {
            let spoke = m.registered || m.registrations > 0;
            m.boot == boot && (!spoke || now.saturating_duration_since(m.heard) >= time)
        })
    }

    /// Notes a word of a server beside its heartbeats.
    ///
    /// # Errors
    /// `not_registered` when this start has not registered with this start of the master.
    pub(crate) fn speaks(
        &mut self,
        server: &ServerId,
        boot: Boot,
        now: Instant,
    ) -> Result<(), ErrorBody> {
        match self.members.get_mut(server) {
            Some(member) if member.boot == boot && member.registered => {
                member.heard = now;
                Ok(())
            }
            _ => Err(not_registered(server)),
        }
    }

    /// The start under which a server is registered with this start of the master, while it has not left, and which
    /// registration it is: a server that registers again is told everything again.
    pub(crate) fn registration(&self, server: &ServerId) -> Option<(Boot, u64)> {
        self.members
            .get(server)
            .filter(|m| m.registered)
            .map(|m| (m.boot, m.registrations))
    }

    /// The partitions that a server is asked for most.
    pub(crate) fn busiest(&self, server: &ServerId) -> Vec<PartitionLoad> {
        let member = self.members.get(server);
        member.map(|m| m.busiest.clone()).unwrap_or_default()
    }

    /// State, silence and load of a server, for the status.
    pub(crate) fn view(
        &self,
        server: &ServerId,
        now: Instant,
    ) -> Option<(ServerState, Duration, ServerLoad)> {
        let member = self.members.get(server)?;
        let silence = now.saturating_duration_since(member.heard);
        let state = match member.state {
            ServerState::Alive if member.registered => ServerState::Alive,
            _ if self.recovery(server, now).is_some() => ServerState::Recovering,
            // Known from before this start of the master, and not heard since.
            ServerState::Alive => ServerState::Silent,
            state => state,
        };
        Some((state, silence, member.load))
    }
}

fn not_registered(server: &ServerId) -> ErrorBody {
    ErrorBody::new(
        ErrorCode::NotRegistered,
        format!("server {server} is not registered with this start of the master; register first"),
    )
}

#[cfg(test)]
#[path = "membership/tests.rs"]
mod tests;
