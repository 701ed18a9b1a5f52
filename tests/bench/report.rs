//! Puts the figures of all rounds together: a table for people, a file for programs.

use std::{fmt::Write, path::Path};

use anyhow::Context;
use serde::Serialize;

use crate::{machine::Machine, statistics::median};

/// What a ratio should be.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Goal {
    /// This or more.
    AtLeast(f64),
    /// This or less.
    AtMost(f64),
}

/// One figure of one round.
#[derive(Clone, Copy, Debug)]
struct Sample {
    value: f64,
    limit: Option<f64>,
}

/// One figure over all rounds.
#[derive(Clone, Debug)]
struct Series {
    name: String,
    unit: &'static str,
    limit_is: &'static str,
    goal: Option<Goal>,
    samples: Vec<Sample>,
}

/// All figures, in the order in which they first came.
#[derive(Debug, Default)]
pub(crate) struct Report {
    series: Vec<Series>,
}

/// A figure as it is written to the file.
#[derive(Debug, Serialize)]
struct Row {
    /// What was measured.
    name: String,
    /// Median over the rounds.
    value: f64,
    /// Unit of value and limit.
    unit: &'static str,
    /// What the value is compared with: median over the rounds.
    limit: Option<f64>,
    /// What the limit is.
    limit_is: Option<&'static str>,
    /// Median over the rounds of value ÷ limit of the same round.
    ratio: Option<f64>,
    /// The lowest and the highest ratio of a round; of the value where there is no limit.
    spread: [f64; 2],
    /// What the ratio should be.
    goal: Option<f64>,
    /// `at_least` or `at_most`.
    goal_is: Option<&'static str>,
    /// Whether it is.
    met: Option<bool>,
}

#[derive(Serialize)]
struct Document<'a> {
    machine: &'a Machine,
    warnings: &'a [String],
    rounds: u32,
    quick: bool,
    failures: &'a [String],
    rows: Vec<Row>,
}

/// What a run was.
pub(crate) struct Run<'a> {
    /// Where.
    pub(crate) machine: &'a Machine,
    /// What makes the figures unreliable.
    pub(crate) warnings: &'a [String],
    /// How many rounds.
    pub(crate) rounds: u32,
    /// Whether the sizes were small.
    pub(crate) quick: bool,
    /// What could not be measured, and why.
    pub(crate) failures: &'a [String],
}

