//! The records of the stream applied to partitions, in the order of each partition, many partitions at once.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    sync::Arc,
};

use bytes::Bytes;
use glint_protocol::{Incarnation, ModelSpec, Position};
use glint_world::World;

use super::stream::Judged;
use super::{AT_ONCE, Recovered, RecoveredModel, RecoveredPartition, RecoveryError, beside};
use crate::{
    log::{
        record::{Header, Kind},
        replayed,
        segment::{Damage, HEADER_BYTES, Item, Located},
        snapshot::About,
    },
    partition::{Description, Partition},
};

/// Records that are applied where they are found; more than that are spread.
const FEW_BYTES: u64 = 1 << 20;

type Key = (Incarnation, u32);

/// Partitions on their way back.
#[derive(Debug, Default)]
pub(super) struct Replay {
    specs: BTreeMap<Incarnation, Arc<ModelSpec>>,
    parts: BTreeMap<Key, Part>,
    lost: BTreeMap<Key, Arc<str>>,
    /// Partitions of which there are records and no beginning, and where the first is.
    headless: BTreeMap<Key, Arc<str>>,
    /// Copies that began or were let go, and whose beginning is not there: their records count for nothing.
    unfounded: BTreeSet<Key>,
    /// The last damage of which nobody knows whose it is: what makes a partition may have been there.
    damage: Option<Arc<str>>,
    dropped: BTreeSet<Incarnation>,
    tail: Vec<(Header, Bytes)>,
}

#[derive(Debug)]
struct Part {
    description: Description,
    partition: Partition,
    /// Records before this place are in its snapshot.
    cut: u64,
    needed_from: Option<u64>,
    /// It may have had a record where something is damaged.
    suspect: Option<Arc<str>>,
    lost: Option<Arc<str>>,
    /// Another copy has begun after it, whose snapshot is not there: its records are not of this one.
    replaced: bool,
}

impl Replay {
    /// A partition as its snapshot has it.
    pub(super) fn base(&mut self, about: About, partition: Partition) {
        let key = (about.incarnation, about.partition);
        if self.lost.contains_key(&key) {
            return;
        }
        let spec = self
            .specs
            .entry(about.incarnation)
            .or_insert_with(|| Arc::new(about.spec));
        let part = Part {
            description: Description::new(spec, about.incarnation, about.partition),
            partition,
            cut: about.offset,
            needed_from: None,
            suspect: None,
            lost: None,
            replaced: false,
        };
        self.parts.insert(key, part);
    }

    /// A partition that cannot be had back.
    pub(super) fn lose(&mut self, incarnation: Incarnation, partition: u32, why: Arc<str>) {
        let key = (incarnation, partition);
        self.parts.remove(&key);
        self.lost.entry(key).or_insert(why);
    }

    /// The highest place at which a snapshot is cut: the stream goes on beyond it.
    pub(super) fn highest_cut(&self) -> u64 {
        self.parts.values().map(|p| p.cut).max().unwrap_or(0)
    }

    /// Something is missing here, and nobody knows whose it was.
    pub(super) fn damaged(&mut self, range: Range<u64>, what: &str) {
        let what: Arc<str> = what.into();
        self.damage = Some(Arc::clone(&what));
        for part in self.parts.values_mut() {
            if part.cut < range.end {
                part.suspect.get_or_insert_with(|| Arc::clone(&what));
            }
        }
    }

