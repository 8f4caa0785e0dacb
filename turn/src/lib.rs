//! The contract between a core and its driver.
//!
//! A [`Core`] is one shard's logic as a function: it is told what happened (a connection opened, bytes
//! arrived, a message came from another shard) and answers into an [`Io`], a plain struct of buffers. A
//! driver feeds it and carries out the answers: `ringmq-shards` with real sockets on pinned cores,
//! `ringmq-sim` with a seeded network and clock in one thread.
//!
//! Life runs in turns. All that arrives in a turn is handed to the core first, then
//! [`Core::turn_over`] is called once, then the driver writes out what the [`Io`] holds.
//!
//! invariant: nothing in this crate performs I/O, reads a clock or knows MQTT.
#![forbid(unsafe_code)]

mod core;
mod grow;
mod ids;
mod io;
mod outbox;
mod slab;
mod wheel;

pub use crate::core::{
    CloseReason, ConnInfo, ConnectFailure, ConnectFailureKind, Core, SyncFailure, TransportFault, TurnedAway,
};
pub use crate::grow::make_room_for;
pub use crate::ids::{
    ConnId, ConnectTicket, ListenerId, Now, PeerId, SHARDS_MAX, ShardId, ShardSet, SyncTicket,
};
pub use crate::io::{Dial, HandOver, Io, ReadSwitch, SyncRequest};
pub use crate::outbox::{Outbox, SharedPiece};
pub use crate::slab::{Chunks, NONE, Slab};
pub use crate::wheel::{TimerId, Wheel};
