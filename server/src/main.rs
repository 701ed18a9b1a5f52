//! `glint`: the master, the servers, everything in one process, and commands to look at a cluster and change it.

mod cli;

/// Values live in large blocks that come and go; this one gives pages back late and finds them again fast.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    cli::main()
}
