//! A bounded queue from one shard to another, published once a turn.
//!
//! The producer writes slots and moves its tail for all of them with one release store; the consumer
//! gives slots back the same way. Neither touches the other's line more often than it has to.

use std::mem::MaybeUninit;

use crossbeam_utils::CachePadded;

#[cfg(ringmq_loom)]
use loom::{
    cell::UnsafeCell,
    sync::Arc,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence},
};
#[cfg(not(ringmq_loom))]
use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering, fence},
};

/// `std`'s cell with `loom`'s interface.
#[cfg(not(ringmq_loom))]
struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

#[cfg(not(ringmq_loom))]
impl<T> UnsafeCell<T> {
    fn new(value: T) -> Self {
        Self(std::cell::UnsafeCell::new(value))
    }

    #[inline]
    fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
        f(self.0.get())
    }
}

struct Shared<T> {
    slots: Box<[UnsafeCell<MaybeUninit<T>>]>,
    /// How many messages were ever taken. Written by the consumer only.
    head: CachePadded<AtomicUsize>,
    /// How many messages were ever published. Written by the producer only.
    tail: CachePadded<AtomicUsize>,
    /// The producer has messages that found no room.
    producer_waits: CachePadded<AtomicBool>,
}

impl<T> Shared<T> {
    #[inline]
    fn slot(&self, at: usize) -> &UnsafeCell<MaybeUninit<T>> {
        &self.slots[at & (self.slots.len() - 1)]
    }
}

// SAFETY: a slot is accessed by one side at a time: by the producer until its tail is released past
// it, by the consumer until its head is released past it. So only the messages cross threads.
unsafe impl<T: Send> Send for Shared<T> {}
// SAFETY: as above; the other fields are atomics.
unsafe impl<T: Send> Sync for Shared<T> {}

/// The producer's end of a lane.
pub(crate) struct Producer<T> {
    shared: Arc<Shared<T>>,
    /// The next slot to write; ahead of what is published.
    tail: usize,
    published: usize,
    /// The consumer's head when last looked at.
    head: usize,
}

/// The consumer's end of a lane.
pub(crate) struct Consumer<T> {
    shared: Arc<Shared<T>>,
    /// The next slot to read; ahead of what is given back.
    head: usize,
    given_back: usize,
    /// The producer's tail when last looked at.
    tail: usize,
}

/// A lane for `capacity` messages, a power of two.
pub(crate) fn lane<T>(capacity: usize) -> (Producer<T>, Consumer<T>) {
    assert!(capacity.is_power_of_two(), "a lane's capacity is a power of two");
    let shared = Arc::new(Shared {
        slots: (0..capacity).map(|_| UnsafeCell::new(MaybeUninit::uninit())).collect(),
        head: CachePadded::new(AtomicUsize::new(0)),
        tail: CachePadded::new(AtomicUsize::new(0)),
        producer_waits: CachePadded::new(AtomicBool::new(false)),
    });
    (
        Producer { shared: Arc::clone(&shared), tail: 0, published: 0, head: 0 },
        Consumer { shared, head: 0, given_back: 0, tail: 0 },
    )
}

impl<T> Producer<T> {
    /// How many messages the lane takes at least. Looks at the consumer's line only when fewer than
    /// `wanted` are known to fit.
    #[inline]
    pub fn room(&mut self, wanted: usize) -> usize {
        let capacity = self.shared.slots.len();
        let room = capacity - self.tail.wrapping_sub(self.head);
        if room >= wanted {
            return room;
        }
        self.head = self.shared.head.load(Ordering::Acquire);
        capacity - self.tail.wrapping_sub(self.head)
    }

    /// Adds a message that the consumer will see after [`Producer::publish`]; gives it back when there
    /// is no room.
    #[inline]
    pub fn push(&mut self, message: T) -> Result<(), T> {
        if self.room(1) == 0 {
            return Err(message);
        }
        self.shared.slot(self.tail).with_mut(|slot| {
            // SAFETY: the slot is between the published tail and the head plus the capacity, so the
            // consumer has given it back and does not touch it before the tail is released past it.
            unsafe { (*slot).write(message) };
        });
        self.tail = self.tail.wrapping_add(1);
        Ok(())
    }

    /// Shows the consumer what was pushed; says whether there was anything. The caller then issues a
    /// `SeqCst` fence and looks whether the consumer sleeps.
    #[inline]
    pub fn publish(&mut self) -> bool {
        if self.published == self.tail {
            return false;
        }
        self.published = self.tail;
        self.shared.tail.store(self.tail, Ordering::Release);
        true
    }

    /// Asks to be woken when there is room; true when there is some already.
    pub fn wait_for_room(&mut self) -> bool {
        self.shared.producer_waits.store(true, Ordering::Relaxed);
        // Pairs with the fence of the consumer between giving slots back and looking at the flag: it
        // sees the flag, or this sees the slots.
        fence(Ordering::SeqCst);
        self.room(1) > 0
    }
}

impl<T> Consumer<T> {
    /// How many messages wait.
    #[inline]
    pub fn len(&mut self) -> usize {
        self.tail = self.shared.tail.load(Ordering::Acquire);
        self.tail.wrapping_sub(self.head)
    }

    /// The oldest message of those that [`Consumer::len`] counted last.
    #[inline]
    pub fn pop(&mut self) -> Option<T> {
        if self.head == self.tail {
            return None;
        }
        let message = self.shared.slot(self.head).with_mut(|slot| {
            // SAFETY: the slot is below the tail that was acquired, so the producer wrote it and leaves
            // it alone until the head is released past it.
            let slot = unsafe { &*slot };
            // SAFETY: it was written, and the head moves past it below, so it is read once.
            unsafe { slot.assume_init_read() }
        });
        self.head = self.head.wrapping_add(1);
        Some(message)
    }

