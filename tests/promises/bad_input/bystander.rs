//! A client that does everything right beside one that does not, and finds that nothing has changed for it.

use glint::{Client, Vector};
use glint_protocol::{ErrorCode, LaneId, Rule, frame::write};
use glint_tests::{
    cluster::Cluster,
    wire::{Outcome, Target, Wire},
};

/// A cluster with a vector `v` of ten i64 and a client that uses it all along.
pub(crate) struct Bystander {
    pub(crate) cluster: Cluster,
    pub(crate) client: Client,
    pub(crate) vector: Vector<i64>,
    pub(crate) target: Target,
    pub(crate) server: Wire,
    pub(crate) master: Wire,
    pub(crate) pushes: i64,
}

pub(crate) const KEYS: u64 = 10;

impl Bystander {
    pub(crate) async fn new() -> Self {
        Self::of(Cluster::start(1).await).await
    }

    pub(crate) async fn of(cluster: Cluster) -> Self {
        let client = cluster.client().await;
        let vector = client.vector::<i64>("v", KEYS).create().await.unwrap();
        let master = Wire::to(cluster.url());
        let target = Target::new(&master.map("v").await.unwrap(), 0);
        let server = Wire::to(&target.url);
        Self {
            cluster,
            client,
            vector,
            target,
            server,
            master,
            pushes: 0,
        }
    }

    /// Nothing has changed but what it pushed itself, and it can go on pushing.
    pub(crate) async fn unharmed(&mut self) {
        let expected = [self.pushes; KEYS as usize];
        assert_eq!(
            self.vector.pull_range(0..KEYS).await.unwrap(),
            expected,
            "something changed"
        );
        self.pushes += 1;
        self.vector
            .push_range(0, &[1; KEYS as usize])
            .await
            .unwrap();
    }

    pub(crate) fn lane() -> LaneId {
        LaneId {
            birth: 1_000_000_000_000,
            random: 7,
        }
    }

    /// A valid push of 1 to keys 3 and 4.
    pub(crate) fn push(&self) -> Vec<u8> {
        let mut sections = Vec::new();
        write::indices(&mut sections, Some(Rule::Add), 8, &[3, 4], false);
        sections.extend_from_slice(&[1_i64, 1].map(i64::to_le_bytes).concat());
        self.target.push(Self::lane(), 1, 0, &sections, 1)
    }

    /// The server refuses the whole body with this code, and says so with this word.
    pub(crate) async fn refuses(&mut self, body: Vec<u8>, code: ErrorCode, word: &str) {
        let error = self.server.frame("/v1/push", body).await.unwrap_err();
        assert_eq!(error.code, code, "{error}");
        assert!(error.message.contains(word), "'{word}' is not in: {error}");
        self.unharmed().await;
    }

    /// The server refuses the group with this code, and says so with each of these words.
    pub(crate) async fn refuses_group(
        &mut self,
        path: &str,
        body: Vec<u8>,
        code: ErrorCode,
        words: &[&str],
    ) {
        let outcomes = self.server.frame(path, body).await.unwrap();
        let Outcome::Error(error) = &outcomes[0] else {
            panic!("{outcomes:?}");
        };
        assert_eq!(error.code, code, "{error}");
        for word in words {
            assert!(error.message.contains(word), "'{word}' is not in: {error}");
        }
        self.unharmed().await;
    }

    pub(crate) async fn end(self) {
        drop((self.client, self.vector));
        self.cluster.stop().await;
    }
}
