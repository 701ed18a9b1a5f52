//! What the operator decides next, from what there is: nothing is stopped that could not be spared.
#![allow(clippy::expect_used, clippy::panic)]

use glint_operator::{
    api::ParameterServer,
    build::{Decided, Installation, Names, build},
    observe::{Observed, sort_pods},
    plan::{Plan, Step, plan},
    reason::Reason,
};
use glint_protocol::control::ClusterStatus;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

const OLD: &str = "glint:1";
const NEW: &str = "glint:2";

/// A `ParameterServer` of two servers with volumes, and what there is of it.
struct Scene {
    spec: Value,
    replicas: i32,
    /// The image that the `StatefulSet`s have.
    image: &'static str,
    /// Revision and readiness of the servers' pods, and of the master's.
    servers: Vec<(&'static str, bool)>,
    master: (&'static str, bool),
    /// Why a pod's container waits.
    waiting: Option<(usize, &'static str)>,
    models: Vec<(&'static str, &'static str)>,
    copies: u8,
    /// How many copies in sync the partition has that has the fewest.
    fewest: u8,
    silent: Option<&'static str>,
    /// What the master says of servers that are emptied: `draining` or `drained`.
    emptied: Vec<(usize, &'static str)>,
    /// A server that the master does not know.
    unknown: Option<usize>,
    /// A pod that is being stopped.
    stops: Option<usize>,
    /// A server that the master still knows, and that has no pod any more.
    gone: Option<usize>,
    /// Whether servers hold nothing.
    empty: bool,
    image_pod: Option<(&'static str, &'static str)>,
    /// Per server, the Kubernetes node it runs on.
    nodes: Vec<&'static str>,
    /// The zones of Kubernetes nodes, if they can be read.
    zones: Option<Vec<(&'static str, Option<&'static str>)>>,
    /// What the master knows of where servers run: node and zone.
    places: Vec<(&'static str, Option<&'static str>)>,
}

fn scene() -> Scene {
    Scene {
        spec: json!({"servers": 2, "storage": {"size": "1Gi"}, "rollout": "restart"}),
        replicas: 2,
        image: OLD,
        servers: vec![("now", true), ("now", true)],
        master: ("now", true),
        waiting: None,
        models: vec![("weights", "async")],
        copies: 1,
        fewest: 1,
        silent: None,
        emptied: Vec::new(),
        unknown: None,
        stops: None,
        gone: None,
        empty: false,
        image_pod: None,
        nodes: Vec::new(),
        zones: None,
        places: Vec::new(),
    }
}

fn pod(name: &str, revision: &str, ready: bool, image: &str) -> Value {
    json!({
        "metadata": {"name": name, "uid": format!("uid of {name}"), "labels": {"controller-revision-hash": revision}},
        "spec": {"containers": [{"name": "server", "image": image}]},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}]},
    })
}

impl Scene {
    fn plan(&self) -> Plan {
        self.plan_with(Some(Ok(self.cluster())))
    }

    fn plan_without_master(&self) -> Plan {
        self.plan_with(None)
    }

