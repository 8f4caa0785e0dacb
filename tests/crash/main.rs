//! The real program, killed, corrupted and starved: what it acknowledged is still there.
//!
//! RINGMQ_KILLS=200 kills it more often, RINGMQ_FLIPS=all flips every byte, RINGMQ_SEED repeats a run.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

mod change;
mod client;
mod flip;
mod full;
mod keeper;
mod kill;
mod ledger;
mod program;
mod publisher;
mod random;
mod stage;
mod subscriber;
mod wills;
