//! Who may talk to master and servers.

use k8s_openapi::{
    api::networking::v1::{
        NetworkPolicy, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort,
        NetworkPolicySpec,
    },
    apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString},
};
use kube::ResourceExt;

use super::{
    CLIENT_LABEL, INSTANCE, Installation, MANAGER, MASTER_PORT, Names, SERVER_PORT, metadata,
};
use crate::api::ParameterServer;

/// Lets through each other, the operator, and pods of any namespace that carry the label of clients.
pub(super) fn policy(object: &ParameterServer, installation: &Installation) -> NetworkPolicy {
    let name = object.name_any();
    let ours = LabelSelector {
        match_labels: Some(
            [
                ("app.kubernetes.io/name".to_owned(), "glint".to_owned()),
                (INSTANCE.to_owned(), name.clone()),
            ]
            .into_iter()
            .collect(),
        ),
        ..LabelSelector::default()
    };
    let with = |key: &str, value: &str| {
        Some(LabelSelector {
            match_labels: Some([(key.to_owned(), value.to_owned())].into_iter().collect()),
            ..LabelSelector::default()
        })
    };
    let peers = vec![
        NetworkPolicyPeer {
            pod_selector: Some(ours.clone()),
            ..NetworkPolicyPeer::default()
        },
        NetworkPolicyPeer {
            pod_selector: with(CLIENT_LABEL, &name),
            namespace_selector: Some(LabelSelector::default()),
            ..NetworkPolicyPeer::default()
        },
        NetworkPolicyPeer {
            pod_selector: with("app.kubernetes.io/name", MANAGER),
            namespace_selector: with("kubernetes.io/metadata.name", &installation.namespace),
            ..NetworkPolicyPeer::default()
        },
    ];
    let port = |number| NetworkPolicyPort {
        port: Some(IntOrString::Int(number)),
        protocol: Some("TCP".to_owned()),
        ..NetworkPolicyPort::default()
    };
    NetworkPolicy {
        metadata: metadata(object, Names::of(object).policy()),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(ours),
            policy_types: Some(vec!["Ingress".to_owned()]),
            ingress: Some(vec![NetworkPolicyIngressRule {
                from: Some(peers),
                ports: Some(vec![port(MASTER_PORT), port(SERVER_PORT)]),
            }]),
            ..NetworkPolicySpec::default()
        }),
    }
}
