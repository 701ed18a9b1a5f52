//! The disk as one process has it: each operation takes its time, and the process may end in the middle of it.

use std::{
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use glint_world::{BoxFuture, DiskFile};
use tokio::time::{Instant, sleep};

use super::{Change, Content, Disk, File, Shared};
use crate::simulated::{Life, lock};

/// The disk as one process has it.
pub(super) struct View {
    pub(super) disk: Disk,
    pub(super) life: Life,
}

/// A file as one process has it.
struct OpenFile {
    view: View,
    name: String,
    file: Shared,
}

fn missing(name: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::NotFound,
        format!("there is no file '{name}'"),
    )
}

impl View {
    fn clone_for(&self) -> Self {
        Self {
            disk: self.disk.clone(),
            life: self.life.clone(),
        }
    }

    /// Time passes, as the disk takes it.
    async fn pass(&self) {
        let delay = {
            let mut content = lock(&self.disk.shared);
            let slow = content.trouble.slow;
            if content.dice.chance(slow) {
                content.dice.magnitude(500)
            } else if content.dice.chance(0.3) {
                content.dice.within(1..4)
            } else {
                0
            }
        };
        if delay > 0 {
            sleep(Duration::from_millis(delay)).await;
        }
    }

    /// Time passes. True when the process is not to survive what it is about to do.
    async fn begin(&self) -> bool {
        self.pass().await;
        self.life.is_last_write()
    }

    /// The process ends here: nobody waits for the operation any more.
    async fn perish<T>(&self) -> T {
        self.life.perish();
        std::future::pending().await
    }

    async fn change(&self, change: impl FnOnce(&mut Content) -> io::Result<()>) -> io::Result<()> {
        if self.begin().await && self.chance(0.5) {
            return self.perish().await;
        }
        let changed = change(&mut lock(&self.disk.shared));
        if self.life.is_last_write() {
            return self.perish().await;
        }
        changed
    }

    fn chance(&self, often: f64) -> bool {
        lock(&self.disk.shared).dice.chance(often)
    }

    fn opened(&self, name: &str, file: Shared) -> Arc<dyn DiskFile> {
        Arc::new(OpenFile {
            view: self.clone_for(),
            name: name.to_owned(),
            file,
        })
    }
}

