//! What the master knows for ever: cluster, term, counters, servers, models and tombstones. Plain data with questions to
//! ask of it; [`super::transition`] changes it, [`super::journal`] makes a change durable before anyone sees it.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use glint_protocol::{
    Boot, ClusterId, Epoch, ErrorBody, Incarnation, Layout, LossReason, ModelId, ModelMap,
    ModelSpec, OsBoot, Partitioning, RequestId, ServerId, Term,
    control::{CopiesSummary, Labels, ModelState, ModelSummary, Volume},
    copies::CopyRole,
    error::GoneReason,
    ids::Revision,
    loss::LossSummary,
    map::ServerAddress,
};

use super::{adoption::Adopting, copies::Copies};

/// Starts of servers that are remembered as superseded.
const MAX_SUPERSEDED: usize = 1024;

/// The whole durable state of a master. A clone is cheap: models are shared until they change.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct State {
    /// Made at random by the first start with empty storage.
    pub(crate) cluster: ClusterId,
    /// This start.
    pub(crate) term: Term,
    /// The last epoch that was given out, or that a server reported.
    pub(crate) epoch: Epoch,
    /// The last revision that was given out: one counter for all models, so that a model made again under its name never
    /// has a revision that clients have seen.
    pub(crate) revision: Revision,
    /// Every server that has registered and is not forgotten.
    pub(crate) servers: BTreeMap<ServerId, KnownServer>,
    /// Models by name.
    pub(crate) models: BTreeMap<String, Arc<Model>>,
    /// Models that are no more, the oldest first.
    pub(crate) tombstones: VecDeque<Tombstone>,
    /// Servers that an admin gave up while models still name them, with where they answered: clients read their
    /// addresses in maps, though nothing there serves.
    pub(crate) dead: BTreeMap<ServerId, String>,
    /// Starts of servers that speak for nobody any more, the oldest first: a later start has registered, or an admin has
    /// given the server up. A late message of such a start must not pass for a restart.
    pub(crate) superseded: VecDeque<(ServerId, Boot)>,
    /// Whether copies are to be moved until all servers have about as much: since one has joined, or an admin asked for it.
    pub(crate) levelling: bool,
    /// What servers have reported to a master that had lost its state, until an admin says that all have.
    pub(crate) adopting: Option<Arc<Adopting>>,
}

/// A server, as it registered last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KnownServer {
    /// Where it answers.
    pub(crate) url: String,
    /// Its start.
    pub(crate) boot: Boot,
    /// Bytes of values that it may hold.
    pub(crate) capacity_bytes: u64,
    /// Its data directory, if it has one: the identity of its copies of logged models.
    pub(crate) volume: Option<Volume>,
    /// The start of the operating system that it runs on.
    pub(crate) os_boot: OsBoot,
    /// Where it runs, as it says itself.
    pub(crate) labels: Labels,
    /// Where it runs, as it was told of it; that counts, and not what it says itself. See [`super::place`].
    pub(crate) told: Option<Labels>,
    /// Whether everything is to move off it, and nothing to it.
    pub(crate) draining: bool,
    /// Whether that ends when the server starts again: it asked for it itself, to end.
    pub(crate) returns: bool,
}

/// How far a model is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Its servers make its partitions; no client knows it yet.
    Creating,
    /// It was reset: its servers let go of the generation before and make this one. Like `Creating`, but that its
    /// partitions never go elsewhere, since a silent server may still serve the generation before.
    Resetting,
    /// It serves. From here on, a partition that is absent is lost.
    Live,
}

/// A model and where its partitions are.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Model {
    pub(crate) spec: ModelSpec,
    pub(crate) incarnation: Incarnation,
    pub(crate) phase: Phase,
    /// Rises with every change of what clients see: holders, epochs, what is lost, where servers answer.
    pub(crate) revision: Revision,
    /// Of the last change that is to be said of all partitions again.
    pub(crate) base: Revision,
    /// Of the last change of anything. Follows from the rest.
    pub(crate) configured: Revision,
    /// The servers that have, shall have, or may still have copies of its partitions, in the order of their names.
    pub(crate) servers: Vec<ServerId>,
    /// Per partition: its holder, as an index into `servers`.
    pub(crate) holders: Vec<u32>,
    /// Per partition: its epoch.
    pub(crate) epochs: Vec<Epoch>,
    /// Partitions whose values are lost, and why.
    pub(crate) lost: BTreeMap<u32, LossReason>,
    /// Per partition that has, or had, other copies than its holder's: which.
    pub(crate) copies: BTreeMap<u32, Copies>,
    /// The last requests by which it was reset, the oldest first.
    pub(crate) resets: Vec<RequestId>,
    /// The highest generation of it that any server has reported: above its own only if the master's state is an older copy.
    /// Not kept, since every server reports again to every start of a master.
    pub(crate) reported: u32,
    /// Per partition: bytes of its values. Follows from the spec.
    pub(super) sizes: Arc<[u64]>,
    /// Per server in `servers`: bytes of values of its copies. Follows from the rest.
    pub(super) bytes: Vec<u64>,
}

