//! Many `ParameterServer`s at once, and what they cost the operator.

use std::{fs, thread, time::Duration};

use glint_tests_kubernetes::{
    audit, processes,
    stories::{Space, eventually, parameter_server},
    turns,
};
use serde_json::Value;

const COUNT: usize = 50;

/// Resident memory of the operator in MB, now and at most.
fn memory() -> (u64, u64) {
    let pid = processes::one("^/glint-operator run");
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name));
        let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
        kib.expect("a size") / 1000
    };
    (field("VmRSS"), field("VmHWM"))
}

#[test]
#[ignore = "needs a cluster: make test-kubernetes"]
fn fifty_parameter_servers_at_once_are_ready_and_cost_the_operator_little() {
    turns::alone();
    let space = Space::new("fifty");
    let all: Vec<String> = (0..COUNT)
        .map(|n| parameter_server(&format!("lda-{n}"), "{servers: 1}"))
        .collect();
    let before = memory().0;
    space.try_apply(&all.join("---\n")).expect("fifty objects");
    eventually("all fifty are ready", 240, || {
        let list = space.find(&["parameterservers"])?;
        let ready = |object: &&Value| object["status"]["phase"] == "Ready";
        let ready = list["items"].as_array()?.iter().filter(ready).count();
        (ready == COUNT).then_some(())
    });
    let calls = audit::calls("fifty");
    let (now, most) = memory();
    let each = calls / COUNT;
    eprintln!(
        "    fifty objects: {each} calls for each until it was ready; the operator has {now} MB, {before} MB before, {most} MB at most"
    );
    assert!(each <= 60, "{each} calls for each object");
    assert!(most <= 200, "{most} MB; its limit is 256 MiB");
    thread::sleep(Duration::from_secs(20));
    let later = audit::calls("fifty") - calls;
    eprintln!("    afterwards, in 20 s: {later} calls about all of them");
    assert!(
        later <= COUNT,
        "{later} calls in 20 s about 50 settled objects"
    );
}
