//! What a forwarder may be told to do, and what it tells of itself.

use std::fmt;

use ringmq_codec::QoS;

/// The user property that counts the forwarders on a message's way.
pub(super) const HOPS_PROPERTY: &str = "mqtt-forwarder-hops";
/// The user property that names the session that received a message.
pub(super) const SOURCE_PROPERTY: &str = "mqtt-forwarder-source";
/// The user property that holds the topic that a message was received with.
pub(super) const TOPIC_PROPERTY: &str = "mqtt-forwarder-topic";
/// The user property that says when a message was received: milliseconds since 1970.
pub(super) const RECEIVED_PROPERTY: &str = "mqtt-forwarder-received-ms";

/// At which QoS messages go on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ForwardQos {
    /// As each was received.
    #[default]
    AsReceived,
    /// As each was received, but not above this.
    AtMost(QoS),
    /// All at this.
    Always(QoS),
}

impl ForwardQos {
    pub(super) fn of(self, received: QoS) -> QoS {
        match self {
            Self::AsReceived => received,
            Self::AtMost(most) => received.min(most),
            Self::Always(qos) => qos,
        }
    }
}

/// What becomes of the RETAIN flag.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ForwardRetain {
    /// It stays as its publisher set it (MQTT 5: the sources are subscribed with Retain As Published; MQTT 3: it is
    /// set on messages that were retained when the source subscribed).
    #[default]
    AsReceived,
    /// It is cleared.
    Never,
    /// It is set.
    Always,
}

/// What keeps messages from going round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoopGuard {
    /// Forwarders on a message's way are counted in a user property of it, and one that has passed so many is dropped.
    /// Needs MQTT 5 on both sides. Where a session speaks MQTT 3, a topic map that feeds itself is refused, as far as
    /// it can be seen: source and target with an address in common.
    Hops(u8),
    /// Topics that begin with this are what forwarders made: they are not forwarded. What this one sends must begin
    /// with it. For MQTT 3, where messages carry no properties.
    TopicPrefix(String),
    /// Nothing: the program knows that there is no way back.
    Off,
}

impl Default for LoopGuard {
    fn default() -> Self {
        Self::Hops(8)
    }
}

/// Why a message was not forwarded although nothing failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DropReason {
    /// A filter refused it.
    Filtered,
    /// The topic map has no rule for its topic.
    Unmapped,
    /// It has gone round, by the [`LoopGuard`].
    Loop,
    /// The buffer was full, and its policy is to drop.
    Overflow,
    /// Its life ended while it waited.
    Expired,
}

/// Why a message could not be forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FailReason {
    /// A transform failed.
    Transform,
    /// A filter or transform panicked.
    Panic,
    /// The topic that it would have is not under the [`LoopGuard`]'s prefix.
    Prefix,
    /// It is larger than a target takes.
    TooLarge,
    /// A target broker refused it.
    Refused,
    /// A target session was removed, or failed otherwise. A QoS 1 or 2 message is not
    /// acknowledged then: the source broker sends it again on the source's next connection.
    Target,
}

macro_rules! reasons {
    ($type:ident: $($reason:ident = $label:literal,)*) => {
        impl $type {
            /// Every reason.
            pub const ALL: &[Self] = &[$(Self::$reason,)*];

            /// Its name, as a label of metrics.
            pub fn label(self) -> &'static str {
                match self {
                    $(Self::$reason => $label,)*
                }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.label())
            }
        }
    };
}

reasons! { DropReason:
    Filtered = "filtered",
    Unmapped = "unmapped",
    Loop = "loop",
    Overflow = "overflow",
    Expired = "expired",
}

reasons! { FailReason:
    Transform = "transform",
    Panic = "panic",
    Prefix = "prefix",
    TooLarge = "too_large",
    Refused = "refused",
    Target = "target",
}

/// Counts of a forwarder since it was made.
///
/// invariant: received = sent + dropped + failed + in progress.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ForwarderStats {
    /// Messages that came from the sources.
    pub received: u64,
    /// Messages that every target broker has (QoS 0: that were written to every target).
    pub sent: u64,
    /// Messages that wait in the buffer.
    pub buffered: u64,
    /// Messages that were taken from the buffer and are not yet with every target.
    pub under_way: u64,
    pub(super) dropped: [u64; DropReason::ALL.len()],
    pub(super) failed: [u64; FailReason::ALL.len()],
}

impl ForwarderStats {
    /// Messages that were dropped for this reason.
    pub fn dropped_for(&self, reason: DropReason) -> u64 {
        self.dropped[reason as usize]
    }

    /// Messages that failed for this reason.
    pub fn failed_for(&self, reason: FailReason) -> u64 {
        self.failed[reason as usize]
    }

    /// Messages that were dropped.
    pub fn dropped(&self) -> u64 {
        self.dropped.iter().sum()
    }

    /// Messages that failed.
    pub fn failed(&self) -> u64 {
        self.failed.iter().sum()
    }

    /// Messages whose fate is open; 0 when stopped and drained.
    pub fn in_progress(&self) -> u64 {
        self.buffered + self.under_way
    }

    pub(super) fn check(&self) {
        let known = self.sent + self.dropped() + self.failed() + self.in_progress();
        assert_eq!(self.received, known, "every message that was received has one fate: {self:?}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_index_their_counts() {
        for (index, reason) in DropReason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, index);
        }
        for (index, reason) in FailReason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, index);
        }
    }

    #[test]
    fn qos() {
        use QoS::{AtLeastOnce, AtMostOnce, ExactlyOnce};
        for (rule, received, expected) in [
            (ForwardQos::AsReceived, ExactlyOnce, ExactlyOnce),
            (ForwardQos::AtMost(AtLeastOnce), ExactlyOnce, AtLeastOnce),
            (ForwardQos::AtMost(AtLeastOnce), AtMostOnce, AtMostOnce),
            (ForwardQos::Always(AtLeastOnce), AtMostOnce, AtLeastOnce),
        ] {
            assert_eq!(rule.of(received), expected, "{rule:?} {received:?}");
        }
    }
}