/// Who holds which partition of a model, at which epoch: what a [`Model`] is made of.
#[derive(Clone, Debug)]
pub(crate) struct Assignment {
    pub(crate) servers: Vec<ServerId>,
    pub(crate) holders: Vec<u32>,
    pub(crate) epochs: Vec<Epoch>,
    pub(crate) lost: BTreeMap<u32, LossReason>,
    pub(crate) copies: BTreeMap<u32, Copies>,
}

impl Assignment {
    /// Per partition its holder, all at one epoch, nothing lost.
    pub(crate) fn of(holders: &[ServerId], epoch: Epoch) -> Self {
        let used: BTreeSet<&ServerId> = holders.iter().collect();
        let index: BTreeMap<&ServerId, u32> = used.iter().copied().zip(0..).collect();
        Self {
            servers: used.iter().map(|&id| id.clone()).collect(),
            holders: holders.iter().map(|id| index[id]).collect(),
            epochs: vec![epoch; holders.len()],
            lost: BTreeMap::new(),
            copies: BTreeMap::new(),
        }
    }
}

/// What is remembered of a model that is no more: servers delete only on its word, and a repeated request finds out what
/// became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tombstone {
    /// The model, up to this generation.
    pub(crate) incarnation: Incarnation,
    /// Why, for servers to tell late requests.
    pub(crate) reason: GoneReason,
    /// Servers that may still hold partitions of it.
    pub(crate) awaited: BTreeSet<ServerId>,
    /// Why it never came to live, when its making failed.
    pub(crate) failure: Option<ErrorBody>,
}

impl Tombstone {
    /// Whether it speaks of this incarnation.
    pub(crate) fn covers(&self, incarnation: Incarnation) -> bool {
        self.incarnation.model == incarnation.model
            && incarnation.generation <= self.incarnation.generation
    }
}

/// Bytes of values of each partition of a model.
pub(crate) fn partition_bytes(spec: &ModelSpec) -> Vec<u64> {
    let width = u64::from(spec.shape.cols()) * spec.element.size() as u64;
    let keys = match &spec.partitioning {
        Partitioning::Named { sizes, .. } => sizes.clone(),
        // Only a named partitioner can be missing.
        _ => Layout::new(spec, |_| None).map_or_else(
            |_| Vec::new(),
            |layout| {
                (0..spec.partition_count)
                    .map(|p| layout.size(p))
                    .collect::<Vec<_>>()
            },
        ),
    };
    // A valid spec's values all together have less than 2^63 bytes.
    keys.into_iter().map(|k| k.saturating_mul(width)).collect()
}

impl Model {
    /// A model with the bytes per server that follow from the rest; none when the lists contradict each other.
    pub(crate) fn new(
        spec: ModelSpec,
        incarnation: Incarnation,
        phase: Phase,
        revision: Revision,
        assignment: Assignment,
    ) -> Option<Self> {
        let Assignment {
            servers,
            holders,
            epochs,
            lost,
            copies,
        } = assignment;
        let count = spec.partition_count as usize;
        let consistent = holders.len() == count
            && epochs.len() == count
            && holders.iter().all(|&h| (h as usize) < servers.len())
            && servers.windows(2).all(|pair| pair[0] < pair[1])
            && lost
                .last_key_value()
                .is_none_or(|(&p, _)| (p as usize) < count)
            && copies.iter().all(|(&p, copies)| {
                let holder = holders.get(p as usize);
                holder.is_some_and(|&h| copies.is_consistent(h, servers.len()))
            });
        let sizes = partition_bytes(&spec);
        if !consistent || sizes.len() != count {
            return None;
        }
        let mut bytes = vec![0_u64; servers.len()];
        let others = copies
            .iter()
            .flat_map(|(&p, copies)| copies.places.iter().map(move |place| (place.server, p)));
        for (server, partition) in holders.iter().copied().zip(0..).chain(others) {
            let sum = &mut bytes[server as usize];
            *sum = sum.saturating_add(sizes[partition as usize]);
        }
        let configured = copies.values().map(|c| c.revision).max();
        Some(Self {
            spec,
            incarnation,
            phase,
            revision,
            base: revision,
            configured: configured.unwrap_or_default().max(revision),
            servers,
            holders,
            epochs,
            lost,
            copies,
            resets: Vec::new(),
            reported: 0,
            sizes: sizes.into(),
            bytes,
        })
    }

