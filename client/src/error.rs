//! What can go wrong.

use std::error::Error as StdError;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use ringmq_codec::ReasonCode;
use ringmq_turn::{ConnectFailure, ConnectFailureKind};

use crate::auth::AuthError;
use crate::store::StoreError;

/// Why a session has no connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// The far end could not be reached, or a layer below MQTT failed.
    #[error("{address}: {}", .failure.detail)]
    Transport {
        /// The broker's address as it was given.
        address: Box<str>,
        /// What failed.
        failure: ConnectFailure,
    },
    /// Nothing came back in time.
    #[error("{address}: no {waited_for} within {} s", .after.as_secs_f32())]
    TimedOut {
        /// The broker's address as it was given.
        address: Box<str>,
        /// What did not come.
        waited_for: &'static str,
        /// How long was waited.
        after: Duration,
    },
    /// The broker refused the CONNECT.
    #[error("{address}: the broker refused: {reason}{}", quoted(.said))]
    Refused {
        /// The broker's address as it was given.
        address: Box<str>,
        /// Its reason; of MQTT 3 the MQTT 5 code that means the same.
        reason: ReasonCode,
        /// Its Reason String, if any.
        said: Option<Box<str>>,
        /// Another server that it named (MQTT 5 section 4.11), if any.
        server_reference: Option<Box<str>>,
    },
    /// The broker ended the connection with a DISCONNECT.
    #[error("the broker disconnected: {reason}{}", quoted(.said))]
    Disconnected {
        /// Its reason.
        reason: ReasonCode,
        /// Its Reason String, if any.
        said: Option<Box<str>>,
        /// Another server that it named (MQTT 5 section 4.11), if any.
        server_reference: Option<Box<str>>,
    },
    /// The connection ended without a word.
    #[error("the connection was lost")]
    Lost,
    /// The broker did not answer a PINGREQ in time.
    #[error("the broker did not answer a ping within {} s", .after.as_secs_f32())]
    Unresponsive {
        /// How long was waited.
        after: Duration,
    },
    /// The peer took nothing of what was sent.
    #[error("the broker took nothing of what was sent for {} s", .after.as_secs_f32())]
    WriteTimedOut {
        /// How long was waited.
        after: Duration,
    },
    /// The broker broke the protocol.
    #[error("the broker broke the protocol: {0}")]
    Protocol(Box<str>),
    /// Authentication failed on this side: no credentials, or the server did not prove itself.
    #[error("authentication failed: {0}")]
    Auth(#[from] AuthError),
    /// The session's store failed, so that nothing may be acknowledged.
    #[error("the session's store failed: {0}")]
    Store(Box<str>),
}

fn because(last: &Option<Box<ConnectError>>) -> String {
    last.as_ref().map_or_else(String::new, |last| format!("; at last: {last}"))
}

fn quoted(text: &Option<Box<str>>) -> String {
    text.as_ref().map_or_else(String::new, |text| format!(" ({text})"))
}

impl ConnectError {
    /// Whether trying again may help without anybody changing anything.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Transport { failure, .. } => match failure.kind {
                ConnectFailureKind::Unresolved
                | ConnectFailureKind::Refused
                | ConnectFailureKind::Unreachable
                | ConnectFailureKind::Closed
                | ConnectFailureKind::Exhausted => true,
                ConnectFailureKind::Transport(_) => false,
            },
            Self::Refused { reason, .. } | Self::Disconnected { reason, .. } => reason_is_temporary(*reason),
            Self::TimedOut { .. }
            | Self::Lost
            | Self::Unresponsive { .. }
            | Self::WriteTimedOut { .. }
            | Self::Store(_) => true,
            Self::Protocol(_) | Self::Auth(_) => false,
        }
    }

    /// Whether time ran out.
    pub fn is_timeout(&self) -> bool {
        matches!(self, Self::TimedOut { .. } | Self::Unresponsive { .. } | Self::WriteTimedOut { .. })
    }
}

fn reason_is_temporary(reason: ReasonCode) -> bool {
    matches!(
        reason,
        ReasonCode::ServerUnavailable
            | ReasonCode::ServerBusy
            | ReasonCode::ServerShuttingDown
            | ReasonCode::KeepAliveTimeout
            | ReasonCode::ReceiveMaximumExceeded
            | ReasonCode::MessageRateTooHigh
            | ReasonCode::QuotaExceeded
            | ReasonCode::ConnectionRateExceeded
            | ReasonCode::MaximumConnectTime
            | ReasonCode::UseAnotherServer
            | ReasonCode::UnspecifiedError
            | ReasonCode::ImplementationSpecificError
    )
}

