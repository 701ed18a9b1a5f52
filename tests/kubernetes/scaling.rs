//! Servers are added, emptied and taken away while a Job pulls and pushes.

use std::{thread, time::Duration};

use glint_tests_kubernetes::{
    audit,
    processes::{self, Frozen},
    stories::{Space, eventually},
    training::Training,
};
use serde_json::Value;

/// What the status says of the servers: name, whether it is being emptied, partitions.
fn servers(space: &Space) -> Vec<(String, bool, i64)> {
    let status = space.look("lda")["status"].clone();
    let list = status["servers"].as_array().cloned().unwrap_or_default();
    list.iter()
        .map(|server| {
            (
                server["name"].as_str().unwrap_or_default().to_owned(),
                server["draining"] == true,
                server["partitions"].as_i64().unwrap_or(0),
            )
        })
        .collect()
}

fn replicas(space: &Space) -> Value {
    space
        .find(&["statefulset", "lda-server"])
        .expect("it is there")["spec"]["replicas"]
        .clone()
}

#[test]
#[ignore = "needs a cluster: make test-kubernetes"]
fn kubectl_scale_from_2_to_4_to_1_moves_everything_while_a_job_pushes() {
    let space = Space::new("scale");
    // Of durability memory, with one copy: whatever were not moved would be lost.
    space.parameter_server("lda", "{servers: 2, storage: {size: 1Gi}}");
    space.ready("lda", 2);
    let training = Training::start(&space, "lda", "memory");
    space.kubectl(&["scale", "pserver", "lda", "--replicas=4"]);
    space.ready("lda", 4);
    eventually("the new servers have their share", 90, || {
        let servers = servers(&space);
        (servers.len() == 4 && servers.iter().all(|(.., partitions)| *partitions > 0)).then_some(())
    });
    training.goes_on();
    space.kubectl(&["scale", "pserver", "lda", "--replicas=1"]);
    space.ready("lda", 1);
    assert_eq!(replicas(&space), 1);
    assert_eq!(servers(&space), [("lda-server-0".to_owned(), false, 16)]);
    let events = space.events("lda");
    for event in ["ScalingUp", "ScalingDown"] {
        assert!(events.contains(&event.to_owned()), "{event}: {events:?}");
    }
    training.goes_on();
    // What went comes back as new.
    space.kubectl(&["scale", "pserver", "lda", "--replicas=2"]);
    space.ready("lda", 2);
    eventually("it has its share again", 90, || {
        servers(&space)
            .iter()
            .all(|(_, draining, partitions)| !draining && *partitions > 0)
            .then_some(())
    });
    training.finish();
}

#[test]
#[ignore = "needs a cluster: make test-kubernetes"]
fn a_scale_down_that_does_not_fit_is_refused_with_the_numbers_and_nothing_shrinks() {
    let space = Space::new("tight");
    // Values may take 80 % of 256 MiB, which are 214 MB, and there are 300 MB of them: they need two servers.
    let spec = "{servers: 3, resources: {requests: {memory: 32Mi}, limits: {memory: 256Mi}}}";
    space.parameter_server("lda", spec);
    space.ready("lda", 3);
    processes::glint(
        &space,
        "lda",
        &[
            "model",
            "create",
            "large",
            "--vector",
            "37_500_000",
            "--element",
            "f64",
        ],
    );
    let training = Training::start(&space, "lda", "memory");
    space.kubectl(&["scale", "pserver", "lda", "--replicas=1"]);
    let said = space.condition("lda", "Progressing", "False", "ScaleDownRefused");
    assert!(
        said.contains("1 servers are too few, and none was taken away"),
        "{said}"
    );
    // The bytes that go, and those that are free.
    let bytes = said.matches(" bytes)").count();
    assert!(bytes == 2 && said.contains("--memory"), "{said}");
    assert_eq!(
        space.condition("lda", "Degraded", "True", "ScaleDownRefused"),
        said
    );
    assert_eq!(replicas(&space), 3);
    // The refusal is asked for again and again, and changes nothing.
    let before = audit::calls(space.name());
    thread::sleep(Duration::from_secs(20));
    let calls = audit::calls(space.name()) - before;
    assert!(calls <= 14, "{calls} calls in 20 s");
    let kept = || {
        servers(&space)
            .iter()
            .all(|(_, draining, partitions)| !draining && *partitions > 0)
    };
    assert!(kept(), "{:?}", servers(&space));
    assert!(space.events("lda").contains(&"ScaleDownRefused".to_owned()));
    training.goes_on();
    // One fewer fits.
    space.kubectl(&["scale", "pserver", "lda", "--replicas=2"]);
    space.ready("lda", 2);
    assert_eq!(replicas(&space), 2);
    training.finish();
}

#[test]
#[ignore = "needs a cluster: make test-kubernetes"]
fn scaled_up_again_in_the_middle_of_a_scale_down_the_servers_stay() {
    let space = Space::new("wavering");
    space.parameter_server("lda", "{servers: 3}");
    space.ready("lda", 3);
    let pods = || [0, 1, 2].map(|n| space.uid("pod", &format!("lda-server-{n}")));
    let before = pods();
    let training = Training::start(&space, "lda", "memory");
    // What it holds cannot move meanwhile.
    let frozen = Frozen::server(&space, "lda", 2);
    space.kubectl(&["scale", "pserver", "lda", "--replicas=1"]);
    eventually("two servers are being emptied", 60, || {
        (servers(&space)
            .iter()
            .filter(|(_, draining, _)| *draining)
            .count()
            == 2)
            .then_some(())
    });
    space.kubectl(&["scale", "pserver", "lda", "--replicas=3"]);
    drop(frozen);
    space.ready("lda", 3);
    eventually("none is being emptied", 60, || {
        servers(&space)
            .iter()
            .all(|(_, draining, _)| !draining)
            .then_some(())
    });
    assert_eq!(pods(), before, "no server was taken away");
    training.goes_on();
    training.finish();
}

#[test]
#[ignore = "needs a cluster: make test-kubernetes"]
fn deleted_in_the_middle_of_a_scale_down_everything_goes() {
    let space = Space::new("midway");
    space.parameter_server(
        "lda",
        "{servers: 3, storage: {size: 1Gi, retention: Delete}}",
    );
    space.ready("lda", 3);
    let training = Training::start(&space, "lda", "async");
    let frozen = Frozen::server(&space, "lda", 2);
    space.kubectl(&["scale", "pserver", "lda", "--replicas=1"]);
    eventually("servers are being emptied", 60, || {
        servers(&space)
            .iter()
            .any(|(_, draining, _)| *draining)
            .then_some(())
    });
    space.kubectl(&["delete", "pserver", "lda", "--wait", "--timeout=30s"]);
    drop(frozen);
    // The judge has nothing to judge: it waits for servers that never come.
    training.give_up();
    space.nothing_is_left(120);
    eventually("no volume is claimed", 60, || {
        (space.claims() == 0).then_some(())
    });
}
