//! What a master does from time to time: it notices silence, forgets the gone, and places anew what waits for them.

use std::sync::Arc;

use glint_protocol::{Incarnation, ServerId};
use tokio::time::Instant;

use super::{Shared, lock, membership::Event, state::Phase, transition};

/// Tells of a change in the log.
pub(super) fn tell(event: &Event) {
    match event {
        Event::Silent(server, silence) => {
            tracing::warn!(%server, ?silence, "server {server} silent for {silence:.1?}; it keeps its partitions");
        }
        Event::Back(server, silence) => {
            tracing::info!(%server, ?silence, "server {server} is back after {silence:.1?}");
        }
    }
}

/// Looks after the servers: who is silent, who may be forgotten, which model waits for one that does not come.
pub(super) async fn watch_over(shared: Arc<Shared>) {
    let mut tick = tokio::time::interval(shared.config.heartbeat);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = shared.shutdown.cancelled() => return,
            _ = tick.tick() => {}
        }
        let events = shared.membership().sweep(Instant::now());
        events.iter().for_each(tell);
        forget_the_gone(&shared).await;
        replace_the_stuck(&shared).await;
        let (mut confirmed, mut hindered) = (lock(&shared.confirmed), lock(&shared.hindered));
        // Read under the lock: who confirms has seen the model in the state before.
        let state = shared.journal.state();
        let unfinished = |i: &Incarnation| {
            let model = state.model(i.model);
            model.is_some_and(|m| m.incarnation == *i && m.phase != Phase::Live)
        };
        confirmed.retain(|i, _| unfinished(i));
        hindered.retain(|i, _| unfinished(i));
    }
}

async fn forget_the_gone(shared: &Arc<Shared>) {
    let state = shared.journal.state();
    let gone: Vec<ServerId> = shared
        .membership()
        .long_gone(Instant::now())
        .into_iter()
        .filter(|id| !state.is_needed(id))
        .collect();
    for server in gone {
        let (inside, id) = (Arc::clone(shared), server.clone());
        let forgotten = shared
            .journal
            .change(move |state| {
                // It may have registered again since.
                let gone = inside.membership().long_gone(Instant::now()).contains(&id);
                if gone {
                    transition::forget(state, &id);
                }
                Ok(!state.servers.contains_key(&id))
            })
            .await;
        if forgotten == Ok(true) {
            tracing::info!(%server, "server forgotten: it was gone for long and holds nothing");
            shared.membership().forget(&server);
            if let Some(courier) = lock(&shared.couriers).remove(&server) {
                courier.end.cancel();
            }
        }
    }
}

async fn replace_the_stuck(shared: &Arc<Shared>) {
    let state = shared.journal.state();
    let absent = shared
        .membership()
        .absent_for(shared.config.replace_after, Instant::now());
    let alive = shared.alive();
    let stuck: Vec<Incarnation> = state
        .models
        .values()
        .filter(|m| m.phase == Phase::Creating)
        .filter(|m| {
            let mut gone = absent.iter().chain(state.dead.keys());
            gone.any(|id| m.index_of(id).is_some())
        })
        .map(|m| m.incarnation)
        .collect();
    for incarnation in stuck {
        let alive = alive.clone();
        let placed = shared
            .journal
            .change(move |state| transition::place_anew(state, incarnation, &alive))
            .await;
        match placed {
            Ok(()) => tracing::warn!(
                model = %incarnation,
                "a model was being made on a server that has gone silent; placed anew on those that live"
            ),
            // Until a server comes, it waits.
            Err(error) => {
                tracing::debug!(model = %incarnation, %error, "a model waits for a silent server");
            }
        }
    }
}
