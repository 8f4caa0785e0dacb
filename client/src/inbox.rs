//! What waits for one consumer in the program: a bounded queue between the I/O threads and a listener or
//! handler.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use ringmq_codec::QoS;

use crate::link::{Overflow, Request, SessionShared};
use crate::message::Received;

/// Why there is nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecvError {
    /// Nothing came in time.
    #[error("nothing came within the time given")]
    Empty,
    /// Nothing will come: the route was stopped, its session removed, or the manager shut down, and all that came
    /// before was taken.
    #[error("nothing will come any more")]
    Stopped,
}

/// What an [`Inbox`] holds.
pub(crate) trait Item: Send + fmt::Debug {
    /// Who waits for room under [`Overflow::Pause`].
    type Waiter: Send + fmt::Debug;

    /// It leaves the queue for the program.
    fn taken(&mut self) {}

    /// It is dropped; the program will never see it.
    fn dropped(self);

    /// Under [`Overflow::Withhold`]: whether it is kept where there is no room.
    fn is_kept(&self) -> bool;

    /// There is room again.
    fn room_again(waiter: Self::Waiter);
}

impl Item for Received {
    type Waiter = Arc<SessionShared>;

    fn taken(&mut self) {
        Received::taken(self);
    }

    fn dropped(mut self) {
        // Else it would fill the session's Receive Maximum for good.
        self.ack();
    }

    fn is_kept(&self) -> bool {
        self.message.qos != QoS::AtMostOnce
    }

    fn room_again(session: Self::Waiter) {
        session.mailbox.post(Request::RoomAgain(session.id));
    }
}

#[derive(Debug)]
struct Inner<T: Item> {
    items: VecDeque<T>,
    dropped: u64,
    /// Nothing more is put in.
    is_closed: bool,
    /// A thread is at work on it, or about to be.
    is_claimed: bool,
    /// Threads that wait.
    waiting: u32,
    waker: Option<Waker>,
    starved: Vec<T::Waiter>,
}

/// The queue, with its bound and its policy.
#[derive(Debug)]
pub(crate) struct Inbox<T: Item> {
    capacity: usize,
    overflow: Overflow,
    inner: Mutex<Inner<T>>,
    changed: Condvar,
}

