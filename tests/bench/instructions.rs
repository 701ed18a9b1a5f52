//! Counts the instructions of a child: by the processor's own counters where they are to be had, else by valgrind. Unlike
//! time, the count hardly changes from run to run, so that a difference of one in a hundred can be seen.

use std::process::Stdio;

use anyhow::Context;
use tokio::process::Command;

/// How instructions are counted here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Counter {
    /// `perf stat`.
    Perf,
    /// `valgrind --tool=callgrind`.
    Valgrind,
}

impl Counter {
    /// The one that works here.
    pub(crate) async fn here() -> anyhow::Result<Self> {
        let nothing = ["true".to_owned()];
        for counter in [Self::Perf, Self::Valgrind] {
            if counter.count(&nothing).await.is_ok() {
                return Ok(counter);
            }
        }
        anyhow::bail!(
            "instructions cannot be counted here: this machine shows no counters of its processor, and valgrind is missing (apt-get install valgrind)"
        )
    }

    /// Instructions of a program, outside the kernel.
    pub(crate) async fn count(self, program: &[String]) -> anyhow::Result<u64> {
        let mut command = match self {
            Self::Perf => Command::new("perf"),
            Self::Valgrind => Command::new("valgrind"),
        };
        match self {
            Self::Perf => command.args(["stat", "-x", ",", "-e", "instructions:u", "--"]),
            Self::Valgrind => {
                command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--"])
            }
        };
        let output = command
            .args(program)
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await?;
        let text = String::from_utf8_lossy(&output.stderr);
        anyhow::ensure!(
            output.status.success(),
            "{self:?} ended with {}: {text}",
            output.status
        );
        match self {
            Self::Perf => perf(&text),
            Self::Valgrind => valgrind(&text),
        }
        .with_context(|| format!("{self:?} printed no count: {text}"))
    }
}

/// The count in a line such as `123456,,instructions:u,…`.
fn perf(text: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.contains("instructions"))?;
    line.split(',').next()?.trim().parse().ok()
}

/// The count in a line such as `==12== Collected : 123456`.
fn valgrind(text: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.contains("Collected :"))?;
    line.rsplit(' ').next()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read_from_what_the_tools_print() {
        assert_eq!(
            perf("123456,,instructions:u,1000,100.00,,\n"),
            Some(123_456)
        );
        assert_eq!(perf("<not supported>,,instructions:u,0,100.00,,\n"), None);
        assert_eq!(
            valgrind("==7== Events    : Ir\n==7== Collected : 42\n"),
            Some(42)
        );
        assert_eq!(valgrind("==7== no\n"), None);
    }
}
