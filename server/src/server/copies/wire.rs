//! What a holder says to a server that follows it, as bytes, and the answers. Both ends are of one version: a body begins with
//! who speaks to whom, and is refused when either is another start.
//!
//! A body is a row of frames, each a header and its content, in the order in which they are to be taken.

use bytes::{Buf, Bytes};
use glint_protocol::{
    Boot, ClusterId, Epoch, ErrorBody, ErrorCode, Incarnation, ModelId, Position, ServerId,
};
use serde::{Deserialize, Serialize};

use crate::{
    http::reading::Reading,
    log::{checksum, record::Header, u32_at, u64_at},
};

/// Names a partition.
pub(in crate::server) type Key = (Incarnation, u32);

/// Content that is longer goes out as it lies; shorter is copied together.
const SMALL: usize = 8 << 10;

/// Who speaks to whom.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::server) struct Hello {
    pub(in crate::server) cluster: ClusterId,
    pub(in crate::server) server: ServerId,
    pub(in crate::server) boot: Boot,
    /// The start that is spoken to.
    pub(in crate::server) to: Boot,
}

/// One thing that a holder says about one partition.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    pub(super) key: Key,
    pub(super) epoch: Epoch,
    pub(super) session: u64,
    pub(super) content: Content,
}

#[derive(Clone, Debug)]
pub(super) enum Content {
    /// An attachment begins: what does the follower have?
    Offer,
    /// The whole state is going to be sent: what it is, and its ledger.
    Begin(Bytes),
    /// Values from this one on.
    Piece { at: u64, values: Bytes },
    /// All pieces were sent.
    End,
    /// A record.
    Append { header: Box<Header>, payload: Bytes },
    /// The copy is to go.
    Detach,
}

/// What a follower answers about one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Answer {
    pub(super) incarnation: Incarnation,
    pub(super) partition: u32,
    pub(super) epoch: Epoch,
    pub(super) session: u64,
    pub(super) outcome: Outcome,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Outcome {
    /// To an offer: its last record, if it has a copy.
    Attached(Option<(Epoch, Position)>),
    /// It has everything up to here, as the model's durability asks for.
    Has(Position),
    /// It has not everything yet.
    Pending,
    /// It knows no such attachment, or lacks something before: offer it again.
    Stranger,
    /// It has heard of a higher epoch.
    Refused(Epoch),
    /// It has no room for the copy, or is about to end.
    Full,
    /// The copy is gone.
    Detached,
}

/// The answer to a row of frames.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::server) struct Answers {
    pub(super) answers: Vec<Answer>,
}

/// A follower's answer to a beacon: one outcome per attachment that it named.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::server) struct Heard {
    /// When it answered, in microseconds since its start, by its own clock: the next beacons name it.
    pub(super) stamp: u64,
    pub(super) outcomes: Vec<Outcome>,
}

/// A holder that was deposed to the new one: it has ceased to serve, whose epoch this was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::server) struct Yield {
    pub(super) hello: Hello,
    pub(super) incarnation: Incarnation,
    pub(super) partition: u32,
    pub(super) ceased: Epoch,
}

/// Bytes of a frame's header: kind 0, partition 4, generation 8, length 12 (u32 each), model 16, epoch 24, session 32,
/// place 40 (u64 each).
const HEADER: usize = 48;
/// Bytes of what a beacon says about one attachment: generation 0, partition 4 (u32 each), model 8, epoch 16, session 24 (u64
/// each), whether it is whole 32 (u32).
const ATTACHMENT: usize = 36;
/// Bytes of what a beacon repeats of the last answer.
const ECHO: usize = 8;

/// The kind of a frame of values.
const PIECE: u32 = 3;

/// What is wrong with a body.
fn malformed(why: &str) -> ErrorBody {
    ErrorBody::new(
        ErrorCode::BadRequest,
        format!("{why}; servers of one cluster must be of one version"),
    )
}

impl Frame {
    pub(super) fn new(key: Key, epoch: Epoch, session: u64, content: Content) -> Self {
        Self {
            key,
            epoch,
            session,
            content,
        }
    }

    pub(super) fn append(
        key: Key,
        epoch: Epoch,
        session: u64,
        header: Header,
        payload: Bytes,
    ) -> Self {
        let header = Box::new(header);
        Self::new(key, epoch, session, Content::Append { header, payload })
    }

