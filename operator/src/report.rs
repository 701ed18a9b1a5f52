//! The status that follows from what there is and what is decided. Pure: the same again when nothing has changed, so that
//! it is written only when something has.

mod unreadable;

use glint_protocol::control::{ClusterStatus, ModelState, ServerState};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::ResourceExt;

use crate::{
    api::{ParameterServer, ParameterServerStatus, Phase, ServerStatus},
    build::{COMPONENT, Component, INSTANCE, Names},
    nodes,
    observe::{self, Observed, Trouble},
    plan::{self, Progress},
    reason::Reason,
};

pub use self::unreadable::unreadable;

/// What a status is made of besides what there is.
#[derive(Clone, Debug)]
pub struct Findings<'a> {
    /// What is under way, unless nothing may be done.
    pub progress: Option<&'a Progress>,
    /// The image of new pods, if that is decided.
    pub image: Option<&'a str>,
    /// What stands against following the spec.
    pub problem: Option<Trouble>,
    /// The time.
    pub now: Time,
}

/// The status of `object`.
pub fn report(
    object: &ParameterServer,
    observed: &Observed,
    findings: &Findings,
) -> ParameterServerStatus {
    let before = object.status.clone().unwrap_or_default();
    let names = Names::of(object);
    let mut status = ParameterServerStatus {
        observed_generation: object.metadata.generation,
        selector: Some(format!(
            "{INSTANCE}={},{COMPONENT}={}",
            object.name_any(),
            Component::Server.name()
        )),
        image: findings.image.map(str::to_owned).or(before.image),
        current_servers: Some(count(observed, |_| true)),
        ready_servers: Some(count(observed, observe::is_ready)),
        updated_servers: Some(count(observed, |pod| {
            let set = observed.servers.as_ref().filter(|_| !observed.lags);
            set.and_then(|set| observe::is_current(pod, set)) == Some(true)
        })),
        servers: servers(&names, observed, &before.servers),
        models: before.models,
        partitions: before.partitions,
        lost_partitions: before.lost_partitions,
        ..ParameterServerStatus::default()
    };
    if let Some(cluster) = observed.status() {
        let partitions = cluster
            .models
            .iter()
            .map(|m| i64::from(m.spec.partition_count));
        let lost = cluster.models.iter().map(|m| i64::from(m.lost_partitions));
        status.models = i64::try_from(cluster.models.len()).ok();
        status.partitions = Some(partitions.sum());
        status.lost_partitions = Some(lost.sum());
    }

    let mut ready = ready(object, observed, findings);
    let starts = !plan::has_started(object);
    if starts
        && !ready.holds
        && findings.problem.is_none()
        && ready.reason != Reason::PartitionsLost
    {
        ready.reason = Reason::Starting;
    }
    let degraded = degraded(object, observed, findings, &ready);
    let follows = Progress {
        active: true,
        reason: Reason::RollingOut,
        message: "a change was applied, and Kubernetes has not followed it yet".to_owned(),
    };
    let idle = Progress {
        active: false,
        reason: Reason::Settled,
        message: "nothing is being changed".to_owned(),
    };
    let paused = object.spec.paused;
    let mut progress = findings.progress.filter(|_| !paused).unwrap_or(&idle);
    if observed.lags && progress.reason == Reason::Settled && !paused {
        progress = &follows;
    }
    status.phase = Some(phase(object, findings, progress, &ready, &degraded));
    let looked_after = Fact::new(
        paused,
        if paused {
            Reason::Paused
        } else {
            Reason::Managed
        },
        if paused {
            "the spec says so: set paused to false to go on"
        } else {
            "the operator looks after it"
        },
    );
    let progressing = Fact::new(progress.active, progress.reason, progress.message.clone());
    status.conditions = [
        ("Ready", ready),
        ("Progressing", progressing),
        ("Degraded", degraded),
        ("Paused", looked_after),
    ]
    .into_iter()
    .map(|(kind, fact)| {
        let old = before.conditions.iter().find(|c| c.type_ == kind);
        fact.condition(kind, old, object.metadata.generation, &findings.now)
    })
    .collect();
    status
}

