//! What to do next about the number of servers and about pods that are not as the spec says. Pure: from what there is to
//! what shall be decided now, one step at a time; the next look at what there is leads to the next step.
//!
//! Nothing is stopped that could not be spared: a server only when it is empty or all others answer, its image only when
//! the new one can be had, and never while values would be lost by it.

mod image;
mod place;
mod roll;
mod scale;

use glint_protocol::control::{Labels, ServerState};

use crate::{
    api::{ParameterServer, Phase},
    build::{Decided, Installation, Names},
    observe::{self, Observed},
    reason::Reason,
};

/// What is decided, and done now.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// What the children are built with.
    pub decided: Decided,
    /// What is done to pods and servers, in this order.
    pub steps: Vec<Step>,
    /// What is under way, or held.
    pub progress: Progress,
}

/// Something that is done to a pod or a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// It is deleted, and its `StatefulSet` makes it again as the spec says now.
    Restart {
        /// The pod.
        pod: String,
        /// That very pod, not a later one of the name.
        uid: String,
        /// Why.
        why: String,
    },
    /// The master has servers emptied, all or none.
    Drain {
        /// Those that are not being emptied yet.
        servers: Vec<String>,
        /// Those that are, and stay if the others cannot be.
        with: Vec<String>,
        /// What it means when the master refuses.
        refused: Reason,
    },
    /// A server is emptied no longer: it is to stay.
    Keep {
        /// Its name.
        server: String,
    },
    /// The master is told where a server runs.
    Place {
        /// Its name.
        server: String,
        /// The Kubernetes node and its zone.
        labels: Labels,
    },
    /// The pod that shows whether the image can be had is made.
    CheckImage,
    /// It is removed.
    RemoveImageCheck {
        /// That very pod.
        uid: String,
    },
}

/// What is under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Whether something is being changed.
    pub active: bool,
    /// Which change, or why none is made.
    pub reason: Reason,
    /// In words.
    pub message: String,
}

impl Progress {
    pub(crate) fn under_way(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            active: true,
            reason,
            message: message.into(),
        }
    }

    pub(crate) fn held(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            active: false,
            reason,
            message: message.into(),
        }
    }
}

/// What to do next for `object`.
pub fn plan(object: &ParameterServer, installation: &Installation, observed: &Observed) -> Plan {
    let scale = scale::scale(object, observed);
    let image = image::image(object, installation, observed);
    let mut steps = image.steps;
    let mut emptied = None;
    // A former revision is rolled out no further while the next one waits for its image.
    let held_by_image = image.progress.is_some();
    let roll = roll::roll(object, observed, scale.progress.as_ref());
    let mut progress = scale.progress.or(image.progress);
    let mut drain = scale.step;
    if let Some(roll) = roll {
        if !held_by_image || roll.is_urgent() {
            emptied = roll.emptied;
            match roll.step {
                Some(step @ Step::Drain { .. }) => drain = drain.or(Some(step)),
                step => steps.extend(step),
            }
        }
        progress = progress.or(Some(roll.progress));
    }
    // First what stays, so that it can take what the others hand over.
    steps.splice(0..0, keep(object, observed, emptied.as_deref()));
    steps.extend(drain);
    steps.extend(place::places(object, observed));
    Plan {
        decided: Decided {
            servers: scale.servers,
            image: image.image,
        },
        steps,
        progress: progress.unwrap_or_else(|| starting(object, observed)),
    }
}

/// Servers that are being emptied and are to stay, once their pods are ready: the spec has changed, they were restarted, or their
/// pods were stopped from outside and are back. Before, the one that answers may still be that of a pod that was deleted by
/// force: it is about to end, and nothing may be given back to it.
fn keep(object: &ParameterServer, observed: &Observed, emptied: Option<&str>) -> Vec<Step> {
    // What is known of pods is about what their `StatefulSet` was before: it is not known yet who is emptied to be restarted.
    let lags = |set| observe::lags(set, None);
    if observed.servers.as_ref().is_none_or(lags) {
        return Vec::new();
    }
    let names = Names::of(object);
    let stays = |server: &str| {
        let ordinal = names.ordinal(server);
        let pod = ordinal.and_then(|n| observed.server_pod(n));
        let wanted = ordinal.is_some_and(|n| n < object.spec.servers);
        wanted && pod.is_some_and(observe::is_ready) && emptied != Some(server)
    };
    let servers = observed.status().into_iter().flat_map(|s| &s.servers);
    servers
        .filter(|server| server.drain.is_some() && server.state == ServerState::Alive)
        .filter(|server| stays(&server.id.0))
        .map(|server| Step::Keep {
            server: server.id.0.clone(),
        })
        .collect()
}

/// What is going on when nothing is being changed: a start, or nothing.
fn starting(object: &ParameterServer, observed: &Observed) -> Progress {
    let ready = observed
        .server_pods
        .iter()
        .filter(|(_, pod)| observe::is_ready(pod))
        .count();
    let wanted = object.spec.servers;
    if ready >= usize::try_from(wanted).unwrap_or(0)
        && observed.master_pod.as_ref().is_some_and(observe::is_ready)
    {
        return Progress::held(Reason::Settled, "everything is as the spec says");
    }
    if has_started(object) {
        return Progress::held(
            Reason::Settled,
            "pods are as the spec says; some do not answer",
        );
    }
    Progress::under_way(
        Reason::Starting,
        format!("{ready} of {wanted} servers are ready"),
    )
}

/// Whether master and servers have answered once: before, what is missing is no news.
pub fn has_started(object: &ParameterServer) -> bool {
    let phase = object.status.as_ref().and_then(|s| s.phase);
    phase.is_some_and(|p| !matches!(p, Phase::Starting | Phase::Invalid))
}
