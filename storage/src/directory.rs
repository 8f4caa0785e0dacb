//! A shard's segments as files in a directory.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::num::NonZero;
use std::ops::{Deref, DerefMut, Range};
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError, channel};

use rustix::fs::{FallocateFlags, fallocate};

use crate::SegmentId;
use crate::chores::ChoreSender;
use crate::disk::{Disk, Segment};
use crate::mapping::{Mapping, READ_AHEAD_BYTES};

/// The segments of one shard, as files of a directory that nobody else uses.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    quarantine: PathBuf,
    chores: ChoreSender,
    /// Where the segment will come from that is being made.
    under_way: Option<Receiver<io::Result<FileSegment>>>,
}

/// A segment file, mapped.
#[derive(Debug)]
pub struct FileSegment {
    mapping: Mapping,
    file: Arc<File>,
    /// How many bytes can be written without a fault.
    ready_to: usize,
}

/// Pages are made ready in groups of this size, which the page cache then handles as one: each page costs a
/// fifth of what a fault on it would, and a commit still writes little that did not change.
const READY_BYTES: usize = 64 * 1024;

impl Directory {
    /// The segments in `path`, which exists; damaged bytes are put into `quarantine`, which is made when
    /// there are any.
    pub fn new(path: PathBuf, quarantine: PathBuf, chores: ChoreSender) -> Self {
        Self { path, quarantine, chores, under_way: None }
    }

    fn file_path(&self, id: SegmentId) -> PathBuf {
        self.path.join(format!("{:08x}.log", id.0))
    }
}

impl Disk for Directory {
    type Segment = FileSegment;

    fn list(&mut self) -> io::Result<Vec<SegmentId>> {
        let mut ids = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            ids.extend(entry?.file_name().to_str().and_then(segment_id));
        }
        ids.sort_unstable();
        Ok(ids)
    }

    fn open(&mut self, id: SegmentId) -> io::Result<FileSegment> {
        let file = OpenOptions::new().read(true).write(true).open(self.file_path(id))?;
        let bytes = usize::try_from(file.metadata()?.len())
            .map_err(|_| io::Error::new(io::ErrorKind::FileTooLarge, "the segment is larger than memory"))?;
        let mapping = Mapping::new(&file, bytes)?;
        Ok(FileSegment { mapping, file: Arc::new(file), ready_to: bytes })
    }

    fn create(&mut self, id: SegmentId, bytes: usize) -> io::Result<FileSegment> {
        make(&self.path, &self.file_path(id), bytes, READY_BYTES)
    }

    fn prepare(&mut self, id: SegmentId, bytes: usize) {
        debug_assert!(self.under_way.is_none(), "one segment is made at a time");
        let (to, from) = channel();
        let (directory, path) = (self.path.clone(), self.file_path(id));
        self.under_way = Some(from);
        self.chores.send(move || {
            if let Err(unwanted) = to.send(make(&directory, &path, bytes, bytes)) {
                // The shard is gone. What it did not take is empty.
                drop(unwanted);
                let _ = fs::remove_file(&path);
            }
        });
    }

    fn prepared(&mut self) -> Option<io::Result<FileSegment>> {
        let outcome = match self.under_way.as_ref()?.try_recv() {
            Ok(outcome) => outcome,
            Err(TryRecvError::Empty) => return None,
            Err(TryRecvError::Disconnected) => Err(nobody_made_it()),
        };
        self.under_way = None;
        Some(outcome)
    }

    fn await_prepared(&mut self) -> io::Result<FileSegment> {
        let under_way = self.under_way.take().ok_or_else(nobody_made_it)?;
        under_way.recv().unwrap_or_else(|_| Err(nobody_made_it()))
    }

    fn expect_reads(&mut self, id: SegmentId) {
        let path = self.file_path(id);
        self.chores.send(move || {
            // Not through the mapping, which may be gone when the chore is done. If it fails, pages are
            // read when they are needed.
            let Ok(file) = File::open(&path) else { return };
            let bytes = file.metadata().map_or(0, |metadata| metadata.len());
            for at in (0..bytes).step_by(READ_AHEAD_BYTES) {
                let count = NonZero::new(READ_AHEAD_BYTES as u64);
                let _ = rustix::fs::fadvise(&file, at, count, rustix::fs::Advice::WillNeed);
            }
        });
    }

    fn recycle(&mut self, (old, mut segment): (SegmentId, FileSegment), id: SegmentId) {
        debug_assert!(self.under_way.is_none(), "one segment is made at a time");
        let (to, from) = channel();
        let (directory, old_path, path) = (self.path.clone(), self.file_path(old), self.file_path(id));
        self.under_way = Some(from);
        self.chores.send(move || {
            // Its pages are in memory and ready to be written, and its blocks are the file's.
            let renamed = fs::rename(&old_path, &path).and_then(|()| sync_directory(&directory));
            segment.mapping.fill(0);
            segment.ready_to = segment.mapping.len();
            if let Err(unwanted) = to.send(renamed.map(|()| segment)) {
                drop(unwanted);
                let _ = fs::remove_file(&path);
            }
        });
    }

    fn remove(&mut self, id: SegmentId, segment: FileSegment) {
        let (directory, path) = (self.path.clone(), self.file_path(id));
        self.chores.send(move || {
            // To unmap many pages takes time, too.
            drop(segment);
            // The directory is synced each time, so that files go in order even over a power loss.
            if let Err(error) = fs::remove_file(&path).and_then(|()| sync_directory(&directory)) {
                tracing::warn!("{} is not needed any more but stays: {error}", path.display());
            }
        });
    }

    fn quarantine(&mut self, id: SegmentId, place: usize, bytes: &[u8]) -> io::Result<String> {
        // What clients sent is nobody else's to read.
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.quarantine)?;
        let shard = self.path.file_name().unwrap_or_default().to_string_lossy();
        let path = self.quarantine.join(format!("{shard}-{:08x}-{place:08x}.bytes", id.0));
        fs::write(&path, bytes)?;
        Ok(path.display().to_string())
    }
}

