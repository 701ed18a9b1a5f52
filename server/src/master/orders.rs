//! Orders: one courier per server keeps it told of what it is to hold and to drop, until it has answered.
//!
//! A courier looks at the durable state only, so that nothing is ordered that a crash of the master could undo, and says
//! everything again after each registration. Obeying twice is the same as once.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use glint_protocol::{
    Boot, ErrorBody, ErrorCode, Incarnation, JSON, PROTOCOL_VERSION, ServerId, VERSION_HEADER,
    control::{self, HeldPartition, Hold, Orders},
    copies::FollowedPartition,
    ids::Revision,
};
use glint_world::{
    Shutdown,
    http::{Connections, Frames, Url},
};
use tokio::sync::Notify;

use super::{
    Shared,
    state::{Model, Phase, State},
    transition,
};

/// Partitions that one order names at most: about 1 MiB of JSON.
const PARTITIONS_PER_ORDER: usize = 16_384;
/// How long a server may take to obey: it may have to make gigabytes of zeros.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// The first and the longest pause after an order that was not answered, or not obeyed.
const PAUSE: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(2));
/// The longest answer to an order.
const ANSWER_BYTES: usize = 64 << 10;

/// What a server is to drop.
pub(crate) fn drops(state: &State, server: &ServerId) -> Vec<control::Drop> {
    state
        .tombstones
        .iter()
        .filter(|t| t.awaited.contains(server))
        .map(|t| control::Drop {
            incarnation: t.incarnation,
            reason: t.reason,
        })
        .collect()
}

/// The revisions of models that a server has confirmed since it registered.
type Told = BTreeMap<Incarnation, Revision>;

/// Orders that belong together, and what is settled once all of them are obeyed.
#[derive(Clone, Debug, Default, PartialEq)]
struct Errand {
    orders: Vec<Orders>,
    told: Vec<(Incarnation, Revision)>,
    dropped: Vec<Incarnation>,
    /// The model that is being made by it: by itself, so that a refusal is known to be of it.
    making: Option<Incarnation>,
    /// Whether a refusal ends the making; a reset goes on until it is obeyed.
    may_end: bool,
}

/// What a server is to be told next; none when it knows everything.
fn next_errand(state: &State, server: &ServerId, boot: Boot, told: &Told) -> Option<Errand> {
    let empty = || Orders {
        cluster: state.cluster,
        term: state.term,
        boot,
        hold: Vec::new(),
        drop: Vec::new(),
    };
    let news = |model: &&Arc<Model>| {
        model.index_of(server).is_some() && told.get(&model.incarnation) != Some(&model.configured)
    };
    let drop = drops(state, server);
    let mut errand = Errand {
        dropped: drop.iter().map(|d| d.incarnation).collect(),
        ..Errand::default()
    };
    let mut order = Orders { drop, ..empty() };
    let mut room = PARTITIONS_PER_ORDER;
    let models = || state.models.values().filter(news);
    for model in models().filter(|m| m.phase == Phase::Live) {
        if errand.orders.len() >= 64 {
            break;
        }
        errand.told.push((model.incarnation, model.configured));
        let since = told.get(&model.incarnation).copied();
        let hold = model.hold_since(server, since, state);
        for hold in hold.iter().flat_map(in_parts) {
            let size = weight(&hold);
            if size > room {
                errand.orders.push(std::mem::replace(&mut order, empty()));
                room = PARTITIONS_PER_ORDER;
            }
            room = room.saturating_sub(size.max(1));
            order.hold.push(hold);
        }
    }
    if !order.hold.is_empty() || !order.drop.is_empty() {
        errand.orders.push(order);
    }
    if !errand.orders.is_empty() || !errand.told.is_empty() {
        return Some(errand);
    }
    let model = models().next()?;
    Some(Errand {
        orders: model
            .hold(server, state)
            .iter()
            .flat_map(in_parts)
            .map(|hold| Orders {
                hold: vec![hold],
                ..empty()
            })
            .collect(),
        told: vec![(model.incarnation, model.configured)],
        dropped: Vec::new(),
        making: Some(model.incarnation),
        may_end: model.phase == Phase::Creating,
    })
}

