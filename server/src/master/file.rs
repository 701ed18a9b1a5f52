//! The master's state as a file: one line that says what it is, then compact JSON under a checksum.
//!
//! Epochs are written as runs, since all partitions of a new model share one: 65 536 partitions take about 200 KiB.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use glint_protocol::{
    Boot, ClusterId, Epoch, ErrorBody, Incarnation, ModelSpec, ServerId, Term, error::GoneReason,
    ids::Revision,
};
use serde::{Deserialize, Serialize};

use super::state::{Assignment, KnownServer, Model, Phase, State, Tombstone};

/// Name of the file in the master's storage.
pub(crate) const NAME: &str = "master";
/// The format that this program writes, and the only one it reads.
const FORMAT: u32 = 1;
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
}

#[derive(Serialize, Deserialize)]
struct FileServer {
    id: ServerId,
    url: String,
    boot: Boot,
    capacity_bytes: u64,
}

#[derive(Serialize, Deserialize)]
struct FileModel {
    spec: ModelSpec,
    incarnation: Incarnation,
    live: bool,
    revision: Revision,
    servers: Vec<ServerId>,
    holders: Vec<u32>,
    /// (epoch, how many partitions in a row have it).
    epochs: Vec<(Epoch, u32)>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    lost: Vec<u32>,
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

fn checksum(json: &[u8]) -> u32 {
    crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, json) as u32
}

/// The bytes of a file that holds `state`.
///
/// # Errors
/// When it cannot be written as JSON, which no state of a running master is.
pub(crate) fn encode(state: &State) -> Result<Vec<u8>, serde_json::Error> {
    let json = serde_json::to_vec(&File::from(state))?;
    let mut bytes = format!("{MAGIC} {FORMAT} {:08x}\n", checksum(&json)).into_bytes();
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
    if format != FORMAT || sum != Some(checksum(json)) {
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
        Self {
            spec: model.spec.clone(),
            incarnation: model.incarnation,
            live: model.phase == Phase::Live,
            revision: model.revision,
            servers: model.servers.clone(),
            holders: model.holders.clone(),
            epochs,
            lost: model.lost.iter().copied().collect(),
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
        let phase = if file.live {
            Phase::Live
        } else {
            Phase::Creating
        };
        let assignment = Assignment {
            servers: file.servers,
            holders: file.holders,
            epochs,
            lost: file.lost.into_iter().collect(),
        };
        Self::new(
            file.spec,
            file.incarnation,
            phase,
            file.revision,
            assignment,
        )
        .ok_or_else(|| format!("model '{name}' contradicts itself"))
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
                };
                (s.id, known)
            })
            .collect();
        let mut models = BTreeMap::new();
        for model in file.models {
            let model = Model::try_from(model)?;
            if let Some(unknown) = model.servers.iter().find(|id| !servers.contains_key(id)) {
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
        })
    }
}

#[cfg(test)]
mod tests {
    use glint_protocol::ErrorCode;

    use super::*;
    use crate::master::testing::{self, draft};

    #[test]
    fn a_state_survives_its_file() {
        let mut state = testing::state_with_servers(3);
        testing::make(&mut state, draft("a", 1000), 1);
        testing::make(&mut state, draft("b", 0), 2);
        state.tombstones.push_back(Tombstone {
            incarnation: Incarnation {
                model: glint_protocol::ModelId(9),
                generation: 2,
            },
            reason: GoneReason::Deleted,
            awaited: [ServerId("s1".into())].into(),
            failure: Some(ErrorBody::new(ErrorCode::DoesNotFit, "too large")),
        });
        let model = Arc::make_mut(state.models.get_mut("a").unwrap());
        model.lost.insert(0);
        assert_eq!(decode(&encode(&state).unwrap()).unwrap(), state);
    }

    #[test]
    fn sixty_five_thousand_partitions_stay_compact() {
        let mut state = testing::state_with_servers(8);
        let mut large = draft("large", 1 << 30);
        large.partitions = glint_protocol::Partitions::Exactly(65_536);
        testing::make(&mut state, large, 1);
        let bytes = encode(&state).unwrap();
        assert!(bytes.len() < 200_000, "{} bytes", bytes.len());
        assert_eq!(decode(&bytes).unwrap(), state);
    }

    #[test]
    fn a_newer_format_is_refused_and_said_to_be_newer() {
        let error = decode(b"glint-master 2 whatever\nelse").unwrap_err();
        assert_eq!(error, FileError::Newer { found: 2 });
        assert!(error.to_string().contains("newer version"), "{error}");
    }

    #[test]
    fn any_flipped_byte_is_noticed() {
        let mut state = testing::state_with_servers(2);
        testing::make(&mut state, draft("a", 10), 1);
        let good = encode(&state).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x01;
            assert!(decode(&bad).is_err(), "byte {at}");
            assert!(decode(&good[..at]).is_err(), "cut at {at}");
        }
    }
}
