//! The binary `glint` as a person uses it: processes of their own, real signals, real files.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test ends where something is not as promised"
)]

mod disks;
mod durable;
mod elastic;
mod endings;
mod examples;
mod histogram;
mod kills;
mod moving;
mod net;
mod program;
mod required;
mod suspended;
mod watching;

use glint::ModelHandle;
use glint_tests::address::free_address;
use program::{Program, complaint, printed, run, until_printed, url_in};

/// The commands that the README shows under "By hand" for a running cluster.
fn commands_of_the_readme() -> Vec<Vec<&'static str>> {
    let readme = include_str!("../../README.md");
    let block = readme
        .split("## By hand")
        .nth(1)
        .and_then(|rest| rest.split("```").nth(1));
    let commands = block.expect("a block of commands").lines();
    let commands = commands.map(|line| line.split('#').next().unwrap_or("").trim());
    let talking = ["glint model", "glint push", "glint pull", "glint status"];
    commands
        .filter(|line| talking.iter().any(|start| line.starts_with(start)))
        .map(|line| line.split_whitespace().skip(1).collect())
        .collect()
}

#[test]
fn by_hand_as_the_readme_shows_in_any_order_and_all_end_in_order() {
    let directory = tempfile::tempdir().unwrap();
    let address = free_address();
    let url = format!("http://{address}");
    let server = |name: &'static str| {
        let arguments = [
            "server",
            "--master",
            &url,
            "--id",
            name,
            "--memory",
            "64MiB",
            "--data-dir",
            name,
        ];
        Program::start(directory.path(), name, &arguments)
    };
    let first = server("one");
    let master = Program::start(
        directory.path(),
        "master",
        &["master", "--listen", &address],
    );
    let second = server("two");
    until_printed(&url, &["status"], |text| {
        text.contains("one") && text.contains("two")
    });

    let commands = commands_of_the_readme();
    assert!(
        commands.len() >= 5,
        "the README shows less than it did: {commands:?}"
    );
    let outputs: Vec<String> = commands
        .iter()
        .map(|command| printed(&url, command))
        .collect();
    let said = |command: &str| {
        let at = commands
            .iter()
            .position(|c| c.join(" ").starts_with(command));
        &outputs[at.unwrap_or_else(|| panic!("no {command} in the README"))]
    };
    assert_eq!(said("pull weights"), "3\t0.5\n4\t0.0\n999999\t-1.0\n");
    assert!(said("status").contains("weights"), "{}", said("status"));
    assert!(
        complaint(&url, &["pull", "weights", "3"]).contains("weights"),
        "it was deleted"
    );

    first.terminate();
    until_printed(&url, &["status"], |text| text.contains("left"));
    second.terminate();
    master.terminate();
}

#[test]
fn local_is_a_whole_cluster_and_every_command_answers_to_it() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("url");
    let arguments = [
        "local",
        "--servers",
        "2",
        "--listen",
        "127.0.0.1:0",
        "--memory",
        "64MiB",
        "--url-file",
    ];
    let arguments = [&arguments[..], &[file.to_str().unwrap()]].concat();
    let local = Program::start(directory.path(), "local", &arguments);
    let url = url_in(&file);
    assert!(printed(&url, &["models"]).contains("No models"));
    let create = [
        "model",
        "create",
        "topics",
        "--matrix",
        "10x3",
        "--element",
        "i64",
        "--partitioning",
        "cyclic",
    ];
    assert!(printed(&url, &create).contains("topics"));
    printed(&url, &["push", "topics", "3:1=5", "9:2=-7", "3:1=1"]);
    printed(&url, &["push", "topics", "--row", "3=1,2,3"]);
    assert_eq!(
        printed(&url, &["pull", "topics", "--pairs", "9:2", "3:1"]),
        "9:2\t-7\n3:1\t8\n"
    );
    assert_eq!(
        printed(&url, &["pull", "topics", "--rows", "3"]),
        "3\t1 8 3\n"
    );
    assert!(printed(&url, &["model", "show", "topics"]).contains("cyclic"));
    assert!(printed(&url, &["models"]).contains("matrix of 10 x 3"));
    printed(&url, &["model", "delete", "topics"]);
    assert!(printed(&url, &["models"]).contains("No models"));
    local.terminate();
}

