//! Connections that a transport ended, counted by reason.
//!
//! Below the bytes that an engine sees may lie TLS and WebSocket. What their peers do wrong is the driver's to
//! see and ours to count.

use ringmq_storage::Log;
use ringmq_turn::{CloseReason, ConnId, ListenerId, TransportFault, TurnedAway};

use crate::{Engine, EngineIo};

/// The place of a reason among [`TransportEnds::REASONS`].
fn place(why: TurnedAway) -> usize {
    match why {
        TurnedAway::TimedOut => 0,
        TurnedAway::Gone => 1,
        TurnedAway::Fault(TransportFault::NotTls) => 2,
        TurnedAway::Fault(TransportFault::TlsHandshake) => 3,
        TurnedAway::Fault(TransportFault::Certificate) => 4,
        TurnedAway::Fault(TransportFault::TlsRecord) => 5,
        TurnedAway::Fault(TransportFault::NotWebSocket) => 6,
        TurnedAway::Fault(TransportFault::Subprotocol) => 7,
        TurnedAway::Fault(TransportFault::FrameTooLarge) => 8,
        TurnedAway::Fault(TransportFault::FrameText) => 9,
        TurnedAway::Fault(TransportFault::WebSocketFrame) => 10,
    }
}

/// How many connections the transports ended, by reason. They only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TransportEnds([u64; 11]);

impl TransportEnds {
    /// Every reason and its name in metrics and topics, in the order of their counters.
    pub const REASONS: [(TurnedAway, &str); 11] = [
        (TurnedAway::TimedOut, "timed_out"),
        (TurnedAway::Gone, "gone"),
        (TurnedAway::Fault(TransportFault::NotTls), "not_tls"),
        (TurnedAway::Fault(TransportFault::TlsHandshake), "tls_handshake"),
        (TurnedAway::Fault(TransportFault::Certificate), "certificate"),
        (TurnedAway::Fault(TransportFault::TlsRecord), "tls_record"),
        (TurnedAway::Fault(TransportFault::NotWebSocket), "not_websocket"),
        (TurnedAway::Fault(TransportFault::Subprotocol), "subprotocol"),
        (TurnedAway::Fault(TransportFault::FrameTooLarge), "frame_too_large"),
        (TurnedAway::Fault(TransportFault::FrameText), "frame_text"),
        (TurnedAway::Fault(TransportFault::WebSocketFrame), "websocket_frame"),
    ];

    /// One more was ended.
    pub fn count(&mut self, why: TurnedAway) {
        self.0[place(why)] += 1;
    }

    /// How many were ended for a reason.
    pub fn of(&self, why: TurnedAway) -> u64 {
        self.0[place(why)]
    }

    /// Every reason's name and its count.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Self::REASONS.iter().map(|(why, name)| (*name, self.of(*why)))
    }

    /// Adds another shard's counters.
    pub fn add(&mut self, other: &Self) {
        for (total, more) in self.0.iter_mut().zip(other.0) {
            *total += more;
        }
    }
}

impl<L: Log> Engine<L> {
    /// An accepted connection was ended before it opened.
    pub(crate) fn on_turned_away(&mut self, _: ListenerId, why: TurnedAway) {
        self.traffic.transport_ends.count(why);
    }

    /// A connection is gone, and its session hears of that however it came.
    pub(crate) fn on_gone(&mut self, id: ConnId, reason: CloseReason, io: &mut EngineIo) {
        match reason {
            CloseReason::PeerClosed | CloseReason::Broken => {}
            CloseReason::Transport(fault) => self.traffic.transport_ends.count(TurnedAway::Fault(fault)),
        }
        self.on_closed(id, io);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_counter_of_its_own() {
        for (at, (why, _)) in TransportEnds::REASONS.iter().enumerate() {
            assert_eq!(place(*why), at, "{why:?}");
        }
    }
}
