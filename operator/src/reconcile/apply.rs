//! Applies what is made for an object: only what differs, and never what belongs to something else.

use std::sync::PoisonError;

use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use kube::{
    Api,
    api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams},
    core::Status,
};
use serde_json::Value;

use super::{Failure, ignore_gone, tell::say_of};
use crate::{
    api::ParameterServer,
    build::{Child, MANAGER, Names},
    compare,
    controller::{Context, key},
    observe::{self, Trouble},
    reason::Reason,
};

/// Applies a child unless it is there as it shall be.
pub(super) async fn ensure(
    object: &ParameterServer,
    child: &Child,
    context: &Context,
) -> Result<Option<Trouble>, Failure> {
    let namespace = object.namespace().unwrap_or_default();
    let kind = child.resource.kind.as_str();
    let mut manifest = child.manifest.clone();
    compare::seal(&mut manifest);
    let there = match context.caches.get(&namespace, kind, &child.name) {
        Some(known) => known,
        // Secrets are not watched, so that the operator need not be allowed to list them.
        None => Api::<Secret>::namespaced(context.client.clone(), &namespace)
            .get_opt(&child.name)
            .await?
            .and_then(|secret| {
                let mut value = serde_json::to_value(&secret).ok()?;
                value["kind"] = kind.into();
                value["apiVersion"] = "v1".into();
                Some(value)
            }),
    };
    if let Some(there) = &there {
        if !is_ours(object, there) {
            return Ok(Some(Trouble {
                reason: Reason::NameTaken,
                message: format!(
                    "{kind} {} exists and belongs to something else: delete it, or give the ParameterServer another name",
                    child.name
                ),
            }));
        }
        let mut there = there.clone();
        for field in ["kind", "apiVersion"] {
            there[field] = manifest[field].clone();
        }
        let Some(field) = compare::missing(&manifest, &there) else {
            return Ok(None);
        };
        if is_stubborn(&namespace, child, &manifest, &field, context) {
            return Ok(None);
        }
        let same = there["metadata"]["annotations"][compare::DIGEST]
            == manifest["metadata"]["annotations"][compare::DIGEST];
        tracing::info!(kind, child = child.name, field, "applying what differs");
        let applied = apply(child, &namespace, manifest, context).await?;
        if same && applied.is_none() {
            let note = format!("{kind} {} was changed at {field}: put back", child.name);
            let of = (&child.resource, child.name.as_str());
            say_of(object, of, Reason::Restored, &note, context).await;
        }
        return Ok(applied);
    }
    tracing::info!(kind, child = child.name, "applying what is not there");
    let seen = object.status.as_ref().and_then(|s| s.observed_generation);
    let made_before = seen.is_some() && seen == object.metadata.generation;
    let applied = apply(child, &namespace, manifest, context).await?;
    if made_before && kind != "Pod" && applied.is_none() {
        let note = format!("{kind} {} was deleted: made again", child.name);
        let of = (&child.resource, child.name.as_str());
        say_of(object, of, Reason::Restored, &note, context).await;
    }
    Ok(applied)
}

async fn apply(
    child: &Child,
    namespace: &str,
    manifest: Value,
    context: &Context,
) -> Result<Option<Trouble>, Failure> {
    let kind = child.resource.kind.as_str();
    let api: Api<DynamicObject> =
        Api::namespaced_with(context.client.clone(), namespace, &child.resource);
    let parameters = PatchParams::apply(MANAGER).force();
    context.health.metrics.wrote(kind, "patch");
    match api
        .patch(&child.name, &parameters, &Patch::Apply(&manifest))
        .await
    {
        Ok(applied) => {
            remember(namespace, child, &manifest, &applied, context);
            if let Some(generation) = applied.metadata.generation {
                let mut last = context
                    .applied
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner);
                last.insert(key(namespace, child), generation);
            }
            Ok(None)
        }
        Err(kube::Error::Api(status)) if namespace_ends(&status) => Err(Failure::NamespaceEnds),
        Err(kube::Error::Api(status)) if lies_in_the_object(&status) => Ok(Some(Trouble {
            reason: if status.code == 403 {
                Reason::PodRefused
            } else {
                Reason::InvalidSpec
            },
            message: format!(
                "{kind} {} is refused: {}",
                child.name,
                observe::shortened(&status.message)
            ),
        })),
        Err(error) => Err(error.into()),
    }
}

fn namespace_ends(status: &Status) -> bool {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    status.code == 403
        && causes
            .into_iter()
            .any(|cause| cause.reason == "NamespaceTerminating")
}

/// Whether repeating the request would not help before the object or what is around it changes.
fn lies_in_the_object(status: &Status) -> bool {
    matches!(status.code, 400 | 403 | 422)
}

/// Whether an object has the `ParameterServer` as its owner.
fn is_ours(object: &ParameterServer, there: &Value) -> bool {
    let owners = there["metadata"]["ownerReferences"].as_array();
    let uid = object.metadata.uid.as_deref();
    owners
        .into_iter()
        .flatten()
        .any(|owner| uid.is_some() && owner["uid"].as_str() == uid)
}

/// Remembers a field that the API server did not take as it was applied: applying it again would be so for ever.
fn remember(
    namespace: &str,
    child: &Child,
    manifest: &Value,
    applied: &DynamicObject,
    context: &Context,
) {
    let Ok(there) = serde_json::to_value(applied) else {
        return;
    };
    let mut stubborn = context
        .stubborn
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    if let Some(field) = compare::missing(manifest, &there) {
        tracing::warn!(
            kind = child.resource.kind,
            child = child.name,
            field,
            "the API server keeps this field otherwise than it was applied"
        );
        let digest = digest(manifest);
        stubborn.insert(key(namespace, child), (digest, field));
    } else {
        stubborn.remove(&key(namespace, child));
    }
}

fn is_stubborn(
    namespace: &str,
    child: &Child,
    manifest: &Value,
    field: &str,
    context: &Context,
) -> bool {
    let stubborn = context
        .stubborn
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    stubborn
        .get(&key(namespace, child))
        .is_some_and(|(digest, kept)| *digest == self::digest(manifest) && kept == field)
}

fn digest(manifest: &Value) -> String {
    manifest["metadata"]["annotations"][compare::DIGEST]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

/// Deletes what the spec wants no longer: a budget or a network policy that was switched off.
pub(super) async fn remove_unwanted(
    object: &ParameterServer,
    children: &[Child],
    context: &Context,
) -> Result<(), Failure> {
    let namespace = object.namespace().unwrap_or_default();
    let names = Names::of(object);
    let optional = [
        (
            ApiResource::erase::<k8s_openapi::api::policy::v1::PodDisruptionBudget>(&()),
            names.servers(),
        ),
        (
            ApiResource::erase::<k8s_openapi::api::networking::v1::NetworkPolicy>(&()),
            names.policy(),
        ),
    ];
    for (resource, name) in optional {
        if children.iter().any(|c| c.resource.kind == resource.kind) {
            continue;
        }
        let there = context
            .caches
            .get(&namespace, &resource.kind, &name)
            .flatten();
        if !there.is_some_and(|there| is_ours(object, &there)) {
            continue;
        }
        tracing::info!(
            kind = resource.kind,
            child = name,
            "deleting what is wanted no longer"
        );
        let api: Api<DynamicObject> =
            Api::namespaced_with(context.client.clone(), &namespace, &resource);
        context.health.metrics.wrote(&resource.kind, "delete");
        ignore_gone(api.delete(&name, &DeleteParams::default()).await.map(drop))?;
    }
    Ok(())
}
