//! What an `async` model has forgotten is told to whoever remembers it, also when the answer that said so is lost.

use super::*;
use crate::log::snapshot;

/// Pushes to the first partition of an `async` model; says what became of it, and the last number that was known if the client
/// remembers a later one.
fn pushed(opened: &Opened, number: u64, prev: u64) -> (Status, Option<Number>) {
    let mut group = add(0, 0, &[1]);
    group.header.prev = Number(prev);
    let reply = opened.server.push_body(&push(number, &[group]), LANE.birth);
    let header = ResultHeader::decode(&reply.unwrap()[ReplyHeader::SIZE..]).unwrap();
    (header.status, header.after_loss)
}

async fn version(disk: &Arc<dyn Disk>) -> u32 {
    let file = load(&**disk, &snapshot::name(MODEL, 0)).await.unwrap();
    snapshot::decode(&file.unwrap()).unwrap().0.version
}

#[tokio::test]
async fn a_loss_is_told_with_every_repetition_also_after_a_restart_from_the_log_or_a_snapshot() {
    let spec = durable(vector(), Durability::Async);
    for by_snapshot in [false, true] {
        let disk = disk_with(&Files::new()).await;
        let opened = open(&disk).await.unwrap();
        opened.hold(&spec, true).await;
        assert_eq!(pushed(&opened, 1, 0), (Status::Applied, None));
        let lost = (Status::Applied, Some(Number(1)));
        assert_eq!(pushed(&opened, 5, 4), lost);
        assert_eq!(pushed(&opened, 5, 4), lost);
        if by_snapshot {
            opened.snapshot(0).await;
            assert_eq!(version(&disk).await, 3);
        }
        opened.log.reached(opened.log.next_offset()).await.unwrap();
        let before = opened.shape(0);
        opened.kill().await;

        let opened = open(&disk).await.unwrap();
        assert_eq!(opened.shape(0), before);
        opened.hold(&spec, false).await;
        assert_eq!(pushed(&opened, 5, 4), lost);
        // The lane goes on, so its client has been told.
        assert_eq!(pushed(&opened, 6, 5), (Status::Applied, None));
        assert_eq!(pushed(&opened, 6, 5), (Status::Applied, None));
        opened.snapshot(0).await;
        assert_eq!(version(&disk).await, 2, "programs of before read it");
        opened.kill().await;
    }
}
