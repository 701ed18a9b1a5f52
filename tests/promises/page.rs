//! docs/protocol.md says what the code does: its tables, numbers and bytes are compared with the protocol crate.

use glint_protocol::{
    Element, ElementType, Epoch, ErrorCode, Incarnation, LaneId, Layout, ModelId, Number, Position,
    Rule,
    error::Retry,
    frame::{
        Group, GroupHeader, Kind, Op, ReadMode, ReplyHeader, Request, RequestHeader, ResultHeader,
        SectionHeader, Status, digest, write,
    },
};

const PAGE: &str = include_str!("../../docs/protocol.md");

/// The cells of the rows of the table that starts with `head`.
fn table(head: &str) -> Vec<Vec<&'static str>> {
    let at = PAGE
        .find(head)
        .unwrap_or_else(|| panic!("no table '{head}'"));
    PAGE[at..]
        .lines()
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect()
}

/// The bytes of the `index`th dump on the page.
fn dump(index: usize) -> Vec<u8> {
    let block = PAGE.split("```hex\n").nth(index + 1).unwrap();
    let block = block.split("```").next().unwrap();
    block
        .lines()
        .flat_map(|line| line.split_whitespace().skip(1))
        .map(|byte| u8::from_str_radix(byte, 16).unwrap())
        .collect()
}

#[test]
fn the_table_of_errors_lists_every_code_with_its_number_status_and_retry() {
    let rows = table("| number | code | HTTP | retry |");
    assert_eq!(rows.len(), ErrorCode::ALL.len());
    for (row, &code) in rows.iter().zip(ErrorCode::ALL) {
        let retry = match code.retry() {
            Retry::Never => "never",
            Retry::Later => "later",
            Retry::FreshMap => "fresh map",
            Retry::NewLane => "new lane",
        };
        let expected = [
            (code as u16).to_string(),
            format!("`{code}`"),
            code.http_status().to_string(),
            retry.to_owned(),
        ];
        assert_eq!(row[..4], expected);
        assert!(row[4].len() > 10, "{code} says too little");
    }
}

#[test]
fn the_table_of_a_draft_lists_every_field_of_it() {
    let draft = glint_protocol::ModelDraft {
        durability: Some(glint_protocol::Durability::Sync),
        copies: Some(3),
        min_in_sync: Some(2),
        ..glint_protocol::ModelDraft::new(
            "w",
            glint_protocol::Shape::Vector { keys: 1 },
            ElementType::F32,
        )
    };
    // Every field by name: one that is added does not compile until it is here, and is looked for on the page.
    let glint_protocol::ModelDraft {
        name: _,
        shape: _,
        element: _,
        partitioning: _,
        partitions: _,
        initial: _,
        rule: _,
        durability: _,
        copies: _,
        min_in_sync: _,
    } = &draft;
    let json = serde_json::to_value(&draft).unwrap();
    let fields: Vec<String> = json.as_object().unwrap().keys().cloned().collect();
    let mut listed: Vec<String> = table("| field of the draft |")
        .iter()
        .map(|row| row[0].trim_matches('`').to_owned())
        .collect();
    listed.sort();
    let mut expected = fields;
    expected.sort();
    assert_eq!(listed, expected);
}

#[test]
fn the_worked_push_is_byte_for_byte_what_the_codec_makes_and_its_digest_too() {
    let incarnation = Incarnation {
        model: ModelId(0x00f3_a1b2_c3d4_e5f6),
        generation: 1,
    };
    let mut sections = Vec::new();
    write::indices(&mut sections, Some(Rule::Add), 4, &[5, 1], false);
    f32::append(&[1.5, -2.0], &mut sections);
    let digest = digest(incarnation, 2, [sections.as_slice()]);
    let request = RequestHeader {
        kind: Kind::Push,
        groups: 1,
        lane: LaneId {
            birth: 1_767_225_600_000,
            random: 0x9f86_d081_884c_7d65,
        },
        number: Number(42),
    };
    let group = GroupHeader {
        incarnation,
        partition: 2,
        epoch: Epoch(7),
        prev: Number(41),
        digest,
        read: ReadMode::Latest,
        op: Op::Update,
        element: Some(ElementType::F32),
        sections: 1,
        length: sections.len() as u32,
    };
    let made = [&request.encode()[..], &group.encode(), &sections].concat();
    assert_eq!(made, dump(0));
    assert!(PAGE.contains(&format!("{digest:#x}")));
    let parsed = Request::parse(&made, Kind::Push).unwrap();
    assert_eq!(parsed.groups[0].sections().map(|s| s.len()), Ok(1));

    let reply = ReplyHeader {
        kind: Kind::PushReply,
        results: 1,
    };
    let result = ResultHeader {
        status: Status::Applied,
        length: 0,
        epoch: Epoch(7),
        position: Position(1234),
        after_loss: None,
        age_ms: None,
    };
    assert_eq!([&reply.encode()[..], &result.encode()].concat(), dump(1));
}