impl Report {
    /// Adds a figure of one round; `limit` is the same round's, and what it is.
    pub(crate) fn add(
        &mut self,
        name: &str,
        (value, unit): (f64, &'static str),
        limit: Option<(f64, &'static str)>,
        goal: Option<Goal>,
    ) {
        let sample = Sample {
            value,
            limit: limit.map(|(limit, _)| limit),
        };
        if let Some(series) = self.series.iter_mut().find(|s| s.name == name) {
            series.samples.push(sample);
        } else {
            self.series.push(Series {
                name: name.into(),
                unit,
                limit_is: limit.map_or("", |(_, what)| what),
                goal,
                samples: vec![sample],
            });
        }
    }

    fn rows(&self) -> Vec<Row> {
        self.series.iter().map(Series::row).collect()
    }

    /// The figures as an aligned table.
    pub(crate) fn table(&self) -> String {
        let rows = self.rows();
        let mut cells =
            vec![["", "median", "limit", "ratio", "spread", "goal", ""].map(String::from)];
        cells.extend(rows.iter().map(Row::cells));
        let mut widths = [0; 7];
        for row in &cells {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let mut out = String::new();
        for row in &cells {
            let mut line = String::new();
            for (at, (cell, width)) in row.iter().zip(widths).enumerate() {
                let fill = " ".repeat(width - cell.chars().count());
                // Names and words start, figures end in one column.
                let _ = if matches!(at, 1 | 3 | 4) {
                    write!(line, "{fill}{cell}  ")
                } else {
                    write!(line, "{cell}{fill}  ")
                };
            }
            let _ = writeln!(out, "{}", line.trim_end());
        }
        out
    }

    /// Writes the figures as JSON.
    pub(crate) fn write(&self, path: &Path, run: &Run<'_>) -> anyhow::Result<()> {
        let document = Document {
            machine: run.machine,
            warnings: run.warnings,
            rounds: run.rounds,
            quick: run.quick,
            failures: run.failures,
            rows: self.rows(),
        };
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::write(path, serde_json::to_vec_pretty(&document)?)
            .with_context(|| format!("cannot write {}", path.display()))
    }
}

impl Series {
    fn row(&self) -> Row {
        let values: Vec<f64> = self.samples.iter().map(|s| s.value).collect();
        let limits: Vec<f64> = self.samples.iter().filter_map(|s| s.limit).collect();
        let ratios: Vec<f64> = self
            .samples
            .iter()
            .filter_map(|s| Some(s.value / s.limit?))
            .collect();
        let ratio = (!ratios.is_empty()).then(|| median(&ratios));
        let spread = if ratios.is_empty() { &values } else { &ratios };
        let (goal, goal_is, met) = match self.goal {
            Some(Goal::AtLeast(goal)) => (Some(goal), Some("at_least"), ratio.map(|r| r >= goal)),
            Some(Goal::AtMost(goal)) => (Some(goal), Some("at_most"), ratio.map(|r| r <= goal)),
            None => (None, None, None),
        };
        Row {
            name: self.name.clone(),
            value: median(&values),
            unit: self.unit,
            limit: (!limits.is_empty()).then(|| median(&limits)),
            limit_is: (!limits.is_empty()).then_some(self.limit_is),
            ratio,
            spread: [
                spread.iter().copied().fold(f64::INFINITY, f64::min),
                spread.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            ],
            goal,
            goal_is,
            met,
        }
    }
}

/// A figure with three digits that count.
fn short(value: f64) -> String {
    let digits = match value.abs() {
        v if v >= 100.0 => 0,
        v if v >= 10.0 => 1,
        v if v >= 1.0 => 2,
        _ => 3,
    };
    format!("{value:.digits$}")
}

impl Row {
    fn cells(&self) -> [String; 7] {
        let [low, high] = self.spread;
        [
            self.name.clone(),
            format!("{} {}", short(self.value), self.unit),
            match (self.limit, self.limit_is) {
                (Some(limit), Some(what)) => format!("{} {what}", short(limit)),
                _ => String::new(),
            },
            self.ratio
                .map_or(String::new(), |ratio| format!("{ratio:.3}")),
            if self.ratio.is_some() {
                format!("{low:.2}–{high:.2}")
            } else {
                format!("{}–{}", short(low), short(high))
            },
            match (self.goal, self.goal_is) {
                (Some(goal), Some("at_least")) => format!("≥ {goal}"),
                (Some(goal), _) => format!("≤ {goal}"),
                _ => String::new(),
            },
            match self.met {
                Some(true) => "met".into(),
                Some(false) => "NOT MET".into(),
                None => String::new(),
            },
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_the_median_of_the_rounds_own_ratios() {
        let mut report = Report::default();
        for (value, limit) in [(1.0, 2.0), (9.0, 10.0), (3.0, 4.0)] {
            report.add(
                "dense",
                (value, "GB/s"),
                Some((limit, "TCP")),
                Some(Goal::AtLeast(0.8)),
            );
        }
        let row = &report.rows()[0];
        assert_eq!(
            (row.value, row.limit, row.ratio),
            (3.0, Some(4.0), Some(0.75))
        );
        assert_eq!((row.spread, row.met), ([0.5, 0.9], Some(false)));
        let table = report.table();
        assert!(
            table.contains("NOT MET") && table.contains("≥ 0.8"),
            "{table}"
        );
    }

    #[test]
    fn a_goal_from_above_is_met_from_below() {
        let mut report = Report::default();
        let at_most = Some(Goal::AtMost(1.15));
        report.add("memory", (1.1, "GB"), Some((1.0, "the model")), at_most);
        report.add("speed", (5.0, "k/s"), None, None);
        assert_eq!(report.rows()[0].met, Some(true));
        assert_eq!((report.rows()[1].met, report.rows()[1].ratio), (None, None));
    }
}
