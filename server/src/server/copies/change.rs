//! Asking the master for another in-sync set: a follower that has everything is added, one that is silent or falls behind is taken
//! out, one that was detached is named. What was asked for is waited for; the answer is obeyed like any order.

use std::{sync::Arc, time::Duration};

use glint_protocol::{
    ServerId,
    copies::{ChangeCopies, CopiesChanged, CopyChange, CopyRole, Silence, Suspect},
};
use glint_world::Shutdown;
use serde::Deserialize;
use tokio::time::Instant;

use super::{
    attach, detach,
    held::{Held, Member, Phase, Role},
};
use crate::server::{
    link::Link,
    orders,
    state::{Slot, State},
};

/// Changes that one request names at most.
const AT_ONCE: usize = 4096;
/// How long a follower of a logged model may lag behind, in times of the suspicion: its disk may be slow. One of a `memory`
/// model has nothing to wait for, and gets one.
const PATIENCE: u32 = 8;
/// How long the master may take, here: it is asked again.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

#[derive(Deserialize)]
struct Done {}

/// Looks after the copies of all partitions until `shutdown`.
pub(in crate::server) async fn run(state: Arc<State>, link: Link, shutdown: Shutdown) {
    let changing = async {
        loop {
            let pulse = state.pulse();
            tokio::select! {
                biased;
                () = state.copies_changed.notified() => {}
                () = tokio::time::sleep(Duration::from_millis(pulse.beacon_ms)) => {}
            }
            let changes = wanted(&state);
            for changes in changes.chunks(AT_ONCE) {
                ask(&state, &link, changes).await;
            }
        }
    };
    let suspecting = async {
        loop {
            tokio::time::sleep(Duration::from_millis(state.pulse().beacon_ms)).await;
            suspect(&state, &link).await;
        }
    };
    tokio::select! {
        biased;
        () = shutdown.cancelled() => {}
        () = async { tokio::join!(changing, suspecting); } => {}
    }
}

/// What is to change, for every partition that this server holds.
pub(in crate::server) fn wanted(state: &State) -> Vec<CopyChange> {
    let models = state.models.load();
    let copied = models.slots().filter(|slot| slot.is_copied());
    copied.filter_map(|slot| look(state, slot)).collect()
}

/// Looks after the copies of one partition, and says what is to change.
fn look(state: &State, slot: &Arc<Slot>) -> Option<CopyChange> {
    let mut held = slot.lock();
    let held = &mut *held;
    if !held.is_holder() {
        return None;
    }
    let epoch = held.epoch();
    let former = |m: &Member| m.role == CopyRole::Former && m.phase == Phase::New;
    for member in held.members.iter_mut().filter(|m| former(m)) {
        detach::order(slot, epoch, member);
    }
    if held.loss().is_some() {
        // Nobody follows what is lost any more; the master hears who has let go of it.
        let gone = held.members.iter().any(|m| m.phase == Phase::Gone);
        return gone.then(|| change(slot, held)).flatten();
    }
    let now = Instant::now();
    let pulse = state.pulse();
    let suspicion = Duration::from_millis(pulse.suspicion_ms);
    let position = held.position();
    let level = held.inherited.max(slot.safe.safe());
    let patience = if slot.durable.is_some() {
        suspicion * PATIENCE
    } else {
        suspicion
    };
    // Who waits itself for the end of a promise adds nobody: one that never gave it would not wait.
    let may_add = slot.answering.has_begun(&state.origin);
    for member in &mut held.members {
        let has = member.has.unwrap_or_default();
        let stuck = match member.behind {
            Some((before, since)) if before == has && has < position => {
                now.saturating_duration_since(since) > patience
            }
            _ => {
                member.behind = Some((has, now));
                false
            }
        };
        let silent = now.saturating_duration_since(member.peer.heard()) > suspicion;
        if member.role == CopyRole::InSync && (silent || stuck) && !member.given_up {
            tracing::warn!(
                model = %slot.description.model, partition = slot.description.partition, follower = %member.peer.id(),
                silent, "a follower does not keep up; going on without it"
            );
            member.given_up = true;
        }
        if silent && member.is_served() && !member.waits {
            // Nothing gathers for one that does not answer; it is offered everything again when it does.
            member.peer.forget(slot.key(), member.session);
            member.session = state.next_session();
            member.phase = Phase::New;
        }
        if member.phase == Phase::New && member.role != CopyRole::Former && !silent {
            attach::offer(slot, epoch, member);
        }
        // The holder waits for it first, and needs its promise; then the master is asked.
        let has_all = member.has.is_some_and(|has| has >= level);
        let promises = member.promised > state.origin.passed();
        if member.role == CopyRole::Learner
            && member.phase == Phase::Streaming
            && has_all
            && promises
            && may_add
            && !member.waits
        {
            member.waits = true;
            slot.safe
                .require(member.session, member.has.unwrap_or_default());
        }
    }
    super::beacon::renew(slot, held);
    change(slot, held)
}

