//! The operator itself: several of them, none of them, and what it meets.

use std::{thread, time::Duration};

use glint_tests_kubernetes::{
    audit::Writes,
    installation::{self, SYSTEM, counted, holder, operator, operators, scale},
    stories::{Space, eventually, find, kubectl, parameter_server, project, run},
    training::Training,
    turns,
};
use serde_json::Value;

#[test]
#[ignore = "needs a cluster: make test-kubernetes"]
fn of_two_operators_one_writes_and_the_other_takes_over_when_it_dies() {
    turns::alone();
    let space = Space::new("two");
    scale(2);
    let first = holder().expect("one works");
    space.parameter_server("lda", "{servers: 1}");
    space.ready("lda", 1);
    let training = Training::start(&space, "lda", "memory");
    for pod in operators() {
        let looks = counted(&pod, "glint_operator_reconciliations_total", &[]);
        assert_eq!(
            looks > 0.0,
            pod == first,
            "{pod} looked {looks} times; {first} holds the lease"
        );
    }
    kubectl(&[
        "-n",
        SYSTEM,
        "delete",
        "pod",
        &first,
        "--force",
        "--grace-period=0",
    ]);
    eventually("the lease has moved", 60, || {
        holder().filter(|now| *now != first)
    });
    training.goes_on();
    space.parameter_server("lda", "{servers: 2}");
    space.ready("lda", 2);
    scale(1);
    training.goes_on();
    training.finish();
}

#[test]
#[ignore = "needs a cluster: make test-kubernetes"]
fn an_operator_that_loses_its_lease_ends_and_writes_nothing_until_it_has_it_again() {
    turns::alone();
    let space = Space::new("usurped");
    space.parameter_server("lda", "{servers: 1}");
    space.ready("lda", 1);
    let training = Training::start(&space, "lda", "memory");
    let first = holder().expect("one works");
    let restarts = || {
        let pod = find(&["-n", SYSTEM, "pod", &first])?;
        pod["status"]["containerStatuses"][0]["restartCount"].as_i64()
    };
    let before = restarts().expect("it runs");
    // Somebody else has it, for 20 seconds from when it is seen.
    let theirs = r#"{"spec": {"holderIdentity": "somebody-else", "leaseDurationSeconds": 20}}"#;
    kubectl(&[
        "-n",
        SYSTEM,
        "patch",
        "lease",
        "glint-operator",
        "--type=merge",
        "-p",
        theirs,
    ]);
    eventually("the loser has ended, and begun again", 20, || {
        restarts().filter(|now| *now == before + 1)
    });
    let writes = Writes::from_now();
    space.kubectl(&["scale", "pserver", "lda", "--replicas=2"]);
    space.kubectl(&["delete", "networkpolicy", "lda"]);
    thread::sleep(Duration::from_secs(8));
    assert_eq!(
        holder().as_deref(),
        Some("somebody-else"),
        "the time is not over"
    );
    let writes = writes.so_far();
    assert!(writes.is_empty(), "without the lease it wrote: {writes:?}");
    eventually("the lease of somebody who is silent runs out", 60, || {
        holder().filter(|now| *now == first)
    });
    space.ready("lda", 2);
    assert_eq!(restarts(), Some(before + 1));
    training.goes_on();
    training.finish();
}

#[test]
#[ignore = "needs a cluster: make test-kubernetes"]
fn every_line_of_the_log_is_json_and_says_which_object_and_which_look_it_is_about() {
    let space = Space::new("logged");
    space.parameter_server("lda", "{servers: 1}");
    space.ready("lda", 1);
    let log = kubectl(&[
        "-n",
        SYSTEM,
        "logs",
        "-l",
        installation::OPERATOR,
        "--tail=-1",
    ]);
    let (mut events, mut looks) = (0, Vec::new());
    for line in log.lines() {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        for field in ["timestamp", "level", "target", "message"] {
            assert!(line[field].is_string(), "{field} is missing: {line}");
        }
        let look = &line["span"];
        // Whatever is done for an object is done by a look at it.
        let is_done = line["target"]
            .as_str()
            .unwrap_or_default()
            .starts_with("glint_operator::reconcile");
        assert!(!is_done || !look.is_null(), "of which object? {line}");
        if look["namespace"] == "logged" {
            assert_eq!(look["parameterserver"], "lda", "{line}");
            let number = look["number"]
                .as_i64()
                .unwrap_or_else(|| panic!("which look? {line}"));
            looks.push(number);
            events += usize::from(line["message"] == "event" && line["reason"] == "Available");
        }
    }
    assert_eq!(
        events, 1,
        "of the object it is said once that it is available"
    );
    looks.dedup();
    assert!(looks.len() > 1, "several looks, told apart: {looks:?}");
}

#[test]
#[ignore = "needs a cluster: make test-kubernetes"]
fn an_operator_that_ends_in_order_gives_the_lease_back_at_once() {
    turns::alone();
    operator();
    let first = eventually("one works", 60, holder);
    kubectl(&["-n", SYSTEM, "delete", "pod", &first]);
    eventually(
        "another one works, before the lease has run out",
        12,
        || holder().filter(|now| *now != first),
    );
    eventually("it is ready", 60, || (operators().len() == 1).then_some(()));
}

/// Installs the definition, as a user would.
fn define() -> Result<String, String> {
    let crds = project("crds");
    let crds = crds.to_str().expect("a path");
    run("kubectl", &["apply", "-f", crds], "")
}

/// Puts the definition back when a test ends that takes it away, however it ends: all others need it.
struct Definition;

