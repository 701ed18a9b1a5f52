//! Small files that are replaced as a whole: what a master must know after a restart.

use std::{
    collections::BTreeMap,
    io,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use crate::{BoxFuture, DirectoryDisk, disk::Files};

/// Named small files. A file is replaced as a whole: after a crash at any instant it has its old content or its new one.
pub trait Storage: Send + Sync {
    /// The content of a file; none when there is no such file.
    fn load<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Option<Vec<u8>>>>;
    /// Replaces a file. When it returns `Ok`, the content survives a crash of the machine.
    fn store<'a>(&'a self, name: &'a str, content: Vec<u8>) -> BoxFuture<'a, io::Result<()>>;
}

/// Files in memory: they live as long as the last clone.
#[derive(Clone, Debug, Default)]
pub struct MemoryStorage {
    files: Arc<Mutex<BTreeMap<String, Vec<u8>>>>,
}

impl Storage for MemoryStorage {
    fn load<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Option<Vec<u8>>>> {
        Box::pin(async move {
            Ok(self
                .files
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .get(name)
                .cloned())
        })
    }

    fn store<'a>(&'a self, name: &'a str, content: Vec<u8>) -> BoxFuture<'a, io::Result<()>> {
        Box::pin(async move {
            self.files
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(name.into(), content);
            Ok(())
        })
    }
}

/// Opens the small files of a directory of the machine's disk, which one process at a time may use.
///
/// # Errors
/// Those of [`DirectoryDisk::open`].
pub fn in_directory(directory: impl Into<PathBuf>) -> io::Result<Arc<dyn Storage>> {
    Ok(Arc::new(Files::new(Arc::new(DirectoryDisk::open(
        directory,
    )?))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemoryDisk;

    async fn keeps_what_was_stored(storage: &dyn Storage) {
        assert_eq!(storage.load("state").await.unwrap(), None);
        storage.store("state", b"one".to_vec()).await.unwrap();
        storage.store("state", b"two".to_vec()).await.unwrap();
        assert_eq!(storage.load("state").await.unwrap().unwrap(), b"two");
    }

    #[tokio::test]
    async fn storages_keep_the_last_content() {
        keeps_what_was_stored(&MemoryStorage::default()).await;
        keeps_what_was_stored(&Files::new(Arc::new(MemoryDisk::default()))).await;
        let directory = tempfile::tempdir().unwrap();
        keeps_what_was_stored(&*in_directory(directory.path()).unwrap()).await;
        let again = in_directory(directory.path()).unwrap();
        assert_eq!(again.load("state").await.unwrap().unwrap(), b"two");
    }
}
