//! One end of a connection.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep_until},
};

use super::{
    Life,
    pipe::{Found, Pipe},
};

pub(super) struct Stream {
    incoming: Arc<Pipe>,
    outgoing: Arc<Pipe>,
    /// Rings when the next bytes arrive.
    bell: Option<Pin<Box<Sleep>>>,
    /// The process that has this end; the network itself has none.
    life: Option<Life>,
}

impl Stream {
    pub(super) fn new(incoming: Arc<Pipe>, outgoing: Arc<Pipe>, life: Option<Life>) -> Self {
        Self {
            incoming,
            outgoing,
            bell: None,
            life,
        }
    }

    fn wait(&mut self, at: Instant, context: &mut Context<'_>) -> Poll<()> {
        let bell = match &mut self.bell {
            Some(bell) => {
                if bell.deadline() != at {
                    bell.as_mut().reset(at);
                }
                bell
            }
            None => self.bell.insert(Box::pin(sleep_until(at))),
        };
        bell.as_mut().poll(context)
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            match self.incoming.read(context, buffer) {
                Found::Done(result) => return Poll::Ready(result),
                Found::Nothing => return Poll::Pending,
                Found::At(at) => ready!(self.wait(at, context)),
            }
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let (length, broke) = ready!(self.outgoing.write(context, bytes))?;
        if broke {
            self.outgoing.tear();
            self.incoming.tear();
        }
        Poll::Ready(if length == 0 && !bytes.is_empty() {
            Err(io::Error::from(io::ErrorKind::ConnectionReset))
        } else {
            Ok(length)
        })
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.outgoing.close();
        Poll::Ready(Ok(()))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // How the connections of a process end that was killed, the network has decided at that instant.
        if self.life.as_ref().is_none_or(|life| !life.is_over()) {
            self.outgoing.close();
            self.incoming.stop_reading();
        }
    }
}
