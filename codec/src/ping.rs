//! PINGREQ and PINGRESP, MQTT 5 sections 3.12 and 3.13: a fixed header and nothing else.

use crate::frame::{Frame, PacketType};
use crate::{DecodeError, wire::Reader};

/// Appends a PINGREQ.
#[inline]
pub fn encode_pingreq(out: &mut Vec<u8>) {
    out.extend_from_slice(&[PacketType::PingReq.first(), 0]);
}

/// Appends a PINGRESP [MQTT-3.12.4-1].
#[inline]
pub fn encode_pingresp(out: &mut Vec<u8>) {
    out.extend_from_slice(&[PacketType::PingResp.first(), 0]);
}

/// Checks that a PINGREQ or PINGRESP is empty.
#[inline]
pub(crate) fn decode(frame: &Frame<'_>) -> Result<(), DecodeError> {
    frame.expect_flags(0)?;
    Reader::new(frame.body).finish()
}
