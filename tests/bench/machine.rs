//! What the figures were taken on, and what of it makes them unreliable.

use std::fs;

use serde::Serialize;

/// The machine, as far as it says.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Machine {
    /// Model of the processor.
    pub(crate) processor: String,
    /// Processors that may be used.
    pub(crate) cores: usize,
    /// Bytes of memory.
    pub(crate) memory_bytes: u64,
    /// Version of the kernel.
    pub(crate) kernel: String,
    /// TCP congestion control in force for new connections.
    pub(crate) congestion_control: String,
    /// Processes that wanted a processor in the minute before the start.
    pub(crate) load: f64,
}

fn line(path: &str) -> String {
    fs::read_to_string(path)
        .unwrap_or_default()
        .trim()
        .to_owned()
}

/// The value of a line `name: value` or `name  : value` of a file.
fn field(path: &str, name: &str) -> Option<String> {
    fs::read_to_string(path).ok()?.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim().to_owned())
    })
}

/// Bytes of a line such as `VmRSS:    1234 kB`.
pub(crate) fn kilobytes(path: &str, name: &str) -> Option<u64> {
    field(path, name)?
        .strip_suffix("kB")?
        .trim()
        .parse::<u64>()
        .ok()
        .map(|kilobytes| kilobytes * 1024)
}

impl Machine {
    /// This one, now.
    pub(crate) fn here() -> Self {
        Self {
            processor: field("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown".into()),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            memory_bytes: kilobytes("/proc/meminfo", "MemTotal").unwrap_or(0),
            kernel: line("/proc/sys/kernel/osrelease"),
            congestion_control: line("/proc/sys/net/ipv4/tcp_congestion_control"),
            load: line("/proc/loadavg")
                .split_whitespace()
                .next()
                .and_then(|load| load.parse().ok())
                .unwrap_or(f64::NAN),
        }
    }

    /// One line for people.
    pub(crate) fn describe(&self) -> String {
        format!(
            "{} × {}, {} GiB, Linux {}, TCP congestion control {}, load {:.2}",
            self.cores,
            self.processor,
            self.memory_bytes >> 30,
            self.kernel,
            self.congestion_control,
            self.load
        )
    }

    /// What makes figures taken here unreliable.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.congestion_control == "bbr" {
            warnings.push(
                "TCP congestion control is bbr, which paces even loopback: figures are low and change from run to run; \
                 run through scripts/bench.sh, which uses reno in a network namespace of its own"
                    .into(),
            );
        }
        if self.load > 0.5 * self.cores as f64 {
            warnings.push(format!(
                "others use this machine (load {:.2} on {} cores): figures are low; run again when it is quiet",
                self.load, self.cores
            ));
        }
        warnings
    }
}

/// Writes to so many bytes of memory, and frees them. A virtual machine gives memory that is free for a while back to its host, and
/// what it takes from there again costs several times as much as copying it: on the machine of docs/performance.md 0.5 to 1.5
/// GB/s, where memory that it still has takes 16 GB/s. That is not what is to be measured.
///
/// # Errors
/// When there is no memory for it.
pub(crate) fn touch(bytes: u64) -> anyhow::Result<()> {
    let mut memory: Vec<u8> = Vec::new();
    memory.try_reserve_exact(usize::try_from(bytes)?)?;
    memory.resize(memory.capacity(), 1);
    std::hint::black_box(&memory);
    Ok(())
}
