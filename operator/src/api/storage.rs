//! The volumes of servers and master. A `StatefulSet` cannot change the volumes it has made, hence the rules.

use kube::{KubeSchema, core::Rule};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Size;

/// The volume of each server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = class_is_fixed())]
pub struct Storage {
    /// The `StorageClass`; the default one of the Kubernetes cluster when left out. Fixed when the object is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub class: Option<String>,

    /// How large each volume is, such as `20Gi`. Fixed when the object is made.
    pub size: Size,

    /// What becomes of the volumes of servers and master when the object is deleted, and of those of servers that a
    /// smaller number of servers leaves without a pod: `Retain` keeps them, `Delete` deletes them with their data.
    #[serde(default)]
    pub retention: Retention,
}

/// The volume of the master. It is kept or deleted as the volumes of the servers are; when those have none, it is
/// deleted with the object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = class_is_fixed())]
pub struct MasterStorage {
    /// The `StorageClass`; the default one of the Kubernetes cluster when left out. Fixed when the object is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub class: Option<String>,

    /// How large it is; 1Gi is plenty. Fixed when the object is made.
    #[serde(default)]
    pub size: Size,
}

/// What becomes of volumes that no pod uses any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Retention {
    /// They stay, with their data.
    #[default]
    Retain,
    /// They are deleted, with their data.
    Delete,
}

fn class_is_fixed() -> Rule {
    Rule::new("has(self.class) == has(oldSelf.class) && (!has(self.class) || self.class == oldSelf.class)")
        .message("the class of a volume is fixed when the object is made: put class back to what it was, or make another ParameterServer")
        .field_path(".class")
}
