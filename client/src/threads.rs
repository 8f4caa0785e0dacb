//! The I/O threads, as the program's side reaches them.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ringmq_shards::Peer;
use ringmq_turn::PeerId;

use crate::link::Mailbox;

/// What drives the sessions: the runtime with its hosts, or a test.
pub(crate) trait Driver: Send + Sync + fmt::Debug {
    /// One for each I/O thread.
    fn mailboxes(&self) -> &[Arc<Mailbox>];

    fn add_peer(&self, peer: Peer) -> PeerId;

    fn remove_peer(&self, peer: PeerId);

    /// Waits until the threads are told to stop, or one failed; whether that is so.
    fn wait_stop(&self, timeout: Duration) -> bool;

    /// What happened to a thread that failed.
    fn failure(&self) -> Option<String>;

    /// Stops the threads: sessions say goodbye, until the grace is over.
    fn stop(&self, grace: Duration) -> Result<(), String>;
}
