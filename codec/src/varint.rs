//! Variable Byte Integers, MQTT 5 section 1.5.5 (3.1.1 section 2.2.3).

use crate::DecodeError;

/// The largest Variable Byte Integer, hence the largest Remaining Length, in bytes.
pub const REMAINING_LENGTH_MAX: u32 = 268_435_455;

const BYTES_MAX: usize = 4;

/// Reads a Variable Byte Integer off the front: its value and how many bytes it takes, or `None`
/// while its last byte is not there. A longer form than necessary is an error in every version
/// [MQTT-1.5.5-1].
#[inline]
pub(crate) fn decode(input: &[u8]) -> Result<Option<(u32, u32)>, DecodeError> {
    match *input {
        [low, ..] if low < 0x80 => Ok(Some((u32::from(low), 1))),
        [low, high @ 1..0x80, ..] => Ok(Some((u32::from(low & 0x7f) | u32::from(high) << 7, 2))),
        _ => decode_long(input),
    }
}

#[cold]
fn decode_long(input: &[u8]) -> Result<Option<(u32, u32)>, DecodeError> {
    let mut value = 0;
    for (bytes, &byte) in (1..).zip(input.iter().take(BYTES_MAX)) {
        value |= u32::from(byte & 0x7f) << (7 * (bytes - 1));
        if byte < 0x80 {
            let minimal = byte != 0 || bytes == 1;
            return if minimal { Ok(Some((value, bytes))) } else { Err(DecodeError::VarIntInvalid) };
        }
    }
    if input.len() < BYTES_MAX { Ok(None) } else { Err(DecodeError::VarIntInvalid) }
}

/// How many bytes `value` takes.
#[inline]
pub(crate) const fn encoded_len(value: u32) -> usize {
    match value {
        0..0x80 => 1,
        0x80..0x4000 => 2,
        0x4000..0x20_0000 => 3,
        0x20_0000.. => 4,
    }
}

/// The bytes of `value`, and how many of them count.
///
/// Panics above [`REMAINING_LENGTH_MAX`]: what we encode is ours to bound.
#[inline]
pub(crate) fn encode(value: u32) -> ([u8; BYTES_MAX], usize) {
    assert!(value <= REMAINING_LENGTH_MAX, "a length of {value} cannot be encoded");
    let group = |i: u32| (value >> (7 * i)) as u8 & 0x7f;
    // Spelled out, since a loop costs more than all the rest of a small packet's header.
    match encoded_len(value) {
        1 => ([group(0), 0, 0, 0], 1),
        2 => ([group(0) | 0x80, group(1), 0, 0], 2),
        3 => ([group(0) | 0x80, group(1) | 0x80, group(2), 0], 3),
        _ => ([group(0) | 0x80, group(1) | 0x80, group(2) | 0x80, group(3)], 4),
    }
}
