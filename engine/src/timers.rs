//! What a shard does at a time to come.

use ringmq_turn::ConnId;

use crate::session::SessionKey;

/// One thing to do later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Timer {
    /// A connection has had its time to send CONNECT.
    ConnectDeadline(ConnId),
    /// A client may have been silent for too long.
    KeepAlive(ConnId),
    /// A session's client has been away for the Session Expiry Interval.
    SessionExpiry(SessionKey),
    /// A will has been delayed long enough.
    WillDelay(SessionKey),
    /// The `$SYS` topics are due.
    Figures,
}

/// The whole seconds that are left of a message's life, rounded up; none for a message that lives for
/// ever. [MQTT-3.3.2-6]
pub(crate) fn remaining_s(expires_at_ms: u64, wall_ms: u64) -> Option<u32> {
    if expires_at_ms == 0 {
        return None;
    }
    Some(u32::try_from(expires_at_ms.saturating_sub(wall_ms).div_ceil(1000)).unwrap_or(u32::MAX))
}

/// When a message with this Message Expiry Interval expires, on the wall clock; 0 for never.
pub(crate) fn expires_at_ms(message_expiry_s: Option<u32>, wall_ms: u64) -> u64 {
    message_expiry_s.map_or(0, |seconds| wall_ms + u64::from(seconds) * 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_of_a_life_is_forwarded() {
        assert_eq!(remaining_s(0, 5), None);
        let at = expires_at_ms(Some(10), 1_000);
        assert_eq!(remaining_s(at, 1_000), Some(10));
        assert_eq!(remaining_s(at, 4_500), Some(7));
        assert_eq!(remaining_s(at, 99_000), Some(0));
    }
}