    /// Whether it brings a record.
    pub(super) fn is_record(&self) -> bool {
        matches!(self.content, Content::Append { .. })
    }

    /// About how many bytes it takes.
    pub(super) fn bytes(&self) -> usize {
        HEADER
            + match &self.content {
                Content::Offer | Content::End | Content::Detach => 0,
                Content::Begin(content) => content.len(),
                Content::Piece { values, .. } => values.len(),
                Content::Append { payload, .. } => Header::SIZE + payload.len(),
            }
    }

    fn head(&self, kind: u32, length: usize, place: u64) -> [u8; HEADER] {
        let mut out = [0; HEADER];
        let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
        let (incarnation, partition) = self.key;
        put(0, &kind.to_le_bytes());
        put(4, &partition.to_le_bytes());
        put(8, &incarnation.generation.to_le_bytes());
        put(12, &(length as u32).to_le_bytes());
        put(16, &incarnation.model.0.to_le_bytes());
        put(24, &self.epoch.0.to_le_bytes());
        put(32, &self.session.to_le_bytes());
        put(40, &place.to_le_bytes());
        out
    }
}

fn put_hello(out: &mut Vec<u8>, hello: &Hello) {
    // Strings and numbers only: this cannot fail.
    let text = serde_json::to_vec(hello).unwrap_or_default();
    out.extend_from_slice(&(text.len() as u32).to_le_bytes());
    out.extend_from_slice(&text);
}

/// A body of frames, in pieces.
pub(super) fn encode(hello: &Hello, frames: &[Frame]) -> Vec<Bytes> {
    let mut pieces = Vec::new();
    let mut out = Vec::with_capacity(4096);
    put_hello(&mut out, hello);
    let put = |out: &mut Vec<u8>, pieces: &mut Vec<Bytes>, content: &Bytes| {
        if content.len() <= SMALL {
            out.extend_from_slice(content);
        } else {
            pieces.push(std::mem::take(out).into());
            pieces.push(content.clone());
        }
    };
    for frame in frames {
        match &frame.content {
            Content::Offer => out.extend_from_slice(&frame.head(1, 0, 0)),
            Content::Begin(content) => {
                out.extend_from_slice(&frame.head(2, content.len(), 0));
                put(&mut out, &mut pieces, content);
            }
            Content::Piece { at, values } => {
                out.extend_from_slice(&frame.head(PIECE, values.len(), *at));
                put(&mut out, &mut pieces, values);
            }
            Content::End => out.extend_from_slice(&frame.head(4, 0, 0)),
            Content::Append { header, payload } => {
                let length = Header::SIZE + payload.len();
                out.extend_from_slice(&frame.head(5, length, 0));
                let header = Header {
                    offset: 0,
                    synced: 0,
                    ..**header
                };
                out.extend_from_slice(&header.encode(0));
                put(&mut out, &mut pieces, payload);
            }
            Content::Detach => out.extend_from_slice(&frame.head(6, 0, 0)),
        }
    }
    pieces.push(out.into());
    pieces
}

fn take_hello(body: &mut Bytes) -> Result<Hello, ErrorBody> {
    if body.len() < 4 {
        return Err(nameless());
    }
    let length = body.get_u32_le() as usize;
    if body.len() < length {
        return Err(nameless());
    }
    hello(&body.split_to(length))
}

fn nameless() -> ErrorBody {
    malformed("a body that does not say who speaks")
}

fn hello(text: &[u8]) -> Result<Hello, ErrorBody> {
    serde_json::from_slice(text).map_err(|_| nameless())
}

/// The longest that names of servers make what a body begins with.
const LONGEST_HELLO: usize = 64 << 10;

/// Takes from a body of frames who speaks to whom.
///
/// # Errors
/// `bad_request`, and those of [`Reading::exactly`].
pub(super) async fn read_hello(body: &mut Reading) -> Result<Hello, ErrorBody> {
    let length = u32_at(&body.exactly(4).await?, 0) as usize;
    if length > LONGEST_HELLO {
        return Err(nameless());
    }
    hello(&body.exactly(length).await?)
}

/// A frame of which the header has arrived, and the content is still to be taken.
pub(super) struct Head {
    kind: u32,
    key: Key,
    epoch: Epoch,
    session: u64,
    length: usize,
    place: u64,
}

