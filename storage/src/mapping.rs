//! Files mapped into memory. The only unsafe file of this crate.
#![allow(unsafe_code)]

use std::fs::File;
use std::hint::black_box;
use std::io;
use std::ops::{Deref, DerefMut, Range};

use memmap2::{Advice, MmapMut, MmapOptions};

/// Pages are made ready in slices of this size, so that no call holds the map's lock for long.
const POPULATE_SLICE_BYTES: usize = 1 << 20;
/// What the kernel reads ahead at a time; of longer ranges it reads as much and leaves out the rest.
pub(crate) const READ_AHEAD_BYTES: usize = 128 * 1024;
/// The smallest page there is; to touch each of larger ones more than once does no harm.
const PAGE_BYTES: usize = 4096;

/// The bytes of a file, shared with it: what is written here is in the page cache at once, and outlives
/// the process.
#[derive(Debug)]
pub(crate) struct Mapping {
    /// `None` for an empty file, which cannot be mapped.
    map: Option<MmapMut>,
}

impl Mapping {
    /// Maps the first `bytes` of a file, which has them all.
    pub(crate) fn new(file: &File, bytes: usize) -> io::Result<Self> {
        let length = file.metadata()?.len();
        if length < bytes as u64 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file is shorter than its mapping"));
        }
        if bytes == 0 {
            return Ok(Self { map: None });
        }
        // SAFETY: the slices that are handed out stay valid and are not changed by anybody else as long as
        // nobody truncates or writes the file. Other Ringmq processes are kept out by the lock of the store
        // that the file is in. Within this process each segment file is mapped once, by the one `Segment`
        // that owns both file and mapping, which gives out its handle for syncs only and drops the mapping
        // before it cuts the file. The file is a regular one of at least `bytes` bytes, as just checked.
        let map = unsafe { MmapOptions::new().len(bytes).map_mut(file)? };
        // Without this the kernel uses large folios, and a commit of one page writes a MiB. It is advice: a
        // kernel that does not take it is only slower.
        let _ = map.advise(Advice::Random);
        Ok(Self { map: Some(map) })
    }

    /// Has the kernel read all of it, in its own time.
    pub(crate) fn read_ahead(&self) {
        let Some(map) = &self.map else { return };
        for at in (0..map.len()).step_by(READ_AHEAD_BYTES) {
            // A kernel that does not take the advice reads when asked.
            let _ = map.advise_range(Advice::WillNeed, at, READ_AHEAD_BYTES.min(map.len() - at));
        }
    }

    /// Makes pages ready to be written without a fault.
    pub(crate) fn populate(&mut self, range: Range<usize>) {
        let end = range.end.min(self.len());
        let mut at = range.start.next_multiple_of(PAGE_BYTES);
        while at < end {
            let slice = (end - at).min(POPULATE_SLICE_BYTES);
            self.populate_slice(at, slice);
            at += slice;
        }
    }

    fn populate_slice(&mut self, at: usize, bytes: usize) {
        let Some(map) = &mut self.map else { return };
        if map.advise_range(Advice::PopulateWrite, at, bytes).is_ok() {
            return;
        }
        // Kernels before 5.14.
        touch(&mut map[at..at + bytes]);
    }
}

/// Writes to every page what it holds, so that it counts as changed.
pub(crate) fn touch(bytes: &mut [u8]) {
    for page in bytes.chunks_mut(PAGE_BYTES) {
        page[0] = black_box(page[0]);
    }
}

impl Deref for Mapping {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match &self.map {
            Some(map) => map,
            None => &[],
        }
    }
}

impl DerefMut for Mapping {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        match &mut self.map {
            Some(map) => map,
            None => &mut [],
        }
    }
}
