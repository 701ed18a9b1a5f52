//! The definition of the custom resource: up to date, small enough, described.
#![allow(clippy::expect_used, clippy::panic)]

use std::{fs, path::Path};

use glint_operator::{api::ParameterServer, crd};
use kube::CustomResourceExt;
use serde_json::Value;

/// `kubectl apply` without `--server-side` keeps the whole object in an annotation, and all annotations together may have
/// this many bytes.
const ANNOTATIONS_LIMIT: usize = 262_144;

fn definition() -> Value {
    serde_json::to_value(ParameterServer::crd()).expect("a definition is JSON")
}

fn version() -> Value {
    definition()["spec"]["versions"][0].clone()
}

/// Calls `visit` with the path and schema of every field below `schema`.
fn fields(schema: &Value, path: &str, visit: &mut impl FnMut(&str, &Value)) {
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        visit(&path, field);
        fields(field, &path, visit);
    }
    for (key, mark) in [("items", "[]"), ("additionalProperties", "{}")] {
        if schema[key].is_object() {
            let path = format!("{path}{mark}");
            visit(&path, &schema[key]);
            fields(&schema[key], &path, visit);
        }
    }
}

#[test]
fn the_generated_file_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crds/parameterservers.yaml");
    let committed = fs::read_to_string(&path).unwrap_or_default();
    let generated = crd::yaml().expect("a definition is YAML");
    assert!(
        committed == generated,
        "crds/parameterservers.yaml is not what the types in operator/src/api.rs say; run in the root of the repository:\n\n    {}\n",
        crd::COMMAND
    );
}

#[test]
fn what_is_printed_is_the_definition() {
    let printed: Value = serde_saphyr::from_str(&crd::yaml().expect("a definition is YAML"))
        .expect("what is printed is YAML");
    assert_eq!(printed, definition());
}

#[test]
fn plain_kubectl_apply_can_hold_the_definition() {
    let bytes = definition().to_string().len();
    assert!(
        bytes < ANNOTATIONS_LIMIT,
        "the definition has {bytes} bytes as JSON, and kubectl apply takes less than {ANNOTATIONS_LIMIT}: leave out descriptions or fields that embed large types"
    );
}

#[test]
fn it_is_found_by_its_names_and_scaled_by_its_servers() {
    let definition = definition();
    assert_eq!(definition["metadata"]["name"], "parameterservers.glint.dev");
    let names = &definition["spec"]["names"];
    assert_eq!(names["shortNames"][0], "pserver");
    assert_eq!(names["categories"][0], "glint");
    assert_eq!(definition["spec"]["scope"], "Namespaced");

    let scale = &version()["subresources"]["scale"];
    let paths = [
        ("specReplicasPath", "integer"),
        ("statusReplicasPath", "integer"),
        ("labelSelectorPath", "string"),
    ];
    for (key, kind) in paths {
        let path = scale[key].as_str().expect("a path");
        let pointer = path.replace('.', "/properties/");
        let field = version()["schema"]["openAPIV3Schema"]
            .pointer(&pointer)
            .cloned()
            .unwrap_or_else(|| panic!("{key} points to {path}, which is no field"));
        assert_eq!(field["type"], kind, "{path}");
    }
}

