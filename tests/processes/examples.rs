//! The examples, on small texts that are made here: what the headline demonstrations do must go on working.

use std::{
    fmt::Write,
    fs,
    path::Path,
    process::{Command, Output},
};

use crate::program::{Program, example, url_in};

/// Words of two kinds: each document has those of one.
const KINDS: [[&str; 4]; 2] = [
    ["apple", "cherry", "melon", "plum"],
    ["copper", "iron", "lead", "tin"],
];
const DOCUMENTS: usize = 40;

/// Writes a corpus of documents of the two kinds; how many tokens it has.
fn corpus(directory: &Path) -> usize {
    let (mut ldac, mut tokens) = (String::new(), 0);
    for document in 0..DOCUMENTS {
        write!(ldac, "4").unwrap();
        for at in 0..4 {
            let word = document % 2 * 4 + at;
            let times = 3 + (document + at) % 4;
            write!(ldac, " {word}:{times}").unwrap();
            tokens += times;
        }
        ldac.push('\n');
    }
    fs::write(directory.join("made.ldac"), ldac).unwrap();
    let words = KINDS.concat().join("\n");
    fs::write(directory.join("made.tokens"), words).unwrap();
    tokens
}

fn lda(directory: &Path, url: &str, more: &[&str]) -> Output {
    Command::new(example("lda"))
        .args(["--master", url, "--corpus", "made.ldac", "--topics", "2"])
        .args(["--sweeps", "30", "--top-words", "4"])
        .args(more)
        .current_dir(directory)
        .output()
        .unwrap()
}

#[test]
fn lda_finds_the_topics_of_a_small_text_counts_exactly_and_fails_when_it_is_worse_than_asked() {
    let directory = tempfile::tempdir().unwrap();
    let tokens = corpus(directory.path());
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

    let trained = lda(directory.path(), &url, &["--reference=-1000000"]);
    let text = String::from_utf8(trained.stdout).unwrap();
    let errors = String::from_utf8_lossy(&trained.stderr);
    assert!(trained.status.success(), "{text}\n{errors}");
    let counted = format!("those of the documents, to the last of {tokens} tokens");
    assert!(text.contains(&counted), "{text}");
    assert!(
        text.contains("after 30 sweeps; reference lda -1000000"),
        "{text}"
    );
    let mut topics: Vec<Vec<&str>> = text
        .lines()
        .filter_map(|line| line.trim_start().strip_prefix("topic")?.split_once(": "))
        .map(|(_, words)| {
            let mut words: Vec<&str> = words.split(' ').collect();
            words.sort_unstable();
            words
        })
        .collect();
    topics.sort();
    assert_eq!(topics, KINDS.map(|kind| kind.to_vec()), "{text}");

    // No text is as likely as that.
    let worse = lda(directory.path(), &url, &["--reference=-1"]);
    let errors = String::from_utf8_lossy(&worse.stderr);
    assert_eq!(worse.status.code(), Some(1), "{errors}");
    assert!(
        errors.contains("worse than the reference by over 0.5 %"),
        "{errors}"
    );
    local.terminate();
}

#[test]
fn the_second_example_is_as_short_as_was_promised() {
    let lines = include_str!("../../client/examples/logistic.rs")
        .lines()
        .count();
    assert!(lines <= 80, "{lines} lines");
}
