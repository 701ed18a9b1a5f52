//! What the chart renders, and the definitions, as the API server judges them: nothing of it is installed.

use glint_tests_kubernetes::{
    installation::{SYSTEM, operator},
    stories::{project, run},
};
use serde_json::{Value, json};

#[test]
#[ignore = "needs a cluster: make test-kubernetes"]
fn definitions_are_taken_by_plain_kubectl_apply_and_by_server_side_apply() {
    operator();
    let crds = project("crds");
    let crds = crds.to_str().expect("a path");
    // Its annotation must hold the whole definition.
    let said = run("kubectl", &["apply", "--dry-run=server", "-f", crds], "").expect("client-side");
    assert!(said.contains("parameterservers.glint.dev"), "{said}");
    run(
        "kubectl",
        &[
            "apply",
            "--server-side",
            "--dry-run=server",
            "--force-conflicts",
            "-f",
            crds,
        ],
        "",
    )
    .expect("server-side");
}

#[test]
#[ignore = "needs a cluster: make test-kubernetes"]
fn the_chart_is_clean_and_refuses_values_that_it_does_not_know() {
    operator();
    let chart = project("charts/glint");
    let chart = chart.to_str().expect("a path");
    run("helm", &["lint", "--strict", chart], "").expect("clean");
    let render = |value: &str| run("helm", &["template", "glint", chart, "--set", value], "");
    for (value, word) in [
        ("crds.instal=true", "instal"),
        ("replica=2", "replica"),
        ("image.pullPolicy=Sometimes", "pullPolicy"),
        ("metrics.interval=often", "interval"),
        ("replicas=2,leaderElection.enabled=false", "leaderElection"),
    ] {
        let said = render(value).expect_err(value);
        assert!(said.contains(word), "{value}: {said}");
    }
    let scoped = render("watchNamespaces={a,b}").expect("scoped");
    assert_eq!(
        scoped.matches("kind: ClusterRoleBinding").count(),
        1,
        "cluster-wide is what it may ask of nodes"
    );
    assert_eq!(scoped.matches("kind: RoleBinding").count(), 3);
    let zoneless = render("watchNamespaces={a},zones=false").expect("without zones");
    assert!(!zoneless.contains("kind: ClusterRoleBinding"), "{zoneless}");
    let without = render("crds.install=false").expect("without definitions");
    assert!(!without.contains("kind: CustomResourceDefinition"));
}

#[test]
#[ignore = "needs a cluster: make test-kubernetes"]
fn what_the_chart_makes_of_any_values_is_valid_for_the_api_server_to_the_last_field() {
    operator();
    let chart = project("charts/glint");
    let chart = chart.to_str().expect("a path");
    for values in [
        "replicas=1",
        "replicas=2,leaderElection.seconds=30",
        "crds.keep=false",
        "crds.install=false,rbac.aggregate=false",
        "watchNamespaces={default},zones=false",
        "image.repository=registry.example/glint,image.tag=v1,imagePullSecrets[0].name=key",
        "image.digest=sha256:0000000000000000000000000000000000000000000000000000000000000000",
        "serviceAccount.create=false,serviceAccount.name=mine",
        "serviceAccount.annotations.a=b,podLabels.a=b,podAnnotations.a=b,nodeSelector.a=b",
        "tolerations[0].key=a,tolerations[0].operator=Exists,priorityClassName=system-node-critical",
        "affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight=1,\
         affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].preference.matchFields[0].key=metadata.name,\
         affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].preference.matchFields[0].operator=In,\
         affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].preference.matchFields[0].values={a}",
    ] {
        // Another name than the one that runs, so that nothing is there to be compared with; the definition is.
        let named = ["template", "checked", chart, "-n", SYSTEM, "--set", values];
        let manifests = run("helm", &named, "").expect(values);
        let strict = "--validate=strict";
        let asked = [
            "apply",
            "--server-side",
            "--force-conflicts",
            "--dry-run=server",
            strict,
            "-f",
            "-",
        ];
        run("kubectl", &asked, &manifests).unwrap_or_else(|e| panic!("{values}: {e}"));
    }
}

/// All objects of some manifests.
fn objects(manifests: &str) -> Vec<Value> {
    let documents = format!("\n{manifests}");
    let documents = documents.split("\n---");
    let parsed = documents.map(|text| serde_saphyr::from_str(text).expect("YAML"));
    parsed.filter(|object: &Value| !object.is_null()).collect()
}

#[test]
#[ignore = "needs a cluster: make test-kubernetes"]
fn monitors_are_made_when_asked_for_and_find_the_port_with_the_metrics() {
    operator();
    let chart = project("charts/glint");
    let chart = chart.to_str().expect("a path");
    let render = |values: &str| {
        let named = ["template", "glint", chart, "-n", SYSTEM, "--set", values];
        objects(&run("helm", &named, "").expect(values))
    };
    let find = |objects: &[Value], kind: &str| {
        let mut of_kind = objects.iter().filter(|object| object["kind"] == kind);
        of_kind.next().cloned()
    };
    let has = |labels: &Value, selector: &Value| {
        let selector = selector.as_object().expect("labels");
        assert!(!selector.is_empty());
        selector.iter().all(|(name, value)| labels[name] == *value)
    };
    let more = "metrics.labels.release=prometheus,metrics.interval=7s";
    let with_pods = render(&format!("metrics.podMonitor=true,{more}"));
    let deployment = find(&with_pods, "Deployment").expect("a Deployment");
    let template = &deployment["spec"]["template"];
    let port = &template["spec"]["containers"][0]["ports"][0];
    assert_eq!(
        (&port["name"], &port["containerPort"]),
        (&json!("http"), &json!(8080))
    );
    let monitor = find(&with_pods, "PodMonitor").expect("a PodMonitor");
    assert_eq!(monitor["apiVersion"], "monitoring.coreos.com/v1");
    assert_eq!(monitor["metadata"]["namespace"], SYSTEM);
    assert_eq!(monitor["metadata"]["labels"]["release"], "prometheus");
    let endpoint = json!([{"port": "http", "path": "/metrics", "interval": "7s"}]);
    assert_eq!(monitor["spec"]["podMetricsEndpoints"], endpoint);
    let pods = &template["metadata"]["labels"];
    assert!(has(pods, &monitor["spec"]["selector"]["matchLabels"]));
    assert!(find(&with_pods, "ServiceMonitor").is_none());

    let with_service = render(&format!("metrics.serviceMonitor=true,{more}"));
    let monitor = find(&with_service, "ServiceMonitor").expect("a ServiceMonitor");
    assert_eq!(monitor["spec"]["endpoints"], endpoint);
    assert_eq!(monitor["metadata"]["labels"]["release"], "prometheus");
    let service = find(&with_service, "Service").expect("a Service");
    let labels = &service["metadata"]["labels"];
    assert!(has(labels, &monitor["spec"]["selector"]["matchLabels"]));
    assert_eq!(service["spec"]["ports"][0]["name"], "http");
    assert_eq!(service["spec"]["ports"][0]["targetPort"], port["name"]);
    assert!(has(pods, &service["spec"]["selector"]));
    assert!(find(&with_service, "PodMonitor").is_none());

    let plain = render("replicas=1");
    for kind in ["PodMonitor", "ServiceMonitor", "Service"] {
        assert!(find(&plain, kind).is_none(), "{kind} unasked");
    }
}
