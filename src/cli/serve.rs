//! `ringmq serve`.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use ringmq::config::Config;
use ringmq::{Broker, Error, OpenFiles};

use super::args::ServeArgs;
use super::{EXIT_FAILED, EXIT_FINE, EXIT_USAGE};
use super::{logging, signals};

/// How often the broker is asked whether a shard failed.
const FAILURE_LOOK: Duration = Duration::from_millis(250);

/// Runs the broker until a signal stops it.
pub fn run(args: &ServeArgs) -> u8 {
    let config = match args.sources().load() {
        Ok(config) => config,
        Err(error) => {
            eprintln!("{error}");
            return EXIT_USAGE;
        }
    };
    logging::start(&config.log);
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "ringmq starts");
    match serve(&config) {
        Ok(code) => code,
        Err(error) => {
            tracing::error!("{error}");
            if error.is_configuration() { EXIT_USAGE } else { EXIT_FAILED }
        }
    }
}

fn serve(config: &Config) -> Result<u8, Error> {
    if let Err(error) = OpenFiles::raise() {
        tracing::warn!(%error, "the limit on open files could not be raised");
    }
    // Before the shards, so that no thread of theirs is asked to handle a signal first.
    let signals = match signals::watch() {
        Ok(signals) => signals,
        Err(error) => {
            tracing::error!(%error, "cannot watch for signals");
            return Ok(EXIT_FAILED);
        }
    };
    let broker = Broker::builder().config(config.clone()).start()?;
    for listener in &config.listeners.0 {
        if !listener.address.ip().is_loopback() {
            tracing::warn!(address = %listener.address, "lets in clients without authentication");
        }
    }
    tracing::info!(
        addresses = ?broker.addresses(),
        shards = broker.shards(),
        connections_max = broker.connections_max(),
        "ready"
    );
    if !stop_asked(&signals, &broker) {
        // What failed was logged by its shard.
        return Ok(EXIT_FAILED);
    }
    match broker.shutdown(Duration::from_secs(config.shutdown.grace_s.into())) {
        Ok(report) => {
            tracing::info!(
                connections_cut = report.connections_cut,
                bytes_unsent = report.bytes_unsent,
                "stopped"
            );
            Ok(EXIT_FINE)
        }
        Err(failure) => {
            tracing::error!("{failure}");
            Ok(EXIT_FAILED)
        }
    }
}

/// Waits for a signal, or for a shard to fail.
fn stop_asked(signals: &Receiver<&'static str>, broker: &Broker) -> bool {
    loop {
        match signals.recv_timeout(FAILURE_LOOK) {
            Ok(signal) => {
                tracing::info!(signal, "stopping; another signal leaves at once");
                return true;
            }
            Err(RecvTimeoutError::Disconnected) => return true,
            Err(RecvTimeoutError::Timeout) if broker.failure().is_some() => return false,
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
}
