//! Clients: lanes, numbers, what is open, and what an answer settles.

use crate::{
    message::{Message, Push, Verdict},
    mutant::Mutant,
    scenario::Scenario,
    state::{Acknowledged, Client, PARTITIONS, State, Told, insert},
};

/// A client's lanes follow each other, each born later.
const LANES: u8 = 4;

pub(crate) fn first_lane(client: u8) -> u8 {
    client * LANES
}

pub(crate) fn birth(lane: u8) -> u8 {
    lane % LANES + 1
}

fn client_of(lane: u8) -> usize {
    (lane / LANES) as usize
}

impl Scenario {
    /// At most one unsettled number per (lane, partition) [F12]: so numbers never arrive inverted, and `prev` is exact.
    pub(crate) fn may_begin(&self, client: &Client) -> bool {
        let Some(touched) = self.requests.get(client.begun as usize) else {
            return false;
        };
        let busy = |partition: &u8| client.open.iter().any(|(p, _)| p == partition);
        self.lacks(Mutant::NextBeforeSettled) || !touched.iter().any(busy)
    }

    pub(crate) fn begin(&self, state: &mut State, index: u8) -> Option<()> {
        let client = state.clients.get_mut(index as usize)?;
        let touched = self.requests.get(client.begun as usize)?;
        let id = self.push_id(index, client.begun);
        client.number += 1;
        client.begun += 1;
        for &partition in *touched {
            let prev = if self.lacks(Mutant::PrevOfAnyPartition) {
                client.acknowledged.into_iter().max()?
            } else {
                client.acknowledged[partition as usize]
            };
            let push = Push {
                incarnation: client.incarnation,
                lane: client.lane,
                number: client.number,
                id,
                prev,
                skip: false,
            };
            client.open.push((partition, push));
            insert(&mut state.partitions[partition as usize].sent, push);
        }
        Some(())
    }

    /// The push may still be on its way, so that only a record can settle its number [M25].
    pub(crate) fn abandon(&self, state: &mut State, index: u8, partition: u8) -> Option<()> {
        state.used.abandons += 1;
        let client = state.clients.get_mut(index as usize)?;
        let at = client
            .open
            .iter()
            .position(|(p, push)| *p == partition && !push.skip)?;
        if self.lacks(Mutant::SkipWithoutRecord) {
            let (_, push) = client.open.remove(at);
            note(state, partition, push, true);
            return Some(());
        }
        let (_, push) = client.open.get_mut(at)?;
        push.skip = true;
        let skip = *push;
        insert(&mut state.partition_mut(partition).sent, skip);
        Some(())
    }

    /// A reply that nobody waits for means nothing.
    pub(crate) fn reply(state: &mut State, partition: u8, to: Push, verdict: Verdict) {
        let client = &state.clients[client_of(to.lane)];
        if client
            .open
            .iter()
            .any(|(p, push)| *p == partition && push.is(to))
        {
            state
                .partition_mut(partition)
                .send(Message::Reply { to, verdict });
        }
    }

    pub(crate) fn hear(
        &self,
        state: &mut State,
        partition: u8,
        to: Push,
        verdict: Verdict,
    ) -> Option<()> {
        let client = state.clients.get_mut(client_of(to.lane))?;
        let at = client
            .open
            .iter()
            .position(|(p, push)| *p == partition && push.is(to))?;
        let answered =
            |message: &Message| matches!(message, Message::Reply { to: other, .. } if other.is(to));
        state.partitions[partition as usize]
            .net
            .retain(|message| !answered(message));
        match verdict {
            Verdict::Applied { epoch } | Verdict::Skipped { epoch } => {
                client.open.remove(at);
                if to.lane == client.lane {
                    let number = to.number;
                    client.acknowledged[partition as usize] = Acknowledged { number, epoch };
                }
                if self.lacks(Mutant::OneVerdictPerRequest) {
                    believe_all(state, to);
                }
            }
            Verdict::Expired { horizon } => {
                self.go_to_new_lane(state, partition, at, to, horizon)?;
            }
        }
        Some(())
    }

    /// Certainly not applied: what was given up is settled by that, what is still wanted is issued again on a new lane.
    fn go_to_new_lane(
        &self,
        state: &mut State,
        partition: u8,
        at: usize,
        to: Push,
        horizon: u8,
    ) -> Option<()> {
        if horizon >= LANES - 1 {
            return None;
        }
        let client = state.clients.get_mut(client_of(to.lane))?;
        let lane = client
            .lane
            .max(first_lane(client_of(to.lane) as u8) + horizon);
        if lane != client.lane {
            client.lane = lane;
            client.acknowledged = [Acknowledged::default(); PARTITIONS];
        }
        let (_, expired) = client.open.get(at)?;
        if expired.skip {
            let (_, push) = client.open.remove(at);
            note(state, partition, push, true);
            return Some(());
        }
        for (p, push) in &mut client.open {
            let this = *p == partition && push.is(to);
            if this || self.lacks(Mutant::AllGroupsToNewLane) && push.number == to.number {
                push.lane = lane;
                push.prev = Acknowledged::default();
                insert(&mut state.partitions[*p as usize].sent, *push);
            }
        }
        Some(())
    }

    /// After a reset: pushes in flight have ended with an error, and the model is opened again [M21c].
    pub(crate) fn reopen(&self, state: &mut State, index: u8) -> Option<()> {
        let incarnation = state.partitions[0].durable.incarnation;
        let client = state.clients.get_mut(index as usize)?;
        client.incarnation = incarnation;
        client.open.clear();
        if !self.lacks(Mutant::PrevOfAnyIncarnation) {
            client.acknowledged = [Acknowledged::default(); PARTITIONS];
        }
        for partition in &mut state.partitions {
            let own = |message: &Message| matches!(message, Message::Reply { to, .. } if client_of(to.lane) == index as usize);
            partition.net.retain(|message| !own(message));
        }
        Some(())
    }

    pub(crate) fn all_settled(&self, state: &State) -> bool {
        let all_begun = |client: &Client| client.begun as usize == self.requests.len();
        state
            .clients
            .iter()
            .all(|client| all_begun(client) && client.open.is_empty())
    }
}

/// The caller is told how its push ended; the observer remembers it.
pub(crate) fn note(state: &mut State, partition: u8, push: Push, skipped: bool) {
    let told = Told {
        id: push.id,
        incarnation: push.incarnation,
        lane: push.lane,
        number: push.number,
        skipped,
    };
    insert(&mut state.partition_mut(partition).history.told, told);
}

/// The mutant that takes one group's verdict for the whole request's.
fn believe_all(state: &mut State, to: Push) {
    let open = &mut state.clients[client_of(to.lane)].open;
    let (believed, others) = open.drain(..).partition(|(_, push)| push.is(to));
    *open = others;
    let believed: Vec<(u8, Push)> = believed;
    for (partition, push) in believed {
        note(state, partition, push, false);
    }
}
