//! What clients of every version see of the broker, as transcripts.
#![allow(clippy::unwrap_used, reason = "tests may")]

mod common;
mod connect;
mod limits;
mod malformed;
mod persistence;
mod publish;
mod retained;
mod session;
mod shared;
mod subscribe;
mod transport;
mod will;
