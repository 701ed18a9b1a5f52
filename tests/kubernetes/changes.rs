//! A spec is changed, well or badly, while a Job pulls and pushes.

use std::{thread, time::Duration};

use glint_tests_kubernetes::{
    audit::{self, Writes},
    installation::{counted, operators},
    stories::{Space, eventually, kubectl, note},
    training::Training,
    turns,
};

#[test]
#[ignore = "needs a cluster: make test-kubernetes"]
fn an_image_that_cannot_be_had_stops_nothing_and_says_so_and_another_one_rolls() {
    let space = Space::new("images");
    space.parameter_server(
        "lda",
        "{servers: 2, storage: {size: 1Gi}, rollout: restart}",
    );
    space.ready("lda", 2);
    let training = Training::start(&space, "lda", "async");
    let pods: Vec<_> = (0..2)
        .map(|n| space.uid("pod", &format!("lda-server-{n}")))
        .collect();

    let bad = "{servers: 2, storage: {size: 1Gi}, rollout: restart, image: 'localhost:1/no-such:image', imagePullPolicy: IfNotPresent}";
    space.parameter_server("lda", bad);
    let said = space.condition("lda", "Degraded", "True", "ImageUnavailable");
    assert!(said.contains("localhost:1/no-such:image"), "{said}");
    assert!(space.events("lda").contains(&"ImageUnavailable".to_owned()));
    training.goes_on();
    let now: Vec<_> = (0..2)
        .map(|n| space.uid("pod", &format!("lda-server-{n}")))
        .collect();
    assert_eq!(now, pods, "nothing was restarted for it");

    // The same image under another name: what must change is the pods.
    let good = "{servers: 2, storage: {size: 1Gi}, rollout: restart, image: 'docker.io/library/glint:0.1.0'}";
    space.parameter_server("lda", good);
    eventually(
        "all servers were restarted, one after the other",
        180,
        || {
            let object = space.look("lda");
            let image = object["status"]["image"] == "docker.io/library/glint:0.1.0";
            (image
                && object["status"]["phase"] == "Ready"
                && object["status"]["updatedServers"] == 2)
                .then_some(())
        },
    );
    for (n, before) in pods.iter().enumerate() {
        let now = space.uid("pod", &format!("lda-server-{n}"));
        assert_ne!(now, *before, "server {n}");
    }
    eventually("the pod that looked for the image is gone", 60, || {
        space
            .find(&["pod", "lda-image-check"])
            .is_none()
            .then_some(())
    });
    training.finish();
}

#[test]
#[ignore = "needs a cluster: make test-kubernetes"]
fn a_roll_that_would_lose_values_is_held_and_says_what_to_do() {
    let space = Space::new("held");
    space.parameter_server(
        "lda",
        "{servers: 2, storage: {size: 1Gi}, rollout: restart}",
    );
    space.ready("lda", 2);
    let training = Training::start(&space, "lda", "memory");
    let changed = "{servers: 2, storage: {size: 1Gi}, rollout: restart, annotations: {example.com/note: changed}}";
    space.parameter_server("lda", changed);
    let said = space.condition("lda", "Progressing", "False", "RolloutHeld");
    assert!(said.contains("steady-0"), "{said}");
    calm(&space, 1);
    training.goes_on();
    training.finish();
    // The model is gone with the Job, so the roll goes on.
    space.ready("lda", 2);
}

/// Asserts that so many objects in trouble come to cost few calls, once what starts has started. A hot loop never does.
pub(crate) fn calm(space: &Space, objects: usize) {
    let seconds = 20;
    thread::sleep(Duration::from_secs(5));
    eventually("it costs few calls", 90, || {
        let before = audit::calls(space.name());
        thread::sleep(Duration::from_secs(seconds));
        let calls = audit::calls(space.name()) - before;
        let each = calls as f64 / objects as f64 * 60.0 / seconds as f64;
        note(&format!(
            "{objects} objects in trouble: {each:.0} calls a minute for each"
        ));
        (each <= 40.0).then_some(())
    });
}

#[test]
#[ignore = "needs a cluster: make test-kubernetes"]
fn what_cannot_be_followed_is_a_condition_that_says_why_and_never_a_hot_loop() {
    let space = Space::new("bad");
    let cases = [
        (
            "quick",
            "{image: 'localhost:1/no-such:image'}",
            "Degraded",
            "ImageUnavailable",
            "no-such",
        ),
        (
            "classless",
            "{storage: {size: 1Gi, class: no-such-class}}",
            "Degraded",
            "Unschedulable",
            "no-such-class",
        ),
        (
            "secretless",
            "{env: [{name: KEY, valueFrom: {secretKeyRef: {name: no-such-secret, key: k}}}]}",
            "Degraded",
            "PodMisconfigured",
            "no-such-secret",
        ),
        (
            "greedy",
            "{resources: {requests: {memory: 900Ti}}}",
            "Degraded",
            "Unschedulable",
            "memory",
        ),
        (
            "crossed",
            "{resources: {requests: {memory: 2Gi}, limits: {memory: 1Gi}}}",
            "Degraded",
            "InvalidSpec",
            "limit",
        ),
    ];
    for (name, spec, ..) in cases {
        space.parameter_server(name, spec);
    }
    for (name, _, kind, reason, word) in cases {
        let said = space.condition(name, kind, "True", reason);
        assert!(said.contains(word), "{name}: {said}");
    }
    calm(&space, cases.len());
    // Put right, they go on.
    space.parameter_server("quick", "{}");
    space.ready("quick", 1);
}