#[test]
fn the_check_value_of_the_digest_is_that_of_the_standard() {
    // The digest of a group whose first 16 bytes are the name cannot be the bare check value, so the polynomial is
    // compared by hand with a group that the page's description gives.
    fn crc32c(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!0_u32, |crc, &byte| {
            (0..8).fold(crc ^ u32::from(byte), |crc, _| {
                (crc >> 1) ^ (0x82F6_3B78 * (crc & 1))
            })
        })
    }
    assert!(PAGE.contains(&format!("0x{:X}", crc32c(b"123456789"))));
    let request = dump(0);
    let parsed = Request::parse(&request, Kind::Push).unwrap();
    let Group { header, bytes } = parsed.groups[0];
    let name = &request[RequestHeader::SIZE..RequestHeader::SIZE + 16];
    assert_eq!(crc32c(&[name, bytes].concat()), header.digest);
}

#[test]
fn the_tables_of_headers_have_the_fields_and_sizes_of_the_codec() {
    for (name, size) in [
        ("Request header", RequestHeader::SIZE),
        ("Group header", GroupHeader::SIZE),
        ("Section header", SectionHeader::SIZE),
        ("Reply header", ReplyHeader::SIZE),
        ("Result header", ResultHeader::SIZE),
    ] {
        let title = format!("**{name}**, {size} bytes");
        let at = PAGE.find(&title).unwrap_or_else(|| panic!("no '{title}'"));
        let mut end = 0;
        for line in PAGE[at..]
            .lines()
            .skip(4)
            .take_while(|l| l.starts_with('|'))
        {
            let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
            assert_eq!(cells[0].parse(), Ok(end), "{name}: {line}");
            end += match cells[1] {
                "u8" => 1,
                "u16" => 2,
                "3 bytes" => 3,
                "u32" | "4 bytes" => 4,
                "u64" | "8 bytes" => 8,
                other => panic!("{name} has a field of type {other}"),
            };
        }
        assert_eq!(end, size, "{name}");
    }
}

#[test]
fn the_example_of_the_arithmetic_is_what_the_partitioners_give() {
    let rows = table("| K = 37, P = 5 |");
    let range = Layout::range(37, 5);
    for partition in 0..5 {
        let start = range.start(partition).unwrap();
        let expected = format!("{start}–{}", start + range.size(partition) - 1);
        assert_eq!(rows[0][partition as usize + 1], expected);
    }
    let cyclic = Layout::cyclic(37, 5);
    for partition in 0..5 {
        let keys: Vec<u64> = (0..cyclic.size(partition))
            .map(|local| cyclic.key(partition, local))
            .collect();
        let expected = format!("{}, {}, …, {}", keys[0], keys[1], keys[keys.len() - 1]);
        assert_eq!(rows[1][partition as usize + 1], expected);
    }
    let (range, cyclic) = (range.locate(23).unwrap(), cyclic.locate(23).unwrap());
    assert_eq!((range.partition, range.local), (3, 2));
    assert_eq!((cyclic.partition, cyclic.local), (3, 4));
    assert!(PAGE.contains(
        "Key 23 is in range partition 3 at local index 2, in cyclic partition 3 at local index 4"
    ));
}

#[test]
fn the_client_written_from_the_page_has_at_most_200_lines_and_imports_the_standard_library_only() {
    let client = include_str!("../python/glint_client.py");
    assert!(client.lines().count() <= 200);
    let imports: Vec<&str> = client
        .lines()
        .filter(|line| line.starts_with("import ") || line.starts_with("from "))
        .collect();
    assert_eq!(
        imports,
        ["import bisect, collections, http.client, json, random, secrets, struct, time"]
    );
}