impl glint_world::Disk for View {
    fn list(&self) -> BoxFuture<'_, io::Result<Vec<(String, u64)>>> {
        Box::pin(async move { Ok(self.disk.list()) })
    }

    fn open<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Arc<dyn DiskFile>>> {
        Box::pin(async move {
            let file = lock(&self.disk.shared).files.get(name).cloned();
            file.map(|file| self.opened(name, file))
                .ok_or_else(|| missing(name))
        })
    }

    fn create<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Arc<dyn DiskFile>>> {
        Box::pin(async move {
            let file: Shared = Arc::new(Mutex::new(File::new()));
            let made = Arc::clone(&file);
            self.change(|content| {
                if content.trouble.full {
                    return Err(io::ErrorKind::StorageFull.into());
                }
                content.files.insert(name.to_owned(), Arc::clone(&made));
                content.changes.push(Change::Made(name.to_owned(), made));
                Ok(())
            })
            .await?;
            self.disk.note(format_args!("makes {name}"));
            Ok(self.opened(name, file))
        })
    }

    fn rename<'a>(&'a self, from: &'a str, to: &'a str) -> BoxFuture<'a, io::Result<()>> {
        Box::pin(async move {
            self.disk.note(format_args!("renames {from} to {to}"));
            self.change(|content| {
                let file = content.files.remove(from).ok_or_else(|| missing(from))?;
                content.files.insert(to.to_owned(), Arc::clone(&file));
                let change = Change::Renamed(from.to_owned(), to.to_owned(), file);
                content.changes.push(change);
                Ok(())
            })
            .await
        })
    }

    fn reuse<'a>(
        &'a self,
        from: &'a str,
        to: &'a str,
    ) -> BoxFuture<'a, io::Result<Arc<dyn DiskFile>>> {
        Box::pin(async move {
            self.rename(from, to).await?;
            let file = lock(&self.disk.shared).files.get(to).cloned();
            let file = file.ok_or_else(|| missing(to))?;
            lock(&file).begin_again();
            Ok(self.opened(to, file))
        })
    }

    fn supersede<'a>(
        &'a self,
        from: &'a str,
        to: &'a str,
        kept: &'a str,
    ) -> BoxFuture<'a, io::Result<bool>> {
        Box::pin(async move {
            self.remove(kept).await?;
            self.disk.note(format_args!("keeps {to} as {kept}"));
            let mut is_kept = false;
            // A second name first: nobody is ever without the file that is there.
            self.change(|content| {
                if let Some(file) = content.files.get(to).cloned() {
                    content.files.insert(kept.to_owned(), Arc::clone(&file));
                    content.changes.push(Change::Made(kept.to_owned(), file));
                    is_kept = true;
                }
                Ok(())
            })
            .await?;
            self.rename(from, to).await?;
            Ok(is_kept)
        })
    }

    fn remove<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<()>> {
        Box::pin(async move {
            self.disk.note(format_args!("removes {name}"));
            self.change(|content| {
                if content.files.remove(name).is_some() {
                    content.changes.push(Change::Removed(name.to_owned()));
                }
                Ok(())
            })
            .await
        })
    }

    fn sync_directory(&self) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(async move {
            self.change(|content| {
                let often = content.trouble.sync_fails;
                if content.dice.chance(often) {
                    content.failed = true;
                    return Err(io::Error::other("the disk failed to write the directory"));
                }
                content.durable = content.files.clone();
                content.changes.clear();
                Ok(())
            })
            .await
        })
    }
}

impl OpenFile {
    fn note(&self, what: std::fmt::Arguments<'_>) {
        self.view.disk.note(what);
    }
}

impl DiskFile for OpenFile {
    fn append(&self, parts: Vec<Bytes>) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(async move {
            let last = self.view.begin().await;
            let bytes: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
            if last {
                let some = lock(&self.view.disk.shared)
                    .dice
                    .below(bytes.len() as u64 + 1);
                lock(&self.file).append(&bytes[..some as usize]);
                let (all, name) = (bytes.len(), &self.name);
                self.note(format_args!("has written {some} of {all} bytes to {name}"));
                return self.view.perish().await;
            }
            if lock(&self.view.disk.shared).trouble.full {
                return Err(io::ErrorKind::StorageFull.into());
            }
            lock(&self.file).append(&bytes);
            self.note(format_args!(
                "appends {} bytes to {}",
                bytes.len(),
                self.name
            ));
            Ok(())
        })
    }

    fn sync(&self) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(async move {
            let (length, began) = (lock(&self.file).end(), Instant::now());
            if self.view.begin().await && self.view.chance(0.7) {
                return self.view.perish().await;
            }
            let fails = self.view.disk.sync_fails();
            if fails {
                lock(&self.file).forget_unsynced(length);
                self.note(format_args!("fails to sync {}", self.name));
                return Err(io::Error::other("the disk failed to write"));
            }
            lock(&self.file).synced_to(length, began);
            self.note(format_args!("has synced {length} bytes of {}", self.name));
            if self.view.life.is_last_write() {
                return self.view.perish().await;
            }
            Ok(())
        })
    }

    fn read(&self, offset: u64, length: usize) -> BoxFuture<'_, io::Result<Bytes>> {
        Box::pin(async move {
            self.view.pass().await;
            let file = lock(&self.file);
            let start = file
                .bytes
                .len()
                .min(usize::try_from(offset).unwrap_or(usize::MAX));
            let end = file.bytes.len().min(start.saturating_add(length));
            Ok(Bytes::copy_from_slice(&file.bytes[start..end]))
        })
    }
}
