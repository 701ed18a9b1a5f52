//! How long callers wait when a server is struck: from the strike until the first push that began after it is acknowledged.

use std::{
    collections::BTreeMap,
    fmt::Write,
    time::{Duration, Instant},
};

/// What happens to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Blow {
    Kill,
    Hang,
    CutFromServer,
    CutFromMaster,
    CutFromAll,
}

impl Blow {
    const ALL: [Self; 5] = [
        Self::Kill,
        Self::Hang,
        Self::CutFromServer,
        Self::CutFromMaster,
        Self::CutFromAll,
    ];

    /// Those that can be struck where links can be cut, or where they cannot.
    pub(crate) fn all(cuts: bool) -> Vec<Self> {
        let all = Self::ALL.into_iter();
        all.filter(|blow| cuts || matches!(blow, Self::Kill | Self::Hang))
            .collect()
    }
}

/// A blow, and when it came.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Struck {
    pub(crate) at: Instant,
    pub(crate) blow: Blow,
}

/// When each push of each model began and ended; one worker per model, one push after another.
#[derive(Default)]
pub(crate) struct Calls {
    by_model: BTreeMap<&'static str, Vec<(Instant, Instant)>>,
}

/// Upper ends of the columns, in milliseconds.
const COLUMNS: [u128; 9] = [50, 100, 200, 300, 400, 500, 650, 800, 1500];

impl Calls {
    pub(crate) fn add(&mut self, model: &'static str, began: Instant, ended: Instant) {
        self.by_model.entry(model).or_default().push((began, ended));
    }

    pub(crate) fn count(&self) -> usize {
        self.by_model.values().map(Vec::len).sum()
    }

    /// How long each model's caller waited after a strike.
    fn waits(&self, struck: Struck) -> impl Iterator<Item = Duration> + '_ {
        self.by_model.values().filter_map(move |calls| {
            let first = calls.partition_point(|&(began, _)| began < struck.at);
            // The one that was under way has been through it as well: who waited longer.
            let under_way = first.checked_sub(1).map(|at| calls[at].1);
            let next = calls.get(first).map(|&(_, ended)| ended);
            under_way
                .max(next)
                .map(|ended| ended.saturating_duration_since(struck.at))
        })
    }

    /// One line per kind of blow.
    pub(crate) fn histogram(&self, struck: &[Struck]) -> String {
        let mut text = "from a strike to the next acknowledged push, ms:\n".to_owned();
        let _ = write!(text, "{:>14}{:>6}", "", "times");
        for end in COLUMNS {
            let _ = write!(text, "{:>7}", format!("<{end}"));
        }
        let _ = writeln!(text, "{:>7}{:>7}{:>7}{:>7}", "more", "p50", "p99", "max");
        for blow in Blow::ALL {
            let of_it = struck.iter().filter(|s| s.blow == blow);
            let times = of_it.clone().count();
            let waits = of_it.flat_map(|&s| self.waits(s));
            let mut waits: Vec<u128> = waits.map(|w| w.as_millis()).collect();
            waits.sort_unstable();
            let Some(&longest) = waits.last() else {
                continue;
            };
            let _ = write!(text, "{:>14}{times:>6}", format!("{blow:?}"));
            let mut below = 0;
            for end in COLUMNS {
                let now = waits.partition_point(|&w| w < end);
                let _ = write!(text, "{:>7}", now - below);
                below = now;
            }
            let at = |q: usize| waits[waits.len() * q / 100];
            let more = waits.len() - below;
            let _ = writeln!(text, "{more:>7}{:>7}{:>7}{longest:>7}", at(50), at(99));
        }
        text
    }
}
