//! What a person sees: on a terminal what happens, line by line, above a picture that is drawn again and again; elsewhere the
//! lines alone, and now and then one of figures.

use std::{
    fmt::Write,
    io::IsTerminal,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};

use crate::{fleet::Fate, scene::Scene};

/// How often figures are told where there is no picture.
const TELL_EVERY: Duration = Duration::from_secs(5);
/// The largest bar of a server, in characters.
const WIDTH: usize = 24;
const STEPS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Shows it.
pub(crate) struct Stage {
    picture: Option<ProgressBar>,
    began: Instant,
    told: Instant,
}

/// Words in a colour of the terminal.
fn painted(colour: u8, words: &str) -> String {
    format!("\x1b[{colour}m{words}\x1b[0m")
}

const RED: u8 = 31;
const GREEN: u8 = 32;
const YELLOW: u8 = 33;
const BLUE: u8 = 36;
const GREY: u8 = 90;
const BOLD: u8 = 1;

impl Stage {
    pub(crate) fn new() -> Self {
        let picture = std::io::stderr().is_terminal() && std::io::stdout().is_terminal();
        let picture = picture.then(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{msg}") {
                bar.set_style(style);
            }
            bar
        });
        let now = Instant::now();
        Self {
            picture,
            began: now,
            told: now,
        }
    }

    fn clock(&self) -> String {
        let seconds = self.began.elapsed().as_secs();
        format!("{}:{:02}", seconds / 60, seconds % 60)
    }

    /// Says what happens.
    pub(crate) fn say(&self, words: &str) {
        match &self.picture {
            Some(picture) => {
                picture.println(format!("{}  {words}", painted(GREY, &self.clock())));
            }
            None => println!("{}  {words}", self.clock()),
        }
    }

    /// Begins an act.
    pub(crate) fn announce(&self, words: &str) {
        match &self.picture {
            Some(picture) => {
                picture.println("");
                self.say(&painted(BOLD, words));
                picture.tick();
            }
            None => self.say(words),
        }
    }

    /// Shows how everything stands.
    pub(crate) fn draw(&mut self, scene: &Scene) {
        if let Some(picture) = &self.picture {
            picture.set_message(picture_of(scene));
            picture.tick();
        } else if self.told.elapsed() >= TELL_EVERY {
            self.told = Instant::now();
            self.say(&format!("   {}; {}", partitions(scene), training(scene)));
        }
    }

    /// Takes the picture away.
    pub(crate) fn end(&self) {
        if let Some(picture) = &self.picture {
            picture.finish_and_clear();
        }
    }
}

/// A number in groups of three digits.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(' ');
        }
        out.push(digit);
    }
    out
}

fn partitions(scene: &Scene) -> String {
    let mut out = format!(
        "{} of {} partitions have both copies",
        scene.whole, scene.partitions
    );
    if scene.moving > 0 {
        let _ = write!(out, ", {} copies move", scene.moving);
    }
    if scene.making > 0 {
        let _ = write!(out, ", {} are made anew", scene.making);
    }
    out
}

fn training(scene: &Scene) -> String {
    let last = &scene.told.last;
    let likelihood = last
        .log_likelihood
        .map_or(String::new(), |l| format!(", log-likelihood {l:.0}"));
    format!(
        "sweep {}, {:.2} M tokens/s{likelihood}; {} calls, {} failed",
        count(last.sweep as u64),
        scene.rate / 1e6,
        count(last.calls),
        last.failed_calls
    )
}

fn picture_of(scene: &Scene) -> String {
    let mut out = String::from("\n");
    let _ = writeln!(
        out,
        "{}",
        painted(GREY, "  server  state      serves  follows   requests/s")
    );
    let most = scene.servers.values().map(|s| s.rate).fold(1.0, f64::max);
    for (name, server) in &scene.servers {
        let (colour, state) = match server.fate {
            Fate::Runs => (GREEN, "runs"),
            Fate::Killed => (RED, "killed"),
            Fate::Frozen => (BLUE, "frozen"),
            Fate::Leaves => (YELLOW, "leaves"),
            Fate::Gone => (GREY, "gone"),
        };
        let idle = matches!(server.fate, Fate::Killed | Fate::Gone);
        let rate = if idle { 0.0 } else { server.rate };
        let bar = "█".repeat((rate / most * WIDTH as f64).round() as usize);
        let _ = writeln!(
            out,
            "  {name:<6}  {}  {:>6}  {:>7}   {:>10}  {}",
            painted(colour, &format!("{state:<9}")),
            server.holds,
            server.follows,
            count(rate.round() as u64),
            painted(colour, &bar)
        );
    }
    let _ = writeln!(out, "\n  {}", partitions(scene));
    let top = scene.rates.iter().copied().fold(1.0, f64::max);
    let rates = scene.rates.iter().map(|rate| {
        let step = (rate / top * (STEPS.len() - 1) as f64).round() as usize;
        STEPS[step.min(STEPS.len() - 1)]
    });
    let _ = write!(
        out,
        "  {}\n  {}",
        training(scene),
        painted(BLUE, &rates.collect::<String>())
    );
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_told_in_groups() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1000, "1 000"),
            (12_345_678, "12 345 678"),
        ] {
            assert_eq!(count(number), text);
        }
    }
}
