//! Where the partitions of an open model are: a cached map, refreshed by one caller at a time.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use arc_swap::ArcSwap;
use glint_protocol::{
    ClusterId, Epoch, Incarnation, Layout, ModelMap, ModelSpec,
    error::{GoneReason, Hint},
    ids::Revision,
};

use crate::{
    Error, Result,
    control::{Control, same_cluster},
    error::Applied,
    stats::{Counters, count},
    transport::{Server, Transport},
};

/// Which server holds which partition. A new one replaces it when something has changed.
#[derive(Debug)]
pub(crate) struct Routes {
    revision: Revision,
    servers: Vec<Arc<Server>>,
    holders: Vec<u32>,
    epochs: Vec<Epoch>,
    /// Partitions whose values are lost: for good, within one generation.
    lost: BTreeSet<u32>,
}

impl Routes {
    fn new(map: &ModelMap, transport: &Transport) -> Result<Self> {
        let mut servers = Vec::with_capacity(map.servers.len());
        for server in &map.servers {
            servers.push(transport.server(&server.url)?);
        }
        Ok(Self {
            revision: map.revision,
            servers,
            holders: map.holders.clone(),
            epochs: map.epochs.clone(),
            lost: map.lost.iter().copied().collect(),
        })
    }

    /// Holder and epoch of a partition of the model.
    pub(crate) fn holder(&self, partition: u32) -> (&Arc<Server>, Epoch) {
        let at = partition as usize;
        (&self.servers[self.holders[at] as usize], self.epochs[at])
    }

    pub(crate) fn server_count(&self) -> usize {
        self.servers.len().max(1)
    }

    /// Takes what is newer in `other`: per partition the higher epoch, then the higher revision. None when that is nothing.
    fn merge(&self, other: &Self) -> Option<Self> {
        let newer = |at: usize| {
            other.epochs[at] > self.epochs[at]
                || (other.epochs[at] == self.epochs[at] && other.revision > self.revision)
        };
        let moved = |at: &usize| {
            other.epochs[*at] != self.epochs[*at]
                || other.servers[other.holders[*at] as usize].id
                    != self.servers[self.holders[*at] as usize].id
        };
        let changes: Vec<usize> = (0..self.holders.len())
            .filter(|&at| newer(at))
            .filter(moved)
            .collect();
        if changes.is_empty() && other.revision <= self.revision && other.lost.is_subset(&self.lost)
        {
            return None;
        }
        let mut servers: Vec<Arc<Server>> = Vec::new();
        let mut places = BTreeMap::new();
        let (mut holders, mut epochs) = (self.holders.clone(), self.epochs.clone());
        let mut changes = changes.into_iter().peekable();
        for at in 0..holders.len() {
            let from = if changes.next_if_eq(&at).is_some() {
                other
            } else {
                self
            };
            let server = &from.servers[from.holders[at] as usize];
            holders[at] = *places.entry(server.id).or_insert_with(|| {
                servers.push(Arc::clone(server));
                servers.len() as u32 - 1
            });
            epochs[at] = from.epochs[at];
        }
        Some(Self {
            revision: self.revision.max(other.revision),
            servers,
            holders,
            epochs,
            lost: self.lost.union(&other.lost).copied().collect(),
        })
    }
}

