//! What admins do: one who has noticed that the master has lost its state, and started it with `--adopt`, waits until all
//! servers have come, and ends the adoption. Others drain a server, and have it back.

use std::{sync::atomic::Ordering, time::Duration};

use glint::{Client, ClusterStatus, ServerState};
use glint_protocol::{
    ErrorBody, ErrorCode, JSON,
    admin::{Adoption, DrainState, Draining},
};
use glint_world::{
    World,
    http::{Connections, Frames, HttpError},
};
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep, timeout};

use super::cluster::{Cluster, MASTER, Role};

/// How long the admin waits for servers while none has come, and while some have.
const NONE_CAME: Duration = Duration::from_secs(30);
const SOME_CAME: Duration = Duration::from_secs(300);

/// Ends the adoption that has begun, or will.
pub(super) async fn end_adoption(cluster: Cluster, number: u32) {
    let world = cluster.witness(number);
    let began = Instant::now();
    loop {
        sleep(Duration::from_millis(200)).await;
        let Some(status) = status(&cluster, &world).await else {
            continue;
        };
        let Some(adoption) = &status.adoption else {
            // It has not begun yet, or is over.
            if began.elapsed() > NONE_CAME {
                return;
            }
            continue;
        };
        let alive = |name: &String| {
            let mut servers = status.servers.iter();
            servers.any(|s| s.id.0 == *name && s.state == ServerState::Alive)
                && adoption.servers.iter().any(|s| s.0 == *name)
        };
        let (here, missing): (Vec<_>, Vec<_>) =
            cluster.names(Role::Server).into_iter().partition(alive);
        let patience = if here.is_empty() {
            NONE_CAME
        } else {
            SOME_CAME
        };
        if !missing.is_empty() && began.elapsed() < patience {
            continue;
        }
        // Which servers it has heard of counts at the very end: it may have lost its state again.
        cluster.truth.adopting();
        let adopted = finish(&cluster, &world, missing.is_empty()).await;
        let missing = adopted.as_ref().map(|adoption| {
            let mut names = cluster.names(Role::Server);
            names.retain(|name| adoption.servers.iter().all(|s| s.0 != *name));
            names
        });
        cluster.truth.adopted(missing.as_deref());
        if adopted.is_some() {
            cluster
                .trace
                .note("ADMIN", format_args!("the adoption is over"));
            return;
        }
    }
}

async fn status(cluster: &Cluster, world: &World) -> Option<ClusterStatus> {
    let builder = Client::builder(&format!("http://{MASTER}:7100"))
        .options(cluster.options())
        .world(world.clone());
    let client = timeout(Duration::from_secs(5), builder.connect()).await;
    client.ok()?.ok()?.status().await.ok()
}

/// Ends an adoption. Copies that are not known to have everything are taken if all that there ever were have come, as they were
/// when they went, and no model was being deleted.
async fn finish(cluster: &Cluster, world: &World, all: bool) -> Option<Adoption> {
    match ask(world, "POST", "/v1/adopt/finish").await {
        Ok(adoption) => Some(adoption),
        Err(Unanswered::Refused(error)) => {
            cluster.trace.note("ADMIN", format_args!("{error}"));
            let servers = cluster.names(Role::Server);
            let damaged = servers.iter().any(|name| cluster.truth.is_damaged(name));
            let whole = all && !damaged && !cluster.truth.was_cut_short();
            let path = if whole {
                "/v1/adopt/finish?uncertain=take"
            } else {
                cluster.truth.giving_up();
                "/v1/adopt/finish?uncertain=lose"
            };
            ask(world, "POST", path).await.ok()
        }
        Err(Unanswered::Silent) => None,
    }
}

/// Asks the master; an error says whether it has refused.
async fn ask<T: DeserializeOwned>(
    world: &World,
    method: &str,
    path: &str,
) -> Result<T, Unanswered> {
    let url = format!("http://{MASTER}:7100");
    let url = url.parse().map_err(|_| Unanswered::Silent)?;
    let request = http::Request::builder()
        .method(method)
        .uri(path)
        .header(http::header::CONTENT_TYPE, JSON)
        .body(Frames::from(b"{}".to_vec()))
        .map_err(|_| Unanswered::Silent)?;
    let asked = async {
        let response = Connections::new(world.clone(), url, 1)
            .send(request)
            .await?;
        let status = response.head.status;
        Ok::<_, HttpError>((status, response.collect(1 << 20).await?))
    };
    match timeout(Duration::from_secs(5), asked).await {
        Ok(Ok((status, body))) if status.is_success() => {
            serde_json::from_slice(&body).map_err(|_| Unanswered::Silent)
        }
        Ok(Ok((_, body))) => Err(Unanswered::Refused(ErrorBody::from_json(&body))),
        _ => Err(Unanswered::Silent),
    }
}

enum Unanswered {
    Silent,
    Refused(ErrorBody),
}

/// Drains a server for a while.
pub(super) async fn drain(cluster: Cluster, number: u32, server: String, time: Duration) {
    let world = cluster.witness(number);
    let path = format!("/v1/servers/{server}/drain");
    let began = Instant::now();
    let note = |what: &str| {
        cluster
            .trace
            .note("ADMIN", format_args!("{server}: {what}"));
    };
    while began.elapsed() < time {
        match ask::<Draining>(&world, "POST", &path).await {
            Ok(draining) => {
                note(&format!("{draining:?}"));
                if draining.state == Some(DrainState::Drained) {
                    break;
                }
            }
            Err(Unanswered::Refused(error)) => note(&error.to_string()),
            Err(Unanswered::Silent) => {}
        }
        tokio::select! {
            biased;
            () = cluster.draining.end.cancelled() => break,
            () = sleep(Duration::from_millis(300)) => {}
        }
    }
    loop {
        match ask::<Draining>(&world, "DELETE", &path).await {
            Ok(_) => break,
            Err(Unanswered::Refused(error)) if error.code == ErrorCode::UnknownServer => break,
            Err(_) => sleep(Duration::from_millis(300)).await,
        }
    }
    note("is not drained any more");
    let under_way = &cluster.draining.under_way;
    under_way.fetch_sub(1, Ordering::Relaxed);
}
