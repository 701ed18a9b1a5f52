//! The description of every path of master and servers, for programs: `GET /v1/openapi.json` at both.
//!
//! The paths are one table, [`ENDPOINTS`], which a test holds against the routers; the shapes are generated from the
//! protocol's types. Bodies in binary frames are described as such: `docs/protocol.md` says what is in them.

use std::{collections::BTreeMap, sync::OnceLock};

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use glint_protocol::{
    BINARY, ErrorBody, JSON, ModelMap,
    admin::{
        Adoption, DrainServers, Draining, ForgetServer, ModelCopies, MoveCopy, RebalancePlan,
        ResetModel,
    },
    control::{
        ClusterStatus, CreateModel, Heartbeat, Leave, Left, ModelSummary, Orders, Recovering,
        Register, Registered,
    },
    copies::{ChangeCopies, CopiesChanged, Suspect},
    data::{PullRequest, PushRequest, Reply},
};
use http::{HeaderValue, header};
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::server::status::ServerStatus;

/// Who answers at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// The master.
    Master,
    /// Every server.
    Server,
    /// Both.
    Both,
    /// Both, each with a status of its own.
    Each,
}

/// What a request or an answer has as its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Nothing.
    Nothing,
    /// An empty JSON object: done.
    Done,
    /// JSON of this schema.
    Json(&'static str),
    /// A JSON list of this schema.
    List(&'static str),
    /// A binary frame, or JSON of this schema.
    Frame(&'static str),
    /// The status of a server, or of the cluster where the master answers.
    Status,
    /// What only programs of one version say to each other.
    Internal,
    /// Plain text.
    Text,
    /// A page for people.
    Html,
    /// This description.
    Description,
}

/// One path with one method.
#[derive(Clone, Copy, Debug)]
pub struct Endpoint {
    /// In lower case.
    pub method: &'static str,
    /// With `{name}` for what varies.
    pub path: &'static str,
    /// Who answers.
    pub at: At,
    /// What it does.
    pub summary: &'static str,
    /// Parts of the path and the query: name, whether it is part of the path, what it is.
    pub parameters: &'static [(&'static str, bool, &'static str)],
    /// The request's body.
    pub takes: Shape,
    /// The answer's body.
    pub gives: Shape,
}

const fn endpoint(
    method: &'static str,
    path: &'static str,
    at: At,
    takes: Shape,
    gives: Shape,
    summary: &'static str,
) -> Endpoint {
    Endpoint {
        method,
        path,
        at,
        summary,
        parameters: &[],
        takes,
        gives,
    }
}

const NAME: (&str, bool, &str) = ("name", true, "The model's name.");

/// Every path of master and servers.
pub const ENDPOINTS: &[Endpoint] = &[
    endpoint(
        "get",
        "/livez",
        At::Both,
        Shape::Nothing,
        Shape::Text,
        "Whether the process runs.",
    ),
    endpoint(
        "get",
        "/readyz",
        At::Both,
        Shape::Nothing,
        Shape::Text,
        "Whether it serves: of a server, whether it is registered.",
    ),
    endpoint(
        "get",
        "/v1/openapi.json",
        At::Both,
        Shape::Nothing,
        Shape::Description,
        "This description.",
    ),
    endpoint(
        "get",
        "/v1/status",
        At::Each,
        Shape::Nothing,
        Shape::Status,
        "What there is and how it fares: the cluster at the master, its partitions at a server.",
    ),
    endpoint(
        "get",
        "/metrics",
        At::Server,
        Shape::Nothing,
        Shape::Text,
        "What it holds and has done, and its busiest partitions, for Prometheus.",
    ),
    endpoint(
        "get",
        "/",
        At::Master,
        Shape::Nothing,
        Shape::Html,
        "The status of the cluster as a page for people.",
    ),
    endpoint(
        "get",
        "/v1/models",
        At::Master,
        Shape::Nothing,
        Shape::List("ModelSummary"),
        "Lists models by name.",
    ),
    endpoint(
        "post",
        "/v1/models",
        At::Master,
        Shape::Json("CreateModel"),
        Shape::Json("ModelMap"),
        "Makes a model, or opens the one that is there.",
    ),
    Endpoint {
        parameters: &[
            NAME,
            (
                "revision",
                false,
                "Wait until the map has another revision than this one.",
            ),
            (
                "wait_ms",
                false,
                "How long to wait for it at most, in milliseconds.",
            ),
        ],
        ..endpoint(
            "get",
            "/v1/models/{name}",
            At::Master,
            Shape::Nothing,
            Shape::Json("ModelMap"),
            "Opens a model: its map.",
        )
    },
    Endpoint {
        parameters: &[NAME, ("id", false, "Delete it only if it has this id.")],
        ..endpoint(
            "delete",
            "/v1/models/{name}",
            At::Master,
            Shape::Nothing,
            Shape::Done,
            "Deletes a model.",
        )
    },
    Endpoint {
        parameters: &[NAME],
        ..endpoint(
            "get",
            "/v1/models/{name}/copies",
            At::Master,
            Shape::Nothing,
            Shape::Json("ModelCopies"),
            "Where the copies of each partition are, and what each is.",
        )
    },
    Endpoint {
        parameters: &[NAME],
        ..endpoint(
            "post",
            "/v1/models/{name}/reset",
            At::Master,
            Shape::Json("ResetModel"),
            Shape::Json("ModelMap"),
            "Sets all values of a model back to its initial value, as a new generation.",
        )
    },
    endpoint(
        "post",
        "/v1/servers/recovering",
        At::Master,
        Shape::Json("Recovering"),
        Shape::Done,
        "A server reads its data directory and cannot register yet.",
    ),
    endpoint(
        "post",
        "/v1/servers/forget",
        At::Master,
        Shape::Json("ForgetServer"),
        Shape::Done,
        "An admin gives a server up.",
    ),
    endpoint(
        "post",
        "/v1/servers/drain",
        At::Master,
        Shape::Json("DrainServers"),
        Shape::List("Draining"),
        "Has everything moved off several servers, or off none.",
    ),
    Endpoint {
        parameters: &[
            ("name", true, "The server's name."),
            (
                "returns",
                false,
                "It asks for it itself, to end: the draining is over when it starts again.",
            ),
        ],
        ..endpoint(
            "post",
            "/v1/servers/{name}/drain",
            At::Master,
            Shape::Nothing,
            Shape::Json("Draining"),
            "Has everything moved off a server, and nothing to it.",
        )
    },
    Endpoint {
        parameters: &[("name", true, "The server's name.")],
        ..endpoint(
            "delete",
            "/v1/servers/{name}/drain",
            At::Master,
            Shape::Nothing,
            Shape::Json("Draining"),
            "Ends the draining of a server; what is on it stays.",
        )
    },
    Endpoint {
        parameters: &[("name", true, "The server's name.")],
        ..endpoint(
            "put",
            "/v1/servers/{name}/labels",
            At::Master,
            Shape::Json("Labels"),
            Shape::Json("Labels"),
            "Takes where a server runs, in place of what it says itself.",
        )
    },
    Endpoint {
        parameters: &[
            ("name", true, "The model's name."),
            ("partition", true, "Which of its partitions."),
        ],
        ..endpoint(
            "post",
            "/v1/models/{name}/partitions/{partition}/move",
            At::Master,
            Shape::Json("MoveCopy"),
            Shape::Json("PlannedMove"),
            "Moves one copy of a partition to another server.",
        )
    },
    Endpoint {
        parameters: &[("dry_run", false, "Only say which moves there would be.")],
        ..endpoint(
            "post",
            "/v1/rebalance",
            At::Master,
            Shape::Nothing,
            Shape::Json("RebalancePlan"),
            "Moves copies until all servers have about as much.",
        )
    },
    Endpoint {
        parameters: &[(
            "uncertain",
            false,
            "What becomes of partitions whose copies may lack something: `refuse` (default), `take` the latest, or `lose`.",
        )],
        ..endpoint(
            "post",
            "/v1/adopt/finish",
            At::Master,
            Shape::Nothing,
            Shape::Json("Adoption"),
            "Ends an adoption: what no server has reported is lost.",
        )
    },
    endpoint(
        "post",
        "/v1/servers/register",
        At::Master,
        Shape::Json("Register"),
        Shape::Json("Registered"),
        "A server makes itself known, with what it holds.",
    ),
    endpoint(
        "post",
        "/v1/servers/heartbeat",
        At::Master,
        Shape::Json("Heartbeat"),
        Shape::Done,
        "A server lives.",
    ),
    endpoint(
        "post",
        "/v1/servers/leave",
        At::Master,
        Shape::Json("Leave"),
        Shape::Json("Left"),
        "A server ends in order.",
    ),
    endpoint(
        "post",
        "/v1/servers/change",
        At::Master,
        Shape::Json("ChangeCopies"),
        Shape::Json("CopiesChanged"),
        "A holder asks for other in-sync sets of its partitions.",
    ),
    endpoint(
        "post",
        "/v1/servers/suspect",
        At::Master,
        Shape::Json("Suspect"),
        Shape::Done,
        "A follower does not hear holders any more.",
    ),
    endpoint(
        "post",
        "/v1/orders",
        At::Server,
        Shape::Json("Orders"),
        Shape::Done,
        "The master says what to hold and what to drop.",
    ),
    endpoint(
        "post",
        "/v1/copies",
        At::Server,
        Shape::Internal,
        Shape::Internal,
        "A holder sends its followers what their copies lack. Between servers of one version.",
    ),
    endpoint(
        "post",
        "/v1/copies/beacon",
        At::Server,
        Shape::Internal,
        Shape::Internal,
        "A holder asks its followers not to serve in its place for a while. Between servers of one version.",
    ),
    endpoint(
        "post",
        "/v1/copies/yield",
        At::Server,
        Shape::Internal,
        Shape::Internal,
        "Who held a partition lets the new holder begin. Between servers of one version.",
    ),
    endpoint(
        "post",
        "/v1/pull",
        At::Server,
        Shape::Frame("PullRequest"),
        Shape::Frame("Reply"),
        "Reads values: one result per group.",
    ),
    endpoint(
        "post",
        "/v1/push",
        At::Server,
        Shape::Frame("PushRequest"),
        Shape::Frame("Reply"),
        "Merges updates, each exactly once: one result per group.",
    ),
];

/// The description as JSON.
pub fn description() -> Value {
    let mut paths: BTreeMap<&str, serde_json::Map<String, Value>> = BTreeMap::new();
    for endpoint in ENDPOINTS {
        paths
            .entry(endpoint.path)
            .or_default()
            .insert(endpoint.method.into(), operation(endpoint));
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Glint",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "The parameter server. Models live at the master, their values at the servers that its maps name. \
                Binary bodies, lanes and numbers are described in docs/protocol.md.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {"schemas": schemas()},
    })
}

/// `GET /v1/openapi.json`.
pub async fn serve() -> Response {
    static TEXT: OnceLock<Bytes> = OnceLock::new();
    let text = TEXT.get_or_init(|| description().to_string().into());
    let json = [(header::CONTENT_TYPE, HeaderValue::from_static(JSON))];
    (json, text.clone()).into_response()
}

fn operation(endpoint: &Endpoint) -> Value {
    let tags = match endpoint.at {
        At::Master => json!(["master"]),
        At::Server => json!(["server"]),
        At::Both | At::Each => json!(["master", "server"]),
    };
    let parameters: Vec<Value> = endpoint
        .parameters
        .iter()
        .map(|(name, in_path, description)| {
            json!({
                "name": name, "in": if *in_path { "path" } else { "query" }, "required": in_path,
                "description": description, "schema": {"type": ["string", "integer"]},
            })
        })
        .collect();
    let mut operation = json!({
        "summary": endpoint.summary,
        "tags": tags,
        "responses": {
            "200": {"description": "Done.", "content": content(endpoint.gives)},
            "default": {"description": "An error: its code says whether to try again.", "content": content(Shape::Json("ErrorBody"))},
        },
    });
    if !parameters.is_empty() {
        operation["parameters"] = parameters.into();
    }
    if endpoint.takes != Shape::Nothing {
        operation["requestBody"] = json!({"required": true, "content": content(endpoint.takes)});
    }
    operation
}

fn reference(schema: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{schema}")})
}

fn content(shape: Shape) -> Value {
    match shape {
        Shape::Nothing => json!({}),
        Shape::Done | Shape::Description => json!({JSON: {"schema": {"type": "object"}}}),
        Shape::Json(schema) => json!({JSON: {"schema": reference(schema)}}),
        Shape::List(schema) => {
            json!({JSON: {"schema": {"type": "array", "items": reference(schema)}}})
        }
        Shape::Frame(schema) => json!({
            BINARY: {"schema": {"type": "string", "contentMediaType": BINARY}},
            JSON: {"schema": reference(schema)},
        }),
        Shape::Status => json!({JSON: {"schema": {
            "oneOf": [reference("ClusterStatus"), reference("ServerStatus")],
        }}}),
        Shape::Internal => {
            json!({BINARY: {"schema": {"type": "string", "contentMediaType": BINARY}}})
        }
        Shape::Text => json!({"text/plain": {"schema": {"type": "string"}}}),
        Shape::Html => json!({"text/html": {"schema": {"type": "string"}}}),
    }
}

fn schemas() -> BTreeMap<String, Value> {
    let mut all = BTreeMap::new();
    add::<Adoption>(&mut all);
    add::<ChangeCopies>(&mut all);
    add::<ClusterStatus>(&mut all);
    add::<CopiesChanged>(&mut all);
    add::<CreateModel>(&mut all);
    add::<ModelCopies>(&mut all);
    add::<DrainServers>(&mut all);
    add::<Draining>(&mut all);
    add::<ErrorBody>(&mut all);
    add::<ForgetServer>(&mut all);
    add::<Heartbeat>(&mut all);
    add::<Leave>(&mut all);
    add::<Left>(&mut all);
    add::<ModelMap>(&mut all);
    add::<ModelSummary>(&mut all);
    add::<Orders>(&mut all);
    add::<PullRequest>(&mut all);
    add::<PushRequest>(&mut all);
    add::<RebalancePlan>(&mut all);
    add::<MoveCopy>(&mut all);
    add::<Recovering>(&mut all);
    add::<Register>(&mut all);
    add::<Registered>(&mut all);
    add::<Reply>(&mut all);
    add::<ResetModel>(&mut all);
    add::<ServerStatus>(&mut all);
    add::<Suspect>(&mut all);
    all
}

/// Adds a type and all that it refers to.
fn add<T: ToSchema>(all: &mut BTreeMap<String, Value>) {
    let mut found = vec![(T::name().into_owned(), T::schema())];
    T::schemas(&mut found);
    for (name, schema) in found {
        // What cannot be written as JSON would be missing, and the test of references would say so.
        if let Ok(schema) = serde_json::to_value(schema) {
            all.insert(name, schema);
        }
    }
}

#[cfg(test)]
mod tests;
