//! One look at one `ParameterServer`: what there is → plan → build → apply → report. It writes only what differs, so that a
//! look at something settled writes nothing.

use std::{sync::PoisonError, time::Duration};

use k8s_openapi::{
    api::core::v1::{Event as CoreEvent, Pod, Secret},
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
    jiff::Timestamp,
};
use kube::{
    Api, Resource, ResourceExt,
    api::{
        ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, Preconditions,
    },
    core::Status,
    runtime::{
        controller::Action,
        events::{Event, EventType},
        reflector::ObjectRef,
    },
};
use serde_json::{Value, json};

use crate::{
    api::{ParameterServer, ParameterServerStatus, Phase},
    build::{self, Child, INSTANCE, MANAGER, Names},
    compare,
    controller::{Context, Guarded, key},
    observe::{self, Observed, Trouble},
    plan::{self, Plan, Step},
    reason::Reason,
    report::{Findings, report},
};

/// Why a look failed; it is repeated later.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The API server did not do what it was asked, for no reason that lies in the object.
    #[error("the API server: {0}")]
    Kubernetes(#[from] kube::Error),
    /// The operator ends.
    #[error("the operator ends")]
    Stopping,
    /// The namespace is being deleted, and the object with it.
    #[error("the namespace is being deleted")]
    NamespaceEnds,
}

/// How soon to look again when nothing is heard: while something is under way, while something is wrong, and else. Changes
/// of what is watched are looked at at once; this is for what only the master knows.
const UNDER_WAY: Duration = Duration::from_secs(2);
const WRONG: Duration = Duration::from_secs(10);
const QUIET: Duration = Duration::from_secs(60);

/// Looks at an object once.
pub async fn reconcile(object: &Guarded, context: &Context) -> Result<Action, Failure> {
    match &object.0 {
        Ok(object) if object.metadata.deletion_timestamp.is_some() => Ok(Action::await_change()),
        Ok(object) => match Box::pin(look(object, context)).await {
            Err(Failure::NamespaceEnds) => Ok(Action::requeue(QUIET)),
            other => other,
        },
        Err(unreadable) => {
            let meta = &unreadable.metadata;
            let told = format!("the object cannot be read: {}", unreadable.error);
            refuse(meta.clone(), told, context).await?;
            Ok(Action::await_change())
        }
    }
}

async fn look(object: &ParameterServer, context: &Context) -> Result<Action, Failure> {
    let names = Names::of(object);
    let mut observed = observe(object, &names, context).await?;
    let mut plan = None;
    let mut problem = None;
    if !object.spec.paused {
        let made = plan::plan(object, &context.installation, &observed);
        problem = carry_out(object, &made, context).await?;
        plan = Some(made);
        observed.lags = lags(object, &names, &observed, context);
    }
    let wanted = observed.replicas().unwrap_or(0);
    if usize::try_from(wanted).is_ok_and(|wanted| observed.server_pods.len() < wanted) {
        observed.refusals = refusals(object, &names, context).await?;
    }
    let now = Timestamp::from_second(Timestamp::now().as_second()).unwrap_or_default();
    let status = report(
        object,
        &observed,
        &Findings {
            progress: plan.as_ref().map(|plan| &plan.progress),
            image: plan.as_ref().map(|plan| plan.decided.image.as_str()),
            problem,
            now: Time(now),
        },
    );
    let again = match status.phase {
        Some(Phase::Ready | Phase::Paused | Phase::Deleting) => QUIET,
        Some(Phase::Degraded | Phase::Invalid) => WRONG,
        _ => UNDER_WAY,
    };
    if object.status.as_ref() != Some(&status) {
        write_status(object, &status, context).await?;
        tell(object, &status, context).await;
    }
    Ok(Action::requeue(again))
}

