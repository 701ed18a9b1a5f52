//! Nothing is left behind when faults are over: see [`crate::leftovers`].

use std::time::Duration;

use glint_protocol::{admin::ModelCopies, control::ClusterStatus};
use glint_server::server::status::ServerStatus;
use glint_world::{
    World,
    http::{Connections, Frames},
};
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep, timeout};

use super::{
    SETTLES_WITHIN,
    cluster::{Cluster, MASTER},
    truth::Wrong,
};
use crate::leftovers::{has_only, is_still, wanted};

/// How long one answer may take.
const WITHIN: Duration = Duration::from_secs(2);

/// Waits until it is so, and tells the truth.
pub(super) async fn look(cluster: &Cluster) {
    let began = Instant::now();
    while let Err(why) = left(cluster).await {
        if began.elapsed() > SETTLES_WITHIN {
            let text = format!("{SETTLES_WITHIN:?} after the last fault: {why}");
            cluster.truth.violated(Wrong::Other, text);
            return;
        }
        sleep(Duration::from_millis(500)).await;
    }
}

async fn left(cluster: &Cluster) -> Result<(), String> {
    let world = cluster.witness(79);
    let master = format!("http://{MASTER}:7100");
    let status: ClusterStatus = get(&world, &master, "/v1/status").await?;
    let mut models: Vec<ModelCopies> = Vec::new();
    for model in &status.models {
        let path = format!("/v1/models/{}/copies", model.spec.name);
        models.push(get(&world, &master, &path).await?);
    }
    let mut wanted = wanted(&models)?;
    is_still(&status)?;
    for server in &status.servers {
        let of_it: ServerStatus = get(&world, &server.url, "/v1/status").await?;
        // What cannot be read is kept for a person to look at.
        let id = &server.id.0;
        let files = if cluster.truth.is_damaged(id) {
            Vec::new()
        } else {
            cluster.hosts()[id].disk.list()
        };
        let files: Vec<String> = files.into_iter().map(|(name, _)| name).collect();
        let wanted = wanted.remove(&server.id).unwrap_or_default();
        has_only(&wanted, &of_it, &files)?;
    }
    Ok(())
}

async fn get<T: DeserializeOwned>(world: &World, url: &str, path: &str) -> Result<T, String> {
    let fetch = async {
        let connections = Connections::new(world.clone(), url.parse().ok()?, 1);
        let request = http::Request::get(path);
        let request = request.body(Frames::from(Vec::new())).ok()?;
        let response = connections.send(request).await.ok()?;
        if !response.head.status.is_success() {
            return None;
        }
        response.collect(8 << 20).await.ok()
    };
    let body = timeout(WITHIN, fetch).await.ok().flatten();
    let body = body.ok_or_else(|| format!("{url} does not answer to {path}"))?;
    serde_json::from_slice(&body).map_err(|error| error.to_string())
}
