//! Tells how an object fares: its status, and events when a condition of it has changed.

use k8s_openapi::{
    api::core::v1::ObjectReference,
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
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
    report::unreadable,
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

/// Says of an object that is deleted, and that a finalizer still holds, that it is.
pub(super) async fn deleting(object: &ParameterServer, context: &Context) -> Result<(), Failure> {
    let before = object.status.clone().unwrap_or_default();
    if before.phase == Some(Phase::Deleting) {
        return Ok(());
    }
    let status = ParameterServerStatus {
        phase: Some(Phase::Deleting),
        observed_generation: object.metadata.generation,
        ..before
    };
    write_status(object, &status, context).await
}

/// Says of an object that cannot be read that it cannot.
pub(super) async fn refuse(
    meta: ObjectMeta,
    why: String,
    context: &Context,
) -> Result<(), Failure> {
    let resource = ApiResource::erase::<ParameterServer>(&());
    let api: Api<DynamicObject> = Api::namespaced_with(
        context.client.clone(),
        meta.namespace.as_deref().unwrap_or_default(),
        &resource,
    );
    let name = meta.name.unwrap_or_default();
    let Some(there) = api.get_opt(&name).await? else {
        return Ok(());
    };
    // What cannot be read may be the status itself: there is no other then.
    let before = there.data.get("status").cloned();
    let before: ParameterServerStatus = before
        .and_then(|status| serde_json::from_value(status).ok())
        .unwrap_or_default();
    let now = Time(Timestamp::from_second(Timestamp::now().as_second()).unwrap_or_default());
    let status = unreadable(&before, there.metadata.generation, &why, &now);
    if status == before {
        return Ok(());
    }
    tracing::warn!(
        why,
        "an object cannot be followed; what runs for it goes on"
    );
    patch_status(&api, &name, &json!(status), context).await?;
    tell_changes(
        &there.object_ref(&resource),
        Some(&before),
        &status,
        context,
    )
    .await;
    Ok(())
}

/// Tells by events which conditions have changed.
pub(super) async fn tell(
    object: &ParameterServer,
    status: &ParameterServerStatus,
    context: &Context,
) {
    let reference = object.object_ref(&());
    tell_changes(&reference, object.status.as_ref(), status, context).await;
}

async fn tell_changes(
    reference: &ObjectReference,
    before: Option<&ParameterServerStatus>,
    status: &ParameterServerStatus,
    context: &Context,
) {
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
            publish(reference, None, *reason, &condition.message, context).await;
        }
    }
}

/// Writes an event about an object.
pub(super) async fn say(object: &ParameterServer, reason: Reason, note: &str, context: &Context) {
    publish(&object.object_ref(&()), None, reason, note, context).await;
}

/// Writes an event about an object that is also about something that was made for it: what is said of another is not a
/// repetition, of which only the number would be seen.
pub(super) async fn say_of(
    object: &ParameterServer,
    (resource, name): (&ApiResource, &str),
    reason: Reason,
    note: &str,
    context: &Context,
) {
    let related = ObjectReference {
        api_version: Some(resource.api_version.clone()),
        kind: Some(resource.kind.clone()),
        name: Some(name.to_owned()),
        namespace: object.namespace(),
        ..ObjectReference::default()
    };
    publish(
        &object.object_ref(&()),
        Some(related),
        reason,
        note,
        context,
    )
    .await;
}

/// Writes an event; that one cannot be written harms nothing.
async fn publish(
    reference: &ObjectReference,
    related: Option<ObjectReference>,
    reason: Reason,
    note: &str,
    context: &Context,
) {
    let event = Event {
        type_: if reason.is_warning() {
            EventType::Warning
        } else {
            EventType::Normal
        },
        reason: reason.to_string(),
        note: Some(observe::shortened(note)),
        action: "Reconcile".to_owned(),
        secondary: related,
    };
    tracing::info!(%reason, note, "event");
    if let Err(error) = context.recorder.publish(&event, reference).await {
        tracing::warn!(%error, %reason, "an event could not be written");
    }
}
