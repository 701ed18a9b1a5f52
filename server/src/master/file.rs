//! The master's state as a file: one line that says what it is, then compact JSON under a checksum.
//!
//! Epochs are written as runs, since all partitions of a new model share one: 65 536 partitions take about 200 KiB.
//!
//! **Why a file and not a database.** The whole state is small (kilobytes, a few MiB with very large models) and changes
//! seldom: when models are made and servers come, never for a push. So each change, or all that gathered, writes all of it
//! beside the old content, syncs, renames and syncs the directory: the kill of the process or the machine at any instant
//! leaves one content or the other, whole, under a checksum. There is no log to replay, no page to tear and no format but
//! this one; what was acknowledged is in the file that is there. A database would bring its own recovery to be trusted and
//! save only bytes that nobody misses. What it would not bring is here too: a sync that fails ends the master (see
//! [`super::journal`]), since nobody knows then what the disk has.

mod copies;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use glint_protocol::{
    Boot, ClusterId, Epoch, ErrorBody, Incarnation, LossReason, ModelSpec, OsBoot, Position,
    RequestId, ServerId, Term,
    control::{Labels, Volume},
    error::GoneReason,
    ids::Revision,
};
use serde::{Deserialize, Serialize};

use super::adoption::{Adopting, Found, FoundCopy};
use super::state::{Assignment, KnownServer, Model, Phase, State, Tombstone};
use copies::FileCopies;

/// Name of the file in the master's storage.
pub(crate) const NAME: &str = "master";
/// The format that this program writes. It reads every earlier one: what they lack has a default.
const FORMAT: u32 = 3;
const MAGIC: &str = "glint-master";

/// Why a state cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// Written by a later version of the program.
    #[error(
        "the master's state has format {found}, this program reads format {FORMAT}: it was written by a newer version of Glint; \
         start that version on it, nothing was changed"
    )]
    Newer {
        /// The format of the file.
        found: u32,
    },
    /// Not what was written: damaged, or another file.
    #[error(
        "the master's state is damaged ({0}); restore the file 'master' of its data directory from a backup, nothing was changed"
    )]
    Damaged(String),
}

#[derive(Serialize, Deserialize)]
struct File {
    cluster: ClusterId,
    term: Term,
    epoch: Epoch,
    revision: Revision,
    servers: Vec<FileServer>,
    models: Vec<FileModel>,
    tombstones: Vec<FileTombstone>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    dead: BTreeMap<ServerId, String>,
    #[serde(default, skip_serializing_if = "VecDeque::is_empty")]
    superseded: VecDeque<(ServerId, Boot)>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    levelling: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    adopting: Option<FileAdopting>,
}

#[derive(Serialize, Deserialize)]
struct FileServer {
    id: ServerId,
    url: String,
    boot: Boot,
    capacity_bytes: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    volume: Option<Volume>,
    #[serde(default)]
    os_boot: OsBoot,
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    labels: Labels,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    told: Option<Labels>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    draining: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    returns: bool,
}

#[derive(Serialize, Deserialize)]
struct FileModel {
    spec: ModelSpec,
    incarnation: Incarnation,
    live: bool,
    /// Not live since it was reset.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    resetting: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    resets: Vec<RequestId>,
    revision: Revision,
    servers: Vec<ServerId>,
    holders: Vec<u32>,
    /// (epoch, how many partitions in a row have it).
    epochs: Vec<(Epoch, u32)>,
    /// Of format 1, which knew one reason only.
    #[serde(default, skip_serializing)]
    lost: Vec<u32>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    losses: BTreeMap<LossReason, Vec<u32>>,
    /// `revision` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    base: Option<Revision>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    copies: Vec<FileCopies>,
}

#[derive(Serialize, Deserialize)]
struct FileAdopting {
    cluster_known: bool,
    #[serde(default)]
    servers: Vec<ServerId>,
    models: Vec<FileFound>,
    live: Vec<Incarnation>,
    orphans: Vec<String>,
}

#[derive(Serialize, Deserialize)]
struct FileFound {
    incarnation: Incarnation,
    spec: ModelSpec,
    copies: Vec<(u32, ServerId, Epoch, Epoch, Position)>,
    /// Per copy: the epoch of whom it follows, and if it is the holder's, whom it waits for.
    #[serde(default)]
    words: Vec<(Epoch, Option<Vec<ServerId>>)>,
    /// Partitions whose values are known to be lost, and who knows it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    lost: BTreeMap<u32, ServerId>,
}

#[derive(Serialize, Deserialize)]
struct FileTombstone {
    incarnation: Incarnation,
    reason: GoneReason,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    awaited: Vec<ServerId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    failure: Option<ErrorBody>,
}

/// Of format and content. Until format 2 it was that of the content alone, so that one flipped bit makes a 3 a 2.
fn checksum(format: u32, json: &[u8]) -> u32 {
    let sum = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, json) as u32;
    if format < 3 { sum } else { sum ^ format }
}

