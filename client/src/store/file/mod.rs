//! A store on disk, in the log that the broker keeps its sessions in.
//!
//! A client's session is a session of the log, under its name, whose queue holds its publications: their
//! numbers are those of the queue. `docs/client-stores.md` has the mapping.

mod book;
mod compaction;
mod opening;
mod session;
mod syncing;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use ringmq_storage::{ChoreSender, LogFigures, Store as Directories};

use super::{SessionStore, Store, StoreError};
use book::Book;
use session::FileSession;

/// A log that has no room for a few segments could not make room by compaction.
const SEGMENTS_MIN: u64 = 4;

/// What a message in a [`File`] survives once publishing it succeeded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Durability {
    /// The program being killed, at any moment.
    #[default]
    Written,
    /// Power loss, too: the disk was made to write it out. Publications that come at the same time share that.
    Synced,
}

/// How a [`File`] is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileOptions {
    /// What publications survive. Default [`Durability::Written`].
    pub durability: Durability,
    /// Bytes of one file of the log, a multiple of 4,096; a message takes less than that. Default 8 MiB.
    pub segment_bytes: usize,
    /// Bytes that all files may take, at least four segments. Default 1 GiB.
    pub bytes_max: u64,
}

impl Default for FileOptions {
    fn default() -> Self {
        Self { durability: Durability::default(), segment_bytes: 8 << 20, bytes_max: 1 << 30 }
    }
}

/// A store in a directory, which one process has open at a time. Clones share it.
#[derive(Clone, Debug)]
pub struct File {
    shared: Arc<Shared>,
}

/// What the sessions of a store and its thread share.
#[derive(Debug)]
struct Desk {
    path: PathBuf,
    options: FileOptions,
    book: Mutex<Book>,
    /// A sync ended.
    synced: Condvar,
    /// There is something to do for the thread.
    work: Condvar,
}

#[derive(Debug)]
struct Shared {
    /// Taken by drop only: the log goes before the chores' thread, and that before the lock.
    desk: Option<Arc<Desk>>,
    tending: Option<JoinHandle<()>>,
    chores: Option<(ChoreSender, JoinHandle<()>)>,
    reports: Vec<String>,
    /// Holds the lock.
    _directories: Directories,
}

impl File {
    /// Opens the store in a directory, or makes one where there is none.
    ///
    /// # Errors
    /// [`StoreError::Unusable`], with the cause: the directory is something else, in use by another process, or
    /// cannot be written.
    pub fn open(path: impl AsRef<Path>, options: FileOptions) -> Result<Self, StoreError> {
        opening::open(path.as_ref(), options).map(|shared| Self { shared: Arc::new(shared) })
    }

    /// Sentences on what was found damaged when it was opened, and on what was lost to that.
    pub fn reports(&self) -> &[String] {
        &self.shared.reports
    }

    /// What the log holds and has done.
    pub fn figures(&self) -> LogFigures {
        self.shared.desk().lock().figures()
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.shared.desk().path
    }
}

impl Shared {
    fn desk(&self) -> &Arc<Desk> {
        self.desk.as_ref().expect("taken by drop only")
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some(desk) = &self.desk {
            desk.lock().is_over = true;
            desk.work.notify_all();
        }
        for thread in [self.tending.take(), self.close_log()].into_iter().flatten() {
            if thread.join().is_err() {
                tracing::error!("a thread of a store failed");
            }
        }
    }
}

impl Shared {
    /// Lets the chores' thread end.
    fn close_log(&mut self) -> Option<JoinHandle<()>> {
        // The tending thread has its own hold on the desk until it ends, which it was told to.
        self.desk = None;
        self.chores.take().map(|(sender, thread)| {
            drop(sender);
            thread
        })
    }
}

impl Desk {
    fn lock(&self) -> MutexGuard<'_, Book> {
        // What the lock guards is whole after each statement, so a panic of a holder spoils nothing.
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the store is called in errors.
    fn name(&self) -> String {
        name_of(&self.path)
    }
}

fn name_of(path: &Path) -> String {
    format!("the store in {}", path.display())
}

impl Store for File {
    fn open(&self, session: &str) -> Result<Box<dyn SessionStore>, StoreError> {
        Ok(Box::new(FileSession::open(&self.shared, session)?))
    }
}
