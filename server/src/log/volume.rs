//! The data directory of a server: which one it is, whose, and how often it was started. A small file, written before
//! anything else, by which an emptied, an older and a foreign directory are told apart.

use std::io;

use glint_protocol::{Boot, ClusterId, VolumeId, control::Volume};
use glint_world::{
    Disk, World,
    disk::{PARTIAL, load, replace},
};
use serde::{Deserialize, Serialize};

use super::{checksum, segment, snapshot};

/// The version of the format of all files of the directory.
pub const FORMAT: u32 = 1;
/// The file's name.
pub const NAME: &str = "volume.json";

/// What the file says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The version of the format of all files.
    pub format: u32,
    /// Which directory this is: made at random at its first start.
    pub volume: VolumeId,
    /// The cluster that it belongs to, once a server on it has registered.
    pub cluster: Option<ClusterId>,
    /// How many processes have started on it.
    pub start: u64,
    /// Whether the last of them ended in order, with everything synced.
    pub clean: bool,
    /// Where the log ended when a process last ended in order: everything before it was on the disk.
    pub end: u64,
    /// What the checksums of the log's records are salted with: secret, so that nobody can push bytes that look like one.
    pub salt: u64,
    /// The last start that is known to have registered, and those since.
    #[serde(default)]
    pub starts: Vec<Boot>,
}

/// Starts that are remembered. Of more that never registered, the oldest go: the last that did stays.
const MAX_STARTS: usize = 256;

/// The file: what it says, and the CRC-32C of that as compact JSON.
#[derive(Serialize, Deserialize)]
struct Stored {
    #[serde(flatten)]
    manifest: Manifest,
    checksum: u32,
}

/// Why a data directory cannot be used. Nothing in it was touched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VolumeError {
    /// It cannot be read or written.
    #[error(
        "the data directory cannot be used: {0}; mend its disk or permissions, or choose another one"
    )]
    Io(#[from] io::Error),
    /// It was written by a later version.
    #[error(
        "the data directory has format {0}, this program knows up to {FORMAT}: it was written by a later version of Glint; start \
         that version, or choose another directory"
    )]
    Newer(u32),
    /// It has files of Glint, and the one that says whose they are is missing or unreadable.
    #[error(
        "the data directory has '{found}' and {what}: nobody knows whose files these are; put {NAME} back from a copy, or \
         choose an empty directory, where what was only here is lost"
    )]
    Unknown {
        /// A file that is there.
        found: String,
        /// What is wrong with the one that should be.
        what: &'static str,
    },
}

impl Manifest {
    /// What a start on this directory finds, and what it has to [store](Self::store) before it changes anything else: one
    /// more start, not clean.
    ///
    /// # Errors
    /// [`VolumeError`].
    pub async fn begin(world: &World, disk: &dyn Disk) -> Result<(Self, Volume), VolumeError> {
        let present = read(disk).await?;
        let before = present.unwrap_or_else(|| Self {
            format: FORMAT,
            volume: VolumeId(world.random.bits()),
            cluster: None,
            start: 0,
            clean: true,
            end: 0,
            salt: world.random.bits(),
            starts: Vec::new(),
        });
        let now = Self {
            start: before.start + 1,
            clean: false,
            ..before
        };
        let volume = Volume {
            id: now.volume,
            start: now.start,
            clean: before.clean,
        };
        Ok((now, volume))
    }

    /// Enters a start, which has not registered.
    pub fn add_start(&mut self, boot: Boot) {
        if self.starts.len() >= MAX_STARTS {
            self.starts.remove(1);
        }
        self.starts.push(boot);
    }

    /// Replaces the file.
    ///
    /// # Errors
    /// Those of the disk.
    pub async fn store(&self, disk: &dyn Disk) -> io::Result<()> {
        replace(disk, NAME, vec![self.encode()?.into()]).await
    }

