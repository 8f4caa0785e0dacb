//! Ringmq: a thread-per-core MQTT broker, as a library.
//!
//! [`Broker`] runs a broker inside another program: start it, publish and subscribe without a socket, and
//! stop it. See `docs/embedding.md`, and `examples/embed.rs`:
//!
//! ```no_run
//! use std::time::Duration;
//! use ringmq::{Broker, Message, QoS};
//!
//! let broker = Broker::builder().listen("127.0.0.1:1883".parse()?).shards(1).start()?;
//! let subscription = broker.subscribe("rooms/+/temperature", QoS::AtLeastOnce)?;
//! broker.publish(Message::new("rooms/7/temperature", "21.5"))?.wait(Duration::from_secs(1))?;
//! println!("{}", subscription.recv_timeout(Duration::from_secs(1))?.topic);
//! broker.shutdown(Duration::from_secs(5))?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! invariant: nothing here is on the data path. Shards are reached by commands, and answer by events.
#![forbid(unsafe_code)]

mod broker;
pub mod config;
pub mod doctor;
mod error;
mod system;

pub use broker::{
    Broker, Builder, Message, MessageProperties, Messages, Overflow, PublishError, Publisher, RecvError,
    Reloaded, SubscribeError, SubscribeOptions, Subscribing, Subscription, Ticket, WaitError,
};
pub use error::Error;
/// The multi-session MQTT client.
pub use ringmq_client as client;
pub use ringmq_codec::{QoS, ReasonCode};
pub use ringmq_engine::{Limits, OverflowPolicy};
pub use ringmq_shards::{ShardFailure, ShutdownReport, StartError, TlsError};
/// What an acknowledgement of a QoS 1 or 2 message promises.
pub use ringmq_storage::Level as Durability;
pub use system::OpenFiles;
