//! Small files that are replaced as a whole: what a master must know after a restart.

use std::{
    collections::BTreeMap,
    fs, io,
    io::Write,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use crate::BoxFuture;

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

/// Files in a directory of the disk, which one process at a time may use.
#[derive(Clone, Debug)]
pub struct DirectoryStorage {
    directory: PathBuf,
    /// Held while any clone lives; the operating system lets go of it when the process dies.
    _lock: Arc<fs::File>,
}

impl DirectoryStorage {
    /// Opens a directory, which is made if it is missing.
    ///
    /// # Errors
    /// When it cannot be made, written, or another process uses it; the message says which and what to do.
    pub fn open(directory: impl Into<PathBuf>) -> io::Result<Self> {
        let directory = directory.into();
        let explain = |error: io::Error, what: &str| {
            io::Error::new(
                error.kind(),
                format!(
                    "cannot {what} '{}': {error}; choose another data directory or mend its permissions",
                    directory.display()
                ),
            )
        };
        fs::create_dir_all(&directory).map_err(|e| explain(e, "make the data directory"))?;
        let lock = fs::File::create(directory.join("lock"))
            .map_err(|e| explain(e, "write in the data directory"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => {
                return Err(io::Error::new(
                    io::ErrorKind::ResourceBusy,
                    format!(
                        "another process uses the data directory '{}'; stop it, or choose another directory",
                        directory.display()
                    ),
                ));
            }
            Err(fs::TryLockError::Error(error)) => {
                return Err(explain(error, "lock the data directory"));
            }
        }
        Ok(Self {
            directory,
            _lock: Arc::new(lock),
        })
    }
}

fn replace(directory: &Path, name: &str, content: &[u8]) -> io::Result<()> {
    let temporary = directory.join(format!("{name}.partial"));
    let mut file = fs::File::create(&temporary)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&temporary, directory.join(name))?;
    // The rename itself is durable only once the directory is.
    fs::File::open(directory)?.sync_all()
}

impl Storage for DirectoryStorage {
    fn load<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Option<Vec<u8>>>> {
        let path = self.directory.join(name);
        Box::pin(async move {
            let read = tokio::task::spawn_blocking(move || fs::read(path))
                .await
                .map_err(io::Error::other)?;
            match read {
                Ok(content) => Ok(Some(content)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(error),
            }
        })
    }

    fn store<'a>(&'a self, name: &'a str, content: Vec<u8>) -> BoxFuture<'a, io::Result<()>> {
        let (directory, name) = (self.directory.clone(), name.to_owned());
        Box::pin(async move {
            tokio::task::spawn_blocking(move || replace(&directory, &name, &content))
                .await
                .map_err(io::Error::other)?
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn keeps_what_was_stored(storage: &dyn Storage) {
        assert_eq!(storage.load("state").await.unwrap(), None);
        storage.store("state", b"one".to_vec()).await.unwrap();
        storage.store("state", b"two".to_vec()).await.unwrap();
        assert_eq!(storage.load("state").await.unwrap().unwrap(), b"two");
    }

    #[tokio::test]
    async fn storages_keep_the_last_content() {
        keeps_what_was_stored(&MemoryStorage::default()).await;
        let directory = tempfile::tempdir().unwrap();
        keeps_what_was_stored(&DirectoryStorage::open(directory.path()).unwrap()).await;
        let again = DirectoryStorage::open(directory.path()).unwrap();
        assert_eq!(again.load("state").await.unwrap().unwrap(), b"two");
    }

    #[test]
    fn a_directory_in_use_and_one_that_cannot_be_made_are_refused_with_the_reason() {
        let directory = tempfile::tempdir().unwrap();
        let first = DirectoryStorage::open(directory.path()).unwrap();
        assert!(
            DirectoryStorage::open(directory.path())
                .unwrap_err()
                .to_string()
                .contains("another process")
        );
        drop(first);
        assert!(DirectoryStorage::open(directory.path()).is_ok());
        let file = directory.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(
            DirectoryStorage::open(file.join("below"))
                .unwrap_err()
                .to_string()
                .contains("cannot make")
        );
    }
}
