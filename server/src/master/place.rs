//! Where servers run, as whoever looks after their machines says it. A server knows its machine and rarely its zone, which may
//! also change while it runs; the operator knows both. Pure functions on [`State`].
//!
//! What was told counts in place of what the server says itself, and survives its restarts and those of the master, until it
//! says that it runs on another machine than before: then what was told is of a place that it has left.

use glint_protocol::{ErrorBody, ErrorCode, ServerId, control::Labels};

use super::{
    drain,
    state::{KnownServer, State},
};

/// The longest name of a machine or zone, in bytes.
const MAX_BYTES: usize = 256;

impl KnownServer {
    /// Where it runs, as far as anyone has said: copies of one partition are kept apart by it.
    pub(crate) fn place(&self) -> &Labels {
        self.told.as_ref().unwrap_or(&self.labels)
    }
}

/// Takes where a server runs; empty to have its own word count again. Whether that is something new: copies that were thought
/// to be apart may share a zone then, and are moved if that is wanted.
///
/// # Errors
/// `unknown_server`; `bad_request` for names that are none.
pub(crate) fn tell(
    state: &mut State,
    server: &ServerId,
    labels: &Labels,
    moves: bool,
) -> Result<bool, ErrorBody> {
    for (what, name) in [("node", &labels.node), ("zone", &labels.zone)] {
        check(what, name.as_deref())?;
    }
    let known = drain::known(state, server)?;
    let before = known.place().clone();
    known.told = (!labels.is_empty()).then(|| labels.clone());
    let is_new = *known.place() != before;
    state.levelling |= is_new && moves && !state.models.is_empty() && state.adopting.is_none();
    Ok(is_new)
}

fn check(what: &str, name: Option<&str>) -> Result<(), ErrorBody> {
    let is_one = |name: &str| {
        (1..=MAX_BYTES).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_graphic())
    };
    match name {
        Some(name) if !is_one(name) => Err(ErrorBody::new(
            ErrorCode::BadRequest,
            format!(
                "'{}' cannot name a {what}: use 1 to {MAX_BYTES} ASCII characters without spaces, or leave it out where it is \
                 unknown",
                name.chars().take(80).collect::<String>()
            ),
        )),
        _ => Ok(()),
    }
}

/// What was told of a server that registers, as far as it still counts.
pub(crate) fn still_told(before: &KnownServer, says: &Labels) -> Option<Labels> {
    let told = before.told.as_ref()?;
    let stays = before.labels.node == says.node || told.node == says.node;
    stays.then(|| told.clone())
}

#[cfg(test)]
#[path = "place/tests.rs"]
mod tests;
