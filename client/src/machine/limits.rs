//! Every bound of a session's machine.

use ringmq_codec::REMAINING_LENGTH_MAX;

use crate::link::PUBLICATION_IDS;

/// Filters in one SUBSCRIBE or UNSUBSCRIBE.
pub(super) const FILTERS_A_PACKET_MAX: usize = 512;
/// Bytes of one SUBSCRIBE or UNSUBSCRIBE where the server allows more. One filter may exceed it.
pub(super) const ASK_BYTES_MAX: usize = 64 * 1024;
/// SUBSCRIBE and UNSUBSCRIBE packets that are not answered.
pub(super) const ASKED_PACKETS_MAX: usize = 64;
/// Bytes of a payload from which it is referenced instead of being copied.
pub(super) const SHARED_PAYLOAD_BYTES_MIN: usize = 4096;
/// The most that a partial packet's buffer grows ahead of the bytes that came.
pub(super) const CARRY_AHEAD_BYTES_MAX: usize = 64 * 1024;
/// The largest packet that MQTT can say.
pub(super) const PACKET_BYTES_MAX: u32 = REMAINING_LENGTH_MAX + 5;
/// Bytes of a string, or of binary data, in a packet.
pub(super) const FIELD_BYTES_MAX: usize = 65_535;
/// How long expired messages may stay in the queue of a session that cannot send.
pub(super) const EXPIRY_TICK_MS: u64 = 1_000;

const _: () = assert!(ASKED_PACKETS_MAX < (u16::MAX - PUBLICATION_IDS) as usize);