#[test]
fn a_killed_master_comes_back_from_its_directory_with_everything_it_knew() {
    let directory = tempfile::tempdir().unwrap();
    let address = free_address();
    let url = format!("http://{address}");
    let arguments = ["master", "--listen", &address, "--data-dir", "state"];
    let master = Program::start(directory.path(), "master", &arguments);
    until_printed(&url, &["status"], |_| true);
    let server = [
        "server", "--master", &url, "--id", "one", "--memory", "64MiB",
    ];
    let server = Program::start(directory.path(), "one", &server);
    printed(
        &url,
        &[
            "model",
            "create",
            "w",
            "--vector",
            "100",
            "--element",
            "i32",
        ],
    );
    printed(&url, &["push", "w", "7=42"]);
    let second = run(
        &url,
        &[
            "master",
            "--listen",
            "127.0.0.1:0",
            "--data-dir",
            directory.path().join("state").to_str().unwrap(),
        ],
    );
    assert!(!second.status.success(), "two masters share a directory");
    assert!(String::from_utf8_lossy(&second.stderr).contains("another process"));
    master.kill();
    let master = Program::start(directory.path(), "master-again", &arguments);
    until_printed(&url, &["pull", "w", "7"], |text| text == "7\t42\n");
    printed(&url, &["push", "w", "7=1"]);
    assert_eq!(printed(&url, &["pull", "w", "7"]), "7\t43\n");
    server.kill();
    until_printed(&url, &["status"], |text| text.contains("silent"));
    master.terminate();
}

#[test]
fn what_is_wrong_is_said_with_what_to_do_and_a_code_that_is_not_0() {
    let nobody = format!("http://{}", free_address());
    assert!(complaint(&nobody, &["status"]).contains("glint local"));
    assert!(complaint("127.0.0.1:7100", &["status"]).contains("http://127.0.0.1:7100"));
    assert!(complaint(&nobody, &["pull"]).contains("Usage"));
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("url");
    let arguments = [
        "local",
        "--servers",
        "1",
        "--listen",
        "127.0.0.1:0",
        "--url-file",
        file.to_str().unwrap(),
    ];
    let local = Program::start(directory.path(), "local", &arguments);
    let url = url_in(&file);
    assert!(complaint(&url, &["pull", "nothing", "1"]).contains("nothing"));
    printed(
        &url,
        &["model", "create", "v", "--vector", "10", "--element", "i32"],
    );
    assert!(complaint(&url, &["model", "create", "v", "--vector", "10"]).contains("exists"));
    let complained = complaint(&url, &["pull", "v", "10"]);
    assert!(
        complained.contains("10") && complained.contains("0..10"),
        "{complained}"
    );
    assert!(complaint(&url, &["push", "v", "1=0.5"]).contains("i32"));
    assert!(complaint(&url, &["pull", "v", "--rows", "1"]).contains("vector"));
    assert_eq!(
        printed(&url, &["pull", "v", "0..10"])
            .matches("\t0\n")
            .count(),
        10,
        "nothing changed"
    );
    local.terminate();
}

/// What the child process of the test below is told by.
const HANDLES: &str = "GLINT_TEST_HANDLES";

#[test]
fn handles_serialise_and_open_in_another_process() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let cluster = runtime.block_on(glint_tests::cluster::Cluster::start(2));
    let (vector, matrix, told) = runtime.block_on(async {
        let client = cluster.client().await;
        let vector = client.vector::<f64>("v", 100).create().await.unwrap();
        let matrix = client.matrix::<i32>("m", 10, 2).create().await.unwrap();
        vector.push(&[99], &[0.5]).await.unwrap();
        let told = (cluster.url(), vector.handle(), matrix.handle());
        let told = serde_json::to_string(&told).unwrap();
        (vector, matrix, told)
    });
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "opens_handles_of_another_process",
            "--ignored",
            "--nocapture",
        ])
        .env(HANDLES, told)
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&child.stdout);
    assert!(
        child.status.success() && printed.contains("1 passed"),
        "{printed}"
    );
    runtime.block_on(async {
        assert_eq!(vector.pull(&[99, 0]).await.unwrap(), [2.0, -1.0]);
        assert_eq!(matrix.pull_rows(&[9]).await.unwrap(), [7, 8]);
        cluster.stop().await;
    });
}

#[test]
#[ignore = "runs in a process of its own, started by handles_serialise_and_open_in_another_process"]
fn opens_handles_of_another_process() {
    let told = std::env::var(HANDLES).unwrap();
    let (url, vector, matrix): (String, ModelHandle, ModelHandle) =
        serde_json::from_str(&told).unwrap();
    let client = glint::blocking::Client::connect(&url).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let client = glint::Client::connect(&url).await.unwrap();
        let vector: glint::Vector<f64> = client.attach(&vector).await.unwrap();
        assert_eq!(vector.pull(&[99]).await.unwrap(), [0.5]);
        vector.push(&[99, 0], &[1.5, -1.0]).await.unwrap();
        let matrix: glint::Matrix<i32> = client.attach(&matrix).await.unwrap();
        matrix.push_row_range(9, &[7, 8]).await.unwrap();
        let wrong: Result<glint::Vector<i64>, _> = client.attach(&vector.handle()).await;
        assert!(matches!(wrong, Err(glint::Error::WrongElement { .. })));
    });
    assert_eq!(client.models().unwrap().len(), 2);
}
