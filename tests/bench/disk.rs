//! What the disk can do at all: bytes per second that are written and synced 1 MiB at a time, and that are read from files
//! and added to values in memory.

use std::{
    fs::{self, File},
    io::{Read, Write},
    path::Path,
    time::Instant,
};

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::statistics::warm_median;

/// Bytes of one write, after which the file is synced.
const WRITE: usize = 1 << 20;
/// Values that what is read is added to: as many as a partition has.
const VALUES: usize = 1 << 20;

/// The limits of one round.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct DiskLimits {
    /// Bytes per second, each MiB written and synced (`fdatasync`) before the next.
    pub(crate) synced: f64,
}

/// Measures, and prints [`DiskLimits`] as JSON.
pub(crate) fn main(folder: &Path, quick: bool) -> anyhow::Result<()> {
    fs::create_dir_all(folder)?;
    let mut file = tempfile::tempfile_in(folder)
        .with_context(|| format!("cannot write in {}", folder.display()))?;
    let bytes: Vec<u8> = (0..WRITE).map(|i| (i % 251) as u8).collect();
    let mut seconds = Vec::new();
    for _ in 0..if quick { 20 } else { 150 } {
        let start = Instant::now();
        file.write_all(&bytes)?;
        file.sync_data()?;
        seconds.push(start.elapsed().as_secs_f64());
    }
    let limits = DiskLimits {
        synced: WRITE as f64 / warm_median(&seconds),
    };
    println!("{}", serde_json::to_string(&limits)?);
    Ok(())
}

/// Reads the log and the snapshots of a data directory, adds them to values as f32, and prints the bytes per second as JSON:
/// what a replay cannot be faster than.
pub(crate) fn read_and_add(folder: &Path) -> anyhow::Result<()> {
    // Their server lives: it may replace other files of the directory meanwhile.
    let names = fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name()));
    let mut names = names.collect::<anyhow::Result<Vec<_>>>()?;
    names.retain(|name| {
        let name = name.to_string_lossy();
        let read_at_a_start = name.starts_with("log-") || name.starts_with("snapshot-");
        read_at_a_start && !name.ends_with(".partial")
    });
    anyhow::ensure!(
        !names.is_empty(),
        "{} has no log and no snapshots",
        folder.display()
    );
    names.sort();
    let mut values = vec![0.0_f32; VALUES];
    let mut buffer = vec![0_u8; WRITE];
    let start = Instant::now();
    let (mut total, mut at) = (0, 0);
    for name in names {
        let path = folder.join(name);
        let mut file =
            File::open(&path).with_context(|| format!("cannot read {}", path.display()))?;
        loop {
            let read = file.read(&mut buffer)?;
            if read == 0 {
                break;
            }
            total += read;
            for bytes in buffer[..read].chunks(VALUES - at % VALUES) {
                for (value, bytes) in values.iter_mut().zip(bytes.as_chunks::<4>().0) {
                    *value += f32::from_le_bytes(*bytes);
                }
                at += bytes.len();
            }
        }
    }
    let rate = total as f64 / start.elapsed().as_secs_f64();
    // What was added is used, so that no adding can be left out.
    std::hint::black_box(&values);
    println!("{}", serde_json::to_string(&rate)?);
    Ok(())
}
