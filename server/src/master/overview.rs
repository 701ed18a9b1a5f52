//! Where the copies of each partition of a model are, and what each is, for people: `GET /v1/models/{name}/copies`.

use glint_protocol::{
    ErrorBody, ServerId,
    admin::{ModelCopies, PartitionCopies},
    copies::CopyRole,
};

use super::{Master, catalogue, copies::Copies, state::Model};

impl Master {
    /// Where the copies of a model are.
    ///
    /// # Errors
    /// `unknown_model`.
    pub fn copies(&self, name: &str) -> Result<ModelCopies, ErrorBody> {
        let state = self.shared.journal.state();
        let model = state.models.get(name);
        model
            .map(|model| overview(model))
            .ok_or_else(|| catalogue::absent(&state, name))
    }
}

fn overview(model: &Model) -> ModelCopies {
    let nobody = Copies::default();
    let named = |servers: &mut dyn Iterator<Item = u32>| -> Vec<ServerId> {
        servers.map(|s| model.servers[s as usize].clone()).collect()
    };
    let partitions = (0..model.spec.partition_count).map(|partition| {
        let copies = model.copies_of(partition).unwrap_or(&nobody);
        PartitionCopies {
            holder: model.holder(partition).clone(),
            in_sync: named(&mut copies.of(CopyRole::InSync)),
            learning: named(&mut copies.of(CopyRole::Learner)),
            leaving: named(&mut copies.of(CopyRole::Former)),
            moving_from: copies
                .moving
                .map(|m| model.servers[m.from as usize].clone()),
            waiting: model.is_vacant(partition),
            lost: model.lost.contains_key(&partition),
        }
    });
    ModelCopies {
        name: model.spec.name.clone(),
        incarnation: model.incarnation,
        wanted: model.spec.copies(),
        partitions: partitions.collect(),
    }
}

#[cfg(test)]
mod tests {
    use glint_protocol::Durability;

    use super::*;
    use crate::master::{
        copies::Move,
        testing::{copied, id, model},
    };

    #[test]
    fn each_copy_is_named_with_what_it_is() {
        let mut state = copied(3, 2, 2, Durability::Memory);
        let w = model(&mut state);
        w.set_role(0, 2, Some(CopyRole::Learner));
        w.copies.get_mut(&0).unwrap().moving = Some(Move { from: 1, to: 2 });
        w.set_role(1, 2, Some(CopyRole::Former));
        w.copies.get_mut(&1).unwrap().vacant = true;
        let shown = overview(&state.models["w"]);
        assert_eq!((shown.wanted, shown.partitions.len()), (2, 2));
        let first = &shown.partitions[0];
        assert_eq!(first.holder, id("s1"));
        assert_eq!(first.in_sync, [id("s2")]);
        assert_eq!(first.learning, [id("s3")]);
        assert_eq!(first.moving_from, Some(id("s2")));
        assert!(!first.waiting && !first.lost);
        let second = &shown.partitions[1];
        assert_eq!(
            (&second.in_sync, &second.leaving),
            (&vec![], &vec![id("s3")])
        );
        assert!(second.waiting);
    }
}
