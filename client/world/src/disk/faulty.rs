//! A disk that fails as it is told, for tests of whoever must bear it.

use std::{
    io,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use tokio::sync::watch;

use super::{Disk, DiskFile};
use crate::BoxFuture;

/// What can be made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// [`Disk::list`].
    List,
    /// [`Disk::open`].
    Open,
    /// [`Disk::create`].
    Create,
    /// [`Disk::rename`], [`Disk::reuse`] and [`Disk::supersede`].
    Rename,
    /// [`Disk::remove`].
    Remove,
    /// [`Disk::sync_directory`].
    SyncDirectory,
    /// [`DiskFile::append`].
    Append,
    /// [`DiskFile::sync`].
    Sync,
    /// [`DiskFile::read`].
    Read,
}

#[derive(Debug)]
struct Fault {
    operation: Operation,
    /// Files of which the names begin so.
    prefix: String,
    kind: io::ErrorKind,
    /// Which of these operations fail, the next being 0.
    which: Range<usize>,
    seen: usize,
}

#[derive(Debug, Default)]
struct Faults {
    list: Vec<Fault>,
    /// Bytes for which there is room yet; none when there is always room.
    room: Option<u64>,
    /// Faults that have happened.
    happened: usize,
}

/// Another disk, with faults. Clones share them.
#[derive(Clone)]
pub struct FaultyDisk {
    inner: Arc<dyn Disk>,
    faults: Arc<Mutex<Faults>>,
    /// Operations that wait, and the beginnings of the names of the files on which they do.
    held: Arc<watch::Sender<Vec<(Operation, String)>>>,
}

struct FaultyFile {
    name: String,
    inner: Arc<dyn DiskFile>,
    disk: FaultyDisk,
}

impl FaultyDisk {
    /// A disk without faults.
    pub fn new(inner: Arc<dyn Disk>) -> Self {
        Self {
            inner,
            faults: Arc::default(),
            held: Arc::new(watch::Sender::new(Vec::new())),
        }
    }

    /// Another disk in its place, with the same faults.
    #[must_use]
    pub fn over(&self, inner: Arc<dyn Disk>) -> Self {
        Self {
            inner,
            ..self.clone()
        }
    }

    fn faults(&self) -> MutexGuard<'_, Faults> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes operations fail on files of which the names begin with `prefix`: those from `which.start` (the next is 0) up to
    /// `which.end`.
    pub fn fail(
        &self,
        operation: Operation,
        prefix: &str,
        kind: io::ErrorKind,
        which: Range<usize>,
    ) {
        self.faults().list.push(Fault {
            operation,
            prefix: prefix.to_owned(),
            kind,
            which,
            seen: 0,
        });
    }

    /// Makes operations on files of which the names begin with `prefix` wait until
    /// [`Self::let_go`] or [`Self::mend`].
    pub fn hold(&self, operation: Operation, prefix: &str) {
        let held = (operation, prefix.to_owned());
        self.held.send_modify(|all| all.push(held));
    }

    /// Lets operations go on that [`Self::hold`] makes wait.
    pub fn let_go(&self, operation: Operation) {
        self.held
            .send_modify(|all| all.retain(|(held, _)| *held != operation));
    }

    /// Has room for so many bytes more, and for those of files that are removed; none for as many as come.
    pub fn set_room(&self, bytes: Option<u64>) {
        self.faults().room = bytes;
    }

    /// Mends everything.
    pub fn mend(&self) {
        *self.faults() = Faults::default();
        self.held.send_modify(Vec::clear);
    }

    async fn pass(&self, operation: Operation, name: &str) -> io::Result<()> {
        let free = |held: &Vec<(Operation, String)>| {
            !held
                .iter()
                .any(|(held, prefix)| *held == operation && name.starts_with(prefix))
        };
        // It cannot be closed: its sender is here.
        let _ = self.held.subscribe().wait_for(free).await;
        self.check(operation, name)
    }

    /// How many operations have failed since it was last mended.
    pub fn happened(&self) -> usize {
        self.faults().happened
    }

    fn check(&self, operation: Operation, name: &str) -> io::Result<()> {
        let mut faults = self.faults();
        let mut failed = None;
        for fault in &mut faults.list {
            if fault.operation == operation && name.starts_with(&fault.prefix) {
                if fault.which.contains(&fault.seen) {
                    failed = Some(fault.kind);
                }
                fault.seen += 1;
            }
        }
        let Some(kind) = failed else {
            return Ok(());
        };
        faults.happened += 1;
        Err(io::Error::new(
            kind,
            format!("{operation:?} of '{name}': {kind}"),
        ))
    }

