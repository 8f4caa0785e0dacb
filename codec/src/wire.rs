//! The data types of MQTT 5 section 1.5, read and written.

use crate::{DecodeError, PacketId, Version, topic, varint};

/// Takes fields off the front of a packet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    #[inline]
    pub(crate) const fn new(input: &'a [u8]) -> Self {
        Self { rest: input }
    }

    /// All that was not yet taken.
    #[inline]
    pub(crate) const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    #[inline]
    pub(crate) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    #[inline]
    pub(crate) fn u8(&mut self) -> Result<u8, DecodeError> {
        let (&value, rest) = self.rest.split_first().ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(value)
    }

    #[inline]
    pub(crate) fn u16(&mut self) -> Result<u16, DecodeError> {
        let (&value, rest) = self.rest.split_first_chunk().ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(u16::from_be_bytes(value))
    }

    #[inline]
    pub(crate) fn u32(&mut self) -> Result<u32, DecodeError> {
        let (&value, rest) = self.rest.split_first_chunk().ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(u32::from_be_bytes(value))
    }

    #[inline]
    pub(crate) fn varint(&mut self) -> Result<u32, DecodeError> {
        let (value, bytes) = varint::decode(self.rest)?.ok_or(DecodeError::Truncated)?;
        self.rest = &self.rest[bytes as usize..];
        Ok(value)
    }

    #[inline]
    pub(crate) fn bytes(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let (bytes, rest) = self.rest.split_at_checked(len).ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(bytes)
    }

    /// Binary Data: a two-byte length and that many bytes.
    #[inline]
    pub(crate) fn binary(&mut self) -> Result<&'a [u8], DecodeError> {
        let len = self.u16()?;
        self.bytes(usize::from(len))
    }

    /// A UTF-8 Encoded String.
    #[inline]
    pub(crate) fn string(&mut self) -> Result<&'a str, DecodeError> {
        topic::check_string(self.binary()?)
    }

    /// A Packet Identifier, which is never 0 [MQTT-2.2.1-3].
    #[inline]
    pub(crate) fn packet_id(&mut self) -> Result<PacketId, DecodeError> {
        PacketId::new(self.u16()?).ok_or(DecodeError::PacketIdZero)
    }

    /// The bytes of a property section, without their length. Before MQTT 5 there is none, and
    /// nothing is taken.
    #[inline]
    pub(crate) fn properties(&mut self, version: Version) -> Result<&'a [u8], DecodeError> {
        match version {
            Version::V31 | Version::V311 => Ok(&[]),
            Version::V5 => {
                let len = self.varint()?;
                self.bytes(len as usize)
            }
        }
    }

    /// Fails if anything is left.
    #[inline]
    pub(crate) const fn finish(&self) -> Result<(), DecodeError> {
        if self.rest.is_empty() { Ok(()) } else { Err(DecodeError::TrailingBytes) }
    }
}

pub(crate) fn put_u16(value: u16, out: &mut Vec<u8>) {
    out.extend_from_slice(&value.to_be_bytes());
}

pub(crate) fn put_u32(value: u32, out: &mut Vec<u8>) {
    out.extend_from_slice(&value.to_be_bytes());
}

pub(crate) fn put_varint(value: u32, out: &mut Vec<u8>) {
    let (bytes, len) = varint::encode(value);
    out.extend_from_slice(&bytes[..len]);
}

/// Appends Binary Data. Panics over 65,535 bytes: what we encode is ours to bound.
pub(crate) fn put_binary(value: &[u8], out: &mut Vec<u8>) {
    let len = u16::try_from(value.len()).expect("a field of MQTT has at most 65,535 bytes");
    put_u16(len, out);
    out.extend_from_slice(value);
}

/// Appends a UTF-8 Encoded String. Panics as [`put_binary`] does.
pub(crate) fn put_string(value: &str, out: &mut Vec<u8>) {
    put_binary(value.as_bytes(), out);
}

/// Appends what `write` writes, behind its length. `following` more bytes count towards that length
/// and are the caller's to append.
pub(crate) fn put_with_length(following: usize, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    write(out);
    let end = out.len();
    let len = u32::try_from(end - start + following).expect("a packet of MQTT has under 2^28 bytes");
    // The length's own size is known only now, so what was written makes room for it.
    let (bytes, bytes_len) = varint::encode(len);
    out.extend_from_slice(&bytes[..bytes_len]);
    out.copy_within(start..end, start + bytes_len);
    out[start..start + bytes_len].copy_from_slice(&bytes[..bytes_len]);
}

/// Appends a property section before the rest of a packet; nothing before MQTT 5 [MQTT-2.2.2-1].
pub(crate) fn put_properties(version: Version, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    if version.is_v5() {
        put_with_length(0, out, write);
    }
}

/// Appends the packet that `full` writes or, where that exceeds `packet_bytes_max`, the one that
/// `lean` writes. Appends nothing and says `false` if that one does not fit either.
pub(crate) fn put_within(
    packet_bytes_max: u32,
    out: &mut Vec<u8>,
    full: impl FnOnce(&mut Vec<u8>),
    lean: impl FnOnce(&mut Vec<u8>),
) -> bool {
    let start = out.len();
    let limit = start.saturating_add(packet_bytes_max as usize);
    full(out);
    if out.len() > limit {
        out.truncate(start);
        lean(out);
    }
    if out.len() > limit {
        out.truncate(start);
        return false;
    }
    true
}