/// What a condition says.
struct Fact {
    holds: bool,
    reason: Reason,
    message: String,
}

impl Fact {
    fn new(holds: bool, reason: Reason, message: impl Into<String>) -> Self {
        Self {
            holds,
            reason,
            message: message.into(),
        }
    }

    fn condition(
        self,
        kind: &str,
        old: Option<&Condition>,
        generation: Option<i64>,
        now: &Time,
    ) -> Condition {
        let status = if self.holds { "True" } else { "False" };
        let since = old
            .filter(|old| old.status == status)
            .map_or(now, |old| &old.last_transition_time);
        Condition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: self.reason.to_string(),
            message: self.message,
            observed_generation: generation,
            last_transition_time: since.clone(),
        }
    }
}

fn ready(object: &ParameterServer, observed: &Observed, findings: &Findings) -> Fact {
    if let Some(Trouble { reason, message }) = &findings.problem
        && observed.servers.is_none()
    {
        return Fact::new(false, *reason, message.clone());
    }
    let wanted = object.spec.servers;
    let serving = i64::from(count(observed, observe::is_ready));
    let master = observed.master_pod.as_ref().is_some_and(observe::is_ready);
    if !master {
        let message = "the master is not ready; pulls and pushes of connected clients go on";
        return Fact::new(false, Reason::MasterUnavailable, message);
    }
    let Some(cluster) = observed.status() else {
        let why = match &observed.cluster {
            Some(Err(why)) => why.clone(),
            _ => "the master was not asked yet".to_owned(),
        };
        return Fact::new(false, Reason::MasterUnavailable, why);
    };
    if let Some(words) = losses(cluster) {
        return Fact::new(false, Reason::PartitionsLost, words);
    }
    let heard = alive(object, observed, cluster);
    if heard < i64::from(wanted) {
        let message = format!("{} of {wanted} servers are ready", heard.min(serving));
        return Fact::new(false, Reason::ServersUnavailable, message);
    }
    let servers = if wanted == 1 {
        "1 server answers".to_owned()
    } else {
        format!("all {wanted} servers answer")
    };
    Fact::new(true, Reason::Available, servers)
}

/// Servers of the spec that are ready and that the master hears.
fn alive(object: &ParameterServer, observed: &Observed, cluster: &ClusterStatus) -> i64 {
    let names = Names::of(object);
    let alive = (0..object.spec.servers).filter(|ordinal| {
        let name = names.server(*ordinal);
        observed.server_pod(*ordinal).is_some_and(observe::is_ready)
            && cluster
                .servers
                .iter()
                .any(|s| s.id.0 == name && s.state == ServerState::Alive)
    });
    i64::try_from(alive.count()).unwrap_or(i64::MAX)
}

fn losses(cluster: &ClusterStatus) -> Option<String> {
    let model = cluster
        .models
        .iter()
        .find(|m| m.state == ModelState::Lost)?;
    Some(format!(
        "{} of {} partitions of model {} are lost: `glint model reset {}` makes it serve again with initial values",
        model.lost_partitions, model.spec.partition_count, model.spec.name, model.spec.name
    ))
}

fn degraded(
    object: &ParameterServer,
    observed: &Observed,
    findings: &Findings,
    ready: &Fact,
) -> Fact {
    if let Some(Trouble { reason, message }) = &findings.problem {
        return Fact::new(true, *reason, message.clone());
    }
    if let Some(Trouble { reason, message }) = observed.trouble() {
        let hint = volume_hint(object, &message);
        return Fact::new(true, reason, message + &hint);
    }
    if !observed.refusals.is_empty() {
        return Fact::new(true, Reason::PodRefused, observed.refusals.join("; "));
    }
    if let Some(progress) = findings.progress
        && !progress.active
        && progress.reason.is_warning()
    {
        return Fact::new(true, progress.reason, progress.message.clone());
    }
    // A start is no trouble, and neither is a restart that the operator makes.
    let expected =
        findings.progress.is_some_and(|progress| progress.active) || !plan::has_started(object);
    if !ready.holds && (ready.reason == Reason::PartitionsLost || !expected) {
        return Fact::new(true, ready.reason, ready.message.clone());
    }
    Fact::new(false, Reason::Healthy, "nothing is missing")
}

