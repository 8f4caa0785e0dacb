//! The broker's engines on a simulated disk: whole brokers that are killed or lose their power at any moment,
//! and clients that remember what they were promised. `RINGMQ_SEEDS` says how many seeds each test runs.
#![allow(dead_code, reason = "the clients are shared with another test, which needs more of them")]

#[path = "../../../storage/tests/crash/disk.rs"]
mod disk;
mod groups;
mod log;
#[path = "../seeded/model.rs"]
mod model;
#[path = "../seeded/peer.rs"]
mod peer;
mod retained;
#[path = "../seeded/rig.rs"]
mod rig;
mod ship;
mod storms;
mod subscriptions;
#[path = "../seeded/talk.rs"]
mod talk;
mod wills;

/// What a broker's shards are.
pub type Shard = ringmq_engine::Engine<log::TestLog>;