impl<T: Item> Inbox<T> {
    pub fn new(capacity: usize, overflow: Overflow) -> Self {
        let inner = Inner {
            items: VecDeque::new(),
            dropped: 0,
            is_closed: false,
            is_claimed: false,
            waiting: 0,
            waker: None,
            starved: Vec::new(),
        };
        Self { capacity: capacity.max(1), overflow, inner: Mutex::new(inner), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner<T>> {
        // What the lock guards is whole after each statement, so a panic of a holder spoils nothing.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn overflow(&self) -> Overflow {
        self.overflow
    }

    /// How many items fit. A closed one takes all there is.
    pub fn room(&self) -> usize {
        let inner = self.lock();
        if inner.is_closed { usize::MAX } else { self.capacity.saturating_sub(inner.items.len()) }
    }

    /// Takes items in, in order, or drops some by the policy. Whether somebody must be set to work on them: the
    /// caller has claimed them then.
    pub fn put(&self, items: &mut Vec<T>) -> bool {
        let mut inner = self.lock();
        if inner.is_closed {
            drop(inner);
            items.drain(..).for_each(T::dropped);
            return false;
        }
        let room = self.capacity.saturating_sub(inner.items.len());
        let mut refused = Vec::new();
        if items.len() <= room || self.overflow == Overflow::Pause {
            inner.items.extend(items.drain(..));
        } else {
            self.put_some(&mut inner, items, &mut refused);
            inner.dropped += refused.len() as u64;
        }
        let is_news = !inner.items.is_empty() && !inner.is_claimed;
        inner.is_claimed |= is_news;
        self.wake(inner);
        // Outside the lock: their drop may post.
        refused.into_iter().for_each(T::dropped);
        is_news
    }

    fn put_some(&self, inner: &mut Inner<T>, items: &mut Vec<T>, refused: &mut Vec<T>) {
        for item in items.drain(..) {
            if inner.items.len() < self.capacity {
                inner.items.push_back(item);
                continue;
            }
            match self.overflow {
                Overflow::Pause => inner.items.push_back(item),
                Overflow::Withhold if item.is_kept() => inner.items.push_back(item),
                Overflow::Withhold | Overflow::DropNewest => refused.push(item),
                Overflow::DropOldest => {
                    refused.extend(inner.items.pop_front());
                    inner.items.push_back(item);
                }
            }
        }
    }

    /// Tells those who wait for items. Gives up the lock.
    fn wake(&self, mut inner: MutexGuard<'_, Inner<T>>) {
        let waker = inner.waker.take();
        let waiting = inner.waiting;
        drop(inner);
        if waiting > 0 {
            self.changed.notify_all();
        }
        // Outside the lock: a waker runs code of others.
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Notes who waits for room, to be told once for each time; false when there is some.
    pub fn wait_for_room(&self, waiter: T::Waiter) -> bool {
        let mut inner = self.lock();
        if inner.is_closed || inner.items.len() < self.capacity {
            return false;
        }
        inner.starved.push(waiter);
        true
    }

    /// Tells those who wait for room, once half of it is free. Gives up the lock.
    fn feed(&self, mut inner: MutexGuard<'_, Inner<T>>) {
        let has_room = inner.is_closed || inner.items.len() <= self.capacity / 2;
        if inner.starved.is_empty() || !has_room {
            return;
        }
        let starved = std::mem::take(&mut inner.starved);
        drop(inner);
        starved.into_iter().for_each(T::room_again);
    }

    /// Lets nothing more in. What is there stays.
    pub fn close(&self) {
        let mut inner = self.lock();
        inner.is_closed = true;
        let starved = std::mem::take(&mut inner.starved);
        self.wake(inner);
        starved.into_iter().for_each(T::room_again);
    }

    /// Lets nothing more in, and drops what is there.
    pub fn discard(&self) {
        let items = {
            let mut inner = self.lock();
            inner.is_closed = true;
            std::mem::take(&mut inner.items)
        };
        self.close();
        items.into_iter().for_each(T::dropped);
    }

    pub fn is_closed(&self) -> bool {
        self.lock().is_closed
    }

    pub fn dropped(&self) -> u64 {
        self.lock().dropped
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.lock().items.len()
    }

    fn pop(&self, mut inner: MutexGuard<'_, Inner<T>>) -> Result<T, RecvError> {
        let nothing = if inner.is_closed { RecvError::Stopped } else { RecvError::Empty };
        let mut item = inner.items.pop_front().ok_or(nothing)?;
        self.feed(inner);
        item.taken();
        Ok(item)
    }

    /// Waits for an item; without a timeout, until there can be none any more.
    pub fn recv(&self, timeout: Option<Duration>) -> Result<T, RecvError> {
        let mut inner = self.lock();
        if inner.items.is_empty() && !inner.is_closed && timeout != Some(Duration::ZERO) {
            let is_empty = |inner: &mut Inner<T>| inner.items.is_empty() && !inner.is_closed;
            inner.waiting += 1;
            inner = match timeout {
                Some(timeout) => {
                    let waited = self.changed.wait_timeout_while(inner, timeout, is_empty);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.changed.wait_while(inner, is_empty).unwrap_or_else(PoisonError::into_inner),
            };
            inner.waiting -= 1;
        }
        self.pop(inner)
    }

    /// The next item, or a note of whom to wake for it; none when there can be none any more.
    pub fn poll(&self, context: &Context<'_>) -> Poll<Option<T>> {
        let mut inner = self.lock();
        if inner.items.is_empty() && !inner.is_closed {
            inner.waker = Some(context.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(self.pop(inner).ok())
    }

    /// Moves up to `max` items into `batch`, not yet taken.
    pub fn take(&self, batch: &mut VecDeque<T>, max: usize) {
        let mut inner = self.lock();
        let count = inner.items.len().min(max);
        batch.extend(inner.items.drain(..count));
        self.feed(inner);
    }

    /// Who is at work on it goes on, or gives up its claim when nothing is left; whether it goes on.
    pub fn go_on(&self) -> bool {
        let mut inner = self.lock();
        inner.is_claimed = !inner.items.is_empty();
        inner.is_claimed
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
    use std::task::Wake;

    use super::*;

    /// Counts what becomes of it.
    #[derive(Debug)]
    struct Probe {
        number: u32,
        is_kept: bool,
        told: Arc<Mutex<Vec<String>>>,
    }

    impl Item for Probe {
        type Waiter = Arc<AtomicU32>;

        fn taken(&mut self) {
            self.told.lock().unwrap().push(format!("taken {}", self.number));
        }

        fn dropped(self) {
            self.told.lock().unwrap().push(format!("dropped {}", self.number));
        }

        fn is_kept(&self) -> bool {
            self.is_kept
        }

        fn room_again(waiter: Self::Waiter) {
            waiter.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[derive(Default)]
    struct Stage {
        told: Arc<Mutex<Vec<String>>>,
    }

    impl Stage {
        /// QoS 0 is an even number, QoS 1 an odd one.
        fn put(&self, inbox: &Inbox<Probe>, numbers: &[u32]) {
            let probe = |&number| Probe { number, is_kept: number % 2 == 1, told: Arc::clone(&self.told) };
            let mut items: Vec<_> = numbers.iter().map(probe).collect();
            inbox.put(&mut items);
            assert!(items.is_empty());
        }

        fn told(&self) -> Vec<String> {
            std::mem::take(&mut self.told.lock().unwrap())
        }
    }

    fn rest(inbox: &Inbox<Probe>) -> Vec<u32> {
        std::iter::from_fn(|| inbox.recv(Some(Duration::ZERO)).ok()).map(|item| item.number).collect()
    }

    #[test]
    fn a_full_queue_follows_its_policy_and_counts() {
        let table: [(Overflow, &[u32], &[&str]); 4] = [
            (Overflow::DropNewest, &[1, 2], &["dropped 3", "dropped 4"]),
            (Overflow::DropOldest, &[3, 4], &["dropped 1", "dropped 2"]),
            (Overflow::Withhold, &[1, 2, 3], &["dropped 4"]),
            (Overflow::Pause, &[1, 2, 3, 4], &[]),
        ];
        for (overflow, expect, dropped) in table {
            for batches in [&[&[1_u32, 2, 3, 4][..]][..], &[&[1], &[2], &[3], &[4]]] {
                let stage = Stage::default();
                let inbox = Inbox::new(2, overflow);
                for batch in batches {
                    stage.put(&inbox, batch);
                }
                assert_eq!(stage.told(), dropped, "{overflow:?}");
                assert_eq!(inbox.dropped(), dropped.len() as u64);
                assert_eq!(rest(&inbox), expect, "{overflow:?}");
                let taken: Vec<String> = expect.iter().map(|number| format!("taken {number}")).collect();
                assert_eq!(stage.told(), taken);
            }
        }
    }

    #[test]
    fn who_waits_for_room_is_told_once_half_is_free() {
        let stage = Stage::default();
        let inbox = Inbox::new(4, Overflow::Pause);
        let waiter = Arc::new(AtomicU32::new(0));
        assert!(!inbox.wait_for_room(Arc::clone(&waiter)), "there is room");
        stage.put(&inbox, &[1, 2, 3, 4, 5]);
        assert_eq!(inbox.room(), 0);
        assert!(inbox.wait_for_room(Arc::clone(&waiter)));
        assert!(inbox.wait_for_room(Arc::clone(&waiter)), "told as often as it asked");
        for told in [0, 0, 2] {
            inbox.recv(None).unwrap();
            assert_eq!(waiter.load(Ordering::SeqCst), told);
        }
        stage.put(&inbox, &[6, 7]);
        let late = Arc::new(AtomicU32::new(0));
        assert!(inbox.wait_for_room(Arc::clone(&late)));
        inbox.close();
        assert_eq!(late.load(Ordering::SeqCst), 1, "a closed queue holds nobody up");
        assert!(!inbox.wait_for_room(late));
    }

    #[test]
    fn what_came_before_the_end_is_still_there_unless_it_is_discarded() {
        let stage = Stage::default();
        let inbox = Inbox::new(9, Overflow::Withhold);
        stage.put(&inbox, &[1, 2]);
        inbox.close();
        stage.put(&inbox, &[3]);
        assert_eq!(stage.told(), ["dropped 3"]);
        assert_eq!(inbox.recv(None).unwrap().number, 1);
        inbox.discard();
        assert_eq!(stage.told(), ["taken 1", "dropped 2"]);
        assert_eq!(inbox.recv(None).unwrap_err(), RecvError::Stopped);
        assert_eq!(inbox.room(), usize::MAX);
    }

    #[test]
    fn a_claim_lasts_until_nothing_is_left() {
        let stage = Stage::default();
        let inbox = Inbox::new(9, Overflow::Withhold);
        let probe = |number| vec![Probe { number, is_kept: true, told: Arc::clone(&stage.told) }];
        assert!(inbox.put(&mut probe(1)));
        assert!(!inbox.put(&mut probe(3)), "somebody is at it");
        let mut batch = VecDeque::new();
        inbox.take(&mut batch, 1);
        assert!(inbox.go_on());
        inbox.take(&mut batch, 9);
        assert_eq!(batch.len(), 2);
        assert!(!inbox.go_on());
        assert!(inbox.put(&mut probe(5)));
    }

    #[derive(Default)]
    struct Woken(AtomicBool);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::SeqCst);
        }
    }

    #[test]
    fn tasks_and_threads_are_woken() {
        let stage = Stage::default();
        let inbox = Arc::new(Inbox::new(9, Overflow::Withhold));
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        let context = Context::from_waker(&waker);
        assert!(inbox.poll(&context).is_pending());
        stage.put(&inbox, &[1]);
        assert!(woken.0.load(Ordering::SeqCst));
        assert!(matches!(inbox.poll(&context), Poll::Ready(Some(Probe { number: 1, .. }))));
        let other = Arc::clone(&inbox);
        let waiter = std::thread::spawn(move || other.recv(None).map(|item| item.number));
        stage.put(&inbox, &[2]);
        assert_eq!(waiter.join().unwrap(), Ok(2));
        inbox.close();
        assert!(matches!(inbox.poll(&context), Poll::Ready(None)));
    }
}
