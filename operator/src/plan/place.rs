//! Where servers run: what the master is to be told, since it keeps copies apart by it.

use glint_protocol::control::{Labels, ServerState};

use super::Step;
use crate::{api::ParameterServer, build::Names, observe::Observed};

/// Servers of which the master knows another place than that of their pods. Nothing where zones cannot be read: then what the
/// servers say themselves counts.
pub(super) fn places(object: &ParameterServer, observed: &Observed) -> Vec<Step> {
    let (Some(zones), Some(cluster)) = (&observed.zones, observed.status()) else {
        return Vec::new();
    };
    let names = Names::of(object);
    let step = |(ordinal, pod): &(i32, k8s_openapi::api::core::v1::Pod)| {
        // The one that is about to go is of no interest, and what comes after it may run elsewhere.
        if pod.metadata.deletion_timestamp.is_some() {
            return None;
        }
        let node = pod.spec.as_ref()?.node_name.clone()?;
        let labels = Labels {
            zone: zones.get(&node)?.clone(),
            node: Some(node),
        };
        let name = names.server(*ordinal);
        let known = cluster.servers.iter().find(|s| s.id.0 == name)?;
        let is_new = known.state == ServerState::Alive && known.labels != labels;
        is_new.then_some(Step::Place {
            server: name,
            labels,
        })
    };
    observed.server_pods.iter().filter_map(step).collect()
}
