//! Whether what there is contains what is wanted.
//!
//! The API server fills in defaults and writes quantities in its own way, and others own fields of their own, so what
//! there is has more than what was applied. An object is applied again when a field that the operator wants is missing or
//! different, or when it has applied a field that it wants no longer: the digest of what it applied last, in an
//! annotation, tells.

use serde_json::Value;

/// The annotation with the digest of what was applied.
pub const DIGEST: &str = "glint.dev/applied";

/// Adds the digest of `manifest` to it.
pub fn seal(manifest: &mut Value) {
    let digest = digest(&manifest.to_string());
    manifest["metadata"]["annotations"][DIGEST] = digest.into();
}

/// FNV-1a in 64 bits, as text: it need only differ when something has changed, and be the same in every version.
fn digest(text: &str) -> String {
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{hash:016x}")
}

/// The path of the first field of `wanted` that `there` does not have so.
pub fn missing(wanted: &Value, there: &Value) -> Option<String> {
    match (wanted, there) {
        (Value::Object(fields), Value::Object(there)) => fields.iter().find_map(|(name, field)| {
            let path = missing(field, there.get(name).unwrap_or(&Value::Null))?;
            Some(format!(".{name}{path}"))
        }),
        (Value::Array(items), Value::Array(there)) => {
            items.iter().enumerate().find_map(|(index, item)| {
                let path = missing(item, counterpart(item, index, there))?;
                Some(format!("[{index}]{path}"))
            })
        }
        _ if is_nothing(wanted) && is_nothing(there) => None,
        _ if wanted == there || same_amount(wanted, there) => None,
        _ => Some(String::new()),
    }
}

/// The item of a list that is the same thing as `item`: lists of things with names are merged by name.
fn counterpart<'a>(item: &Value, index: usize, there: &'a [Value]) -> &'a Value {
    let key = ["name", "mountPath", "uid", "containerPort"]
        .into_iter()
        .find(|key| item.get(key).is_some());
    let found = match key {
        Some(key) => there.iter().find(|other| other.get(key) == item.get(key)),
        None => there.get(index),
    };
    found.unwrap_or(&Value::Null)
}

/// What the API server leaves out.
fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(flag) => !flag,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.values().all(is_nothing),
        Value::Number(number) => number.as_f64() == Some(0.0),
    }
}

/// Whether both are one amount, written in two ways: `1024Mi` and `1Gi`, `0.5` and `500m`.
fn same_amount(a: &Value, b: &Value) -> bool {
    let amount = |value: &Value| match value {
        Value::String(text) => nano(text),
        Value::Number(number) => nano(&number.to_string()),
        _ => None,
    };
    matches!((amount(a), amount(b)), (Some(a), Some(b)) if a == b)
}

/// A Kubernetes quantity in nanounits, exactly; `None` for what is none.
fn nano(text: &str) -> Option<i128> {
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor: i128 = match &text[number.len()..] {
        "n" => 1,
        "u" => 1_000,
        "m" => 1_000_000,
        "" => 1_000_000_000,
        "k" => 1_000_000_000_000,
        "M" => 1_000_000_000_000_000,
        "G" => 1_000_000_000_000_000_000,
        "T" => 1_000_000_000_000_000_000_000,
        "Ki" => 1_000_000_000 << 10,
        "Mi" => 1_000_000_000 << 20,
        "Gi" => 1_000_000_000 << 30,
        "Ti" => 1_000_000_000 << 40,
        _ => return None,
    };
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    if part.len() > 9 || !(1..=18).contains(&(whole.len() + part.len())) {
        return None;
    }
    let digits: i128 = format!("{whole}{part}").parse().ok()?;
    let scaled = digits.checked_mul(factor)?;
    let divisor = 10_i128.pow(part.len() as u32);
    (scaled % divisor == 0).then_some(scaled / divisor)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_the_api_server_adds_or_writes_in_its_own_way_is_no_difference() {
        let wanted = json!({
            "spec": {
                "replicas": 2,
                "memory": "1024Mi", "cpu": "0.5", "half": "1.5Gi",
                "empty": {}, "no": false, "text": "",
                "containers": [{"name": "b", "image": "x"}],
                "plain": ["one", "two"],
            },
        });
        let there = json!({
            "spec": {
                "replicas": 2, "more": true,
                "memory": "1Gi", "cpu": "500m", "half": "1536Mi",
                "containers": [{"name": "a"}, {"name": "b", "image": "x", "policy": "Always"}],
                "plain": ["one", "two"],
            },
            "status": {},
        });
        assert_eq!(missing(&wanted, &there), None);
    }

    #[test]
    fn a_field_that_is_missing_or_different_is_named() {
        let there = json!({"a": {"b": [{"name": "x", "v": "1Gi"}]}, "n": 1});
        for (wanted, path) in [
            (json!({"a": {"b": [{"name": "x", "v": "1G"}]}}), ".a.b[0].v"),
            (json!({"a": {"b": [{"name": "y"}]}}), ".a.b[0]"),
            (json!({"a": {"c": "1"}}), ".a.c"),
            (json!({"n": 2}), ".n"),
            (json!({"n": {"m": 2}}), ".n"),
            (json!({"a": "text"}), ".a"),
        ] {
            assert_eq!(missing(&wanted, &there).as_deref(), Some(path), "{wanted}");
        }
    }

    #[test]
    fn names_that_look_like_amounts_are_compared_as_text() {
        for (a, b) in [("k", "k8s"), ("1e3", "1000"), ("v1", "v2"), ("", "m")] {
            assert!(
                missing(&json!({"f": a}), &json!({"f": b})).is_some(),
                "{a} {b}"
            );
        }
    }

    #[test]
    fn the_digest_tells_a_field_that_is_wanted_no_longer() {
        let seal = |mut value: Value| {
            super::seal(&mut value);
            value["metadata"]["annotations"][DIGEST].clone()
        };
        let one = seal(json!({"a": 1, "b": 2}));
        assert_eq!(one, seal(json!({"b": 2, "a": 1})));
        assert_ne!(one, seal(json!({"a": 1})));
    }
}
