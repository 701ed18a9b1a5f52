//! The custom resource `ParameterServer`, `glint.dev/v1alpha1`: what a user asks for and what the operator answers.
//!
//! The types are the only source: field comments become the descriptions that `kubectl explain` shows, defaults become
//! defaults of the schema, and the rules beside the fields are judged by the API server itself, so that a bad object is
//! refused at `kubectl apply` with a message that says what to do, without a webhook. Fields may be added to this
//! version; a field or a rule that refuses more than before needs a new one.

// The derives copy the types into functions, where `pub` reaches nobody.
#![allow(unreachable_pub)]

mod behaviour;
mod pods;
mod schema;
mod size;
mod status;
mod storage;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Affinity, EnvVar, LocalObjectReference, PodSecurityContext, SecurityContext, Toleration,
    TopologySpreadConstraint,
};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::{
    behaviour::{Durability, ModelDefaults, OnShutdown, Rollout},
    pods::{PullPolicy, Resources, Toggle},
    size::Size,
    status::{ParameterServerStatus, Phase, ServerStatus},
    storage::{MasterStorage, Retention, Storage},
};

/// The most servers of one parameter server.
pub const MAX_SERVERS: i32 = 1000;
/// The longest name of a `ParameterServer`: what is made for it has longer ones, up to 63 characters.
pub const MAX_NAME: usize = 40;

