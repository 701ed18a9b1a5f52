//! Whole HTTP/1.1 messages as bytes: a proxy that repeats and cuts requests must know where they begin and end.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};

/// No head of a message is longer.
const MAX_HEAD: usize = 64 << 10;

/// Takes whole messages off a stream, one after another.
#[derive(Debug)]
pub(super) struct Reader<S> {
    stream: S,
    /// Bytes that were read and belong to what follows.
    kept: Vec<u8>,
}

fn broken(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

impl<S: AsyncRead + Unpin> Reader<S> {
    pub(super) fn new(stream: S) -> Self {
        Self {
            stream,
            kept: Vec::new(),
        }
    }

    /// The next message, head and body; none when the stream ended between messages.
    pub(super) async fn message(&mut self) -> io::Result<Option<Vec<u8>>> {
        let head = loop {
            if let Some(end) = find(&self.kept, b"\r\n\r\n") {
                break end + 4;
            }
            if self.kept.len() > MAX_HEAD {
                return Err(broken("a head without end"));
            }
            if !self.more().await? {
                return if self.kept.is_empty() {
                    Ok(None)
                } else {
                    Err(io::ErrorKind::UnexpectedEof.into())
                };
            }
        };
        let length = match body(&self.kept[..head])? {
            Body::Length(length) => head + length,
            Body::Chunked => self.chunks(head).await?,
        };
        self.fill(length).await?;
        let rest = self.kept.split_off(length);
        Ok(Some(std::mem::replace(&mut self.kept, rest)))
    }

    /// Where the last chunk ends.
    async fn chunks(&mut self, mut at: usize) -> io::Result<usize> {
        loop {
            let line = loop {
                if let Some(end) = find(&self.kept[at..], b"\r\n") {
                    break at + end;
                }
                if !self.more().await? {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            };
            let size = std::str::from_utf8(&self.kept[at..line])
                .ok()
                .and_then(|text| usize::from_str_radix(text.trim(), 16).ok())
                .ok_or_else(|| broken("a chunk without size"))?;
            at = line + 2 + size + 2;
            self.fill(at).await?;
            if size == 0 {
                return Ok(at);
            }
        }
    }

    async fn fill(&mut self, length: usize) -> io::Result<()> {
        while self.kept.len() < length {
            if !self.more().await? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(())
    }

    async fn more(&mut self) -> io::Result<bool> {
        Ok(self.stream.read_buf(&mut self.kept).await? > 0)
    }
}

enum Body {
    Length(usize),
    Chunked,
}

fn body(head: &[u8]) -> io::Result<Body> {
    let text = std::str::from_utf8(head).map_err(|_| broken("a head that is no text"))?;
    let mut found = Body::Length(0);
    for line in text.split("\r\n") {
        let Some((name, value)) = line.split_once(':') else {
            continue;
        };
        if name.eq_ignore_ascii_case("content-length") {
            let length = value.trim().parse();
            found = Body::Length(length.map_err(|_| broken("a length that is no number"))?);
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            found = Body::Chunked;
        }
    }
    Ok(found)
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|w| w == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn messages_are_told_apart_by_their_lengths() {
        let messages: [&[u8]; 3] = [
            b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello",
            b"GET / HTTP/1.1\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        ];
        let stream = messages.concat();
        let mut reader = Reader::new(stream.as_slice());
        for message in messages {
            assert_eq!(reader.message().await.unwrap().unwrap(), message);
        }
        assert!(reader.message().await.unwrap().is_none());
        assert!(Reader::new(&stream[..40]).message().await.is_err());
    }
}