    fn take_room(&self, bytes: u64) -> io::Result<()> {
        let mut faults = self.faults();
        match &mut faults.room {
            Some(room) if *room < bytes => {
                faults.happened += 1;
                Err(io::ErrorKind::StorageFull.into())
            }
            Some(room) => {
                *room -= bytes;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn file(&self, name: &str, inner: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        Arc::new(FaultyFile {
            name: name.to_owned(),
            inner,
            disk: self.clone(),
        })
    }
}

impl Disk for FaultyDisk {
    fn list(&self) -> BoxFuture<'_, io::Result<Vec<(String, u64)>>> {
        Box::pin(async {
            self.pass(Operation::List, "").await?;
            self.inner.list().await
        })
    }

    fn open<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Arc<dyn DiskFile>>> {
        Box::pin(async move {
            self.pass(Operation::Open, name).await?;
            Ok(self.file(name, self.inner.open(name).await?))
        })
    }

    fn create<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Arc<dyn DiskFile>>> {
        Box::pin(async move {
            self.pass(Operation::Create, name).await?;
            Ok(self.file(name, self.inner.create(name).await?))
        })
    }

    fn rename<'a>(&'a self, from: &'a str, to: &'a str) -> BoxFuture<'a, io::Result<()>> {
        Box::pin(async move {
            self.pass(Operation::Rename, from).await?;
            self.inner.rename(from, to).await
        })
    }

    fn reuse<'a>(
        &'a self,
        from: &'a str,
        to: &'a str,
    ) -> BoxFuture<'a, io::Result<Arc<dyn DiskFile>>> {
        Box::pin(async move {
            self.pass(Operation::Rename, from).await?;
            Ok(self.file(to, self.inner.reuse(from, to).await?))
        })
    }

    fn supersede<'a>(
        &'a self,
        from: &'a str,
        to: &'a str,
        kept: &'a str,
    ) -> BoxFuture<'a, io::Result<bool>> {
        Box::pin(async move {
            self.pass(Operation::Rename, from).await?;
            self.inner.supersede(from, to, kept).await
        })
    }

    fn remove<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<()>> {
        Box::pin(async move {
            self.pass(Operation::Remove, name).await?;
            let files = self.inner.list().await?;
            self.inner.remove(name).await?;
            let freed = files.iter().find(|(file, _)| file == name);
            if let (Some((_, bytes)), Some(room)) = (freed, &mut self.faults().room) {
                *room += bytes;
            }
            Ok(())
        })
    }

    fn sync_directory(&self) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(async {
            self.pass(Operation::SyncDirectory, "").await?;
            self.inner.sync_directory().await
        })
    }
}

impl DiskFile for FaultyFile {
    fn append(&self, parts: Vec<Bytes>) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(async move {
            self.disk.pass(Operation::Append, &self.name).await?;
            let bytes = parts.iter().map(|part| part.len() as u64).sum();
            self.disk.take_room(bytes)?;
            self.inner.append(parts).await
        })
    }

    fn sync(&self) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(async move {
            self.disk.pass(Operation::Sync, &self.name).await?;
            self.inner.sync().await
        })
    }

    fn read(&self, offset: u64, length: usize) -> BoxFuture<'_, io::Result<Bytes>> {
        Box::pin(async move {
            self.disk.pass(Operation::Read, &self.name).await?;
            self.inner.read(offset, length).await
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{MemoryDisk, disk::load};

    #[tokio::test]
    async fn it_fails_as_often_as_told_and_then_behaves() {
        let disk = FaultyDisk::new(Arc::new(MemoryDisk::default()));
        disk.fail(Operation::Append, "lo", io::ErrorKind::Other, 0..1);
        disk.set_room(Some(3));
        let (log, other) = (
            disk.create("log").await.unwrap(),
            disk.create("b").await.unwrap(),
        );
        let two = || vec![Bytes::from_static(b"ab")];
        assert!(log.append(two()).await.is_err());
        other.append(two()).await.unwrap();
        let full = log.append(two()).await.unwrap_err();
        assert_eq!(full.kind(), io::ErrorKind::StorageFull);
        assert_eq!(disk.happened(), 2);
        disk.remove("b").await.unwrap();
        log.append(two()).await.unwrap();
        let log = disk.create("log").await.unwrap();
        disk.mend();
        log.append(two()).await.unwrap();
        assert_eq!(load(&disk, "log").await.unwrap().unwrap(), "ab");
        disk.hold(Operation::Sync, "b");
        log.sync().await.unwrap();
        let mut waiting = other.sync();
        tokio::select! {
            biased;
            _ = &mut waiting => panic!("it did not wait"),
            () = tokio::task::yield_now() => {}
        }
        disk.mend();
        waiting.await.unwrap();
    }
}
