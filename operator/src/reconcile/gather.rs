//! Gathers what there is of one parameter server: from what is watched, and from its master.

use std::sync::PoisonError;

use k8s_openapi::{
    api::core::v1::{Event as CoreEvent, Pod},
    jiff::Timestamp,
};
use kube::{Api, ResourceExt, api::ListParams, runtime::reflector::ObjectRef};

use super::Failure;
use crate::{
    api::ParameterServer,
    build::{INSTANCE, Names},
    controller::Context,
    observe::{self, Observed},
    refusal,
};

/// Gathers what there is.
pub(super) async fn gather(
    object: &ParameterServer,
    names: &Names,
    context: &Context,
) -> Result<Observed, Failure> {
    let namespace = object.namespace().unwrap_or_default();
    let name = object.name_any();
    let set = |name: String| {
        let key = ObjectRef::new(&name).within(&namespace);
        context
            .caches
            .stateful_sets
            .get(&key)
            .map(|set| (*set).clone())
    };
    let mut observed = Observed {
        servers: set(names.servers()),
        master: set(names.master()),
        ..Observed::default()
    };
    let pods: Vec<Pod> = context
        .caches
        .pods
        .state()
        .iter()
        .filter(|pod| {
            pod.metadata.namespace.as_ref() == Some(&namespace)
                && pod.labels().get(INSTANCE) == Some(&name)
        })
        .map(|pod| (**pod).clone())
        .collect();
    observe::sort_pods(&mut observed, names, pods);
    let nodes = observed.server_pods.iter();
    let nodes = nodes.filter_map(|(_, pod)| pod.spec.as_ref()?.node_name.clone());
    observed.zones = context.nodes.zones(nodes);
    if observed.master_pod.as_ref().is_some_and(observe::is_ready) {
        let answer = context.masters.status(&names.url()).await;
        observed.cluster = Some(answer.map_err(|error| error.to_string()));
    }
    Ok(observed)
}

/// Whether what is known of the pods is about what the `StatefulSet`s were before a change.
pub(super) fn lags(
    object: &ParameterServer,
    names: &Names,
    observed: &Observed,
    context: &Context,
) -> bool {
    let namespace = object.namespace().unwrap_or_default();
    let applied = context
        .applied
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    let sets = [
        (&observed.servers, names.servers()),
        (&observed.master, names.master()),
    ];
    sets.into_iter().any(|(set, name)| {
        let last = applied
            .get(&format!("StatefulSet/{namespace}/{name}"))
            .copied();
        set.as_ref().is_none_or(|set| observe::lags(set, last))
    })
}

/// Why pods of a `StatefulSet` are not there: the last words of its controller.
pub(super) async fn refusal(
    object: &ParameterServer,
    set: &str,
    context: &Context,
) -> Result<Option<String>, Failure> {
    let api: Api<CoreEvent> = Api::namespaced(
        context.client.clone(),
        &object.namespace().unwrap_or_default(),
    );
    let selector =
        format!("involvedObject.kind=StatefulSet,involvedObject.name={set},reason=FailedCreate");
    let events = api
        .list(&ListParams::default().fields(&selector).limit(20))
        .await?
        .items;
    Ok(refusal::refusal(object, set, &events, Timestamp::now()))
}
