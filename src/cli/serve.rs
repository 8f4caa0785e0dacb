//! `ringmq serve`.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use ringmq::config::Config;
use ringmq::{Broker, Error, OpenFiles, Reloaded};

use super::args::ServeArgs;
use super::signals::Asked;
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
        if listener.is_open() {
            tracing::warn!(address = %listener.address, "lets in clients without authentication");
        }
    }
    let addresses = broker.listening().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    tracing::info!(
        addresses = format_args!("[{addresses}]"),
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

/// Reads the certificates again, and says what came of it.
fn reload(broker: &Broker) {
    let reloaded = broker.reload_certificates();
    if reloaded.is_empty() {
        tracing::info!("SIGHUP: no listener has certificates to read again");
    }
    for Reloaded { address, outcome } in reloaded {
        match outcome {
            Ok(()) => tracing::info!(%address, "certificates read again: new connections get them"),
            Err(error) => tracing::error!(%address, %error, "certificates kept as they were"),
        }
    }
}

/// Waits for a signal to stop, or for a shard to fail.
fn stop_asked(signals: &Receiver<Asked>, broker: &Broker) -> bool {
    loop {
        match signals.recv_timeout(FAILURE_LOOK) {
            Ok(Asked::Reload) => reload(broker),
            Ok(Asked::Stop(signal)) => {
                tracing::info!(signal, "stopping; another signal leaves at once");
                return true;
            }
            Err(RecvTimeoutError::Disconnected) => return true,
            Err(RecvTimeoutError::Timeout) if broker.failure().is_some() => return false,
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
}