/// An open model.
#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) cluster: ClusterId,
    pub(crate) spec: ModelSpec,
    pub(crate) incarnation: Incarnation,
    pub(crate) layout: Layout,
    routes: ArcSwap<Routes>,
    /// Counts refreshes that ended; who waited for one does not make another.
    refreshes: AtomicU64,
    refreshing: tokio::sync::Mutex<()>,
    last: Mutex<Option<Error>>,
    control: Arc<Control>,
    transport: Arc<Transport>,
    counters: Arc<Counters>,
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
            cluster: map.cluster,
            spec: map.spec,
            incarnation: map.incarnation,
            layout,
            refreshes: AtomicU64::new(0),
            refreshing: tokio::sync::Mutex::new(()),
            last: Mutex::new(None),
            control,
            transport,
            counters,
        })
    }

    pub(crate) fn name(&self) -> &str {
        &self.spec.name
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
        self.routes.rcu(|routes| {
            let at = partition as usize;
            if hint.epoch <= routes.epochs[at] {
                return Arc::clone(routes);
            }
            let (mut servers, mut holders, mut epochs) = (
                routes.servers.clone(),
                routes.holders.clone(),
                routes.epochs.clone(),
            );
            let place = servers
                .iter()
                .position(|s| s.id == server.id)
                .unwrap_or_else(|| {
                    servers.push(Arc::clone(&server));
                    servers.len() - 1
                });
            holders[at] = place as u32;
            epochs[at] = hint.epoch;
            Arc::new(Routes {
                revision: routes.revision,
                servers,
                holders,
                epochs,
                lost: routes.lost.clone(),
            })
        });
    }

    /// How many refreshes have ended: to be read before the attempt whose failure asks for one.
    pub(crate) fn refreshes(&self) -> u64 {
        self.refreshes.load(Ordering::Acquire)
    }

    /// Asks the master for a fresh map, unless somebody has since `seen` was read. The map in use stays when the master
    /// does not answer; an error says that the model is gone.
    pub(crate) async fn refresh(&self, seen: u64) -> Result<()> {
        let _one = self.refreshing.lock().await;
        if self.refreshes() != seen {
            let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
            return last.clone().map_or(Ok(()), Err);
        }
        count(&self.counters.map_refreshes, 1);
        let end = match self.control.map_once(self.name()).await {
            Ok(map) => self.take(&map),
            Err(Error::UnknownModel { .. }) => Err(self.gone(GoneReason::Deleted)),
            Err(error @ (Error::WrongCluster { .. } | Error::UnsupportedProtocol { .. })) => {
                Err(error)
            }
            Err(error) => {
                tracing::debug!(model = self.name(), %error, "no fresh map; the old one stays in use");
                Ok(())
            }
        };
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = end.clone().err();
        self.refreshes.fetch_add(1, Ordering::Release);
        end
    }

    fn take(&self, map: &ModelMap) -> Result<()> {
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
        self.routes.rcu(|routes| {
            routes
                .merge(&fresh)
                .map_or_else(|| Arc::clone(routes), Arc::new)
        });
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use glint_world::World;

    use super::*;

    fn transport() -> Transport {
        Transport::new(World::real(), 1, Duration::from_secs(1), Arc::default())
    }

    fn routes(transport: &Transport, revision: u64, held: &[(&str, u64)]) -> Routes {
        let mut servers: Vec<Arc<Server>> = Vec::new();
        let mut holders = Vec::new();
        for (url, _) in held {
            let server = transport.server(url).unwrap();
            let place = servers.iter().position(|s| s.id == server.id);
            holders.push(place.unwrap_or(servers.len()) as u32);
            if place.is_none() {
                servers.push(server);
            }
        }
        let epochs = held.iter().map(|(_, epoch)| Epoch(*epoch)).collect();
        Routes {
            revision: Revision(revision),
            servers,
            holders,
            epochs,
            lost: BTreeSet::new(),
        }
    }

    fn shown(routes: &Routes) -> Vec<(String, u64)> {
        (0..routes.holders.len() as u32)
            .map(|p| {
                let (server, epoch) = routes.holder(p);
                (server.connections.url().to_string(), epoch.0)
            })
            .collect()
    }

    #[test]
    fn maps_are_merged_by_epoch_per_partition_and_then_by_revision() {
        let transport = transport();
        let old = routes(
            &transport,
            5,
            &[("http://a:1", 3), ("http://a:1", 9), ("http://b:1", 4)],
        );
        let new = routes(
            &transport,
            6,
            &[("http://c:1", 7), ("http://b:1", 8), ("http://c:1", 4)],
        );
        let merged = old.merge(&new).unwrap();
        assert_eq!(
            shown(&merged),
            [
                ("http://c:1".to_owned(), 7),
                ("http://a:1".to_owned(), 9),
                ("http://c:1".to_owned(), 4)
            ]
        );
        assert!(merged.merge(&old).is_none(), "an older map changes nothing");
    }

    #[test]
    fn one_url_is_one_server_as_long_as_it_is_used() {
        let transport = transport();
        let first = transport.server("http://a:1").unwrap();
        assert_eq!(transport.server("http://a:1/").unwrap().id, first.id);
        let id = first.id;
        drop(first);
        assert_ne!(transport.server("http://a:1").unwrap().id, id);
    }
}
