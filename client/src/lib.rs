//! A multi-session MQTT client.
//!
//! A [`Manager`](crate) runs any number of named sessions for one program, on I/O threads of its own: the
//! thread-per-core runtime that the broker runs on. Every call may be made from any thread, with or without
//! an async runtime, and from within handlers.
//!
//! - `machine` is one session's side of the protocol, without I/O; `host` is the [`ringmq_turn::Core`] that
//!   runs many of them on one thread.
//! - `link` is what the program's handles and the I/O threads share.
//! - [`store`] is where sessions keep what must outlive a connection or the process.
//! - the rest is what a program calls.
//!
//! invariant: no code of the program's runs on an I/O thread, but for an [`Authenticator`]'s.
#![forbid(unsafe_code)]

mod address;
pub mod auth;
mod builder;
mod delivery;
mod dispatch;
mod error;
mod events;
mod far_ends;
mod forward;
mod gate;
mod hooks;
mod host;
mod inbox;
mod link;
mod machine;
mod manager;
mod message;
mod metrics;
mod options;
#[doc(hidden)]
pub mod parts;
mod request;
mod routes;
mod session;
mod slot;
mod status;
pub mod store;
#[cfg(test)]
mod testing;
mod threads;
mod tls;

pub use auth::{AuthError, Authenticator, Credentials, CredentialsProvider, Exchange};
pub use builder::SessionBuilder;
pub use delivery::Delivery;
pub use error::{ConnectError, Error, is_temporary, is_timeout};
pub use events::{Event, EventKind, Events};
pub use forward::{
    DropReason, FailReason, Filter, ForwardQos, ForwardRetain, Forwarder, ForwarderBuilder, ForwarderStats,
    LoopGuard, Source, Transform, TransformError,
};
pub use inbox::RecvError;
pub use link::Overflow;
pub use manager::{AllReady, Manager, WeakManager};
pub use message::{Message, MessageProperties, Received, Topic};
pub use metrics::{Counts, ManagerMetrics, Metrics, Rates};
pub use options::{Backoff, LostSession, Will};
pub use request::{REQUESTS_MAX, RequestStats, Responder};
pub use ringmq_codec::{PacketId, QoS, ReasonCode, RetainHandling, SubscriptionOptions, Version};
pub use routes::{Listener, Messages, Route, RouteOptions};
pub use session::{Session, SessionReady};
pub use status::Status;
pub use threads::ManagerBuilder;
pub use tls::Tls;

/// For fuzzing: what a server may send, through a session's receive path.
#[doc(hidden)]
pub mod fuzzing {
    pub use crate::machine::fuzzing::receive;
}
