//! Of several operators one works: the one that holds the `Lease`.
//!
//! Time is measured on this machine's clock only: a lease is free when its holder has not renewed it for its duration while
//! this process was looking. The holder stops before that: it ends when it could not renew for two thirds of it.

use std::time::Duration;

use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
    jiff::Timestamp,
};
use kube::{Api, Client, api::PostParams};
use tokio::time::{Instant, sleep, timeout};

/// Which lease, and how it is held.
#[derive(Clone, Debug)]
pub struct LeaseConfig {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Who holds it: unique among the operators.
    pub identity: String,
    /// After how long without a word its holder counts as gone.
    pub duration: Duration,
}

impl LeaseConfig {
    fn renew_every(&self) -> Duration {
        self.duration / 7
    }

    fn give_up_after(&self) -> Duration {
        self.duration * 2 / 3
    }
}

/// A lease that this process holds.
pub struct Held {
    api: Api<Lease>,
    config: LeaseConfig,
    lease: Lease,
}

/// Waits until the lease is ours.
pub async fn acquire(client: Client, config: LeaseConfig) -> Held {
    let api: Api<Lease> = Api::namespaced(client, &config.namespace);
    // What was seen of another holder, and since when.
    let mut seen: Option<(LeaseSpec, Instant)> = None;
    let mut told = None;
    loop {
        match attempt(&api, &config, &mut seen).await {
            Ok(Attempt::Ours(lease)) => {
                tracing::info!(
                    lease = config.name,
                    identity = config.identity,
                    "this operator works"
                );
                return Held {
                    api,
                    config,
                    lease: *lease,
                };
            }
            Ok(Attempt::Theirs(holder)) => {
                if told.as_ref() != Some(&holder) {
                    tracing::info!(
                        lease = config.name,
                        holder,
                        "another operator works; waiting"
                    );
                    told = Some(holder);
                }
            }
            Err(error) => {
                tracing::warn!(lease = config.name, %error, "the lease cannot be read or taken; trying again");
            }
        }
        sleep(config.renew_every()).await;
    }
}

enum Attempt {
    Ours(Box<Lease>),
    Theirs(String),
}

async fn attempt(
    api: &Api<Lease>,
    config: &LeaseConfig,
    seen: &mut Option<(LeaseSpec, Instant)>,
) -> Result<Attempt, kube::Error> {
    let Some(mut lease) = api.get_opt(&config.name).await? else {
        let lease = Lease {
            metadata: ObjectMeta {
                name: Some(config.name.clone()),
                ..ObjectMeta::default()
            },
            spec: Some(spec(config, None)),
        };
        let made = api.create(&PostParams::default(), &lease).await?;
        return Ok(Attempt::Ours(Box::new(made)));
    };
    let there = lease.spec.clone().unwrap_or_default();
    let holder = there.holder_identity.clone().unwrap_or_default();
    if !holder.is_empty() && holder != config.identity {
        let since = match seen {
            Some((spec, since)) if *spec == there => *since,
            _ => {
                let now = Instant::now();
                *seen = Some((there.clone(), now));
                now
            }
        };
        let duration = there
            .lease_duration_seconds
            .map_or(config.duration, |seconds| {
                Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
            });
        if since.elapsed() < duration {
            return Ok(Attempt::Theirs(holder));
        }
    }
    // Its resource version makes this fail when somebody else was faster.
    lease.spec = Some(spec(config, Some(&there)));
    let taken = api
        .replace(&config.name, &PostParams::default(), &lease)
        .await?;
    Ok(Attempt::Ours(Box::new(taken)))
}

fn spec(config: &LeaseConfig, before: Option<&LeaseSpec>) -> LeaseSpec {
    let now = MicroTime(Timestamp::now());
    let ours = before.filter(|b| b.holder_identity.as_ref() == Some(&config.identity));
    let transitions = before.and_then(|b| b.lease_transitions).unwrap_or(0);
    LeaseSpec {
        holder_identity: Some(config.identity.clone()),
        lease_duration_seconds: i32::try_from(config.duration.as_secs()).ok(),
        acquire_time: ours.map_or(Some(now.clone()), |b| b.acquire_time.clone()),
        renew_time: Some(now),
        lease_transitions: Some(transitions + i32::from(before.is_some() && ours.is_none())),
        ..LeaseSpec::default()
    }
}

impl Held {
    /// Renews the lease again and again; returns when it is lost, and nothing may be written any more.
    pub async fn keep(&mut self) -> String {
        let mut renewed = Instant::now();
        loop {
            sleep(self.config.renew_every()).await;
            let left = self
                .config
                .give_up_after()
                .saturating_sub(renewed.elapsed());
            self.lease.spec = Some(spec(&self.config, self.lease.spec.as_ref()));
            let parameters = PostParams::default();
            let replace = self
                .api
                .replace(&self.config.name, &parameters, &self.lease);
            let why = match timeout(left, replace).await {
                Ok(Ok(lease)) => {
                    self.lease = lease;
                    renewed = Instant::now();
                    continue;
                }
                Ok(Err(error)) => error.to_string(),
                Err(_) => "no answer in time".to_owned(),
            };
            if let Ok(Ok(lease)) = timeout(left, self.api.get(&self.config.name)).await {
                let holder = lease.spec.as_ref().and_then(|s| s.holder_identity.clone());
                if holder.as_ref() != Some(&self.config.identity) {
                    return format!("{} holds it now", holder.unwrap_or_default());
                }
                // Our own renewal, whose answer was lost.
                self.lease = lease;
            }
            if renewed.elapsed() >= self.config.give_up_after() {
                return why;
            }
            tracing::warn!(why, "the lease could not be renewed; trying again");
        }
    }

    /// Gives the lease back, so that another operator need not wait for it to run out.
    pub async fn release(mut self) {
        if let Some(spec) = &mut self.lease.spec {
            spec.holder_identity = None;
            spec.lease_duration_seconds = Some(1);
        }
        let parameters = PostParams::default();
        let replace = self
            .api
            .replace(&self.config.name, &parameters, &self.lease);
        match timeout(Duration::from_secs(2), replace).await {
            Ok(Ok(_)) => tracing::info!("the lease was given back"),
            Ok(Err(error)) => tracing::warn!(%error, "the lease could not be given back"),
            Err(_) => tracing::warn!("the lease could not be given back in time"),
        }
    }
}