    /// The generation that comes next: above all that any server has.
    pub(crate) fn next_generation(&self) -> u32 {
        self.incarnation
            .generation
            .max(self.reported)
            .saturating_add(1)
    }

    /// A server's place in `servers`.
    pub(crate) fn index_of(&self, server: &ServerId) -> Option<u32> {
        self.servers.binary_search(server).ok().map(|i| i as u32)
    }

    /// The server that is to hold a partition.
    pub(crate) fn holder(&self, partition: u32) -> &ServerId {
        &self.servers[self.holders[partition as usize] as usize]
    }

    /// The partitions that the server with this place in `servers` holds.
    pub(crate) fn held_by(&self, index: u32) -> impl Iterator<Item = u32> + '_ {
        self.holders
            .iter()
            .enumerate()
            .filter(move |&(_, &h)| h == index)
            .map(|(p, _)| p as u32)
    }

    /// Bytes of its values on a server.
    pub(crate) fn bytes_on(&self, server: &ServerId) -> u64 {
        self.index_of(server).map_or(0, |i| self.bytes[i as usize])
    }

    /// Whether a server holds some of its partitions, as far as they have values.
    pub(crate) fn has_values_on(&self, server: &ServerId) -> bool {
        self.index_of(server)
            .is_some_and(|index| self.held_by(index).any(|p| !self.lost.contains_key(&p)))
    }

    fn losses(&self) -> Vec<LossSummary> {
        let mut counts: BTreeMap<(u32, LossReason), u32> = BTreeMap::new();
        for (&partition, &reason) in &self.lost {
            let holder = self.holders[partition as usize];
            *counts.entry((holder, reason)).or_default() += 1;
        }
        counts
            .into_iter()
            .map(|((holder, reason), partitions)| LossSummary {
                server: self.servers[holder as usize].clone(),
                reason,
                partitions,
            })
            .collect()
    }

    fn copies_summary(&self) -> CopiesSummary {
        let wanted = self.spec.copies();
        let (mut fewest, mut below, mut waiting) = (wanted, 0, 0);
        if wanted > 1 || !self.copies.is_empty() {
            for partition in (0..self.spec.partition_count).filter(|p| !self.lost.contains_key(p)) {
                let had = 1 + self.in_sync(partition).count().min(usize::from(wanted)) as u8;
                let vacant = self.is_vacant(partition);
                fewest = fewest.min(had);
                below += u32::from(had < wanted);
                waiting += u32::from(vacant);
            }
        }
        CopiesSummary {
            wanted,
            fewest,
            below,
            waiting,
        }
    }

    /// The model in a list.
    pub(crate) fn summary(&self) -> ModelSummary {
        let copies = self.copies_summary();
        ModelSummary {
            spec: self.spec.clone(),
            incarnation: self.incarnation,
            state: match self.phase {
                Phase::Creating | Phase::Resetting => ModelState::Creating,
                Phase::Live if !self.lost.is_empty() => ModelState::Lost,
                Phase::Live if copies.below > 0 => ModelState::Degraded,
                Phase::Live => ModelState::Live,
            },
            copies,
            revision: self.revision,
            lost_partitions: self.lost.len() as u32,
            losses: self.losses(),
            bytes: self.spec.bytes().unwrap_or(u64::MAX),
        }
    }
}

impl State {
    /// Which cluster this is: none while that is for a server to say, to a master that adopts.
    pub(crate) fn known_cluster(&self) -> Option<ClusterId> {
        let is_known = self.adopting.as_ref().is_none_or(|a| a.cluster_known);
        is_known.then_some(self.cluster)
    }

    /// The state of a new cluster.
    pub(crate) fn new(cluster: ClusterId) -> Self {
        Self {
            cluster,
            term: Term(1),
            epoch: Epoch(0),
            revision: Revision(0),
            servers: BTreeMap::new(),
            models: BTreeMap::new(),
            tombstones: VecDeque::new(),
            dead: BTreeMap::new(),
            superseded: VecDeque::new(),
            levelling: false,
            adopting: None,
        }
    }

    /// An epoch that was never used.
    pub(crate) fn fresh_epoch(&mut self) -> Epoch {
        self.epoch = self.epoch.next();
        self.epoch
    }

    /// A revision that was never used.
    pub(crate) fn fresh_revision(&mut self) -> Revision {
        self.revision = self.revision.next();
        self.revision
    }

