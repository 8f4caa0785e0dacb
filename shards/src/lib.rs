//! The thread-per-core runtime that drives a [`ringmq_turn::Core`] on each CPU, with real sockets.
//!
//! [`start`] runs one glommio executor per shard, pinned to a CPU. Each drives its core in turns over a
//! ring of its own: multishot accept and receive into a ring of provided buffers, at most one send per
//! connection and turn, file syncs, and lanes to the other shards.
//!
//! Connections are accepted on TCP ports and Unix sockets ([`ListenerConfig`]), or opened to far ends that a
//! [`Handle`] made known ([`Peer`]). TLS and WebSocket may lie between a socket and the core, which sees
//! neither.
//!
//! invariant: nothing here knows MQTT. invariant: unsafe code lives in `ring`, `buffers`, `lane` and
//! `sys`, behind safe types.
#![allow(unexpected_cfgs, reason = "`--cfg ringmq_loom` models the lock-free parts, see `lane`")]

mod accept;
mod bell;
mod buffers;
mod config;
mod conn;
mod dial;
mod driver;
mod ending;
mod error;
mod flight;
mod lane;
mod layers;
mod listen;
mod mesh;
mod peer;
mod probe;
mod receive;
mod resolver;
mod ring;
mod route;
mod runtime;
mod send;
mod shard;
mod shared;
mod socket;
mod sys;
mod tls;
mod unix;
mod wrapped;

pub use crate::config::{ListenAddress, ListenerConfig, RuntimeConfig, UnixListener};
pub use crate::error::{Full, RingError, ShardFailure, StartError};
pub use crate::peer::{Peer, PeerAddress, WebSocketPath};
pub use crate::probe::{Check, Verdict, probe};
pub use crate::runtime::{Runtime, ShutdownReport, start};
pub use crate::shared::Handle;
pub use crate::tls::{ClientCertificate, ClientTls, ClientTlsFiles, ServerTls, TlsError, TlsFiles};
