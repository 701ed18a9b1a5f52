//! What to do next about the number of servers and about pods that are not as the spec says. Pure: from what there is to
//! what shall be decided now, one step at a time; the next look at what there is leads to the next step.
//!
//! Nothing is stopped that could not be spared: a server only when all others answer, its image only when the new one can
//! be had, and never while values would be lost by it.

use glint_protocol::{
    Durability,
    control::{ClusterStatus, ModelState, ModelSummary, ServerState},
};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use crate::{
    api::{ParameterServer, Phase, Rollout},
    build::{Decided, Installation, Names, wanted_image},
    observe::{self, Observed, Trouble},
    reason::Reason,
};

/// What is decided, and done to pods now.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// What the children are built with.
    pub decided: Decided,
    /// What is done to pods.
    pub steps: Vec<Step>,
    /// What is under way, or held.
    pub progress: Progress,
}

/// Something that is done to a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// It is deleted, and its `StatefulSet` makes it again as the spec says now.
    Restart {
        /// The pod.
        pod: String,
        /// That very pod, not a later one of the name.
        uid: String,
        /// Why.
        why: String,
    },
    /// The pod that shows whether the image can be had is made.
    CheckImage,
    /// It is removed.
    RemoveImageCheck {
        /// That very pod.
        uid: String,
    },
}

/// What is under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Whether something is being changed.
    pub active: bool,
    /// Which change, or why none is made.
    pub reason: Reason,
    /// In words.
    pub message: String,
}

impl Progress {
    fn under_way(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            active: true,
            reason,
            message: message.into(),
        }
    }

    fn held(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            active: false,
            reason,
            message: message.into(),
        }
    }
}

/// What to do next for `object`.
pub fn plan(object: &ParameterServer, installation: &Installation, observed: &Observed) -> Plan {
    let (servers, scaling) = servers(object, observed);
    let image = image(object, installation, observed);
    let mut steps = image.steps;
    let restarts = restarts(object, observed, scaling.as_ref());
    // A former revision is rolled out no further while the next one waits for its image.
    let held_by_image = image.progress.is_some();
    let mut progress = scaling.or(image.progress);
    if let Some((step, what)) = restarts {
        let urgent =
            matches!(&step, Some(Step::Restart { .. })) && what.reason == Reason::RestartingPod;
        if !held_by_image || urgent {
            steps.extend(step);
        }
        progress = progress.or(Some(what));
    }
    Plan {
        decided: Decided {
            servers,
            image: image.image,
        },
        steps,
        progress: progress.unwrap_or_else(|| starting(object, observed)),
    }
}

/// What is going on when nothing is being changed: a start, or nothing.
fn starting(object: &ParameterServer, observed: &Observed) -> Progress {
    let ready = observed
        .server_pods
        .iter()
        .filter(|(_, pod)| observe::is_ready(pod))
        .count();
    let wanted = object.spec.servers;
    if ready >= usize::try_from(wanted).unwrap_or(0)
        && observed.master_pod.as_ref().is_some_and(observe::is_ready)
    {
        return Progress::held(Reason::Settled, "everything is as the spec says");
    }
    if has_started(object) {
        return Progress::held(
            Reason::Settled,
            "pods are as the spec says; some do not answer",
        );
    }
    Progress::under_way(
        Reason::Starting,
        format!("{ready} of {wanted} servers are ready"),
    )
}

/// Whether master and servers have answered once: before, what is missing is no news.
pub fn has_started(object: &ParameterServer) -> bool {
    let phase = object.status.as_ref().and_then(|s| s.phase);
    phase.is_some_and(|p| !matches!(p, Phase::Pending | Phase::Starting | Phase::Invalid))
}

/// How many server pods there shall be now.
fn servers(object: &ParameterServer, observed: &Observed) -> (i32, Option<Progress>) {
    let wanted = object.spec.servers;
    let Some(there) = observed.replicas() else {
        return (wanted, None);
    };
    let ready = (0..wanted)
        .filter(|n| observed.server_pod(*n).is_some_and(observe::is_ready))
        .count();
    if there < wanted {
        let message = format!("from {there} to {wanted} servers");
        return (
            wanted,
            Some(Progress::under_way(Reason::ScalingUp, message)),
        );
    }
    if there == wanted {
        let was_scaling = phase_is_scaling(object);
        let missing = ready < usize::try_from(wanted).unwrap_or(0);
        let progress = (was_scaling && missing).then(|| {
            let message = format!("{ready} of {wanted} servers are ready");
            Progress::under_way(Reason::ScalingUp, message)
        });
        return (wanted, progress);
    }
    let message = format!(
        "{there} servers cannot become {wanted}: a server that is taken away loses what it holds, and this version cannot move it to others; set servers back to {there}"
    );
    (
        there,
        Some(Progress::held(Reason::ScaleDownRefused, message)),
    )
}

fn phase_is_scaling(object: &ParameterServer) -> bool {
    let status = object.status.as_ref();
    status.is_some_and(|s| s.phase == Some(Phase::Scaling))
}

/// The image of new pods, and what is done to find out about a new one.
struct ImageDecision {
    image: String,
    steps: Vec<Step>,
    progress: Option<Progress>,
}

