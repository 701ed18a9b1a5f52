//! The other copies of a partition in the master's file: what is empty is left out.

use glint_protocol::{Epoch, Position, copies::CopyRole, ids::Revision};
use serde::{Deserialize, Serialize};

use super::super::copies::{Claim, Copies, Move, Place};

#[derive(Serialize, Deserialize)]
pub(super) struct FileCopies {
    partition: u32,
    revision: Revision,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    in_sync: Vec<u32>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    learners: Vec<u32>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    former: Vec<u32>,
    /// (from, to).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    moving: Option<(u32, u32)>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    vacant: bool,
    /// (server, epoch of its last record, its position).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    claims: Vec<(u32, Epoch, Position)>,
}

impl FileCopies {
    pub(super) fn new(partition: u32, copies: &Copies) -> Self {
        let of = |role| copies.of(role).collect();
        let claims = copies.claims.iter();
        Self {
            partition,
            revision: copies.revision,
            in_sync: of(CopyRole::InSync),
            learners: of(CopyRole::Learner),
            former: of(CopyRole::Former),
            moving: copies.moving.map(|m| (m.from, m.to)),
            vacant: copies.vacant,
            claims: claims.map(|c| (c.server, c.last.0, c.last.1)).collect(),
        }
    }

    /// The partition and its copies; whether that is consistent is for the model to say.
    pub(super) fn read(self) -> (u32, Copies) {
        let place = |role| move |server| Place { server, role };
        let mut places: Vec<Place> = self
            .in_sync
            .into_iter()
            .map(place(CopyRole::InSync))
            .collect();
        places.extend(self.learners.into_iter().map(place(CopyRole::Learner)));
        places.extend(self.former.into_iter().map(place(CopyRole::Former)));
        places.sort_by_key(|place| place.server);
        let claims = self.claims.into_iter();
        let copies = Copies {
            revision: self.revision,
            places,
            moving: self.moving.map(|(from, to)| Move { from, to }),
            vacant: self.vacant,
            claims: claims
                .map(|(server, epoch, position)| Claim {
                    server,
                    last: (epoch, position),
                })
                .collect(),
        };
        (self.partition, copies)
    }
}