/// Whether what is known of the pods is about what the `StatefulSet`s were before a change.
fn lags(object: &ParameterServer, names: &Names, observed: &Observed, context: &Context) -> bool {
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

/// Gathers what there is.
async fn observe(
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
    if observed.master_pod.as_ref().is_some_and(observe::is_ready) {
        let answer = context.masters.status(&names.url()).await;
        observed.cluster = Some(answer.map_err(|error| error.to_string()));
    }
    if observed.has_stale_pods() {
        observed.thin_models = thin_models(&observed, names, context).await;
    }
    Ok(observed)
}

/// Models that have fewer copies in sync than they shall have, as far as there are servers for them.
async fn thin_models(observed: &Observed, names: &Names, context: &Context) -> Vec<String> {
    let Some(status) = observed.status() else {
        return Vec::new();
    };
    let mut thin = Vec::new();
    for model in &status.models {
        let wanted = usize::from(model.spec.copies()).min(status.servers.len());
        if wanted < 2 {
            continue;
        }
        let map = context.masters.map(&names.url(), &model.spec.name).await;
        let whole = map.is_ok_and(|map| {
            map.followers.len() == map.holders.len()
                && map
                    .followers
                    .iter()
                    .all(|followers| followers.len() + 1 >= wanted)
        });
        if !whole {
            thin.push(model.spec.name.clone());
        }
    }
    thin
}

/// Applies what is not as it shall be, and takes the plan's steps. A refusal that lies in the object is a trouble of it.
async fn carry_out(
    object: &ParameterServer,
    plan: &Plan,
    context: &Context,
) -> Result<Option<Trouble>, Failure> {
    let mut problem = None;
    let children = build::build(object, &context.installation, &plan.decided);
    for child in &children {
        if let Some(trouble) = ensure(object, child, context).await? {
            problem.get_or_insert(trouble);
        }
    }
    remove_unwanted(object, &children, context).await?;
    for step in &plan.steps {
        match step {
            Step::Restart { pod, uid, why } => {
                let note = format!("restarting {pod}: {why}");
                say(object, Reason::RestartingPod, &note, context).await;
                delete_pod(object, pod, uid, false, context).await?;
            }
            Step::CheckImage => {
                let child =
                    build::image_check(object, &build::wanted_image(object, &context.installation));
                if let Some(trouble) = ensure(object, &child, context).await? {
                    problem.get_or_insert(trouble);
                }
            }
            Step::RemoveImageCheck { uid } => {
                let pod = Names::of(object).image_check();
                delete_pod(object, &pod, uid, true, context).await?;
            }
        }
    }
    Ok(problem)
}

/// Applies a child unless it is there as it shall be.
async fn ensure(
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
        if same {
            let note = format!("{kind} {} was changed at {field}: put back", child.name);
            say(object, Reason::Restored, &note, context).await;
        }
    } else {
        tracing::info!(kind, child = child.name, "applying what is not there");
        let seen = object.status.as_ref().and_then(|s| s.observed_generation);
        let made_before = seen.is_some() && seen == object.metadata.generation;
        let applied = apply(child, &namespace, manifest, context).await?;
        if made_before && kind != "Pod" && applied.is_none() {
            let note = format!("{kind} {} was deleted: made again", child.name);
            say(object, Reason::Restored, &note, context).await;
        }
        return Ok(applied);
    }
    apply(child, &namespace, manifest, context).await
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
async fn remove_unwanted(
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

async fn delete_pod(
    object: &ParameterServer,
    name: &str,
    uid: &str,
    at_once: bool,
    context: &Context,
) -> Result<(), Failure> {
    let api: Api<Pod> = Api::namespaced(
        context.client.clone(),
        &object.namespace().unwrap_or_default(),
    );
    let parameters = DeleteParams {
        grace_period_seconds: at_once.then_some(0),
        preconditions: Some(Preconditions {
            uid: Some(uid.to_owned()),
            ..Preconditions::default()
        }),
        ..DeleteParams::default()
    };
    tracing::info!(pod = name, "deleting a pod");
    context.health.metrics.wrote("Pod", "delete");
    ignore_gone(api.delete(name, &parameters).await.map(drop))
}

/// That something is gone, or is another one by now, is what was wanted.
fn ignore_gone(result: Result<(), kube::Error>) -> Result<(), Failure> {
    match result {
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        other => Ok(other?),
    }
}

/// Why pods of the servers are not there: the last words of their `StatefulSet`'s controller.
async fn refusals(
    object: &ParameterServer,
    names: &Names,
    context: &Context,
) -> Result<Vec<String>, Failure> {
    let api: Api<CoreEvent> = Api::namespaced(
        context.client.clone(),
        &object.namespace().unwrap_or_default(),
    );
    let selector = format!(
        "involvedObject.kind=StatefulSet,involvedObject.name={},reason=FailedCreate",
        names.servers()
    );
    let mut events = api
        .list(&ListParams::default().fields(&selector).limit(20))
        .await?
        .items;
    let recent = Timestamp::now() - k8s_openapi::jiff::SignedDuration::from_mins(5);
    events.retain(|event| event.last_timestamp.as_ref().is_some_and(|t| t.0 > recent));
    events.sort_by_key(|event| std::cmp::Reverse(event.last_timestamp.as_ref().map(|t| t.0)));
    let words = events.into_iter().filter_map(|event| event.message);
    Ok(words
        .map(|text| observe::shortened(&text))
        .take(1)
        .collect())
}

async fn write_status(
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
async fn refuse(
    meta: k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta,
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
async fn tell(object: &ParameterServer, status: &ParameterServerStatus, context: &Context) {
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
        // What is as it always was is no news.
        let dull =
            matches!(reason, Reason::Settled | Reason::Healthy | Reason::Managed) && old.is_none();
        if !same && !dull && *reason != Reason::RestartingPod {
            say(object, *reason, &condition.message, context).await;
        }
    }
}

/// Writes an event; that one cannot be written harms nothing.
async fn say(object: &ParameterServer, reason: Reason, note: &str, context: &Context) {
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
