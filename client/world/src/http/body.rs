//! Bodies made of shared bytes.

use std::{
    collections::VecDeque,
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

/// A body that is a few pieces of shared bytes: nothing is copied, and its length is known before it is sent.
#[derive(Clone, Debug, Default)]
pub struct Frames {
    pieces: VecDeque<Bytes>,
    length: u64,
}

impl Frames {
    /// Adds a piece at the end.
    pub fn push(&mut self, piece: Bytes) {
        if !piece.is_empty() {
            self.length += piece.len() as u64;
            self.pieces.push_back(piece);
        }
    }

    /// Bytes left to send.
    pub fn length(&self) -> u64 {
        self.length
    }
}

impl From<Bytes> for Frames {
    fn from(piece: Bytes) -> Self {
        let mut frames = Self::default();
        frames.push(piece);
        frames
    }
}

impl From<Vec<u8>> for Frames {
    fn from(piece: Vec<u8>) -> Self {
        Self::from(Bytes::from(piece))
    }
}

impl FromIterator<Bytes> for Frames {
    fn from_iter<T: IntoIterator<Item = Bytes>>(pieces: T) -> Self {
        let mut frames = Self::default();
        for piece in pieces {
            frames.push(piece);
        }
        frames
    }
}

impl Body for Frames {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.pieces.pop_front().map(|piece| {
            self.length -= piece.len() as u64;
            Ok(Frame::data(piece))
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.pieces.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.length)
    }
}
