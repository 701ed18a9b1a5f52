//! `glint status --watch` beside a cluster whose master goes and comes back.

use glint_tests::address::free_address;

use crate::program::{Program, complaint, until_printed};

#[test]
fn who_watches_waits_for_a_master_that_is_started_again_and_not_for_one_that_never_was() {
    let directory = tempfile::tempdir().unwrap();
    let address = free_address();
    let url = format!("http://{address}");
    let never = complaint(&url, &["status", "--watch"]);
    assert!(never.contains(&address), "{never}");
    let master = |name: &str| {
        let arguments = ["master", "--listen", &address, "--data-dir", "master"];
        Program::start(directory.path(), name, &arguments)
    };
    let first = master("first");
    let arguments = ["server", "--master", &url, "--id", "s1"];
    let server = Program::start(directory.path(), "s1", &arguments);
    let alive = |text: &str| text.contains("s1  ") && text.contains("alive");
    until_printed(&url, &["status"], alive);
    let watch = Program::showing(directory.path(), "watch", &url, &["status", "--watch"]);
    let seen = watch.until_written("", alive);
    first.kill();
    let seen = watch.until_written(&seen, |text| text.contains("asking again"));
    let _second = master("second");
    watch.until_written(&seen, alive);
    watch.kill();
    server.terminate();
}