impl Deref for FileSegment {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        &self.mapping
    }
}

impl DerefMut for FileSegment {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.mapping
    }
}

impl Segment for FileSegment {
    fn sync_file(&mut self) -> Arc<File> {
        self.file.clone()
    }

    fn read_ahead(&self) {
        self.mapping.read_ahead();
    }

    fn expect_writes(&mut self, range: Range<usize>) {
        while self.ready_to < range.end.min(self.mapping.len()) {
            let from = self.ready_to.max(range.start).next_multiple_of(READY_BYTES);
            let to = (from + READY_BYTES).min(self.mapping.len());
            self.ready_to = to;
            // If this fails, the bytes are made ready when they are written.
            if from < to && self.file.write_all_at(&[0; READY_BYTES][..to - from], from as u64).is_ok() {
                self.mapping.populate(from..to);
            }
        }
    }

    fn cut(&mut self, bytes: usize) -> io::Result<()> {
        // Bytes behind the end of a file must not be mapped: to touch them kills the process.
        self.mapping = Mapping::new(&self.file, bytes)?;
        self.ready_to = bytes;
        self.file.set_len(bytes as u64)
    }
}

/// The number in a segment's file name.
pub(crate) fn segment_id(name: &str) -> Option<SegmentId> {
    let digits = name.strip_suffix(".log").filter(|digits| digits.len() == 8)?;
    let lower = digits.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
    lower.then(|| u32::from_str_radix(digits, 16).ok().map(SegmentId))?
}

/// Makes a segment's file and makes the first `ready` bytes ready to be written. A file that cannot be
/// made as a whole is removed.
fn make(directory: &Path, path: &Path, bytes: usize, ready: usize) -> io::Result<FileSegment> {
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
    let made = fill(directory, &file, bytes).and_then(|()| Mapping::new(&file, bytes));
    match made {
        Ok(mapping) => {
            let mut segment = FileSegment { mapping, file: Arc::new(file), ready_to: 0 };
            segment.expect_writes(0..ready);
            Ok(segment)
        }
        Err(error) => {
            // Best effort: the error that is told is the one that matters.
            let _ = fs::remove_file(path);
            Err(error)
        }
    }
}

/// Gives a file its bytes, durably.
fn fill(directory: &Path, file: &File, bytes: usize) -> io::Result<()> {
    // A file with holes would kill the process when the disk is full and a hole is written through the
    // mapping.
    match fallocate(file, FallocateFlags::empty(), 0, bytes as u64) {
        Ok(()) => {}
        Err(rustix::io::Errno::OPNOTSUPP) => write_zeroes(file, bytes)?,
        Err(error) => return Err(error.into()),
    }
    file.sync_all()?;
    sync_directory(directory)
}

/// For file systems that cannot reserve space.
fn write_zeroes(mut file: &File, bytes: usize) -> io::Result<()> {
    let zeroes = [0; READY_BYTES];
    let mut left = bytes;
    while left > 0 {
        let count = left.min(zeroes.len());
        file.write_all(&zeroes[..count])?;
        left -= count;
    }
    Ok(())
}

fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

