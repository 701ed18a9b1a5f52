//! What an admin does who has noticed that the master has lost its state, and started it with `--adopt`: waits until all
//! servers have come, and ends the adoption.

use std::time::Duration;

use glint::{Client, ClusterStatus, ServerState};
use glint_protocol::admin::Adoption;
use glint_world::{
    World,
    http::{Connections, Frames},
};
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
        if status.adoption.is_none() {
            // It has not begun yet, or is over.
            if began.elapsed() > NONE_CAME {
                return;
            }
            continue;
        }
        let alive = |name: &String| {
            let mut servers = status.servers.iter();
            servers.any(|s| s.id.0 == *name && s.state == ServerState::Alive)
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
        let adopted = finish(&world).await;
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

async fn finish(world: &World) -> Option<Adoption> {
    let url = format!("http://{MASTER}:7100").parse().ok()?;
    let request = http::Request::post("/v1/adopt/finish")
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(Frames::from(b"{}".to_vec()))
        .ok()?;
    let sent = Connections::new(world.clone(), url, 1).send(request).await;
    let response = sent.ok().filter(|r| r.head.status.is_success())?;
    serde_json::from_slice(&response.collect(1 << 20).await.ok()?).ok()
}
