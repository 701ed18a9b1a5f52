//! What becomes of a disk when its machine stops, or when it rots.

use std::{collections::BTreeMap, sync::Arc};

use tokio::time::Instant;

use super::{Change, Content, Dice, Disk, Shared, lock};

/// A bit that was flipped.
#[derive(Clone, Debug)]
pub struct Flip {
    /// In which file.
    pub file: String,
    /// At which byte.
    pub offset: u64,
    /// Whether it lies in what was synced before the last sync: where no crash leaves damage.
    pub settled: bool,
    /// When the sync began that settled what was settled last: what is not was written later.
    pub since: Instant,
}

impl Disk {
    /// The machine has stopped.
    pub fn crash(&self) {
        let mut content = lock(&self.shared);
        let content = &mut *content;
        content.failed = false;
        let changes = std::mem::take(&mut content.changes);
        let kept = which(&mut content.dice, changes.len());
        let mut files = content.durable.clone();
        for (change, kept) in changes.into_iter().zip(kept) {
            if kept {
                apply(&mut files, change);
            }
        }
        let Content { dice, .. } = content;
        for file in distinct(&files) {
            lock(&file).crash(dice);
        }
        content.durable = files.clone();
        content.files = files;
        self.note(format_args!("what the crash left: {:?}", lengths(content)));
    }

    /// A process has ended; its machine needs memory, and drops what it believes to be on the disk.
    pub fn evict(&self) {
        let mut content = lock(&self.shared);
        let content = &mut *content;
        content.failed = false;
        let files = content.files.clone();
        for file in distinct(&files) {
            let mut file = lock(&file);
            if file.has_forgotten() {
                file.lose_forgotten(&mut content.dice);
            }
        }
    }

    /// Flips a bit of a file; none when there are no files with content.
    pub fn flip(&self) -> Option<Flip> {
        let mut content = lock(&self.shared);
        let content = &mut *content;
        let files: Vec<(&String, &Shared)> = content
            .files
            .iter()
            .filter(|(_, file)| !lock(file).bytes.is_empty())
            .collect();
        if files.is_empty() {
            return None;
        }
        let (name, file) = *content.dice.pick(&files);
        let mut file = lock(file);
        let offset = content.dice.below(file.bytes.len() as u64) as usize;
        file.bytes[offset] ^= 1 << content.dice.below(8);
        let flip = Flip {
            file: name.clone(),
            offset: offset as u64,
            settled: offset < file.settled(),
            since: file.settled_at(),
        };
        // Not when: an instant is another one in each run.
        let (file, offset, settled) = (&flip.file, flip.offset, flip.settled);
        self.note(format_args!(
            "a bit flips at {offset} of {file}, settled: {settled}"
        ));
        Some(flip)
    }
}

fn lengths(content: &Content) -> Vec<(&str, usize)> {
    let files = content.files.iter();
    files
        .map(|(name, file)| (name.as_str(), lock(file).bytes.len()))
        .collect()
}

/// Which changes of the directory came to the disk: all up to some one, or any.
fn which(dice: &mut Dice, count: usize) -> Vec<bool> {
    if dice.chance(0.5) {
        let kept = dice.below(count as u64 + 1) as usize;
        return (0..count).map(|at| at < kept).collect();
    }
    (0..count).map(|_| dice.chance(0.5)).collect()
}

fn apply(files: &mut BTreeMap<String, Shared>, change: Change) {
    match change {
        Change::Made(name, file) => {
            files.insert(name, file);
        }
        Change::Renamed(from, to, file) => {
            if files.get(&from).is_some_and(|f| Arc::ptr_eq(f, &file)) {
                files.remove(&from);
            }
            files.insert(to, file);
        }
        Change::Removed(name) => {
            files.remove(&name);
        }
    }
}

/// Each file once, though it may have two names for a moment.
fn distinct(files: &BTreeMap<String, Shared>) -> Vec<Shared> {
    let mut found: Vec<Shared> = Vec::new();
    for file in files.values() {
        if !found.iter().any(|f| Arc::ptr_eq(f, file)) {
            found.push(Arc::clone(file));
        }
    }
    found
}
