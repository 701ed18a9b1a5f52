//! What is made for a `ParameterServer`, compared with `children/*.yaml`: whoever changes it sees what that does to pods.
//! `GLINT_WRITE=1 cargo test -p glint-operator --test children` writes the files anew.
#![allow(clippy::expect_used, clippy::panic)]

use std::{env, fs, path::Path};

use glint_operator::{
    api::ParameterServer,
    build::{Child, Decided, Installation, build, image_check, wanted_image},
    compare,
};
use serde_json::{Value, json};

fn installation() -> Installation {
    Installation {
        image: "glint:1".to_owned(),
        namespace: "glint-system".to_owned(),
    }
}

fn object(spec: &Value) -> ParameterServer {
    serde_json::from_value(json!({
        "apiVersion": "glint.dev/v1alpha1",
        "kind": "ParameterServer",
        "metadata": {"name": "lda", "namespace": "news", "uid": "7d1f"},
        "spec": spec,
    }))
    .expect("a ParameterServer")
}

fn children(spec: &Value) -> Vec<Child> {
    let object = object(spec);
    let decided = Decided {
        servers: object.spec.servers,
        image: wanted_image(&object, &installation()),
    };
    let mut children = build(&object, &installation(), &decided);
    children.push(image_check(&object, "glint:2"));
    children
}

/// Everything that a user may say, from the table of specs.
fn everything() -> Value {
    let cases: Vec<Value> =
        serde_saphyr::from_str(include_str!("specs.yaml")).expect("a list of cases");
    let case = cases
        .iter()
        .find(|case| case["name"] == "everything a user may say");
    case.expect("the case")["new"].clone()
}

fn compare_with(file: &str, children: &[Child]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/children")
        .join(file);
    let manifests: Vec<String> = children
        .iter()
        .map(|child| serde_saphyr::to_string(&child.manifest).expect("YAML"))
        .collect();
    let text = manifests.join("---\n");
    if env::var_os("GLINT_WRITE").is_some() {
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(&path, &text).expect("a file");
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == text,
        "{} is not what is built now; look at what has changed, since pods are restarted for it, and write it anew:\n\n    GLINT_WRITE=1 cargo test -p glint-operator --test children\n",
        path.display()
    );
}

#[test]
fn the_smallest_object_gets_what_it_always_got() {
    compare_with("smallest.yaml", &children(&json!({})));
}

#[test]
fn everything_that_is_said_is_in_what_is_made() {
    compare_with("everything.yaml", &children(&everything()));
}

#[test]
fn every_child_is_owned_and_labelled_and_none_is_made_twice() {
    let children = children(&everything());
    let mut names: Vec<_> = children
        .iter()
        .map(|child| (child.resource.kind.clone(), child.name.clone()))
        .collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), children.len());
    for child in &children {
        let meta = &child.manifest["metadata"];
        assert_eq!(meta["ownerReferences"][0]["uid"], "7d1f", "{}", child.name);
        assert_eq!(meta["ownerReferences"][0]["controller"], true);
        assert_eq!(
            meta["labels"]["app.kubernetes.io/managed-by"],
            "glint-operator"
        );
        assert_eq!(meta["labels"]["team"], "topics");
        assert_eq!(meta["namespace"], "news");
        assert_eq!(child.manifest["kind"], child.resource.kind.as_str());
    }
}

#[test]
fn every_pod_is_restricted_and_without_a_token_whatever_is_laid_over() {
    for child in children(&everything()) {
        let pod = match child.resource.kind.as_str() {
            "StatefulSet" => &child.manifest["spec"]["template"]["spec"],
            "Pod" => &child.manifest["spec"],
            _ => continue,
        };
        assert_eq!(pod["automountServiceAccountToken"], false);
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
        assert_eq!(
            pod["securityContext"]["seccompProfile"]["type"],
            "RuntimeDefault"
        );
        // Laid over.
        assert_eq!(pod["securityContext"]["fsGroup"], 1000);
        for container in pod["containers"].as_array().expect("containers") {
            let context = &container["securityContext"];
            assert_eq!(context["allowPrivilegeEscalation"], false);
            assert_eq!(context["capabilities"]["drop"][0], "ALL");
            assert_eq!(context["readOnlyRootFilesystem"], true);
            assert_eq!(context["runAsUser"], 1000);
        }
    }
}

#[test]
fn the_same_object_gives_the_same_digests_and_another_one_others() {
    let seals = |spec: &Value| -> Vec<Value> {
        children(spec)
            .into_iter()
            .map(|mut child| {
                compare::seal(&mut child.manifest);
                child.manifest["metadata"]["annotations"][compare::DIGEST].clone()
            })
            .collect()
    };
    assert_eq!(seals(&json!({"servers": 2})), seals(&json!({"servers": 2})));
    assert_ne!(seals(&json!({"servers": 2})), seals(&json!({"servers": 3})));
}

#[test]
fn a_single_server_has_no_budget_and_what_is_switched_off_is_not_made() {
    let kinds = |spec: Value| -> Vec<String> {
        children(&spec)
            .into_iter()
            .map(|c| c.resource.kind)
            .collect()
    };
    assert!(!kinds(json!({"servers": 1})).contains(&"PodDisruptionBudget".to_owned()));
    assert!(kinds(json!({"servers": 2})).contains(&"PodDisruptionBudget".to_owned()));
    let off = kinds(json!({
        "servers": 2, "disruptionBudget": {"enabled": false}, "networkPolicy": {"enabled": false},
    }));
    assert!(
        !off.iter()
            .any(|kind| kind == "PodDisruptionBudget" || kind == "NetworkPolicy")
    );
}

#[test]
fn the_longest_name_leaves_room_for_what_is_named_after_it() {
    let mut object = object(&json!({"servers": 1000}));
    object.metadata.name = Some("a".repeat(glint_operator::api::MAX_NAME));
    let decided = Decided {
        servers: 1000,
        image: "glint:1".to_owned(),
    };
    for child in build(&object, &installation(), &decided) {
        // A label of a StatefulSet's pod has its name and a hash of 11 characters.
        assert!(child.name.len() <= 52, "{}", child.name);
    }
}
