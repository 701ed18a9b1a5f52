//! The rules of the custom resource, judged as the API server judges them, on the table of cases in `specs.yaml`.
#![allow(clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;

use glint_operator::api::ParameterServer;
use kube::CustomResourceExt;
use kube_cel::{ErrorKind, ValidationError, Validator, apply_defaults};
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    #[serde(default = "lda")]
    object: String,
    old: Option<Value>,
    new: Value,
    refused: Option<String>,
}

fn lda() -> String {
    "lda".to_owned()
}

impl Case {
    fn object(&self, spec: &Value) -> Value {
        json!({
            "apiVersion": "glint.dev/v1alpha1",
            "kind": "ParameterServer",
            "metadata": {"name": self.object},
            "spec": spec,
        })
    }

    /// What the rules say against it, as the API server asks them.
    fn judge(&self, schema: &Value) -> Vec<ValidationError> {
        let old = self.old.as_ref().map(|spec| pruned(&self.object(spec)));
        let new = pruned(&self.object(&self.new));
        match Validator::new().validate(schema, &new, old.as_ref()) {
            Ok(()) => Vec::new(),
            Err(errors) => errors.into_vec(),
        }
    }
}

/// Without fields that are null: no field of the spec may be, so the API server drops them before it fills in defaults.
fn pruned(value: &Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .iter()
            .filter(|(_, field)| !field.is_null())
            .map(|(name, field)| (name.clone(), pruned(field)))
            .collect(),
        Value::Array(items) => items.iter().map(pruned).collect(),
        scalar => scalar.clone(),
    }
}

fn cases() -> Vec<Case> {
    serde_saphyr::from_str(include_str!("specs.yaml")).expect("specs.yaml is a list of cases")
}

fn schema() -> Value {
    let definition = serde_json::to_value(ParameterServer::crd()).expect("a definition is JSON");
    definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone()
}

#[test]
fn good_specs_are_accepted_and_bad_ones_refused_with_what_to_do() {
    let schema = schema();
    for case in cases() {
        let errors = case.judge(&schema);
        for error in &errors {
            assert_eq!(
                error.kind,
                ErrorKind::ValidationFailure,
                "{}: the rule itself fails: {error:?}",
                case.name
            );
        }
        let said: Vec<_> = errors.iter().map(|error| &error.message).collect();
        match &case.refused {
            None => assert!(errors.is_empty(), "{}: refused: {said:?}", case.name),
            Some(message) => {
                assert_eq!(said.len(), 1, "{}: one reason, got {said:?}", case.name);
                assert!(said[0].starts_with(message), "{}: {said:?}", case.name);
            }
        }
    }
}

#[test]
fn every_rule_is_broken_by_some_case() {
    fn collect(schema: &Value, rules: &mut BTreeSet<String>) {
        match schema {
            Value::Object(fields) => {
                if let Some(Value::Array(here)) = fields.get("x-kubernetes-validations") {
                    rules.extend(here.iter().map(|rule| {
                        assert!(rule["message"].is_string(), "a rule without words: {rule}");
                        rule["rule"].as_str().expect("an expression").to_owned()
                    }));
                }
                fields.values().for_each(|field| collect(field, rules));
            }
            Value::Array(items) => items.iter().for_each(|item| collect(item, rules)),
            _ => {}
        }
    }

    let schema = schema();
    let mut untried = BTreeSet::new();
    collect(&schema, &mut untried);
    assert!(!untried.is_empty());
    for case in cases() {
        for error in case.judge(&schema) {
            untried.remove(&error.rule);
        }
    }
    assert!(
        untried.is_empty(),
        "rules that no case breaks: {untried:#?}"
    );
}

#[test]
fn rust_fills_in_the_defaults_that_the_schema_shows() {
    let schema = schema();
    for case in cases().iter().filter(|case| case.refused.is_none()) {
        let object = pruned(&case.object(&case.new));
        let read: ParameterServer =
            serde_json::from_value(object.clone()).unwrap_or_else(|e| panic!("{}: {e}", case.name));
        let defaulted = apply_defaults(&schema, &object);
        let read_defaulted: ParameterServer = serde_json::from_value(defaulted)
            .unwrap_or_else(|e| panic!("{}, with defaults: {e}", case.name));
        assert_eq!(read, read_defaulted, "{}", case.name);
    }
}

/// Without this a field misspelt in the table would be a field that nobody tries.
#[test]
fn cases_say_every_field_of_the_spec_and_no_other() {
    fn unknown(value: &Value, schema: &Value, path: &str) {
        if let (Some(fields), Some(known)) = (value.as_object(), schema["properties"].as_object()) {
            for (name, field) in fields {
                let path = format!("{path}.{name}");
                let schema = known.get(name);
                unknown(
                    field,
                    schema.unwrap_or_else(|| panic!("{path} is no field")),
                    &path,
                );
            }
        }
        for item in value.as_array().into_iter().flatten() {
            unknown(item, &schema["items"], path);
        }
    }

    let schema = &schema()["properties"]["spec"];
    let mut untried: BTreeSet<_> = schema["properties"]
        .as_object()
        .expect("the spec has fields")
        .keys()
        .cloned()
        .collect();
    for case in cases() {
        for spec in [Some(&case.new), case.old.as_ref()].into_iter().flatten() {
            unknown(spec, schema, &case.name);
            for name in spec.as_object().into_iter().flatten().map(|field| field.0) {
                untried.remove(name);
            }
        }
    }
    assert!(untried.is_empty(), "no case says {untried:?}");
}
