//! The load generator against brokers: the workspace's own, one that is stopped, and one that loses messages.
#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

mod faulty;
#[path = "../pki/mod.rs"]
mod pki;
mod program;
mod scenarios;
mod stalled;
mod transports;

use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use ringmq_loadgen::presets::Options;
use ringmq_loadgen::report::Report;
use ringmq_loadgen::scenario::{Limit, Scenario};
use ringmq_loadgen::{Asked, Silence, run};

/// Small runs, that wait no longer than they must.
fn options(address: SocketAddr) -> Options {
    let mut options = Options { warm_up: Duration::ZERO, limit: Limit::Messages(3000), ..Options::default() };
    options.target.address = format!("mqtt://{address}");
    options.settings.interval = Duration::from_millis(100);
    options.settings.drain = Duration::from_secs(30);
    options
}

fn measure(scenario: Scenario) -> Report {
    run(scenario, Asked { words: "a test", stop: &AtomicBool::new(false) }, &mut Silence).unwrap()
}

/// A report in which nothing went wrong.
fn fine(scenario: Scenario) -> Report {
    let report = measure(scenario);
    assert!(
        report.is_fine() && report.troubles.is_empty() && !report.messages.unchecked,
        "{}",
        report.to_json()
    );
    report
}
