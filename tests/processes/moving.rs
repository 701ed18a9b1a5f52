//! What a move costs its two servers in memory, as the operating system counts it.

use std::fs;

use glint_tests::address::free_address;

use crate::program::{Program, alone, printed, until_printed};

const MIB: u64 = 1 << 20;
/// The one partition that moves.
const PARTITION: u64 = 512 * MIB;
/// What a move may take beside a tenth of the partition.
const BUFFER: u64 = 64 * MIB;

/// A line of `/proc/PID/status`, in bytes.
fn counted(pid: u32, name: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find(|line| line.starts_with(name)).unwrap();
    let kib = line.split_whitespace().nth(1).unwrap();
    kib.parse::<u64>().unwrap() * 1024
}

/// Has the peak counted from now on.
fn forget_peak(pid: u32) {
    fs::write(format!("/proc/{pid}/clear_refs"), "5").unwrap();
}

#[test]
fn a_move_takes_no_more_than_a_tenth_of_the_partition_and_a_buffer_on_either_side() {
    let _alone = alone();
    let directory = tempfile::tempdir().unwrap();
    let address = free_address();
    let url = format!("http://{address}");
    let arguments = [
        "master",
        "--listen",
        &address,
        "--data-dir",
        "master",
        "--no-rebalance",
    ];
    let _master = Program::start(directory.path(), "master", &arguments);
    until_printed(&url, &["status"], |_| true);
    let server = |name: &str| {
        let arguments = [
            "server",
            "--master",
            &url,
            "--id",
            name,
            "--memory",
            "2GiB",
            "--move-rate",
            "0",
        ];
        Program::start(directory.path(), name, &arguments)
    };
    let from = server("s1");
    until_printed(&url, &["status"], |text| text.contains("s1  "));
    let keys = (PARTITION / 4).to_string();
    // Its values are not 0: memory that was never written is none.
    let create = [
        "model",
        "create",
        "big",
        "--vector",
        &keys,
        "--partitions",
        "1",
        "--initial",
        "1",
    ];
    printed(&url, &create);
    let to = server("s2");
    until_printed(&url, &["status"], |text| text.matches("alive").count() == 2);
    let before = [&from, &to].map(|program| counted(program.id(), "VmRSS"));
    assert!(before[0] > PARTITION && before[1] < BUFFER, "{before:?}");
    for program in [&from, &to] {
        forget_peak(program.id());
    }
    printed(&url, &["move", "big", "0", "--to", "s2"]);
    let mut pushes: u64 = 0;
    loop {
        // Some records go along, all over the partition.
        let pairs: Vec<String> = (0..8)
            .map(|n| format!("{}=1", (pushes * 8 + n) * 15_485_863 % (PARTITION / 4)))
            .collect();
        let words: Vec<&str> = ["push", "big"]
            .into_iter()
            .chain(pairs.iter().map(String::as_str))
            .collect();
        printed(&url, &words);
        pushes += 1;
        let shown = printed(&url, &["model", "show", "big"]);
        let line = shown.lines().find(|line| line.starts_with("s2 "));
        let only = !shown.lines().any(|line| line.starts_with("s1 "));
        if only && line.is_some() {
            break;
        }
        assert!(pushes < 3000, "it never moves:\n{shown}");
    }
    let peaks = [&from, &to].map(|program| counted(program.id(), "VmHWM"));
    let more = [peaks[0] - before[0], peaks[1] - before[1]];
    println!(
        "a partition of {} MiB moved in {pushes} pushes: the source took {} MiB more, the destination {} MiB",
        PARTITION / MIB,
        more[0] / MIB,
        more[1] / MIB
    );
    assert!(
        more[0] <= PARTITION / 10 + BUFFER,
        "source: {} MiB",
        more[0] / MIB
    );
    assert!(
        more[1] <= PARTITION + PARTITION / 10 + BUFFER,
        "destination: {} MiB",
        more[1] / MIB
    );
    from.terminate();
    to.terminate();
}
