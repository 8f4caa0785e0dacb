//! Where sessions keep what must outlive a connection, or the process.
//!
//! A session with a store puts each QoS 1 and 2 publication there before it is queued, and tells it what
//! becomes of them, which QoS 2 messages of the broker it has taken, and what it is subscribed to. A session
//! that is added later under the same name goes on from there. QoS 0 messages are not kept.
//!
//! - [`Memory`] lives as long as the process: sessions may be removed and added again.
//! - [`File`] is a directory with the log that the broker keeps its sessions in: it outlives the process, or
//!   power loss.
//! - `Redis` (with the feature `redis`) keeps sessions on another machine.
//! - A program may bring its own: a [`Store`].
//!
//! A store that fails says so: to who publishes, as an [`crate::Error::Store`]; to who watches events, where it
//! fails at anything else. Nothing goes on without the store in the meantime.

mod encoding;
mod error;
mod file;
mod keeper;
mod kept;
mod memory;
#[cfg(feature = "redis")]
mod redis;
mod threads;

use std::fmt;
use std::time::Duration;

use crate::message::Message;

pub use error::StoreError;
pub use file::{Durability, File, FileOptions};
pub(crate) use kept::PUBLICATION_IDS;
pub use kept::{Number, Restored, StoreChange, Wanted};
pub use memory::{Memory, MemoryBounds};
#[cfg(feature = "redis")]
pub use redis::{Redis, RedisOptions};
pub use ringmq_storage::LogFigures;
pub(crate) use threads::Stores;

/// Keeps sessions by name.
///
/// Its methods may wait for a disk or a network: they are called where that is allowed, never on an I/O thread.
pub trait Store: Send + Sync + fmt::Debug {
    /// Opens what is kept of a session, or begins it. A session is opened once at a time; it is free again when
    /// what was returned is dropped.
    fn open(&self, session: &str) -> Result<Box<dyn SessionStore>, StoreError>;

    /// How often [`Store::refresh`] is to be called; none: never.
    fn refresh_every(&self) -> Option<Duration> {
        None
    }

    /// Keeps what is kept of the sessions that are open from getting too old.
    fn refresh(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

/// What is kept of one session.
///
/// Each method either did all that it was asked to, durably in the sense of the store, or answers an error;
/// then nothing or a part of it may be done. So each may be called again with the same, and that must do no
/// harm.
pub trait SessionStore: Send + Sync + fmt::Debug {
    /// All that is kept. Called first.
    fn restore(&self) -> Result<Restored, StoreError>;

    /// Keeps these QoS 1 and 2 publications, whose numbers follow each other. One that is kept under such a
    /// number is replaced: it was put by a call that failed. Called by one thread at a time, and at the same
    /// time as [`SessionStore::apply`], which then is about earlier publications.
    fn put(&self, publications: &[(Number, Message)]) -> Result<(), StoreError>;

    /// Carries out changes, in order. After a failure they are repeated, with those that came since behind them, so
    /// some may have been carried out before; what they are about may be unknown.
    fn apply(&self, changes: &[StoreChange]) -> Result<(), StoreError>;

    /// Forgets the session, as if it had never been.
    fn remove(&self) -> Result<(), StoreError>;
}

#[cfg(test)]
mod tests;
