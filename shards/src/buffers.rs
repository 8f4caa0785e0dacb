//! The ring of buffers that the kernel receives into.

use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;

use crate::config::RECEIVE_BUFFER_BYTES;

/// The group that a ring knows its buffers by.
pub(crate) const BUFFER_GROUP: u16 = 0;

/// Buffers of [`RECEIVE_BUFFER_BYTES`] each, and the kernel's list of the free ones.
///
/// invariant: a buffer is the kernel's while it is listed, and ours from the completion that names it to
/// its [`ReceiveBuffers::give_back`].
pub(crate) struct ReceiveBuffers {
    /// The list first, on a page of its own, then the buffers.
    memory: NonNull<u8>,
    memory_bytes: usize,
    count: u16,
    /// The next place in the list to fill; free running.
    tail: u16,
}

fn list_bytes(count: u16) -> usize {
    (usize::from(count) * size_of::<BufRingEntry>()).next_multiple_of(4096)
}

impl ReceiveBuffers {
    /// `count` buffers, a power of two, none of them the kernel's yet.
    pub fn new(count: u16) -> io::Result<Self> {
        assert!(count.is_power_of_two(), "a buffer ring's size is a power of two");
        let memory_bytes = list_bytes(count) + usize::from(count) * RECEIVE_BUFFER_BYTES;
        // SAFETY: asks for fresh memory and touches none.
        let memory = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                memory_bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if memory == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let memory = NonNull::new(memory.cast()).expect("mmap does not return the null page");
        Ok(Self { memory, memory_bytes, count, tail: 0 })
    }

    /// Where the list starts, for its registration.
    pub fn list_address(&self) -> u64 {
        self.memory.as_ptr() as u64
    }

    /// How many buffers there are.
    pub fn count(&self) -> u16 {
        self.count
    }

    fn buffer(&self, id: u16) -> NonNull<u8> {
        assert!(id < self.count, "the kernel names only buffers that it was given");
        // SAFETY: the id is below the count, so the offset is inside the mapping.
        unsafe { self.memory.add(list_bytes(self.count) + usize::from(id) * RECEIVE_BUFFER_BYTES) }
    }

    /// The first `len` bytes of a buffer that is ours.
    #[inline]
    pub fn filled(&self, id: u16, len: usize) -> &[u8] {
        assert!(len <= RECEIVE_BUFFER_BYTES, "the kernel fills a buffer at most");
        // SAFETY: the bytes are inside the mapping, initialised (to zero by mmap, or by the kernel), and
        // not written while the buffer is ours.
        unsafe { std::slice::from_raw_parts(self.buffer(id).as_ptr(), len) }
    }

    /// Lists a buffer that is ours as free.
    #[inline]
    pub fn give_back(&mut self, id: u16) {
        let address = self.buffer(id).as_ptr() as u64;
        let at = usize::from(self.tail & (self.count - 1));
        let list: *mut BufRingEntry = self.memory.as_ptr().cast();
        // SAFETY: the index is masked to the list.
        let entry = unsafe { list.add(at) };
        // SAFETY: the entry is mapped and aligned, and the kernel does not read it before the tail is
        // released past it.
        let entry = unsafe { &mut *entry };
        entry.set_addr(address);
        entry.set_len(RECEIVE_BUFFER_BYTES as u32);
        entry.set_bid(id);
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: the list is mapped and starts with an entry, whose spare field is the shared tail.
        let tail = unsafe { BufRingEntry::tail(list) };
        // SAFETY: the tail is aligned, lives as long as the mapping, and only the kernel reads it
        // meanwhile.
        unsafe { AtomicU16::from_ptr(tail.cast_mut()) }.store(self.tail, Ordering::Release);
    }
}

impl Drop for ReceiveBuffers {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours and nothing borrows from it any more. The kernel is done with it,
        // see `Ring`'s drop.
        unsafe { libc::munmap(self.memory.as_ptr().cast(), self.memory_bytes) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_do_not_overlap_and_the_list_wraps() {
        let mut buffers = ReceiveBuffers::new(4).unwrap();
        for turn in 0..10u16 {
            buffers.give_back(turn % 4);
        }
        assert_eq!(buffers.tail, 10);
        let starts: Vec<_> = (0..4).map(|id| buffers.filled(id, 1).as_ptr() as usize).collect();
        assert!(starts.windows(2).all(|pair| pair[1] - pair[0] == RECEIVE_BUFFER_BYTES));
        assert_eq!(starts[0] - buffers.list_address() as usize, 4096);
    }
}