    /// The model of this id.
    pub(crate) fn model(&self, id: ModelId) -> Option<&Arc<Model>> {
        self.models.values().find(|m| m.incarnation.model == id)
    }

    /// What is remembered of the model of this id, if it is no more.
    pub(crate) fn tombstone(&self, id: ModelId) -> Option<&Tombstone> {
        self.tombstones
            .iter()
            .rev()
            .find(|t| t.incarnation.model == id)
    }

    /// Bytes of values that are placed on a server.
    pub(crate) fn placed_bytes(&self, server: &ServerId) -> u64 {
        self.models
            .values()
            .fold(0, |sum, m| sum.saturating_add(m.bytes_on(server)))
    }

    /// Copies of partitions that are, or may still be, on a server.
    pub(crate) fn copies_on(&self, server: &ServerId) -> u64 {
        let on = |model: &Arc<Model>| {
            let index = model.index_of(server)?;
            let others = model.copies.values().filter(|c| c.role(index).is_some());
            Some((model.held_by(index).count() + others.count()) as u64)
        };
        self.models.values().filter_map(on).sum()
    }

    /// Partitions that a server holds, as far as they have values.
    pub(crate) fn served_by(&self, server: &ServerId) -> u64 {
        let of_one = |model: &Arc<Model>| {
            let index = model.index_of(server)?;
            let held = model.held_by(index);
            Some(
                held.filter(|p| !model.lost.contains_key(p) && !model.is_vacant(*p))
                    .count() as u64,
            )
        };
        self.models.values().filter_map(of_one).sum()
    }

    /// Partitions that a server holds.
    pub(crate) fn partitions_of(&self, server: &ServerId) -> u64 {
        self.models
            .values()
            .filter_map(|m| Some(m.held_by(m.index_of(server)?).count() as u64))
            .sum()
    }

    /// Notes that a start of a server speaks for nobody any more.
    pub(crate) fn supersede(&mut self, server: &ServerId, boot: Boot) {
        if !self.is_superseded(server, boot) {
            self.superseded.push_back((server.clone(), boot));
            if self.superseded.len() > MAX_SUPERSEDED {
                self.superseded.pop_front();
            }
        }
    }

    /// Whether a start of a server speaks for nobody any more.
    pub(crate) fn is_superseded(&self, server: &ServerId, boot: Boot) -> bool {
        self.superseded
            .iter()
            .any(|(id, old)| *old == boot && id == server)
    }

    /// Lets go of dead servers that no model names any more.
    pub(crate) fn bury_the_dead(&mut self) {
        let models = &self.models;
        self.dead
            .retain(|id, _| models.values().any(|m| m.index_of(id).is_some()));
    }

    /// Whether any partition is, or may still be, on a server.
    pub(crate) fn is_needed(&self, server: &ServerId) -> bool {
        self.models.values().any(|m| m.index_of(server).is_some())
    }

    /// The partition map of a model, for clients.
    pub(crate) fn map(&self, model: &Model, max_deadline_ms: u64) -> ModelMap {
        let address = |id: &ServerId| ServerAddress {
            id: id.clone(),
            // Every holder is known or dead: a server that holds something is not forgotten, and loading checks it.
            url: self
                .servers
                .get(id)
                .map(|s| &s.url)
                .or_else(|| self.dead.get(id))
                .cloned()
                .unwrap_or_default(),
        };
        // Servers whose copies answer nothing are none that a client would ask.
        let mut place = vec![None; model.servers.len()];
        let in_sync = model.copies.values().flat_map(|c| c.of(CopyRole::InSync));
        for server in model.holders.iter().copied().chain(in_sync) {
            place[server as usize] = Some(0);
        }
        for (new, place) in place.iter_mut().flatten().enumerate() {
            *place = new as u32;
        }
        let at = |server: u32| place[server as usize];
        let named = model
            .servers
            .iter()
            .zip(&place)
            .filter(|(_, p)| p.is_some());
        let mut followers: Vec<Vec<u32>> = Vec::new();
        if model
            .copies
            .values()
            .any(|c| c.of(CopyRole::InSync).next().is_some())
        {
            let of = |p| model.in_sync(p).filter_map(at).collect();
            followers = (0..model.spec.partition_count).map(of).collect();
        }
        ModelMap {
            cluster: self.cluster,
            spec: model.spec.clone(),
            incarnation: model.incarnation,
            revision: model.revision,
            max_deadline_ms,
            servers: named.map(|(id, _)| address(id)).collect(),
            holders: model.holders.iter().filter_map(|&h| at(h)).collect(),
            epochs: model.epochs.clone(),
            followers,
            lost: model.lost.keys().copied().collect(),
        }
    }
}
