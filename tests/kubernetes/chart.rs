//! The chart, the plain manifests, and a first Job.

use glint_tests_kubernetes::{
    stories::{
        SYSTEM, Space, eventually, find, install, install_from, kubectl, operator, operators,
        project, run, uninstall,
    },
    training::{Training, job},
    turns,
};

#[test]
#[ignore = "needs a cluster: make test-kubernetes"]
fn installed_by_chart_a_parameter_server_is_ready_in_half_a_minute_and_a_job_completes() {
    turns::alone();
    let space = Space::new("first");
    let started = std::time::Instant::now();
    space.parameter_server("lda", "{servers: 2}");
    space.ready("lda", 2);
    let took = started.elapsed().as_secs();
    assert!(took <= 30, "it took {took} s");
    space
        .try_apply(&job("short", "lda", "--seconds, '5'"))
        .expect("a Job");
    eventually("the Job completes", 90, || {
        let job = space.find(&["job", "short"])?;
        assert!(
            job["status"]["failed"].as_i64().unwrap_or(0) == 0,
            "the Job failed"
        );
        (job["status"]["succeeded"] == 1).then_some(())
    });
    let columns = space.kubectl(&["get", "pserver", "lda"]);
    let mut words = columns.lines().next().expect("a head").split_whitespace();
    for name in ["NAME", "SERVERS", "READY", "PARTITIONS", "PHASE", "AGE"] {
        assert_eq!(words.next(), Some(name), "{columns}");
    }
    let events = space.events("lda");
    assert!(events.contains(&"Available".to_owned()), "{events:?}");
}

#[test]
#[ignore = "needs a cluster: make test-kubernetes"]
fn a_job_of_another_namespace_works_with_a_copy_of_the_secret() {
    let space = Space::new("serving");
    let elsewhere = Space::new("elsewhere");
    space.parameter_server("lda", "{servers: 1}");
    space.ready("lda", 1);
    // As docs/kubernetes.md says.
    let mut secret = space
        .find(&["secret", "lda-client"])
        .expect("the Secret is there");
    secret["metadata"] = serde_json::json!({"name": "lda-client"});
    elsewhere.try_apply(&secret.to_string()).expect("a copy");
    elsewhere
        .try_apply(&job("short", "lda", "--seconds, '3'"))
        .expect("a Job");
    eventually("the Job completes", 90, || {
        let job = elsewhere.find(&["job", "short"])?;
        (job["status"]["succeeded"] == 1).then_some(())
    });
}

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

#[test]
#[ignore = "needs a cluster: make test-kubernetes"]
fn an_uninstall_keeps_definitions_objects_volumes_and_what_runs() {
    turns::alone();
    let space = Space::new("uninstall");
    space.parameter_server("lda", "{servers: 1, storage: {size: 1Gi}}");
    space.ready("lda", 1);
    let training = Training::start(&space, "lda", "async");
    let pod = space.uid("pod", "lda-server-0");
    uninstall();
    assert!(find(&["crd", "parameterservers.glint.dev"]).is_some());
    assert_eq!(space.look("lda")["spec"]["servers"], 1);
    assert_eq!(space.claims(), 2);
    training.goes_on();
    install();
    space.ready("lda", 1);
    assert_eq!(
        space.uid("pod", "lda-server-0"),
        pod,
        "the pod was not touched"
    );
    training.finish();
}

#[test]
#[ignore = "needs a cluster: make test-kubernetes"]
fn an_upgrade_from_an_older_chart_keeps_objects_and_data() {
    turns::alone();
    operator();
    let folder = project("target/kubernetes/older");
    let folder = folder.to_str().expect("a path");
    let chart = project("charts/glint");
    let chart = chart.to_str().expect("a path");
    let package = ["package", chart, "--version", "0.0.9", "-d", folder];
    run("helm", &package, "").expect("a package");
    uninstall();
    install_from(&format!("{folder}/glint-0.0.9.tgz"), &[]);
    let space = Space::new("upgrade");
    space.parameter_server("lda", "{servers: 2, storage: {size: 1Gi}}");
    space.ready("lda", 2);
    let training = Training::start(&space, "lda", "async");
    let uids = || {
        [
            space.uid("parameterserver", "lda"),
            space.uid("pod", "lda-server-0"),
            space.uid("pod", "lda-server-1"),
        ]
    };
    let (before, operators_before) = (uids(), operators());
    install();
    eventually("another operator works", 60, || {
        let now = operators();
        (!now.is_empty() && now.iter().all(|pod| !operators_before.contains(pod))).then_some(())
    });
    let releases = run("helm", &["list", "-n", SYSTEM, "-o", "json"], "").expect("a list");
    assert!(releases.contains("glint-0.1.0"), "{releases}");
    space.ready("lda", 2);
    assert_eq!(uids(), before, "nothing was touched");
    // And the new one looks after it.
    space.kubectl(&["scale", "pserver", "lda", "--replicas=1"]);
    space.ready("lda", 1);
    training.goes_on();
    training.finish();
}

#[test]
#[ignore = "needs a cluster: make test-kubernetes"]
fn installed_by_plain_manifests_it_works_as_by_the_chart() {
    turns::alone();
    operator();
    uninstall();
    kubectl(&["delete", "crd", "parameterservers.glint.dev", "--wait"]);
    let crds = project("crds");
    kubectl(&["apply", "-f", crds.to_str().expect("a path")]);
    let chart = project("charts/glint");
    let chart = chart.to_str().expect("a path");
    let rendered = [
        "template",
        "glint",
        chart,
        "-n",
        SYSTEM,
        "--set",
        "crds.install=false",
    ];
    let manifests = run("helm", &rendered, "").expect("manifests");
    let plain = |verb: &str| {
        run("kubectl", &[verb, "-f", "-"], &manifests).unwrap_or_else(|e| panic!("{verb}: {e}"))
    };
    plain("apply");
    eventually("the operator is there", 90, || {
        (!operators().is_empty()).then_some(())
    });
    {
        let space = Space::bare("plain");
        space.parameter_server("lda", "{servers: 2}");
        space.ready("lda", 2);
        let training = Training::start(&space, "lda", "memory");
        training.goes_on();
        training.finish();
        space.kubectl(&["delete", "pserver", "lda", "--wait"]);
        space.nothing_is_left(120);
    }
    plain("delete");
    // As docs/kubernetes.md says of definitions that were applied before.
    install_from(chart, &["--take-ownership"]);
}
