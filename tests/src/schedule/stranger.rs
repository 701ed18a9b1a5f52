//! A stranger who still has maps from long ago: whom it asks may not hold the partition any more, but does not say that its values
//! are lost when they are not.

use std::collections::VecDeque;

use glint::Client;
use glint_protocol::{ErrorCode, ModelMap, frame::ReadMode};
use tokio::time::sleep;

use super::{
    cluster::{Cluster, MASTER},
    direct::{Direct, Said},
};
use crate::simulated::Dice;

const WHO: &str = "stranger";
/// Maps that are kept.
const MAPS: usize = 16;

/// Asks, until nobody waits for it any more.
pub(super) async fn ask(cluster: &Cluster, mut dice: Dice) {
    let world = cluster.witness(78);
    let mut servers = Direct::new(world.clone());
    let mut client = None;
    let mut maps: VecDeque<ModelMap> = VecDeque::new();
    loop {
        sleep(dice.millis(10..400)).await;
        if client.is_none() {
            let builder = Client::builder(&format!("http://{MASTER}:7100"))
                .options(cluster.options())
                .world(world.clone());
            client = builder.connect().await.ok();
        }
        let Some(client) = &client else { continue };
        if dice.chance(0.4) || maps.is_empty() {
            let model = dice.pick(&cluster.plan.models);
            if let Ok(map) = client.map(&model.name).await
                && maps
                    .iter()
                    .all(|m| (m.incarnation, m.revision) != (map.incarnation, map.revision))
            {
                maps.truncate(MAPS - 1);
                maps.push_front(map);
            }
            continue;
        }
        let map = &maps[dice.below(maps.len() as u64) as usize];
        let partition = dice.below(u64::from(map.spec.partition_count)) as u32;
        let server = map.holders[partition as usize];
        let read = ReadMode::Latest;
        if let Said::Refused(ErrorCode::Lost) = servers.pull(map, server, partition, read).await {
            let holder = &map.servers[server as usize].id;
            cluster.trace.note(
                WHO,
                format_args!(
                    "{holder} says that partition {partition} of {} is lost",
                    map.incarnation
                ),
            );
            cluster
                .truth
                .said_to_be_lost(WHO, map.incarnation, partition);
        }
    }
}
