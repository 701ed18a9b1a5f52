//! Logs, to standard error: for people at a terminal, or as JSON for a collector.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// How a line of the log looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// One readable line each.
    Text,
    /// One JSON object per line.
    Json,
}

/// Starts logging; what to log comes from `RUST_LOG`, else `info` and above.
pub(crate) fn start(format: Format) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // What cannot be written is lost; to complain of it in the same place would end the thread.
        .log_internal_errors(false);
    match format {
        Format::Json => builder.json().flatten_event(true).init(),
        Format::Text => {
            let terminal = std::io::stderr().is_terminal();
            builder
                .compact()
                .with_target(false)
                .with_ansi(terminal)
                .init();
        }
    }
}
