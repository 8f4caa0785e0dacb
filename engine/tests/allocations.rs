//! A steady PUBLISH allocates nothing.

#[path = "../examples/bare/mod.rs"]
mod bare;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use bare::{Bare, acks, publishes};
use ringmq_codec::{AckKind, QoS, Version};

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

/// Allocations in the last of several equal rounds.
fn allocations(mut round: impl FnMut()) -> usize {
    for _ in 0..5 {
        round();
    }
    let before = ALLOCATIONS.get();
    assert!(before > 0, "the counter counts");
    round();
    ALLOCATIONS.get() - before
}

#[test]
fn qos_0_to_a_hundred_subscribers() {
    let mut bare = Bare::new();
    for n in 0..100 {
        bare.subscriber(&format!("s{n}"), "a/b", QoS::AtMostOnce);
    }
    let publisher = bare.connect("p", Version::V311);
    let input = publishes("a/b", QoS::AtMostOnce, &[7; 64], 10);
    let mut written = 0;
    assert_eq!(allocations(|| written = bare.receive(publisher, &input)), 0);
    assert_eq!(written, 100 * input.len(), "and every subscriber got every packet");
}

#[test]
fn qos_0_to_receivers_of_another_version() {
    let mut bare = Bare::new();
    bare.subscriber("s", "a/b", QoS::AtMostOnce);
    let publisher = bare.connect("p", Version::V5);
    let input = b"\x30\x08\0\x03a/b\0hi";
    let mut written = 0;
    assert_eq!(allocations(|| written = bare.receive(publisher, input)), 0);
    assert_eq!(written, input.len() - 1, "a packet without the empty property list");
}

#[test]
fn qos_1_with_both_acks() {
    let mut bare = Bare::new();
    let subscriber = bare.subscriber("s", "a/b", QoS::AtLeastOnce);
    let publisher = bare.connect("p", Version::V311);
    let input = publishes("a/b", QoS::AtLeastOnce, &[7; 64], 10);
    let all_acks: Vec<_> = (0..8).map(|n| acks(AckKind::PubAck, n * 10 + 1, n * 10 + 10)).collect();
    let mut acks = all_acks.iter();
    let mut written = 0;
    let count = allocations(|| {
        written = bare.receive(publisher, &input);
        bare.receive(subscriber, acks.next().unwrap());
    });
    assert_eq!(count, 0);
    assert_eq!(written, input.len() + 10 * 4, "ten packets to the subscriber, ten acks to the publisher");
    assert_eq!(bare.engine.ledger().queued, 0);
}
