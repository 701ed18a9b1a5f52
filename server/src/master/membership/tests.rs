use super::*;
use crate::master::testing::id;

const SILENT: Duration = Duration::from_secs(1);
const FORGET: Duration = Duration::from_secs(600);

fn empty() -> Membership {
    Membership::new(Term(3), SILENT, FORGET, [], Instant::now())
}

fn beat(members: &mut Membership, boot: u64, term: u64) -> Result<Option<Event>, ErrorBody> {
    let heartbeat = Heartbeat {
        server: id("s1"),
        boot: Boot(boot),
        term: Term(term),
        busiest: Vec::new(),
        load: ServerLoad::default(),
    };
    members.heartbeat(&heartbeat, Instant::now())
}

fn register(members: &mut Membership, boot: u64) -> Result<bool, ErrorBody> {
    members.claim(&id("s1"), Boot(boot), Instant::now())?;
    Ok(members.registered(&id("s1"), Boot(boot), Instant::now()))
}

#[tokio::test(start_paused = true)]
async fn a_server_is_silent_after_a_second_without_a_word_and_back_with_the_next() {
    let mut members = empty();
    assert_eq!(register(&mut members, 1), Ok(true));
    tokio::time::advance(Duration::from_millis(999)).await;
    assert_eq!(members.sweep(Instant::now()), []);
    assert_eq!(members.alive().count(), 1);
    tokio::time::advance(Duration::from_millis(1)).await;
    assert_eq!(
        members.sweep(Instant::now()),
        [Event::Silent(id("s1"), SILENT)]
    );
    assert_eq!(members.sweep(Instant::now()), [], "told once");
    assert_eq!(members.alive().count(), 0);
    let event = beat(&mut members, 1, 3).unwrap();
    assert_eq!(event, Some(Event::Back(id("s1"), SILENT)));
    assert_eq!(members.alive().count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_name_belongs_to_a_start_until_it_is_silent() {
    let mut members = empty();
    register(&mut members, 1).unwrap();
    let error = register(&mut members, 2).unwrap_err();
    assert_eq!(error.code, ErrorCode::IdentityInUse);
    assert!(error.message.contains("--id"), "{}", error.message);
    assert_eq!(beat(&mut members, 1, 3), Ok(None));
    tokio::time::advance(SILENT).await;
    assert_eq!(register(&mut members, 2), Ok(true));
    let late = beat(&mut members, 1, 3).unwrap_err();
    assert_eq!(late.code, ErrorCode::NotRegistered);
    assert_eq!(
        register(&mut members, 1).unwrap_err().code,
        ErrorCode::IdentityInUse
    );
}

#[tokio::test(start_paused = true)]
async fn of_two_starts_that_claim_a_name_at_once_one_is_refused() {
    let mut members = empty();
    members.claim(&id("s1"), Boot(1), Instant::now()).unwrap();
    let second = members.claim(&id("s1"), Boot(2), Instant::now());
    assert_eq!(second.unwrap_err().code, ErrorCode::IdentityInUse);
    assert_eq!(members.alive().count(), 0, "not before it is durable");
}

#[tokio::test(start_paused = true)]
async fn a_name_that_was_left_is_free_at_once() {
    let mut members = empty();
    register(&mut members, 1).unwrap();
    assert!(!members.leave(&id("s1"), Boot(2), Instant::now()));
    assert!(members.leave(&id("s1"), Boot(1), Instant::now()));
    assert_eq!(members.alive().count(), 0);
    assert_eq!(members.registration(&id("s1")), None);
    assert_eq!(
        beat(&mut members, 1, 3).unwrap_err().code,
        ErrorCode::NotRegistered
    );
    assert_eq!(register(&mut members, 2), Ok(true));
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_of_another_term_must_register_again() {
    let mut members = empty();
    register(&mut members, 1).unwrap();
    assert_eq!(
        beat(&mut members, 1, 2).unwrap_err().code,
        ErrorCode::NotRegistered
    );
}

#[tokio::test(start_paused = true)]
async fn servers_of_an_earlier_start_have_a_second_to_speak_before_another_may_take_their_name() {
    let mut members = Membership::new(
        Term(4),
        SILENT,
        FORGET,
        [(id("s1"), Boot(1))],
        Instant::now(),
    );
    assert_eq!(members.alive().count(), 0);
    let (state, _, _) = members.view(&id("s1"), Instant::now()).unwrap();
    assert_eq!(state, ServerState::Silent);
    assert!(register(&mut members, 2).is_err());
    assert_eq!(register(&mut members, 1), Ok(true));
    assert_eq!(members.registration(&id("s1")), Some((Boot(1), 1)));
}

#[tokio::test(start_paused = true)]
async fn a_server_is_long_gone_after_ten_minutes_and_not_if_it_speaks_again() {
    let mut members = empty();
    register(&mut members, 1).unwrap();
    tokio::time::advance(FORGET).await;
    assert!(members.long_gone(Instant::now()).is_empty(), "never swept");
    members.sweep(Instant::now());
    assert_eq!(members.long_gone(Instant::now()), [id("s1")]);
    members.claim(&id("s1"), Boot(1), Instant::now()).unwrap();
    assert!(members.long_gone(Instant::now()).is_empty());
}

#[test]
fn a_new_start_repeats_the_last_word_that_was_made_for_it_and_each_word_counts_once() {
    let mut membership = empty();
    let state = crate::master::testing::state_with_servers(1);
    let mut request = crate::master::testing::registration(&state, "s1", 2);
    let asked = |error: ErrorBody| error.detail.unwrap().word;
    let first = asked(membership.repeats_word(&request, 7).unwrap_err());
    assert_eq!(first, Some(7));
    // Another message of any start of it gets another word, and the first counts no more.
    let second = asked(membership.repeats_word(&request, 8).unwrap_err());
    request.word = first;
    let third = asked(membership.repeats_word(&request, 9).unwrap_err());
    assert_eq!((second, third), (Some(8), Some(9)));
    request.word = third;
    assert_eq!(membership.repeats_word(&request, 10), Ok(()));
    assert!(membership.repeats_word(&request, 11).is_err());
}
