//! Where a session is.

use crate::error::ConnectError;

/// Where a session is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Status {
    /// No connection, and none is tried: not yet, or not any more.
    #[default]
    Idle,
    /// A connection is being opened, or its CONNACK awaited.
    Connecting,
    /// The broker accepted the connection; subscriptions are being made.
    Connected,
    /// Connected, and every subscription is back.
    Ready,
    /// No connection; the next try is planned.
    Waiting,
    /// Disconnected by the program.
    Disconnected,
    /// Given up: the broker's refusal is final, or reconnecting is switched off.
    Failed,
    /// Removed from its manager.
    Removed,
}

impl Status {
    /// Its number in metrics.
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::Idle => 0,
            Self::Connecting => 1,
            Self::Connected => 2,
            Self::Ready => 3,
            Self::Waiting => 4,
            Self::Disconnected => 5,
            Self::Failed => 6,
            Self::Removed => 7,
        }
    }

    /// Whether the broker has accepted the session's connection.
    pub fn is_connected(self) -> bool {
        match self {
            Self::Connected | Self::Ready => true,
            Self::Idle
            | Self::Connecting
            | Self::Waiting
            | Self::Disconnected
            | Self::Failed
            | Self::Removed => false,
        }
    }
}

/// What happened to a session, as its core tells it. The manager makes [`crate::Status`]es, events and metrics
/// of it.
#[derive(Clone, Debug)]
pub(crate) enum Happening {
    /// A connection to the address with this index is being opened.
    Connecting { address: usize },
    /// CONNACK came.
    Connected { address: usize, session_present: bool },
    /// Every subscription is (again) acknowledged by the broker.
    Ready,
    /// The connection ended, or did not come about; `retry_ms` from now it is tried again, for the
    /// `attempt`th time since the last that worked.
    Lost { why: ConnectError, retry: Option<Retry> },
    /// The program ended it.
    Disconnected,
    /// Gone for good: what was under way is settled, nothing of the session is left in its core.
    Removed,
}

/// When a connection is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Retry {
    /// From 1.
    pub attempt: u32,
    /// From now.
    pub delay_ms: u64,
}