/// What a parameter server shall be.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "glint.dev",
    version = "v1alpha1",
    kind = "ParameterServer",
    namespaced,
    shortname = "pserver",
    category = "glint",
    status = "ParameterServerStatus",
    derive = "PartialEq",
    doc = "A parameter server: one master and a number of servers that hold models for training jobs.",
    scale(
        spec_replicas_path = ".spec.servers",
        status_replicas_path = ".status.currentServers",
        label_selector_path = ".status.selector"
    ),
    printcolumn(
        name = "Servers",
        type_ = "integer",
        json_path = ".spec.servers",
        description = "Servers asked for"
    ),
    printcolumn(
        name = "Ready",
        type_ = "integer",
        json_path = ".status.readyServers",
        description = "Servers that answer pulls and pushes"
    ),
    printcolumn(
        name = "Partitions",
        type_ = "integer",
        json_path = ".status.partitions",
        description = "Partitions of all models"
    ),
    printcolumn(
        name = "Phase",
        type_ = "string",
        json_path = ".status.phase",
        description = "How it fares, in one word"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    ),
    printcolumn(
        name = "Image",
        type_ = "string",
        json_path = ".status.image",
        description = "Image that new pods run",
        priority = 1
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].message"#,
        description = "Why it is ready, or not",
        priority = 1
    ),
    validation = Rule::new(format!("self.metadata.name.matches('^[a-z]([-a-z0-9]{{0,{}}}[a-z0-9])?$')", MAX_NAME - 2))
        .message(Message::Message(format!("metadata.name takes at most {MAX_NAME} of the characters a-z, 0-9 and -, starting with a letter and not ending with -, because Services are named after it")))
)]
#[x_kube(
    validation = Rule::new("has(self.storage) == has(oldSelf.storage)")
        .message("whether servers have volumes is fixed when the object is made: put storage back to what it was, or make another ParameterServer")
        .field_path(".storage"),
    validation = Rule::new("has(self.storage) || self.modelDefaults.durability == 'memory'")
        .message("durability async and sync write to a volume: give storage.size, or use durability memory")
        .field_path(".modelDefaults.durability"),
    validation = Rule::new("has(self.storage) || self.onShutdown != 'flush'")
        .message("flush writes to a volume: give storage.size, or use onShutdown drain")
        .field_path(".onShutdown"),
    validation = Rule::new("has(self.storage) || self.modelDefaults.copies > 1 || self.rollout != 'restart'")
        .message("a restarted server without a volume comes back empty: give storage.size, ask for 2 modelDefaults.copies, or use rollout drain")
        .field_path(".rollout")
)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = schema::tidy)]
pub struct ParameterServerSpec {
    /// How many servers hold the models, 1 to 1000. When it grows, new servers take their share while training goes on;
    /// when it falls, the last servers hand over what they hold before they go.
    #[serde(default = "one")]
    #[x_kube(
        validation = Rule::new("self >= 1")
            .message("ask for at least 1 server; to stop it and keep its volumes, delete the ParameterServer with storage.retention Retain"),
        validation = Rule::new(format!("self <= {MAX_SERVERS}"))
            .message(Message::Message(format!("ask for at most {MAX_SERVERS} servers and give each more memory")))
    )]
    pub servers: i32,

    /// The image that master and servers run. The operator's own when left out, so that both are of one version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    #[x_kube(validation = Rule::new("self.matches('^[^ ]+$')")
        .message("name an image without spaces, or leave image out to run the operator's own"))]
    pub image: Option<String>,

    /// When to fetch the image: `Always`, `IfNotPresent` or `Never`. As Kubernetes sees fit when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_pull_policy: Option<PullPolicy>,

    /// Secrets of this namespace with which the image is fetched.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub image_pull_secrets: Vec<LocalObjectReference>,

    /// Processor and memory of each server.
    #[serde(default, skip_serializing_if = "Resources::is_empty")]
    pub resources: Resources,

    /// The volume of each server, on which durable models are logged. Without it servers hold models in memory only.
    /// Whether there are volumes is fixed when the object is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<Storage>,

    /// The master, which knows the servers and where each partition is. It is not on the path of a pull or a push.
    #[serde(default)]
    pub master: Master,

    /// What a model gets when the client that makes it does not say. Models that exist keep what they have.
    #[serde(default)]
    pub model_defaults: ModelDefaults,

    /// What a server does with the partitions it holds when its pod is told to stop: `drain` moves them to other servers,
    /// `flush` writes them to its volume, `none` leaves at once.
    #[serde(default)]
    pub on_shutdown: OnShutdown,

    /// How a change of the pods, such as of the image, reaches the servers, one server at a time: `drain` moves the
    /// partitions of a server away before it stops, `restart` stops it and lets it come back with its volume or lets
    /// copies take over.
    #[serde(default)]
    pub rollout: Rollout,

    /// How long a pod may take to stop, in seconds, 10 to 86400. A server that has nothing left to do leaves at once.
    #[serde(default = "ten_minutes")]
    #[x_kube(validation = Rule::new("self >= 10 && self <= 86400")
        .message("give a server between 10 seconds and 86400 (a day) to stop"))]
    pub termination_grace_period_seconds: i64,

    /// Whether the operator leaves everything as it is. The status is still written, and the condition `Paused` is true.
    #[serde(default)]
    pub paused: bool,

    /// Labels of the Kubernetes nodes on which master and servers may run.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,

    /// Taints of Kubernetes nodes that master and servers tolerate.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub tolerations: Vec<Toleration>,

    /// Where servers may run. Replaces the default, by which servers rather run on different Kubernetes nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,

    /// How servers spread over zones, hosts or other domains.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub topology_spread_constraints: Vec<TopologySpreadConstraint>,

    /// The `PriorityClass` of master and servers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub priority_class_name: Option<String>,

    /// Labels that everything made for this object gets. Those under `glint.dev/` and `app.kubernetes.io/` are the
    /// operator's own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32, "additionalProperties" = {"type": "string", "maxLength": 63}))]
    #[x_kube(
        validation = Rule::new("self.all(key, !key.startsWith('glint.dev/') && !key.startsWith('app.kubernetes.io/'))")
            .message("labels under glint.dev/ and app.kubernetes.io/ are set by the operator: choose another prefix"),
        validation = Rule::new(format!("self.all(key, {KEY} && self[key].matches('^([A-Za-z0-9]([-A-Za-z0-9_.]{{0,61}}[A-Za-z0-9])?)?$'))"))
            .message("a label is [prefix/]name: value, where name and value are at most 63 of the characters A-Z a-z 0-9 - _ . and start and end with a letter or digit")
    )]
    pub labels: BTreeMap<String, String>,

    /// Annotations that the pods of master and servers get. Those under `glint.dev/` are the operator's own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    #[x_kube(
        validation = Rule::new("self.all(key, !key.startsWith('glint.dev/'))")
            .message("annotations under glint.dev/ are set by the operator: choose another prefix"),
        validation = Rule::new(format!("self.all(key, {KEY})"))
            .message("the key of an annotation is [prefix/]name, where name is at most 63 of the characters A-Z a-z 0-9 - _ . and starts and ends with a letter or digit")
    )]
    pub annotations: BTreeMap<String, String>,

    /// Environment variables of the servers, such as `RUST_LOG`. Those that start with `GLINT_` are the operator's own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(
        validation = Rule::new("self.all(variable, !variable.name.startsWith('GLINT_'))")
            .message("variables that start with GLINT_ are set by the operator from the other fields: use those"),
        merge_strategy = ListMerge::Map(vec!["name".into()])
    )]
    pub env: Vec<EnvVar>,

    /// Security settings of the pods, laid over those that the Pod Security Standard `restricted` asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_security_context: Option<PodSecurityContext>,

    /// Security settings of the containers, laid over those that the Pod Security Standard `restricted` asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub security_context: Option<SecurityContext>,

    /// The `PodDisruptionBudget`, by which at most one server is evicted at a time. A single server never has one, since
    /// it would keep a Kubernetes node from being drained.
    #[serde(default)]
    pub disruption_budget: Toggle,

    /// The `NetworkPolicy`, by which only clients, the master and the operator reach the servers.
    #[serde(default)]
    pub network_policy: Toggle,
}

/// What is a valid key of a label or annotation, as an expression over `key`.
const KEY: &str = "key.matches('^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$')";

const fn one() -> i32 {
    1
}

const fn ten_minutes() -> i64 {
    600
}

/// The pod of the master.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Master {
    /// Processor and memory of the master.
    #[serde(default, skip_serializing_if = "Resources::is_empty")]
    pub resources: Resources,

    /// The volume on which the master keeps the catalogue of models and the partition maps.
    #[serde(default)]
    pub storage: MasterStorage,
}