impl Drop for Definition {
    fn drop(&mut self) {
        if let Err(error) = define() {
            eprintln!("the definition could not be put back: {error}");
        }
    }
}

#[test]
#[ignore = "needs a cluster: make test-kubernetes"]
fn an_operator_without_the_definition_waits_unready_and_works_when_it_arrives() {
    turns::alone();
    operator();
    let space = Space::new("late");
    // What there is of other tests goes with the definition, and they have ended.
    scale(0);
    let _definition = Definition;
    kubectl(&["delete", "crd", "parameterservers.glint.dev", "--wait"]);
    let one = ["scale", "deployment", "glint-operator", "--replicas=1"];
    kubectl(&["-n", SYSTEM, one[0], one[1], one[2], one[3]]);
    let pod = eventually("an operator runs", 60, || {
        let pod = installation::pod()?;
        (pod["status"]["phase"] == "Running")
            .then(|| pod["metadata"]["name"].as_str().map(str::to_owned))?
    });
    thread::sleep(Duration::from_secs(4));
    assert!(operators().is_empty(), "it is ready without the definition");
    let log = kubectl(&["-n", SYSTEM, "logs", &pod]);
    assert_eq!(log.matches("is not installed").count(), 1, "{log}");
    assert_eq!(counted(&pod, "glint_operator_definition", &[]), 0.0);
    let told =
        format!("involvedObject.kind=Pod,involvedObject.name={pod},reason=DefinitionMissing");
    let told = || find(&["-n", SYSTEM, "events", "--field-selector", &told]).expect("a list");
    let events = told()["items"].as_array().cloned().unwrap_or_default();
    assert_eq!(events.len(), 1, "{events:?}");
    assert!(events[0]["series"].is_null(), "told once: {}", events[0]);
    let described = kubectl(&["-n", SYSTEM, "describe", "pod", &pod]);
    assert!(described.contains("is not installed"), "{described}");
    define().expect("the definition");
    eventually("the operator is ready", 60, || {
        (operators().len() == 1).then_some(())
    });
    assert_eq!(counted(&pod, "glint_operator_definition", &[]), 1.0);
    space.parameter_server("lda", "{servers: 1}");
    space.ready("lda", 1);
    let restarts = find(&["-n", SYSTEM, "pod", &pod]).expect("the pod");
    assert_eq!(
        restarts["status"]["containerStatuses"][0]["restartCount"],
        0
    );
}

/// The definition with other words about one field, as an older version might have had them; put back with this.
struct Loosened {
    field: Value,
}

impl Loosened {
    fn now() -> Self {
        let definition = find(&["crd", "parameterservers.glint.dev"]).expect("the definition");
        let field = format!("/spec/versions/0{ON_SHUTDOWN}");
        let field = definition.pointer(&field).cloned().expect("the field");
        set_on_shutdown(r#"{"type": "string"}"#);
        Self { field }
    }
}

impl Drop for Loosened {
    fn drop(&mut self) {
        set_on_shutdown(&self.field.to_string());
    }
}

const ON_SHUTDOWN: &str = "/schema/openAPIV3Schema/properties/spec/properties/onShutdown";

fn set_on_shutdown(schema: &str) {
    let patch = format!(
        r#"[{{"op": "replace", "path": "/spec/versions/0{ON_SHUTDOWN}", "value": {schema}}}]"#
    );
    let crd = "parameterservers.glint.dev";
    kubectl(&["patch", "crd", crd, "--type=json", "-p", &patch]);
}

#[test]
#[ignore = "needs a cluster: make test-kubernetes"]
fn an_object_that_cannot_be_read_runs_on_keeps_its_status_and_does_not_stop_the_others() {
    turns::alone();
    let space = Space::new("malformed");
    space.parameter_server("old", "{servers: 1}");
    space.ready("old", 1);
    let training = Training::start(&space, "old", "memory");
    // Of a new model the operator hears when it looks again, in a minute or when something has changed.
    space.kubectl(&["annotate", "pserver", "old", "look=now"]);
    eventually("its status has its model", 90, || {
        (space.look("old")["status"]["partitions"] == 16).then_some(())
    });
    let before = space.look("old")["status"].clone();
    {
        let _loosened = Loosened::now();
        eventually("the malformed object is admitted", 30, || {
            let malformed = parameter_server("old", "{servers: 1, onShutdown: explode}");
            space.try_apply(&malformed).ok()
        });
    }
    for (kind, status) in [("Ready", "False"), ("Degraded", "True")] {
        let said = space.condition("old", kind, status, "InvalidSpec");
        assert!(said.contains("explode"), "{said}");
    }
    let object = space.look("old");
    let (now, meta) = (&object["status"], &object["metadata"]);
    assert_eq!(now["observedGeneration"], meta["generation"]);
    assert_eq!(now["phase"], "Invalid");
    for field in [
        "currentServers",
        "readyServers",
        "models",
        "partitions",
        "selector",
        "image",
    ] {
        assert!(!now[field].is_null(), "{field}: {now}");
        assert_eq!(now[field], before[field], "{field}");
    }
    assert_eq!(now["servers"][0]["name"], "old-server-0", "{now}");
    assert_eq!(now["conditions"].as_array().map(Vec::len), Some(4), "{now}");
    assert!(space.events("old").contains(&"InvalidSpec".to_owned()));
    training.goes_on();
    space.parameter_server("new", "{servers: 1}");
    space.ready("new", 1);
    // And it is looked at again when it is put right.
    space.parameter_server("old", "{servers: 1, onShutdown: drain}");
    space.ready("old", 1);
    training.goes_on();
    training.finish();
}
