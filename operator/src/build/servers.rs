//! The servers: pods that keep their names, each with its own volume if there are volumes.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        apps::v1::{
            StatefulSet, StatefulSetPersistentVolumeClaimRetentionPolicy, StatefulSetSpec,
            StatefulSetUpdateStrategy,
        },
        core::v1::{
            EnvVar, EnvVarSource, ObjectFieldSelector, PodTemplateSpec, Service, ServicePort,
            ServiceSpec,
        },
    },
    apimachinery::pkg::{
        apis::meta::v1::{LabelSelector, ObjectMeta},
        util::intstr::IntOrString,
    },
};
use kube::ResourceExt;

use super::{Component, Decided, Names, SERVER_PORT, labels, metadata, pods, selector};
use crate::api::{OnShutdown, ParameterServer};

/// Seconds of its time to stop that a server keeps for what comes after it has moved what it holds.
const RESERVE: i64 = 5;

/// Gives each server a name of its own in the cluster's DNS, also before it is ready: the master talks to it then.
pub(super) fn service(object: &ParameterServer) -> Service {
    Service {
        metadata: metadata(object, Names::of(object).servers()),
        spec: Some(ServiceSpec {
            cluster_ip: Some("None".to_owned()),
            publish_not_ready_addresses: Some(true),
            selector: Some(selector(&object.name_any(), Component::Server)),
            ports: Some(vec![ServicePort {
                name: Some("http".to_owned()),
                port: SERVER_PORT,
                target_port: Some(IntOrString::String("http".to_owned())),
                ..ServicePort::default()
            }]),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

pub(super) fn stateful_set(object: &ParameterServer, decided: &Decided) -> StatefulSet {
    let names = Names::of(object);
    let spec = &object.spec;
    let mut arguments = [
        "--log",
        "json",
        "server",
        "--master",
        &names.url(),
        "--listen",
        &format!("0.0.0.0:{SERVER_PORT}"),
        "--advertise",
        &names.server_url(),
        "--id",
        "$(POD_NAME)",
        "--on-shutdown",
        match spec.on_shutdown {
            OnShutdown::Drain => "drain",
            OnShutdown::Flush => "flush",
            OnShutdown::None => "none",
        },
        "--grace-seconds",
        &(spec.termination_grace_period_seconds - RESERVE).to_string(),
    ]
    .map(str::to_owned)
    .to_vec();
    if spec.storage.is_some() {
        // Not the root of the volume, where some file systems put directories of their own.
        arguments.extend(["--data-dir".to_owned(), format!("{}/server", pods::DATA)]);
    }
    let mut container = pods::container(object, "server", &decided.image, arguments);
    pods::serve(&mut container, SERVER_PORT);
    container.resources = pods::resources(&spec.resources);
    container.env = Some(environment(object));
    container.volume_mounts = spec.storage.as_ref().map(|_| vec![pods::mount()]);
    let mut pod = pods::pod(object, container);
    pod.termination_grace_period_seconds = Some(spec.termination_grace_period_seconds);
    pod.affinity = Some(pods::affinity(object));
    pod.topology_spread_constraints =
        pods::some(spec.topology_spread_constraints.clone(), Vec::is_empty);

    StatefulSet {
        metadata: metadata(object, names.servers()),
        spec: Some(StatefulSetSpec {
            replicas: Some(decided.servers),
            service_name: Some(names.servers()),
            // They wait for nothing of each other.
            pod_management_policy: Some("Parallel".to_owned()),
            selector: LabelSelector {
                match_labels: Some(selector(&object.name_any(), Component::Server)),
                ..LabelSelector::default()
            },
            // The operator restarts them one by one, when nothing is lost by it.
            update_strategy: Some(StatefulSetUpdateStrategy {
                type_: Some("OnDelete".to_owned()),
                ..StatefulSetUpdateStrategy::default()
            }),
            persistent_volume_claim_retention_policy: spec.storage.as_ref().map(|storage| {
                StatefulSetPersistentVolumeClaimRetentionPolicy {
                    when_deleted: Some(pods::retention(storage.retention)),
                    when_scaled: Some(pods::retention(storage.retention)),
                }
            }),
            volume_claim_templates: spec.storage.as_ref().map(|storage| {
                vec![pods::claim(
                    object,
                    Component::Server,
                    storage.class.as_ref(),
                    &storage.size,
                )]
            }),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta {
                    labels: Some(labels(object, Some(Component::Server))),
                    annotations: pods::some(spec.annotations.clone(), BTreeMap::is_empty),
                    ..ObjectMeta::default()
                }),
                spec: Some(pod),
            },
            ..StatefulSetSpec::default()
        }),
        ..StatefulSet::default()
    }
}

/// The operator's variables, and the user's after them, which may refer to those.
fn environment(object: &ParameterServer) -> Vec<EnvVar> {
    let ours = [
        ("POD_NAME", "metadata.name"),
        // By which the master keeps copies apart. The label is there from Kubernetes 1.35 on; empty is unknown.
        ("GLINT_NODE", "spec.nodeName"),
        (
            "GLINT_ZONE",
            "metadata.labels['topology.kubernetes.io/zone']",
        ),
    ];
    let from = |(name, path): (&str, &str)| EnvVar {
        name: name.to_owned(),
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector {
                field_path: path.to_owned(),
                ..ObjectFieldSelector::default()
            }),
            ..EnvVarSource::default()
        }),
        ..EnvVar::default()
    };
    let patience = pods::patience();
    let is_ours = |name: &str| name == patience.name || ours.iter().any(|(own, _)| *own == name);
    let theirs = object.spec.env.iter().filter(|env| !is_ours(&env.name));
    let theirs: Vec<EnvVar> = theirs.cloned().collect();
    ours.map(from)
        .into_iter()
        .chain([patience])
        .chain(theirs)
        .collect()
}
