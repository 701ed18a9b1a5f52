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
    files: Arc<Mutex<BTreeMap<String, Content>>>,
}

type Content = Arc<Mutex<Vec<u8>>>;

/// A file that was opened.
#[derive(Debug, Default)]
struct MemoryFile {
    content: Content,
    /// Where the next append goes.
    end: Mutex<usize>,
}

impl MemoryFile {
    fn opened(content: Content, end: usize) -> Arc<dyn DiskFile> {
        Arc::new(Self {
            content,
            end: Mutex::new(end),
        })
    }
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
        let length = |file: &Content| lock(file).len() as u64;
        let files = lock(&self.files);
        at_once(Ok(files
            .iter()
            .map(|(name, file)| (name.clone(), length(file)))
            .collect()))
    }

    fn open<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Arc<dyn DiskFile>>> {
        let file = lock(&self.files).get(name).cloned();
        let opened = file.map(|content| {
            let end = lock(&content).len();
            MemoryFile::opened(content, end)
        });
        at_once(opened.ok_or_else(|| missing(name)))
    }

    fn create<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Arc<dyn DiskFile>>> {
        let content = Content::default();
        lock(&self.files).insert(name.into(), Arc::clone(&content));
        at_once(Ok(MemoryFile::opened(content, 0)))
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

    fn reuse<'a>(
        &'a self,
        from: &'a str,
        to: &'a str,
    ) -> BoxFuture<'a, io::Result<Arc<dyn DiskFile>>> {
        let mut files = lock(&self.files);
        let Some(content) = files.remove(from) else {
            return at_once(Err(missing(from)));
        };
        files.insert(to.into(), Arc::clone(&content));
        at_once(Ok(MemoryFile::opened(content, 0)))
    }

    fn supersede<'a>(
        &'a self,
        from: &'a str,
        to: &'a str,
        kept: &'a str,
    ) -> BoxFuture<'a, io::Result<bool>> {
        let mut files = lock(&self.files);
        let Some(file) = files.remove(from) else {
            return at_once(Err(missing(from)));
        };
        let before = files.insert(to.into(), file);
        let is_kept = before.is_some();
        match before {
            Some(before) => files.insert(kept.into(), before),
            None => files.remove(kept),
        };
        at_once(Ok(is_kept))
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
        let (mut content, mut end) = (lock(&self.content), lock(&self.end));
        for part in parts {
            let over = part.len().min(content.len().saturating_sub(*end));
            let at = *end;
            content[at..at + over].copy_from_slice(&part[..over]);
            content.extend_from_slice(&part[over..]);
            *end += part.len();
        }
        at_once(Ok(()))
    }

    fn sync(&self) -> BoxFuture<'_, io::Result<()>> {
        at_once(Ok(()))
    }

    fn read(&self, offset: u64, length: usize) -> BoxFuture<'_, io::Result<Bytes>> {
        let (content, written) = (lock(&self.content), lock(&self.end));
        let start = written.min(usize::try_from(offset).unwrap_or(usize::MAX));
        let end = written.min(start.saturating_add(length));
        at_once(Ok(Bytes::copy_from_slice(&content[start..end])))
    }
}