#[test]
fn every_column_shows_a_field_that_there_is() {
    let version = version();
    let schema = &version["schema"]["openAPIV3Schema"];
    let columns = version["additionalPrinterColumns"]
        .as_array()
        .expect("columns");
    let names: Vec<_> = columns.iter().map(|column| &column["name"]).collect();
    assert_eq!(
        names,
        [
            "Servers",
            "Ready",
            "Partitions",
            "Phase",
            "Age",
            "Image",
            "Message"
        ]
    );
    for column in columns {
        let path = column["jsonPath"].as_str().expect("a path");
        if path.starts_with(".metadata.") {
            continue;
        }
        let pointer = path
            .replace(r#"[?(@.type=="Ready")]"#, "/items")
            .replace('.', "/properties/");
        assert!(
            schema.pointer(&pointer).is_some(),
            "column {} shows {path}, which is no field",
            column["name"]
        );
    }
}

#[test]
fn every_field_of_spec_and_status_is_described() {
    let version = version();
    let schema = &version["schema"]["openAPIV3Schema"];
    let mut seen = 0;
    fields(schema, "", &mut |path, field| {
        // Items and values of maps are described by the field that has them.
        if path.ends_with(['}', ']']) {
            return;
        }
        seen += 1;
        let ours = path.matches('.').count() <= 2;
        let text = field["description"].as_str().unwrap_or_default();
        assert!(
            !ours || path == ".status" || !text.is_empty(),
            "{path} says nothing of itself"
        );
    });
    assert!(seen > 100, "{seen} fields");
}

#[test]
fn the_api_server_understands_every_format_and_drops_null() {
    let version = version();
    let schema = &version["schema"]["openAPIV3Schema"];
    fields(schema, "", &mut |path, field| {
        if let Some(format) = field["format"].as_str() {
            assert!(
                ["int32", "int64", "date-time"].contains(&format),
                "{path} has the format {format}, which Kubernetes ignores with a warning"
            );
        }
        // kube marks all of Kubernetes' own "integer or string" so; no rule asks whether one of them is there.
        if path.starts_with(".spec") && field["x-kubernetes-int-or-string"].is_null() {
            assert!(field["nullable"].is_null(), "{path} may be null");
        }
    });
}

/// The API server refuses a definition whose rules might cost too much, and what has no bound might be endless.
#[test]
fn whatever_a_rule_walks_over_is_bounded() {
    let version = version();
    let mut walks = 0;
    fields(
        &version["schema"]["openAPIV3Schema"],
        "",
        &mut |path, field| {
            let rules = field["x-kubernetes-validations"].as_array();
            for rule in rules.into_iter().flatten() {
                if rule["rule"]
                    .as_str()
                    .expect("an expression")
                    .contains("self.all(")
                {
                    walks += 1;
                    let bound = if field["type"] == "array" {
                        "maxItems"
                    } else {
                        "maxProperties"
                    };
                    assert!(
                        field[bound].is_u64(),
                        "{path} has a rule over all it holds, and no {bound}"
                    );
                }
            }
        },
    );
    assert!(walks > 0);
}

/// What a schema says of its type, for people.
fn kind(field: &Value) -> String {
    if field["x-kubernetes-int-or-string"] == true {
        return "number or text".to_owned();
    }
    let values = field["enum"].as_array();
    let values: Vec<&str> = values
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    if !values.is_empty() {
        return values.join(", ");
    }
    match field["type"].as_str() {
        Some("array") => format!("list of {}", kind(&field["items"])),
        Some("string") => "text".to_owned(),
        Some("integer") => "number".to_owned(),
        Some(other) => other.to_owned(),
        None => "any".to_owned(),
    }
}

/// Calls `visit` with the path and schema of every field that is Glint's own: what Kubernetes has defined is explained there.
fn own_fields(schema: &Value, path: &str, visit: &mut impl FnMut(&str, &Value)) {
    let of_kubernetes = [
        "affinity",
        "podSecurityContext",
        "securityContext",
        "conditions",
        "env",
        "imagePullSecrets",
        "tolerations",
        "topologySpreadConstraints",
    ];
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let path = if path.is_empty() {
            name.clone()
        } else {
            format!("{path}.{name}")
        };
        visit(&path, field);
        if !of_kubernetes.contains(&name.as_str()) {
            own_fields(field, &path, visit);
            own_fields(&field["items"], &format!("{path}[]"), visit);
        }
    }
}

/// Rows of all these fields.
fn rows(schema: &Value, text: &mut String) {
    use std::fmt::Write;
    own_fields(schema, "", &mut |path, field| {
        let default = match &field["default"] {
            Value::Null => String::new(),
            other => format!("`{other}`"),
        };
        let said = field["description"].as_str().unwrap_or_default();
        let said = said.replace('\n', " ").replace('|', "\\|");
        let _ = writeln!(text, "| `{path}` | {} | {default} | {said} |", kind(field));
    });
}

/// A sample that is copied from: it has every field, so that none is unknown to those who read it. That the API server takes
/// it is tried on a real one.
#[test]
fn the_sample_says_every_field_of_the_spec() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/kubernetes/everything.yaml");
    let text = fs::read_to_string(&path).expect("the sample");
    let sample: Value = serde_saphyr::from_str(&text).expect("the sample is YAML");
    let object: Result<ParameterServer, _> = serde_json::from_value(sample.clone());
    assert!(object.is_ok(), "{object:?}");
    let version = version();
    let spec = &version["schema"]["openAPIV3Schema"]["properties"]["spec"];
    let mut seen = 0;
    own_fields(spec, "", &mut |path, _| {
        seen += 1;
        let there = sample["spec"].pointer(&format!("/{}", path.replace('.', "/")));
        let there =
            there.unwrap_or_else(|| panic!("examples/kubernetes/everything.yaml lacks {path}"));
        assert!(!there.is_null(), "{path} says nothing");
    });
    assert!(seen > 30, "{seen} fields");
}

#[test]
fn the_page_lists_every_field() {
    let version = version();
    let schema = &version["schema"]["openAPIV3Schema"]["properties"];
    let mut page = String::from(
        "# ParameterServer: every field\n\nMade from the types in `operator/src/api.rs`, as the definition is: \
         `GLINT_WRITE=1 cargo test -p glint-operator --test definition` writes it anew. [How it is used](kubernetes.md).\n",
    );
    for part in ["spec", "status"] {
        page.push_str("\n## ");
        page.push_str(part);
        page.push_str("\n| field | type | default | |\n|---|---|---|---|\n");
        rows(&schema[part], &mut page);
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/parameterserver.md");
    if std::env::var_os("GLINT_WRITE").is_some() {
        fs::write(&path, &page).expect("the page is written");
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == page,
        "docs/parameterserver.md is not what the types say; run: GLINT_WRITE=1 cargo test -p glint-operator --test definition"
    );
}
