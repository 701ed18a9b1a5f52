//! A disk in memory: it lives as long as its last clone.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;

use super::{Disk, DiskFile};
use crate::BoxFuture;

/// Files in memory. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct MemoryDisk {
    files: Arc<Mutex<BTreeMap<String, MemoryFile>>>,
}

#[derive(Clone, Debug, Default)]
struct MemoryFile {
    content: Arc<Mutex<Vec<u8>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn missing(name: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::NotFound,
        format!("there is no file '{name}'"),
    )
}

fn at_once<'a, T: Send + 'a>(result: io::Result<T>) -> BoxFuture<'a, io::Result<T>> {
    Box::pin(std::future::ready(result))
}

impl Disk for MemoryDisk {
    fn list(&self) -> BoxFuture<'_, io::Result<Vec<(String, u64)>>> {
        let length = |file: &MemoryFile| lock(&file.content).len() as u64;
        let files = lock(&self.files);
        at_once(Ok(files
            .iter()
            .map(|(name, file)| (name.clone(), length(file)))
            .collect()))
    }

    fn open<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Arc<dyn DiskFile>>> {
        let file = lock(&self.files).get(name).cloned();
        at_once(
            file.map(|f| Arc::new(f) as Arc<dyn DiskFile>)
                .ok_or_else(|| missing(name)),
        )
    }

    fn create<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Arc<dyn DiskFile>>> {
        let file = MemoryFile::default();
        lock(&self.files).insert(name.into(), file.clone());
        at_once(Ok(Arc::new(file) as Arc<dyn DiskFile>))
    }

    fn rename<'a>(&'a self, from: &'a str, to: &'a str) -> BoxFuture<'a, io::Result<()>> {
        let mut files = lock(&self.files);
        let file = files.remove(from);
        at_once(match file {
            Some(file) => {
                files.insert(to.into(), file);
                Ok(())
            }
            None => Err(missing(from)),
        })
    }

    fn remove<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<()>> {
        lock(&self.files).remove(name);
        at_once(Ok(()))
    }

    fn sync_directory(&self) -> BoxFuture<'_, io::Result<()>> {
        at_once(Ok(()))
    }
}

impl DiskFile for MemoryFile {
    fn append(&self, parts: Vec<Bytes>) -> BoxFuture<'_, io::Result<()>> {
        let mut content = lock(&self.content);
        for part in parts {
            content.extend_from_slice(&part);
        }
        at_once(Ok(()))
    }

    fn sync(&self) -> BoxFuture<'_, io::Result<()>> {
        at_once(Ok(()))
    }

    fn read(&self, offset: u64, length: usize) -> BoxFuture<'_, io::Result<Bytes>> {
        let content = lock(&self.content);
        let start = content
            .len()
            .min(usize::try_from(offset).unwrap_or(usize::MAX));
        let end = content.len().min(start.saturating_add(length));
        at_once(Ok(Bytes::copy_from_slice(&content[start..end])))
    }
}
