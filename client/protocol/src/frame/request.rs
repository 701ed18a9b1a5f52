//! Taking a request apart, without copying: headers are checked here, values against the model by the server.

use super::{
    header::{GroupHeader, Kind, Op, RequestHeader},
    section::Section,
};
use crate::{
    error::{ErrorBody, ErrorCode},
    ids::Incarnation,
};

/// A request as it lies in a body. Its groups' sections are checked one group at a time, by [`Group::sections`], so that
/// a bad section spoils its group only.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// Its header.
    pub header: RequestHeader,
    /// Its groups, in order.
    pub groups: Vec<Group<'a>>,
}

/// A group as it lies in a body.
#[derive(Clone, Copy, Debug)]
pub struct Group<'a> {
    /// Its header.
    pub header: GroupHeader,
    /// All its sections.
    pub bytes: &'a [u8],
}

fn malformed(message: impl Into<String>) -> ErrorBody {
    ErrorBody::new(ErrorCode::BadRequest, message)
}

impl<'a> Request<'a> {
    /// Takes a whole body apart into groups.
    ///
    /// # Errors
    /// `bad_request` or `unsupported_protocol` when the frame itself is broken; nothing of it may be used then.
    pub fn parse(body: &'a [u8], expected: Kind) -> Result<Self, ErrorBody> {
        let header = RequestHeader::decode(body)?;
        if header.kind != expected {
            return Err(malformed(format!(
                "a {} was sent to the path of a {}",
                header.kind.name(),
                expected.name()
            )));
        }
        if header.kind == Kind::Push && header.number.0 == 0 {
            return Err(malformed(
                "a push has number 0; numbers of a lane start at 1",
            ));
        }
        let mut rest = &body[RequestHeader::SIZE..];
        let mut groups =
            Vec::with_capacity((header.groups as usize).min(rest.len() / GroupHeader::SIZE));
        for index in 0..header.groups {
            let group = GroupHeader::decode(rest).map_err(|e| {
                malformed(format!("group {index} of {}: {}", header.groups, e.message))
            })?;
            if (group.op == Op::Pull) != (header.kind == Kind::Pull) {
                return Err(malformed(format!(
                    "group {index} is no group of a {}",
                    header.kind.name()
                )));
            }
            let (bytes, after) = rest[GroupHeader::SIZE..]
                .split_at_checked(group.length as usize)
                .ok_or_else(|| {
                    malformed(format!(
                        "group {index} declares {} bytes of sections; the body has fewer",
                        group.length
                    ))
                })?;
            groups.push(Group {
                header: group,
                bytes,
            });
            rest = after;
        }
        if !rest.is_empty() {
            return Err(malformed(format!(
                "{} bytes follow the last of {} groups",
                rest.len(),
                header.groups
            )));
        }
        Ok(Self { header, groups })
    }
}

impl<'a> Group<'a> {
    /// Its sections, each checked for its own lengths.
    ///
    /// # Errors
    /// `bad`, saying what does not fit.
    pub fn sections(&self) -> Result<Vec<Section<'a>>, ErrorBody> {
        let Some(element) = self.header.element else {
            return if self.bytes.is_empty() && self.header.sections == 0 {
                Ok(Vec::new())
            } else {
                Err(ErrorBody::new(
                    ErrorCode::Bad,
                    "a skip has sections; it changes no value",
                ))
            };
        };
        let mut sections = Vec::with_capacity(self.header.sections.into());
        let mut rest = self.bytes;
        for index in 0..self.header.sections {
            let (section, after) =
                Section::split(rest, self.header.op, element).map_err(|mut e| {
                    e.message = format!("section {index}: {}", e.message);
                    e
                })?;
            sections.push(section);
            rest = after;
        }
        if rest.is_empty() {
            return Ok(sections);
        }
        Err(ErrorBody::new(
            ErrorCode::Bad,
            format!(
                "{} bytes follow the last of {} sections",
                rest.len(),
                self.header.sections
            ),
        ))
    }
}

/// Digest of a push's group: CRC-32C (Castagnoli) over model id, generation and partition (as in the group's header,
/// little-endian) and then the bytes of all sections. It never covers epoch and `prev`, which may differ between two
/// copies of one request. The client computes it and the holder keeps it, to recognise two processes on one lane.
pub fn digest<'a>(
    incarnation: Incarnation,
    partition: u32,
    sections: impl IntoIterator<Item = &'a [u8]>,
) -> u32 {
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
    let mut head = [0; 16];
    head[..8].copy_from_slice(&incarnation.model.0.to_le_bytes());
    head[8..12].copy_from_slice(&incarnation.generation.to_le_bytes());
    head[12..].copy_from_slice(&partition.to_le_bytes());
    digest.update(&head);
    for bytes in sections {
        digest.update(bytes);
    }
    digest.finalize() as u32
}
