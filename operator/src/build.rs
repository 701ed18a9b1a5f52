//! What is made for a `ParameterServer`: a pure function of the object and of where the operator runs, which cannot fail.
//! What the API server would refuse it refuses with its own words, when it is applied.

mod check;
mod master;
mod names;
mod network;
mod pods;
mod servers;

use k8s_openapi::{
    ByteString, NamespaceResourceScope, Resource,
    api::{
        core::v1::Secret,
        policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec},
    },
    apimachinery::pkg::{
        apis::meta::v1::{LabelSelector, ObjectMeta},
        util::intstr::IntOrString,
    },
};
use kube::{Resource as _, ResourceExt, api::ApiResource};
use serde::Serialize;
use serde_json::Value;

pub use self::names::{
    COMPONENT, Component, INSTANCE, MANAGED_BY, MANAGER, Names, labels, selector,
};
use crate::api::ParameterServer;

/// Where clients and servers reach the master.
pub const MASTER_PORT: i32 = 7100;
/// Where clients and the master reach a server.
pub const SERVER_PORT: i32 = 7200;
/// Pods with this label and the name of a `ParameterServer` as its value are let through to it by its `NetworkPolicy`.
pub const CLIENT_LABEL: &str = "glint.dev/client";

/// The operator that builds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installation {
    /// The image that master and servers run unless the object names one.
    pub image: String,
    /// The namespace of the operator, which the network policies let through.
    pub namespace: String,
}

/// What is decided from what there is, not from the spec alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decided {
    /// How many pods the servers have: more than the spec says while some are drained.
    pub servers: i32,
    /// The image of new pods: the former one until the new one is known to be there.
    pub image: String,
}

/// One object that is made, as the operator applies it.
#[derive(Clone, Debug, PartialEq)]
pub struct Child {
    /// Its kind.
    pub resource: ApiResource,
    /// Its name, in the namespace of the `ParameterServer`.
    pub name: String,
    /// The fields that the operator owns.
    pub manifest: Value,
}

impl Child {
    fn new<K>(object: &K) -> Self
    where
        K: Resource<Scope = NamespaceResourceScope> + kube::Resource<DynamicType = ()> + Serialize,
    {
        let mut manifest = serde_json::to_value(object).unwrap_or_default();
        manifest["apiVersion"] = K::API_VERSION.into();
        manifest["kind"] = K::KIND.into();
        Self {
            resource: ApiResource::erase::<K>(&()),
            name: object.name_any(),
            manifest,
        }
    }
}

/// The image that `object` asks for.
pub fn wanted_image(object: &ParameterServer, installation: &Installation) -> String {
    let said = object.spec.image.as_ref();
    said.unwrap_or(&installation.image).clone()
}

/// Everything that is made for `object`, in the order in which it is applied.
pub fn build(
    object: &ParameterServer,
    installation: &Installation,
    decided: &Decided,
) -> Vec<Child> {
    let mut children = vec![
        Child::new(&binding(object)),
        Child::new(&master::service(object)),
        Child::new(&servers::service(object)),
    ];
    if object.spec.network_policy.enabled {
        children.push(Child::new(&network::policy(object, installation)));
    }
    if has_budget(object) {
        children.push(Child::new(&budget(object)));
    }
    children.push(Child::new(&master::stateful_set(object, decided)));
    children.push(Child::new(&servers::stateful_set(object, decided)));
    children
}

/// The pod that shows whether an image can be had, before anything that runs is stopped for it.
pub fn image_check(object: &ParameterServer, image: &str) -> Child {
    Child::new(&check::pod(object, image))
}

/// Whether there is a budget: not for a single server, which it would keep from ever being evicted.
pub fn has_budget(object: &ParameterServer) -> bool {
    object.spec.disruption_budget.enabled && object.spec.servers > 1
}

/// What a training job takes with `envFrom`.
fn binding(object: &ParameterServer) -> Secret {
    let names = Names::of(object);
    Secret {
        metadata: metadata(object, names.binding()),
        type_: Some("glint.dev/client".to_owned()),
        data: Some(
            [("GLINT_URL".to_owned(), ByteString(names.url().into_bytes()))]
                .into_iter()
                .collect(),
        ),
        ..Secret::default()
    }
}

fn budget(object: &ParameterServer) -> PodDisruptionBudget {
    PodDisruptionBudget {
        metadata: metadata(object, Names::of(object).servers()),
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable: Some(IntOrString::Int(1)),
            selector: Some(LabelSelector {
                match_labels: Some(selector(&object.name_any(), Component::Server)),
                ..LabelSelector::default()
            }),
            ..PodDisruptionBudgetSpec::default()
        }),
        ..PodDisruptionBudget::default()
    }
}

/// Name, labels and owner of a child.
fn metadata(object: &ParameterServer, name: String) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: object.namespace(),
        labels: Some(labels(object, None)),
        owner_references: object.controller_owner_ref(&()).map(|owner| vec![owner]),
        ..ObjectMeta::default()
    }
}