/// The bytes of a file that holds `state`.
///
/// # Errors
/// When it cannot be written as JSON, which no state of a running master is.
pub(crate) fn encode(state: &State) -> Result<Vec<u8>, serde_json::Error> {
    let json = serde_json::to_vec(&File::from(state))?;
    let mut bytes = format!("{MAGIC} {FORMAT} {:08x}\n", checksum(FORMAT, &json)).into_bytes();
    bytes.extend_from_slice(&json);
    Ok(bytes)
}

/// The state that a file holds.
///
/// # Errors
/// [`FileError`]: of a newer format, or damaged.
pub(crate) fn decode(bytes: &[u8]) -> Result<State, FileError> {
    let damaged = |why: &str| FileError::Damaged(why.to_owned());
    let end = bytes
        .iter()
        .take(100)
        .position(|&b| b == b'\n')
        .ok_or_else(|| damaged("its first line is missing"))?;
    let (line, json) = (&bytes[..end], &bytes[end + 1..]);
    let line = std::str::from_utf8(line).map_err(|_| damaged("its first line is not text"))?;
    let mut words = line.split(' ');
    if words.next() != Some(MAGIC) {
        return Err(damaged("it is not a state of a master"));
    }
    let format: u32 = words
        .next()
        .and_then(|w| w.parse().ok())
        .ok_or_else(|| damaged("its first line names no format"))?;
    // What follows the format may be anything in a later one.
    if format > FORMAT {
        return Err(FileError::Newer { found: format });
    }
    let sum = words.next().and_then(|w| u32::from_str_radix(w, 16).ok());
    if format == 0 || sum != Some(checksum(format, json)) {
        return Err(damaged("its checksum does not match"));
    }
    let file: File =
        serde_json::from_slice(json).map_err(|error| FileError::Damaged(error.to_string()))?;
    State::try_from(file).map_err(FileError::Damaged)
}

impl From<&State> for File {
    fn from(state: &State) -> Self {
        Self {
            cluster: state.cluster,
            term: state.term,
            epoch: state.epoch,
            revision: state.revision,
            servers: state
                .servers
                .iter()
                .map(|(id, server)| FileServer {
                    id: id.clone(),
                    url: server.url.clone(),
                    boot: server.boot,
                    capacity_bytes: server.capacity_bytes,
                    volume: server.volume,
                    os_boot: server.os_boot,
                    labels: server.labels.clone(),
                    told: server.told.clone(),
                    draining: server.draining,
                    returns: server.returns,
                })
                .collect(),
            models: state.models.values().map(|m| (&**m).into()).collect(),
            tombstones: state
                .tombstones
                .iter()
                .map(|t| FileTombstone {
                    incarnation: t.incarnation,
                    reason: t.reason,
                    awaited: t.awaited.iter().cloned().collect(),
                    failure: t.failure.clone(),
                })
                .collect(),
            dead: state.dead.clone(),
            superseded: state.superseded.clone(),
            levelling: state.levelling,
            adopting: state.adopting.as_deref().map(FileAdopting::from),
        }
    }
}

impl From<&Adopting> for FileAdopting {
    fn from(adopting: &Adopting) -> Self {
        let all = |found: &Found| -> Vec<(u32, FoundCopy)> {
            let copies = found.copies.iter();
            let copies = copies.flat_map(|(&p, copies)| copies.iter().map(move |c| (p, c.clone())));
            copies.collect()
        };
        let copies = |found: &Found| {
            let copies = all(found).into_iter();
            copies
                .map(|(p, c)| (p, c.server, c.epoch, c.last.0, c.last.1))
                .collect()
        };
        let words = |found: &Found| {
            let copies = all(found).into_iter();
            copies.map(|(_, c)| (c.follows, c.with)).collect()
        };
        let models = adopting
            .models
            .iter()
            .map(|(&incarnation, found)| FileFound {
                incarnation,
                spec: found.spec.clone(),
                copies: copies(found),
                words: words(found),
                lost: found.lost.clone(),
            });
        Self {
            cluster_known: adopting.cluster_known,
            servers: adopting.servers.iter().cloned().collect(),
            models: models.collect(),
            live: adopting.live.iter().copied().collect(),
            orphans: adopting.orphans.iter().cloned().collect(),
        }
    }
}

impl From<FileAdopting> for Adopting {
    fn from(file: FileAdopting) -> Self {
        let models = file.models.into_iter().map(|found| {
            let mut words = found.words.into_iter();
            let mut entered = Found::of(found.spec);
            entered.lost = found.lost;
            for (partition, server, epoch, of, at) in found.copies {
                let (follows, with) = words.next().unwrap_or_default();
                let copy = FoundCopy {
                    server,
                    epoch,
                    last: (of, at),
                    follows,
                    with,
                };
                entered.enter(partition, copy);
            }
            (found.incarnation, entered)
        });
        Self {
            cluster_known: file.cluster_known,
            servers: file.servers.into_iter().collect(),
            models: models.collect(),
            live: file.live.into_iter().collect(),
            orphans: file.orphans.into_iter().collect(),
        }
    }
}