/// How much of an order it takes, in partitions without other copies.
fn weight(hold: &Hold) -> usize {
    let copies = hold.partitions.iter().map(|held| held.copies.len());
    hold.partitions.len() + hold.followed.len() + copies.sum::<usize>()
}

/// The same in parts that fit into an order.
fn in_parts(hold: &Hold) -> Vec<Hold> {
    let part = |partitions: &[HeldPartition], followed: &[FollowedPartition]| Hold {
        spec: hold.spec.clone(),
        incarnation: hold.incarnation,
        creating: hold.creating,
        partitions: partitions.to_vec(),
        followed: followed.to_vec(),
        peers: hold.peers.clone(),
    };
    let copies = usize::from(hold.spec.copies()).max(1);
    let held = hold.partitions.chunks(PARTITIONS_PER_ORDER / copies);
    let followed = hold.followed.chunks(PARTITIONS_PER_ORDER);
    held.map(|held| part(held, &[]))
        .chain(followed.map(|followed| part(&[], followed)))
        .collect()
}

/// Whether a server's refusal means that the model cannot be made, however often it is asked.
fn is_final(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::DoesNotFit
            | ErrorCode::InvalidSpec
            | ErrorCode::Bad
            | ErrorCode::BadRequest
            | ErrorCode::TooLarge
            | ErrorCode::UnsupportedProtocol
    )
}

/// One courier: who it serves, and how it is woken or sent home.
#[derive(Clone)]
pub(crate) struct Courier {
    /// Told when the server has registered.
    pub(crate) wake: Arc<Notify>,
    /// Ends it.
    pub(crate) end: Shutdown,
}

/// Keeps one server told until `courier.end`.
pub(crate) async fn run(shared: Arc<Shared>, server: ServerId, courier: Courier) {
    let Courier { wake, end } = courier;
    let mut states = shared.journal.watch();
    let mut registration = None;
    let mut told = Told::new();
    let mut pause = Duration::ZERO;
    let mut road: Option<(String, Connections)> = None;
    loop {
        let state = states.see();
        let now = shared.membership().registration(&server);
        if now != registration {
            registration = now;
            told.clear();
            pause = Duration::ZERO;
            // Connections to an earlier start of it may look alive for ever.
            road = None;
        }
        let known = state.servers.get(&server);
        let errand = match (now, known) {
            // A registration under way may have been claimed and not be durable yet.
            (Some((boot, _)), Some(known)) if known.boot == boot => {
                next_errand(&state, &server, boot, &told)
                    .map(|errand| (errand, boot, known.url.clone()))
            }
            _ => None,
        };
        let Some((errand, boot, url)) = errand else {
            tokio::select! {
                biased;
                () = end.cancelled() => return,
                () = wake.notified() => {}
                changed = states.changed() => if !changed { return },
            }
            continue;
        };
        let connections = match &road {
            Some((to, connections)) if *to == url => connections.clone(),
            _ => match url.parse::<Url>() {
                Ok(parsed) => {
                    let connections = Connections::new(shared.world.clone(), parsed, 1);
                    road = Some((url, connections.clone()));
                    connections
                }
                // Registrations with such a URL are refused.
                Err(error) => {
                    tracing::error!(%server, %error, "a server without a usable URL");
                    return;
                }
            },
        };
        let done = tokio::select! {
            biased;
            () = end.cancelled() => return,
            done = deliver(&shared, &connections, &server, boot, &errand) => done,
            // Whoever was to answer is gone, though the network may never say so.
            () = started_anew(&shared, &server, boot, &wake) => continue,
        };
        match done {
            Ok(()) => {
                pause = Duration::ZERO;
                for (incarnation, revision) in errand.told {
                    told.insert(incarnation, revision);
                }
                told.retain(|i, _| state.model(i.model).is_some());
            }
            Err(error) => {
                if pause.is_zero() {
                    tracing::warn!(%server, %error, "an order was not obeyed; repeating it");
                } else {
                    tracing::debug!(%server, %error, "an order was not obeyed again");
                }
                pause = (pause * 2).clamp(PAUSE.0, PAUSE.1);
                let jittered = pause.mul_f64(0.5 + 0.5 * shared.world.random.unit());
                tokio::select! {
                    biased;
                    () = end.cancelled() => return,
                    () = wake.notified() => {}
                    () = tokio::time::sleep(jittered) => {}
                }
            }
        }
    }
}

