//! The broker's engines under the deterministic driver: several shards, clients that come and go, and
//! a network that does all that a contract allows. `RINGMQ_SEEDS` says how many seeds each test runs.

mod contract;
mod delivery;
mod expiry;
mod fresh;
mod garbage;
mod groups;
mod interest;
mod ledger;
mod model;
mod peer;
mod retained;
mod rig;
mod takeover;
mod talk;
mod wills;

/// What a broker's shards are.
pub type Shard = ringmq_engine::Engine;
