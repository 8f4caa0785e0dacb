//! SIGTERM and SIGINT: the first asks for a graceful stop, the second leaves at once. SIGHUP asks to read the
//! certificates again.

use std::io;
use std::sync::mpsc::{Receiver, channel};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::EXIT_INTERRUPTED;

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// A graceful stop, by the signal of this name.
    Stop(&'static str),
    /// To read the certificates again.
    Reload,
}

/// A receiver that gets what signals ask for. The second that asks for a stop ends the process.
pub fn watch() -> io::Result<Receiver<Asked>> {
    let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM])?;
    let (sender, receiver) = channel();
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        let mut stops = 0;
        for signal in signals.forever() {
            let asked = match signal {
                SIGHUP => Asked::Reload,
                SIGTERM => Asked::Stop("SIGTERM"),
                _ => Asked::Stop("SIGINT"),
            };
            if asked != Asked::Reload {
                stops += 1;
            }
            if stops > 1 {
                tracing::warn!("a second signal: leaving at once");
                std::process::exit(EXIT_INTERRUPTED.into());
            }
            // A closed channel means that the broker is stopping already.
            let _ = sender.send(asked);
        }
    })?;
    Ok(receiver)
}
