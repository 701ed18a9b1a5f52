//! How new what a follower answers is: what it says of that is so, however late beacons come.

use glint_protocol::Durability;

use super::*;

const EVER: ReadMode = ReadMode::Within(600_000);
const NOT_YET: Result<Vec<i64>, ErrorCode> = Err(ErrorCode::NotYet);

/// Server 0 holds, with all others in sync.
async fn in_sync(servers: usize) -> Servers {
    let mut servers = Servers::start(servers, spec(Durability::Memory, 10)).await;
    let mut configured = Configured::default();
    servers.order(0, &configured, true).await;
    configured.learners = (1..servers.all.len()).collect();
    servers.configure(&configured).await;
    let all = configured.learners.len();
    soon(|| {
        let wanted = copies::wanted(&servers.all[0].server.state).pop()?;
        (wanted.in_sync.len() == all).then_some(())
    })
    .await;
    configured.in_sync = std::mem::take(&mut configured.learners);
    servers.configure(&configured).await;
    assert_eq!(servers.push(0, 1, 0, &[5]).await, Status::Applied);
    servers
}

/// What server 9 says to server 1 as the holder of partition 0, by session 1 of the present epoch.
struct Holder<'a>(&'a Servers);

impl Holder<'_> {
    fn greeting(&self) -> Vec<u8> {
        let hello = serde_json::json!({
            "cluster": ClusterId(0xc1),
            "server": "s9",
            "boot": Boot(77),
            "to": self.0.all[1].server.boot(),
        });
        let hello = hello.to_string();
        let mut body = (hello.len() as u32).to_le_bytes().to_vec();
        body.extend_from_slice(hello.as_bytes());
        body
    }

    async fn offers(&self) {
        let mut body = self.greeting();
        for number in [1, 0, MODEL.generation, 0] {
            body.extend_from_slice(&number.to_le_bytes());
        }
        for number in [MODEL.model.0, self.0.epoch, 1, 0] {
            body.extend_from_slice(&number.to_le_bytes());
        }
        let answers = self.0.all[1].server.copies_body(body.into()).await.unwrap();
        assert!(answers.to_string().contains("attached"), "{answers}");
    }

    /// Sends a beacon, and gives the stamp of the answer.
    fn beacon(&self, echo: u64, is_whole: bool) -> u64 {
        let mut body = self.greeting();
        body.extend_from_slice(&echo.to_le_bytes());
        for number in [MODEL.generation, 0] {
            body.extend_from_slice(&number.to_le_bytes());
        }
        for number in [MODEL.model.0, self.0.epoch, 1] {
            body.extend_from_slice(&number.to_le_bytes());
        }
        body.extend_from_slice(&u32::from(is_whole).to_le_bytes());
        let state = &self.0.all[1].server.state;
        let heard = copies::hear_beacon(state, body.into()).unwrap();
        let heard = serde_json::to_value(&heard).unwrap();
        heard["stamp"].as_u64().unwrap()
    }
}

#[tokio::test]
async fn beacons_that_were_held_up_make_no_copy_young() {
    let mut servers = in_sync(2).await;
    // Nobody else speaks to server 1 from here on.
    servers.all[0].stop.cancel();
    servers.epoch += 1;
    let holder = Holder(&servers);
    holder.offers().await;
    assert_eq!(servers.pull_as(1, 1, EVER).await, NOT_YET);
    // Sent one after another, the second after the first was given up.
    let first = holder.beacon(0, true);
    holder.beacon(0, true);
    assert_eq!(servers.pull_as(1, 1, EVER).await, NOT_YET);
    // An answer of times to come is none.
    holder.beacon(u64::MAX, true);
    holder.beacon(first + 3_600_000_000, true);
    assert_eq!(servers.pull_as(1, 1, EVER).await, NOT_YET);
    // One that was sent when acknowledgements did not wait for this copy.
    holder.beacon(first, false);
    assert_eq!(servers.pull_as(1, 1, EVER).await, NOT_YET);
    tokio::time::sleep(Duration::from_millis(60)).await;
    // It was sent after the first was answered, and has been on its way since.
    let last = holder.beacon(first, true);
    assert_eq!(servers.pull_as(1, 1, EVER).await, Ok(vec![5]));
    let young = ReadMode::Within(59);
    assert_eq!(servers.pull_as(1, 1, young).await, NOT_YET);
    // What was known once stays known.
    holder.beacon(0, true);
    holder.beacon(last, false);
    assert_eq!(servers.pull_as(1, 1, EVER).await, Ok(vec![5]));
}

#[tokio::test]
async fn a_holder_that_may_not_answer_keeps_no_copy_young() {
    let servers = in_sync(3).await;
    let young = ReadMode::Within(200);
    let is_young = async |servers: &Servers| servers.pull_as(1, 1, young).await.is_ok();
    let until = Instant::now() + Duration::from_secs(20);
    while !is_young(&servers).await {
        assert!(Instant::now() < until, "never young");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    // Without the promise of server 2, another may have been promoted that acknowledges in its place.
    servers.answers_others(2, false);
    while servers.pull(0, 1).await.is_ok() {
        assert!(Instant::now() < until, "it answers without a lease");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    tokio::time::sleep(Duration::from_millis(210)).await;
    assert_eq!(servers.pull_as(1, 1, young).await, NOT_YET);
    assert_eq!(servers.pull_as(1, 1, EVER).await, Ok(vec![5]));
}
