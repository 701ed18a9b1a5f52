//! Disks of real processes: one that is full, one that may not be written, files with a bit flipped or their end cut off.

use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    os::unix::{
        fs::{MetadataExt, PermissionsExt, chown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::Duration,
};

use glint::{Applied, Client, Durability};
use glint_tests::address::free_address;

use crate::{
    durable::{copy, master, server},
    program::{Program, glint, printed, run, until_printed},
};

/// Set where a small disk of its own must be had.
const REQUIRED: &str = "GLINT_REQUIRE_TMPFS";
/// The user of nobody in particular.
const NOBODY: u32 = 65534;

/// A small file system, mounted while it lives.
struct Small(PathBuf);

impl Small {
    /// One at this place; none where it cannot be had, which is said.
    fn mount(at: &Path, bytes: u64) -> Option<Self> {
        fs::create_dir_all(at).unwrap();
        let size = format!("size={bytes},mode=755");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(at);
        let why = match mount.output() {
            Ok(output) if output.status.success() => return Some(Self(at.into())),
            Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
            Err(error) => error.to_string(),
        };
        assert!(
            std::env::var_os(REQUIRED).is_none(),
            "{REQUIRED} is set: {why}"
        );
        println!("no disk is filled: a small one cannot be had here ({why})");
        None
    }

    /// Takes all the room that there is.
    fn fill(&self) {
        let mut ballast = fs::File::create(self.ballast()).unwrap();
        for bytes in [4096, 512, 1] {
            while ballast.write_all(&vec![1; bytes]).is_ok() {}
        }
    }

    /// Gives it back.
    fn make_room(&self) {
        fs::remove_file(self.ballast()).unwrap();
    }

    fn ballast(&self) -> PathBuf {
        self.0.join("ballast")
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn on_a_full_disk_pulls_go_on_pushes_and_starts_wait_and_all_goes_on_once_a_file_is_removed() {
    let directory = tempfile::tempdir().unwrap();
    let Some(disk) = Small::mount(&directory.path().join("s1"), 2 << 20) else {
        return;
    };
    let address = free_address();
    let url = format!("http://{address}");
    let master = Program::start(directory.path(), "master-log", &master(&address));
    let start = |log: &str| Program::start(directory.path(), log, &server(&url, "s1"));
    let running = start("s1-log");
    until_printed(&url, &["status"], |text| text.contains("alive"));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let connect = |deadline: u64| {
        let client = Client::builder(&url).deadline(Duration::from_secs(deadline));
        runtime.block_on(client.connect()).unwrap()
    };
    let (client, hasty) = (connect(60), connect(2));
    let counts = runtime
        .block_on(
            client
                .vector::<i64>("counts", 1000)
                .partitions(1)
                .durability(Durability::Sync)
                .create(),
        )
        .unwrap();
    let ones = [1; 1000];
    runtime.block_on(counts.push_range(0, &ones)).unwrap();

    disk.fill();
    let error = runtime.block_on(async {
        let counts = hasty.open_vector::<i64>("counts").await.unwrap();
        // The last page that the log has may have room for one.
        loop {
            if let Err(error) = counts.push_range(0, &[10; 1000]).await {
                break error;
            }
        }
    });
    assert_eq!(error.applied(), Applied::Unknown, "{error}");
    assert!(error.to_string().contains("is full"), "{error}");
    until_printed(&url, &["status"], |text| text.contains("alive, disk full"));
    let seen = runtime.block_on(counts.pull_range(0..1000)).unwrap();
    let waiting = runtime.spawn({
        let counts = counts.clone();
        async move { counts.push_range(0, &[100; 1000]).await }
    });
    std::thread::sleep(Duration::from_millis(300));
    assert!(!waiting.is_finished());
    disk.make_room();
    runtime.block_on(waiting).unwrap().unwrap();
    until_printed(&url, &["status"], |text| !text.contains("disk full"));
    let now = runtime.block_on(counts.pull_range(0..1000)).unwrap();
    // What was seen while the disk was full is in, and what waited, once.
    let expected: Vec<i64> = seen.iter().map(|value| value + 100).collect();
    assert_eq!(now, expected);

    running.kill();
    disk.fill();
    let running = start("s1-full");
    let status = until_printed(&url, &["status"], |text| {
        text.contains("recovering, disk full")
    });
    assert!(status.contains("The disk of s1 is full"), "{status}");
    disk.make_room();
    until_printed(&url, &["status"], |text| text.contains("alive"));
    let again = runtime.block_on(counts.pull_range(0..1000)).unwrap();
    assert_eq!(again, expected);
    running.terminate();
    master.terminate();
}

fn is_root() -> bool {
    fs::metadata("/proc/self").unwrap().uid() == 0
}

/// Every file of a directory with its content.
fn content(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = fs::read_dir(directory).unwrap().map(|e| e.unwrap().path());
    entries
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect()
}

/// Runs `glint` to its end as a user who is not root.
fn as_nobody(program: &Path, arguments: &[&str], directory: &Path) -> Output {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .current_dir(directory)
        .stdin(Stdio::null());
    if is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command.output().unwrap()
}

#[test]
fn what_may_not_be_written_or_read_is_named_and_left_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    // Where others can run it.
    let program = path.join("glint");
    fs::copy(glint(), &program).unwrap();
    let address = free_address();
    let url = format!("http://{address}");
    let master = Program::start(path, "master-log", &master(&address));
    let first = Program::start(path, "s1-log", &server(&url, "s1"));
    until_printed(&url, &["status"], |text| text.contains("alive"));
    let create = [
        "model",
        "create",
        "w",
        "--vector",
        "4",
        "--durability",
        "sync",
    ];
    printed(&url, &create);
    first.terminate();

    let own = |mode: u32, of: &Path| {
        if is_root() {
            chown(of, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        fs::set_permissions(of, fs::Permissions::from_mode(mode)).unwrap();
    };
    let s1 = path.join("s1");
    for file in content(&s1).keys() {
        own(0o600, file);
    }
    let before = content(&s1);
    let log = before.keys().find(|f| f.to_str().unwrap().contains("log-"));
    let log = log.unwrap().clone();
    // The directory itself; the file that says whose it is; the log.
    let lock = s1.join("lock");
    for (harmed, mode, says) in [
        (&lock, 0o400, "cannot write in the data directory"),
        (
            &s1.join("volume.json"),
            0o000,
            "the data directory cannot be used",
        ),
        (&log, 0o000, "the data directory cannot be read"),
    ] {
        own(0o700, &s1);
        own(mode, harmed);
        let ended = as_nobody(&program, &server(&url, "s1"), path);
        own(0o600, harmed);
        let said = String::from_utf8_lossy(&ended.stderr);
        assert!(!ended.status.success(), "{said}");
        assert!(said.contains(says), "{said}");
        assert!(said.to_lowercase().contains("permission denied"), "{said}");
        assert_eq!(content(&s1), before, "something was changed");
    }
    let fresh = path.join("not/there");
    fs::create_dir(path.join("not")).unwrap();
    own(0o500, &path.join("not"));
    let arguments = [
        "master",
        "--listen",
        "127.0.0.1:0",
        "--data-dir",
        "not/there",
    ];
    let ended = as_nobody(&program, &arguments, path);
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(!ended.status.success(), "{said}");
    assert!(said.contains("cannot make the data directory"), "{said}");
    assert!(!fresh.exists());

    // As soon as it may, it starts, with everything.
    let again = Program::start(path, "s1-again", &server(&url, "s1"));
    until_printed(&url, &["pull", "w", "1"], |text| text == "1\t0.0\n");
    again.terminate();
    master.terminate();
}

/// What `glint pull` prints of the value, or that it is lost; asked again while nobody serves it yet.
fn value(url: &str, server: &Program, what: &str) -> Option<String> {
    let mut errors = String::new();
    for _ in 0..10 {
        let said = run(url, &["pull", "w", "1"]);
        if said.status.success() {
            return Some(String::from_utf8(said.stdout).unwrap());
        }
        errors = String::from_utf8(said.stderr).unwrap();
        if errors.contains("are lost") {
            return None;
        }
    }
    panic!("{what}: {errors}\n{}", server.log());
}

#[test]
fn a_bit_flipped_or_an_end_cut_off_in_the_log_of_a_real_directory_is_never_a_wrong_value() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let address = free_address();
    let url = format!("http://{address}");
    let start = |log: &str| {
        let master = Program::start(path, &format!("{log}-master"), &master(&address));
        (master, Program::start(path, log, &server(&url, "s1")))
    };
    let (first, s1) = start("first");
    until_printed(&url, &["status"], |text| text.contains("alive"));
    let create = [
        "model",
        "create",
        "w",
        "--vector",
        "4",
        "--element",
        "i64",
        "--durability",
        "sync",
    ];
    printed(&url, &create);
    let log = |of: &Path| {
        let logs = content(of).into_iter().filter(|(file, _)| {
            let name = file.file_name().unwrap().to_str().unwrap();
            name.starts_with("log-") && !name.ends_with(".partial")
        });
        logs.max_by(|a, b| a.0.cmp(&b.0)).unwrap()
    };
    // How long the log was before the first push, and after each.
    let mut lengths = vec![log(&path.join("s1")).1.len()];
    for _ in 0..5 {
        printed(&url, &["push", "w", "1=1"]);
        lengths.push(log(&path.join("s1")).1.len());
    }
    s1.kill();
    first.kill();
    for name in ["s1", "master"] {
        copy(&path.join(name), &path.join(format!("{name}-kept")));
    }
    let (file, whole) = log(&path.join("s1-kept"));
    assert!(lengths.is_sorted_by(|a, b| a < b), "{lengths:?}");
    assert_eq!(lengths[5], whole.len());
    let [mut noticed, mut shortened] = [0, 0];
    let samples = 8;
    for sample in 0..2 * samples {
        for name in ["s1", "master"] {
            copy(&path.join(format!("{name}-kept")), &path.join(name));
        }
        let at = whole.len() * (sample / 2) / samples + 11 * (sample / 2) + 5;
        let (mut harmed, what) = (
            whole.clone(),
            format!("byte {at} of {lengths:?}, sample {sample}"),
        );
        // How many of the pushes there may be, if the values are there at all.
        let mut allowed = vec![5];
        if sample % 2 == 0 {
            harmed[at] ^= 1 << (sample / 2 % 8);
            if at >= lengths[4] {
                // It looks like what a crash leaves of a record that was never acknowledged.
                allowed.push(4);
            }
        } else {
            harmed.truncate(at);
            // So does everything after a place where the file ends.
            let whole = lengths.iter().filter(|&&length| length <= at).count();
            allowed = whole.checked_sub(1).into_iter().collect();
        }
        fs::write(path.join("s1").join(file.file_name().unwrap()), harmed).unwrap();
        let (master, s1) = start(&format!("sample-{sample}"));
        match value(&url, &s1, &what) {
            None => noticed += 1,
            Some(text) => {
                let said = allowed.iter().any(|count| text == format!("1\t{count}\n"));
                assert!(said, "{what}: {text}, not one of {allowed:?}");
                shortened += u32::from(text != "1\t5\n");
            }
        }
        drop((master, s1));
    }
    assert!(
        noticed > 3 && shortened > 3,
        "{noticed} lost, {shortened} cut"
    );
}