/// Waits until another start of a server than this one has registered.
async fn started_anew(shared: &Shared, server: &ServerId, boot: Boot, wake: &Notify) {
    let same = || {
        let registration = shared.membership().registration(server);
        registration.is_none_or(|(now, _)| now == boot)
    };
    while same() {
        wake.notified().await;
    }
}

/// Sends the orders of an errand one after another, and notes what they settle.
async fn deliver(
    shared: &Shared,
    connections: &Connections,
    server: &ServerId,
    boot: Boot,
    errand: &Errand,
) -> Result<(), ErrorBody> {
    for orders in &errand.orders {
        if let Err(error) = send(connections, orders).await {
            if let Some(incarnation) = errand.making
                && is_final(error.code)
            {
                shared.note_hindrance(incarnation, server, &error);
            }
            if let Some(incarnation) = errand.making
                && errand.may_end
                && is_final(error.code)
            {
                let failure = ErrorBody::new(
                    error.code,
                    format!("server {server} refused its partitions: {}", error.message),
                );
                tracing::warn!(%server, model = %incarnation, %error, "a model cannot be made");
                return shared
                    .journal
                    .change(move |state| {
                        transition::roll_back(state, incarnation, failure);
                        Ok(())
                    })
                    .await;
            }
            return Err(error);
        }
    }
    if let Some(incarnation) = errand.making {
        shared.confirm(incarnation, server, boot).await?;
    }
    if !errand.dropped.is_empty() {
        let (server, dropped) = (server.clone(), errand.dropped.clone());
        shared
            .journal
            .change(move |state| {
                transition::dropped(state, &server, &dropped);
                Ok(())
            })
            .await?;
    }
    Ok(())
}

async fn send(connections: &Connections, orders: &Orders) -> Result<(), ErrorBody> {
    let internal = |what: String| ErrorBody::new(ErrorCode::Internal, what);
    let body = serde_json::to_vec(orders).map_err(|e| internal(e.to_string()))?;
    let request = http::Request::post("/v1/orders")
        .header(http::header::CONTENT_TYPE, JSON)
        .header(VERSION_HEADER, PROTOCOL_VERSION.to_string())
        .body(Frames::from(body))
        .map_err(|e| internal(e.to_string()))?;
    let exchange = async {
        let response = connections.send(request).await?;
        let status = response.head.status;
        Ok::<_, glint_world::http::HttpError>((status, response.collect(ANSWER_BYTES).await?))
    };
    let unanswered = |why: String| ErrorBody::new(ErrorCode::Retry, why);
    match tokio::time::timeout(ANSWER_WITHIN, exchange).await {
        Err(_) => Err(unanswered(format!(
            "{} has not answered for {ANSWER_WITHIN:?}",
            connections.url()
        ))),
        Ok(Err(error)) => Err(unanswered(with_cause(&error))),
        Ok(Ok((status, _))) if status.is_success() => Ok(()),
        Ok(Ok((_, body))) => Err(ErrorBody::from_json(&body)),
    }
}

/// An error with its causes.
fn with_cause(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
#[path = "orders/tests.rs"]
mod tests;
