//! The definition of `ParameterServer` may be installed after the operator, or its role may not allow to read them yet: the
//! operator waits, not ready, and says so in its log, by a metric, and once by an event about its own pod.

use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Api, Client,
    api::ListParams,
    runtime::events::{Event, EventType},
};

use crate::{
    controller::{Guarded, Scope},
    health::Health,
    observe,
    reason::Reason,
};

/// Waits until `ParameterServer`s can be read.
pub async fn wait_for_it(client: &Client, scope: &Scope, health: &Health) {
    let api: Api<Guarded> = match scope.namespaces.first() {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    };
    let (mut logged, mut has_told) = (String::new(), false);
    loop {
        let Err(error) = api.list(&ListParams::default().limit(1)).await else {
            health.is_defined();
            return;
        };
        let why = match &error {
            kube::Error::Api(status) if status.code == 404 => {
                "the definition of ParameterServer is not installed: kubectl apply --server-side -f crds/".to_owned()
            }
            other => other.to_string(),
        };
        if why != logged {
            tracing::warn!(why, "ParameterServers cannot be read yet; waiting");
            logged.clone_from(&why);
        }
        // An API server that cannot be reached takes no event either.
        if !has_told && matches!(error, kube::Error::Api(_)) {
            has_told = tell(client, scope, &why).await;
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
}

/// Writes an event about the operator's own pod; whether there is nothing more to try, since a role that does not allow it
/// will not in two seconds.
async fn tell(client: &Client, scope: &Scope, why: &str) -> bool {
    let pod = ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Pod".to_owned()),
        name: Some(scope.identity.clone()),
        namespace: Some(scope.installation.namespace.clone()),
        uid: scope.uid.clone(),
        ..ObjectReference::default()
    };
    let event = Event {
        type_: EventType::Warning,
        reason: Reason::DefinitionMissing.to_string(),
        note: Some(observe::shortened(why)),
        action: "Wait".to_owned(),
        secondary: None,
    };
    let told = scope.recorder(client).publish(&event, &pod).await;
    if let Err(error) = &told {
        tracing::warn!(%error, "an event could not be written");
    }
    matches!(told, Ok(()) | Err(kube::Error::Api(_)))
}
