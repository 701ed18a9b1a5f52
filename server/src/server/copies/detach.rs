//! Letting a copy go: a holder has a former follower drop its copy, and one that was deposed lets the new holder begin.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use glint_protocol::{Durability, Epoch, ErrorBody, ErrorCode};
use glint_world::{Disk, disk::unsynced, http::Frames};
use serde::Deserialize;
use tokio::sync::oneshot;

use super::{
    held::{Member, Phase, Role},
    peer::Peer,
    stream::post,
    wire::{Content, Frame, Key, Yield},
};
use crate::{
    log::{
        Entry,
        record::{Header, Kind},
        snapshot,
    },
    safe::SafePosition,
    server::state::{Model, Slot, State},
};

/// How long the new holder may take to answer; it waits for the end of the lease if it is not told.
const YIELD_WITHIN: Duration = Duration::from_secs(2);

#[derive(Deserialize)]
struct Done {}

/// Has a former follower drop its copy.
pub(super) fn order(slot: &Slot, epoch: Epoch, member: &mut Member) {
    member.phase = Phase::Leaving;
    let frame = Frame::new(slot.key(), epoch, member.session, Content::Detach);
    member.send(frame);
}

/// Tells another server that this one has ceased to serve what it held at this epoch.
pub(super) fn give_way(state: &Arc<State>, slot: &Slot, ceased: Epoch, peer: Peer) {
    let (incarnation, partition) = slot.key();
    let inside = Arc::clone(state);
    state.spawn(state.yields.track_future(async move {
        let word = Yield {
            hello: peer.hello(&inside),
            incarnation,
            partition,
            ceased,
        };
        let Ok(body) = serde_json::to_vec(&word) else {
            return;
        };
        let told = post::<Done>(&peer, "/v1/copies/yield", Frames::from(body), YIELD_WITHIN);
        if let Err(error) = told.await {
            tracing::debug!(peer = %peer.id(), %error, "the new holder could not be told");
        }
    }));
}

/// Drops the copy of a partition that this server follows, unless it is of a later epoch or attachment; true once it is gone for
/// good.
///
/// # Errors
/// `storage_failed`.
pub(super) async fn drop_copy(
    state: &Arc<State>,
    key: Key,
    epoch: Epoch,
    session: u64,
) -> Result<bool, ErrorBody> {
    let (tell, told) = oneshot::channel();
    let inside = Arc::clone(state);
    // Whoever asks may go away meanwhile. Half done, the files would stay, and the log keep all that comes after.
    state.spawn(async move {
        let dropped = drop_whole(&inside, key, epoch, session).await;
        let _ = tell.send(dropped);
    });
    told.await
        .unwrap_or_else(|_| Err(ErrorBody::new(ErrorCode::Retry, "this server ends")))
}

async fn drop_whole(
    state: &Arc<State>,
    key: Key,
    epoch: Epoch,
    session: u64,
) -> Result<bool, ErrorBody> {
    if !state.receiving.forbid(key, epoch, session) {
        return Ok(false);
    }
    let _one_at_a_time = state.obeying.lock().await;
    let Some(slot) = state.slot(key) else {
        if state
            .released()
            .iter()
            .any(|(released, _)| *released == key)
        {
            // The files could not be removed when the copy was dropped.
            forget_files(state, key).await?;
        }
        return Ok(true);
    };
    {
        let held = slot.lock();
        let later = match &held.role {
            Role::Holder => held.loss().is_none() || held.epoch() >= epoch,
            Role::Follower(following) => (following.epoch, following.session) > (epoch, session),
        };
        if later {
            return Ok(false);
        }
        if let Some(hint) = held.hint.clone() {
            state.forwarding().put(key, hint);
        }
    }
    let mut models = state.models.load().by_incarnation.clone();
    remove(&mut models, key);
    state.put_models(models);
    if slot.description.durability.is_logged() {
        forget_files(state, key).await?;
    }
    tracing::info!(
        model = %slot.description.model, partition = key.1, %epoch, "copy dropped"
    );
    Ok(true)
}

fn remove(models: &mut BTreeMap<glint_protocol::Incarnation, Arc<Model>>, key: Key) {
    let Some(model) = models.get(&key.0) else {
        return;
    };
    let mut slots = model.slots.clone();
    if let Some(slot) = slots.get_mut(key.1 as usize) {
        *slot = None;
    }
    if slots.iter().all(Option::is_none) {
        models.remove(&key.0);
    } else {
        let spec = Arc::clone(&model.spec);
        models.insert(key.0, Arc::new(Model { spec, slots }));
    }
}

/// Notes that what the files have of a partition counts no more, and removes its snapshot.
async fn forget_files(state: &State, key: Key) -> Result<(), ErrorBody> {
    let (Some(log), Some(disk)) = (state.log.get(), &state.disk) else {
        return Ok(());
    };
    let failed = |why: String| ErrorBody::new(ErrorCode::StorageFailed, why);
    let at = log.append(Entry {
        header: Header::new(Kind::Release, key.0, key.1, state.boot, &[]),
        payload: Bytes::new(),
        safe: Arc::new(SafePosition::default()),
        durability: Durability::Sync,
    });
    state.released().push((key, at));
    let reached = log.reached(log.next_offset()).await;
    reached.map_err(|failure| failed(failure.to_string()))?;
    let _files = state.files.lock().await;
    let cleared = clear(&**disk, key).await;
    if let Err(error) = &cleared
        && glint_world::disk::is_unsynced(error)
    {
        log.fail(error);
    }
    cleared.map_err(|error| failed(format!("the files of a copy cannot be removed: {error}")))?;
    state.released().retain(|(released, _)| *released != key);
    Ok(())
}

async fn clear(disk: &dyn Disk, key: Key) -> std::io::Result<()> {
    let (name, lost) = (
        snapshot::name(key.0, key.1),
        snapshot::lost_name(key.0, key.1),
    );
    let mut removed = false;
    for (file, _) in disk.list().await? {
        if file == name || file == lost {
            disk.remove(&file).await?;
            removed = true;
        }
    }
    if removed {
        disk.sync_directory().await.map_err(unsynced)?;
    }
    Ok(())
}