/// What to do with the content of a frame.
pub(super) enum Arrives {
    /// The frame is whole.
    Frame(Frame),
    /// So many bytes of values are still to be taken, from this one on: they are used as they come.
    Piece { at: u64, bytes: usize },
}

impl Head {
    pub(super) fn key(&self) -> Key {
        self.key
    }

    pub(super) fn attachment(&self) -> (Epoch, u64) {
        (self.epoch, self.session)
    }

    /// The header of the next frame of a body; none at its end.
    ///
    /// # Errors
    /// Those of [`Reading::exactly`].
    pub(super) async fn read(body: &mut Reading) -> Result<Option<Self>, ErrorBody> {
        if body.is_over().await? {
            return Ok(None);
        }
        let head = body.exactly(HEADER).await?;
        let incarnation = Incarnation {
            model: ModelId(u64_at(&head, 16)),
            generation: u32_at(&head, 8),
        };
        Ok(Some(Self {
            kind: u32_at(&head, 0),
            key: (incarnation, u32_at(&head, 4)),
            epoch: Epoch(u64_at(&head, 24)),
            session: u64_at(&head, 32),
            length: u32_at(&head, 12) as usize,
            place: u64_at(&head, 40),
        }))
    }

    /// Its content, but for values.
    ///
    /// # Errors
    /// `bad_request`, and those of [`Reading::exactly`].
    pub(super) async fn content(&self, body: &mut Reading) -> Result<Arrives, ErrorBody> {
        if self.kind == PIECE {
            return Ok(Arrives::Piece {
                at: self.place,
                bytes: self.length,
            });
        }
        let content = body.exactly(self.length).await?;
        let content = match self.kind {
            1 => Content::Offer,
            2 => Content::Begin(content),
            4 => Content::End,
            5 => append(content)?,
            6 => Content::Detach,
            _ => return Err(malformed("a frame about a copy of an unknown kind")),
        };
        let (epoch, session) = self.attachment();
        Ok(Arrives::Frame(Frame::new(
            self.key, epoch, session, content,
        )))
    }
}

fn append(mut content: Bytes) -> Result<Content, ErrorBody> {
    let broken = || malformed("a record for a copy is not what was sent");
    let header = Header::decode(&content, 0, 0).ok_or_else(broken)?;
    content.advance(Header::SIZE);
    let whole = content.len() == header.length as usize
        && checksum([&content[..]]) == header.payload_checksum;
    if !whole {
        return Err(broken());
    }
    Ok(Content::Append {
        header: Box::new(header),
        payload: content,
    })
}

/// An attachment that a beacon speaks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Attachment {
    pub(super) key: Key,
    pub(super) epoch: Epoch,
    pub(super) session: u64,
    /// Whether it has everything that was acknowledged before this beacon: acknowledgements wait for its word, and nobody but
    /// who sends this may give any.
    pub(super) is_whole: bool,
}

/// What a beacon says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Beacon {
    pub(super) hello: Hello,
    /// What the follower named when it gave the last answer that had come before this beacon; 0 when none had.
    pub(super) echo: u64,
    pub(super) attachments: Vec<Attachment>,
}

/// A beacon's body: who speaks, the echo (u64), the attachments.
pub(super) fn encode_beacon(hello: &Hello, echo: u64, attachments: &[Attachment]) -> Vec<u8> {
    let mut out = Vec::with_capacity(256 + attachments.len() * ATTACHMENT);
    put_hello(&mut out, hello);
    out.extend_from_slice(&echo.to_le_bytes());
    for attachment in attachments {
        let (incarnation, partition) = attachment.key;
        out.extend_from_slice(&incarnation.generation.to_le_bytes());
        out.extend_from_slice(&partition.to_le_bytes());
        out.extend_from_slice(&incarnation.model.0.to_le_bytes());
        out.extend_from_slice(&attachment.epoch.0.to_le_bytes());
        out.extend_from_slice(&attachment.session.to_le_bytes());
        out.extend_from_slice(&u32::from(attachment.is_whole).to_le_bytes());
    }
    out
}

