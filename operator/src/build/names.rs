//! Names and labels of what is made.

use std::collections::BTreeMap;

use kube::ResourceExt;

use super::{MASTER_PORT, SERVER_PORT};
use crate::api::ParameterServer;

/// Which `ParameterServer` something was made for.
pub const INSTANCE: &str = "app.kubernetes.io/instance";
/// Which part of it: see [`Component`].
pub const COMPONENT: &str = "app.kubernetes.io/component";
/// Who made it.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// The operator's name: as the value of [`MANAGED_BY`], and as the owner of the fields that it applies.
pub const MANAGER: &str = "glint-operator";

/// What a pod is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Component {
    /// The master.
    Master,
    /// A server.
    Server,
    /// It only shows whether an image can be had.
    ImageCheck,
}

impl Component {
    /// The value of the label [`COMPONENT`].
    pub fn name(self) -> &'static str {
        match self {
            Self::Master => "master",
            Self::Server => "server",
            Self::ImageCheck => "image-check",
        }
    }
}

/// The names that follow from that of a `ParameterServer`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    name: String,
    namespace: String,
}

impl Names {
    /// Those of `object`.
    pub fn of(object: &ParameterServer) -> Self {
        Self {
            name: object.name_any(),
            namespace: object.namespace().unwrap_or_default(),
        }
    }

    /// The master's `StatefulSet` and `Service`.
    pub fn master(&self) -> String {
        format!("{}-master", self.name)
    }

    /// The servers' `StatefulSet`, headless `Service` and `PodDisruptionBudget`.
    pub fn servers(&self) -> String {
        format!("{}-server", self.name)
    }

    /// The pod of one server, which is also its name with the master.
    pub fn server(&self, ordinal: i32) -> String {
        format!("{}-{ordinal}", self.servers())
    }

    /// The ordinal of the server that has this name.
    pub fn ordinal(&self, server: &str) -> Option<i32> {
        let digits = server.strip_prefix(&self.servers())?.strip_prefix('-')?;
        digits.parse().ok()
    }

    /// The `Secret` that a training job takes with `envFrom`.
    pub fn binding(&self) -> String {
        format!("{}-client", self.name)
    }

    /// The `NetworkPolicy`.
    pub fn policy(&self) -> String {
        self.name.clone()
    }

    /// The pod that shows whether an image can be had.
    pub fn image_check(&self) -> String {
        format!("{}-image-check", self.name)
    }

    /// Where clients, servers and the operator reach the master, from every namespace.
    pub fn url(&self) -> String {
        format!(
            "http://{}.{}.svc:{MASTER_PORT}",
            self.master(),
            self.namespace
        )
    }

    /// Where clients and the master reach a server: `$(POD_NAME)` is filled in by the kubelet. A name and not the pod's
    /// address, which another pod may have tomorrow.
    pub(super) fn server_url(&self) -> String {
        format!(
            "http://$(POD_NAME).{}.{}.svc:{SERVER_PORT}",
            self.servers(),
            self.namespace
        )
    }
}

/// The labels of everything that is made for `object`; of a part of it when `component` is said.
pub fn labels(object: &ParameterServer, component: Option<Component>) -> BTreeMap<String, String> {
    let mut labels = object.spec.labels.clone();
    labels.extend([
        ("app.kubernetes.io/name".to_owned(), "glint".to_owned()),
        (INSTANCE.to_owned(), object.name_any()),
        (MANAGED_BY.to_owned(), MANAGER.to_owned()),
    ]);
    if let Some(component) = component {
        labels.insert(COMPONENT.to_owned(), component.name().to_owned());
    }
    labels
}

/// The labels by which the pods of a part are found: they never change.
pub fn selector(name: &str, component: Component) -> BTreeMap<String, String> {
    [
        ("app.kubernetes.io/name".to_owned(), "glint".to_owned()),
        (INSTANCE.to_owned(), name.to_owned()),
        (COMPONENT.to_owned(), component.name().to_owned()),
    ]
    .into_iter()
    .collect()
}