    /// Applies a segment.
    pub(super) async fn apply(
        &mut self,
        world: &World,
        judged: Judged,
    ) -> Result<(), RecoveryError> {
        self.let_go(judged.known);
        let mut gathered = Gathered::default();
        for item in judged.items {
            let place = |offset: u64| {
                let at = offset.saturating_sub(judged.start) + HEADER_BYTES as u64;
                format!("'{}' at byte {at}", judged.name)
            };
            match item {
                Item::Record(record) => {
                    if record.header.offset >= judged.known && self.counts(&record.header) {
                        self.tail.push((record.header, record.payload.clone()));
                    }
                    match record.header.kind {
                        Kind::Make => {
                            let key = (record.header.incarnation, record.header.partition);
                            if gathered.records.contains_key(&key) {
                                self.flush(world, &mut gathered).await?;
                            }
                            self.make(&record, &place(record.header.offset))?;
                        }
                        Kind::Drop => {
                            self.flush(world, &mut gathered).await?;
                            self.drop_model(record.header.incarnation);
                        }
                        Kind::Replace | Kind::Release => {
                            self.flush(world, &mut gathered).await?;
                            self.begin_anew(&record.header);
                        }
                        Kind::Update | Kind::Skip | Kind::Evict => {
                            let key = (record.header.incarnation, record.header.partition);
                            if self.parts.contains_key(&key) {
                                gathered.push(key, record);
                            } else if !self.lost.contains_key(&key)
                                && !self.unfounded.contains(&key)
                            {
                                let begins = || {
                                    let place = place(record.header.offset);
                                    format!("its records begin in {place} without what was before")
                                };
                                let why = self.damage.clone();
                                let why = why.unwrap_or_else(|| begins().into());
                                self.headless.entry(key).or_insert(why);
                            }
                        }
                    }
                }
                Item::Damage(Damage { range, whose }) => {
                    self.flush(world, &mut gathered).await?;
                    let what = format!("{} is damaged", place(range.start));
                    tracing::error!(
                        file = judged.name,
                        bytes = range.end - range.start,
                        "the log is damaged: {what}"
                    );
                    match whose.filter(|_| range.end <= judged.known) {
                        Some((incarnation, partition, position)) => {
                            let key = (incarnation, partition);
                            self.missing(key, position, range.start, what.into());
                        }
                        None => self.damaged(range, &what),
                    }
                }
            }
        }
        self.flush(world, &mut gathered).await
    }

    /// Of what was read, everything before `known` is on the disk: it is not written anew, and its buffers are let go of.
    fn let_go(&mut self, known: u64) {
        // They lie in the order of the stream.
        let synced = self
            .tail
            .partition_point(|(header, _)| header.offset < known);
        self.tail.drain(..synced);
    }

    /// A record of this partition, to this position, is damaged.
    fn missing(&mut self, key: Key, position: Position, offset: u64, what: Arc<str>) {
        match self.parts.get_mut(&key) {
            Some(part) if part.replaced => {}
            None if self.unfounded.contains(&key) => {}
            // Its snapshot has it.
            Some(part) if offset < part.cut => {}
            Some(part) if position <= part.partition.position() && position > Position(0) => {}
            Some(part) => {
                part.lost.get_or_insert(what);
            }
            // Perhaps that which would have made it.
            None => {
                self.headless.entry(key).or_insert(what);
            }
        }
    }

    fn make(&mut self, record: &Located, place: &str) -> Result<(), RecoveryError> {
        let header = &record.header;
        let key = (header.incarnation, header.partition);
        let untouched =
            |part: &Part| part.needed_from.is_some() && part.partition.position() == Position(0);
        // Made once more, since the order to make it could not be obeyed as a whole the first time: only the epoch differs.
        if self.parts.get(&key).is_some_and(|part| !untouched(part)) || self.lost.contains_key(&key)
        {
            return Ok(());
        }
        let spec = match self.specs.get(&header.incarnation) {
            Some(spec) => Arc::clone(spec),
            None => match serde_json::from_slice::<ModelSpec>(&record.payload) {
                Ok(spec) if spec.check().is_ok() => Arc::new(spec),
                _ => {
                    let why = format!("{place} does not say what the model is");
                    self.lost.insert(key, why.into());
                    return Ok(());
                }
            },
        };
        if header.partition >= spec.partition_count {
            return Ok(());
        }
        let description = Description::new(&spec, header.incarnation, header.partition);
        let partition = Partition::new(&description, &spec, header.epoch)
            .map_err(|_| RecoveryError::Memory(place.to_owned()))?;
        self.specs.insert(header.incarnation, spec);
        self.headless.remove(&key);
        let part = Part {
            description,
            partition,
            cut: header.offset,
            needed_from: Some(header.offset),
            suspect: None,
            lost: None,
            replaced: false,
        };
        self.parts.insert(key, part);
        Ok(())
    }

    /// Whether a record is written anew when the end of the stream is: what a snapshot has is not, and what is of no copy that
    /// counts. A copy that begins is known by its snapshot from here on.
    fn counts(&self, header: &Header) -> bool {
        let key = (header.incarnation, header.partition);
        let part = self.parts.get(&key);
        let is_covered = part.is_some_and(|part| header.offset < part.cut);
        let is_of_another = part.is_some_and(|part| part.replaced) || self.unfounded.contains(&key);
        match header.kind {
            Kind::Replace => false,
            Kind::Release => !is_covered,
            Kind::Update | Kind::Skip | Kind::Evict => !is_covered && !is_of_another,
            Kind::Make | Kind::Drop => true,
        }
    }

