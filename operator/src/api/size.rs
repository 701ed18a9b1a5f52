//! The size of a volume.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// The size of a volume as a Kubernetes quantity, such as `20Gi`.
///
/// A string in the schema, not Kubernetes' own "integer or string": a volume of 20 bytes is a slip, and rules can only
/// be written about one type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Size(pub String);

impl Default for Size {
    /// Room for the master, which keeps little.
    fn default() -> Self {
        Self("1Gi".to_owned())
    }
}

impl JsonSchema for Size {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Size".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "maxLength": 32,
            "x-kubernetes-validations": [
                {
                    "rule": "isQuantity(self) && quantity(self).isGreaterThan(quantity('0'))",
                    "message": "give a size above zero, such as 20Gi",
                },
                {
                    "rule": "!isQuantity(self) || !isQuantity(oldSelf) || !quantity(self).isLessThan(quantity(oldSelf))",
                    "message": "a volume cannot be made smaller: put size back to what it was, or make another ParameterServer",
                    "messageExpression": "'a volume cannot be made smaller: put size back to ' + oldSelf + ', or make another ParameterServer'",
                },
                {
                    "rule": "!isQuantity(self) || !isQuantity(oldSelf) || !quantity(self).isGreaterThan(quantity(oldSelf))",
                    "message": "a volume cannot be made larger: put size back to what it was, or make another ParameterServer",
                    "messageExpression": "'a volume cannot be made larger: put size back to ' + oldSelf + ', or make another ParameterServer'",
                },
            ],
        })
    }
}
