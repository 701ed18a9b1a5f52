//! Copies are kept in different zones: the operator reads those of the machines, and tells the master.

use std::{collections::BTreeMap, thread, time::Duration};

use glint_tests_kubernetes::{
    installation::{OPERATOR, SYSTEM, install, operators},
    processes,
    stories::{Space, eventually, find, kubectl},
    training::Training,
    turns,
};
use serde_json::Value;

const ZONE: &str = "topology.kubernetes.io/zone";

/// Labels of the machines, taken away again with this.
struct Zones(Vec<String>);

impl Zones {
    /// `west` for the first machine, `east` for all others.
    fn of_machines() -> Self {
        let list = find(&["nodes"]).expect("machines");
        let machines: Vec<String> = list["items"]
            .as_array()
            .expect("a list")
            .iter()
            .filter_map(|node| Some(node["metadata"]["name"].as_str()?.to_owned()))
            .collect();
        assert!(machines.len() > 1, "two machines: NODES=2");
        let zones = Self(machines);
        for (n, machine) in zones.0.iter().enumerate() {
            let zone = if n == 0 { "west" } else { "east" };
            kubectl(&[
                "label",
                "--overwrite",
                "node",
                machine,
                &format!("{ZONE}={zone}"),
            ]);
        }
        zones
    }
}

impl Drop for Zones {
    fn drop(&mut self) {
        for machine in &self.0 {
            kubectl(&["label", "node", machine, &format!("{ZONE}-")]);
        }
    }
}

/// The zone of each server, as the master says; none while it is away.
fn zones(space: &Space) -> BTreeMap<String, String> {
    let Ok(said) = processes::try_glint(space, "lda", &["status", "--json"]) else {
        return BTreeMap::new();
    };
    let status: Value = serde_json::from_str(&said).expect("JSON");
    let servers = status["servers"].as_array().expect("a list").clone();
    servers
        .iter()
        .filter_map(|server| {
            let zone = server["labels"]["zone"].as_str()?;
            Some((server["id"].as_str()?.to_owned(), zone.to_owned()))
        })
        .collect()
}

/// Of each partition, the servers with a copy that is in sync.
fn copies(space: &Space) -> Vec<Vec<String>> {
    let master = format!(
        "/api/v1/namespaces/{}/services/lda-master:7100/proxy",
        space.name()
    );
    let path = format!("{master}/v1/models/steady-0/copies");
    let said = kubectl(&["get", "--raw", &path]);
    let model: Value = serde_json::from_str(&said).expect("JSON");
    let partitions = model["partitions"].as_array();
    let partitions = partitions.unwrap_or_else(|| panic!("its copies: {said}"));
    let of = |partition: &Value| {
        let followers = partition["in_sync"].as_array().cloned().unwrap_or_default();
        let mut all = vec![partition["holder"].clone()];
        all.extend(followers);
        all.iter()
            .filter_map(|id| id.as_str().map(str::to_owned))
            .collect()
    };
    partitions.iter().map(of).collect()
}

fn apart(space: &Space) -> Option<()> {
    let zones = zones(space);
    let copies = copies(space);
    let is_apart = |servers: &Vec<String>| {
        let first = servers.first().and_then(|s| zones.get(s));
        let second = servers.get(1).and_then(|s| zones.get(s));
        servers.len() == 2 && first.is_some() && second.is_some() && first != second
    };
    (!copies.is_empty() && copies.iter().all(is_apart)).then_some(())
}

#[test]
#[ignore = "needs a cluster: make test-kubernetes"]
fn the_master_knows_the_zone_of_each_server_and_copies_lie_in_different_ones() {
    turns::alone();
    let machines = Zones::of_machines();
    let space = Space::new("zones");
    space.parameter_server("lda", "{servers: 4, modelDefaults: {copies: 2}}");
    space.ready("lda", 4);
    let expected = || -> BTreeMap<String, String> {
        let servers = space.look("lda")["status"]["servers"].clone();
        let servers = servers.as_array().expect("a list").clone();
        let zone = |server: &Value| {
            let first = server["node"] == machines.0[0].as_str();
            let zone = if first { "west" } else { "east" };
            (
                server["name"].as_str().expect("a name").to_owned(),
                zone.to_owned(),
            )
        };
        servers.iter().map(zone).collect()
    };
    eventually("the master knows all zones", 30, || {
        (zones(&space) == expected()).then_some(())
    });
    let shown = processes::glint(&space, "lda", &["status"]);
    for word in ["ZONE", "west", "east"] {
        assert!(shown.contains(word), "{word}: {shown}");
    }
    let training = Training::start(&space, "lda", "memory");
    eventually(
        "both copies of each partition are in different zones",
        60,
        || apart(&space),
    );

    // The master forgets nothing of it, and a server that starts again where it was is there at once.
    space.kill_pod("lda-master-0");
    eventually("the master is back, and knows", 30, || {
        (zones(&space) == expected()).then_some(())
    });
    space.kill_pod("lda-server-3");
    space.ready("lda", 4);
    eventually("and of the server that was restarted, too", 30, || {
        (zones(&space) == expected()).then_some(())
    });
    eventually("the copies are apart again", 90, || apart(&space));

    // Told once: nothing is said again at each look.
    let words = || {
        let log = space.kubectl(&["logs", "lda-master-0"]);
        log.matches("where a server runs was told").count()
    };
    let before = words();
    space.kubectl(&["annotate", "--overwrite", "pserver", "lda", "look=now"]);
    thread::sleep(Duration::from_secs(3));
    assert_eq!(words(), before, "told again though nothing is new");
    training.goes_on();
    training.finish();
}

/// Takes the right away, and gives it back with this.
struct WithoutRight;

impl WithoutRight {
    fn now() -> Self {
        let this = Self;
        let binding = "glint-system-glint-operator-zones";
        kubectl(&["delete", "clusterrolebinding", binding]);
        this
    }
}

impl Drop for WithoutRight {
    fn drop(&mut self) {
        install();
    }
}

#[test]
#[ignore = "needs a cluster: make test-kubernetes"]
fn an_operator_that_may_not_read_zones_says_so_once_and_goes_on_without() {
    turns::alone();
    let space = Space::new("zoneless");
    let without = WithoutRight::now();
    let before = operators();
    kubectl(&["-n", SYSTEM, "delete", "pod", "-l", OPERATOR]);
    eventually("another operator works", 60, || {
        let now = operators();
        now.iter().any(|pod| !before.contains(pod)).then_some(())
    });
    space.parameter_server("lda", "{servers: 2}");
    space.ready("lda", 2);
    space.kubectl(&["annotate", "--overwrite", "pserver", "lda", "look=now"]);
    thread::sleep(Duration::from_secs(3));
    let said = space.find(&[
        "events",
        "--field-selector",
        "involvedObject.name=lda,reason=ZonesUnknown",
    ]);
    let said = said.expect("a list")["items"].clone();
    assert_eq!(said.as_array().map(Vec::len), Some(1), "{said}");
    drop(without);
}
