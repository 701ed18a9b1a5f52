//! The end of a schedule: when faults are over, everything must be whole again, answer, and hold what was acknowledged;
//! also after all machines have stopped once more.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use glint::{Client, Read, ServerState, ServerSummary};
use glint_protocol::{Durability, Incarnation};
use tokio::time::{Instant, sleep, timeout};

use super::{
    SETTLES_WITHIN,
    cluster::{Cluster, MASTER, Role},
    copies, leftovers,
    target::Target,
    truth::{Next, SLOW_WINDOW, Wrong},
    work::{Session, all},
};
use crate::simulated::{Dice, End};

const WHO: &str = "witness";

/// Looks at everything, and tells the truth.
pub(super) async fn settle(cluster: &Cluster, seed: u64) {
    let mut dice = Dice::new(seed).part("settle");
    // What clients have given up they may still send: it comes to an end with them.
    for client in cluster.names(Role::Client) {
        let life = cluster.hosts()[&client].life.clone();
        if let Some(life) = life {
            life.end(End::Process);
        }
    }
    sleep(Duration::from_secs(5)).await;
    if timeout(SETTLES_WITHIN * 20, strays(cluster)).await.is_err() {
        cluster.truth.violated(
            Wrong::Other,
            "copies of requests are still under way".into(),
        );
    }
    let Some(session) = connect(cluster, 1).await else {
        return;
    };
    if cluster.plan.copied {
        // Before anything else is pushed: that would mend what differs.
        copies::compare(&session).await;
        // A master that has lost its state leaves what it cannot adopt where it is.
        if !cluster.truth.has_lost_master() {
            leftovers::look(cluster).await;
        }
    }
    let before = look(&session, true).await;
    if cluster.plan.fair || dice.chance(0.5) {
        return;
    }
    // What was acknowledged now, an `async` model keeps for sure a little later.
    sleep(SLOW_WINDOW * 2).await;
    let mut hosts = cluster.names(Role::Server);
    if dice.chance(0.5) {
        hosts.push(MASTER.to_owned());
    }
    let end = *dice.pick(&[End::Machine, End::Machine, End::Process]);
    for host in hosts {
        let life = cluster.hosts()[&host].life.clone();
        if let Some(life) = life {
            life.end(end);
        }
    }
    // A start that is over counts as alive until it has been silent for a while.
    sleep(Duration::from_secs(5)).await;
    let Some(session) = connect(cluster, 2).await else {
        return;
    };
    let after = look(&session, false).await;
    for (incarnation, bits) in before {
        if let Some(now) = after.get(&incarnation)
            && *now != bits
        {
            cluster.truth.violated(
                Wrong::Lost,
                format!(
                    "model {incarnation} has other bits after the last stop: {bits:x?} before, {now:x?} after"
                ),
            );
        }
    }
}

async fn strays(cluster: &Cluster) {
    while cluster.network.copies() > 0 {
        sleep(Duration::from_millis(50)).await;
    }
}

/// A client, as soon as all servers are there.
async fn connect(cluster: &Cluster, number: u32) -> Option<Session> {
    let world = cluster.witness(number);
    let whole = async {
        let since = Instant::now();
        // One client for all of it: to whom a master answered that adopts, that one stays.
        let client = loop {
            let builder = Client::builder(&format!("http://{MASTER}:7100"))
                .options(cluster.options())
                .world(world.clone());
            if let Ok(client) = builder.connect().await {
                break client;
            }
        };
        loop {
            let mut missing = cluster.names(Role::Server);
            if let Ok(status) = client.status().await
                && status.adoption.is_none()
            {
                let alive = |s: &&ServerSummary| s.state == ServerState::Alive;
                for server in status.servers.iter().filter(alive) {
                    missing.retain(|name| *name != server.id.0);
                }
            }
            let drained = cluster.draining.under_way.load(Ordering::Relaxed) > 0;
            if missing.is_empty() && !drained {
                return client;
            }
            if since.elapsed() > SETTLES_WITHIN / 4 {
                cluster.give_up_disks(&missing);
            }
            sleep(Duration::from_millis(50)).await;
        }
    };
    if let Ok(client) = timeout(SETTLES_WITHIN, whole).await {
        let session = Session::new(cluster, client);
        // An order of the master may still wait for an answer that never comes, until it is repeated.
        let opening = async {
            for at in 0..cluster.plan.models.len() {
                while session.target(WHO, at).await.is_none() {}
            }
        };
        if timeout(SETTLES_WITHIN, opening).await.is_err() {
            let text =
                format!("not all models can be opened {SETTLES_WITHIN:?} after the last fault");
            cluster.truth.violated(Wrong::Other, text);
            return None;
        }
        if timeout(SETTLES_WITHIN, enough(&session)).await.is_err() {
            let text = format!(
                "not all models have the copies that pushes need {SETTLES_WITHIN:?} after the last fault"
            );
            cluster.truth.violated(Wrong::Other, text);
            return None;
        }
        cluster.truth.calm();
        return Some(session);
    }
    cluster.truth.violated(
        Wrong::Other,
        format!("not all servers are there {SETTLES_WITHIN:?} after the last fault"),
    );
    None
}

/// Waits until each partition has as many copies in sync as pushes to it need.
async fn enough(session: &Session) {
    for model in &session.cluster.plan.models {
        let needed = usize::from(model.min_in_sync);
        loop {
            match session.client.map(&model.name).await {
                Ok(map) => {
                    let has = |p: u32| 1 + map.followers.get(p as usize).map_or(0, Vec::len);
                    let mut partitions = 0..map.spec.partition_count;
                    if partitions.all(|p| map.lost.contains(&p) || has(p) >= needed) {
                        break;
                    }
                }
                Err(glint::Error::UnknownModel { .. }) => break,
                Err(_) => {}
            }
            sleep(Duration::from_millis(200)).await;
        }
    }
}

/// Pulls every model as a whole, after a push to each if asked to; gives the bits of those that must keep them.
async fn look(session: &Session, push: bool) -> BTreeMap<Incarnation, Vec<u64>> {
    let mut found = BTreeMap::new();
    for (at, model) in session.cluster.plan.models.iter().enumerate() {
        let form = all(model);
        // A model that is lost is made again, once.
        for _ in 0..2 {
            let Some(target) = session.target(WHO, at).await else {
                break;
            };
            let mut next = Next::Continue;
            if push {
                let pushed = session.push(WHO, &target, &form, None, model.rough).await;
                next = pushed.unwrap_or(Next::Continue);
            }
            if next == Next::Continue {
                next = session.pull(WHO, &target, &form, Read::Latest).await;
            }
            if next == Next::Continue {
                if model.durability != Durability::Memory
                    && let Some(bits) = bits(&target, &form).await
                {
                    found.insert(target.handle().incarnation, bits);
                }
                break;
            }
            if !push {
                break;
            }
            session.after(WHO, at, &target, next).await;
        }
    }
    found
}

async fn bits(target: &Arc<dyn Target>, form: &super::target::Form) -> Option<Vec<u64>> {
    target
        .pull(form, Read::Latest)
        .await
        .ok()
        .map(|pulled| pulled.bits)
}
