//! The disk of one machine: files that are appended to, and what is left of them when a process or the machine ends.
//!
//! What was synced survives. Of what was appended since, each page is there, or not, or torn, whatever became of the pages
//! before it; of the files made, renamed and removed since the directory was synced, any may be so. After a sync that
//! failed, what it should have made durable still reads as if it were there, and no later sync makes it durable: the
//! system has forgotten that those pages were to be written.

mod crash;
pub use crash::Flip;
mod file;

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use glint_world::{BoxFuture, DiskFile};
use tokio::time::{Instant, sleep};

use super::{Dice, Life, Trace, lock};
use file::File;

/// What is wrong with a disk for a while.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Trouble {
    /// It has no room.
    pub full: bool,
    /// How often a sync fails.
    pub sync_fails: f64,
    /// How often an operation takes up to half a second.
    pub slow: f64,
}

/// The disk of one machine: it outlives its processes. Cheap to clone; clones are one disk.
#[derive(Clone)]
pub struct Disk {
    shared: Arc<Mutex<Content>>,
    host: Arc<str>,
    trace: Trace,
}

struct Content {
    dice: Dice,
    trouble: Trouble,
    /// The files as processes see them.
    files: BTreeMap<String, Shared>,
    /// The files as they were when the directory was last synced.
    durable: BTreeMap<String, Shared>,
    /// What happened to the directory since.
    changes: Vec<Change>,
    /// When it was slow for the last time.
    slow_until: Option<Instant>,
    /// A sync has failed, and what it should have written has not been dropped yet.
    failed: bool,
}

type Shared = Arc<Mutex<File>>;

#[derive(Clone)]
enum Change {
    Made(String, Shared),
    Renamed(String, String, Shared),
    Removed(String),
}

/// What a machine kept of a disk at some time, to be put back later: a volume restored from an older copy.
#[derive(Clone, Debug)]
pub struct Copy {
    files: BTreeMap<String, Vec<u8>>,
}

impl Disk {
    /// An empty disk.
    pub fn new(host: &str, dice: Dice, trace: Trace) -> Self {
        Self {
            shared: Arc::new(Mutex::new(Content {
                dice,
                trouble: Trouble::default(),
                files: BTreeMap::new(),
                durable: BTreeMap::new(),
                changes: Vec::new(),
                slow_until: None,
                failed: false,
            })),
            host: host.into(),
            trace,
        }
    }

    /// The disk as one process has it: nothing that it does counts any more after its end.
    pub fn of(&self, life: &Life) -> Arc<dyn glint_world::Disk> {
        Arc::new(View {
            disk: self.clone(),
            life: life.clone(),
        })
    }

    /// What is wrong with it from now on.
    pub fn set_trouble(&self, trouble: Trouble) {
        let mut content = lock(&self.shared);
        if content.trouble.slow > 0.0 {
            content.slow_until = Some(Instant::now());
        }
        content.trouble = trouble;
    }

    /// Whether it is slow, or was so a short while ago.
    pub fn is_slow_since(&self, while_ago: Duration) -> bool {
        let content = lock(&self.shared);
        let recent = |until: Instant| until.elapsed() <= while_ago;
        content.trouble.slow > 0.0 || content.slow_until.is_some_and(recent)
    }

    /// What it holds now, as a backup of a running machine takes it.
    pub fn copy(&self) -> Copy {
        let content = lock(&self.shared);
        let bytes = |(name, file): (&String, &Shared)| (name.clone(), lock(file).bytes.clone());
        Copy {
            files: content.files.iter().map(bytes).collect(),
        }
    }

    /// Puts back what a copy holds; the rest is gone.
    pub fn restore(&self, copy: &Copy) {
        let file = |(name, bytes): (&String, &Vec<u8>)| {
            let file = File::durable(bytes.clone());
            (name.clone(), Arc::new(Mutex::new(file)))
        };
        let files: BTreeMap<_, _> = copy.files.iter().map(file).collect();
        self.note(format_args!(
            "the disk is an older copy of itself, with {} files",
            files.len()
        ));
        let mut content = lock(&self.shared);
        content.durable = files.clone();
        content.files = files;
        content.changes.clear();
    }

    /// Another disk takes its place: an empty one.
    pub fn empty(&self) {
        self.note(format_args!("the disk is empty"));
        let mut content = lock(&self.shared);
        content.files.clear();
        content.durable.clear();
        content.changes.clear();
    }

    /// Every file's name and length.
    pub fn list(&self) -> Vec<(String, u64)> {
        let content = lock(&self.shared);
        let files = content.files.iter();
        files
            .map(|(name, file)| (name.clone(), lock(file).bytes.len() as u64))
            .collect()
    }

    /// Whether a sync has failed, and what it should have written reads as if it were there.
    pub fn has_failed(&self) -> bool {
        lock(&self.shared).failed
    }

    fn note(&self, what: std::fmt::Arguments<'_>) {
        self.trace.note(&self.host, what);
    }
}

/// The disk as one process has it.
struct View {
    disk: Disk,
    life: Life,
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

    /// Time passes, as the disk takes it. True when the process is not to survive what it is about to do.
    async fn begin(&self) -> bool {
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
            let file: Shared = Arc::default();
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
            let length = lock(&self.file).end();
            if self.view.begin().await && self.view.chance(0.7) {
                return self.view.perish().await;
            }
            let fails = self.view.disk.sync_fails();
            if fails {
                lock(&self.file).forget_unsynced(length);
                self.note(format_args!("fails to sync {}", self.name));
                return Err(io::Error::other("the disk failed to write"));
            }
            lock(&self.file).synced_to(length);
            self.note(format_args!("has synced {length} bytes of {}", self.name));
            if self.view.life.is_last_write() {
                return self.view.perish().await;
            }
            Ok(())
        })
    }

    fn read(&self, offset: u64, length: usize) -> BoxFuture<'_, io::Result<Bytes>> {
        Box::pin(async move {
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

impl Disk {
    fn sync_fails(&self) -> bool {
        let mut content = lock(&self.shared);
        let often = content.trouble.sync_fails;
        let fails = content.dice.chance(often);
        content.failed |= fails;
        fails
    }
}

#[cfg(test)]
mod tests;
