//! Pods that are not as the spec says: which is restarted next, and when.

use glint_protocol::{
    Durability,
    admin::DrainState,
    control::{ClusterStatus, ModelState, ModelSummary, ServerState, ServerSummary},
};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::{
    Progress, Step,
    scale::{find, left_on},
};
use crate::{
    api::{ParameterServer, Rollout},
    build::Names,
    observe::{self, Observed},
    reason::Reason,
};

/// The next thing that is done about pods that are not as the spec says.
pub(super) struct Roll {
    pub(super) step: Option<Step>,
    pub(super) progress: Progress,
    /// The server that is emptied, or was, to be restarted.
    pub(super) emptied: Option<String>,
}

impl Roll {
    fn new(step: Option<Step>, progress: Progress) -> Self {
        Self {
            step,
            progress,
            emptied: None,
        }
    }

    /// Whether it puts right what does not run anyway.
    pub(super) fn is_urgent(&self) -> bool {
        let restarts = matches!(&self.step, Some(Step::Restart { .. }));
        restarts && self.progress.reason == Reason::RestartingPod
    }
}

/// What is next, if any pod is not as the spec says.
pub(super) fn roll(
    object: &ParameterServer,
    observed: &Observed,
    scaling: Option<&Progress>,
) -> Option<Roll> {
    let set = observed.servers.as_ref()?;
    let master_set = observed.master.as_ref()?;
    let stale: Vec<&Pod> = observed
        .server_pods
        .iter()
        .filter(|(_, pod)| observe::is_current(pod, set) == Some(false))
        .map(|(_, pod)| pod)
        .collect();
    let stale_master = observed
        .master_pod
        .as_ref()
        .filter(|pod| observe::is_current(pod, master_set) == Some(false));

    // What does not run anyway is made anew at once: that is how a mistake in the spec is put right.
    let all = stale.iter().copied().chain(stale_master);
    if let Some((pod, trouble)) = all
        .filter(|pod| pod.metadata.deletion_timestamp.is_none())
        .find_map(|pod| Some((pod, observe::trouble(pod)?)))
    {
        let why = format!(
            "the spec has changed since, and it does not run: {}",
            trouble.message
        );
        let progress = Progress::under_way(Reason::RestartingPod, why.clone());
        return Some(Roll::new(restart(pod, why), progress));
    }
    if stale.is_empty() && stale_master.is_none() {
        return None;
    }
    let total = observed.server_pods.len() + 1;
    let left = stale.len() + usize::from(stale_master.is_some());
    let rolling = |what: &str| {
        let message = format!(
            "{} of {total} pods are as the spec says; {what}",
            total - left
        );
        Progress::under_way(Reason::RollingOut, message)
    };
    if scaling.is_some_and(|progress| progress.active) {
        let progress = rolling("the others wait until the number of servers is right");
        return Some(Roll::new(None, progress));
    }
    if object.spec.rollout == Rollout::Drain
        && let Some(roll) = emptied(observed, &stale, &rolling)
    {
        return Some(roll);
    }
    if let Some(waits) = not_whole(object, observed) {
        return Some(Roll::new(None, rolling(&format!("waiting: {waits}"))));
    }
    let Some(victim) = stale.last() else {
        let master = stale_master?;
        let why = "the spec has changed, and all servers are done".to_owned();
        return Some(Roll::new(
            restart(master, why),
            rolling("restarting the master"),
        ));
    };
    Some(next(object, observed, victim, &rolling))
}

/// A server that is being emptied to be restarted, or is empty: whatever happens to others meanwhile, it costs nothing.
fn emptied(
    observed: &Observed,
    stale: &[&Pod],
    rolling: &impl Fn(&str) -> Progress,
) -> Option<Roll> {
    let status = observed.status()?;
    let (pod, server) = stale.iter().rev().find_map(|pod| {
        let server = find(status, &pod.name_any())?;
        server.drain.map(|_| (*pod, server))
    })?;
    let name = pod.name_any();
    let mut roll = if pod.metadata.deletion_timestamp.is_some() {
        Roll::new(None, rolling(&format!("{name} stops")))
    } else if server.drain == Some(DrainState::Drained) {
        let why = "the spec has changed, and it holds nothing".to_owned();
        Roll::new(restart(pod, why), rolling(&format!("restarting {name}")))
    } else {
        let words = left_on(server).unwrap_or_default();
        Roll::new(None, rolling(&words))
    };
    roll.emptied = Some(name);
    Some(roll)
}