/// What can go wrong in a call.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// An address, option, topic or filter that was given makes no sense.
    #[error("{what} {given:?} is not accepted: {remedy}")]
    Invalid {
        /// What it was to be.
        what: &'static str,
        /// What was given.
        given: String,
        /// What to write instead.
        remedy: String,
    },
    /// A session of this name exists.
    #[error("a session named {0:?} exists already: remove it first, or choose another name")]
    NameTaken(String),
    /// No session has this name.
    #[error("there is no session named {0:?}")]
    NoSession(String),
    /// The session was removed, or the manager shut down.
    #[error("the session is gone")]
    Gone,
    /// The session holds as many messages as it may.
    #[error(
        "the session holds {held} messages that wait to be sent, as many as it may: wait, or raise the bound"
    )]
    Full {
        /// How many.
        held: usize,
    },
    /// The message is larger than the broker, or this session, allows.
    #[error("the message makes a packet of {bytes} bytes, more than the {bytes_max} that are allowed")]
    TooLarge {
        /// Bytes of the packet.
        bytes: usize,
        /// Bytes allowed.
        bytes_max: usize,
    },
    /// Time ran out; the work may still complete.
    #[error("not done within {} s", .0.as_secs_f32())]
    TimedOut(Duration),
    /// The session, or one of those waited for, is not ready in time.
    #[error("not ready within {} s{}", .after.as_secs_f32(), because(.last))]
    NotReady {
        /// How long was waited.
        after: Duration,
        /// What last went wrong with its connection, if anything did.
        last: Option<Box<ConnectError>>,
    },
    /// The broker refused a message, a subscription, or its end.
    #[error("the broker refused: {0}")]
    Refused(ReasonCode),
    /// The message's life ended before it was sent.
    #[error("the message expired before it could be sent")]
    Expired,
    /// The broker lost the session, and with it what was under way; see [`crate::LostSession`].
    #[error("the broker lost the session: whether the message arrived is not known")]
    SessionLost,
    /// The session's connection.
    #[error("{0}")]
    Connect(#[from] ConnectError),
    /// The session's store.
    #[error("the session's store: {0}")]
    Store(#[from] StoreError),
    /// The I/O threads could not start, or failed.
    #[error("{0}")]
    Runtime(String),
    /// TLS files.
    #[error("{0}")]
    Tls(String),
}

impl Error {
    /// Whether trying again may help without anybody changing anything.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Full { .. } | Self::TimedOut(_) | Self::NotReady { .. } => true,
            Self::Refused(reason) => reason_is_temporary(*reason),
            Self::Connect(error) => error.is_temporary(),
            Self::Store(error) => error.is_temporary(),
            Self::Invalid { .. }
            | Self::NameTaken(_)
            | Self::NoSession(_)
            | Self::Gone
            | Self::TooLarge { .. }
            | Self::Expired
            | Self::SessionLost
            | Self::Runtime(_)
            | Self::Tls(_) => false,
        }
    }

    /// Whether time ran out.
    pub fn is_timeout(&self) -> bool {
        match self {
            Self::TimedOut(_) | Self::NotReady { .. } => true,
            Self::Connect(error) => error.is_timeout(),
            Self::Full { .. }
            | Self::Refused(_)
            | Self::Invalid { .. }
            | Self::NameTaken(_)
            | Self::NoSession(_)
            | Self::Gone
            | Self::TooLarge { .. }
            | Self::Expired
            | Self::SessionLost
            | Self::Store(_)
            | Self::Runtime(_)
            | Self::Tls(_) => false,
        }
    }
}

/// The first error of ours in a chain of causes, and what it says of itself.
fn ask(
    error: &(dyn StdError + 'static),
    ours: fn(&Error) -> bool,
    theirs: fn(&ConnectError) -> bool,
    store: fn(&StoreError) -> bool,
) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<Error>() {
            return ours(error);
        }
        if let Some(error) = error.downcast_ref::<ConnectError>() {
            return theirs(error);
        }
        if let Some(error) = error.downcast_ref::<StoreError>() {
            return store(error);
        }
        if let Some(error) = error.downcast_ref::<Box<Error>>() {
            return ours(error);
        }
        if let Some(error) = error.downcast_ref::<Arc<Error>>() {
            return ours(error);
        }
        // An I/O error's source is that of what it wraps, and not what it wraps.
        let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = wrapped.map(|inner| inner as &(dyn StdError + 'static)).or_else(|| error.source());
    }
    false
}

/// Whether an error, through any wrapping, is one of this crate's that trying again may cure.
pub fn is_temporary(error: &(dyn StdError + 'static)) -> bool {
    ask(error, Error::is_temporary, ConnectError::is_temporary, StoreError::is_temporary)
}

/// Whether an error, through any wrapping, is one of this crate's that says that time ran out.
pub fn is_timeout(error: &(dyn StdError + 'static)) -> bool {
    ask(error, Error::is_timeout, ConnectError::is_timeout, |_| false)
}