/// Takes a beacon apart.
///
/// # Errors
/// `bad_request`.
pub(super) fn decode_beacon(mut body: Bytes) -> Result<Beacon, ErrorBody> {
    let hello = take_hello(&mut body)?;
    if body.len() < ECHO || !(body.len() - ECHO).is_multiple_of(ATTACHMENT) {
        return Err(malformed("a beacon is cut off"));
    }
    let echo = u64_at(&body.split_to(ECHO), 0);
    let attachment = |bytes: &[u8]| {
        let incarnation = Incarnation {
            generation: u32_at(bytes, 0),
            model: ModelId(u64_at(bytes, 8)),
        };
        Attachment {
            key: (incarnation, u32_at(bytes, 4)),
            epoch: Epoch(u64_at(bytes, 16)),
            session: u64_at(bytes, 24),
            is_whole: u32_at(bytes, 32) != 0,
        }
    };
    Ok(Beacon {
        hello,
        echo,
        attachments: body.chunks_exact(ATTACHMENT).map(attachment).collect(),
    })
}

#[cfg(test)]
mod tests {
    use glint_protocol::{LaneId, Number};
    use proptest::prelude::*;

    use super::*;
    use crate::{
        http::body::{Bodies, Bounds},
        log::record::Kind,
    };

    const KEY: Key = (
        Incarnation {
            model: ModelId(7),
            generation: 2,
        },
        3,
    );

    fn hello() -> Hello {
        Hello {
            cluster: ClusterId(1),
            server: ServerId("s1".into()),
            boot: Boot(2),
            to: Boot(3),
        }
    }

    fn frames() -> Vec<Frame> {
        let payload = Bytes::from(vec![5; 20_000]);
        let header = Header {
            lane: LaneId {
                birth: 1,
                random: 2,
            },
            number: Number(9),
            ..Header::new(Kind::Update, KEY.0, KEY.1, Boot(2), &payload)
        };
        [
            Content::Offer,
            Content::Begin(Bytes::from_static(b"{}")),
            Content::Piece {
                at: 77,
                values: Bytes::from(vec![1; SMALL + 1]),
            },
            Content::Append {
                header: Box::new(header),
                payload,
            },
            Content::End,
            Content::Detach,
        ]
        .map(|content| Frame::new(KEY, Epoch(4), 5, content))
        .into()
    }

    fn body() -> Bytes {
        encode(&hello(), &frames()).concat().into()
    }

    fn decode(body: Bytes) -> Result<(Hello, Vec<Frame>), ErrorBody> {
        let bounds = Bounds {
            limit: 1 << 20,
            declared: true,
        };
        let mut body = Reading::new(body.into(), &Bodies::new(0), bounds)?;
        let all = async {
            let hello = read_hello(&mut body).await?;
            let mut frames = Vec::new();
            while let Some(head) = Head::read(&mut body).await? {
                frames.push(match head.content(&mut body).await? {
                    Arrives::Frame(frame) => frame,
                    Arrives::Piece { at, bytes } => {
                        let values = body.exactly(bytes).await?;
                        let (epoch, session) = head.attachment();
                        Frame::new(head.key(), epoch, session, Content::Piece { at, values })
                    }
                });
            }
            Ok((hello, frames))
        };
        // Bodies are read within a time.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        runtime.block_on(all)
    }

    #[test]
    fn frames_survive_their_bytes() {
        let (from, decoded) = decode(body()).unwrap();
        assert_eq!(from, hello());
        assert_eq!(format!("{decoded:?}"), format!("{:?}", frames()));
    }

    #[test]
    fn a_body_that_is_cut_anywhere_is_shorter_by_whole_frames_or_refused() {
        let body = body();
        let whole = frames().len();
        for end in 0..body.len() {
            if let Ok((_, frames)) = decode(body.slice(..end)) {
                assert!(frames.len() < whole);
            }
        }
    }

    #[test]
    fn a_record_that_changed_on_its_way_is_refused() {
        let mut bytes = encode(&hello(), &frames()[3..4]).concat();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        assert!(decode(bytes.into()).is_err());
    }

    #[test]
    fn beacons_survive_their_bytes() {
        let attachment = |epoch, is_whole| Attachment {
            key: KEY,
            epoch: Epoch(epoch),
            session: 4,
            is_whole,
        };
        let beacon = Beacon {
            hello: hello(),
            echo: 7,
            attachments: vec![attachment(1, true), attachment(3, false)],
        };
        let body = Bytes::from(encode_beacon(&hello(), 7, &beacon.attachments));
        assert_eq!(decode_beacon(body.clone()).unwrap(), beacon);
        assert!(decode_beacon(body.slice(..body.len() - 1)).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_frames_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = decode(bytes.clone().into());
            let _ = decode_beacon(bytes.into());
        }
    }
}
