//! SIGTERM and SIGINT: the first asks for a graceful stop, the second leaves at once.

use std::io;
use std::sync::mpsc::{Receiver, sync_channel};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::EXIT_INTERRUPTED;

/// A receiver that gets the name of the first signal. The second ends the process.
pub fn watch() -> io::Result<Receiver<&'static str>> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let (sender, receiver) = sync_channel(1);
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        let mut seen = 0;
        for signal in signals.forever() {
            seen += 1;
            if seen > 1 {
                tracing::warn!("a second signal: leaving at once");
                std::process::exit(EXIT_INTERRUPTED.into());
            }
            let name = if signal == SIGTERM { "SIGTERM" } else { "SIGINT" };
            // A full or closed channel means that the broker is stopping already.
            let _ = sender.try_send(name);
        }
    })?;
    Ok(receiver)
}
