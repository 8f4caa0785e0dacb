//! The client against the real broker.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

#[path = "../crash/program.rs"]
#[allow(dead_code, reason = "the crash tests use all of it")]
mod program;
#[path = "../../client/tests/stores/redis_server.rs"]
#[allow(dead_code, reason = "the tests of stores use all of it")]
mod redis_server;
#[path = "../../client/tests/stores/scratch.rs"]
mod scratch;
mod stores;

mod client {
    use std::time::Duration;

    /// A deadline, not a pace: everything comes far sooner.
    pub const DEADLINE: Duration = Duration::from_secs(60);
}