#[test]
#[ignore = "needs a cluster: make test-kubernetes"]
fn paused_nothing_is_changed_and_afterwards_everything_is_made_up_for() {
    let space = Space::new("paused");
    space.parameter_server("lda", "{servers: 1, paused: true}");
    space.condition("lda", "Paused", "True", "Paused");
    assert!(space.find(&["statefulset", "lda-server"]).is_none());
    space.parameter_server("lda", "{servers: 1, paused: false}");
    space.ready("lda", 1);
    let training = Training::start(&space, "lda", "memory");
    space.parameter_server("lda", "{servers: 2, paused: true}");
    space.condition("lda", "Paused", "True", "Paused");
    space.kubectl(&["delete", "service", "lda-master"]);
    thread::sleep(Duration::from_secs(5));
    assert!(space.find(&["service", "lda-master"]).is_none());
    assert_eq!(space.look("lda")["status"]["phase"], "Paused");
    // What is paused is the operator, and not what runs.
    training.goes_on();
    space.parameter_server("lda", "{servers: 2, paused: false}");
    space.ready("lda", 2);
    assert!(space.find(&["service", "lda-master"]).is_some());
    training.goes_on();
    training.finish();
}

#[test]
#[ignore = "needs a cluster: make test-kubernetes"]
fn a_settled_object_is_looked_at_again_without_a_single_write() {
    turns::alone();
    let space = Space::new("idle");
    space.parameter_server(
        "lda",
        "{servers: 2, storage: {size: 1024Mi}, resources: {requests: {cpu: '0.05'}}}",
    );
    space.ready("lda", 2);
    // What tests before this have left may still be on its way out, and the operator writes for that too.
    eventually("no other object is there", 120, || {
        let all = kubectl(&["get", "parameterservers", "-A", "-o", "name"]);
        (all.lines().count() == 1).then_some(())
    });
    thread::sleep(Duration::from_secs(3));
    let pod = operators().into_iter().next().expect("an operator");
    let looks = || {
        counted(
            &pod,
            "glint_operator_reconciliations_total",
            &["namespace=\"idle\""],
        )
    };
    // What the API server was asked for, and not what the operator says that it asked for.
    let writes = Writes::from_now();
    let before = looks();
    for n in 0..5 {
        space.kubectl(&[
            "annotate",
            "--overwrite",
            "pserver",
            "lda",
            &format!("look={n}"),
        ]);
        eventually("it was looked at", 30, || {
            (looks() > before + f64::from(n)).then_some(())
        });
    }
    let writes = writes.so_far();
    assert!(
        writes.is_empty(),
        "looks at something settled wrote: {writes:?}"
    );
}

#[test]
#[ignore = "needs a cluster: make test-kubernetes"]
fn fields_that_others_have_set_survive_what_the_operator_applies() {
    let space = Space::new("foreign");
    space.parameter_server("lda", "{servers: 1}");
    space.ready("lda", 1);
    let foreign = [
        (
            "statefulset",
            "lda-server",
            "/spec/revisionHistoryLimit",
            "3",
        ),
        (
            "service",
            "lda-master",
            "/spec/sessionAffinity",
            "\"ClientIP\"",
        ),
        ("secret", "lda-client", "/data/MINE", "\"eWVz\""),
        ("networkpolicy", "lda", "/metadata/labels/mine", "\"yes\""),
    ];
    for (kind, name, path, value) in foreign {
        let patch = format!(r#"[{{"op": "add", "path": "{path}", "value": {value}}}]"#);
        space.kubectl(&["patch", kind, name, "--type=json", "-p", &patch]);
    }
    // Everything that is made has the labels of the spec, so all of it is applied anew.
    space.parameter_server("lda", "{servers: 1, labels: {example.com/team: topics}}");
    space.ready("lda", 1);
    for (kind, name, path, value) in foreign {
        let object = space.find(&[kind, name]).expect("it is there");
        assert_eq!(
            object["metadata"]["labels"]["example.com/team"], "topics",
            "{kind} {name}"
        );
        let there = object.pointer(path).map(ToString::to_string);
        assert_eq!(there.as_deref(), Some(value), "{kind} {name} {path}");
    }
}

#[test]
#[ignore = "needs a cluster: make test-kubernetes"]
fn a_name_that_is_taken_is_left_alone() {
    let space = Space::new("taken");
    space
        .try_apply("apiVersion: v1\nkind: Secret\nmetadata: {name: lda-client}\nstringData: {mine: 'yes'}\n")
        .expect("a Secret");
    space.parameter_server("lda", "{servers: 1}");
    let said = space.condition("lda", "Degraded", "True", "NameTaken");
    assert!(said.contains("lda-client"), "{said}");
    let secret = space.find(&["secret", "lda-client"]).expect("it is there");
    assert!(secret["data"]["mine"].is_string() && secret["data"]["GLINT_URL"].is_null());
    space.kubectl(&["delete", "secret", "lda-client"]);
    space.ready("lda", 1);
}

#[test]
#[ignore = "needs a cluster: make test-kubernetes"]
fn what_is_switched_off_is_taken_away() {
    let space = Space::new("switches");
    space.parameter_server("lda", "{servers: 2}");
    space.ready("lda", 2);
    space.parameter_server(
        "lda",
        "{servers: 2, networkPolicy: {enabled: false}, disruptionBudget: {enabled: false}}",
    );
    eventually("budget and policy are gone", 60, || {
        let gone = space.find(&["networkpolicy", "lda"]).is_none()
            && space.find(&["poddisruptionbudget", "lda-server"]).is_none();
        gone.then_some(())
    });
    space.ready("lda", 2);
}
