//! Which copies of a partition a pull may read, and the positions by which a client recognises its own writes.

use std::{sync::Arc, time::Duration};

use glint_protocol::{Incarnation, Position, frame::ReadMode};
use serde::{Deserialize, Serialize};

use crate::{
    routing::{Model, Routes},
    transport::Server,
};

/// Which copies of a partition may answer a pull, and how new their values must be. The holder always may; its values are the
/// newest. With anything but [`Read::Latest`] the client picks a copy at random each time, so that reads scale over copies, and
/// asks the holder when that copy cannot answer. Models with one copy per partition read the same in all modes.
///
/// ```no_run
/// use std::time::Duration;
/// use glint::{Client, Read, Vector};
///
/// # async fn show() -> glint::Result<()> {
/// let client = Client::connect("http://127.0.0.1:7100").await?;
/// let weights: Vector<f32> = client.open_vector("weights").await?;
/// let served = weights.reading(Read::Within(Duration::from_secs(1)));
/// let values = served.pull(&[3, 141, 59]).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Read {
    /// The holder: everything that was acknowledged is in.
    #[default]
    Latest,
    /// A copy in which everything is that was acknowledged so long ago, to the millisecond.
    Within(Duration),
    /// Any copy, however far behind.
    Any,
    /// A copy that has every push that this client's handles of the model have had acknowledged. And what they have read before, as
    /// long as the partition's holder lives: a pull may bring an update that is not acknowledged yet, and that a fail-over takes
    /// back.
    OwnWrites,
    /// A copy that has everything up to these positions: those of another client, to see its writes.
    AtLeast(Positions),
}

/// How far a client has seen each partition of a model: the log positions at which its pushes were acknowledged, and which its
/// pulls have read. It can be serialised and given to another process, whose reads with [`Read::AtLeast`] then see at least as
/// much; as with [`Read::OwnWrites`], of what was read only what no fail-over took back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Stored", into = "Stored")]
pub struct Positions(Arc<Stored>);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Stored {
    model: Incarnation,
    /// Rising partitions; of the others nothing was seen.
    positions: Vec<(u32, Position)>,
}

impl From<Stored> for Positions {
    fn from(mut stored: Stored) -> Self {
        stored.positions.sort_unstable();
        Self(Arc::new(stored))
    }
}

impl From<Positions> for Stored {
    fn from(positions: Positions) -> Self {
        Arc::unwrap_or_clone(positions.0)
    }
}

impl Positions {
    pub(crate) fn new(model: Incarnation, positions: Vec<(u32, Position)>) -> Self {
        Stored { model, positions }.into()
    }

    /// The position that was seen of a partition; none when nothing was.
    pub fn of(&self, partition: u32) -> Option<u64> {
        let positions = &self.0.positions;
        // Of two entries for one partition, which only strange input has, the higher.
        let end = positions.partition_point(|(p, _)| *p <= partition);
        let (found, position) = positions[..end].last()?;
        (*found == partition).then_some(position.0)
    }

    /// What both have seen together. Those of another model, or of it before a reset, say nothing: `self` stays as it is.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        if self.0.model != other.0.model {
            return self.clone();
        }
        let all = self.0.positions.iter().chain(&other.0.positions);
        let highest: std::collections::BTreeMap<u32, Position> = all.fold(
            std::collections::BTreeMap::new(),
            |mut map, (p, position)| {
                let place = map.entry(*p).or_insert(*position);
                *place = (*place).max(*position);
                map
            },
        );
        Self::new(self.0.model, highest.into_iter().collect())
    }
}

impl Read {
    pub(crate) fn is_latest(&self) -> bool {
        *self == Self::Latest
    }

    /// What a pull of a partition asks for.
    pub(crate) fn mode(&self, model: &Model, partition: u32) -> ReadMode {
        match self {
            Self::Latest => ReadMode::Latest,
            Self::Within(age) => ReadMode::Within(age.as_millis() as u64),
            Self::Any => ReadMode::Any,
            Self::OwnWrites => ReadMode::AtLeast(model.position(partition)),
            // Positions in another log say nothing about this one.
            Self::AtLeast(seen) if seen.0.model != model.incarnation => ReadMode::Latest,
            Self::AtLeast(seen) => {
                ReadMode::AtLeast(Position(seen.of(partition).unwrap_or_default()))
            }
        }
    }

    /// The server to ask for a partition: with a `dice` any that may have it, by its bits, else the holder.
    pub(crate) fn choose(routes: &Routes, partition: u32, dice: Option<u64>) -> &Arc<Server> {
        let (holder, _) = routes.holder(partition);
        let mut followers = routes.followers(partition);
        let Some(dice) = dice.filter(|_| followers.len() > 0) else {
            return holder;
        };
        let spread = (dice ^ u64::from(partition)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        let choice = spread as usize % (followers.len() + 1);
        followers.nth(choice).unwrap_or(holder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn positions(model: u32, all: &[(u32, u64)]) -> Positions {
        let incarnation = Incarnation {
            generation: model,
            ..Incarnation::default()
        };
        Positions::new(
            incarnation,
            all.iter().map(|&(p, at)| (p, Position(at))).collect(),
        )
    }

    #[test]
    fn positions_travel_and_add_up() {
        let mine = positions(1, &[(7, 70), (2, 20)]);
        let text = serde_json::to_string(&mine).unwrap();
        assert_eq!(serde_json::from_str::<Positions>(&text).unwrap(), mine);
        assert_eq!(
            (mine.of(2), mine.of(7), mine.of(3)),
            (Some(20), Some(70), None)
        );
        let both = mine.and(&positions(1, &[(2, 25), (7, 60), (9, 1)]));
        assert_eq!(
            (both.of(2), both.of(7), both.of(9)),
            (Some(25), Some(70), Some(1))
        );
        assert_eq!(mine.and(&positions(2, &[(2, 99)])), mine);
    }
}
