//! Tells how an object fares: its status, and events when a condition of it has changed.

use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta, Time},
    jiff::Timestamp,
};
use kube::{
    Api, Resource, ResourceExt,
    api::{ApiResource, DynamicObject, Patch, PatchParams},
    runtime::events::{Event, EventType},
};
use serde_json::{Value, json};

use super::Failure;
use crate::{
    api::{ParameterServer, ParameterServerStatus, Phase},
    build::MANAGER,
    controller::Context,
    observe,
    reason::Reason,
};

pub(super) async fn write_status(
    object: &ParameterServer,
    status: &ParameterServerStatus,
    context: &Context,
) -> Result<(), Failure> {
    let api: Api<DynamicObject> = Api::namespaced_with(
        context.client.clone(),
        &object.namespace().unwrap_or_default(),
        &ApiResource::erase::<ParameterServer>(&()),
    );
    patch_status(&api, &object.name_any(), &json!(status), context).await
}

async fn patch_status(
    api: &Api<DynamicObject>,
    name: &str,
    status: &Value,
    context: &Context,
) -> Result<(), Failure> {
    let patch = json!({
        "apiVersion": ParameterServer::api_version(&()),
        "kind": ParameterServer::kind(&()),
        "status": status,
    });
    context.health.metrics.wrote("ParameterServer", "patch");
    let parameters = PatchParams::apply(MANAGER).force();
    match api
        .patch_status(name, &parameters, &Patch::Apply(&patch))
        .await
    {
        // Deleted meanwhile.
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        other => {
            other?;
            Ok(())
        }
    }
}

/// Says of an object that cannot be read that it cannot.
pub(super) async fn refuse(
    meta: ObjectMeta,
    why: String,
    context: &Context,
) -> Result<(), Failure> {
    let api: Api<DynamicObject> = Api::namespaced_with(
        context.client.clone(),
        meta.namespace.as_deref().unwrap_or_default(),
        &ApiResource::erase::<ParameterServer>(&()),
    );
    let name = meta.name.unwrap_or_default();
    let Some(there) = api.get_opt(&name).await? else {
        return Ok(());
    };
    let conditions = there.data["status"]["conditions"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    if conditions.iter().any(|c| c["message"] == why.as_str()) {
        return Ok(());
    }
    tracing::warn!(
        why,
        "an object cannot be followed; what runs for it goes on"
    );
    let now = Time(Timestamp::from_second(Timestamp::now().as_second()).unwrap_or_default());
    let condition = Condition {
        type_: "Ready".to_owned(),
        status: "False".to_owned(),
        reason: Reason::InvalidSpec.to_string(),
        message: why,
        observed_generation: meta.generation,
        last_transition_time: now,
    };
    let status = json!({"phase": Phase::Invalid, "conditions": [condition]});
    patch_status(&api, &name, &status, context).await
}

/// Tells by events which conditions have changed.
pub(super) async fn tell(
    object: &ParameterServer,
    status: &ParameterServerStatus,
    context: &Context,
) {
    let before = object.status.as_ref();
    for condition in &status.conditions {
        let old = before.and_then(|s| s.conditions.iter().find(|c| c.type_ == condition.type_));
        let same =
            old.is_some_and(|old| old.status == condition.status && old.reason == condition.reason);
        let Some(reason) = Reason::ALL
            .iter()
            .find(|r| r.to_string() == condition.reason)
        else {
            continue;
        };
        if !same && reason.is_told() && *reason != Reason::RestartingPod {
            say(object, *reason, &condition.message, context).await;
        }
    }
}

/// Writes an event; that one cannot be written harms nothing.
pub(super) async fn say(object: &ParameterServer, reason: Reason, note: &str, context: &Context) {
    let event = Event {
        type_: if reason.is_warning() {
            EventType::Warning
        } else {
            EventType::Normal
        },
        reason: reason.to_string(),
        note: Some(observe::shortened(note)),
        action: "Reconcile".to_owned(),
        secondary: None,
    };
    tracing::info!(%reason, note, "event");
    let reference = object.object_ref(&());
    if let Err(error) = context.recorder.publish(&event, &reference).await {
        tracing::warn!(%error, %reason, "an event could not be written");
    }
}
