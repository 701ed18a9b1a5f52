//! How many servers there shall be now: more at once, fewer when those that go hold nothing.

use glint_protocol::{
    admin::DrainState,
    control::{ClusterStatus, ServerState, ServerSummary},
};

use super::{Progress, Step};
use crate::{
    api::{ParameterServer, Phase},
    build::Names,
    observe::{self, Observed},
    reason::Reason,
};

/// How many server pods there shall be now, and what is done about it.
pub(super) struct Scale {
    pub(super) servers: i32,
    pub(super) step: Option<Step>,
    pub(super) progress: Option<Progress>,
}

impl Scale {
    fn to(servers: i32, progress: Option<Progress>) -> Self {
        Self {
            servers,
            step: None,
            progress,
        }
    }
}

pub(super) fn scale(object: &ParameterServer, observed: &Observed) -> Scale {
    let wanted = object.spec.servers;
    let Some(there) = observed.replicas() else {
        return Scale::to(wanted, None);
    };
    if there < wanted {
        let message = format!("from {there} to {wanted} servers");
        let progress = Progress::under_way(Reason::ScalingUp, message);
        return Scale::to(wanted, Some(progress));
    }
    if there > wanted {
        return down(object, observed, there);
    }
    let names = Names::of(object);
    if let Some((ordinal, _)) = observed.server_pods.iter().find(|(n, _)| *n >= wanted) {
        let message = format!(
            "{} holds nothing any more and stops",
            names.server(*ordinal)
        );
        let progress = Progress::under_way(Reason::ScalingDown, message);
        return Scale::to(wanted, Some(progress));
    }
    let ready = (0..wanted)
        .filter(|n| observed.server_pod(*n).is_some_and(observe::is_ready))
        .count();
    let missing = ready < usize::try_from(wanted).unwrap_or(0);
    let progress = (was_scaling(object) && missing).then(|| {
        let message = format!("{ready} of {wanted} servers are ready");
        Progress::under_way(Reason::ScalingUp, message)
    });
    Scale::to(wanted, progress)
}

fn was_scaling(object: &ParameterServer) -> bool {
    let status = object.status.as_ref();
    status.is_some_and(|s| s.phase == Some(Phase::Scaling))
}

/// The last servers hand over what they hold, and go when they have nothing: the highest first, as a `StatefulSet` takes
/// its pods away.
fn down(object: &ParameterServer, observed: &Observed, there: i32) -> Scale {
    let names = Names::of(object);
    let wanted = object.spec.servers;
    let waits = |why: &str| {
        let message = format!("from {there} to {wanted} servers; waiting: {why}");
        Scale::to(
            there,
            Some(Progress::under_way(Reason::ScalingDown, message)),
        )
    };
    let Some(status) = observed.status() else {
        return waits("the master does not answer");
    };
    if status.adoption.is_some() {
        return waits(
            "the master lost what it knew and gathers it from the servers: see `glint status`, and `glint adopt`",
        );
    }
    let going: Vec<(i32, String, Option<&ServerSummary>)> = (wanted..there)
        .rev()
        .map(|n| (n, names.server(n)))
        .map(|(n, name)| {
            let server = find(status, &name);
            (n, name, server)
        })
        .collect();
    // One that the master does not know has never held anything, as when its pod could never start.
    let full = going
        .iter()
        .find(|(_, _, server)| server.is_some_and(|s| s.drain != Some(DrainState::Drained)));
    let servers = full.map_or(wanted, |(n, ..)| n + 1);
    let known = going.iter().filter_map(|(_, name, s)| Some((name, (*s)?)));
    let (marked, unmarked): (Vec<_>, Vec<_>) = known
        // One that still reads its volume is not known by its name yet.
        .filter(|(_, s)| !s.url.is_empty())
        .partition(|(_, s)| s.drain.is_some());
    let list =
        |some: &[(&String, &ServerSummary)]| some.iter().map(|(n, _)| (*n).clone()).collect();
    let step = (!unmarked.is_empty()).then(|| Step::Drain {
        servers: list(&unmarked),
        with: list(&marked),
        refused: Reason::ScaleDownRefused,
    });
    let left: Vec<String> = going
        .iter()
        .filter_map(|(_, _, server)| left_on((*server)?))
        .take(3)
        .collect();
    let message = if left.is_empty() {
        format!("from {there} to {wanted} servers: those that go hold nothing")
    } else {
        format!("from {there} to {wanted} servers: {}", left.join(", "))
    };
    Scale {
        servers,
        step,
        progress: Some(Progress::under_way(Reason::ScalingDown, message)),
    }
}

/// What the master says of a server.
pub(super) fn find<'a>(status: &'a ClusterStatus, name: &str) -> Option<&'a ServerSummary> {
    status.servers.iter().find(|s| s.id.0 == name)
}

/// What a server that is to be emptied still has.
pub(super) fn left_on(server: &ServerSummary) -> Option<String> {
    if server.drain == Some(DrainState::Drained) {
        return None;
    }
    let doing = match server.state {
        ServerState::Alive => "hands over",
        _ => "does not answer and has",
    };
    Some(format!(
        "{} {doing} {} copies ({} bytes)",
        server.id.0, server.copies, server.placed_bytes
    ))
}
