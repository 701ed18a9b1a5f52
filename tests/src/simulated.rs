//! The outside of a process in a simulation: turmoil's network, simulated time, seeded randomness, and a trace of all that
//! crosses the network, so that two runs can be compared.

use std::{
    fmt, io,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
};

use glint_world::{BoxFuture, BoxStream, Clock, Listener, Network, Random, TokioTasks, World};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Simulated milliseconds since 1970 at the start of a simulation.
const START_MS: u64 = 1_767_225_600_000;

/// What happened in a simulation, in order. Cheap to clone; clones share the events.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    events: Arc<Mutex<Vec<String>>>,
}

impl Trace {
    /// Notes something, at the simulated time and under the host's name.
    pub fn note(&self, host: &str, what: fmt::Arguments<'_>) {
        let micros = turmoil::sim_elapsed().unwrap_or_default().as_micros();
        self.events
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(format!("{micros} {host} {what}"));
    }

    /// Everything that was noted.
    pub fn events(&self) -> Vec<String> {
        self.events
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// The world of one host of a simulation. `seed` decides its random numbers.
pub fn world(host: &'static str, seed: u64, trace: &Trace) -> World {
    World {
        network: Arc::new(Simulated {
            host,
            trace: trace.clone(),
        }),
        clock: Arc::new(SimulatedClock),
        random: Random::from_seed(seed),
        tasks: Arc::new(TokioTasks),
        os_boot: 1,
    }
}

struct SimulatedClock;

impl Clock for SimulatedClock {
    fn unix_ms(&self) -> u64 {
        START_MS + turmoil::sim_elapsed().unwrap_or_default().as_millis() as u64
    }
}

struct Simulated {
    host: &'static str,
    trace: Trace,
}

impl Network for Simulated {
    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<BoxStream>> {
        Box::pin(async move {
            let connected = turmoil::net::TcpStream::connect(address).await;
            let outcome = connected
                .as_ref()
                .map_or_else(io::Error::kind, |_| io::ErrorKind::Other);
            let came = if connected.is_ok() {
                "is there".into()
            } else {
                format!("{outcome:?}")
            };
            self.trace
                .note(self.host, format_args!("connects to {address}: {came}"));
            Ok(self.traced(connected?))
        })
    }

    fn listen<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            let listener = turmoil::net::TcpListener::bind(address).await?;
            Ok(Box::new(SimulatedListener {
                listener,
                host: self.host,
                trace: self.trace.clone(),
            }) as Box<dyn Listener>)
        })
    }
}

impl Simulated {
    fn traced(&self, stream: turmoil::net::TcpStream) -> BoxStream {
        Box::new(Traced {
            stream,
            host: self.host,
            trace: self.trace.clone(),
        })
    }
}

struct SimulatedListener {
    listener: turmoil::net::TcpListener,
    host: &'static str,
    trace: Trace,
}

impl Listener for SimulatedListener {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(BoxStream, SocketAddr)>> {
        Box::pin(async move {
            let (stream, peer) = self.listener.accept().await?;
            self.trace.note(self.host, format_args!("accepts {peer}"));
            let stream = Traced {
                stream,
                host: self.host,
                trace: self.trace.clone(),
            };
            Ok((Box::new(stream) as BoxStream, peer))
        })
    }

    fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A stream that notes what is read: its length and a checksum of the bytes.
struct Traced {
    stream: turmoil::net::TcpStream,
    host: &'static str,
    trace: Trace,
}

fn checksum(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, &byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    })
}

impl AsyncRead for Traced {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = ready!(Pin::new(&mut self.stream).poll_read(context, buffer));
        let new = &buffer.filled()[before..];
        let sum = checksum(new);
        match &read {
            Ok(()) => self.trace.note(
                self.host,
                format_args!("reads {} bytes, {sum:08x}", new.len()),
            ),
            Err(error) => self
                .trace
                .note(self.host, format_args!("cannot read: {:?}", error.kind())),
        }
        Poll::Ready(read)
    }
}

impl AsyncWrite for Traced {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
