//! Nothing is left behind: once nothing moves any more, each server has the copies that the map gives it, in memory and on its disk,
//! and no others with values. What is somewhere and should not be, or the other way round, is an error that says so.

use std::collections::{BTreeMap, BTreeSet};

use glint_protocol::{Incarnation, ServerId, admin::ModelCopies, control::ClusterStatus};
use glint_server::{log::snapshot::Named, server::status::ServerStatus};

/// Partitions.
pub type Copies = BTreeSet<(Incarnation, u32)>;

/// Whether nothing moves.
///
/// # Errors
/// What does.
pub fn is_still(status: &ClusterStatus) -> Result<(), String> {
    let transfers = &status.transfers;
    let moving = transfers.moving + transfers.learning + transfers.stalled;
    if transfers.levelling || moving > 0 {
        return Err(format!("copies still move: {transfers:?}"));
    }
    Ok(())
}

/// What each server is to have.
///
/// # Errors
/// The partition of which a copy is still to go.
pub fn wanted(models: &[ModelCopies]) -> Result<BTreeMap<ServerId, Copies>, String> {
    let mut wanted: BTreeMap<ServerId, Copies> = BTreeMap::new();
    for model in models {
        for (partition, of) in (0..).zip(&model.partitions) {
            if !of.leaving.is_empty() || !of.learning.is_empty() {
                return Err(format!("partition {partition} of {}: {of:?}", model.name));
            }
            for server in [&of.holder].into_iter().chain(&of.in_sync) {
                let has = wanted.entry(server.clone()).or_default();
                has.insert((model.incarnation, partition));
            }
        }
    }
    Ok(wanted)
}

/// Whether a server has that, and nothing else: by its own word, and by the files in its data directory.
///
/// # Errors
/// What it has instead.
pub fn has_only(wanted: &Copies, server: &ServerStatus, files: &[String]) -> Result<(), String> {
    let id = &server.id;
    let models = server.models.iter();
    let all: Vec<_> = models
        .flat_map(|m| m.partitions.iter().map(|p| (m.incarnation, *p)))
        .collect();
    let has: Copies = all.iter().map(|(of, p)| (*of, p.partition)).collect();
    // That values are lost is all that is left of such a copy.
    let lost = all.iter().filter(|(_, p)| p.lost);
    let lost: Copies = lost.map(|(of, p)| (*of, p.partition)).collect();
    let more: Vec<_> = has
        .difference(wanted)
        .filter(|p| !lost.contains(p))
        .collect();
    let missing: Vec<_> = wanted.difference(&has).collect();
    if !more.is_empty() || !missing.is_empty() {
        return Err(format!(
            "{id} has {more:?} too many, and {missing:?} too few"
        ));
    }
    if server.load.arriving_bytes > 0 {
        let bytes = server.load.arriving_bytes;
        return Err(format!("{bytes} bytes still arrive at {id}"));
    }
    let of_no_copy = |name: &&String| match Named::parse(name) {
        Some(Named::Snapshot(incarnation, partition)) => {
            let key = (incarnation, partition);
            !wanted.contains(&key) && !lost.contains(&key)
        }
        Some(Named::Lost(..)) | None => false,
    };
    match files.iter().find(of_no_copy) {
        Some(name) => Err(format!("{id} still has the file {name}")),
        None => Ok(()),
    }
}
