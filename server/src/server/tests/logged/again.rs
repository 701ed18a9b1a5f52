//! Records that are read again for a follower that lacks them: what was written at their places, or nothing.

use super::*;
use crate::log::{
    Entry, Place,
    record::{Header, Kind},
};

#[tokio::test]
async fn records_that_are_read_again_are_given_up_to_the_first_that_is_not_what_was_written_there()
{
    let disk = disk_with(&Files::new()).await;
    let opened = open(&disk).await.unwrap();
    let log = &opened.log;
    let mut places = Vec::new();
    for number in 0..4 {
        let payload = Bytes::from(vec![number; 100]);
        let boot = opened.server.boot();
        let header = Header::new(Kind::Update, MODEL, 0, boot, &payload);
        let bytes = header.record_bytes();
        let offset = log.append(Entry {
            header,
            payload,
            safe: Arc::default(),
            durability: Durability::Sync,
        });
        places.push(Place { offset, bytes });
    }
    log.reached(log.next_offset()).await.unwrap();
    let (name, written) = files(&disk)
        .await
        .into_iter()
        .find(|(name, _)| segment::start_of(name).is_some())
        .unwrap();
    let start = segment::start_of(&name).unwrap();
    let at = |record: usize| segment::HEADER_BYTES + (places[record].offset - start) as usize;
    // The file as it was written, with a bit flipped in the payload of the third record, and in its header; with the second in
    // its place, as when a file was used again; and cut short.
    let mut payload = written.clone();
    payload[at(2) + Header::SIZE + 5] ^= 1;
    let mut header = written.clone();
    header[at(2) + 56] ^= 1;
    let mut other = written.clone();
    other.copy_within(at(1)..at(2), at(2));
    let short = written[..at(2) + 50].to_vec();
    for (content, whole) in [
        (written, 4),
        (payload, 2),
        (header, 2),
        (other, 2),
        (short, 2),
    ] {
        let file = disk.create(&name).await.unwrap();
        file.append(vec![content.into()]).await.unwrap();
        let read = log.read(&places).await.unwrap();
        let payloads: Vec<u8> = read.iter().map(|(_, payload)| payload[0]).collect();
        assert_eq!(payloads, (0..whole).collect::<Vec<u8>>());
    }
    disk.remove(&name).await.unwrap();
    assert!(log.read(&places).await.unwrap().is_empty(), "it was let go");
    opened.kill().await;
}
