//! What counts for `min_in_sync`: copies that the master has confirmed, as they were when it did, and as long as it may promote
//! them.

use glint_protocol::Durability;

use super::*;

const TOO_FEW: Status = Status::Error(ErrorCode::NotEnoughCopies);
/// Longer than anything takes that is not waited for on purpose.
const A_WHILE: Duration = Duration::from_millis(300);

fn alone() -> Configured {
    Configured::default()
}

fn learning() -> Configured {
    Configured {
        learners: vec![1],
        ..alone()
    }
}

fn paired() -> Configured {
    Configured {
        in_sync: vec![1],
        ..alone()
    }
}

/// Two copies in sync of a model that takes pushes with two only, and one push in it.
async fn pair(durability: Durability) -> Servers {
    let draft = ModelDraft {
        min_in_sync: Some(2),
        ..spec(durability, 10).draft
    };
    let mut servers = Servers::start(2, draft.resolve(1).unwrap()).await;
    servers.order(0, &alone(), true).await;
    servers.configure(&learning()).await;
    servers.asked(0).await;
    servers.configure(&paired()).await;
    assert_eq!(servers.push(0, 1, 0, &[1]).await, Status::Applied);
    servers
}

/// The number whose verdict was refused is settled by a copy of the same push once there are copies enough, and is in once.
async fn settles_once(servers: &mut Servers) {
    servers.asked(0).await;
    servers.configure(&paired()).await;
    assert_eq!(servers.push(0, 2, 0, &[1]).await, Status::Applied);
    assert_eq!(servers.pull(0, 1).await, Ok(vec![2]));
    servers.same(0, 1).await;
}

#[tokio::test]
async fn what_was_taken_with_copies_enough_is_not_acknowledged_when_they_are_too_few_by_then() {
    for durability in Durability::ALL {
        let mut servers = pair(durability).await;
        servers.answers_others(1, false);
        let waiting = servers.pushing(0, 2, 0, &[1]);
        tokio::time::sleep(A_WHILE).await;
        assert!(!waiting.is_finished(), "the other does not have it");
        // The master takes it out: nobody is waited for any more.
        servers.configure(&learning()).await;
        assert_eq!(waiting.await.unwrap(), TOO_FEW, "{durability}");
        // Nor is it by a copy of the same request, which finds it in the ledger.
        assert_eq!(servers.push(0, 2, 0, &[1]).await, TOO_FEW);
        servers.answers_others(1, true);
        settles_once(&mut servers).await;
    }
}

#[tokio::test]
async fn a_copy_that_the_master_is_asked_to_take_out_counts_no_more() {
    for durability in Durability::ALL {
        let mut servers = pair(durability).await;
        servers.answers_others(1, false);
        let asked = servers.asked(0).await;
        assert!(asked.in_sync.is_empty());
        // The master has not answered: it may have taken it out. Nor may the holder answer without the promise of the other.
        let waiting = servers.pushing(0, 2, 0, &[1]);
        tokio::time::sleep(A_WHILE).await;
        let (_, position, _) = servers.copy(0).unwrap();
        assert_eq!(position, Position(1), "nothing is taken: {durability}");
        servers.configure(&learning()).await;
        assert_eq!(waiting.await.unwrap(), TOO_FEW, "{durability}");
        servers.answers_others(1, true);
        settles_once(&mut servers).await;
    }
}

#[tokio::test]
async fn a_copy_that_the_master_is_asked_to_add_does_not_count_yet() {
    for durability in Durability::ALL {
        let mut servers = pair(durability).await;
        servers.configure(&learning()).await;
        let asked = servers.asked(0).await;
        assert_eq!(asked.in_sync, [servers.all[1].id.clone()]);
        servers.same(0, 1).await;
        // It has everything, and it is waited for; but nobody could promote it.
        assert_eq!(servers.push(0, 2, 0, &[1]).await, TOO_FEW, "{durability}");
        settles_once(&mut servers).await;
    }
}

#[tokio::test]
async fn a_server_that_came_back_as_another_copy_does_not_count_for_the_one_that_was_confirmed() {
    let mut servers = pair(Durability::Memory).await;
    servers.restart(1).await;
    // The master does not know yet, and has a copy of this name in its set: what the holder says is for another start.
    let waiting = servers.pushing(0, 2, 0, &[1]);
    tokio::time::sleep(A_WHILE).await;
    assert!(!waiting.is_finished(), "nobody else has it");
    assert!(servers.copy(1).is_none(), "nobody has told the new start");
    // Now it does: what is there under this name is a copy that has to be made.
    servers.configure(&learning()).await;
    assert_eq!(waiting.await.unwrap(), TOO_FEW);
    servers.asked(0).await;
    servers.same(0, 1).await;
    assert_eq!(servers.push(0, 2, 0, &[1]).await, TOO_FEW);
    settles_once(&mut servers).await;
}
