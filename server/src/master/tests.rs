//! The master as a whole, over storage that fails and servers that obey or do not.

use glint_protocol::{
    Epoch, ModelMap, Partitions,
    control::{CreateModel, Leave, ModelState, ServerState},
    copies::{ChangeCopies, CopyChange, Silence, Suspect},
};
use glint_world::MemoryStorage;
use testing::{FakeNetwork, FaultyStorage, Scene, draft, id, request};

use std::time::Duration;

use super::{state::Phase, *};

fn spread(number: u64, name: &str) -> CreateModel {
    let mut model = draft(name, 10);
    model.partitions = Partitions::PerServer(1);
    request(number, model)
}

async fn stopped(scene: Scene) {
    scene.shutdown.cancel();
    scene.master.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_master_that_restarts_knows_everything_under_a_higher_term() {
    let storage = MemoryStorage::default();
    let network = Arc::<FakeNetwork>::default();
    let first = Scene::start(Arc::new(storage.clone()), network.clone()).await;
    first.register("s1", 1).await.unwrap();
    let map = first.master.create(spread(1, "w")).await.unwrap();
    let before = first.state();
    stopped(first).await;

    let second = Scene::start(Arc::new(storage), network).await;
    assert_eq!(second.state().cluster, before.cluster);
    assert_eq!(second.state().term, Term(before.term.0 + 1));
    let opened = second.master.open("w", None, Duration::ZERO).await;
    assert_eq!(opened, Ok(map.clone()), "before any server is back");
    assert_eq!(
        second.beat("s1", 1).unwrap_err().code,
        ErrorCode::NotRegistered
    );
    let registered = second.register("s1", 1).await.unwrap();
    assert_eq!(registered.orders.hold[0].incarnation, map.incarnation);
    let again = second.master.open("w", None, Duration::ZERO).await.unwrap();
    assert!(again.lost.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_server_that_restarted_while_the_master_was_down_has_lost_its_values() {
    let storage = MemoryStorage::default();
    let network = Arc::<FakeNetwork>::default();
    let first = Scene::start(Arc::new(storage.clone()), network.clone()).await;
    first.register("s1", 1).await.unwrap();
    first.master.create(spread(1, "w")).await.unwrap();
    stopped(first).await;

    let second = Scene::start(Arc::new(storage), network).await;
    let early = second.register("s1", 2).await.unwrap_err();
    assert_eq!(
        early.code,
        ErrorCode::IdentityInUse,
        "the first may yet speak"
    );
    tokio::time::sleep(Duration::from_secs(1)).await;
    let registered = second.register("s1", 2).await.unwrap();
    assert!(registered.orders.hold[0].partitions[0].lost);
    assert_eq!(second.master.models()[0].state, ModelState::Lost);
}

/// A creation during which the machine dies at a certain write, and what is there after the restart.
async fn create_with_a_crash_at(
    write: usize,
    written: bool,
) -> (Result<ModelMap, ErrorBody>, Scene) {
    let kept = MemoryStorage::default();
    let network = Arc::<FakeNetwork>::default();
    let storage = Arc::new(FaultyStorage::crashing(kept.clone(), write, written));
    let first = Scene::start(storage, network.clone()).await;
    let registered = first.register("s1", 1).await.is_ok() && first.register("s2", 1).await.is_ok();
    let first_answer =
        tokio::time::timeout(Duration::from_secs(3), first.master.create(spread(1, "w"))).await;
    let acknowledged = matches!(first_answer, Ok(Ok(_)));
    stopped(first).await;

    let ordered = network
        .server("s1")
        .told()
        .iter()
        .any(|o| !o.hold.is_empty());
    let second = Scene::start(Arc::new(kept), network.clone()).await;
    if ordered {
        assert!(
            second.state().models.contains_key("w"),
            "write {write}: what was ordered is known"
        );
    }
    if acknowledged {
        assert_eq!(second.state().models["w"].phase, Phase::Live);
    }
    assert!(registered || write <= 3);
    second.register("s1", 1).await.unwrap();
    second.register("s2", 1).await.unwrap();
    // The client repeats its request, as it does until it is answered.
    (second.master.create(spread(1, "w")).await, second)
}

#[tokio::test(start_paused = true)]
async fn a_creation_is_finished_whichever_write_the_master_dies_at() {
    // Writes: term, two registrations, creating, live.
    for write in 2..=6 {
        for written in [false, true] {
            let (map, scene) = create_with_a_crash_at(write, written).await;
            let map = map.unwrap_or_else(|error| panic!("write {write}, {written}: {error}"));
            assert_eq!(map.holders, [0, 1], "write {write}, {written}");
            assert!(map.lost.is_empty());
            assert_eq!(scene.master.models().len(), 1);
            for server in ["s1", "s2"] {
                for orders in scene.network.server(server).told() {
                    for hold in orders.hold {
                        assert_eq!(hold.incarnation, map.incarnation);
                    }
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn epochs_are_never_used_twice_over_restarts() {
    let storage = MemoryStorage::default();
    let network = Arc::<FakeNetwork>::default();
    let mut seen: Vec<Epoch> = Vec::new();
    for round in 0..4 {
        let scene = Scene::start(Arc::new(storage.clone()), network.clone()).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        scene.register("s1", 1).await.unwrap();
        let map = scene
            .master
            .create(spread(round, &format!("w{round}")))
            .await
            .unwrap();
        seen.push(map.epochs[0]);
        stopped(scene).await;
    }
    assert!(seen.windows(2).all(|pair| pair[0] < pair[1]), "{seen:?}");
}

#[tokio::test]
async fn a_newer_or_damaged_state_is_refused_and_left_as_it_is() {
    for (content, expected) in [
        (&b"glint-master 9 x\n{}"[..], "newer version"),
        (b"rubbish", "damaged"),
    ] {
        let storage = MemoryStorage::default();
        storage.store(file::NAME, content.to_vec()).await.unwrap();
        let error = Master::start(
            World::real(),
            Arc::new(storage.clone()),
            MasterConfig::default(),
            Shutdown::new(),
        )
        .await
        .unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        assert_eq!(storage.load(file::NAME).await.unwrap().unwrap(), content);
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_for_memory_rolls_the_creation_back_and_is_told_to_every_repeat() {
    let scene = Scene::with_servers(&["s1", "s2"]).await;
    let refusal = ErrorBody::new(ErrorCode::DoesNotFit, "9 GiB are not there");
    *lock(&scene.network.server("s2").refusal) = Some(refusal);
    for _ in 0..2 {
        let error = scene.master.create(spread(1, "w")).await.unwrap_err();
        assert_eq!(error.code, ErrorCode::DoesNotFit);
        assert!(error.message.contains("s2 refused"), "{error}");
    }
    assert!(scene.master.models().is_empty());
    *lock(&scene.network.server("s2").refusal) = None;
    scene.master.create(spread(2, "w")).await.unwrap();
    scene.pass(Duration::from_secs(1), &["s1", "s2"]).await;
    let drops: Vec<_> = scene
        .network
        .server("s1")
        .told()
        .iter()
        .flat_map(|o| o.drop.clone())
        .collect();
    assert_eq!(drops[0].incarnation.model, glint_protocol::ModelId(1));
    assert!(scene.state().tombstones[0].awaited.is_empty());
}

#[tokio::test(start_paused = true)]
async fn creations_of_one_name_at_once_make_one_model() {
    let scene = Scene::with_servers(&["s1", "s2"]).await;
    let asked = (1..=20).map(|number| {
        let mut request = spread(number, "w");
        request.or_open = true;
        scene.master.create(request)
    });
    let maps: Vec<_> = futures_util::future::join_all(asked).await;
    let first = maps[0].clone().unwrap();
    assert!(maps.iter().all(|m| m.as_ref() == Ok(&first)));
    let strict = (30..=40).map(|number| scene.master.create(spread(number, "v")));
    let made: Vec<_> = futures_util::future::join_all(strict).await;
    assert_eq!(made.iter().filter(|m| m.is_ok()).count(), 1);
    for error in made.iter().filter_map(|m| m.as_ref().err()) {
        assert_eq!(error.code, ErrorCode::AlreadyExists);
    }
}

#[tokio::test(start_paused = true)]
async fn orders_are_repeated_until_the_server_answers() {
    let scene = Scene::with_servers(&["s1"]).await;
    *lock(&scene.network.server("s1").down) = true;
    let up = async {
        scene.pass(Duration::from_secs(3), &["s1"]).await;
        *lock(&scene.network.server("s1").down) = false;
        scene.pass(Duration::from_secs(3), &["s1"]).await;
    };
    let (map, ()) = tokio::join!(scene.master.create(spread(1, "w")), up);
    assert!(map.is_ok(), "{map:?}");
}

#[tokio::test(start_paused = true)]
async fn a_model_whose_server_dies_while_it_is_made_is_made_on_those_that_live() {
    let scene = Scene::with_servers(&["s1", "s2"]).await;
    *lock(&scene.network.server("s2").down) = true;
    let (map, ()) = tokio::join!(
        scene.master.create(spread(1, "w")),
        scene.pass(Duration::from_secs(10), &["s1"])
    );
    let map = map.unwrap();
    assert_eq!(map.incarnation.generation, 2);
    assert_eq!(map.servers.len(), 1);
    assert_eq!(map.servers[0].id, id("s1"));
}

#[tokio::test(start_paused = true)]
async fn silence_never_changes_the_map() {
    let scene = Scene::with_servers(&["s1", "s2"]).await;
    let map = scene.master.create(spread(1, "w")).await.unwrap();
    scene.pass(Duration::from_secs(3600), &["s1"]).await;
    let later = scene.master.open("w", None, Duration::ZERO).await;
    assert_eq!(later, Ok(map));
    let status = scene.master.status();
    assert_eq!(status.servers[0].state, ServerState::Alive);
    assert_eq!(status.servers[1].state, ServerState::Silent);
    assert!(status.servers[1].silent_ms >= 3_500_000);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_holds_nothing_is_forgotten_after_ten_minutes_and_may_come_back() {
    let scene = Scene::with_servers(&["s1", "s2"]).await;
    scene.pass(Duration::from_secs(590), &["s1"]).await;
    assert_eq!(scene.state().servers.len(), 2);
    scene.pass(Duration::from_secs(20), &["s1"]).await;
    assert_eq!(scene.state().servers.len(), 1);
    scene.register("s2", 1).await.unwrap();
    let map = scene.master.create(spread(1, "w")).await.unwrap();
    assert_eq!(map.servers.len(), 2, "its courier is back too");
}

#[tokio::test(start_paused = true)]
async fn a_state_that_cannot_be_written_refuses_what_needs_it_and_answers_the_rest() {
    let storage = Arc::new(FaultyStorage::default());
    let scene = Scene::start(storage.clone(), Arc::default()).await;
    scene.register("s1", 1).await.unwrap();
    storage.fail_next(1);
    let error = scene.master.create(spread(1, "w")).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::StorageFailed);
    assert!(scene.master.models().is_empty());
    assert!(
        scene.network.server("s1").told().is_empty(),
        "nothing was ordered"
    );
    scene.beat("s1", 1).unwrap();
    scene.master.create(spread(1, "w")).await.unwrap();
}

#[tokio::test]
async fn intervals_that_contradict_each_other_are_refused() {
    let config = MasterConfig {
        silent_after: Duration::from_millis(100),
        ..MasterConfig::default()
    };
    let storage = Arc::new(MemoryStorage::default());
    let error = Master::start(World::real(), storage, config, Shutdown::new())
        .await
        .unwrap_err();
    assert!(error.to_string().contains("three times"), "{error}");
}

/// A partition that `s1` holds, with `s2` in sync.
async fn paired(scene: &Scene) -> ModelMap {
    let mut asked = spread(1, "w");
    asked.model.partitions = Partitions::Exactly(1);
    asked.model.copies = Some(2);
    scene.master.create(asked).await.unwrap();
    scene.register("s2", 1).await.unwrap();
    scene.pass(Duration::from_secs(1), &["s1", "s2"]).await;
    let state = scene.state();
    let model = &state.models["w"];
    assert_eq!(testing::who(&state, 0), "s1, s2 learner");
    let change = ChangeCopies {
        server: id("s1"),
        boot: Boot(1),
        changes: vec![CopyChange {
            incarnation: model.incarnation,
            partition: 0,
            epoch: model.epochs[0],
            revision: model.revision_of(0),
            in_sync: vec![id("s2")],
            detached: Vec::new(),
        }],
    };
    scene.master.change(change).await.unwrap();
    assert_eq!(testing::who(&scene.state(), 0), "s1, s2 in sync");
    scene.master.open("w", None, Duration::ZERO).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn who_leaves_is_followed_by_one_whose_heartbeat_is_late_if_there_is_no_other() {
    let scene = Scene::with_servers(&["s1"]).await;
    paired(&scene).await;
    // Too long to count as running, and not long enough to count as silent.
    scene.pass(Duration::from_millis(600), &["s1"]).await;
    let leave = Leave {
        server: id("s1"),
        boot: Boot(1),
    };
    let left = scene.master.leave(&leave).await.unwrap();
    assert_eq!(testing::who(&scene.state(), 0), "s2, s1 learner");
    let orders = left.orders.expect("it is told whom it follows now");
    assert_eq!(orders.hold[0].followed.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_suspicion_counts_from_who_is_in_sync_and_not_while_the_master_hears_the_other() {
    let scene = Scene::with_servers(&["s1"]).await;
    paired(&scene).await;
    scene.register("s3", 1).await.unwrap();
    let suspects = |by: &str| Suspect {
        server: id(by),
        boot: Boot(1),
        silent: vec![Silence {
            server: id("s1"),
            boot: Boot(1),
            silent_ms: 300,
        }],
    };
    let holder = || scene.state().models["w"].holder(0).clone();
    scene.beat("s1", 1).unwrap();
    scene.master.suspect(&suspects("s2")).await.unwrap();
    assert_eq!(holder(), id("s1"), "it speaks to the master");
    scene.pass(Duration::from_millis(300), &["s2", "s3"]).await;
    scene.master.suspect(&suspects("s3")).await.unwrap();
    assert_eq!(holder(), id("s1"), "it need not speak to this one");
    scene.master.suspect(&suspects("s2")).await.unwrap();
    assert_eq!(holder(), id("s2"));
}
