//! Requests that arrive again: copies of what was sent over a connection come through another one later, also when the
//! original never arrived, or was long answered, or its sender is dead.

use std::{sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{sleep, timeout},
};

use super::{Dice, Network, lock};

/// Longer requests are not copied.
const LONGEST: usize = 64 << 10;

/// How much more often requests are copied that are seldom sent.
const SELDOM: f64 = 3.0;
/// How their paths begin: what servers and the master say to each other when something changes.
const SELDOM_PATHS: [&[u8]; 5] = [
    b"POST /v1/orders ",
    b"POST /v1/servers/register ",
    b"POST /v1/servers/change ",
    b"POST /v1/servers/suspect ",
    b"POST /v1/copies/yield ",
];

fn is_seldom(request: &[u8]) -> bool {
    let mut paths = SELDOM_PATHS.iter();
    paths.any(|path| request.starts_with(path))
}

/// Finds whole requests in what is written to a connection.
pub(super) struct Recorder {
    network: Network,
    from: Arc<str>,
    address: String,
    current: Vec<u8>,
    /// The request is too long, or is none: the rest of the connection is not looked at.
    lost: bool,
}

impl Recorder {
    pub(super) fn new(network: &Network, from: &Arc<str>, address: &str) -> Self {
        Self {
            network: network.clone(),
            from: Arc::clone(from),
            address: address.to_owned(),
            current: Vec::new(),
            lost: false,
        }
    }

    /// Takes note of what was written; true when the request that it completes goes astray: it will arrive later, through
    /// another connection, and this one breaks.
    pub(super) fn wrote(&mut self, bytes: &[u8]) -> bool {
        let (copies, strays) = {
            let state = lock(&self.network.shared);
            (state.weather.copies, state.weather.strays)
        };
        if self.lost || copies + strays == 0.0 {
            self.lost |= self.current.is_empty();
            return false;
        }
        self.current.extend_from_slice(bytes);
        match complete(&self.current) {
            Some(true) => {}
            Some(false) => return false,
            None => {
                self.lost = true;
                return false;
            }
        }
        let request = std::mem::take(&mut self.current);
        let mut dice = self.network.dice();
        let often = if is_seldom(&request) { SELDOM } else { 1.0 };
        let stray = dice.chance(strays * often);
        if stray || dice.chance(copies * often) {
            self.send_later(request, &mut dice);
        }
        stray
    }

    fn send_later(&self, request: Vec<u8>, dice: &mut Dice) {
        let longest = lock(&self.network.shared).weather.copy_delay_ms;
        let delay = match dice.below(4) {
            0 => dice.below(5),
            1 => dice.below(50),
            _ => dice.magnitude(longest),
        };
        let (network, from, address) = (
            self.network.clone(),
            Arc::clone(&self.from),
            self.address.clone(),
        );
        lock(&network.shared).copies += 1;
        tokio::spawn(async move {
            sleep(Duration::from_millis(delay)).await;
            network.trace.note(
                &from,
                format_args!("a copy of {} bytes reaches {address}", request.len()),
            );
            if let Some(mut stream) = network.join(&from, &address, None, None) {
                // Whatever is answered, nobody reads it.
                let mut answer = [0; 4096];
                let asked = async {
                    stream.write_all(&request).await?;
                    stream.read(&mut answer).await
                };
                let _ = timeout(Duration::from_secs(5), asked).await;
            }
            lock(&network.shared).copies -= 1;
        });
    }
}

/// Whether these bytes are one whole request; none when they are none, or too long.
fn complete(bytes: &[u8]) -> Option<bool> {
    if bytes.len() > LONGEST {
        return None;
    }
    let Some(head) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
        return Some(false);
    };
    let text = std::str::from_utf8(&bytes[..head]).ok()?;
    let length = text.split("\r\n").find_map(|line| {
        let (name, value) = line.split_once(':')?;
        let is_length = name.eq_ignore_ascii_case("content-length");
        is_length.then(|| value.trim().parse::<usize>().ok())
    });
    let whole = head + 4 + length.unwrap_or(Some(0))?;
    match bytes.len() {
        now if now < whole => Some(false),
        now if now == whole => Some(true),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::complete;

    #[test]
    fn a_request_is_whole_when_its_body_is() {
        let request = b"POST /v1/push HTTP/1.1\r\nhost: s\r\nContent-Length: 3\r\n\r\nabc";
        for cut in 0..request.len() {
            assert_eq!(complete(&request[..cut]), Some(false));
        }
        assert_eq!(complete(request), Some(true));
        assert_eq!(
            complete(b"GET /v1/status HTTP/1.1\r\nhost: s\r\n\r\n"),
            Some(true)
        );
        assert_eq!(complete(b"GET / HTTP/1.1\r\n\r\nGET"), None);
    }
}
