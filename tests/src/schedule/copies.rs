//! The copies of a partition are the same: when faults are over, every copy that the master believes to be in sync has, bit for
//! bit, what its holder has. So a copy that took what it should not, or lacks something, is found without being promoted first.

use std::time::Duration;

use glint_protocol::{ModelMap, frame::ReadMode};
use tokio::time::{Instant, sleep};

use super::{
    SETTLES_WITHIN,
    direct::{Direct, Said},
    truth::Wrong,
    work::Session,
};

/// How long copies may differ: one may have been taken out of the in-sync set, and the master not have said so yet.
const DIFFER: Duration = Duration::from_secs(10);

/// Compares the copies of every model, and tells the truth.
pub(super) async fn compare(session: &Session) {
    let cluster = &session.cluster;
    let mut servers = Direct::new(cluster.witness(77));
    for model in cluster.plan.models.iter().filter(|m| m.copies > 1) {
        let began = Instant::now();
        let mut differ_since: Option<Instant> = None;
        let why = loop {
            let verdict = match session.client.map(&model.name).await {
                Ok(map) => differ(&mut servers, session, &map).await,
                Err(_) => Verdict::Unknown,
            };
            match verdict {
                Verdict::Same => break None,
                Verdict::Different(text) => {
                    if differ_since.get_or_insert_with(Instant::now).elapsed() > DIFFER {
                        break Some((Wrong::Lost, text));
                    }
                }
                Verdict::Unknown => {
                    differ_since = None;
                    if began.elapsed() > SETTLES_WITHIN {
                        let text = format!(
                            "the copies of {} could not be read for {SETTLES_WITHIN:?}",
                            model.name
                        );
                        break Some((Wrong::Other, text));
                    }
                }
            }
            sleep(Duration::from_millis(200)).await;
        };
        if let Some((wrong, text)) = why {
            cluster.truth.violated(wrong, text);
            return;
        }
    }
}

enum Verdict {
    Same,
    Different(String),
    /// Somebody did not answer, or who has copies has changed.
    Unknown,
}

async fn differ(servers: &mut Direct, session: &Session, map: &ModelMap) -> Verdict {
    let mut different = None;
    for (partition, followers) in (0..).zip(&map.followers) {
        if followers.is_empty() || map.lost.contains(&partition) {
            continue;
        }
        let holder = map.holders[partition as usize];
        let read = ReadMode::Latest;
        let Said::Values(position, values) = servers.pull(map, holder, partition, read).await
        else {
            return Verdict::Unknown;
        };
        for &follower in followers {
            let read = ReadMode::AtLeast(position);
            let Said::Values(at, copy) = servers.pull(map, follower, partition, read).await else {
                return Verdict::Unknown;
            };
            if copy != values && different.is_none() {
                let server = |at: u32| &map.servers[at as usize].id;
                different = Some(format!(
                    "partition {partition} of {}: the copy of {} differs at position {at} from that of its holder {} at {position}: \
                     {copy:x?} there, {values:x?} here",
                    map.spec.name,
                    server(follower),
                    server(holder)
                ));
            }
        }
    }
    match (session.client.map(&map.spec.name).await, different) {
        (Ok(now), Some(text)) if now.revision == map.revision => Verdict::Different(text),
        (Ok(now), None) if now.revision == map.revision => Verdict::Same,
        _ => Verdict::Unknown,
    }
}
