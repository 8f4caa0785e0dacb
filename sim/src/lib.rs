//! A seeded driver that runs many cores in one thread.
//!
//! A [`World`] holds one [`Core`](ringmq_turn::Core) a shard, the clients that talk to them, a network
//! and a clock. Everything that a real machine leaves to chance is drawn from one seed: which shard has
//! the next turn, what had arrived by then and in which order, how the bytes were cut, how long they
//! took. The same seed gives the same run, so a failure is replayed by its seed alone.
//!
//! ```
//! # use ringmq_sim::{Network, World, for_each_seed};
//! # use ringmq_turn::*;
//! # struct Echo;
//! # impl Core for Echo {
//! #     type Message = ();
//! #     type Command = ();
//! #     type Event = ();
//! #     fn opened(&mut self, _: ConnId, _: &ConnInfo, _: &mut Io<(), ()>) {}
//! #     fn received(&mut self, conn: ConnId, bytes: &[u8], io: &mut Io<(), ()>) {
//! #         io.outbox(conn).put(bytes);
//! #     }
//! #     fn drained(&mut self, _: ConnId, _: &mut Io<(), ()>) {}
//! #     fn closed(&mut self, _: ConnId, _: CloseReason, _: &mut Io<(), ()>) {}
//! #     fn message(&mut self, _: ShardId, _: (), _: &mut Io<(), ()>) {}
//! #     fn command(&mut self, _: (), _: &mut Io<(), ()>) {}
//! #     fn synced(&mut self, _: SyncTicket, _: Result<std::time::Duration, SyncFailure>, _: &mut Io<(), ()>) {}
//! #     fn turn_over(&mut self, _: &mut Io<(), ()>) {}
//! #     fn shutdown(&mut self, _: &mut Io<(), ()>) {}
//! # }
//! for_each_seed("echoes", 10, |seed| {
//!     let mut world = World::new(seed, 4, Network::rough(), |_shard, _core_seed| Echo);
//!     let client = world.connect(None);
//!     world.send(client, b"hello");
//!     world.run_until_idle();
//!     assert_eq!(world.take_received(client), b"hello");
//! });
//! ```
//!
//! Cores may connect, too: the test finds what they asked for with [`World::take_dials`], and takes the far
//! end's part with [`World::accept_dial`] or [`World::refuse_dial`].
//!
//! A [`SimDisk`] stands by for cores that keep files: it survives them, and loses on a [`Crash`] what a
//! real disk may lose.
//!
//! With `RINGMQ_TRACE` set in the environment, a world prints all that happens in it to stderr.
//!
//! invariant: nothing in this crate reads a real clock, opens a socket, starts a thread or knows MQTT.
#![forbid(unsafe_code)]

mod agenda;
mod answers;
mod client;
mod dial;
mod disk;
mod flow;
mod network;
mod rng;
mod seeds;
mod shard;
mod trace;
mod turn;
mod world;

pub use client::ClientId;
pub use dial::Dialled;
pub use disk::{BLOCK_BYTES, Crash, FileId, SimDisk};
pub use network::Network;
pub use rng::Rng;
pub use seeds::for_each_seed;
pub use world::{START, World};