fn nobody_made_it() -> io::Error {
    io::Error::other("no segment is being made")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chores::chores;

    /// An empty directory of this test's own, and a disk in it whose chores are done at once.
    fn new_directory(test: &str) -> (PathBuf, Directory) {
        let path = std::env::temp_dir().join(format!("ringmq-{test}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(path.join("g1-0")).unwrap();
        let directory = Directory::new(path.join("g1-0"), path.join("quarantine"), chores().0);
        (path, directory)
    }

    const BYTES: usize = 256 * 1024;

    #[test]
    fn a_segment_is_made_written_and_read_again() {
        let (path, mut directory) = new_directory("segment");
        for (id, at) in [(SegmentId(1), 5), (SegmentId(0xAB), BYTES - 1)] {
            let mut segment = directory.create(id, BYTES).unwrap();
            assert!(segment.len() == BYTES && segment.iter().all(|byte| *byte == 0));
            segment[at] = 7;
            segment.expect_writes(at + 1..BYTES);
            segment.expect_writes(0..at);
            assert_eq!(segment[at], 7);
            segment.sync_file().sync_data().unwrap();
            segment.synced();
        }
        fs::write(path.join("g1-0/0000000AB.log"), b"").unwrap();
        fs::write(path.join("g1-0/lock"), b"").unwrap();
        assert_eq!(directory.list().unwrap(), [SegmentId(1), SegmentId(0xAB)]);
        assert!(directory.create(SegmentId(1), BYTES).is_err(), "it is there already");
        assert_eq!(directory.open(SegmentId(0xAB)).unwrap()[BYTES - 1], 7);
        directory.expect_reads(SegmentId(1));
        let segment = directory.open(SegmentId(1)).unwrap();
        assert_eq!((segment[5], segment.len()), (7, BYTES));
        directory.remove(SegmentId(1), segment);
        assert_eq!(directory.list().unwrap(), [SegmentId(0xAB)]);
        fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn a_segment_of_any_length_is_opened_and_cut() {
        let (path, mut directory) = new_directory("lengths");
        for (number, bytes) in [0, 1, 4095, 4096, 4097, 100_000].into_iter().enumerate() {
            let id = SegmentId(number as u32);
            fs::write(directory.file_path(id), vec![3; bytes]).unwrap();
            let mut segment = directory.open(id).unwrap();
            assert_eq!(*segment, vec![3; bytes]);
            segment.read_ahead();
            segment.cut(bytes / 2).unwrap();
            assert_eq!(*segment, vec![3; bytes / 2]);
            assert_eq!(fs::read(directory.file_path(id)).unwrap(), vec![3; bytes / 2]);
        }
        fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn a_segment_is_made_by_the_helper() {
        let (path, mut directory) = new_directory("helper");
        assert!(directory.prepared().is_none() && directory.await_prepared().is_err());
        let (sender, chores) = chores();
        directory.chores = sender;
        directory.prepare(SegmentId(1), BYTES);
        assert!(directory.prepared().is_none(), "nobody made it yet");
        let helper = std::thread::spawn(|| chores.run());
        let segment = directory.await_prepared().unwrap();
        assert!(segment.len() == BYTES && segment.iter().all(|byte| *byte == 0));
        assert_eq!(segment.ready_to, BYTES);
        assert!(directory.prepared().is_none());
        directory.prepare(SegmentId(1), BYTES);
        assert!(directory.await_prepared().is_err(), "it is there already");
        directory.prepare(SegmentId(2), BYTES);
        drop(directory);
        helper.join().unwrap();
        fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn a_segment_becomes_another() {
        let (path, mut directory) = new_directory("recycled");
        let mut segment = directory.create(SegmentId(1), BYTES).unwrap();
        segment.fill(7);
        directory.recycle((SegmentId(1), segment), SegmentId(9));
        let segment = directory.prepared().unwrap().unwrap();
        assert!(segment.len() == BYTES && segment.iter().all(|byte| *byte == 0));
        assert_eq!(directory.list().unwrap(), [SegmentId(9)]);
        fs::remove_file(directory.file_path(SegmentId(9))).unwrap();
        directory.recycle((SegmentId(9), segment), SegmentId(10));
        assert!(directory.prepared().unwrap().is_err(), "somebody took the file away");
        fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn what_cannot_be_made_leaves_nothing_behind() {
        let (path, mut directory) = new_directory("nothing");
        // More than a file may have.
        assert!(directory.create(SegmentId(1), 1 << 62).is_err());
        directory.prepare(SegmentId(2), 1 << 62);
        assert!(directory.prepared().unwrap().is_err());
        assert_eq!(directory.list().unwrap(), []);
        fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn damaged_bytes_are_put_aside() {
        let (path, mut directory) = new_directory("damage");
        let place = directory.quarantine(SegmentId(0x1F), 640, b"rubbish").unwrap();
        assert!(place.ends_with("quarantine/g1-0-0000001f-00000280.bytes"), "{place}");
        assert_eq!(fs::read(place).unwrap(), b"rubbish");
        fs::remove_dir_all(path).unwrap();
    }
}
