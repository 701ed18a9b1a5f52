//! Pods are killed while a Job pulls and pushes: no call fails, nothing is lost, nothing is doubled.

use glint_tests_kubernetes::{
    stories::{OPERATOR, SYSTEM, Space, eventually, kubectl, operators, run},
    training::Training,
    turns,
};

const DURABLE: &str = "{servers: 2, storage: {size: 1Gi}, rollout: restart}";

#[test]
#[ignore = "needs a cluster: make test-kubernetes"]
fn a_killed_server_comes_back_with_its_volume_and_nobody_notices_but_by_waiting() {
    let space = Space::new("killed-server");
    space.parameter_server("lda", DURABLE);
    space.ready("lda", 2);
    let training = Training::start(&space, "lda", "async");
    for server in ["lda-server-0", "lda-server-1"] {
        space.kill_pod(server);
        training.goes_on();
    }
    space.ready("lda", 2);
    training.finish();
}

#[test]
#[ignore = "needs a cluster: make test-kubernetes"]
fn training_goes_on_while_the_master_is_gone_and_it_knows_everything_when_it_returns() {
    let space = Space::new("killed-master");
    space.parameter_server("lda", DURABLE);
    space.ready("lda", 2);
    let training = Training::start(&space, "lda", "sync");
    space.kill_pod("lda-master-0");
    training.goes_on();
    space.ready("lda", 2);
    assert_eq!(space.look("lda")["status"]["models"], 1);
    training.finish();
}

#[test]
#[ignore = "needs a cluster: make test-kubernetes"]
fn training_goes_on_while_operator_and_master_are_gone_together() {
    turns::alone();
    let space = Space::new("killed-operator");
    space.parameter_server("lda", DURABLE);
    space.ready("lda", 2);
    let training = Training::start(&space, "lda", "async");
    let set = space.uid("statefulset", "lda-server");
    let pods: Vec<_> = (0..2)
        .map(|n| space.uid("pod", &format!("lda-server-{n}")))
        .collect();
    let before = operators();
    kubectl(&[
        "-n",
        SYSTEM,
        "delete",
        "pod",
        "-l",
        OPERATOR,
        "--force",
        "--grace-period=0",
    ]);
    space.kill_pod("lda-master-0");
    training.goes_on();
    eventually("another operator is there", 90, || {
        operators()
            .iter()
            .any(|pod| !before.contains(pod))
            .then_some(())
    });
    space.ready("lda", 2);
    assert_eq!(space.uid("statefulset", "lda-server"), set);
    let after: Vec<_> = (0..2)
        .map(|n| space.uid("pod", &format!("lda-server-{n}")))
        .collect();
    assert_eq!(after, pods, "no server was touched");
    training.finish();
}

#[test]
#[ignore = "needs a cluster: make test-kubernetes"]
fn what_is_deleted_or_changed_by_others_is_made_again() {
    let space = Space::new("healing");
    space.parameter_server("lda", DURABLE);
    space.ready("lda", 2);
    let training = Training::start(&space, "lda", "async");
    for (kind, name) in [
        ("service", "lda-master"),
        ("service", "lda-server"),
        ("secret", "lda-client"),
        ("networkpolicy", "lda"),
        ("poddisruptionbudget", "lda-server"),
        ("statefulset", "lda-master"),
    ] {
        let before = space.uid(kind, name).expect("it was made");
        space.kubectl(&["delete", kind, name]);
        // Secrets are not watched: a look at the object finds out, here one that is asked for.
        if kind == "secret" {
            space.kubectl(&["annotate", "--overwrite", "pserver", "lda", "look=now"]);
        }
        eventually(&format!("{kind} {name} is made again"), 90, || {
            space.uid(kind, name).filter(|uid| *uid != before)
        });
    }
    space.kubectl(&["scale", "statefulset", "lda-server", "--replicas=1"]);
    eventually("the number of servers is put back", 60, || {
        let set = space.find(&["statefulset", "lda-server"])?;
        (set["spec"]["replicas"] == 2).then_some(())
    });
    space.ready("lda", 2);
    assert!(space.events("lda").contains(&"Restored".to_owned()));
    training.finish();
}

#[test]
#[ignore = "needs a cluster: make test-kubernetes"]
fn with_two_copies_in_memory_a_killed_server_costs_nothing_but_a_moment() {
    let space = Space::new("copies");
    space.parameter_server("lda", "{servers: 3, modelDefaults: {copies: 2}}");
    space.ready("lda", 3);
    let training = Training::start(&space, "lda", "memory");
    space.kill_pod("lda-server-1");
    training.goes_on();
    space.ready("lda", 3);
    training.finish();
}

#[test]
#[ignore = "needs a cluster: make test-kubernetes"]
fn a_machine_that_is_drained_and_comes_back_loses_nothing() {
    turns::alone();
    let space = Space::new("drained");
    space.parameter_server("lda", DURABLE);
    space.ready("lda", 2);
    let training = Training::start(&space, "lda", "sync");
    let uids = || [0, 1].map(|n| space.uid("pod", &format!("lda-server-{n}")));
    let before = uids();
    let pod = space.find(&["pod", "lda-server-0"]).expect("it is there");
    let machine = pod["spec"]["nodeName"].as_str().expect("it runs");
    // Only the servers, since the Job is the judge. Their volumes are on this machine, so they wait for it; where both are
    // on it, the budget lets one go, and the drain gives up on the other.
    let servers =
        "--pod-selector=app.kubernetes.io/instance=lda,app.kubernetes.io/component=server";
    let drained = run("kubectl", &["drain", machine, servers, "--timeout=15s"], "");
    eprintln!(
        "    the drain {}",
        if drained.is_ok() {
            "ended"
        } else {
            "waits for the budget"
        }
    );
    let after = uids();
    kubectl(&["uncordon", machine]);
    let evicted = before.iter().zip(&after).filter(|(b, a)| b != a).count();
    assert_eq!(evicted, 1, "the budget lets one server go at a time");
    space.ready("lda", 2);
    training.goes_on();
    training.finish();
}
