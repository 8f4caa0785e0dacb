//! The layers of both ends, talking to each other and to others, without sockets.
#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

mod carrying;
mod faults;
mod holding;
mod others;
mod world;
