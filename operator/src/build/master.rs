//! The master: one pod that keeps what it knows on a volume, and the address under which it is found.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        apps::v1::{
            StatefulSet, StatefulSetPersistentVolumeClaimRetentionPolicy, StatefulSetSpec,
            StatefulSetUpdateStrategy,
        },
        core::v1::{PodTemplateSpec, Service, ServicePort, ServiceSpec},
    },
    apimachinery::pkg::{
        apis::meta::v1::{LabelSelector, ObjectMeta},
        util::intstr::IntOrString,
    },
};
use kube::ResourceExt;

use super::{Component, Decided, MASTER_PORT, Names, labels, metadata, pods, selector};
use crate::api::{Durability, ParameterServer, Retention};

pub(super) fn service(object: &ParameterServer) -> Service {
    Service {
        metadata: metadata(object, Names::of(object).master()),
        spec: Some(ServiceSpec {
            selector: Some(selector(&object.name_any(), Component::Master)),
            ports: Some(vec![ServicePort {
                name: Some("http".to_owned()),
                port: MASTER_PORT,
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
    let master = &object.spec.master;
    let durability = match object.spec.model_defaults.durability {
        Durability::Memory => "memory",
        Durability::Async => "async",
        Durability::Sync => "sync",
    };
    let arguments = [
        "--log",
        "json",
        "master",
        "--listen",
        &format!("0.0.0.0:{MASTER_PORT}"),
        "--data-dir",
        &format!("{}/master", pods::DATA),
        "--durability",
        durability,
        "--copies",
        &object.spec.model_defaults.copies.to_string(),
    ];
    let mut container = pods::container(
        object,
        "master",
        &decided.image,
        arguments.map(str::to_owned).to_vec(),
    );
    pods::serve(&mut container, MASTER_PORT);
    container.resources = pods::resources(&master.resources);
    container.env = Some(vec![pods::patience()]);
    container.volume_mounts = Some(vec![pods::mount()]);
    let mut pod = pods::pod(object, container);
    pod.termination_grace_period_seconds = Some(30);

    // Without volumes the servers have nothing that a later master could take up again.
    let storage = object.spec.storage.as_ref();
    let retention = pods::retention(storage.map_or(Retention::Delete, |s| s.retention));
    StatefulSet {
        metadata: metadata(object, names.master()),
        spec: Some(StatefulSetSpec {
            replicas: Some(1),
            service_name: Some(names.master()),
            selector: LabelSelector {
                match_labels: Some(selector(&object.name_any(), Component::Master)),
                ..LabelSelector::default()
            },
            // The operator restarts it, when the servers are done.
            update_strategy: Some(StatefulSetUpdateStrategy {
                type_: Some("OnDelete".to_owned()),
                ..StatefulSetUpdateStrategy::default()
            }),
            persistent_volume_claim_retention_policy: Some(
                StatefulSetPersistentVolumeClaimRetentionPolicy {
                    when_deleted: Some(retention),
                    when_scaled: Some("Retain".to_owned()),
                },
            ),
            volume_claim_templates: Some(vec![pods::claim(
                object,
                Component::Master,
                master.storage.class.as_ref(),
                &master.storage.size,
            )]),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta {
                    labels: Some(labels(object, Some(Component::Master))),
                    annotations: pods::some(object.spec.annotations.clone(), BTreeMap::is_empty),
                    ..ObjectMeta::default()
                }),
                spec: Some(pod),
            },
            ..StatefulSetSpec::default()
        }),
        ..StatefulSet::default()
    }
}
