//! What the machine can do at all: bytes per second of one TCP stream over loopback, and round trips per second.
//!
//! Two threads of one process, blocking calls, no protocol. The memory that is sent and received is as large as that of
//! the workload it is compared with: 4 MiB stay in a processor's cache, 64 MiB do not.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    thread,
    time::Instant,
};

use serde::{Deserialize, Serialize};

use crate::statistics::{median, warm_median};

/// Bytes of one write and of one read.
const WRITE: usize = 1 << 20;
/// Bytes of a ping and of a pong.
const PING: usize = 128;

/// The limits of one round.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Limits {
    /// Bytes per second of one stream, from 4 MiB of memory into 4 MiB.
    pub(crate) small: f64,
    /// Bytes per second of one stream, from 64 MiB of memory into 64 MiB.
    pub(crate) large: f64,
    /// Round trips of 128 bytes per second, one at a time.
    pub(crate) round_trips: f64,
}

/// Measures, and prints [`Limits`] as JSON.
pub(crate) fn main(quick: bool) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string(&measure(quick)?)?);
    Ok(())
}

pub(crate) fn measure(quick: bool) -> anyhow::Result<Limits> {
    let scale = if quick { 10 } else { 1 };
    Ok(Limits {
        small: stream(4 << 20, 400 / scale)?,
        large: stream(64 << 20, 40 / scale)?,
        round_trips: round_trips(20_000 / scale)?,
    })
}

fn pair() -> anyhow::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let one = TcpStream::connect(listener.local_addr()?)?;
    let (other, _) = listener.accept()?;
    for stream in [&one, &other] {
        stream.set_nodelay(true)?;
    }
    Ok((one, other))
}

/// Bytes per second of a stream that goes round in `ring` bytes on both sides, `passes` times without a pause.
fn stream(ring: usize, passes: usize) -> anyhow::Result<f64> {
    let (mut sender, mut receiver) = pair()?;
    let sending = thread::spawn(move || -> std::io::Result<()> {
        // Written, not merely allocated: untouched memory is one page of zeros, read again and again.
        let source: Vec<u8> = (0..ring).map(|i| (i % 251) as u8 + 1).collect();
        for _ in 0..passes {
            for piece in source.chunks(WRITE) {
                sender.write_all(piece)?;
            }
        }
        Ok(())
    });
    let mut target = vec![1u8; ring];
    let mut seconds = Vec::with_capacity(passes);
    // The first pass is timed from its first bytes on.
    receiver.peek(&mut [0])?;
    for _ in 0..passes {
        let start = Instant::now();
        for piece in target.chunks_mut(WRITE) {
            receiver.read_exact(piece)?;
        }
        seconds.push(start.elapsed().as_secs_f64());
    }
    sending
        .join()
        .map_err(|_| anyhow::anyhow!("the sending thread panicked"))??;
    // What arrived is used, so that no reading can be left out.
    anyhow::ensure!(
        target
            .iter()
            .enumerate()
            .all(|(i, &b)| b == (i % 251) as u8 + 1),
        "what arrived is not what was sent"
    );
    Ok(ring as f64 / warm_median(&seconds))
}

/// Round trips per second, one at a time.
fn round_trips(count: usize) -> anyhow::Result<f64> {
    let (mut here, mut there) = pair()?;
    let echo = thread::spawn(move || -> std::io::Result<()> {
        let mut bytes = [0; PING];
        for _ in 0..count {
            there.read_exact(&mut bytes)?;
            there.write_all(&bytes)?;
        }
        Ok(())
    });
    let mut bytes = [1; PING];
    let parts = 20;
    let mut rates = Vec::with_capacity(parts);
    for _ in 0..parts {
        let start = Instant::now();
        for _ in 0..count / parts {
            here.write_all(&bytes)?;
            here.read_exact(&mut bytes)?;
        }
        rates.push((count / parts) as f64 / start.elapsed().as_secs_f64());
    }
    drop(here);
    // A count that is no multiple of the parts leaves the echo waiting: the closed connection ends it.
    let _ = echo.join();
    Ok(median(&rates[parts / 5..]))
}
