//! What one client has open, and what it does with it: each operation is told to the checker when it begins and when it ends.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use glint::{Client, Read};
use tokio::time::timeout;

use crate::schedule::{
    cluster::Cluster,
    lock,
    plan::ModelPlan,
    target::{Form, Target, Wish, open},
    truth::Next,
};

/// What the workers of a client share.
pub(in crate::schedule) struct Session {
    pub(in crate::schedule) cluster: Cluster,
    pub(in crate::schedule) client: Client,
    /// Which client it is: what it has pushed it may ask for.
    number: u64,
    /// The models that it has open.
    opened: Vec<Mutex<Option<Arc<dyn Target>>>>,
}

impl Session {
    /// A session that has opened nothing yet.
    pub(in crate::schedule) fn new(cluster: &Cluster, client: Client) -> Self {
        let opened = cluster.plan.models.iter().map(|_| Mutex::new(None));
        Self {
            cluster: cluster.clone(),
            client,
            number: cluster.work.next_session(),
            opened: opened.collect(),
        }
    }

    /// The open model, opened or made if need be; none when that failed.
    pub(in crate::schedule) async fn target(
        &self,
        who: &str,
        at: usize,
    ) -> Option<Arc<dyn Target>> {
        let open = lock(&self.opened[at]).clone();
        match open {
            Some(target) => Some(target),
            None => self.open(who, at, Wish::OpenOrCreate).await,
        }
    }

    async fn open(&self, who: &str, at: usize, wish: Wish) -> Option<Arc<dyn Target>> {
        let (truth, plan) = (&self.cluster.truth, &self.cluster.plan.models[at]);
        let since = truth.opening(&plan.name, wish == Wish::OpenOrCreate);
        match open(&self.client, plan, wish).await {
            Ok(target) => {
                let handle = target.handle();
                self.cluster.trace.note(
                    who,
                    format_args!("{wish:?} {}: {}", plan.name, handle.incarnation),
                );
                truth.opened(who, since, plan, target.spec(), &handle);
                *lock(&self.opened[at]) = Some(Arc::clone(&target));
                self.place(plan, &target).await;
                Some(target)
            }
            Err(error) => {
                self.cluster
                    .trace
                    .note(who, format_args!("{wish:?} {}: {error:?}", plan.name));
                match error {
                    glint::Error::UnknownModel { .. } => truth.not_there(who, since, &plan.name),
                    glint::Error::Gone { .. } => {}
                    other @ glint::Error::WrongCluster { .. } => {
                        truth.cannot_open(who, since, &plan.name, &other);
                        // Its client is of no use any more: the training job starts again.
                        self.cluster.end_client(who);
                    }
                    other => truth.cannot_open(who, since, &plan.name, &other),
                }
                None
            }
        }
    }

    /// Finds out who holds its partitions.
    async fn place(&self, plan: &ModelPlan, target: &Arc<dyn Target>) {
        let (truth, incarnation) = (&self.cluster.truth, target.handle().incarnation);
        // Where there are copies, or partitions move, holders change.
        if self.cluster.plan.copied || truth.is_placed(incarnation) {
            return;
        }
        if let Ok(map) = self.client.map(&plan.name).await
            && map.incarnation == incarnation
        {
            let holder = |&at: &u32| map.servers[at as usize].id.0.clone();
            truth.placed(incarnation, map.holders.iter().map(holder).collect());
        }
    }

    /// Deletes a model and makes it again, or resets it, unless somebody else has.
    async fn renew(&self, who: &str, at: usize, old: &Arc<dyn Target>) {
        let plan = &self.cluster.plan.models[at];
        let _alone = self.cluster.work.renewing[at].lock().await;
        let old = old.handle().incarnation;
        *lock(&self.opened[at]) = None;
        let now = self.open(who, at, Wish::Open).await;
        if now.is_none_or(|now| now.handle().incarnation == old) {
            // The identity of the model is as good a die as any.
            let is_reset = old.model.0 % 2 == u64::from(old.generation) % 2;
            let call = self.cluster.truth.ending(&plan.name, is_reset);
            let (what, ended) = if is_reset {
                ("reset", self.client.reset(&plan.name).await)
            } else {
                ("delete", self.client.delete(&plan.name).await)
            };
            self.cluster.truth.deleted(call);
            self.cluster
                .trace
                .note(who, format_args!("{what} {}: {ended:?}", plan.name));
            *lock(&self.opened[at]) = None;
            self.open(who, at, Wish::OpenOrCreate).await;
        }
    }

    /// Does what an error asks for.
    pub(in crate::schedule) async fn after(
        &self,
        who: &str,
        at: usize,
        target: &Arc<dyn Target>,
        next: Next,
    ) {
        match next {
            Next::Continue => {}
            Next::Reopen => *lock(&self.opened[at]) = None,
            Next::Renew => self.renew(who, at, target).await,
        }
    }

    /// Pushes, and tells the truth; false when the cells can tell no more pushes apart.
    pub(in crate::schedule) async fn push(
        &self,
        who: &str,
        target: &Arc<dyn Target>,
        form: &Form,
        patience: Option<Duration>,
        rough: bool,
    ) -> Option<Next> {
        let truth = &self.cluster.truth;
        let begun = truth.begin_push(self.number, target.handle().incarnation, form)?;
        let push = target.push(form, &begun.numbers, rough);
        let end = match patience {
            None => push.await,
            Some(patience) => {
                if let Ok(end) = timeout(patience, push).await {
                    end
                } else {
                    truth.cancelled(who, &begun);
                    return Some(Next::Continue);
                }
            }
        };
        Some(truth.end_push(who, &begun, &end))
    }

    /// Pulls from such copies, and tells the truth.
    pub(in crate::schedule) async fn pull(
        &self,
        who: &str,
        target: &Arc<dyn Target>,
        form: &Form,
        read: Read,
    ) -> Next {
        let truth = &self.cluster.truth;
        let asked = truth.begin_pull(self.number, read.clone());
        let found = target.pull(form, read).await;
        truth.end_pull(who, target.handle().incarnation, &asked, form, &found)
    }
}
