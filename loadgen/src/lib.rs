//! A load generator for MQTT brokers.
//!
//! A [`Scenario`] says which clients there are and what happens step by step; [`presets`] makes the common ones,
//! [`file`] reads others. [`run`] runs one and answers a [`report::Report`].
//!
//! - `plan` and `hearing` make a scenario ready: who runs where, and who is to hear whom.
//! - `core` is a [`ringmq_turn::Core`] that runs clients on an I/O core: sessions are machines of the client
//!   library, messages go by a way of their own.
//! - `pace` says when to send, `payload` what messages carry, `check` what of it was lost, came twice or out of
//!   order, `measure` keeps counts and times.
//!
//! invariant: an I/O core takes no lock, and no message changes threads.
#![forbid(unsafe_code)]

pub mod check;
mod core;
mod course;
pub mod file;
mod hearing;
mod limits;
pub mod live;
pub mod measure;
pub mod pace;
pub mod pattern;
pub mod payload;
mod plan;
pub mod presets;
pub mod process;
mod random;
pub mod report;
mod run;
pub mod scenario;
pub mod verdict;

pub use run::{Asked, RunError, Silence, Watcher, run};
pub use scenario::Scenario;
