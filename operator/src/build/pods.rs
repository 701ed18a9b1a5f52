//! What the pods of master and servers have in common.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{
        Affinity, Capabilities, Container, ContainerPort, EnvVar, HTTPGetAction,
        LocalObjectReference, PersistentVolumeClaim, PersistentVolumeClaimSpec, PodAffinityTerm,
        PodAntiAffinity, PodSecurityContext, PodSpec, Probe, ResourceRequirements, SeccompProfile,
        SecurityContext, VolumeMount, VolumeResourceRequirements, WeightedPodAffinityTerm,
    },
    apimachinery::pkg::{
        api::resource::Quantity,
        apis::meta::v1::{LabelSelector, ObjectMeta},
        util::intstr::IntOrString,
    },
};
use kube::ResourceExt;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::{Component, selector};
use crate::api::{ParameterServer, PullPolicy, Resources, Retention, Size};

/// The user and group of the processes, which is in no image and owns nothing.
const NOBODY: i64 = 65532;
/// The volume with the data directory, and where it is.
pub(super) const VOLUME: &str = "data";
pub(super) const DATA: &str = "/var/lib/glint";

/// The fields of a pod that do not depend on what runs in it.
pub(super) fn pod(object: &ParameterServer, container: Container) -> PodSpec {
    let spec = &object.spec;
    PodSpec {
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        image_pull_secrets: some(
            spec.image_pull_secrets.clone(),
            Vec::<LocalObjectReference>::is_empty,
        ),
        node_selector: some(spec.node_selector.clone(), BTreeMap::is_empty),
        tolerations: some(spec.tolerations.clone(), Vec::is_empty),
        priority_class_name: spec.priority_class_name.clone(),
        security_context: Some(laid_over(
            &PodSecurityContext {
                run_as_non_root: Some(true),
                run_as_user: Some(NOBODY),
                run_as_group: Some(NOBODY),
                fs_group: Some(NOBODY),
                // Else every file of a large volume is visited whenever a pod starts.
                fs_group_change_policy: Some("OnRootMismatch".to_owned()),
                seccomp_profile: Some(SeccompProfile {
                    type_: "RuntimeDefault".to_owned(),
                    ..SeccompProfile::default()
                }),
                ..PodSecurityContext::default()
            },
            spec.pod_security_context.as_ref(),
        )),
        containers: vec![container],
        ..PodSpec::default()
    }
}

/// A container that runs `glint` with `arguments`.
pub(super) fn container(
    object: &ParameterServer,
    name: &str,
    image: &str,
    arguments: Vec<String>,
) -> Container {
    let spec = &object.spec;
    Container {
        name: name.to_owned(),
        image: Some(image.to_owned()),
        image_pull_policy: spec.image_pull_policy.map(|policy| {
            match policy {
                PullPolicy::Always => "Always",
                PullPolicy::IfNotPresent => "IfNotPresent",
                PullPolicy::Never => "Never",
            }
            .to_owned()
        }),
        args: Some(arguments),
        // What a process says last is in the pod's status.
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        security_context: Some(laid_over(
            &SecurityContext {
                allow_privilege_escalation: Some(false),
                read_only_root_filesystem: Some(true),
                capabilities: Some(Capabilities {
                    drop: Some(vec!["ALL".to_owned()]),
                    ..Capabilities::default()
                }),
                ..SecurityContext::default()
            },
            spec.security_context.as_ref(),
        )),
        ..Container::default()
    }
}

/// Lets `container` serve at `port`. Liveness is that of the process; it is ready when it has what it shall hold and the
/// master knows.
pub(super) fn serve(container: &mut Container, port: i32) {
    let get = |path: &str| {
        Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::String("http".to_owned()),
            ..HTTPGetAction::default()
        })
    };
    container.ports = Some(vec![ContainerPort {
        name: Some("http".to_owned()),
        container_port: port,
        ..ContainerPort::default()
    }]);
    container.startup_probe = Some(Probe {
        http_get: get("/livez"),
        period_seconds: Some(1),
        failure_threshold: Some(60),
        ..Probe::default()
    });
    container.liveness_probe = Some(Probe {
        http_get: get("/livez"),
        period_seconds: Some(10),
        timeout_seconds: Some(5),
        failure_threshold: Some(6),
        ..Probe::default()
    });
    container.readiness_probe = Some(Probe {
        http_get: get("/readyz"),
        period_seconds: Some(2),
        timeout_seconds: Some(5),
        failure_threshold: Some(3),
        ..Probe::default()
    });
}