/// What to look at when a pod has no volume: Kubernetes does not say why.
fn volume_hint(object: &ParameterServer, message: &str) -> String {
    if !message.contains("PersistentVolumeClaim") {
        return String::new();
    }
    let spec = &object.spec;
    let classes = [
        spec.storage.as_ref().and_then(|s| s.class.as_ref()),
        spec.master.storage.class.as_ref(),
    ];
    let classes: Vec<&str> = classes.into_iter().flatten().map(String::as_str).collect();
    let named = if classes.is_empty() {
        "a default StorageClass".to_owned()
    } else {
        format!("the StorageClass {}", classes.join(", "))
    };
    format!(
        "; is there {named}, and can it make such a volume? See `kubectl get storageclass` and `kubectl describe pvc`"
    )
}

fn phase(
    object: &ParameterServer,
    findings: &Findings,
    progress: &Progress,
    ready: &Fact,
    degraded: &Fact,
) -> Phase {
    let invalid = findings
        .problem
        .as_ref()
        .is_some_and(|p| matches!(p.reason, Reason::InvalidSpec | Reason::NameTaken));
    if object.spec.paused {
        Phase::Paused
    } else if invalid {
        Phase::Invalid
    } else if degraded.holds {
        Phase::Degraded
    } else if progress.active {
        match progress.reason {
            Reason::ScalingUp | Reason::ScalingDown => Phase::Scaling,
            Reason::Starting => Phase::Starting,
            _ => Phase::Rolling,
        }
    } else if ready.holds {
        Phase::Ready
    } else {
        Phase::Starting
    }
}

fn count(observed: &Observed, fits: impl Fn(&k8s_openapi::api::core::v1::Pod) -> bool) -> i32 {
    let pods = observed.server_pods.iter().filter(|(_, pod)| fits(pod));
    i32::try_from(pods.count()).unwrap_or(i32::MAX)
}

/// The servers one by one: those that have a pod, with what the master says of them.
fn servers(names: &Names, observed: &Observed, before: &[ServerStatus]) -> Vec<ServerStatus> {
    let said = |now: Option<u64>, last: Option<i64>| {
        now.map_or_else(
            || last.unwrap_or(0),
            |n| i64::try_from(n).unwrap_or(i64::MAX),
        )
    };
    let cluster = observed.status();
    let entry = |(ordinal, pod): &(i32, k8s_openapi::api::core::v1::Pod)| {
        let name = names.server(*ordinal);
        let server = cluster.and_then(|c| c.servers.iter().find(|s| s.id.0 == name));
        // While the master does not answer, what it said last.
        let last = before.iter().find(|s| s.name == name);
        ServerStatus {
            ready: observe::is_ready(pod) && server.is_none_or(|s| s.state == ServerState::Alive),
            draining: server.is_some_and(|s| s.drain.is_some()),
            partitions: said(
                server.map(|s| s.load.partitions),
                last.map(|s| s.partitions),
            ),
            value_bytes: said(
                server.map(|s| s.load.value_bytes),
                last.map(|s| s.value_bytes),
            ),
            zone: zone(pod, observed),
            node: pod.spec.as_ref().and_then(|s| s.node_name.clone()),
            name,
        }
    };
    observed.server_pods.iter().map(entry).collect()
}

/// The zone that a pod runs in; where nodes cannot be read, what Kubernetes has told the pod, as it does from 1.35 on.
fn zone(pod: &k8s_openapi::api::core::v1::Pod, observed: &Observed) -> Option<String> {
    match &observed.zones {
        Some(zones) => zones.get(pod.spec.as_ref()?.node_name.as_ref()?)?.clone(),
        None => pod.labels().get(nodes::ZONE).cloned(),
    }
}
