//! Taking leave: what others have copies of is theirs at once; the rest is moved first, if that is wanted and there is room.

use std::{sync::Arc, time::Duration};

use glint_protocol::{Durability, ErrorCode, admin::Draining};
use glint_world::Shutdown;
use tokio::time::Instant;

use super::{
    OnShutdown, ServerConfig,
    link::{Link, LinkError},
    registration,
    state::State,
};

/// How often it is looked whether everything has moved.
const PERIOD: Duration = Duration::from_millis(50);
/// How often the master is asked whether it can still be done.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// How long the master may say nothing: time enough to be started again.
const PATIENCE: Duration = Duration::from_secs(20);

/// Waits for `shutdown`, has everything moved if that is wanted, cancels `leaving`, by which the server ceases to be heard,
/// takes leave, and then cancels `stop`.
pub(super) async fn run(
    state: Arc<State>,
    link: Link,
    config: ServerConfig,
    shutdown: Shutdown,
    (leaving, stop): (Shutdown, Shutdown),
) {
    tokio::select! {
        biased;
        () = stop.cancelled() => return,
        () = shutdown.cancelled() => {}
    }
    if config.on_shutdown == OnShutdown::Drain && state.is_registered() {
        drain(&state, &link, config.grace).await;
    }
    leaving.cancel();
    tell_what_ends(&state);
    registration::leave(&state, &link).await;
    stop.cancel();
}

/// Has everything moved off this server, as far as it goes within the time. It is given up when the master says that it
/// cannot be, as when all servers end at once, or says nothing for a while.
async fn drain(state: &State, link: &Link, grace: Duration) {
    let until = Instant::now() + grace;
    let path = format!("/v1/servers/{}/drain?returns=true", state.id);
    let (mut heard, mut told) = (Instant::now(), false);
    while Instant::now() < until && state.models.load().slots().next().is_some() {
        match tokio::time::timeout_at(until, link.post_to::<Draining>(&path)).await {
            Ok(Ok(draining)) => {
                heard = Instant::now();
                if !std::mem::replace(&mut told, true) {
                    tracing::info!(id = %state.id, copies = draining.copies, "everything moves off this server before it ends");
                }
            }
            Ok(Err(LinkError::Refused(error))) if error.code != ErrorCode::Retry => {
                tracing::error!(id = %state.id, %error, "what this server holds cannot be moved before it ends");
                return;
            }
            Ok(Err(error)) if heard.elapsed() >= PATIENCE => {
                tracing::error!(id = %state.id, %error, "the master does not answer: what this server holds is not moved before it ends");
                return;
            }
            Ok(Err(_)) => {}
            Err(_) => return,
        }
        let again = (Instant::now() + ASK_AGAIN).min(until);
        while Instant::now() < again && state.models.load().slots().next().is_some() {
            tokio::time::sleep(PERIOD).await;
        }
    }
}

/// Says which values end with this process, since they are nowhere else.
fn tell_what_ends(state: &State) {
    let models = state.models.load();
    for model in models.by_incarnation.values() {
        let alone = |slot: &&Arc<super::state::Slot>| {
            let held = slot.lock();
            held.is_holder() && held.loss().is_none() && held.in_sync() == 1
        };
        let partitions = model.slots.iter().flatten().filter(alone).count();
        if partitions > 0 && model.spec.durability() == Durability::Memory {
            tracing::warn!(
                id = %state.id, model = model.spec.name, partitions,
                "values end with this process: no other server has a copy of them"
            );
        }
    }
}