impl From<&Model> for FileModel {
    fn from(model: &Model) -> Self {
        let mut epochs: Vec<(Epoch, u32)> = Vec::new();
        for &epoch in &model.epochs {
            match epochs.last_mut() {
                Some((last, count)) if *last == epoch => *count += 1,
                _ => epochs.push((epoch, 1)),
            }
        }
        let mut losses: BTreeMap<LossReason, Vec<u32>> = BTreeMap::new();
        for (&partition, &reason) in &model.lost {
            losses.entry(reason).or_default().push(partition);
        }
        Self {
            spec: model.spec.clone(),
            incarnation: model.incarnation,
            live: model.phase == Phase::Live,
            resetting: model.phase == Phase::Resetting,
            resets: model.resets.clone(),
            revision: model.revision,
            servers: model.servers.clone(),
            holders: model.holders.clone(),
            epochs,
            lost: Vec::new(),
            losses,
            base: (model.base != model.revision).then_some(model.base),
            copies: model
                .copies
                .iter()
                .map(|(&partition, copies)| FileCopies::new(partition, copies))
                .collect(),
        }
    }
}

impl TryFrom<FileModel> for Model {
    type Error = String;

    fn try_from(file: FileModel) -> Result<Self, String> {
        let name = file.spec.name.clone();
        let runs: u64 = file.epochs.iter().map(|&(_, count)| u64::from(count)).sum();
        // Before the runs are spread out: a wrong count must not ask for much memory.
        if runs != u64::from(file.spec.partition_count) {
            return Err(format!("model '{name}' has {runs} epochs"));
        }
        let epochs = file
            .epochs
            .iter()
            .flat_map(|&(epoch, count)| std::iter::repeat_n(epoch, count as usize))
            .collect();
        let phase = match (file.live, file.resetting) {
            (true, _) => Phase::Live,
            (false, true) => Phase::Resetting,
            (false, false) => Phase::Creating,
        };
        let old = file.lost.into_iter().map(|p| (p, LossReason::Restarted));
        let losses = file.losses.into_iter();
        let losses = losses.flat_map(|(why, lost)| lost.into_iter().map(move |p| (p, why)));
        let assignment = Assignment {
            servers: file.servers,
            holders: file.holders,
            epochs,
            lost: old.chain(losses).collect(),
            copies: file.copies.into_iter().map(FileCopies::read).collect(),
        };
        let mut model = Self::new(
            file.spec,
            file.incarnation,
            phase,
            file.revision,
            assignment,
        )
        .ok_or_else(|| format!("model '{name}' contradicts itself"))?;
        model.resets = file.resets;
        model.base = file.base.unwrap_or(model.base);
        model.configured = model.configured.max(model.base);
        Ok(model)
    }
}

impl TryFrom<File> for State {
    type Error = String;

    fn try_from(file: File) -> Result<Self, String> {
        let servers: BTreeMap<_, _> = file
            .servers
            .into_iter()
            .map(|s| {
                let known = KnownServer {
                    url: s.url,
                    boot: s.boot,
                    capacity_bytes: s.capacity_bytes,
                    volume: s.volume,
                    os_boot: s.os_boot,
                    labels: s.labels,
                    told: s.told,
                    draining: s.draining,
                    returns: s.returns,
                };
                (s.id, known)
            })
            .collect();
        let mut models = BTreeMap::new();
        for model in file.models {
            let model = Model::try_from(model)?;
            let is_known =
                |id: &&ServerId| servers.contains_key(*id) || file.dead.contains_key(*id);
            if let Some(unknown) = model.servers.iter().find(|id| !is_known(id)) {
                return Err(format!(
                    "server {unknown} holds partitions of model '{}' and is not listed",
                    model.spec.name
                ));
            }
            models.insert(model.spec.name.clone(), Arc::new(model));
        }
        let tombstones: VecDeque<_> = file
            .tombstones
            .into_iter()
            .map(|t| Tombstone {
                incarnation: t.incarnation,
                reason: t.reason,
                awaited: t.awaited.into_iter().collect(),
                failure: t.failure,
            })
            .collect();
        Ok(Self {
            cluster: file.cluster,
            term: file.term,
            epoch: file.epoch,
            revision: file.revision,
            servers,
            models,
            tombstones,
            dead: file.dead,
            superseded: file.superseded,
            levelling: file.levelling,
            adopting: file.adopting.map(|a| Arc::new(a.into())),
        })
    }
}

#[cfg(test)]
#[path = "file/tests.rs"]
mod tests;
