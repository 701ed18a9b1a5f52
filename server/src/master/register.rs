//! Where the master's decisions become facts: one register with one value, replaced only by who has seen the present one.
//!
//! All that a master decides goes through [`Register::swap`], and nothing that it says is true before that. So a second
//! master that decided from what was true earlier cannot overrule the first: a register that several machines keep together
//! may take the place of the file, and nothing else has to change.

use std::{io, sync::Arc};

use glint_world::{BoxFuture, Storage};
use tokio::sync::Mutex;

/// Which of its values a register has. A new one with each swap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Version(u64);

/// Why a value was not replaced.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotSwapped {
    /// It was replaced by another since it was seen: whoever asked decided from what is true no more.
    #[error("another master has changed it since")]
    Overtaken,
    /// It could not be written. Where the error is that of a sync, nobody knows what is there; else the old value is.
    #[error(transparent)]
    Disk(#[from] io::Error),
}

/// A durable value with compare-and-swap.
pub(crate) trait Register: Send + Sync {
    /// The value, if there is any yet, and which it is.
    fn read(&self) -> BoxFuture<'_, io::Result<(Version, Option<Vec<u8>>)>>;

    /// Replaces the value, if it still is the one that was seen; which it is then. It survives any crash from there on.
    fn swap(&self, seen: Version, value: Vec<u8>) -> BoxFuture<'_, Result<Version, NotSwapped>>;
}

/// A register in one file. Only one process uses the directory (it is locked), so versions are counted from its first look.
pub(crate) struct FileRegister {
    storage: Arc<dyn Storage>,
    name: &'static str,
    version: Mutex<Version>,
}

impl FileRegister {
    /// The register in the file of this name.
    pub(crate) fn new(storage: Arc<dyn Storage>, name: &'static str) -> Self {
        Self {
            storage,
            name,
            version: Mutex::new(Version(0)),
        }
    }
}

impl Register for FileRegister {
    fn read(&self) -> BoxFuture<'_, io::Result<(Version, Option<Vec<u8>>)>> {
        Box::pin(async move {
            let version = self.version.lock().await;
            Ok((*version, self.storage.load(self.name).await?))
        })
    }

    fn swap(&self, seen: Version, value: Vec<u8>) -> BoxFuture<'_, Result<Version, NotSwapped>> {
        Box::pin(async move {
            // Held while it is written: the next one compares with what came of it.
            let mut version = self.version.lock().await;
            if *version != seen {
                return Err(NotSwapped::Overtaken);
            }
            self.storage.store(self.name, value).await?;
            version.0 += 1;
            Ok(*version)
        })
    }
}

#[cfg(test)]
mod tests {
    use glint_world::MemoryStorage;

    use super::*;

    #[tokio::test]
    async fn only_who_has_seen_the_present_value_replaces_it() {
        let register = FileRegister::new(Arc::new(MemoryStorage::default()), "master");
        let (empty, none) = register.read().await.unwrap();
        assert_eq!(none, None);
        let first = register.swap(empty, vec![1]).await.unwrap();
        let late = register.swap(empty, vec![2]).await;
        assert!(matches!(late, Err(NotSwapped::Overtaken)), "{late:?}");
        assert_eq!(register.read().await.unwrap(), (first, Some(vec![1])));
        register.swap(first, vec![3]).await.unwrap();
        assert_eq!(register.read().await.unwrap().1, Some(vec![3]));
    }
}
