//! One look at one `ParameterServer`: what there is → plan → build → apply → report. It writes only what differs, so that a
//! look at something settled writes nothing.

mod apply;
mod gather;
mod steps;
mod tell;

use std::time::Duration;

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use kube::runtime::controller::Action;

use self::steps::carry_out;
use crate::{
    api::{ParameterServer, Phase},
    build::Names,
    controller::{Context, Guarded},
    plan,
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

impl Failure {
    /// Why, in a word, of which there are few: what the API server calls it.
    pub fn reason(&self) -> &'static str {
        const KNOWN: [&str; 9] = [
            "AlreadyExists",
            "Conflict",
            "Forbidden",
            "Invalid",
            "NotFound",
            "InternalError",
            "ServiceUnavailable",
            "Timeout",
            "TooManyRequests",
        ];
        match self {
            Self::Kubernetes(kube::Error::Api(status)) => KNOWN
                .into_iter()
                .find(|known| *known == status.reason)
                .unwrap_or("Other"),
            Self::Kubernetes(_) => "Unreachable",
            Self::Stopping => "Stopping",
            Self::NamespaceEnds => "NamespaceEnds",
        }
    }
}

/// How soon to look again when nothing is heard: while something is under way, while something is wrong, and else. Changes
/// of what is watched are looked at at once; this is for what only the master knows.
const UNDER_WAY: Duration = Duration::from_secs(2);
const WRONG: Duration = Duration::from_secs(10);
const QUIET: Duration = Duration::from_secs(60);

/// Looks at an object once.
pub async fn reconcile(object: &Guarded, context: &Context) -> Result<Action, Failure> {
    match &object.0 {
        // Somebody else's finalizer holds it; what was made for it goes when it does.
        Ok(object) if object.metadata.deletion_timestamp.is_some() => {
            tell::deleting(object, context).await?;
            Ok(Action::await_change())
        }
        Ok(object) => match Box::pin(look(object, context)).await {
            Err(Failure::NamespaceEnds) => Ok(Action::requeue(QUIET)),
            other => other,
        },
        Err(unreadable) => {
            let meta = &unreadable.metadata;
            let told = format!("the object cannot be read: {}", unreadable.error);
            tell::refuse(meta.clone(), told, context).await?;
            Ok(Action::await_change())
        }
    }
}

async fn look(object: &ParameterServer, context: &Context) -> Result<Action, Failure> {
    let names = Names::of(object);
    let mut observed = gather::gather(object, &names, context).await?;
    let mut plan = None;
    let mut problem = None;
    if !object.spec.paused {
        let mut made = plan::plan(object, &context.installation, &observed);
        let outcome = carry_out(object, &made, context).await?;
        problem = outcome.problem;
        made.progress = outcome.instead.unwrap_or(made.progress);
        plan = Some(made);
        observed.lags = gather::lags(object, &names, &observed, context);
    }
    for set in observed.lacking(&names) {
        let refusal = gather::refusal(object, &set, context).await?;
        observed.refusals.extend(refusal);
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
    let emptied = status.servers.iter().any(|server| server.draining);
    let again = match status.phase {
        // Whether they are empty, and whether they are back, only the master knows.
        Some(Phase::Ready | Phase::Degraded) if emptied => UNDER_WAY,
        Some(Phase::Ready | Phase::Paused) => QUIET,
        Some(Phase::Degraded | Phase::Invalid) => WRONG,
        _ => UNDER_WAY,
    };
    if context.misses_zones(object) {
        let note = "the operator's role does not allow it to list and watch nodes; see `zones` of the chart";
        tell::say(object, Reason::ZonesUnknown, note, context).await;
    }
    if object.status.as_ref() != Some(&status) {
        tell::write_status(object, &status, context).await?;
        tell::tell(object, &status, context).await;
    }
    Ok(Action::requeue(again))
}

/// That something is gone, or is another one by now, is what was wanted.
fn ignore_gone(result: Result<(), kube::Error>) -> Result<(), Failure> {
    match result {
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        other => Ok(other?),
    }
}
