//! The zones of Kubernetes nodes, which servers cannot know themselves: watched once for all parameter servers, by metadata
//! alone. That they may not be read stops nothing; copies are then kept apart by what servers know.

use std::{
    collections::BTreeMap,
    future,
    sync::{Arc, Mutex, PoisonError},
};

use futures_util::StreamExt;
use k8s_openapi::api::core::v1::Node;
use kube::{
    Api, Client, ResourceExt,
    core::PartialObjectMeta,
    runtime::{
        WatchStreamExt,
        watcher::{self, Event, watcher},
    },
};
use tokio::sync::watch;

use crate::health::Health;

/// The label in which a Kubernetes node has its zone.
pub const ZONE: &str = "topology.kubernetes.io/zone";

/// The zone of each Kubernetes node by the node's name; none where its node has no such label.
pub type Zones = BTreeMap<String, Option<String>>;

/// Whether zones can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    /// They were asked for, and nothing has come yet.
    Asked,
    /// They are known.
    Known,
    /// The role does not allow it.
    Refused,
    /// Nobody wants them.
    Unwanted,
}

/// What is known of Kubernetes nodes. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Nodes {
    zones: Arc<Mutex<Zones>>,
    reading: watch::Sender<Reading>,
}

impl Nodes {
    /// Nothing is asked, and nothing known.
    pub fn unwanted() -> Self {
        Self::new(Reading::Unwanted)
    }

    /// Those that [`Nodes::follow`] will know.
    pub fn wanted() -> Self {
        Self::new(Reading::Asked)
    }

    fn new(reading: Reading) -> Self {
        Self {
            zones: Arc::default(),
            reading: watch::Sender::new(reading),
        }
    }

    /// Keeps the zones as they are now, for ever. One that may not read them asks again, ever more rarely.
    pub async fn follow(&self, client: Client, health: &Health) {
        if *self.reading.borrow() == Reading::Unwanted {
            return;
        }
        let mut listed = Zones::new();
        watcher(
            Api::<PartialObjectMeta<Node>>::all(client),
            watcher::Config::default(),
        )
        .default_backoff()
        .for_each(|change| {
            match change {
                Ok(event) => self.take(event, &mut listed),
                Err(error) => self.failed(&error, health),
            }
            future::ready(())
        })
        .await;
    }

    fn take(&self, event: Event<PartialObjectMeta<Node>>, listed: &mut Zones) {
        let zone = |node: &PartialObjectMeta<Node>| node.labels().get(ZONE).cloned();
        let mut zones = self.zones.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Init => listed.clear(),
            Event::InitApply(node) => {
                listed.insert(node.name_any(), zone(&node));
            }
            Event::InitDone => {
                *zones = std::mem::take(listed);
                self.reading.send_replace(Reading::Known);
            }
            Event::Apply(node) => {
                zones.insert(node.name_any(), zone(&node));
            }
            Event::Delete(node) => {
                zones.remove(&node.name_any());
            }
        }
    }

    fn failed(&self, error: &watcher::Error, health: &Health) {
        health.metrics.watch_failed();
        let is_refused = matches!(
            error,
            watcher::Error::InitialListFailed(kube::Error::Api(status)) if status.code == 403
        );
        // What was read once is known until it is read again.
        let was = *self.reading.borrow();
        if is_refused && was == Reading::Asked {
            tracing::warn!(%error, "Kubernetes nodes may not be read: servers are not told their zones");
            self.reading.send_replace(Reading::Refused);
        } else if !is_refused {
            tracing::warn!(%error, "the watch of Kubernetes nodes broke; opening it again");
        }
    }

    /// Waits until zones are known, or are known not to be had.
    pub async fn settled(&self) {
        // The sender is here, so it does not go away meanwhile.
        let _ = self
            .reading
            .subscribe()
            .wait_for(|reading| *reading != Reading::Asked)
            .await;
    }

    /// The zones of these Kubernetes nodes, as far as they are known; none when nodes cannot be read.
    pub fn zones(&self, names: impl IntoIterator<Item = String>) -> Option<Zones> {
        if *self.reading.borrow() != Reading::Known {
            return None;
        }
        let zones = self.zones.lock().unwrap_or_else(PoisonError::into_inner);
        let known = names.into_iter().filter_map(|name| {
            let zone = zones.get(&name)?.clone();
            Some((name, zone))
        });
        Some(known.collect())
    }

    /// Whether zones are wanted, and the role does not allow to read them.
    pub fn are_refused(&self) -> bool {
        *self.reading.borrow() == Reading::Refused
    }
}

#[cfg(test)]
mod tests {
    use kube::api::ObjectMeta;

    use super::*;

    fn node(name: &str, zone: Option<&str>) -> PartialObjectMeta<Node> {
        PartialObjectMeta {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                labels: zone.map(|zone| [(ZONE.to_owned(), zone.to_owned())].into()),
                ..ObjectMeta::default()
            },
            ..PartialObjectMeta::default()
        }
    }

    fn refusal() -> watcher::Error {
        let status = kube::core::Status::failure("no", "Forbidden").with_code(403);
        watcher::Error::InitialListFailed(kube::Error::Api(status.boxed()))
    }

    #[test]
    fn zones_are_those_of_the_last_list_and_of_what_changed_since() {
        let nodes = Nodes::wanted();
        let mut listed = Zones::new();
        let all = || ["m1", "m2", "m3"].map(str::to_owned);
        nodes.take(Event::Init, &mut listed);
        nodes.take(Event::InitApply(node("m1", Some("a"))), &mut listed);
        nodes.take(Event::InitApply(node("m2", None)), &mut listed);
        assert_eq!(nodes.zones(all()), None, "half a list is none");
        nodes.take(Event::InitDone, &mut listed);
        let known = |zones: [(&str, Option<&str>); 2]| {
            let zones = zones.map(|(node, zone)| (node.to_owned(), zone.map(str::to_owned)));
            Some(Zones::from(zones))
        };
        assert_eq!(nodes.zones(all()), known([("m1", Some("a")), ("m2", None)]));
        nodes.take(Event::Apply(node("m2", Some("b"))), &mut listed);
        nodes.take(Event::Delete(node("m1", None)), &mut listed);
        nodes.take(Event::Apply(node("m3", Some("c"))), &mut listed);
        let expected = known([("m2", Some("b")), ("m3", Some("c"))]);
        assert_eq!(nodes.zones(all()), expected);
    }

    #[tokio::test]
    async fn nodes_that_may_not_be_read_hold_nothing_up_and_are_known_later() {
        let nodes = Nodes::wanted();
        nodes.failed(&refusal(), &Health::default());
        nodes.settled().await;
        assert!(nodes.are_refused() && nodes.zones([]).is_none());
        let mut listed = Zones::new();
        nodes.take(Event::Init, &mut listed);
        nodes.take(Event::InitDone, &mut listed);
        assert!(!nodes.are_refused());
        // What is known stays so, should the right be taken away.
        nodes.failed(&refusal(), &Health::default());
        assert!(!nodes.are_refused() && nodes.zones([]).is_some());
    }

    #[tokio::test]
    async fn unwanted_zones_are_no_refusal() {
        let nodes = Nodes::unwanted();
        nodes.settled().await;
        assert!(!nodes.are_refused() && nodes.zones([]).is_none());
    }
}
