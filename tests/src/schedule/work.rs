//! What the clients of a schedule do: workers that push and pull, some of it at once, some of it taken back, and now and
//! then delete a model and make it again.

mod session;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::future::join_all;
use glint::{Client, ForgottenPushes, Read};
use glint_world::World;
use tokio::{sync::Notify, time::sleep};

use super::{
    cluster::{Cluster, MASTER},
    plan::{ModelPlan, Plan},
    target::{Form, Target},
    truth::Next,
};
use crate::simulated::Dice;
pub(super) use session::Session;

/// What is left to do, and who may renew which model.
pub(super) struct Work {
    left: AtomicU64,
    /// Workers that have not finished; those of a killed client are counted again when it starts again.
    busy: AtomicU64,
    finished: Notify,
    /// How many clients there were.
    sessions: AtomicU64,
    /// Every client that has connected.
    clients: Mutex<Vec<Client>>,
    renewing: Vec<tokio::sync::Mutex<()>>,
}

impl Work {
    pub(super) fn new(plan: &Plan) -> Self {
        let renewing = plan.models.iter().map(|_| tokio::sync::Mutex::default());
        Self {
            left: AtomicU64::new(plan.operations),
            busy: AtomicU64::new(0),
            finished: Notify::new(),
            sessions: AtomicU64::new(0),
            clients: Mutex::default(),
            renewing: renewing.collect(),
        }
    }

    fn take(&self) -> bool {
        let less = |left: u64| left.checked_sub(1);
        let taken = self
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        taken.is_ok()
    }

    /// A number for a client, which no other has.
    pub(super) fn next_session(&self) -> u64 {
        self.sessions.fetch_add(1, Ordering::Relaxed)
    }

    /// How often requests of all clients were sent again.
    pub(super) fn retries(&self) -> u64 {
        let clients = super::lock(&self.clients);
        clients.iter().map(|client| client.stats().retries).sum()
    }

    /// What clients were told of acknowledged pushes that are gone.
    pub(super) fn losses(&self) -> Vec<ForgottenPushes> {
        let clients = super::lock(&self.clients);
        clients.iter().flat_map(Client::take_losses).collect()
    }

    /// Waits until everything is done that was to be done.
    pub(super) async fn finished(&self) {
        while self.left.load(Ordering::Relaxed) > 0 || self.busy.load(Ordering::Relaxed) > 0 {
            self.finished.notified().await;
        }
    }
}

/// Counts a worker as busy as long as it lives.
struct Busy(Arc<Work>);

impl Busy {
    fn new(work: &Arc<Work>) -> Self {
        work.busy.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(work))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, Ordering::Relaxed);
        self.0.finished.notify_one();
    }
}

/// One client process with its workers.
pub(super) async fn client(cluster: &Cluster, name: &str, world: World) {
    let _busy = Busy::new(&cluster.work);
    let client = loop {
        let builder = Client::builder(&format!("http://{MASTER}:7100"))
            .options(cluster.options())
            .world(world.clone());
        match builder.connect().await {
            Ok(client) => break client,
            Err(error) => cluster
                .trace
                .note(name, format_args!("cannot connect: {error}")),
        }
    };
    super::lock(&cluster.work.clients).push(client.clone());
    let session = Arc::new(Session::new(cluster, client));
    for number in 0..cluster.plan.workers {
        let who = format!("{name}.{number}");
        let worker = Worker {
            session: Arc::clone(&session),
            dice: Dice::new(world.random.bits()),
            who,
        };
        let busy = Busy::new(&cluster.work);
        world.tasks.spawn(Box::pin(async move {
            worker.run().await;
            drop(busy);
        }));
    }
}

struct Worker {
    session: Arc<Session>,
    dice: Dice,
    who: String,
}

impl Worker {
    async fn run(mut self) {
        let plan = Arc::clone(&self.session.cluster.plan);
        let rest = if plan.rests {
            self.dice.below(plan.operations)
        } else {
            0
        };
        let mut done = 0;
        let work = Arc::clone(&self.session.cluster.work);
        while work.take() {
            self.turn(&plan).await;
            done += 1;
            if done == rest {
                sleep(plan.max_deadline * 11 + self.dice.millis(0..2000)).await;
            }
            let pause = self.dice.below(plan.pause_ms + 1);
            if pause > 0 {
                sleep(Duration::from_millis(pause)).await;
            }
        }
    }

