//! What takes time and need not be waited for: making and removing files.

use std::sync::mpsc::{Receiver, Sender, channel};

type Chore = Box<dyn FnOnce() + Send>;

/// Hands chores to [`Chores`]. Every shard has one.
#[derive(Clone, Debug)]
pub struct ChoreSender {
    to: Sender<Chore>,
}

/// The chores of all shards, for a thread that may wait for the disk.
#[derive(Debug)]
pub struct Chores {
    from: Receiver<Chore>,
}

/// A queue of chores. They are done in order.
pub fn chores() -> (ChoreSender, Chores) {
    let (to, from) = channel();
    (ChoreSender { to }, Chores { from })
}

impl ChoreSender {
    /// Has it done by whoever runs [`Chores::run`], or at once if nobody does any more.
    pub(crate) fn send(&self, chore: impl FnOnce() + Send + 'static) {
        if let Err(unsent) = self.to.send(Box::new(chore)) {
            (unsent.0)();
        }
    }
}

impl Chores {
    /// Does what comes, until all senders are gone.
    pub fn run(self) {
        for chore in self.from {
            chore();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chores_are_done_in_order_and_by_the_sender_if_nobody_else_does() {
        let (sender, chores) = chores();
        let (to, done) = channel();
        for number in 0..3 {
            let to = to.clone();
            sender.send(move || to.send(number).unwrap());
        }
        assert!(done.try_recv().is_err(), "nobody runs them yet");
        let late = sender.clone();
        drop(sender);
        let runner = std::thread::spawn(|| chores.run());
        assert_eq!([done.recv(), done.recv(), done.recv()], [Ok(0), Ok(1), Ok(2)]);
        drop(late);
        runner.join().unwrap();

        let (sender, chores) = super::chores();
        drop(chores);
        sender.send(move || to.send(9).unwrap());
        assert_eq!(done.recv(), Ok(9));
    }
}
