//! docs/durability.md quotes messages: each of them must be what the programs say.

use std::{fs, path::Path};

use glint_protocol::LossReason;
use glint_server::partition::Loss;

const PAGE: &str = include_str!("../../docs/durability.md");

/// What is between backticks in a line of Markdown: one, or two where the text has some itself.
fn spans(mut line: &str) -> Vec<&str> {
    let mut spans = Vec::new();
    while let Some(begin) = line.find('`') {
        let ticks = if line[begin..].starts_with("``") {
            "``"
        } else {
            "`"
        };
        let rest = &line[begin + ticks.len()..];
        let end = rest.find(ticks).expect("a span that ends");
        spans.push(rest[..end].trim());
        line = &rest[end + ticks.len()..];
    }
    spans
}

/// What programs and the master's page say: their sources without tests, with texts that go over several lines in one.
fn sources() -> String {
    fn gather(directory: &Path, all: &mut String) {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if path.is_dir() {
                if name != "tests" {
                    gather(&path, all);
                }
            } else if name != "tests.rs"
                && path.extension().is_some_and(|e| e == "rs" || e == "html")
            {
                let text = fs::read_to_string(&path).unwrap();
                let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
                let mut lines = code.split("\\\n");
                all.push_str(lines.next().unwrap());
                for line in lines {
                    all.push_str(line.trim_start());
                }
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut all = String::new();
    for part in [
        "server/src",
        "client/src",
        "client/protocol/src",
        "client/world/src",
    ] {
        gather(&root.join(part), &mut all);
    }
    all
}

#[test]
fn every_message_that_the_page_on_durability_quotes_is_one_of_the_programs() {
    let sources = sources();
    let head = PAGE.find("| it says | it means | do |").unwrap();
    let rows = PAGE[head..].lines().skip(2);
    let rows: Vec<_> = rows.take_while(|line| line.starts_with('|')).collect();
    let mut quoted = 0;
    for row in &rows {
        let says = row.trim_start_matches('|').split(" | ").next().unwrap();
        let spans = spans(says);
        assert!(!spans.is_empty(), "nothing is quoted: {row}");
        for fragment in spans.iter().flat_map(|span| span.split('…')) {
            let fragment = fragment.trim();
            assert!(
                sources.contains(fragment),
                "nothing says '{fragment}': {row}"
            );
            quoted += usize::from(!fragment.is_empty());
        }
    }
    assert!(rows.len() > 20 && quoted > 40, "{quoted} in {}", rows.len());
}

#[test]
fn every_reason_for_which_values_are_lost_is_on_the_page_on_durability() {
    let others = [Loss::Forgotten, Loss::Interrupted].map(|loss| loss.to_string());
    for reason in LossReason::ALL
        .map(|reason| reason.to_string())
        .iter()
        .chain(&others)
    {
        assert!(PAGE.contains(reason), "{reason}");
    }
}