    /// A copy that came from another server begins here, or one was let go.
    fn begin_anew(&mut self, header: &Header) {
        let key = (header.incarnation, header.partition);
        if self
            .parts
            .get(&key)
            .is_some_and(|part| part.cut > header.offset)
        {
            // Its snapshot is of later.
            return;
        }
        self.headless.remove(&key);
        if header.kind == Kind::Release {
            self.parts.remove(&key);
            self.lost.remove(&key);
        }
        match self.parts.get_mut(&key) {
            Some(part) => part.replaced = true,
            None => {
                self.unfounded.insert(key);
            }
        }
    }

    fn drop_model(&mut self, dropped: Incarnation) {
        let first = Incarnation {
            generation: 0,
            ..dropped
        };
        let range = (first, 0)..=(dropped, u32::MAX);
        self.parts.retain(|key, _| !range.contains(key));
        self.lost.retain(|key, _| !range.contains(key));
        self.headless.retain(|key, _| !range.contains(key));
        self.unfounded.retain(|key| !range.contains(key));
        self.specs.retain(|i, _| !(first..=dropped).contains(i));
        self.dropped.insert(dropped);
    }

    /// Applies what has gathered.
    async fn flush(&mut self, world: &World, gathered: &mut Gathered) -> Result<(), RecoveryError> {
        let Gathered { records, bytes } = std::mem::take(gathered);
        if bytes <= FEW_BYTES || records.len() < 2 {
            for (key, records) in records {
                if let Some(part) = self.parts.get_mut(&key) {
                    for record in &records {
                        part.take(record);
                    }
                }
            }
            return Ok(());
        }
        let mut shares: Vec<Vec<(Key, Part, Vec<Located>)>> = Vec::new();
        shares.resize_with(AT_ONCE, Vec::new);
        for (index, (key, records)) in records.into_iter().enumerate() {
            if let Some(part) = self.parts.remove(&key) {
                shares[index % AT_ONCE].push((key, part, records));
            }
        }
        let mut working = Vec::new();
        for share in shares {
            working.push(beside(world, async move {
                let mut done = Vec::with_capacity(share.len());
                for (key, mut part, records) in share {
                    for record in &records {
                        part.take(record);
                    }
                    done.push((key, part));
                    tokio::task::yield_now().await;
                }
                done
            }));
        }
        for share in working {
            self.parts.extend(share.await?);
        }
        Ok(())
    }

    /// What came of it: everything before `known` was synced.
    pub(super) fn finish(mut self, known: u64) -> Recovered {
        self.let_go(known);
        let mut recovered = Recovered {
            lost: self.lost,
            dropped: self.dropped.into_iter().collect(),
            tail: self.tail,
            ..Recovered::default()
        };
        for (key, why) in self.headless {
            recovered.lost.entry(key).or_insert(why);
        }
        for ((incarnation, index), part) in self.parts {
            if let Some(why) = part.lost.or(part.suspect) {
                recovered.lost.insert((incarnation, index), why);
                continue;
            }
            let Some(spec) = self.specs.get(&incarnation) else {
                continue;
            };
            let model = recovered
                .models
                .entry(incarnation)
                .or_insert_with(|| RecoveredModel {
                    spec: Arc::clone(spec),
                    partitions: BTreeMap::new(),
                });
            let partition = RecoveredPartition {
                partition: part.partition,
                needed_from: part.needed_from,
            };
            model.partitions.insert(index, partition);
        }
        recovered
    }
}

/// Records that wait to be applied.
#[derive(Default)]
struct Gathered {
    records: BTreeMap<Key, Vec<Located>>,
    bytes: u64,
}

impl Gathered {
    fn push(&mut self, key: Key, record: Located) {
        self.bytes += record.header.record_bytes();
        self.records.entry(key).or_default().push(record);
    }
}

impl Part {
    /// Applies a record, if it is the next.
    fn take(&mut self, record: &Located) {
        let header = &record.header;
        let before = header.position <= self.partition.position() || header.offset < self.cut;
        if self.lost.is_some() || self.replaced || before {
            return;
        }
        if !replayed::follows(&self.partition, header) {
            let why = self.suspect.take().unwrap_or_else(|| {
                format!(
                    "the log goes on at position {} of epoch {} after {} of epoch {}",
                    header.position,
                    header.previous,
                    self.partition.position(),
                    self.partition.last_epoch()
                )
                .into()
            });
            self.lost = Some(why);
            return;
        }
        self.suspect = None;
        self.needed_from.get_or_insert(header.offset);
        let applied = replayed::apply(
            &self.description,
            &mut self.partition,
            header,
            &record.payload,
        );
        if let Err(why) = applied {
            self.lost = Some(why.into());
        }
    }
}
