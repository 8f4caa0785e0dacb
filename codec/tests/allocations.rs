//! Decoding allocates nothing, and encoding into a buffer with room does not either.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use ringmq_codec::*;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: every call goes to the system's allocator, which keeps the contract.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller keeps the contract of `alloc`, which is the system's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the pointer came from `alloc` above, that is from the system.
        unsafe { System.dealloc(pointer, layout) }
    }
}

const STREAM: &[&[u8]] = &[
    b"\x10\x15\0\x04MQTT\x05\x02\0\0\x07\x26\0\x01k\0\x01v\0\x01c",
    b"\x20\x07\x01\0\x04\x12\0\x01a",
    b"\x32\x11\0\x03a/b\0\x0a\x07\x26\0\x01k\0\x01vhi",
    b"\x40\x02\0\x0a",
    b"\x62\x03\0\x0a\x92",
    b"\x82\x0d\0\x01\x02\x0b\x01\0\x01a\0\0\x01b\x01",
    b"\x90\x05\0\x01\0\0\x01",
    b"\xa2\x06\0\x01\0\0\x01a",
    b"\xb0\x04\0\x01\0\0",
    b"\xc0\0",
    b"\xe0\x01\x04",
    b"\xf0\x06\x18\x04\x15\0\x01m",
];

#[test]
fn neither_decoding_nor_encoding_with_room_allocates() {
    let mut out = Vec::with_capacity(4096);
    let before = ALLOCATIONS.get();
    assert!(before > 0, "the counter counts");
    for bytes in STREAM {
        let Ok(Decoded::Complete(frame)) = frame(bytes, 1000) else { panic!("{bytes:02x?}") };
        match Packet::decode(Version::V5, &frame) {
            Ok(packet) => packet.encode(Version::V5, &mut out),
            Err(error) => panic!("{error} in {bytes:02x?}"),
        }
    }
    assert_eq!(ALLOCATIONS.get(), before);
    assert!(out.iter().eq(STREAM.iter().copied().flatten()), "what came in goes out");
}
