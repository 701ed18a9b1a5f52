//! A quota stands against a pod or a volume: it is said which, as long as it does.

use glint_tests_kubernetes::{
    installation::{counted, operators},
    stories::{Space, eventually},
};
use serde_json::Value;

use crate::changes::calm;

#[test]
#[ignore = "needs a cluster: make test-kubernetes"]
fn a_quota_that_is_exceeded_is_named_as_long_as_it_stands_against_a_pod_and_told_once() {
    let space = Space::new("quota");
    space.try_apply(&quota("pods: '2'")).expect("a quota");
    space.parameter_server("lda", "{servers: 3}");
    let said = space.condition("lda", "Degraded", "True", "PodRefused");
    assert!(said.contains("quota"), "{said}");
    calm(&space, 1);
    // Kubernetes forgets its events in time, and what tries to make the pods tries ever more rarely.
    space.kubectl(&[
        "delete",
        "events",
        "--field-selector",
        "reason=FailedCreate",
    ]);
    look_again(&space);
    let conditions = space.look("lda")["status"]["conditions"].clone();
    let refused = |c: &Value| c["type"] == "Degraded" && c["reason"] == "PodRefused";
    let conditions = conditions.as_array().expect("conditions");
    assert!(conditions.iter().any(refused), "{conditions:?}");
    let told = space.events("lda");
    let told = told.iter().filter(|reason| *reason == "PodRefused").count();
    assert_eq!(told, 1, "it was told {told} times");
    // What stood against it is taken away.
    space.kubectl(&["delete", "resourcequota", "few"]);
    // Its controller would try again in some minutes; a change has it try now.
    space.parameter_server("lda", "{servers: 3, annotations: {example.com/try: again}}");
    space.ready("lda", 3);
}

fn quota(hard: &str) -> String {
    format!(
        "apiVersion: v1\nkind: ResourceQuota\nmetadata: {{name: few}}\nspec: {{hard: {{{hard}}}}}\n"
    )
}

/// Has the operator look at `lda` again, and waits until it has.
fn look_again(space: &Space) {
    let pod = operators().into_iter().next().expect("an operator");
    let of_it = format!("namespace=\"{}\"", space.name());
    let looks = || counted(&pod, "glint_operator_reconciliations_total", &[&of_it]);
    let before = looks();
    let now = format!("look={before}");
    space.kubectl(&["annotate", "--overwrite", "pserver", "lda", &now]);
    // One may have begun before.
    eventually("it was looked at", 60, || {
        (looks() >= before + 2.0).then_some(())
    });
}

#[test]
#[ignore = "needs a cluster: make test-kubernetes"]
fn a_quota_that_stands_against_the_master_alone_is_named() {
    let space = Space::new("claimless");
    space
        .try_apply(&quota("persistentvolumeclaims: '0'"))
        .expect("a quota");
    // The servers have no volumes, so nothing stands against them.
    space.parameter_server("lda", "{servers: 2}");
    let said = space.condition("lda", "Degraded", "True", "PodRefused");
    for word in ["lda-master", "quota", "persistentvolumeclaims"] {
        assert!(said.contains(word), "{word}: {said}");
    }
    let pods = space.find(&["pods", "-l", "app.kubernetes.io/component=server"]);
    let pods = pods.and_then(|list| list["items"].as_array().map(Vec::len));
    assert_eq!(pods, Some(2), "the servers are there");
    assert!(space.events("lda").contains(&"PodRefused".to_owned()));
}
