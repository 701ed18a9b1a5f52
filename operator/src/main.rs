//! `glint-operator`, the command line.

use std::io::{self, Write};

use clap::{Parser, Subcommand};

/// Glint, the parameter server, on Kubernetes: prints the definition of the custom resource `ParameterServer`.
#[derive(Parser)]
#[command(name = "glint-operator", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Print the `CustomResourceDefinition` as YAML, ready for `kubectl apply --server-side -f -`.
    Crd,
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Crd => print(&glint_operator::crd::yaml()?),
    }
}

/// Writes to standard output; a reader that has seen enough, such as `head`, is no error.
fn print(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}