    /// Gives the slots of the messages taken back to the producer; says whether there were any. The
    /// caller then issues a `SeqCst` fence and asks [`Consumer::producer_waits`].
    #[inline]
    pub fn give_back(&mut self) -> bool {
        if self.given_back == self.head {
            return false;
        }
        self.given_back = self.head;
        self.shared.head.store(self.head, Ordering::Release);
        true
    }

    /// Whether the producer waits for room; asking resets it.
    #[inline]
    pub fn producer_waits(&mut self) -> bool {
        self.shared.producer_waits.load(Ordering::Relaxed)
            && self.shared.producer_waits.swap(false, Ordering::Relaxed)
    }
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        let tail = self.tail.load(Ordering::Acquire);
        let mut at = self.head.load(Ordering::Acquire);
        while at != tail {
            self.slot(at).with_mut(|slot| {
                // SAFETY: both ends are gone, so nothing else refers to the slot.
                let slot = unsafe { &mut *slot };
                // SAFETY: slots from the head to the tail hold messages that were not taken.
                unsafe { slot.assume_init_drop() };
            });
            at = at.wrapping_add(1);
        }
    }
}

impl<T> Drop for Producer<T> {
    fn drop(&mut self) {
        self.publish();
    }
}

impl<T> Drop for Consumer<T> {
    fn drop(&mut self) {
        self.give_back();
    }
}

#[cfg(all(test, not(ringmq_loom)))]
mod tests {
    use super::*;

    #[test]
    fn messages_come_out_in_order_once_published() {
        let (mut producer, mut consumer) = lane(4);
        producer.push(1).unwrap();
        producer.push(2).unwrap();
        assert_eq!(consumer.len(), 0);
        assert!(producer.publish() && !producer.publish());
        assert_eq!(consumer.len(), 2);
        assert_eq!([consumer.pop(), consumer.pop(), consumer.pop()], [Some(1), Some(2), None]);
    }

    #[test]
    fn a_full_lane_gives_the_message_back_until_slots_are_given_back() {
        let (mut producer, mut consumer) = lane(2);
        producer.push(1).unwrap();
        producer.push(2).unwrap();
        assert_eq!(producer.push(3), Err(3));
        producer.publish();
        assert!(!producer.wait_for_room());
        assert_eq!((consumer.len(), consumer.pop()), (2, Some(1)));
        assert_eq!(producer.push(3), Err(3), "the slot is not given back yet");
        assert!(consumer.give_back() && consumer.producer_waits() && !consumer.producer_waits());
        producer.push(3).unwrap();
    }

    #[test]
    fn what_was_not_taken_is_dropped() {
        let token = Arc::new(());
        let (mut producer, mut consumer) = lane(8);
        for _ in 0..5 {
            producer.push(Arc::clone(&token)).unwrap();
        }
        producer.publish();
        consumer.len();
        drop(consumer.pop());
        producer.push(Arc::clone(&token)).unwrap();
        drop(consumer);
        drop(producer);
        assert_eq!(Arc::strong_count(&token), 1);
    }

    #[test]
    fn two_threads_pass_messages_through_a_tiny_lane() {
        let count = if cfg!(miri) { 200 } else { 1_000_000 };
        let (mut producer, mut consumer) = lane(2);
        let sender = std::thread::spawn(move || {
            for number in 0..count {
                let mut message = Box::new(number);
                while let Err(back) = producer.push(message) {
                    message = back;
                    producer.publish();
                    std::thread::yield_now();
                }
            }
        });
        for number in 0..count {
            while consumer.len() == 0 {
                consumer.give_back();
                std::thread::yield_now();
            }
            assert_eq!(consumer.pop().as_deref(), Some(&number));
        }
        sender.join().unwrap();
    }
}

#[cfg(all(test, ringmq_loom))]
mod models {
    use super::*;
    use loom::thread;

    #[test]
    fn messages_arrive_whole_and_in_order() {
        loom::model(|| {
            let (mut producer, mut consumer) = lane(2);
            let sender = thread::spawn(move || {
                for number in 0..3 {
                    let mut message = Box::new(number);
                    while let Err(back) = producer.push(message) {
                        message = back;
                        producer.publish();
                        thread::yield_now();
                    }
                    producer.publish();
                }
            });
            for number in 0..3 {
                while consumer.len() == 0 {
                    consumer.give_back();
                    thread::yield_now();
                }
                assert_eq!(consumer.pop().as_deref(), Some(&number));
            }
            sender.join().unwrap();
        });
    }

    /// The protocol of `mesh`: a producer without room sets its flag and looks again; a consumer gives
    /// back, fences and looks at the flag. One of them must notice.
    #[test]
    fn a_producer_that_waits_is_noticed_or_sees_the_room() {
        loom::model(|| {
            let (mut producer, mut consumer) = lane(1);
            producer.push(1).unwrap();
            producer.publish();
            let taker = thread::spawn(move || {
                assert_eq!(consumer.len(), 1);
                consumer.pop();
                consumer.give_back();
                fence(Ordering::SeqCst);
                consumer.producer_waits()
            });
            let room = producer.wait_for_room();
            let woken = taker.join().unwrap();
            assert!(room || woken, "the producer would sleep for ever");
        });
    }
}
