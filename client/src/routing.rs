//! Where the partitions of an open model are: a cached map, which [`crate::follow`] keeps fresh and servers' hints correct.

mod routes;

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use arc_swap::ArcSwap;
use glint_protocol::{
    ClusterId, Epoch, Incarnation, Layout, ModelMap, ModelSpec, Position,
    error::{GoneReason, Hint},
};

pub(crate) use self::routes::Routes;
use crate::{
    Error, Result,
    control::{Control, same_cluster},
    error::Applied,
    follow::{Follower, Following},
    read::Positions,
    stats::Counters,
    transport::{Server, Transport},
};

/// An open model.
#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) cluster: ClusterId,
    pub(crate) spec: ModelSpec,
    pub(crate) incarnation: Incarnation,
    pub(crate) layout: Layout,
    routes: ArcSwap<Routes>,
    /// Per partition: the highest log position that an answer to this client has named.
    positions: Box<[AtomicU64]>,
    pub(crate) following: Arc<Following>,
    /// What the master's last answer was, when it was one that no operation survives.
    end: Mutex<Option<Error>>,
    pub(crate) control: Arc<Control>,
    transport: Arc<Transport>,
    pub(crate) counters: Arc<Counters>,
}

impl Drop for Model {
    fn drop(&mut self) {
        self.following.end();
    }
}

impl Model {
    pub(crate) fn new(
        map: ModelMap,
        layout: Layout,
        control: Arc<Control>,
        transport: Arc<Transport>,
        counters: Arc<Counters>,
    ) -> Result<Self> {
        check(&map, &control)?;
        Ok(Self {
            routes: ArcSwap::from_pointee(Routes::new(&map, &transport)?),
            positions: map.holders.iter().map(|_| AtomicU64::new(0)).collect(),
            cluster: map.cluster,
            spec: map.spec,
            incarnation: map.incarnation,
            layout,
            following: Arc::default(),
            end: Mutex::new(None),
            control,
            transport,
            counters,
        })
    }

    pub(crate) fn name(&self) -> &str {
        &self.spec.name
    }

    /// Notes that an operation begins, or is tried again: the map of a model that is used is followed.
    pub(crate) fn note_use(self: &Arc<Self>) {
        if self.following.note_use() {
            let world = &self.transport.world;
            let follower = Follower::new(self, world.random.clone());
            world.tasks.spawn(Box::pin(follower.run()));
        }
    }

    /// The highest log position of a partition that an answer to this client has named.
    pub(crate) fn position(&self, partition: u32) -> Position {
        let highest = self.positions.get(partition as usize);
        Position(highest.map_or(0, |highest| highest.load(Ordering::Relaxed)))
    }

    /// All such positions.
    pub(crate) fn positions(&self) -> Positions {
        let all = (0..self.positions.len() as u32).map(|p| (p, self.position(p)));
        Positions::new(self.incarnation, all.filter(|(_, at)| at.0 > 0).collect())
    }

    /// Notes the log position that an answer names.
    pub(crate) fn note_position(&self, partition: u32, position: Position) {
        if let Some(highest) = self.positions.get(partition as usize) {
            highest.fetch_max(position.0, Ordering::Relaxed);
        }
    }

    pub(crate) fn routes(&self) -> arc_swap::Guard<Arc<Routes>> {
        self.routes.load()
    }

    /// Holder and epoch of a partition.
    pub(crate) fn holder(&self, partition: u32) -> (Arc<Server>, Epoch) {
        let routes = self.routes.load();
        let (server, epoch) = routes.holder(partition);
        (Arc::clone(server), epoch)
    }

    /// Whether a partition is held by this server at this epoch.
    pub(crate) fn is_held(&self, partition: u32, server: usize, epoch: Epoch) -> bool {
        let routes = self.routes.load();
        routes.is_held(partition, server, epoch)
    }

