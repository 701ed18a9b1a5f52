//! Making itself known to the master, and staying so: register until it answers, then heartbeats, and register again
//! whenever the master does not know this server any more. Meanwhile pulls and pushes go on.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use glint_protocol::{
    ClusterId, ErrorBody, ErrorCode, OsBoot, Term,
    control::{Heartbeat, Leave, Left, Register, Registered},
};
use glint_world::{Shutdown, disk::is_unsynced};
use serde::Deserialize;
use tokio::time::Instant;

use super::{
    link::{Link, LinkError},
    orders,
    state::State,
};
use crate::log::volume::Manifest;

/// The first and the longest pause between two attempts.
const PAUSE: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(2));
/// Bounds of what the master may ask for between two heartbeats, in milliseconds.
const HEARTBEAT_MS: (u64, u64) = (10, 60_000);
/// Up to how many partitions the load is summed up for every heartbeat; beyond it at most once in [`SUM_EVERY`].
const FEW_PARTITIONS: u64 = 4096;
const SUM_EVERY: Duration = Duration::from_secs(1);
/// How long taking leave may take.
const LEAVE_WITHIN: Duration = Duration::from_secs(2);

/// An answer that says nothing but that it was done.
#[derive(Deserialize)]
struct Done {}

/// Registers and sends heartbeats until `shutdown`.
pub(super) async fn run(state: Arc<State>, link: Link, url: String, shutdown: Shutdown) {
    let mut troubles = Troubles::default();
    loop {
        let registered = tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            registered = register(&state, &link, &url) => registered,
        };
        match registered {
            Ok((term, every)) => {
                troubles = Troubles::default();
                tracing::info!(id = %state.id, %term, "registered with the master");
                tokio::select! {
                    biased;
                    () = shutdown.cancelled() => return,
                    () = beat(&state, &link, term, every) => {}
                }
            }
            Err(error) => {
                let pause = troubles.next(&state, &error);
                tokio::select! {
                    biased;
                    () = shutdown.cancelled() => return,
                    () = tokio::time::sleep(pause) => {}
                }
            }
        }
    }
}

/// Attempts that failed, one after another.
#[derive(Default)]
struct Troubles {
    pause: Duration,
    last: Option<String>,
}

impl Troubles {
    /// Tells of a failed attempt, loudly if it is another than before, and says how long to wait.
    fn next(&mut self, state: &State, error: &LinkError) -> Duration {
        let text = error.to_string();
        if self.last.as_ref() != Some(&text) {
            match error {
                LinkError::Unreachable(_) => {
                    tracing::warn!(id = %state.id, error = text, "waiting for the master");
                }
                LinkError::Refused(error) if error.code == ErrorCode::WrongCluster => {
                    tracing::error!(
                        id = %state.id, error = text,
                        "the master belongs to another cluster than the partitions that this server holds: they stay \
                         here, untouched. Give the master its data directory again, or start this server anew"
                    );
                }
                LinkError::Refused(error) if error.code == ErrorCode::IdentityInUse => {
                    tracing::warn!(id = %state.id, error = text, "waiting until the master lets this server in");
                }
                LinkError::Refused(_) => {
                    tracing::error!(id = %state.id, error = text, "the master refuses this server; trying again");
                }
            }
            self.last = Some(text);
        }
        self.pause = (self.pause * 2).clamp(PAUSE.0, PAUSE.1);
        self.pause.mul_f64(0.5 + 0.5 * state.world.random.unit())
    }
}

async fn register(
    state: &Arc<State>,
    link: &Link,
    url: &str,
) -> Result<(Term, Duration), LinkError> {
    // Read once: its lock would otherwise be held, and asked for again, until the request is whole.
    let heard = *state.heard();
    let mut request = Register {
        server: state.id.clone(),
        url: url.to_owned(),
        boot: state.boot,
        cluster: heard.cluster,
        capacity_bytes: state.capacity_bytes,
        copies: state.copies(),
        lost: state.lost_copies(),
        holds: state.held_copies(),
        models: state.held_models(),
        volume: state.volume.get().copied(),
        starts: state.starts().await,
        os_boot: OsBoot(state.world.os_boot),
        labels: state.labels.clone(),
        term: heard.term,
        word: None,
    };
    let mut answer = link.post("/v1/servers/register", &request).await;
    if let Err(LinkError::Refused(error)) = &answer
        && let Some(word) = error.detail.as_ref().and_then(|detail| detail.word)
    {
        request.word = Some(word);
        answer = link.post("/v1/servers/register", &request).await;
    }
    let answer: Registered = answer?;
    let term = answer.orders.term;
    let every = answer.heartbeat_ms.clamp(HEARTBEAT_MS.0, HEARTBEAT_MS.1);
    registered(state, answer)
        .await
        .map_err(LinkError::Refused)?;
    Ok((term, Duration::from_millis(every)))
}

