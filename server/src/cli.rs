//! The command line: flags, help that teaches, and errors that end with what to type next.

mod admin;
mod api;
mod elastic;
mod log;
mod memory;
mod model;
mod notation;
mod patience;
mod process;
mod status;
mod table;
mod values;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

const AFTER_HELP: &str = "\
First steps:
  glint local --servers 2                            a whole cluster in this process, at http://127.0.0.1:7100
  glint status                                       what lives there (in another terminal)
  glint model create weights --vector 1_000_000      a vector of a million zeros
  glint push weights 0=1.5 7=-2                      add to keys 0 and 7
  glint pull weights 0 7 10..13                      read them, and three more

By hand, one process each, in any order:
  glint master
  glint server --master http://127.0.0.1:7100
  glint server --master http://127.0.0.1:7100 --id s2 --data-dir ./glint-data/s2      (survives being killed)

Commands that talk to a cluster take its master's URL from --master or from the environment variable GLINT_URL.
Logs go to standard error; RUST_LOG=glint_server=debug shows more.";

/// Glint, a parameter server: vectors and matrices that training programs share.
#[derive(Parser)]
#[command(name = "glint", version, max_term_width = 120, after_help = AFTER_HELP)]
struct Cli {
    /// How to write the log.
    #[arg(long, global = true, value_enum, default_value_t = log::Format::Text)]
    log: log::Format,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a master: it knows servers and models, and holds no values.
    Master(process::Master),
    /// Run a server: it holds values in memory and answers pull and push.
    Server(process::Server),
    /// Run a master and servers in this one process.
    Local(process::Local),
    /// Show servers and models of a cluster.
    Status(status::Status),
    /// List the models of a cluster.
    Models(status::Models),
    /// Create, show, reset or delete a model.
    #[command(subcommand)]
    Model(model::Model),
    /// Move everything off a server, so that it may go.
    Drain(elastic::Drain),
    /// Move one copy of a partition to a server.
    Move(elastic::Move),
    /// Move copies until all servers have about as much.
    Rebalance(elastic::Rebalance),
    /// Show how far a master that lost its data directory has taken over what servers hold, or end that.
    Adopt(admin::Adopt),
    /// Read values.
    Pull(values::Pull),
    /// Push values: they are merged by the model's update rule.
    Push(values::Push),
}

/// Runs what the command line says.
pub(crate) fn main() -> ExitCode {
    let cli = Cli::parse();
    log::start(cli.log);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let result = match runtime {
        Ok(runtime) => runtime.block_on(run(cli.command)),
        Err(error) => Err(anyhow::Error::new(error).context("the async runtime does not start")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Master(master) => master.run().await,
        Command::Server(server) => server.run().await,
        Command::Local(local) => local.run().await,
        Command::Status(status) => status.run().await,
        Command::Models(models) => models.run().await,
        Command::Drain(drain) => drain.run().await,
        Command::Move(moving) => moving.run().await,
        Command::Rebalance(rebalance) => rebalance.run().await,
        Command::Model(model) => model.run().await,
        Command::Adopt(adopt) => adopt.run().await,
        Command::Pull(pull) => pull.run().await,
        Command::Push(push) => push.run().await,
    }
}

/// Whether the reader of our output has seen enough, as in `glint pull … | head`.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<std::io::Error>()
        .is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
}

/// Prints to standard output; a closed pipe is an error, not a panic.
fn print(text: &str) -> anyhow::Result<()> {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn flags_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_explains_itself_with_an_example() {
        fn walk(command: &clap::Command) {
            assert!(command.get_about().is_some(), "{}", command.get_name());
            for argument in command.get_arguments() {
                let explained = argument.get_help().is_some();
                assert!(
                    explained,
                    "{} {}",
                    command.get_name(),
                    argument.get_id().as_str()
                );
            }
            if command.get_subcommands().next().is_none() {
                let examples = command.get_after_help().map(ToString::to_string);
                assert!(
                    examples.is_some_and(|e| e.contains("glint ")),
                    "{} has no example",
                    command.get_name()
                );
            }
            command.get_subcommands().for_each(walk);
        }
        walk(&Cli::command());
    }
}
