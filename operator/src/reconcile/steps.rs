//! Does what is planned: children are applied, pods restarted, servers emptied.

use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt,
    api::{ApiResource, DeleteParams, Preconditions},
};

use super::{
    Failure,
    apply::{ensure, remove_unwanted},
    ignore_gone,
    tell::say_of,
};
use crate::{
    api::ParameterServer,
    build::{self, Names},
    controller::Context,
    master::MasterError,
    observe::Trouble,
    plan::{Plan, Progress, Step},
    reason::Reason,
};

/// What came of a plan.
#[derive(Default)]
pub(super) struct Outcome {
    /// What stands against following the spec.
    pub(super) problem: Option<Trouble>,
    /// What is under way in place of what was planned.
    pub(super) instead: Option<Progress>,
}

/// Applies what is not as it shall be, and takes the plan's steps. A refusal that lies in the object is a trouble of it.
pub(super) async fn carry_out(
    object: &ParameterServer,
    plan: &Plan,
    context: &Context,
) -> Result<Outcome, Failure> {
    let mut outcome = Outcome::default();
    let children = build::build(object, &context.installation, &plan.decided);
    for child in &children {
        if let Some(trouble) = ensure(object, child, context).await? {
            outcome.problem.get_or_insert(trouble);
        }
    }
    remove_unwanted(object, &children, context).await?;
    let url = Names::of(object).url();
    for step in &plan.steps {
        match step {
            Step::Restart { pod, uid, why } => {
                delete_pod(object, pod, uid, false, context).await?;
                // Afterwards: an operator that ends again and again after its first call gets on all the same.
                let note = format!("restarting {pod}: {why}");
                let of = ApiResource::erase::<Pod>(&());
                say_of(object, (&of, pod), Reason::RestartingPod, &note, context).await;
            }
            Step::Drain {
                servers,
                with,
                refused,
            } => {
                tracing::info!(?servers, "to be emptied");
                let Err(error) = context.masters.drain(&url, servers).await else {
                    continue;
                };
                outcome.instead = Some(if error.refuses_to_drain() {
                    keep_all(&url, with, context).await;
                    Progress::held(*refused, refusal(object, *refused, &error))
                } else {
                    Progress {
                        message: format!("waiting: {error}"),
                        ..plan.progress.clone()
                    }
                });
            }
            Step::Keep { server } => keep_all(&url, std::slice::from_ref(server), context).await,
            Step::Place { server, labels } => {
                // One that the master cannot be told about now is told at the next look.
                match context.masters.place(&url, server, labels).await {
                    Ok(_) => tracing::info!(server, ?labels, "the master knows where it runs"),
                    Err(error) => {
                        tracing::warn!(server, %error, "the master could not be told where a server runs");
                    }
                }
            }
            Step::CheckImage => {
                let child =
                    build::image_check(object, &build::wanted_image(object, &context.installation));
                if let Some(trouble) = ensure(object, &child, context).await? {
                    outcome.problem.get_or_insert(trouble);
                }
            }
            Step::RemoveImageCheck { uid } => {
                let pod = Names::of(object).image_check();
                delete_pod(object, &pod, uid, true, context).await?;
            }
        }
    }
    Ok(outcome)
}

/// What a refused drain means, and what to do.
fn refusal(object: &ParameterServer, reason: Reason, error: &MasterError) -> String {
    let wanted = object.spec.servers;
    match reason {
        Reason::ScaleDownRefused => format!(
            "{wanted} servers are too few, and none was taken away: {error}; or set servers back to more than {wanted}"
        ),
        _ => format!("{error}; or set rollout to restart"),
    }
}

/// Has servers emptied no longer. One that the master cannot be told about now is still to be kept at the next look.
async fn keep_all(url: &str, servers: &[String], context: &Context) {
    for server in servers {
        tracing::info!(server, "is emptied no longer");
        if let Err(error) = context.masters.keep(url, server).await {
            tracing::warn!(server, %error, "the master could not be told that a server stays");
        }
    }
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
