//! How much memory a server may use: what the machine has, or what its control group allows.

use std::{fs, path::Path, str::FromStr};

/// The part of the memory that is there which values may take, unless told: the rest is for requests and the system.
const PART: f64 = 0.8;

/// A number of bytes on the command line: `8GiB`, `500MB`, `1073741824`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bytes(pub(crate) u64);

impl FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!("'{text}' is not a size: give one such as 8GiB, 512MiB, 500MB or 1073741824")
        };
        let text = text.trim();
        let digits = text
            .find(|c: char| !c.is_ascii_digit() && c != '.' && c != '_')
            .unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let number = number.replace('_', "");
        let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
            "" | "b" => 1,
            "k" | "ki" | "kib" => 1 << 10,
            "m" | "mi" | "mib" => 1 << 20,
            "g" | "gi" | "gib" => 1 << 30,
            "t" | "ti" | "tib" => 1 << 40,
            "kb" => 1_000,
            "mb" => 1_000_000,
            "gb" => 1_000_000_000,
            "tb" => 1_000_000_000_000,
            _ => return Err(wrong()),
        };
        if let Ok(whole) = number.parse::<u64>() {
            return whole.checked_mul(factor).map(Self).ok_or_else(wrong);
        }
        match number.parse::<f64>() {
            Ok(part) if part.is_finite() && part * (factor as f64) < u64::MAX as f64 => {
                Ok(Self((part * factor as f64) as u64))
            }
            _ => Err(wrong()),
        }
    }
}

/// What the values of all servers in this process may take unless told.
pub(crate) fn default_bytes() -> u64 {
    let present = available(Path::new("/")).unwrap_or(1 << 30);
    (present as f64 * PART) as u64
}

/// The memory of the machine, or what the control groups of this process leave of it; none where there is no /proc.
fn available(root: &Path) -> Option<u64> {
    let machine = fs::read_to_string(root.join("proc/meminfo"))
        .ok()
        .and_then(|text| {
            let line = text.lines().find_map(|l| l.strip_prefix("MemTotal:"))?;
            let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
            kib.checked_mul(1024)
        });
    machine.into_iter().chain(control_groups(root)).min()
}

/// The limits of the control group of this process and of those above it.
fn control_groups(root: &Path) -> Vec<u64> {
    let mut limits = Vec::new();
    let mut read = |file: &Path| {
        // "max" stands for no limit.
        let limit = fs::read_to_string(file).ok();
        limits.extend(limit.and_then(|text| text.trim().parse::<u64>().ok()));
    };
    let mounted = root.join("sys/fs/cgroup");
    let groups = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':');
        let (_, controllers, path) = (parts.next(), parts.next(), parts.next());
        let (base, name) = match controllers {
            Some("") => (mounted.clone(), "memory.max"),
            Some(list) if list.split(',').any(|c| c == "memory") => {
                (mounted.join("memory"), "memory.limit_in_bytes")
            }
            _ => continue,
        };
        let inside = base.join(path.unwrap_or_default().trim_start_matches('/'));
        for group in inside.ancestors().take_while(|g| g.starts_with(&base)) {
            read(&group.join(name));
        }
    }
    limits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_their_units() {
        for (text, bytes) in [
            ("0", 0),
            ("1024", 1024),
            ("8GiB", 8 << 30),
            ("8 gi", 8 << 30),
            ("1.5MiB", 3 << 19),
            ("500MB", 500_000_000),
            ("1_000kb", 1_000_000),
        ] {
            assert_eq!(text.parse(), Ok(Bytes(bytes)), "{text}");
        }
        for text in ["", "GiB", "8XB", "-1", "99999999999TiB", "1.2.3"] {
            let error = text.parse::<Bytes>().unwrap_err();
            assert!(error.contains("8GiB"), "{error}");
        }
    }

    #[test]
    fn the_smallest_of_machine_and_control_groups_counts() {
        let root = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        assert_eq!(available(root.path()), None);
        put("proc/meminfo", "MemTotal:        2048 kB\nMemFree: 1 kB\n");
        assert_eq!(available(root.path()), Some(2048 * 1024));
        put("proc/self/cgroup", "0::/pods/one\n");
        put("sys/fs/cgroup/pods/one/memory.max", "max\n");
        assert_eq!(available(root.path()), Some(2048 * 1024));
        put("sys/fs/cgroup/pods/memory.max", "4096\n");
        assert_eq!(available(root.path()), Some(4096));
        put("proc/self/cgroup", "5:cpu,memory:/old\n");
        put("sys/fs/cgroup/memory/memory.limit_in_bytes", "8192");
        assert_eq!(available(root.path()), Some(8192));
    }
}