/// Has a process wait for its volume while the one before it still ends there: a pod that is deleted by force is made again at
/// once. A variable, since an older image would not know a flag. Shorter than the startup probe waits.
pub(super) fn patience() -> EnvVar {
    EnvVar {
        name: "GLINT_DATA_DIR_WAIT_SECONDS".to_owned(),
        value: Some("45".to_owned()),
        ..EnvVar::default()
    }
}

/// Where the data directory is mounted.
pub(super) fn mount() -> VolumeMount {
    VolumeMount {
        name: VOLUME.to_owned(),
        mount_path: DATA.to_owned(),
        ..VolumeMount::default()
    }
}

/// The claim of a pod for its volume. A `StatefulSet` never changes it, so it has only labels that stay.
pub(super) fn claim(
    object: &ParameterServer,
    component: Component,
    class: Option<&String>,
    size: &Size,
) -> PersistentVolumeClaim {
    PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(VOLUME.to_owned()),
            labels: Some(selector(&object.name_any(), component)),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec!["ReadWriteOnce".to_owned()]),
            storage_class_name: class.cloned(),
            resources: Some(VolumeResourceRequirements {
                requests: Some(
                    [("storage".to_owned(), Quantity(size.0.clone()))]
                        .into_iter()
                        .collect(),
                ),
                ..VolumeResourceRequirements::default()
            }),
            ..PersistentVolumeClaimSpec::default()
        }),
        ..PersistentVolumeClaim::default()
    }
}

/// A retention as a `StatefulSet` says it.
pub(super) fn retention(retention: Retention) -> String {
    match retention {
        Retention::Retain => "Retain",
        Retention::Delete => "Delete",
    }
    .to_owned()
}

pub(super) fn resources(resources: &Resources) -> Option<ResourceRequirements> {
    (!resources.is_empty()).then(|| ResourceRequirements {
        requests: some(resources.requests.clone(), BTreeMap::is_empty),
        limits: some(resources.limits.clone(), BTreeMap::is_empty),
        ..ResourceRequirements::default()
    })
}

/// Servers rather run on different Kubernetes nodes, unless the user says otherwise.
pub(super) fn affinity(object: &ParameterServer) -> Affinity {
    object.spec.affinity.clone().unwrap_or_else(|| Affinity {
        pod_anti_affinity: Some(PodAntiAffinity {
            preferred_during_scheduling_ignored_during_execution: Some(vec![
                WeightedPodAffinityTerm {
                    weight: 100,
                    pod_affinity_term: PodAffinityTerm {
                        topology_key: "kubernetes.io/hostname".to_owned(),
                        label_selector: Some(LabelSelector {
                            match_labels: Some(selector(&object.name_any(), Component::Server)),
                            ..LabelSelector::default()
                        }),
                        ..PodAffinityTerm::default()
                    },
                },
            ]),
            ..PodAntiAffinity::default()
        }),
        ..Affinity::default()
    })
}

/// `None` for what is empty: an empty field that is applied would be owned.
pub(super) fn some<T>(value: T, is_empty: impl Fn(&T) -> bool) -> Option<T> {
    (!is_empty(&value)).then_some(value)
}

/// `ours` with the fields that `theirs` says in place of its own.
fn laid_over<T: Clone + Serialize + DeserializeOwned>(ours: &T, theirs: Option<&T>) -> T {
    fn lay(ours: &mut Value, theirs: Value) {
        match (ours, theirs) {
            (Value::Object(ours), Value::Object(theirs)) => {
                for (name, field) in theirs {
                    lay(ours.entry(name).or_insert(Value::Null), field);
                }
            }
            (ours, theirs) => *ours = theirs,
        }
    }
    let (Some(theirs), Ok(mut value)) = (theirs, serde_json::to_value(ours)) else {
        return ours.clone();
    };
    if let Ok(theirs) = serde_json::to_value(theirs) {
        lay(&mut value, theirs);
    }
    serde_json::from_value(value).unwrap_or_else(|_| ours.clone())
}