    async fn turn(&mut self, plan: &Plan) {
        let at = self.dice.below(plan.models.len() as u64) as usize;
        let session = Arc::clone(&self.session);
        let Some(target) = session.target(&self.who, at).await else {
            sleep(self.dice.millis(1..100)).await;
            return;
        };
        let model = &plan.models[at];
        let who = &self.who;
        // Where there are copies, what counts is what several begin at once, or take back, while a holder is replaced.
        let (pulls, bursts, taken_back) = if plan.copied {
            (13, 18, 16)
        } else {
            (25, 14, 8)
        };
        let weights = [50, pulls, bursts, taken_back, u64::from(!plan.fair)];
        let next = match self.dice.weighted(&weights) {
            0 => {
                let form = form(&mut self.dice, model);
                match session.push(who, &target, &form, None, model.rough).await {
                    Some(next) => next,
                    None => session.pull(who, &target, &form, Read::Latest).await,
                }
            }
            1 => {
                let form = form(&mut self.dice, model);
                let read = read(&mut self.dice, plan);
                session.pull(who, &target, &form, read).await
            }
            2 => self.burst(&target, model).await,
            3 => {
                let form = form(&mut self.dice, model);
                let patience = self.dice.millis(0..40);
                let pushed = session.push(who, &target, &form, Some(patience), model.rough);
                pushed.await.unwrap_or(Next::Continue)
            }
            _ => Next::Renew,
        };
        session.after(&self.who, at, &target, next).await;
    }

    /// Several operations at once, on a few cells.
    async fn burst(&mut self, target: &Arc<dyn Target>, model: &ModelPlan) -> Next {
        let (session, who) = (Arc::clone(&self.session), &self.who);
        let count = self.dice.within(2..9);
        let plan = Arc::clone(&session.cluster.plan);
        let forms: Vec<(Form, Option<Read>)> = (0..count)
            .map(|_| {
                let form = form(&mut self.dice, model);
                let is_push = self.dice.chance(0.8);
                (form, (!is_push).then(|| read(&mut self.dice, &plan)))
            })
            .collect();
        let operations = forms.iter().map(|(form, read)| {
            let session = &session;
            async move {
                if let Some(read) = read.clone() {
                    session.pull(who, target, form, read).await
                } else {
                    let pushed = session.push(who, target, form, None, model.rough).await;
                    pushed.unwrap_or(Next::Continue)
                }
            }
        });
        let nexts = join_all(operations).await;
        let other = nexts.into_iter().find(|next| *next != Next::Continue);
        other.unwrap_or(Next::Continue)
    }
}

/// Which copies a pull is to read.
fn read(dice: &mut Dice, plan: &Plan) -> Read {
    if !plan.copied {
        return Read::Latest;
    }
    let beacon = plan.pulse.beacon_ms;
    match dice.weighted(&[4, 4, 1, 2]) {
        0 => Read::Latest,
        // Often about as long as it takes to know that a copy is as new.
        1 => Read::Within(dice.millis(beacon / 2..beacon * 8)),
        2 => Read::Any,
        _ => Read::OwnWrites,
    }
}

/// Some cells of a model, each once; often the same few.
fn form(dice: &mut Dice, model: &ModelPlan) -> Form {
    let keys = model.shape.keys();
    let cols = model.shape.cols();
    let range = |dice: &mut Dice| {
        let start = dice.below(keys);
        start..(start + dice.within(1..7)).min(keys)
    };
    let some = |dice: &mut Dice, most: u64, of: u64| {
        let mut chosen: Vec<u64> = Vec::new();
        for _ in 0..dice.within(1..most) {
            let at = dice.below(of);
            if !chosen.contains(&at) {
                chosen.push(at);
            }
        }
        chosen
    };
    if !model.shape.is_matrix() {
        return match dice.below(3) {
            0 => Form::Range(range(dice)),
            _ => Form::Keys(some(dice, 6, keys)),
        };
    }
    match dice.below(4) {
        0 => Form::RowRange(range(dice)),
        1 => Form::Rows(some(dice, 4, keys)),
        _ => {
            let cells = some(dice, 6, keys * u64::from(cols));
            let pair = |cell: u64| (cell / u64::from(cols), (cell % u64::from(cols)) as u32);
            Form::Pairs(cells.into_iter().map(pair).collect())
        }
    }
}

/// All cells of a model.
pub(super) fn all(model: &ModelPlan) -> Form {
    let keys = model.shape.keys();
    if model.shape.is_matrix() {
        Form::RowRange(0..keys)
    } else {
        Form::Range(0..keys)
    }
}
