//! Telling the master that this server lives: registration at the start and whenever the master does not know it, then
//! heartbeats. Start order does not matter; a master that is away is waited for.

use std::time::Duration;

use glint_protocol::{
    ErrorBody, ErrorCode, JSON, PROTOCOL_VERSION, VERSION_HEADER,
    control::{Heartbeat, Leave, Register, Registered},
};
use glint_world::{
    Shutdown,
    http::{Connections, Frames, HttpError},
};
use serde::{Serialize, de::DeserializeOwned};

use super::{orders, state::ServerState};

/// How long the master may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// The largest answer: all orders at once, after a restart of the master.
const ANSWER_BYTES: usize = 256 << 20;
/// The first and the longest pause between attempts to register.
const PAUSE: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));
/// How often a master that is away is mentioned in the log.
const MENTION: Duration = Duration::from_secs(10);

/// Why the master gave no useful answer.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("{0}")]
    Unreachable(#[from] HttpError),
    #[error("no answer within {} s", ANSWER_WITHIN.as_secs())]
    Slow,
    #[error("{0}")]
    Refused(#[from] ErrorBody),
}

struct Master {
    connections: Connections,
}

impl Master {
    async fn post<T: Serialize, R: DeserializeOwned>(
        &self,
        path: &str,
        message: &T,
    ) -> Result<R, Trouble> {
        let internal = |error: String| Trouble::Refused(ErrorBody::new(ErrorCode::Internal, error));
        let body = serde_json::to_vec(message).map_err(|e| internal(e.to_string()))?;
        let request = http::Request::post(path)
            .header(http::header::CONTENT_TYPE, JSON)
            .header(VERSION_HEADER, PROTOCOL_VERSION.to_string())
            .body(Frames::from(body))
            .map_err(|e| internal(e.to_string()))?;
        let answer = async {
            let response = self.connections.send(request).await?;
            let status = response.head.status;
            Ok::<_, HttpError>((status, response.collect(ANSWER_BYTES).await?))
        };
        let (status, bytes) = tokio::time::timeout(ANSWER_WITHIN, answer)
            .await
            .map_err(|_| Trouble::Slow)??;
        if !status.is_success() {
            return Err(ErrorBody::from_json(&bytes).into());
        }
        serde_json::from_slice(&bytes).map_err(|error| {
            internal(format!(
                "the answer of {} is not that of a master of Glint: {error}",
                self.connections.url()
            ))
        })
    }
}

fn master(state: &ServerState) -> Master {
    Master {
        connections: Connections::new(state.world().clone(), state.config().master.clone(), 1),
    }
}

/// Registers and sends heartbeats until `shutdown`.
pub(super) async fn run(state: ServerState, shutdown: Shutdown) {
    let master = master(&state);
    let work = async {
        loop {
            let every = register(&state, &master).await;
            heartbeats(&state, &master, every).await;
        }
    };
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = work => {}
    }
}

/// Registers, however long it takes; returns how often to send a heartbeat.
async fn register(state: &ServerState, master: &Master) -> Duration {
    let mut pause = PAUSE.0;
    let mut mentioned: Option<tokio::time::Instant> = None;
    loop {
        let message = Register {
            server: state.id().clone(),
            url: state.url().to_string(),
            boot: state.boot(),
            cluster: state.allegiance().cluster,
            capacity_bytes: state.config().capacity_bytes,
            copies: state.copies(),
        };
        let trouble = match master
            .post::<_, Registered>("/v1/servers/register", &message)
            .await
        {
            Ok(registered) => match orders::obey(state, registered.orders) {
                Ok(()) => {
                    state.set_registered(true);
                    tracing::info!(cluster = %registered.cluster, master = %state.config().master, "registered");
                    return Duration::from_millis(registered.heartbeat_ms.max(1));
                }
                Err(error) => Trouble::from(error),
            },
            Err(trouble) => trouble,
        };
        if mentioned.is_none_or(|last| last.elapsed() >= MENTION) {
            mentioned = Some(tokio::time::Instant::now());
            tracing::warn!(master = %state.config().master, "cannot register yet: {trouble}; trying again");
        }
        // Servers that lost their master together shall not all come back in one moment.
        tokio::time::sleep(pause.mul_f64(0.5 + state.world().random.unit())).await;
        pause = (pause * 2).min(PAUSE.1);
    }
}

/// Sends heartbeats until the master says that it does not know this server.
async fn heartbeats(state: &ServerState, master: &Master, every: Duration) {
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut away = false;
    loop {
        ticks.tick().await;
        let message = Heartbeat {
            server: state.id().clone(),
            boot: state.boot(),
            term: state.allegiance().term,
            load: state.load(),
        };
        match master
            .post::<_, serde_json::Value>("/v1/servers/heartbeat", &message)
            .await
        {
            Ok(_) => {
                if std::mem::take(&mut away) {
                    tracing::info!("the master answers again");
                }
            }
            Err(Trouble::Refused(error)) if error.code == ErrorCode::NotRegistered => {
                tracing::info!("the master does not know this server: registering again");
                return;
            }
            Err(trouble) => {
                if !std::mem::replace(&mut away, true) {
                    tracing::warn!("the master does not answer: {trouble}; pulls and pushes go on");
                }
            }
        }
    }
}

/// Tells the master that this server ends in order. Once: if it does not hear it, it notices the silence.
pub(super) async fn leave(state: &ServerState) {
    if !state.is_registered() {
        return;
    }
    let message = Leave {
        server: state.id().clone(),
        boot: state.boot(),
    };
    if let Err(trouble) = master(state)
        .post::<_, serde_json::Value>("/v1/servers/leave", &message)
        .await
    {
        tracing::warn!("could not tell the master that this server leaves: {trouble}");
    }
}