    fn plan_with(&self, cluster: Option<Result<ClusterStatus, String>>) -> Plan {
        let object: ParameterServer = serde_json::from_value(json!({
            "apiVersion": "glint.dev/v1alpha1",
            "kind": "ParameterServer",
            "metadata": {"name": "lda", "namespace": "news", "uid": "7d1f", "generation": 3},
            "spec": self.spec,
            "status": {"phase": "Ready"},
        }))
        .expect("an object");
        let installation = Installation {
            image: OLD.to_owned(),
            namespace: "glint-system".to_owned(),
        };
        let decided = Decided {
            servers: self.replicas,
            image: self.image.to_owned(),
        };
        let mut sets = build(&object, &installation, &decided)
            .into_iter()
            .filter(|child| child.resource.kind == "StatefulSet")
            .map(|child| {
                let mut set = child.manifest;
                set["metadata"]["generation"] = 1.into();
                set["status"] =
                    json!({"observedGeneration": 1, "updateRevision": "now", "replicas": 0});
                serde_json::from_value(set).expect("a set")
            });
        let mut observed = Observed {
            master: sets.next(),
            servers: sets.next(),
            cluster,
            ..Observed::default()
        };
        let mut pods: Vec<Value> = self
            .servers
            .iter()
            .enumerate()
            .map(|(n, (revision, ready))| pod(&format!("lda-server-{n}"), revision, *ready, OLD))
            .collect();
        for (pod, node) in pods.iter_mut().zip(&self.nodes) {
            pod["spec"]["nodeName"] = (*node).into();
        }
        observed.zones = self.zones.as_ref().map(|zones| {
            let named =
                |(node, zone): &(&str, Option<&str>)| ((*node).to_owned(), zone.map(str::to_owned));
            zones.iter().map(named).collect()
        });
        if let Some((n, why)) = self.waiting {
            pods[n]["status"]["containerStatuses"] = json!([{
                "name": "server", "image": NEW, "imageID": "", "ready": false, "restartCount": 0,
                "state": {"waiting": {"reason": why, "message": "as it says"}},
            }]);
        }
        if let Some(n) = self.stops {
            pods[n]["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        }
        if let Some(n) = self.gone {
            pods.remove(n);
        }
        pods.push(pod("lda-master-0", self.master.0, self.master.1, OLD));
        if let Some((image, phase)) = self.image_pod {
            let mut pod = pod("lda-image-check", "", false, image);
            pod["status"]["phase"] = phase.into();
            pods.push(pod);
        }
        let pods: Vec<Pod> = pods
            .into_iter()
            .map(|pod| serde_json::from_value(pod).expect("a pod"))
            .collect();
        sort_pods(&mut observed, &Names::of(&object), pods);
        plan(&object, &installation, &observed)
    }

    fn cluster(&self) -> ClusterStatus {
        let load = json!({
            "value_bytes": 10, "partitions": u8::from(!self.empty), "pulls": 0, "pushes": 0, "repeated": 0,
            "bytes_in": 0, "bytes_out": 0, "ledger_entries": 0,
        });
        let servers: Vec<Value> = (0..self.servers.len())
            .filter(|n| self.unknown != Some(*n))
            .map(|n| {
                let drain = self.emptied.iter().find(|(of, _)| *of == n);
                let drain = drain.map(|(_, state)| *state);
                let has = if self.empty || drain == Some("drained") { 0 } else { 10 };
                let id = format!("lda-server-{n}");
                let state = if self.silent == Some(id.as_str()) || self.gone == Some(n) { "silent" } else { "alive" };
                json!({
                    "id": id, "url": "http://x:1", "state": state, "silent_ms": 0, "capacity_bytes": 100,
                    "placed_bytes": has, "copies": has, "load": load, "durable": true, "drain": drain,
                    "labels": self.places.get(n).map_or(json!({}), |(node, zone)| json!({"node": node, "zone": zone})),
                })
            })
            .collect();
        let mut status: ClusterStatus = serde_json::from_value(json!({
            "cluster": "1", "term": 1, "version": "0.1.0",
            "servers": servers, "models": [],
        }))
        .expect("a status");
        status.models = self
            .models
            .iter()
            .map(|(name, durability)| model(name, durability, self.copies, self.fewest))
            .collect();
        status
    }

    fn restarts(&self) -> Vec<String> {
        let steps = self.plan().steps;
        steps
            .into_iter()
            .filter_map(|step| match step {
                Step::Restart { pod, .. } => Some(pod),
                _ => None,
            })
            .collect()
    }
}

fn model(
    name: &str,
    durability: &str,
    copies: u8,
    fewest: u8,
) -> glint_protocol::control::ModelSummary {
    serde_json::from_value(json!({
        "spec": {
            "name": name, "shape": {"vector": {"keys": 10}}, "element": "f32",
            "durability": durability, "copies": copies, "partition_count": 2,
        },
        "incarnation": {"model": "2", "generation": 1},
        "state": if fewest < copies { "degraded" } else { "live" },
        "revision": 1, "lost_partitions": 0, "bytes": 40,
        "copies": {"wanted": copies, "fewest": fewest, "below": u8::from(fewest < copies), "waiting": 0},
    }))
    .expect("a model")
}

#[test]
fn what_is_as_the_spec_says_is_left_alone() {
    let plan = scene().plan();
    assert_eq!(plan.steps, []);
    assert_eq!(plan.progress.reason, Reason::Settled);
    assert_eq!(plan.decided.servers, 2);
}

#[test]
fn one_server_is_restarted_at_a_time_the_last_first_and_the_master_at_the_end() {
    let mut scene = scene();
    scene.servers = vec![("before", true), ("before", true)];
    scene.master = ("before", true);
    assert_eq!(scene.restarts(), ["lda-server-1"]);
    scene.servers = vec![("before", true), ("now", false)];
    assert!(scene.restarts().is_empty(), "another is not ready yet");
    scene.servers = vec![("before", true), ("now", true)];
    assert_eq!(scene.restarts(), ["lda-server-0"]);
    scene.servers = vec![("now", true), ("now", true)];
    assert_eq!(scene.restarts(), ["lda-master-0"]);
}

#[test]
fn nothing_is_restarted_while_a_server_is_silent_or_the_master_is_not_ready() {
    let mut scene = scene();
    scene.servers = vec![("before", true), ("before", true)];
    scene.silent = Some("lda-server-0");
    assert!(scene.restarts().is_empty());
    scene.silent = None;
    scene.master = ("now", false);
    assert!(scene.restarts().is_empty());
}

#[test]
fn a_restart_that_would_lose_values_is_held() {
    let mut scene = scene();
    scene.servers = vec![("before", true), ("before", true)];
    scene.models.push(("fleeting", "memory"));
    let plan = scene.plan();
    assert_eq!(plan.steps, []);
    assert_eq!(plan.progress.reason, Reason::RolloutHeld);
    assert!(
        plan.progress.message.contains("fleeting"),
        "{}",
        plan.progress.message
    );
}

#[test]
fn a_model_with_copies_in_memory_may_be_restarted_under_when_they_are_whole() {
    let mut scene = scene();
    scene.servers = vec![("before", true), ("before", true)];
    scene.models = vec![("copied", "memory")];
    assert_eq!(scene.plan().progress.reason, Reason::RolloutHeld);
    (scene.copies, scene.fewest) = (2, 2);
    assert_eq!(scene.restarts(), ["lda-server-1"]);
    scene.fewest = 1;
    let plan = scene.plan();
    assert_eq!(plan.steps, []);
    assert!(
        plan.progress.message.contains("copies of model copied"),
        "{}",
        plan.progress.message
    );
}

#[test]
fn a_pod_that_does_not_run_is_made_anew_at_once_when_the_spec_has_changed() {
    let mut scene = scene();
    scene.servers = vec![("before", false), ("before", true)];
    scene.waiting = Some((0, "ImagePullBackOff"));
    assert_eq!(scene.restarts(), ["lda-server-0"]);
    // It would be the same again.
    scene.servers[0].0 = "now";
    scene.servers[1].0 = "now";
    assert!(scene.restarts().is_empty());
}

#[test]
fn a_new_image_reaches_nobody_before_it_is_known_to_be_there() {
    let mut scene = scene();
    scene.spec["image"] = NEW.into();
    let plan = scene.plan();
    assert_eq!(plan.steps, [Step::CheckImage]);
    assert_eq!(plan.decided.image, OLD);
    assert_eq!(plan.progress.reason, Reason::CheckingImage);
    scene.image_pod = Some((NEW, "Pending"));
    assert_eq!(scene.plan().decided.image, OLD);
    scene.image_pod = Some((NEW, "Failed"));
    let plan = scene.plan();
    assert_eq!(plan.decided.image, OLD);
    assert_eq!(plan.progress.reason, Reason::ImageUnavailable);
    scene.image_pod = Some((NEW, "Succeeded"));
    assert_eq!(scene.plan().decided.image, NEW);
    // That of an image that is asked for no longer is removed first.
    scene.image_pod = Some(("glint:3", "Succeeded"));
    let plan = scene.plan();
    assert!(
        matches!(plan.steps[..], [Step::RemoveImageCheck { .. }]),
        "{:?}",
        plan.steps
    );
    assert_eq!(plan.decided.image, OLD);
}

#[test]
fn servers_are_added_at_once() {
    let mut scene = scene();
    scene.spec["servers"] = 4.into();
    let plan = scene.plan();
    assert_eq!(
        (plan.decided.servers, plan.progress.reason),
        (4, Reason::ScalingUp)
    );
}

/// Four servers of which one shall be left.
fn shrinking() -> Scene {
    let mut scene = scene();
    scene.spec["servers"] = 1.into();
    scene.replicas = 4;
    scene.servers = vec![("now", true); 4];
    scene
}

fn drains(plan: &Plan) -> Option<(Vec<&str>, Vec<&str>)> {
    plan.steps.iter().find_map(|step| match step {
        Step::Drain { servers, with, .. } => Some((
            servers.iter().map(String::as_str).collect(),
            with.iter().map(String::as_str).collect(),
        )),
        _ => None,
    })
}

fn kept(plan: &Plan) -> Vec<&str> {
    plan.steps
        .iter()
        .filter_map(|step| match step {
            Step::Keep { server } => Some(server.as_str()),
            _ => None,
        })
        .collect()
}

#[test]
fn the_last_servers_are_emptied_together_and_go_when_they_have_nothing_the_highest_first() {
    let mut scene = shrinking();
    let plan = scene.plan();
    let last = vec!["lda-server-3", "lda-server-2", "lda-server-1"];
    assert_eq!(drains(&plan), Some((last, Vec::new())));
    assert_eq!(
        (plan.decided.servers, plan.progress.reason),
        (4, Reason::ScalingDown)
    );
    assert!(plan.progress.message.contains("10 bytes"));

    scene.emptied = vec![(3, "draining"), (2, "drained"), (1, "draining")];
    let plan = scene.plan();
    assert_eq!(drains(&plan), None, "all are being emptied");
    assert_eq!(plan.decided.servers, 4, "the last is not empty");
    scene.emptied[0].1 = "drained";
    assert_eq!(scene.plan().decided.servers, 2);
    scene.emptied[2].1 = "drained";
    assert_eq!(scene.plan().decided.servers, 1);
}

#[test]
fn a_server_that_the_master_does_not_know_has_nothing_and_may_go() {
    let mut scene = shrinking();
    scene.unknown = Some(3);
    let plan = scene.plan();
    let known = vec!["lda-server-2", "lda-server-1"];
    assert_eq!(drains(&plan), Some((known, Vec::new())));
    assert_eq!(plan.decided.servers, 3);
}

#[test]
fn no_server_goes_while_the_master_does_not_answer() {
    let mut scene = shrinking();
    scene.emptied = vec![(3, "drained"), (2, "drained"), (1, "drained")];
    scene.master = ("now", false);
    let plan = scene.plan_without_master();
    assert_eq!(plan.decided.servers, 4);
    assert!(plan.progress.message.contains("master"));
}

#[test]
fn of_servers_that_are_emptied_those_stay_that_are_wanted_again() {
    let mut scene = shrinking();
    scene.emptied = vec![(3, "drained"), (2, "draining"), (1, "draining")];
    scene.spec["servers"] = 3.into();
    let plan = scene.plan();
    assert_eq!(kept(&plan), ["lda-server-1", "lda-server-2"]);
    assert_eq!(plan.decided.servers, 3);
    scene.spec["servers"] = 4.into();
    let plan = scene.plan();
    assert_eq!(
        kept(&plan),
        ["lda-server-1", "lda-server-2", "lda-server-3"]
    );
    assert_eq!(plan.progress.reason, Reason::Settled);
}

#[test]
fn a_server_that_empties_itself_while_its_pod_stops_is_let_do_so() {
    let mut scene = scene();
    scene.emptied = vec![(1, "draining")];
    scene.stops = Some(1);
    assert!(kept(&scene.plan()).is_empty());
    scene.stops = None;
    // The next pod of its name is there, and the one that answers is still the process of the one that was deleted.
    scene.servers[1].1 = false;
    assert!(kept(&scene.plan()).is_empty());
    scene.servers[1].1 = true;
    assert_eq!(kept(&scene.plan()), ["lda-server-1"]);
}

#[test]
fn with_rollout_drain_a_server_is_emptied_then_restarted_then_kept_and_then_it_is_the_next_ones_turn()
 {
    let mut scene = scene();
    scene.spec["rollout"] = "drain".into();
    scene.models.push(("fleeting", "memory"));
    scene.servers = vec![("before", true), ("before", true)];
    let plan = scene.plan();
    assert_eq!(
        drains(&plan),
        Some((vec!["lda-server-1"], Vec::new())),
        "{plan:?}"
    );
    scene.emptied = vec![(1, "draining")];
    let plan = scene.plan();
    assert_eq!(plan.steps, [], "it is waited for");
    assert!(plan.progress.message.contains("10 bytes"), "{plan:?}");
    // Whatever happens to others: it is empty.
    scene.emptied = vec![(1, "drained")];
    scene.silent = Some("lda-server-0");
    assert_eq!(scene.restarts(), ["lda-server-1"]);
    assert!(kept(&scene.plan()).is_empty());
    scene.stops = Some(1);
    assert_eq!(scene.plan().steps, []);
    (scene.stops, scene.silent) = (None, None);
    scene.servers = vec![("before", true), ("now", false)];
    scene.silent = Some("lda-server-1");
    assert_eq!(scene.plan().steps, [], "it is not back yet");
    scene.servers = vec![("before", true), ("now", true)];
    scene.silent = None;
    let plan = scene.plan();
    assert_eq!(
        (kept(&plan), drains(&plan)),
        (vec!["lda-server-1"], Some((vec!["lda-server-0"], vec![])))
    );
    scene.emptied.clear();
    assert_eq!(
        drains(&scene.plan()),
        Some((vec!["lda-server-0"], Vec::new()))
    );
}

#[test]
fn with_rollout_drain_a_single_server_is_restarted_when_it_has_nothing() {
    let mut scene = scene();
    scene.spec = json!({"servers": 1});
    (scene.replicas, scene.servers) = (1, vec![("before", true)]);
    assert_eq!(
        drains(&scene.plan()),
        Some((vec!["lda-server-0"], Vec::new())),
        "so that the master says why not"
    );
    scene.empty = true;
    assert_eq!(scene.restarts(), ["lda-server-0"]);
    // One that was taken away is nobody who could take anything.
    scene.servers.push(("before", true));
    scene.emptied = vec![(1, "drained")];
    scene.gone = Some(1);
    assert_eq!(scene.restarts(), ["lda-server-0"]);
}

/// What the master is told: server, node, zone.
fn told(scene: &Scene) -> Vec<(String, Option<String>, Option<String>)> {
    let steps = scene.plan().steps;
    steps
        .into_iter()
        .filter_map(|step| match step {
            Step::Place { server, labels } => Some((server, labels.node, labels.zone)),
            _ => None,
        })
        .collect()
}

fn zoned() -> Scene {
    let mut scene = scene();
    scene.nodes = vec!["m1", "m2"];
    scene.zones = Some(vec![("m1", Some("west")), ("m2", Some("east"))]);
    scene.places = vec![("m1", None), ("m2", None)];
    scene
}

#[test]
fn the_master_is_told_the_zone_of_each_server_once() {
    let mut scene = zoned();
    let expected = |server: &str, node: &str, zone: Option<&str>| {
        let zone = zone.map(str::to_owned);
        (server.to_owned(), Some(node.to_owned()), zone)
    };
    assert_eq!(
        told(&scene),
        [
            expected("lda-server-0", "m1", Some("west")),
            expected("lda-server-1", "m2", Some("east"))
        ]
    );
    scene.places = vec![("m1", Some("west")), ("m2", Some("east"))];
    assert_eq!(told(&scene), []);
    scene.nodes[1] = "m1";
    let moved = expected("lda-server-1", "m1", Some("west"));
    assert_eq!(told(&scene), [moved], "it runs on another machine now");
    scene.nodes[1] = "m2";
    scene.zones = Some(vec![("m1", Some("west")), ("m2", None)]);
    let bare = expected("lda-server-1", "m2", None);
    assert_eq!(told(&scene), [bare], "its machine has no zone any more");
}

#[test]
fn nothing_is_told_of_what_is_not_known_or_not_there() {
    let mut scene = zoned();
    scene.zones = None;
    assert_eq!(told(&scene), [], "nodes cannot be read");
    scene = zoned();
    scene.zones = Some(vec![("m1", Some("west"))]);
    assert_eq!(told(&scene).len(), 1, "a node that was not heard of yet");
    scene = zoned();
    scene.nodes.pop();
    assert_eq!(told(&scene).len(), 1, "a pod that has no node yet");
    scene = zoned();
    scene.stops = Some(1);
    assert_eq!(told(&scene).len(), 1, "a pod that is about to go");
    scene = zoned();
    scene.silent = Some("lda-server-1");
    assert_eq!(
        told(&scene).len(),
        1,
        "a server that the master does not hear"
    );
}
