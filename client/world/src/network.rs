//! Connecting and listening: streams of bytes, over TCP or over whatever a test puts in its place.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpSocket, TcpStream},
};

use crate::BoxFuture;

/// A stream of bytes in both directions.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A stream of any kind.
pub type BoxStream = Box<dyn Stream>;

/// Connects and listens.
pub trait Network: Send + Sync {
    /// Connects to `host:port`.
    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<BoxStream>>;
    /// Listens at `host:port`; port 0 picks a free one.
    fn listen<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>>;
}

/// Takes connections.
pub trait Listener: Send {
    /// The next connection. An error concerns that connection, not the listener: call again, after a pause.
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(BoxStream, SocketAddr)>>;
    /// Where it listens.
    fn address(&self) -> io::Result<SocketAddr>;
}

/// Connections that wait to be accepted.
const BACKLOG: u32 = 1024;

/// TCP. Small writes are sent at once (`TCP_NODELAY`): requests are put together before they are written.
#[derive(Clone, Copy, Debug)]
pub struct Tcp;

impl Network for Tcp {
    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<BoxStream>> {
        Box::pin(async move {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as BoxStream)
        })
    }

    fn listen<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            let mut last = io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("'{address}' names no address"),
            );
            for address in tokio::net::lookup_host(address).await? {
                let socket = if address.is_ipv4() {
                    TcpSocket::new_v4()?
                } else {
                    TcpSocket::new_v6()?
                };
                // A server that restarts takes its port back at once, though old connections linger.
                socket.set_reuseaddr(true)?;
                match socket.bind(address).and_then(|()| socket.listen(BACKLOG)) {
                    Ok(listener) => return Ok(Box::new(listener) as Box<dyn Listener>),
                    Err(error) => last = error,
                }
            }
            Err(last)
        })
    }
}

impl Listener for TcpListener {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(BoxStream, SocketAddr)>> {
        Box::pin(async move {
            let (stream, peer) = TcpListener::accept(self).await?;
            stream.set_nodelay(true)?;
            Ok((Box::new(stream) as BoxStream, peer))
        })
    }

    fn address(&self) -> io::Result<SocketAddr> {
        self.local_addr()
    }
}

/// How long a connection may take to be made before it is given up.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