fn image(
    object: &ParameterServer,
    installation: &Installation,
    observed: &Observed,
) -> ImageDecision {
    let wanted = wanted_image(object, installation);
    let remove = observed.image_pod.as_ref().and_then(|pod| {
        let gone = pod.metadata.deletion_timestamp.is_some();
        let uid = pod.uid()?;
        (!gone).then_some(Step::RemoveImageCheck { uid })
    });
    let former = observed
        .servers
        .as_ref()
        .and_then(|set| {
            set.spec
                .as_ref()?
                .template
                .spec
                .as_ref()?
                .containers
                .first()
        })
        .and_then(|container| container.image.clone());
    let running = observed
        .server_pods
        .iter()
        .any(|(_, pod)| observe::is_ready(pod));
    let former = match former {
        // Nothing that runs could be hurt by it, or it is what there is.
        Some(former) if former != wanted && running => former,
        _ => {
            return ImageDecision {
                image: wanted,
                steps: remove.into_iter().collect(),
                progress: None,
            };
        }
    };
    let waits = |steps, progress| ImageDecision {
        image: former.clone(),
        steps,
        progress: Some(progress),
    };
    let checking = Progress::under_way(
        Reason::CheckingImage,
        format!("looking whether {wanted} can be had before anything is restarted"),
    );
    let Some(pod) = &observed.image_pod else {
        return waits(vec![Step::CheckImage], checking);
    };
    if observe::image(pod) != Some(wanted.as_str()) || pod.metadata.deletion_timestamp.is_some() {
        return waits(remove.into_iter().collect(), checking);
    }
    let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
    match (phase, observe::trouble(pod)) {
        (Some("Succeeded"), _) => ImageDecision {
            image: wanted,
            steps: Vec::new(),
            progress: None,
        },
        (Some("Failed"), _) => waits(
            Vec::new(),
            Progress::held(
                Reason::ImageUnavailable,
                format!(
                    "{wanted} does not run `glint --version`: name an image of Glint; what runs goes on with {former}"
                ),
            ),
        ),
        (_, Some(Trouble { reason, message })) => waits(
            Vec::new(),
            Progress::held(
                reason,
                format!("{message}; what runs goes on with {former}"),
            ),
        ),
        _ => waits(Vec::new(), checking),
    }
}

/// The next pod that is restarted since it is not as its `StatefulSet` says, and what to say of it.
fn restarts(
    object: &ParameterServer,
    observed: &Observed,
    scaling: Option<&Progress>,
) -> Option<(Option<Step>, Progress)> {
    let set = observed.servers.as_ref()?;
    let master_set = observed.master.as_ref()?;
    let stale: Vec<(i32, &Pod)> = observed
        .server_pods
        .iter()
        .filter(|(_, pod)| observe::is_current(pod, set) == Some(false))
        .map(|(ordinal, pod)| (*ordinal, pod))
        .collect();
    let stale_master = observed
        .master_pod
        .as_ref()
        .filter(|pod| observe::is_current(pod, master_set) == Some(false));

    // What does not run anyway is made anew at once: that is how a mistake in the spec is put right.
    let all = stale.iter().map(|(_, pod)| *pod).chain(stale_master);
    if let Some((pod, trouble)) = all
        .filter(|pod| pod.metadata.deletion_timestamp.is_none())
        .find_map(|pod| Some((pod, observe::trouble(pod)?)))
    {
        let why = format!(
            "the spec has changed since, and it does not run: {}",
            trouble.message
        );
        let progress = Progress::under_way(Reason::RestartingPod, why.clone());
        return Some((restart(pod, why), progress));
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
        return Some((
            None,
            rolling("the others wait until the number of servers is right"),
        ));
    }
    if let Some(waits) = not_whole(object, observed) {
        return Some((None, rolling(&format!("waiting: {waits}"))));
    }
    let Some((_, victim)) = stale.last() else {
        let master = stale_master?;
        let why = "the spec has changed, and all servers are done".to_owned();
        return Some((restart(master, why), rolling("restarting the master")));
    };
    if let Some(obstacle) = obstacle(object, observed, &victim.name_any()) {
        return Some((None, Progress::held(Reason::RolloutHeld, obstacle)));
    }
    let what = format!("restarting {}", victim.name_any());
    Some((
        restart(victim, "the spec has changed".to_owned()),
        rolling(&what),
    ))
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
        let server = status.servers.iter().find(|s| s.id.0 == name);
        if server.is_none_or(|s| s.state != ServerState::Alive) {
            return Some(format!("the master does not hear {name}"));
        }
    }
    if let Some(model) = observed.thin_models.first() {
        return Some(format!("copies of model {model} are being made"));
    }
    let model = status.models.iter().find(|m| m.state != ModelState::Live)?;
    Some(match model.state {
        ModelState::Lost => format!(
            "values of model {} are lost; reset or delete it, and the roll goes on",
            model.spec.name
        ),
        _ => format!("model {} is being made", model.spec.name),
    })
}

/// Why a restart of `server` would lose something.
fn obstacle(object: &ParameterServer, observed: &Observed, server: &str) -> Option<String> {
    let status = observed.status()?;
    if !holds_something(status, server) {
        return None;
    }
    let fleeting = |model: &&ModelSummary| {
        model.spec.durability() == Durability::Memory && model.spec.copies() < 2
    };
    let model = status.models.iter().find(fleeting);
    match (object.spec.rollout, model) {
        (Rollout::Restart, None) => None,
        (Rollout::Restart, Some(model)) => Some(format!(
            "a restart of {server} would lose values of model {}, of which it has the only copy, in memory: wait until its job is done and delete the model",
            model.spec.name
        )),
        (Rollout::Drain, _) => Some(format!(
            "{server} holds values, and this version cannot move them to others: give servers storage and set rollout to restart"
        )),
    }
}

fn holds_something(status: &ClusterStatus, server: &str) -> bool {
    let server = status.servers.iter().find(|s| s.id.0 == server);
    server.is_some_and(|s| s.placed_bytes > 0 || s.load.partitions > 0)
}