    /// To the bytes of the file.
    ///
    /// # Errors
    /// None that can happen: those of writing JSON.
    pub fn encode(&self) -> io::Result<Vec<u8>> {
        let stored = Stored {
            manifest: self.clone(),
            checksum: checksum([&serde_json::to_vec(self)?[..]]),
        };
        Ok(serde_json::to_vec(&stored)?)
    }

    /// From the bytes of the file.
    ///
    /// # Errors
    /// [`VolumeError::Newer`], [`VolumeError::Unknown`].
    pub fn decode(bytes: &[u8]) -> Result<Self, VolumeError> {
        match serde_json::from_slice(bytes) {
            Ok(Format { format }) if format > FORMAT => return Err(VolumeError::Newer(format)),
            _ => {}
        }
        let whole = |stored: &Stored| {
            let json = serde_json::to_vec(&stored.manifest);
            json.is_ok_and(|json| checksum([&json[..]]) == stored.checksum)
        };
        match serde_json::from_slice(bytes) {
            Ok(stored) if whole(&stored) => Ok(stored.manifest),
            _ => Err(VolumeError::Unknown {
                found: NAME.into(),
                what: "it is damaged",
            }),
        }
    }
}

/// What every version of the file has.
#[derive(Deserialize)]
struct Format {
    format: u32,
}

async fn read(disk: &dyn Disk) -> Result<Option<Manifest>, VolumeError> {
    let Some(bytes) = load(disk, NAME).await? else {
        return match a_file_of_ours(disk).await? {
            Some(found) => Err(VolumeError::Unknown {
                found,
                what: "no volume.json",
            }),
            None => Ok(None),
        };
    };
    Manifest::decode(&bytes).map(Some)
}

/// Whether a file of this name is one of Glint's, other than [`NAME`].
pub fn is_ours(name: &str) -> bool {
    segment::start_of(name).is_some()
        || snapshot::Named::parse(name).is_some()
        || snapshot::SPARE.strip_suffix(PARTIAL) == Some(name)
}

async fn a_file_of_ours(disk: &dyn Disk) -> io::Result<Option<String>> {
    let ours = |name: &str| is_ours(name.strip_suffix(PARTIAL).unwrap_or(name));
    let files = disk.list().await?;
    Ok(files.into_iter().map(|(name, _)| name).find(|n| ours(n)))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use glint_world::MemoryDisk;

    use super::*;

    #[tokio::test]
    async fn each_start_is_counted_and_knows_whether_the_one_before_ended_in_order() {
        let (world, disk) = (World::real(), MemoryDisk::default());
        let (mut manifest, first) = Manifest::begin(&world, &disk).await.unwrap();
        assert_eq!((first.start, first.clean), (1, true));
        manifest.store(&disk).await.unwrap();
        let (_, second) = Manifest::begin(&world, &disk).await.unwrap();
        assert_eq!(
            (second.id, second.start, second.clean),
            (first.id, 2, false)
        );
        manifest.clean = true;
        manifest.start = 2;
        manifest.store(&disk).await.unwrap();
        let (_, third) = Manifest::begin(&world, &disk).await.unwrap();
        assert_eq!((third.start, third.clean), (3, true));
    }

    #[tokio::test]
    async fn what_cannot_be_understood_is_refused_and_left_as_it_is() {
        let world = World::real();
        let refused = async |name: &str, content: &'static [u8]| {
            let disk = MemoryDisk::default();
            let parts = vec![Bytes::from_static(content)];
            replace(&disk, name, parts).await.unwrap();
            let error = Manifest::begin(&world, &disk)
                .await
                .unwrap_err()
                .to_string();
            assert_eq!(disk.list().await.unwrap().len(), 1, "{error}");
            assert_eq!(load(&disk, name).await.unwrap().unwrap(), content);
            error
        };
        let newer = refused(NAME, br#"{"format":2,"more":1}"#).await;
        assert!(newer.contains("later version"), "{newer}");
        let broken = refused(NAME, b"{").await;
        assert!(broken.contains("is damaged"), "{broken}");
        let alone = refused("log-0000000000000000", b"x").await;
        assert!(alone.contains("no volume.json"), "{alone}");
    }
}
