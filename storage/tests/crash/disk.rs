//! A log's segments on a simulated disk.

use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::ops::{Deref, DerefMut};
use std::rc::Rc;
use std::sync::Arc;

use ringmq_sim::{FileId, Rng, SimDisk};
use ringmq_storage::{Disk, Segment, SegmentId};

/// A disk that a shard and the test share.
pub type SharedDisk = Rc<RefCell<SimDisk>>;

/// The segments of one shard.
pub struct TestDisk {
    disk: SharedDisk,
    /// In front of the segments' names.
    folder: String,
    /// What is being made, and how often the log has to ask for it.
    preparing: Option<(SegmentId, usize, usize)>,
    rng: Rng,
    /// What stands for every file in sync requests.
    file: Arc<File>,
}

/// The bytes of a segment, which are the disk's when it is dropped.
pub struct TestSegment {
    disk: SharedDisk,
    at: FileId,
    bytes: Vec<u8>,
    file: Arc<File>,
}

impl TestDisk {
    pub fn new(disk: &SharedDisk, folder: &str, rng: Rng) -> Self {
        let file = Arc::new(File::open("/dev/null").expect("every Unix has it"));
        Self { disk: Rc::clone(disk), folder: folder.to_owned(), preparing: None, rng, file }
    }

    fn name(&self, id: SegmentId) -> String {
        format!("{}{:08x}", self.folder, id.0)
    }

    fn hold(&self, at: FileId) -> TestSegment {
        let bytes = self.disk.borrow().read(at).to_vec();
        TestSegment { disk: Rc::clone(&self.disk), at, bytes, file: Arc::clone(&self.file) }
    }
}

impl Disk for TestDisk {
    type Segment = TestSegment;

    fn list(&mut self) -> io::Result<Vec<SegmentId>> {
        let disk = self.disk.borrow();
        let numbers = disk.names().filter_map(|name| name.strip_prefix(&self.folder));
        Ok(numbers.map(|hex| SegmentId(u32::from_str_radix(hex, 16).expect("named here"))).collect())
    }

    fn open(&mut self, id: SegmentId) -> io::Result<TestSegment> {
        let at = self.disk.borrow().open(&self.name(id))?;
        Ok(self.hold(at))
    }

    fn create(&mut self, id: SegmentId, bytes: usize) -> io::Result<TestSegment> {
        let at = self.disk.borrow_mut().create(&self.name(id), bytes)?;
        self.disk.borrow_mut().sync_names();
        Ok(self.hold(at))
    }

    fn prepare(&mut self, id: SegmentId, bytes: usize) {
        assert!(self.preparing.is_none(), "at most one is under way");
        let polls = *self.rng.pick(&[0, 0, 1, 3, 10]);
        self.preparing = Some((id, bytes, polls));
    }

    fn prepared(&mut self) -> Option<io::Result<TestSegment>> {
        let (id, bytes, polls) = self.preparing.as_mut()?;
        if *polls > 0 {
            *polls -= 1;
            return None;
        }
        let (id, bytes) = (*id, *bytes);
        self.preparing = None;
        Some(self.create(id, bytes))
    }

    fn await_prepared(&mut self) -> io::Result<TestSegment> {
        let (id, bytes, _) = self.preparing.take().ok_or_else(|| io::Error::other("none is under way"))?;
        self.create(id, bytes)
    }

    fn remove(&mut self, id: SegmentId, segment: TestSegment) {
        drop(segment);
        self.disk.borrow_mut().remove(&self.name(id)).expect("it was held, so it exists");
        if self.rng.chance(0.3) {
            self.disk.borrow_mut().sync_names();
        }
    }

    fn quarantine(&mut self, id: SegmentId, place: usize, bytes: &[u8]) -> io::Result<String> {
        assert!(!bytes.is_empty(), "there is something to put aside");
        Ok(format!("{}-{place:x}", self.name(id)))
    }
}

impl Drop for TestDisk {
    fn drop(&mut self) {
        // The crash may come when the segment that is under way is made already.
        if let Some((id, bytes, _)) = self.preparing.take()
            && !std::thread::panicking()
            && self.rng.chance(0.5)
        {
            let _ = self.disk.borrow_mut().create(&self.name(id), bytes);
        }
    }
}

impl TestSegment {
    fn write_back(&mut self) {
        self.disk.borrow_mut().write(self.at, &self.bytes);
    }
}

impl Deref for TestSegment {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl DerefMut for TestSegment {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

impl Segment for TestSegment {
    fn sync_file(&mut self) -> Arc<File> {
        self.write_back();
        self.disk.borrow_mut().begin_sync(self.at);
        Arc::clone(&self.file)
    }

    fn synced(&mut self) {
        self.disk.borrow_mut().end_sync(self.at);
    }

    fn cut(&mut self, bytes: usize) -> io::Result<()> {
        self.bytes.truncate(bytes);
        self.write_back();
        Ok(())
    }
}

impl Drop for TestSegment {
    fn drop(&mut self) {
        self.write_back();
    }
}