/// Obeys the answer to a registration; from then on the server serves.
pub(super) async fn registered(state: &Arc<State>, answer: Registered) -> Result<(), ErrorBody> {
    if answer.orders.cluster != answer.cluster {
        return Err(ErrorBody::new(
            ErrorCode::WrongCluster,
            format!(
                "the master says that it is of cluster {}, and orders for cluster {}",
                answer.cluster, answer.orders.cluster
            ),
        ));
    }
    belong(state, answer.cluster).await?;
    state.set_pulse(answer.pulse);
    orders::obey(state, answer.orders).await?;
    state.registered.store(true, Ordering::Release);
    Ok(())
}

/// Notes in the data directory which cluster it belongs to, before anything of that cluster is in it, and that this start
/// has registered.
async fn belong(state: &State, cluster: ClusterId) -> Result<(), ErrorBody> {
    let Some(disk) = &state.disk else {
        return Ok(());
    };
    let mut manifest = state.manifest.lock().await;
    let news = |m: &&mut Manifest| m.cluster != Some(cluster) || m.starts != [state.boot];
    if let Some(known) = manifest.as_mut().filter(news) {
        let other = known.cluster.is_some_and(|known| known != cluster);
        if other && state.has_values() {
            // It holds partitions of another cluster; the orders will be refused for that.
            return Ok(());
        }
        let belongs = Manifest {
            cluster: Some(cluster),
            starts: vec![state.boot],
            ..known.clone()
        };
        if let Err(error) = belongs.store(&**disk).await {
            if is_unsynced(&error)
                && let Some(log) = state.log.get()
            {
                log.fail(&error);
            } else if known.cluster == belongs.cluster {
                // The list of starts may be longer than it must be.
                tracing::debug!(%error, "the data directory cannot be written; it is not noted that this start has registered");
                return Ok(());
            }
            return Err(ErrorBody::new(
                ErrorCode::StorageFailed,
                format!("the data directory cannot be written: {error}"),
            ));
        }
        *known = belongs;
    }
    Ok(())
}

/// Sends heartbeats until the server has to register again.
async fn beat(state: &State, link: &Link, term: Term, every: Duration) {
    let mut silent = false;
    let (mut load, mut summed) = (state.load(), Instant::now());
    loop {
        tokio::time::sleep(every).await;
        if state.found_loss.swap(false, Ordering::AcqRel) {
            tracing::error!(id = %state.id, "values are lost; telling the master by registering again");
            return;
        }
        if load.partitions < FEW_PARTITIONS || summed.elapsed() >= SUM_EVERY {
            (load, summed) = (state.load(), Instant::now());
        }
        if state.heard().term != term {
            tracing::info!(id = %state.id, "the master has started again; registering with it");
            return;
        }
        let heartbeat = Heartbeat {
            server: state.id.clone(),
            boot: state.boot,
            term,
            load,
            busiest: state.busiest(),
        };
        match link.post::<Done>("/v1/servers/heartbeat", &heartbeat).await {
            Ok(Done {}) => {
                if silent {
                    tracing::info!(id = %state.id, "the master answers again");
                }
                silent = false;
            }
            Err(LinkError::Refused(error)) if error.code == ErrorCode::NotRegistered => {
                tracing::info!(id = %state.id, %error, "registering again");
                return;
            }
            Err(error) => {
                // The maps that clients hold are good without the master.
                if !silent {
                    tracing::warn!(id = %state.id, %error, "the master does not answer; serving on");
                }
                silent = true;
            }
        }
    }
}

/// Tells the master that this server ends in order; if it cannot be told, it notices by itself.
pub(super) async fn leave(state: &Arc<State>, link: &Link) {
    state.leaves.store(true, Ordering::Release);
    if !state.is_registered() {
        return;
    }
    let leave = Leave {
        server: state.id.clone(),
        boot: state.boot,
    };
    let told = link.post::<Left>("/v1/servers/leave", &leave);
    match tokio::time::timeout(LEAVE_WITHIN, told).await {
        Ok(Ok(Left { orders: None })) => {}
        // Others hold from now on what they have copies of: they begin as soon as this server has stopped.
        Ok(Ok(Left {
            orders: Some(orders),
        })) => {
            if let Err(error) = orders::obey(state, orders).await {
                tracing::debug!(%error, "what was to be handed over is not");
            }
            // Without this word they would wait for the end of what they have promised.
            state.yields.close();
            let _ = tokio::time::timeout(LEAVE_WITHIN, state.yields.wait()).await;
        }
        Ok(Err(error)) => tracing::debug!(%error, "the master could not be told of the leave"),
        Err(_) => tracing::debug!("the master did not answer to the leave"),
    }
}
