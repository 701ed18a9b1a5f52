//! Pods are killed while a Job pulls and pushes: no call fails, nothing is lost, nothing is doubled.

use glint_tests_kubernetes::{
    installation::{operators, scale},
    processes::Frozen,
    stories::{Space, eventually, kubectl, note, run},
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
    let master = Frozen::pod(&space, "lda-master-0");
    training.goes_on_and_on();
    assert!(master.stands(), "the master answered meanwhile");
    space.kill_pod("lda-master-0");
    assert!(!master.stands(), "it was killed as it stood");
    training.goes_on();
    space.ready("lda", 2);
    assert_eq!(space.look("lda")["status"]["models"], 1);
    training.finish_without_a_wait();
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
    let pods = || [0, 1].map(|n| space.uid("pod", &format!("lda-server-{n}")));
    let before = pods();
    // Nobody brings the one back, and the other can not.
    scale(0);
    space.kubectl(&["scale", "statefulset", "lda-master", "--replicas=0"]);
    let has_master = || space.find(&["pod", "lda-master-0"]).is_some();
    eventually("the master is gone", 60, || (!has_master()).then_some(()));
    training.goes_on_and_on();
    assert!(operators().is_empty() && !has_master(), "one was back");
    scale(1);
    eventually("the master is back", 90, || has_master().then_some(()));
    space.ready("lda", 2);
    assert_eq!(space.uid("statefulset", "lda-server"), set);
    assert_eq!(pods(), before, "no server was touched");
    training.goes_on();
    training.finish_without_a_wait();
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
        ("statefulset", "lda-server"),
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
    // One for each of the seven that were deleted, and for the number.
    let events = space.events("lda");
    let told = events.iter().filter(|reason| *reason == "Restored");
    assert!(told.count() >= 7, "{events:?}");
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
    training.finish_without_a_wait();
}

/// The pods of servers, for `kubectl drain`: the Job is the judge, and stays.
const SERVERS: &str =
    "--pod-selector=app.kubernetes.io/instance=lda,app.kubernetes.io/component=server";

/// A machine that takes no pods, until this is dropped: however a test ends, the others need it.
struct Cordoned(String);

impl Drop for Cordoned {
    fn drop(&mut self) {
        kubectl(&["uncordon", &self.0]);
    }
}

impl Cordoned {
    /// The machine of a pod, which must not take pods from now on.
    fn of(space: &Space, pod: &str) -> Self {
        let machine = machine(space, pod).expect("it runs");
        kubectl(&["cordon", &machine]);
        Self(machine)
    }

    /// Drains it of servers; whether that came to an end.
    fn drain(&self, timeout: &str) -> bool {
        let arguments = ["drain", &self.0, SERVERS, &format!("--timeout={timeout}")];
        run("kubectl", &arguments, "").is_ok()
    }
}

/// Which machine a pod is on.
fn machine(space: &Space, pod: &str) -> Option<String> {
    let pod = space.find(&["pod", pod])?;
    Some(pod["spec"]["nodeName"].as_str()?.to_owned())
}

#[test]
#[ignore = "needs a cluster: make test-kubernetes"]
fn servers_without_volumes_leave_a_machine_that_is_drained_and_go_on_at_another() {
    turns::alone();
    let space = Space::new("moving");
    space.parameter_server("lda", "{servers: 3, modelDefaults: {copies: 2}}");
    space.ready("lda", 3);
    let training = Training::start(&space, "lda", "memory");
    let drained = Cordoned::of(&space, "lda-server-0");
    assert!(drained.drain("150s"), "the drain came to an end");
    space.ready("lda", 3);
    for n in 0..3 {
        let now = machine(&space, &format!("lda-server-{n}"));
        assert!(
            now.is_some_and(|now| now != drained.0),
            "server {n} is on the machine that was drained"
        );
    }
    training.goes_on();
    drop(drained);
    training.finish_without_a_wait();
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
    // Their volumes are on this machine, so they wait for it; where both are on it, the budget lets one go, and the drain gives
    // up on the other.
    let machine = Cordoned::of(&space, "lda-server-0");
    note(if machine.drain("15s") {
        "the drain ended"
    } else {
        "the drain waits for the budget"
    });
    let after = uids();
    drop(machine);
    let evicted = before.iter().zip(&after).filter(|(b, a)| b != a).count();
    assert_eq!(evicted, 1, "the budget lets one server go at a time");
    space.ready("lda", 2);
    training.goes_on();
    training.finish();
}