/// The next server, when all others can do without it.
fn next(
    object: &ParameterServer,
    observed: &Observed,
    victim: &Pod,
    rolling: &impl Fn(&str) -> Progress,
) -> Roll {
    let name = victim.name_any();
    let status = observed.status();
    let stays =
        |s: &ServerSummary| s.id.0 != name && s.state == ServerState::Alive && s.drain.is_none();
    let others = status.is_some_and(|status| status.servers.iter().any(stays));
    let holds = status.is_some_and(|status| holds_something(status, &name));
    // A single server that holds nothing has nothing to hand over, and nobody to hand it to.
    if object.spec.rollout == Rollout::Drain && (others || holds) {
        let step = Step::Drain {
            servers: vec![name.clone()],
            with: Vec::new(),
            refused: Reason::RolloutHeld,
        };
        let progress = rolling(&format!("{name} is emptied, to be restarted"));
        let mut roll = Roll::new(Some(step), progress);
        roll.emptied = Some(name);
        return roll;
    }
    if let Some(obstacle) = status.filter(|_| holds).and_then(|s| obstacle(s, &name)) {
        return Roll::new(None, Progress::held(Reason::RolloutHeld, obstacle));
    }
    let progress = rolling(&format!("restarting {name}"));
    Roll::new(restart(victim, "the spec has changed".to_owned()), progress)
}

fn restart(pod: &Pod, why: String) -> Option<Step> {
    Some(Step::Restart {
        pod: pod.name_any(),
        uid: pod.uid()?,
        why,
    })
}

/// Why no server can be spared now.
fn not_whole(object: &ParameterServer, observed: &Observed) -> Option<String> {
    let names = Names::of(object);
    let wanted = observed.replicas().unwrap_or(object.spec.servers);
    for ordinal in 0..wanted {
        if !observed.server_pod(ordinal).is_some_and(observe::is_ready) {
            return Some(format!("{} is not ready", names.server(ordinal)));
        }
    }
    if !observed.master_pod.as_ref().is_some_and(observe::is_ready) {
        return Some("the master is not ready".to_owned());
    }
    let Some(status) = observed.status() else {
        return Some("the master does not answer".to_owned());
    };
    for ordinal in 0..wanted {
        let name = names.server(ordinal);
        if find(status, &name).is_none_or(|s| s.state != ServerState::Alive) {
            return Some(format!("the master does not hear {name}"));
        }
    }
    let servers = status.servers.iter();
    let alive = servers.filter(|s| s.state == ServerState::Alive).count();
    let model = status.models.iter().find_map(|model| thin(model, alive))?;
    Some(model)
}

/// What a model lacks, where there are so many servers.
fn thin(model: &ModelSummary, servers: usize) -> Option<String> {
    let name = &model.spec.name;
    match model.state {
        ModelState::Lost => Some(format!(
            "values of model {name} are lost; reset or delete it, and the roll goes on"
        )),
        ModelState::Creating => Some(format!("model {name} is being made")),
        ModelState::Live | ModelState::Degraded => {
            let copies = model.copies;
            let wanted = usize::from(copies.wanted).min(servers);
            (copies.waiting > 0 || usize::from(copies.fewest) < wanted)
                .then(|| format!("copies of model {name} are being made"))
        }
    }
}

/// Why a restart of `server` would lose something.
fn obstacle(status: &ClusterStatus, server: &str) -> Option<String> {
    let fleeting = |model: &&ModelSummary| {
        model.spec.durability() == Durability::Memory && model.spec.copies() < 2
    };
    let model = status.models.iter().find(fleeting)?;
    Some(format!(
        "a restart of {server} would lose values of model {}, of which it has the only copy, in memory: set rollout to drain, or wait until its job is done and delete the model",
        model.spec.name
    ))
}

fn holds_something(status: &ClusterStatus, server: &str) -> bool {
    find(status, server)
        .is_some_and(|s| s.copies > 0 || s.placed_bytes > 0 || s.load.partitions > 0)
}
