//! The disk of one machine: files that are appended to, and what is left of them when a process or the machine ends.
//!
//! What was synced survives. Of what was appended since, each page is there, or not, or torn, whatever became of the pages
//! before it; of the files made, renamed and removed since the directory was synced, any may be so. After a sync that
//! failed, what it should have made durable still reads as if it were there, and no later sync makes it durable: the
//! system has forgotten that those pages were to be written.

mod crash;
pub use crash::Flip;
mod file;
mod view;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::Instant;

use super::{Dice, Life, Trace, lock};
use file::File;
use view::View;

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