    /// What to answer for a partition whose values the map calls lost: so that nobody waits for a server that will not come.
    pub(crate) fn lost(&self, partition: u32) -> Option<Error> {
        self.routes.load().lost.contains(&partition).then(|| Error::Lost {
            model: self.name().to_owned(),
            partition,
            why: format!(
                "the values of partition {partition} of model '{name}' are lost, `glint status` says why. Start the model again \
                 from its initial value with: glint model reset {name}",
                name = self.name()
            ),
            applied: Applied::No,
        })
    }

    /// Takes what a server says about the holder of a partition, if it is newer than what is known.
    pub(crate) fn take_hint(&self, partition: u32, hint: &Hint) {
        let Ok(server) = self.transport.server(&hint.url) else {
            return;
        };
        self.change(|routes| routes.corrected(partition, &server, hint.epoch));
    }

    /// Replaces the routes by what `next` makes of them, and tells those who wait.
    fn change(&self, next: impl Fn(&Routes) -> Option<Routes>) {
        let mut changed = false;
        self.routes.rcu(|routes| {
            let next = next(routes);
            changed = next.is_some();
            next.map_or_else(|| Arc::clone(routes), Arc::new)
        });
        if changed {
            self.transport.changes.announce();
        }
    }

    /// Asks for a fresh map in the background, unless an answer of the master has come since `seen` was read.
    pub(crate) fn want_map(&self, seen: u64) {
        self.following.want(seen);
    }

    /// How many answers of the master have come.
    pub(crate) fn answers(&self) -> u64 {
        self.following.answers()
    }

    /// Why no operation on the model can succeed any more, as the master has it: it is gone, or the cluster is another one.
    pub(crate) fn end(&self) -> Option<Error> {
        let end = self.end.lock().unwrap_or_else(PoisonError::into_inner);
        end.clone()
    }

    /// Why the model is no more, if the master says so.
    pub(crate) fn gone_by_master(&self) -> Option<Error> {
        self.end().filter(|end| matches!(end, Error::Gone { .. }))
    }

    /// Takes what the master has answered. The map in use stays when that is none.
    pub(crate) fn heard(&self, answer: Result<ModelMap>) -> Result<()> {
        let taken = match answer {
            Ok(map) => self.take(&map),
            Err(Error::UnknownModel { .. }) => Err(self.gone(GoneReason::Deleted)),
            Err(error) => Err(error),
        };
        let end = match &taken {
            Err(
                error @ (Error::Gone { .. }
                | Error::WrongCluster { .. }
                | Error::UnsupportedProtocol { .. }),
            ) => Some(error.clone()),
            Err(error) => {
                tracing::debug!(model = self.name(), %error, "no fresh map; the old one stays in use");
                None
            }
            Ok(()) => None,
        };
        let ended = end.is_some();
        *self.end.lock().unwrap_or_else(PoisonError::into_inner) = end;
        self.following.answered();
        if ended {
            self.transport.changes.announce();
        }
        taken
    }

    /// Takes a map of the model, as far as it is newer.
    pub(crate) fn take(&self, map: &ModelMap) -> Result<()> {
        same_cluster(&self.control.url(), self.cluster, map.cluster)?;
        if map.incarnation.model != self.incarnation.model {
            return Err(self.gone(GoneReason::Deleted));
        }
        if map.incarnation.generation > self.incarnation.generation {
            return Err(self.gone(GoneReason::Reset));
        }
        if map.incarnation.generation < self.incarnation.generation {
            return Ok(());
        }
        check(map, &self.control)?;
        let fresh = Routes::new(map, &self.transport)?;
        self.change(|routes| routes.merge(&fresh));
        Ok(())
    }

    fn gone(&self, reason: GoneReason) -> Error {
        Error::Gone {
            model: self.name().to_owned(),
            reason,
            applied: Applied::No,
        }
    }
}

fn check(map: &ModelMap, control: &Control) -> Result<()> {
    if map.is_consistent() {
        return Ok(());
    }
    Err(Error::NotGlint {
        url: control.url(),
        found: format!("its map of model '{}' contradicts itself", map.spec.name),
    })
}
