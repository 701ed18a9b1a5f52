//! Watches `ParameterServer`s, what is made for them and their pods, and has [`crate::reconcile`] look at an object when
//! something of it has changed. What is watched is kept, so that a look costs no calls.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::{Stream, StreamExt, future, stream::BoxStream};
use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        apps::v1::StatefulSet,
        core::v1::{Pod, Service},
        networking::v1::NetworkPolicy,
        policy::v1::PodDisruptionBudget,
    },
    jiff::Timestamp,
};
use kube::{
    Api, Client, Resource, ResourceExt,
    core::DeserializeGuard,
    runtime::{
        Controller, WatchStreamExt,
        controller::{self, Action},
        events::{Recorder, Reporter},
        reflector::{self, ObjectRef, Store, store::WriterDropped},
        watcher,
    },
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::{
    api::ParameterServer,
    backoff,
    build::{Child, INSTANCE, Installation, MANAGED_BY, MANAGER},
    health::Health,
    master::Masters,
    nodes::Nodes,
    reconcile::{self, Failure},
};

/// A `ParameterServer`, or why it could not be read: one that cannot must not stop the others.
pub type Guarded = DeserializeGuard<ParameterServer>;

/// What is known without asking, of one namespace or of all.
#[derive(Debug)]
pub struct Caches {
    /// `StatefulSet`s that operators made.
    pub stateful_sets: Store<StatefulSet>,
    services: Store<Service>,
    budgets: Store<PodDisruptionBudget>,
    policies: Store<NetworkPolicy>,
    /// Pods of master and servers.
    pub pods: Store<Pod>,
}

impl Caches {
    async fn filled(&self) -> Result<(), WriterDropped> {
        self.stateful_sets.wait_until_ready().await?;
        self.services.wait_until_ready().await?;
        self.budgets.wait_until_ready().await?;
        self.policies.wait_until_ready().await?;
        self.pods.wait_until_ready().await
    }

    /// What is known of an object; `None` inside when it is known not to be there, `None` outside when its kind is not
    /// watched.
    pub fn get(&self, namespace: &str, kind: &str, name: &str) -> Option<Option<Value>> {
        fn find<K>(store: &Store<K>, namespace: &str, name: &str) -> Option<Value>
        where
            K: Resource<DynamicType = ()> + Clone + Serialize + 'static,
        {
            let key = ObjectRef::new(name).within(namespace);
            serde_json::to_value(&*store.get(&key)?).ok()
        }
        Some(match kind {
            "StatefulSet" => find(&self.stateful_sets, namespace, name),
            "Service" => find(&self.services, namespace, name),
            "PodDisruptionBudget" => find(&self.budgets, namespace, name),
            "NetworkPolicy" => find(&self.policies, namespace, name),
            "Pod" => find(&self.pods, namespace, name),
            _ => return None,
        })
    }
}

/// What all looks share.
pub struct Context {
    /// The API server.
    pub client: Client,
    /// Where and what the operator is.
    pub installation: Installation,
    /// What is known without asking.
    pub caches: Caches,
    /// The zones of Kubernetes nodes.
    pub nodes: Nodes,
    /// Talks to masters.
    pub masters: Masters,
    /// Writes events.
    pub recorder: Recorder,
    /// What is counted.
    pub health: Arc<Health>,
    /// How many looks there were, to tell them apart in the log.
    looks: AtomicU64,
    /// How often in a row a look at an object failed.
    failures: Mutex<HashMap<ObjectRef<Guarded>, u32>>,
    /// The generation of what was applied last, which the watches may not have heard of yet.
    pub applied: Mutex<HashMap<String, i64>>,
    /// Fields that the API server does not keep as they were applied: what was applied, and which field. Never twice.
    pub stubborn: Mutex<HashMap<String, (String, String)>>,
    /// Objects whose owners were told that zones cannot be read.
    zoneless: Mutex<HashSet<ObjectRef<Guarded>>>,
}

impl Context {
    /// Forgets what it knew of an object that is gone.
    fn forget(&self, namespace: &str, name: &str) {
        self.health.metrics.is_gone(namespace, name);
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.retain(|key, _| key.name != name || key.namespace.as_deref() != Some(namespace));
        let mut zoneless = self.zoneless.lock().unwrap_or_else(PoisonError::into_inner);
        zoneless.retain(|key| key.name != name || key.namespace.as_deref() != Some(namespace));
        // What is made for it is named after it. Others of a longer name lose no more than a look.
        let of_it = format!("/{namespace}/{name}");
        let mut applied = self.applied.lock().unwrap_or_else(PoisonError::into_inner);
        applied.retain(|key, _| !key.contains(&of_it));
        let mut stubborn = self.stubborn.lock().unwrap_or_else(PoisonError::into_inner);
        stubborn.retain(|key, _| !key.contains(&of_it));
    }

    /// Whether it is to be said of an object that zones cannot be read: once.
    pub fn misses_zones(&self, object: &ParameterServer) -> bool {
        let key = ObjectRef::new(&object.name_any())
            .within(object.namespace().as_deref().unwrap_or_default());
        let mut zoneless = self.zoneless.lock().unwrap_or_else(PoisonError::into_inner);
        object.spec.servers > 1 && self.nodes.are_refused() && zoneless.insert(key)
    }
}

/// What the operator watches, and as who.
#[derive(Clone, Debug)]
pub struct Scope {
    /// Where and what the operator is.
    pub installation: Installation,
    /// The namespaces it looks after; all when empty.
    pub namespaces: Vec<String>,
    /// The operator's pod, named in its events.
    pub identity: String,
    /// Its unique id, by which `kubectl describe` finds events about it.
    pub uid: Option<String>,
    /// Whether the zones of Kubernetes nodes are read, for which there is a right of its own.
    pub zones: bool,
}

impl Scope {
    /// Writes events in the name of this operator.
    pub(crate) fn recorder(&self, client: &Client) -> Recorder {
        let reporter = Reporter {
            controller: MANAGER.to_owned(),
            instance: Some(self.identity.clone()),
        };
        Recorder::new(client.clone(), reporter)
    }
}

/// Looks after `ParameterServer`s until `stop`, and ends when what is under way is done.
pub async fn run(client: Client, scope: Scope, health: Arc<Health>, stop: CancellationToken) {
    let namespaces: Vec<Option<String>> = match scope.namespaces.as_slice() {
        [] => vec![None],
        some => some.iter().cloned().map(Some).collect(),
    };
    let nodes = if scope.zones {
        Nodes::wanted()
    } else {
        Nodes::unwanted()
    };
    let one = |namespace: Option<String>| {
        run_in(
            client.clone(),
            scope.clone(),
            namespace,
            nodes.clone(),
            Arc::clone(&health),
            stop.clone(),
        )
    };
    let working = future::join_all(namespaces.into_iter().map(one));
    let following = nodes.follow(client.clone(), &health);
    let following = stop.run_until_cancelled(following);
    future::join(working, following).await;
}

async fn run_in(
    client: Client,
    scope: Scope,
    namespace: Option<String>,
    nodes: Nodes,
    health: Arc<Health>,
    stop: CancellationToken,
) {
    let mut triggers = Vec::new();
    let caches = Caches {
        stateful_sets: watch(&client, namespace.as_deref(), &health, &mut triggers),
        services: watch(&client, namespace.as_deref(), &health, &mut triggers),
        budgets: watch(&client, namespace.as_deref(), &health, &mut triggers),
        policies: watch(&client, namespace.as_deref(), &health, &mut triggers),
        pods: watch(&client, namespace.as_deref(), &health, &mut triggers),
    };
    let context = Arc::new(Context {
        recorder: scope.recorder(&client),
        installation: scope.installation,
        caches,
        nodes,
        masters: Masters::default(),
        health: Arc::clone(&health),
        looks: AtomicU64::default(),
        failures: Mutex::default(),
        applied: Mutex::default(),
        stubborn: Mutex::default(),
        zoneless: Mutex::default(),
        client: client.clone(),
    });
    let failing = Arc::clone(&context);
    // A burst of changes, as when all pods of an object start, is one look.
    let config = controller::Config::default()
        .debounce(Duration::from_millis(200))
        .concurrency(8);
    Controller::new(
        api::<Guarded>(&client, namespace.as_deref()),
        watcher::Config::default(),
    )
    .with_config(config)
    .reconcile_on(futures_util::stream::select_all(triggers))
    .graceful_shutdown_on(stop.cancelled_owned())
    .run(look, after_failure, context)
    .for_each(|done| {
        match done {
            Ok(_) | Err(controller::Error::ReconcilerFailed(..)) => {}
            // Deleted meanwhile.
            Err(controller::Error::ObjectNotFound(gone)) => {
                failing.forget(gone.namespace.as_deref().unwrap_or_default(), &gone.name);
            }
            Err(error) => {
                health.metrics.watch_failed();
                tracing::warn!(%error, "the watch of ParameterServers broke; opening it again");
            }
        }
        future::ready(())
    })
    .await;
}

fn api<K>(client: &Client, namespace: Option<&str>) -> Api<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
{
    match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

/// Keeps what operators made of one kind, and tells whose it is when it changes.
fn watch<K>(
    client: &Client,
    namespace: Option<&str>,
    health: &Arc<Health>,
    triggers: &mut Vec<BoxStream<'static, ObjectRef<Guarded>>>,
) -> Store<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + std::fmt::Debug
        + Send
        + Sync
        + 'static,
{
    let (reader, writer) = reflector::store();
    let config = watcher::Config::default().labels(&format!("{MANAGED_BY}={MANAGER}"));
    let changes = watcher(api::<K>(client, namespace), config)
        .default_backoff()
        .modify(|object| {
            // They are never looked at, and as large as the rest.
            object.managed_fields_mut().clear();
        })
        .reflect(writer)
        .touched_objects();
    triggers.push(owners(changes, Arc::clone(health)).boxed());
    reader
}

fn owners<K>(
    changes: impl Stream<Item = watcher::Result<K>> + Send + 'static,
    health: Arc<Health>,
) -> impl Stream<Item = ObjectRef<Guarded>> + Send + 'static
where
    K: Resource<DynamicType = ()> + Send + 'static,
{
    changes.filter_map(move |change| {
        let owner = match change {
            Ok(object) => owner(&object),
            Err(error) => {
                health.metrics.watch_failed();
                tracing::warn!(kind = %K::kind(&()), %error, "a watch broke; opening it again");
                None
            }
        };
        future::ready(owner)
    })
}

fn owner(object: &impl ResourceExt) -> Option<ObjectRef<Guarded>> {
    let name = object.labels().get(INSTANCE)?;
    Some(ObjectRef::new(name).within(&object.namespace()?))
}

async fn look(object: Arc<Guarded>, context: Arc<Context>) -> Result<Action, Failure> {
    let started = std::time::Instant::now();
    let key = ObjectRef::from_obj(&*object);
    let namespace = key.namespace.clone().unwrap_or_default();
    context
        .caches
        .filled()
        .await
        .map_err(|_| Failure::Stopping)?;
    context.nodes.settled().await;
    let span = tracing::info_span!(
        "look",
        namespace,
        parameterserver = key.name,
        number = context.looks.fetch_add(1, Ordering::Relaxed)
    );
    let paused = object.0.as_ref().is_ok_and(|object| object.spec.paused);
    let metrics = &context.health.metrics;
    metrics.is_there(&namespace, &key.name, paused);
    let looking = Box::pin(reconcile::reconcile(&object, &context));
    let result = looking.instrument(span).await;
    let failed = result.as_ref().err().map(Failure::reason);
    context
        .health
        .metrics
        .reconciled(&namespace, failed, started.elapsed());
    let mut failures = context
        .failures
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    match &result {
        Ok(_) => {
            failures.remove(&key);
        }
        Err(_) => {
            // Bounded by the objects that there are: a success or the end of the process removes it.
            *failures.entry(key).or_default() += 1;
        }
    }
    result
}

/// Waits longer after each failure in a row.
#[allow(clippy::needless_pass_by_value, reason = "the controller calls it so")]
fn after_failure(object: Arc<Guarded>, error: &Failure, context: Arc<Context>) -> Action {
    let key = ObjectRef::from_obj(&*object);
    let failures = context
        .failures
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    let failed = failures.get(&key).copied().unwrap_or(1);
    let wait = backoff::wait(failed, spread());
    tracing::warn!(
        namespace = key.namespace,
        parameterserver = key.name,
        %error,
        failed,
        again_in_s = wait.as_secs_f64(),
        "a look at a ParameterServer failed"
    );
    Action::requeue(wait)
}

/// Some number from 0 to 1, so that objects that failed together do not try again together.
fn spread() -> f64 {
    f64::from(Timestamp::now().subsec_nanosecond() % 1000) / 1000.0
}

/// The name under which a child is remembered.
pub fn key(namespace: &str, child: &Child) -> String {
    format!("{}/{namespace}/{}", child.resource.kind, child.name)
}
