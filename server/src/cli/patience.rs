//! Waiting for a data directory that a process which is about to end still uses: an orchestrator that has given a server up may
//! start it again before the one before has ended.

use std::{io, time::Duration};

use clap::Args;
use glint_world::Shutdown;
use tokio::time::Instant;

/// How often it is looked whether the directory is free.
const AGAIN: Duration = Duration::from_millis(100);

/// How long to wait for a data directory.
#[derive(Args)]
pub(crate) struct Patience {
    /// How many seconds to wait for the data directory while another process uses it, since that may be about to end.
    #[arg(
        long,
        value_name = "SECONDS",
        env = "GLINT_DATA_DIR_WAIT_SECONDS",
        default_value_t = 0,
        value_parser = clap::value_parser!(u64).range(..=3600)
    )]
    data_dir_wait_seconds: u64,
}

impl Patience {
    /// What `open` gives, asked again while the directory is in use and there is time.
    ///
    /// # Errors
    /// Those of `open`: that another process uses it, when that is still so at the end or when this process is to end.
    pub(crate) async fn open<T>(
        &self,
        shutdown: &Shutdown,
        mut open: impl FnMut() -> io::Result<T>,
    ) -> io::Result<T> {
        let until = Instant::now() + Duration::from_secs(self.data_dir_wait_seconds);
        let mut told = false;
        loop {
            let error = match open() {
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy => error,
                other => return other,
            };
            if Instant::now() >= until || shutdown.is_cancelled() {
                return Err(error);
            }
            if !std::mem::replace(&mut told, true) {
                tracing::info!(%error, seconds = self.data_dir_wait_seconds, "waiting for the data directory");
            }
            tokio::select! {
                () = tokio::time::sleep(AGAIN) => {}
                () = shutdown.cancelled() => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn busy() -> io::Error {
        io::ErrorKind::ResourceBusy.into()
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_waited_for_as_long_as_was_said_and_no_longer() {
        let shutdown = Shutdown::new();
        let free_after = Instant::now() + Duration::from_secs(5);
        let open = || {
            (Instant::now() >= free_after)
                .then_some(())
                .ok_or_else(busy)
        };
        for (seconds, opens) in [(0, false), (3, false), (6, true)] {
            let patience = Patience {
                data_dir_wait_seconds: seconds,
            };
            let opened = patience.open(&shutdown, open).await;
            assert_eq!(opened.is_ok(), opens, "{seconds} s");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn other_errors_and_a_stop_are_not_waited_out() {
        let patience = Patience {
            data_dir_wait_seconds: 3600,
        };
        let shutdown = Shutdown::new();
        let denied = || Err::<(), _>(io::ErrorKind::PermissionDenied.into());
        let error = patience.open(&shutdown, denied).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        let before = Instant::now();
        shutdown.cancel();
        let error = patience.open(&shutdown, || Err::<(), _>(busy())).await;
        assert_eq!(error.unwrap_err().kind(), io::ErrorKind::ResourceBusy);
        assert_eq!(Instant::now(), before);
    }
}
