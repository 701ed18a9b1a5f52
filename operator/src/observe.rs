//! What there is of one parameter server: its children and pods as the watches have them, and what its master says.

use std::time::Duration;

use glint_protocol::control::ClusterStatus;
use k8s_openapi::api::{
    apps::v1::StatefulSet,
    core::v1::{ContainerStatus, Pod},
};
use kube::ResourceExt;

use crate::{build::Names, nodes::Zones, reason::Reason};

/// What there is of one parameter server.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// The servers' `StatefulSet`.
    pub servers: Option<StatefulSet>,
    /// The master's.
    pub master: Option<StatefulSet>,
    /// The servers' pods, by ordinal.
    pub server_pods: Vec<(i32, Pod)>,
    /// The master's pod.
    pub master_pod: Option<Pod>,
    /// The pod that shows whether a new image can be had.
    pub image_pod: Option<Pod>,
    /// What the master says, or why it says nothing.
    pub cluster: Option<Result<ClusterStatus, String>>,
    /// The zones of the Kubernetes nodes that servers run on, as far as they are known; none when nodes cannot be read.
    pub zones: Option<Zones>,
    /// Whether a `StatefulSet` was changed, and what is known of pods is about what it was before.
    pub lags: bool,
    /// Why pods that should be there are not: what their `StatefulSet` met when it made them.
    pub refusals: Vec<String>,
}

/// What is wrong with a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// Which kind of trouble.
    pub reason: Reason,
    /// The pod, and what Kubernetes says of it.
    pub message: String,
}

impl Observed {
    /// The status of the cluster, if the master answers.
    pub fn status(&self) -> Option<&ClusterStatus> {
        self.cluster.as_ref()?.as_ref().ok()
    }

    /// The pod of a server.
    pub fn server_pod(&self, ordinal: i32) -> Option<&Pod> {
        let found = self.server_pods.iter().find(|(n, _)| *n == ordinal);
        found.map(|(_, pod)| pod)
    }

    /// How many server pods the `StatefulSet` is to have, if it is there.
    pub fn replicas(&self) -> Option<i32> {
        self.servers.as_ref()?.spec.as_ref()?.replicas
    }

    /// The `StatefulSet`s that have fewer pods than they are to have.
    pub fn lacking(&self, names: &Names) -> Vec<String> {
        let wanted = self.replicas().and_then(|n| usize::try_from(n).ok());
        let servers = wanted.is_some_and(|wanted| self.server_pods.len() < wanted);
        let master = self.master.is_some() && self.master_pod.is_none();
        let sets = [(servers, names.servers()), (master, names.master())];
        let lacking = sets.into_iter().filter(|(lacks, _)| *lacks);
        lacking.map(|(_, set)| set).collect()
    }

    /// What is wrong with the pods of master and servers; the first that was found.
    pub fn trouble(&self) -> Option<Trouble> {
        let pods = self.server_pods.iter().map(|(_, pod)| pod);
        pods.chain(&self.master_pod).find_map(trouble)
    }
}

/// Puts the pods of a parameter server where they belong.
pub fn sort_pods(observed: &mut Observed, names: &Names, pods: Vec<Pod>) {
    for pod in pods {
        let name = pod.name_any();
        if name == format!("{}-0", names.master()) {
            observed.master_pod = Some(pod);
        } else if name == names.image_check() {
            observed.image_pod = Some(pod);
        } else if let Some(ordinal) = names.ordinal(&name) {
            observed.server_pods.push((ordinal, pod));
        }
    }
    observed.server_pods.sort_by_key(|(ordinal, _)| *ordinal);
}

/// Whether a pod answers, and is not on its way out.
pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|s| s.conditions.as_ref());
    pod.metadata.deletion_timestamp.is_none()
        && conditions
            .into_iter()
            .flatten()
            .any(|c| c.type_ == "Ready" && c.status == "True")
}

/// The image of a pod's container.
pub fn image(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.containers.first()?.image.as_deref()
}

/// Whether the controller of a `StatefulSet` has not yet looked at its last change, which was generation `applied`.
pub fn lags(set: &StatefulSet, applied: Option<i64>) -> bool {
    let generation = set.metadata.generation;
    let looked = set.status.as_ref().and_then(|s| s.observed_generation);
    looked != generation || applied > generation
}

/// Whether a pod is as its `StatefulSet` says now; `None` while that has not been looked at.
pub fn is_current(pod: &Pod, set: &StatefulSet) -> Option<bool> {
    let status = set.status.as_ref()?;
    if status.observed_generation != set.metadata.generation {
        return None;
    }
    let revision = status.update_revision.as_ref()?;
    let label = pod.labels().get("controller-revision-hash")?;
    Some(label == revision)
}

/// What is wrong with a pod that will not go away by waiting a moment.
pub fn trouble(pod: &Pod) -> Option<Trouble> {
    let name = pod.name_any();
    let status = pod.status.as_ref()?;
    let said = |reason, text: &str| {
        Some(Trouble {
            reason,
            message: format!("pod {name}: {}", shortened(text)),
        })
    };
    for container in status.container_statuses.iter().flatten() {
        let Some(waiting) = container.state.as_ref().and_then(|s| s.waiting.as_ref()) else {
            continue;
        };
        let why = waiting.reason.as_deref().unwrap_or_default();
        let text = waiting.message.as_deref().unwrap_or(why);
        match why {
            "ErrImagePull" | "ImagePullBackOff" | "InvalidImageName" | "ErrImageNeverPull"
            | "ImageInspectError" => {
                let image = &container.image;
                return said(
                    Reason::ImageUnavailable,
                    &format!("image {image} cannot be had ({why}: {text})"),
                );
            }
            "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" => {
                return said(Reason::PodMisconfigured, &format!("{why}: {text}"));
            }
            "CrashLoopBackOff" => return said(Reason::Crashing, &last_words(container)),
            _ => {}
        }
    }
    let unscheduled = status
        .conditions
        .iter()
        .flatten()
        .find(|c| c.type_ == "PodScheduled" && c.status == "False")?;
    said(
        Reason::Unschedulable,
        unscheduled.message.as_deref().unwrap_or("no node fits"),
    )
}

/// How the last process in a container ended.
fn last_words(container: &ContainerStatus) -> String {
    let ended = container
        .last_state
        .as_ref()
        .and_then(|s| s.terminated.as_ref());
    ended.map_or_else(
        || "its process ends again and again".to_owned(),
        |ended| {
            let words = ended.message.as_deref().unwrap_or_default().trim();
            let line = words.lines().last().unwrap_or_default();
            format!(
                "its process ended {} times, the last time with code {}: {line}",
                container.restart_count, ended.exit_code
            )
        },
    )
}

/// What others say may be long, and is repeated in conditions and events.
pub fn shortened(text: &str) -> String {
    const MOST: usize = 400;
    let text = text.trim();
    if text.len() <= MOST {
        return text.to_owned();
    }
    let short: String = text.chars().take(MOST).collect();
    format!("{short}…")
}

/// How long a master may take to answer the operator.
pub const PATIENCE: Duration = Duration::from_secs(3);
