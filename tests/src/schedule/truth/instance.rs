//! What is known of one model: its pushes, and where they are.

use std::collections::{BTreeMap, BTreeSet};

use glint::ModelSpec;
use glint_protocol::Layout;
use tokio::time::Instant;

use super::rough::Rough;
use crate::schedule::{
    plan::ModelPlan,
    target::{Form, slots},
};

/// What became of a push, as its caller was told.
#[derive(Clone, Copy, Debug)]
pub(super) enum Verdict {
    /// Nothing yet.
    Open,
    /// At this time of the order, and of the simulation.
    Acknowledged(u64, Instant),
    /// It is certainly not applied.
    Refused(u64),
    /// The caller does not know.
    Unknown,
}

/// A cell that a push adds to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Touch {
    pub(super) partition: u32,
}

#[derive(Clone, Debug)]
pub(super) struct Push {
    /// The client that made it.
    pub(super) by: u64,
    pub(super) began: u64,
    pub(super) verdict: Verdict,
    pub(super) touches: Vec<Touch>,
    /// Partitions that may have lost it, though it was acknowledged.
    pub(super) excused: BTreeSet<u32>,
    /// When the pull that saw it last began and ended, per partition.
    pub(super) seen: BTreeMap<u32, (u64, u64)>,
}

/// One model, from its creation to its end.
pub(super) struct Instance {
    pub(super) plan: ModelPlan,
    pub(super) layout: Layout,
    pub(super) cols: u64,
    /// When the call began that made or first found it.
    pub(super) asked: u64,
    /// When it was first known to be there.
    pub(super) confirmed: u64,
    /// When somebody began to delete it.
    pub(super) ending: Option<u64>,
    /// Which server holds which partition.
    pub(super) holders: Option<Vec<String>>,
    pub(super) pushes: Vec<Push>,
    /// Per cell the pushes that it can tell apart.
    pub(super) cells: Vec<Vec<u32>>,
    /// Something has happened that may have taken pushes which were acknowledged shortly before.
    pub(super) shortened: bool,
    /// Servers whose disks were harmed since it may have been made.
    pub(super) harmed: BTreeSet<String>,
    /// Of a model whose sums are rounded: what its cells must be.
    pub(super) rough: Option<Rough>,
}

impl Instance {
    pub(super) fn new(
        plan: &ModelPlan,
        spec: &ModelSpec,
        asked: u64,
        confirmed: u64,
        harmed: BTreeSet<String>,
    ) -> Self {
        let cols = u64::from(spec.shape.cols());
        let cells = (spec.shape.keys() * cols) as usize;
        Self {
            plan: plan.clone(),
            layout: Layout::new(spec, |_| None).expect("a layout that the spec names"),
            cols,
            asked,
            confirmed,
            ending: None,
            holders: None,
            pushes: Vec::new(),
            cells: vec![Vec::new(); cells],
            harmed,
            shortened: false,
            rough: plan.rough.then(|| Rough::new(plan.element, cells)),
        }
    }

    pub(super) fn partition(&self, cell: u64) -> u32 {
        let at = self.layout.locate(cell / self.cols);
        at.expect("a cell of the model").partition
    }

    pub(super) fn holder(&self, partition: u32) -> Option<&str> {
        let holders = self.holders.as_ref()?;
        holders.get(partition as usize).map(String::as_str)
    }

    /// Enters a push, and says which number it adds to each cell.
    pub(super) fn begin(&mut self, by: u64, form: &Form, order: u64) -> Option<(usize, Vec<u64>)> {
        let cells = form.cells(self.cols);
        let at = self.pushes.len();
        let mut touches = Vec::with_capacity(cells.len());
        let numbers = if let Some(rough) = &mut self.rough {
            rough.begin(at, &cells)
        } else {
            let most = slots(self.plan.element);
            if cells.iter().any(|&c| self.cells[c as usize].len() >= most) {
                return None;
            }
            let mut numbers = Vec::with_capacity(cells.len());
            for &cell in &cells {
                let slot = self.cells[cell as usize].len() as u32;
                self.cells[cell as usize].push(at as u32);
                numbers.push(1 << (2 * slot));
                touches.push(Touch {
                    partition: self.partition(cell),
                });
            }
            numbers
        };
        self.pushes.push(Push {
            by,
            began: order,
            verdict: Verdict::Open,
            touches,
            excused: BTreeSet::new(),
            seen: BTreeMap::new(),
        });
        Some((at, numbers))
    }

    /// What was acknowledged since `from`, and lies on `host`, may be gone; also of a push that is under way, of which other
    /// parts, or the word of this one, have not reached the client.
    pub(super) fn excuse(&mut self, host: &str, from: Option<Instant>) {
        self.shortened = true;
        if let Some(rough) = &mut self.rough {
            rough.shorten();
        }
        let holders = self.holders.clone();
        let held = |partition: u32| match &holders {
            Some(holders) => holders.get(partition as usize).is_some_and(|h| h == host),
            None => true,
        };
        for push in &mut self.pushes {
            let recent = match push.verdict {
                Verdict::Acknowledged(_, at) => from.is_none_or(|from| at >= from),
                Verdict::Open => true,
                Verdict::Refused(_) | Verdict::Unknown => false,
            };
            if recent {
                let partitions = push.touches.iter().map(|touch| touch.partition);
                push.excused.extend(partitions.filter(|&p| held(p)));
            }
        }
    }
}
