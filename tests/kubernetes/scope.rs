//! An operator that is to look after some namespaces only.

use std::{thread, time::Duration};

use glint_tests_kubernetes::{
    audit,
    installation::{self, SYSTEM, install, install_from},
    stories::{Space, eventually, find, kubectl, parameter_server, project, run},
    training::Training,
    turns,
};
use serde_json::Value;

/// The operator looks after all namespaces again when this is dropped, however a test ends.
struct Everywhere;

impl Drop for Everywhere {
    fn drop(&mut self) {
        install();
    }
}

#[test]
#[ignore = "needs a cluster: make test-kubernetes"]
fn with_watch_namespaces_it_works_in_those_alone_and_asks_for_nothing_that_it_may_not() {
    turns::alone();
    let (inside, other, outside) = (
        Space::new("inside"),
        Space::new("inside-too"),
        Space::new("outside"),
    );
    let _everywhere = Everywhere;
    let before = audit::operator().len();
    let old = installation::pod().expect("an operator")["metadata"]["name"].clone();
    let chart = project("charts/glint");
    let chart = chart.to_str().expect("a path");
    install_from(chart, &["--set", "watchNamespaces={inside,inside-too}"]);
    let new = eventually("another operator has the lease", 60, || {
        installation::holder().filter(|now| old != now.as_str())
    });
    let role = "glint-system-glint-operator";
    assert!(
        find(&["clusterrole", role]).is_none(),
        "no right is for all namespaces"
    );

    outside
        .try_apply(&parameter_server("lda", "{servers: 1}"))
        .expect("an object");
    inside.parameter_server("lda", "{servers: 2}");
    other.parameter_server("lda", "{servers: 1}");
    inside.ready("lda", 2);
    other.ready("lda", 1);
    let training = Training::start(&inside, "lda", "memory");
    inside.kubectl(&["scale", "pserver", "lda", "--replicas=1"]);
    inside.ready("lda", 1);
    thread::sleep(Duration::from_secs(3));
    assert!(outside.look("lda")["status"].is_null(), "it was looked at");
    assert!(outside.find(&["statefulset", "lda-server"]).is_none());

    // What was asked by this operator: the one before it is still about to go when its rights do.
    let asked: Vec<Value> = audit::operator()
        .into_iter()
        .skip(before)
        .filter(|entry| {
            let pod = &entry["user"]["extra"]["authentication.kubernetes.io/pod-name"];
            pod[0] == new.as_str()
        })
        .collect();
    assert!(asked.len() > 20, "{} calls", asked.len());
    for entry in &asked {
        let decision = &entry["annotations"]["authorization.k8s.io/decision"];
        assert_ne!(decision, "forbid", "{entry}");
        let namespace = entry["objectRef"]["namespace"].as_str().unwrap_or_default();
        let nodes = entry["objectRef"]["resource"] == "nodes";
        // Reviews of itself and the like are about no object.
        let named = !entry["objectRef"].is_null();
        assert!(
            !named || nodes || ["inside", "inside-too", SYSTEM].contains(&namespace),
            "{entry}"
        );
    }
    training.goes_on();
    training.finish();
    // It has no right to a Secret anywhere else.
    let account = format!("--as=system:serviceaccount:{SYSTEM}:glint-operator");
    let may = |namespace: &str| {
        let asked = ["auth", "can-i", "get", "secrets", "-n", namespace, &account];
        // Its code says the same: a no is a failure.
        let said = run("kubectl", &asked, "").unwrap_or_else(|no| no);
        said.lines().next().unwrap_or_default().trim().to_owned()
    };
    assert_eq!(may("inside"), "yes");
    assert_eq!(may("outside"), "no");
    assert_eq!(may("kube-system"), "no");
    kubectl(&["-n", "outside", "delete", "pserver", "lda"]);
}
