//! `glint-operator`, the command line.

use std::{
    io::{self, Write},
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use glint_operator::{
    build::Installation,
    controller::{self, Scope},
    definition,
    health::{self, Health},
    lease::{self, LeaseConfig},
};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// Glint, the parameter server, on Kubernetes: makes of each `ParameterServer` a running one, and keeps it so.
#[derive(Parser)]
#[command(name = "glint-operator", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Look after the `ParameterServer`s of a Kubernetes cluster, until SIGTERM.
    Run(Run),
    /// Print the `CustomResourceDefinition` as YAML, ready for `kubectl apply --server-side -f -`.
    Crd,
}

#[derive(Args)]
struct Run {
    /// The image that masters and servers run unless their `ParameterServer` names one.
    #[arg(long, env = "GLINT_IMAGE")]
    image: String,
    /// The namespace that the operator runs in.
    #[arg(long, env = "POD_NAMESPACE")]
    namespace: String,
    /// The operator's name, unique among those that run at once.
    #[arg(long, env = "POD_NAME")]
    identity: String,
    /// The unique id of the operator's pod, by which `kubectl describe` finds events about it.
    #[arg(long, env = "POD_UID")]
    uid: Option<String>,
    /// A namespace to look after; may be repeated, or hold several between commas. All namespaces unless said.
    #[arg(
        long = "watch-namespace",
        env = "GLINT_WATCH_NAMESPACES",
        value_delimiter = ','
    )]
    namespaces: Vec<String>,
    /// The `Lease` that the operator that works holds; empty for none, when there is never more than one operator.
    #[arg(long, env = "GLINT_LEASE", default_value = "glint-operator")]
    lease: String,
    /// After how many seconds without a word the operator that works counts as gone.
    #[arg(long, env = "GLINT_LEASE_SECONDS", default_value_t = 15, value_parser = clap::value_parser!(u64).range(3..=300))]
    lease_seconds: u64,
    /// Whether to read the zones of Kubernetes nodes (`true` or `false`), so that copies lie in different ones.
    #[arg(long, env = "GLINT_ZONES", default_value_t = true, action = clap::ArgAction::Set)]
    zones: bool,
    /// Where to answer probes and Prometheus.
    #[arg(long, value_name = "HOST:PORT", default_value = "0.0.0.0:8080")]
    listen: String,
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Run(run) => {
            let filter = EnvFilter::try_from_default_env()
                .unwrap_or_else(|_| EnvFilter::new("info,kube=warn,tower=warn"));
            tracing_subscriber::fmt()
                .json()
                .flatten_event(true)
                .with_span_list(false)
                .with_env_filter(filter)
                .init();
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .enable_all()
                .build()
                .context("the async runtime does not start")?;
            runtime.block_on(run.run())
        }
        Command::Crd => print(&glint_operator::crd::yaml()?),
    }
}

impl Run {
    async fn run(self) -> anyhow::Result<()> {
        let stop = CancellationToken::new();
        stop_at_signals(&stop)?;
        let health = Arc::new(Health::default());
        let listener = TcpListener::bind(&self.listen).await.with_context(|| {
            format!(
                "cannot listen at {}; choose another address with --listen",
                self.listen
            )
        })?;
        let served = tokio::spawn(health::serve(Arc::clone(&health), listener, stop.clone()));
        let client = kube::Client::try_default()
            .await
            .context("no Kubernetes: neither in a pod nor with a kubeconfig")?;
        let scope = Scope {
            installation: Installation {
                image: self.image.clone(),
                namespace: self.namespace.clone(),
            },
            namespaces: self
                .namespaces
                .iter()
                .filter(|n| !n.is_empty())
                .cloned()
                .collect(),
            identity: self.identity.clone(),
            uid: self.uid.clone(),
            zones: self.zones,
        };
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"),
            ?scope,
            "operator started"
        );
        tokio::select! {
            () = definition::wait_for_it(&client, &scope, &health) => {}
            () = stop.cancelled() => return Ok(()),
        }
        let result = self.work(client, scope, &health, &stop).await;
        stop.cancel();
        served.await??;
        result
    }

    /// Works while the lease is ours.
    async fn work(
        &self,
        client: kube::Client,
        scope: Scope,
        health: &Arc<Health>,
        stop: &CancellationToken,
    ) -> anyhow::Result<()> {
        if self.lease.is_empty() {
            health.metrics.leads(true);
            controller::run(client, scope, Arc::clone(health), stop.clone()).await;
            return Ok(());
        }
        let config = LeaseConfig {
            name: self.lease.clone(),
            namespace: self.namespace.clone(),
            identity: self.identity.clone(),
            duration: Duration::from_secs(self.lease_seconds),
        };
        let mut held = tokio::select! {
            held = lease::acquire(client.clone(), config) => held,
            () = stop.cancelled() => return Ok(()),
        };
        health.metrics.leads(true);
        let working = controller::run(client, scope, Arc::clone(health), stop.clone());
        let lost = tokio::select! {
            () = working => None,
            why = held.keep() => Some(why),
        };
        match lost {
            None => {
                held.release().await;
                Ok(())
            }
            // What is under way might write after another operator has begun: only the end of the process is sure to end it.
            Some(why) => {
                tracing::error!(why, "the lease is lost; ending");
                std::process::exit(1);
            }
        }
    }
}

fn stop_at_signals(stop: &CancellationToken) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for ctrl-c")?;
    let stop = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("ending");
        stop.cancel();
    });
    Ok(())
}

/// Writes to standard output; a reader that has seen enough, such as `head`, is no error.
fn print(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}
