//! Waiting for the disk, and the thread that tends the files.

use std::sync::{MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ringmq_storage::{Level, Log};
use ringmq_turn::SyncFailure;

use super::book::Book;
use super::{Desk, Durability};
use crate::store::StoreError;

/// How long the thread waits for a file that is being made, or for room.
const TEND_EVERY: Duration = Duration::from_millis(20);
/// The error number of a failure that has none.
const EIO: i32 = 5;

impl Desk {
    /// Waits until all that was appended is as safe as the store promises.
    pub(super) fn settle<'a>(&'a self, mut book: MutexGuard<'a, Book>) -> Result<(), StoreError> {
        book.turn_over();
        let appended = book.log.appended();
        let outcome = match self.options.durability {
            Durability::Written if book.log.reached(Level::Written) >= appended => Ok(()),
            Durability::Written => Err(self.full(&book)),
            Durability::Synced => {
                book.log.want_synced();
                let (again, outcome) = self.wait_synced(book, appended);
                book = again;
                outcome
            }
        };
        self.wake_thread(book);
        outcome
    }

    /// Takes compaction a step further, which the thread may be behind with. An error: there is nothing to be
    /// gained.
    pub(super) fn make_room<'a>(
        &'a self,
        mut book: MutexGuard<'a, Book>,
    ) -> Result<MutexGuard<'a, Book>, StoreError> {
        book.turn_over();
        if book.is_syncing {
            book = self.synced.wait(book).unwrap_or_else(PoisonError::into_inner);
        } else if !book.to_sync.is_empty() {
            book = self.sync(book);
        } else if book.walk.is_none() {
            let error = self.full(&book);
            self.wake_thread(book);
            return Err(error);
        }
        book.turn_over();
        Ok(book)
    }

    /// Whoever comes first syncs for all who wait.
    fn wait_synced<'a>(
        &'a self,
        mut book: MutexGuard<'a, Book>,
        appended: u64,
    ) -> (MutexGuard<'a, Book>, Result<(), StoreError>) {
        let failed_before = book.syncs_failed;
        loop {
            if book.log.reached(Level::Synced) >= appended {
                return (book, Ok(()));
            }
            if book.syncs_failed > failed_before {
                let detail =
                    "the disk did not take what was written; see its errors, and free space".to_owned();
                return (book, Err(StoreError::Failed { store: self.name(), detail }));
            }
            if book.is_syncing {
                book = self.synced.wait(book).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            book.ask_for_syncs();
            if book.to_sync.is_empty() {
                // Some of it waits in memory for want of room, or a sync failed lately.
                let error = self.full(&book);
                return (book, Err(error));
            }
            book = self.sync(book);
        }
    }

    /// Carries out the syncs that were asked for.
    fn sync<'a>(&'a self, mut book: MutexGuard<'a, Book>) -> MutexGuard<'a, Book> {
        let requests = std::mem::take(&mut book.to_sync);
        book.is_syncing = true;
        drop(book);
        let mut outcomes = Vec::with_capacity(requests.len());
        for request in requests {
            let began = Instant::now();
            let outcome = match request.file.sync_data() {
                Ok(()) => Ok(began.elapsed()),
                Err(error) => Err(SyncFailure { errno: error.raw_os_error().unwrap_or(EIO) }),
            };
            outcomes.push((request.ticket, outcome));
        }
        let mut book = self.lock();
        book.is_syncing = false;
        for (ticket, outcome) in outcomes {
            book.syncs_failed += u64::from(outcome.is_err());
            book.log.synced(ticket, outcome);
        }
        self.synced.notify_all();
        book
    }

    pub(super) fn full(&self, book: &Book) -> StoreError {
        let disk_bytes = book.figures().disk_bytes;
        let bytes_max = self.options.bytes_max;
        let holds = if disk_bytes + self.options.segment_bytes as u64 > bytes_max {
            format!("{disk_bytes} of {bytes_max} bytes on disk")
        } else {
            format!("{disk_bytes} bytes, and the file system has no room for more")
        };
        StoreError::Full { store: self.name(), holds }
    }

    pub(super) fn too_large(&self, bytes: usize, bytes_max: usize) -> StoreError {
        StoreError::TooLarge { store: self.name(), bytes, bytes_max }
    }

    fn wake_thread(&self, book: MutexGuard<'_, Book>) {
        let has_work = book.wants_turn || !book.to_sync.is_empty();
        drop(book);
        if has_work {
            self.work.notify_one();
        }
    }

    /// Tends the files of the log until the store is closed: what must not wait for the next publication.
    pub(super) fn tend(&self) {
        let mut book = self.lock();
        while !book.is_over {
            if !book.to_sync.is_empty() && !book.is_syncing {
                book = self.sync(book);
            } else if book.wants_turn {
                let is_compacting = book.walk.is_some();
                if !is_compacting {
                    // For a file that another thread makes.
                    let waited = self.work.wait_timeout(book, TEND_EVERY);
                    book = waited.unwrap_or_else(PoisonError::into_inner).0;
                    if book.is_over {
                        return;
                    }
                }
            } else {
                book = self.work.wait(book).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            book.turn_over();
        }
    }
}