/// Whether `found` is what the page shows; `"…"` on the page stands for anything.
fn as_shown(shown: &serde_json::Value, found: &serde_json::Value) -> bool {
    use serde_json::Value::{Array, Object, String};
    match (shown, found) {
        (String(text), _) if text == "…" => true,
        (Array(shown), Array(found)) => {
            shown.len() == found.len() && shown.iter().zip(found).all(|(s, f)| as_shown(s, f))
        }
        (Object(shown), Object(found)) => {
            let known = |key: &std::string::String| shown.contains_key(key);
            found.keys().all(known)
                && shown.iter().all(|(key, shown)| {
                    found.get(key).is_some_and(|found| as_shown(shown, found))
                        || (shown == "…" && key == "detail")
                })
        }
        (shown, found) => shown == found,
    }
}

fn values(text: &str) -> Vec<serde_json::Value> {
    serde_json::Deserializer::from_str(text)
        .into_iter()
        .collect::<Result<_, _>>()
        .unwrap_or_else(|error| panic!("{error} in: {text}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_examples_of_the_page_do_what_it_shows() {
    const END: &str = "\n@@@ end of a block @@@\n";
    let cluster = glint_tests::cluster::Cluster::start(1).await;
    let (mut script, mut shown) = ("set -eu\n".to_owned(), Vec::new());
    for block in PAGE.split("```sh\n").skip(1) {
        let (commands, rest) = block.split_once("```\n").unwrap();
        script.push_str(commands);
        script.extend(["printf '%s' '", END, "'\n"]);
        let answer = rest
            .strip_prefix("```json\n")
            .map(|r| r.split("```").next().unwrap());
        shown.push(answer.unwrap_or(""));
    }
    let directory = tempfile::tempdir().unwrap();
    let output = tokio::process::Command::new("bash")
        .args(["-c", &script])
        .env("MASTER", cluster.url())
        .current_dir(directory.path())
        .output()
        .await
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{errors}");
    let found: Vec<&str> = text.split(END).collect();
    assert_eq!(found.len(), shown.len() + 1);
    assert!(shown.len() > 6, "the page has fewer examples than it had");
    for (shown, found) in shown.iter().zip(found) {
        let (shown, found) = (values(shown), values(found));
        assert_eq!(shown.len(), found.len(), "{found:?}");
        for (shown, found) in shown.iter().zip(&found) {
            assert!(
                as_shown(shown, found),
                "the page shows {shown}\nit came {found}"
            );
        }
    }
    cluster.stop().await;
}

#[tokio::test]
async fn the_tables_of_paths_are_those_that_master_and_servers_describe_themselves() {
    use std::collections::BTreeSet;

    use glint_tests::wire::{Target, Wire};
    use serde_json::Value;

    let cluster = glint_tests::cluster::Cluster::start(1).await;
    let client = cluster.client().await;
    client.vector::<i64>("v", 1).create().await.unwrap();
    let master = Wire::to(cluster.url());
    let server = Wire::to(&Target::new(&master.map("v").await.unwrap(), 0).url);
    let mut described = BTreeSet::new();
    for wire in [&master, &server] {
        let description = wire.json("GET", "/v1/openapi.json", Value::Null).await;
        for (path, methods) in description.unwrap()["paths"].as_object().unwrap() {
            for method in methods.as_object().unwrap().keys() {
                described.insert(format!("{} {path}", method.to_uppercase()));
            }
        }
    }
    for path in &described {
        let (method, path) = path.split_once(' ').unwrap();
        if path == "/" {
            continue; // the page for people
        }
        // Paths that share their beginning are listed in one row: `POST /v1/servers/register`, `/heartbeat`, …
        let last = path.rfind('/').map_or("", |at| &path[at..]);
        let whole = PAGE.contains(&format!("`{method} {path}`"));
        assert!(
            whole || PAGE.contains(&format!("`{last}`")),
            "{method} {path} is not on the page"
        );
    }
    let rows = PAGE.lines().filter(|line| line.starts_with("| `"));
    for row in rows {
        let path = row.split('`').nth(1).unwrap();
        let path = path.split('?').next().unwrap();
        if path.contains(" /v1/") {
            assert!(described.contains(path), "nobody describes {path}");
        }
    }
    cluster.stop().await;
}
