//! Where segments come from: a directory, or a simulation of one.

use std::fs::File;
use std::io;
use std::ops::{Deref, DerefMut, Range};
use std::sync::Arc;

use crate::SegmentId;

/// The bytes of one segment, as they lie in memory. Those past what was written are zero.
pub trait Segment: Deref<Target = [u8]> + DerefMut {
    /// What has to be synced for the bytes, as they are now, to survive power loss. Called once for each
    /// sync, when it is asked for.
    fn sync_file(&mut self) -> Arc<File>;

    /// The last sync that was asked for succeeded.
    fn synced(&mut self) {}

    /// All of the bytes are about to be read, front to back: a hint.
    fn read_ahead(&self) {}

    /// These bytes, which were never written, are going to be written soon: a hint.
    fn expect_writes(&mut self, _range: Range<usize>) {}

    /// Gives back the space of all but the first `bytes` of a segment that is only read from now on.
    fn cut(&mut self, _bytes: usize) -> io::Result<()> {
        Ok(())
    }
}

/// The segments of one shard.
///
/// What takes time is begun by one call and its outcome asked for by another, so that a turn does not wait.
pub trait Disk {
    /// A segment, ready to be read and written.
    type Segment: Segment;

    /// The segments that exist, lowest first.
    fn list(&mut self) -> io::Result<Vec<SegmentId>>;

    /// Opens one that exists, to read it; its bytes may be fewer than it was made with.
    fn open(&mut self, id: SegmentId) -> io::Result<Self::Segment>;

    /// Makes a segment of zeroes, durably: it exists after power loss, though what was written to it
    /// may not. Takes its time; for the start.
    ///
    /// # Errors
    /// No space is [`io::ErrorKind::StorageFull`].
    fn create(&mut self, id: SegmentId, bytes: usize) -> io::Result<Self::Segment>;

    /// Begins to make a segment. At most one is under way.
    fn prepare(&mut self, id: SegmentId, bytes: usize);

    /// The segment that [`Disk::prepare`] began, once it is made or cannot be.
    fn prepared(&mut self) -> Option<io::Result<Self::Segment>>;

    /// The same, waiting for it: where nothing can go on without.
    ///
    /// # Errors
    /// It could not be made, or none was begun.
    fn await_prepared(&mut self) -> io::Result<Self::Segment> {
        self.prepared().unwrap_or_else(|| Err(io::ErrorKind::WouldBlock.into()))
    }

    /// Messages of a segment are going to be read, in any order: a hint, which takes no time.
    fn expect_reads(&mut self, _id: SegmentId) {}

    /// Begins to make a segment out of one that is not needed any more, in place of [`Disk::prepare`] and
    /// [`Disk::remove`]. After power loss it may hold what the old one did.
    fn recycle(&mut self, (old, segment): (SegmentId, Self::Segment), id: SegmentId) {
        let bytes = segment.len();
        self.remove(old, segment);
        self.prepare(id, bytes);
    }

    /// Removes a segment, in its own time. After power loss it may be there again, but only with all that
    /// were removed after it.
    fn remove(&mut self, id: SegmentId, segment: Self::Segment);

    /// Puts damaged bytes aside for people to look at, under a name that says where they lay. Answers
    /// where they are now.
    fn quarantine(&mut self, id: SegmentId, place: usize, bytes: &[u8]) -> io::Result<String>;
}