fn change(slot: &Slot, held: &Held) -> Option<CopyChange> {
    let in_sync = |role| move |m: &&Member| m.role == role;
    let confirmed: Vec<&ServerId> = held
        .members
        .iter()
        .filter(in_sync(CopyRole::InSync))
        .map(|m| m.peer.id())
        .collect();
    let asked: Vec<ServerId> = held
        .members
        .iter()
        .filter(|m| m.waits && !m.given_up && m.role != CopyRole::Former)
        .map(|m| m.peer.id().clone())
        .collect();
    let detached: Vec<ServerId> = held
        .members
        .iter()
        .filter(|m| m.phase == Phase::Gone)
        .map(|m| m.peer.id().clone())
        .collect();
    let same = asked.len() == confirmed.len() && asked.iter().all(|id| confirmed.contains(&id));
    if same && detached.is_empty() {
        return None;
    }
    let (incarnation, partition) = slot.key();
    Some(CopyChange {
        incarnation,
        partition,
        epoch: held.epoch(),
        revision: held.revision,
        in_sync: asked,
        detached,
    })
}

async fn ask(state: &Arc<State>, link: &Link, changes: &[CopyChange]) {
    if !state.is_registered() {
        return;
    }
    let request = ChangeCopies {
        server: state.id.clone(),
        boot: state.boot,
        changes: changes.to_vec(),
    };
    let asked = link.post::<CopiesChanged>("/v1/servers/change", &request);
    let answer = match tokio::time::timeout(ANSWER_WITHIN, asked).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => {
            tracing::debug!(%error, "the master has not changed the copies; asking again");
            return;
        }
        Err(_) => return,
    };
    if let Err(error) = orders::obey(state, answer.orders).await {
        tracing::debug!(%error, "the master's answer cannot be obeyed");
    }
}

/// Whom this server follows and does not hear any more.
pub(in crate::server) fn suspected(state: &State) -> Vec<Silence> {
    let now = state.origin.now();
    let limit = Duration::from_millis(state.pulse().suspicion_ms);
    let silent = state.silent_holders(now, limit).into_iter();
    silent
        .filter(|silence| follows(state, &silence.server))
        .collect()
}

/// Tells the master so.
async fn suspect(state: &Arc<State>, link: &Link) {
    let silent = suspected(state);
    if silent.is_empty() || !state.is_registered() {
        return;
    }
    tracing::debug!(?silent, "holders are silent; telling the master");
    let word = Suspect {
        server: state.id.clone(),
        boot: state.boot,
        silent,
    };
    let told = link.post::<Done>("/v1/servers/suspect", &word);
    if let Ok(Err(error)) = tokio::time::timeout(ANSWER_WITHIN, told).await {
        tracing::debug!(%error, "the master could not be told");
    }
}

/// Whether this server follows a partition of another, as the master or that one has said: it need not have spoken to this start.
fn follows(state: &State, holder: &ServerId) -> bool {
    let models = state.models.load();
    models.slots().any(|slot| {
        matches!(&slot.lock().role, Role::Follower(following) if following.holder.as_ref() == Some(holder))
    })
}
