//! What every store has in common, and what each does on its own.
#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

mod common;
mod file;
mod kill;
mod memory;
#[cfg(feature = "redis")]
mod redis;
#[cfg(feature = "redis")]
mod redis_server;
mod scratch;
