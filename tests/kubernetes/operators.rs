//! The operator itself: several of them, none of them, and what it meets.

use std::{thread, time::Duration};

use glint_tests_kubernetes::stories::{
    OPERATOR, SYSTEM, Space, counted, eventually, find, kubectl, operator, operators, project, run,
};
use glint_tests_kubernetes::turns;

fn holder() -> Option<String> {
    let lease = find(&["-n", SYSTEM, "lease", "glint-operator"])?;
    let holder = lease["spec"]["holderIdentity"].as_str()?;
    (!holder.is_empty()).then(|| holder.to_owned())
}

fn scale(count: usize) {
    kubectl(&[
        "-n",
        SYSTEM,
        "scale",
        "deployment",
        "glint-operator",
        &format!("--replicas={count}"),
    ]);
    eventually(&format!("{count} operators are ready"), 90, || {
        (operators().len() == count).then_some(())
    });
}

#[test]
#[ignore = "needs a cluster: make test-kubernetes"]
fn of_two_operators_one_writes_and_the_other_takes_over_when_it_dies() {
    turns::alone();
    let space = Space::new("two");
    scale(2);
    let first = holder().expect("one works");
    space.parameter_server("lda", "{servers: 1}");
    space.ready("lda", 1);
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
    space.parameter_server("lda", "{servers: 2}");
    space.ready("lda", 2);
    scale(1);
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
    kubectl(&[
        "-n",
        SYSTEM,
        "scale",
        "deployment",
        "glint-operator",
        "--replicas=1",
    ]);
    let pod = eventually("an operator runs", 60, || {
        let list = find(&["-n", SYSTEM, "pods", "-l", OPERATOR])?;
        // One that worked before may still be there, about to go.
        let stays = |pod: &&serde_json::Value| pod["metadata"]["deletionTimestamp"].is_null();
        let pod = list["items"].as_array()?.iter().find(stays)?;
        (pod["status"]["phase"] == "Running")
            .then(|| pod["metadata"]["name"].as_str().map(str::to_owned))?
    });
    thread::sleep(Duration::from_secs(4));
    assert!(operators().is_empty(), "it is ready without the definition");
    let log = kubectl(&["-n", SYSTEM, "logs", &pod]);
    assert_eq!(log.matches("is not installed").count(), 1, "{log}");
    define().expect("the definition");
    eventually("the operator is ready", 60, || {
        (operators().len() == 1).then_some(())
    });
    space.parameter_server("lda", "{servers: 1}");
    space.ready("lda", 1);
    let restarts = find(&["-n", SYSTEM, "pod", &pod]).expect("the pod");
    assert_eq!(
        restarts["status"]["containerStatuses"][0]["restartCount"],
        0
    );
}

#[test]
#[ignore = "needs a cluster: make test-kubernetes"]
fn an_object_that_cannot_be_read_does_not_stop_the_others() {
    turns::alone();
    let space = Space::new("malformed");
    // As an older version of the definition might have admitted: the rules are put aside for a moment.
    let set = |value: &str| {
        let patch = format!(
            r#"[{{"op": "replace", "path": "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/onShutdown", "value": {value}}}]"#
        );
        kubectl(&[
            "patch",
            "crd",
            "parameterservers.glint.dev",
            "--type=json",
            "-p",
            &patch,
        ]);
    };
    let definition = find(&["crd", "parameterservers.glint.dev"]).expect("the definition");
    let field = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
        ["properties"]["onShutdown"];
    set(r#"{"type": "string"}"#);
    eventually("the malformed object is admitted", 30, || {
        space
            .try_apply(&glint_tests_kubernetes::stories::parameter_server(
                "old",
                "{onShutdown: explode}",
            ))
            .ok()
    });
    set(&field.to_string());
    let said = space.condition("old", "Ready", "False", "InvalidSpec");
    assert!(said.contains("explode"), "{said}");
    space.parameter_server("new", "{servers: 1}");
    space.ready("new", 1);
    // And it is looked at again when it is put right.
    space.kubectl(&[
        "patch",
        "pserver",
        "old",
        "--type=merge",
        "-p",
        r#"{"spec": {"onShutdown": "none"}}"#,
    ]);
    space.ready("old", 1);
}
