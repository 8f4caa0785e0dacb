//! A disk in memory, for tests.

use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::ops::{Deref, DerefMut};
use std::rc::Rc;
use std::sync::Arc;

use crate::{Disk, Segment, SegmentId};

/// What a test can see and set of a [`MemoryDisk`].
#[derive(Debug)]
pub(crate) struct State {
    /// How many segments there is room for.
    pub(crate) room: usize,
    /// Whether a segment that is being made is ready when asked for.
    pub(crate) prompt: bool,
    pub(crate) exist: Vec<SegmentId>,
    pub(crate) removed: Vec<SegmentId>,
    /// How often a segment was waited for.
    pub(crate) waits: usize,
}

pub(crate) type DiskHandle = Rc<RefCell<State>>;

#[derive(Debug)]
pub(crate) struct MemoryDisk {
    state: DiskHandle,
    preparing: Option<(SegmentId, usize)>,
}

impl MemoryDisk {
    pub(crate) fn new() -> (Self, DiskHandle) {
        let state =
            State { room: usize::MAX, prompt: true, exist: Vec::new(), removed: Vec::new(), waits: 0 };
        let state = Rc::new(RefCell::new(state));
        (Self { state: state.clone(), preparing: None }, state)
    }
}

#[derive(Debug)]
pub(crate) struct MemorySegment(pub(crate) Vec<u8>);

impl Deref for MemorySegment {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl DerefMut for MemorySegment {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

impl Segment for MemorySegment {
    fn sync_file(&mut self) -> Arc<File> {
        Arc::new(File::open("/dev/null").unwrap())
    }

    fn cut(&mut self, bytes: usize) -> io::Result<()> {
        self.0.truncate(bytes);
        Ok(())
    }
}

impl Disk for MemoryDisk {
    type Segment = MemorySegment;

    fn list(&mut self) -> io::Result<Vec<SegmentId>> {
        Ok(self.state.borrow().exist.clone())
    }

    fn open(&mut self, id: SegmentId) -> io::Result<MemorySegment> {
        unreachable!("segment {id:?} is not opened here")
    }

    fn create(&mut self, id: SegmentId, bytes: usize) -> io::Result<MemorySegment> {
        let mut state = self.state.borrow_mut();
        if state.exist.len() >= state.room {
            return Err(io::ErrorKind::StorageFull.into());
        }
        assert!(state.exist.last() < Some(&id), "numbers grow");
        state.exist.push(id);
        Ok(MemorySegment(vec![0; bytes]))
    }

    fn prepare(&mut self, id: SegmentId, bytes: usize) {
        assert!(self.preparing.replace((id, bytes)).is_none(), "one at a time");
    }

    fn prepared(&mut self) -> Option<io::Result<MemorySegment>> {
        let prompt = self.state.borrow().prompt;
        prompt.then(|| self.preparing.take().map(|(id, bytes)| self.create(id, bytes)))?
    }

    fn await_prepared(&mut self) -> io::Result<MemorySegment> {
        self.state.borrow_mut().waits += 1;
        let (id, bytes) = self.preparing.take().expect("one is being made");
        self.create(id, bytes)
    }

    fn remove(&mut self, id: SegmentId, segment: MemorySegment) {
        let mut state = self.state.borrow_mut();
        let unused = segment.iter().all(|byte| *byte == 0);
        assert!(unused || state.exist.first() == Some(&id), "what was used goes in order");
        state.exist.retain(|exists| *exists != id);
        state.removed.push(id);
    }

    fn quarantine(&mut self, _id: SegmentId, _place: usize, _bytes: &[u8]) -> io::Result<String> {
        unreachable!("nothing is damaged here")
    }
}
