//! Installed by the chart or by one file, upgraded, taken away; and a first Job.

use std::{fs, process::Command};

use glint_tests_kubernetes::{
    installation::{SYSTEM, install, install_from, operator, operators, uninstall},
    stories::{Space, eventually, find, kubectl, parameter_server, project, run},
    training::{Training, job},
    turns,
};
use serde_json::Value;

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

/// A package of the chart as an older version might have been: with a definition that lacks a field of the spec.
fn older(field: &str) -> String {
    let folder = project("target/kubernetes/older");
    let _ = fs::remove_dir_all(&folder);
    let crds = folder.join("glint/files/crds");
    fs::create_dir_all(&crds).expect("a folder");
    let copied = Command::new("cp")
        .args(["-r", "--"])
        .args(
            [
                "Chart.yaml",
                "values.yaml",
                "values.schema.json",
                "templates",
            ]
            .map(|file| project("charts/glint").join(file)),
        )
        .arg(folder.join("glint"))
        .status();
    assert!(
        copied.is_ok_and(|status| status.success()),
        "the chart is copied"
    );
    let text = fs::read_to_string(project("crds/parameterservers.yaml")).expect("the definition");
    let mut definition: Value = serde_saphyr::from_str(&text).expect("YAML");
    let spec = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties";
    let fields = definition.pointer_mut(spec).and_then(Value::as_object_mut);
    let gone = fields.and_then(|fields| fields.remove(field));
    assert!(gone.is_some(), "there is no field {field}");
    fs::write(crds.join("parameterservers.yaml"), definition.to_string()).expect("a file");
    let (chart, folder) = (folder.join("glint"), folder.to_str().expect("a path"));
    let chart = chart.to_str().expect("a path");
    run(
        "helm",
        &["package", chart, "--version", "0.0.9", "-d", folder],
        "",
    )
    .expect("a package");
    format!("{folder}/glint-0.0.9.tgz")
}

#[test]
#[ignore = "needs a cluster: make test-kubernetes"]
fn an_upgrade_from_an_older_chart_keeps_objects_and_data_and_brings_the_new_definition() {
    turns::alone();
    operator();
    let older = older("topologySpreadConstraints");
    uninstall();
    install_from(&older, &[]);
    let space = Space::new("upgrade");
    space.parameter_server("lda", "{servers: 2, storage: {size: 1Gi}}");
    space.ready("lda", 2);
    let new_field = "{servers: 1, storage: {size: 1Gi}, topologySpreadConstraints: \
         [{topologyKey: kubernetes.io/hostname, maxSkew: 1, whenUnsatisfiable: ScheduleAnyway}]}";
    let new_field = parameter_server("lda", new_field);
    let said = space.try_apply(&new_field).expect_err("an unknown field");
    assert!(said.contains("topologySpreadConstraints"), "{said}");
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
    // And the new one looks after it, by what its definition knows.
    space
        .try_apply(&new_field)
        .expect("a field that is known now");
    eventually("the new field is followed", 60, || {
        let set = space.find(&["statefulset", "lda-server"])?;
        let spread = &set["spec"]["template"]["spec"]["topologySpreadConstraints"];
        (spread[0]["topologyKey"] == "kubernetes.io/hostname").then_some(())
    });
    training.goes_on();
    training.finish();
    space.ready("lda", 1);
}

#[test]
#[ignore = "needs a cluster: make test-kubernetes"]
fn installed_by_the_one_file_of_manifests_it_works_as_by_the_chart() {
    turns::alone();
    operator();
    uninstall();
    kubectl(&["delete", "crd", "parameterservers.glint.dev", "--wait"]);
    kubectl(&["delete", "namespace", SYSTEM, "--wait"]);
    // As `make manifests` does, with the Helm that renders here.
    let file = project("target/kubernetes/manifests/glint.yaml");
    let file = file.to_str().expect("a path");
    let script = project("scripts/manifests.sh");
    run(script.to_str().expect("a path"), &[file], "").expect("the file is written");
    let text = fs::read_to_string(file).expect("the file");
    assert!(
        !text.contains("Helm"),
        "what no Helm has made is not called its own"
    );
    kubectl(&["apply", "-f", file]);
    eventually("the operator is there", 90, || {
        (!operators().is_empty()).then_some(())
    });
    let namespace = find(&["namespace", SYSTEM]).expect("the namespace");
    let labels = &namespace["metadata"]["labels"];
    assert_eq!(labels["pod-security.kubernetes.io/enforce"], "restricted");
    {
        let space = Space::bare("plain");
        space.parameter_server("lda", "{servers: 2}");
        space.ready("lda", 2);
        let training = Training::start(&space, "lda", "memory");
        // Applied again, as for an upgrade, it finds all as it is.
        let again = kubectl(&["apply", "-f", file]);
        assert!(
            !again.contains("configured") && !again.contains("created"),
            "{again}"
        );
        training.goes_on();
        training.finish();
        space.kubectl(&["delete", "pserver", "lda", "--wait"]);
        space.nothing_is_left(120);
    }
    // As the file says; and as docs/kubernetes.md says of what was applied before.
    kubectl(&["delete", "namespace", SYSTEM, "--wait"]);
    let chart = project("charts/glint");
    install_from(chart.to_str().expect("a path"), &["--take-ownership"]);
}
