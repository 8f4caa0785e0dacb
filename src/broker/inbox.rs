//! What waits for one in-process subscriber: a bounded queue between a shard and the program.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use ringmq_engine::LocalMessage;

/// What becomes of a message when a subscription's queue is full. A shard never waits for the program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overflow {
    /// The new message is dropped and counted.
    #[default]
    DropNewest,
    /// The oldest message is dropped and counted, the new one takes its place.
    DropOldest,
}

/// Why there is no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecvError {
    /// None came in time.
    #[error("no message within the time given")]
    Empty,
    /// None will come: the broker stopped, and all that came before was taken.
    #[error("the broker stopped")]
    Stopped,
}

#[derive(Debug, Default)]
struct Inner {
    messages: VecDeque<Arc<LocalMessage>>,
    dropped: u64,
    stopped: bool,
    waker: Option<Waker>,
}

#[derive(Debug)]
pub(super) struct Inbox {
    messages_max: usize,
    overflow: Overflow,
    inner: Mutex<Inner>,
    changed: Condvar,
}

impl Inbox {
    pub fn new(messages_max: usize, overflow: Overflow) -> Self {
        Self { messages_max: messages_max.max(1), overflow, inner: Mutex::default(), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // What the lock guards is whole after each statement, so a panic of a holder spoils nothing.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a message in, or drops one by the policy.
    pub fn put(&self, message: Arc<LocalMessage>) {
        let mut inner = self.lock();
        if inner.messages.len() >= self.messages_max {
            inner.dropped += 1;
            match self.overflow {
                Overflow::DropNewest => return,
                Overflow::DropOldest => drop(inner.messages.pop_front()),
            }
        }
        inner.messages.push_back(message);
        self.wake(inner);
    }

    pub fn stop(&self) {
        let mut inner = self.lock();
        inner.stopped = true;
        self.wake(inner);
    }

    fn wake(&self, mut inner: MutexGuard<'_, Inner>) {
        let waker = inner.waker.take();
        drop(inner);
        self.changed.notify_one();
        // Outside the lock: a waker runs code of others.
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    pub fn dropped(&self) -> u64 {
        self.lock().dropped
    }

    /// Waits for a message; without a timeout, until the broker stops.
    pub fn recv(&self, timeout: Option<Duration>) -> Result<Arc<LocalMessage>, RecvError> {
        let is_empty = |inner: &mut Inner| inner.messages.is_empty() && !inner.stopped;
        let inner = self.lock();
        let mut inner = match timeout {
            Some(timeout) => {
                let waited = self.changed.wait_timeout_while(inner, timeout, is_empty);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
            None => self.changed.wait_while(inner, is_empty).unwrap_or_else(PoisonError::into_inner),
        };
        take(&mut inner)
    }

    pub fn poll(&self, context: &Context<'_>) -> Poll<Option<Arc<LocalMessage>>> {
        let mut inner = self.lock();
        match take(&mut inner) {
            Ok(message) => Poll::Ready(Some(message)),
            Err(RecvError::Stopped) => Poll::Ready(None),
            Err(RecvError::Empty) => {
                inner.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

fn take(inner: &mut Inner) -> Result<Arc<LocalMessage>, RecvError> {
    let nothing = if inner.stopped { RecvError::Stopped } else { RecvError::Empty };
    inner.messages.pop_front().ok_or(nothing)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Message;

    fn message(topic: &str) -> Arc<LocalMessage> {
        Arc::new(Message::new(topic, "").into_local().unwrap())
    }

    fn topics(inbox: &Inbox) -> Vec<String> {
        std::iter::from_fn(|| inbox.recv(Some(Duration::ZERO)).ok())
            .map(|message| message.topic.clone())
            .collect()
    }

    #[test]
    fn a_full_queue_follows_its_policy_and_counts() {
        let table = [(Overflow::DropNewest, ["a", "b"]), (Overflow::DropOldest, ["b", "c"])];
        for (overflow, expect) in table {
            let inbox = Inbox::new(2, overflow);
            for topic in ["a", "b", "c"] {
                inbox.put(message(topic));
            }
            assert_eq!(topics(&inbox), expect, "{overflow:?}");
            assert_eq!(inbox.dropped(), 1);
        }
    }

    #[test]
    fn what_came_before_the_stop_is_still_there() {
        let inbox = Inbox::new(2, Overflow::DropNewest);
        inbox.put(message("a"));
        inbox.stop();
        assert_eq!(inbox.recv(None).unwrap().topic, "a");
        assert_eq!(inbox.recv(None), Err(RecvError::Stopped));
    }
}
