//! Makes generated schemas say what the API server shall do.

use schemars::{Schema, transform::transform_subschemas};
use serde_json::Value;

/// Optional fields are absent, never null, and descriptions are paragraphs.
///
/// A field that may be null is kept as null by the API server, and rules would have to ask for both; one that may not is
/// dropped when it is null, so `has(self.field)` says all.
pub(super) fn tidy(schema: &mut Schema) {
    transform_subschemas(&mut tidy, schema);
    let Some(object) = schema.as_object_mut() else {
        return;
    };
    if let Some(Value::Array(types)) = object.get_mut("type") {
        types.retain(|name| name != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            object.insert("type".to_owned(), only);
        }
    }
    if let Some(Value::Array(values)) = object.get_mut("enum") {
        values.retain(|value| !value.is_null());
    }
    if let Some(Value::Array(choices)) = object.get_mut("anyOf") {
        choices.retain(|choice| choice.get("type") != Some(&"null".into()));
        if let [Value::Object(only)] = choices.as_mut_slice() {
            let only = std::mem::take(only);
            object.remove("anyOf");
            for (key, value) in only {
                // What the field says of itself comes before what its type says.
                object.entry(key).or_insert(value);
            }
        }
    }
    if let Some(Value::String(text)) = object.get_mut("description") {
        *text = paragraphs(text);
    }
}

/// Joins the lines of a comment that only its width has broken.
fn paragraphs(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for line in text.lines() {
        let breaks = line.is_empty() || line.starts_with([' ', '\t', '-', '*']);
        match out.chars().last() {
            None => {}
            Some('\n') => out.push('\n'),
            Some(_) if breaks => out.push('\n'),
            Some(_) => out.push(' '),
        }
        out.push_str(line);
    }
    out
}
