//! An answer that is waited for: by a thread, by a task of any runtime, or not at all.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

#[derive(Debug)]
struct Inner<T> {
    answer: Option<T>,
    waker: Option<Waker>,
    /// Threads that wait.
    waiting: u32,
}

/// Where one answer arrives; shared by who gives it and who waits for it.
#[derive(Debug)]
pub(crate) struct Slot<T> {
    inner: Mutex<Inner<T>>,
    changed: Condvar,
}

impl<T> Default for Slot<T> {
    fn default() -> Self {
        let inner = Inner { answer: None, waker: None, waiting: 0 };
        Self { inner: Mutex::new(inner), changed: Condvar::new() }
    }
}

impl<T: Clone> Slot<T> {
    fn lock(&self) -> MutexGuard<'_, Inner<T>> {
        // What the lock guards is whole after each statement, so a panic of a holder spoils nothing.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the answer. The first one counts.
    pub fn settle(&self, answer: T) {
        let mut inner = self.lock();
        if inner.answer.is_some() {
            return;
        }
        inner.answer = Some(answer);
        let (waker, waiting) = (inner.waker.take(), inner.waiting);
        drop(inner);
        if waiting > 0 {
            self.changed.notify_all();
        }
        // Outside the lock: a waker runs code of others.
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// The answer, if it is there.
    pub fn get(&self) -> Option<T> {
        self.lock().answer.clone()
    }

    /// Waits for the answer.
    pub fn wait(&self, timeout: Duration) -> Option<T> {
        let mut inner = self.lock();
        inner.waiting += 1;
        let (mut inner, _) = self
            .changed
            .wait_timeout_while(inner, timeout, |inner| inner.answer.is_none())
            .unwrap_or_else(PoisonError::into_inner);
        inner.waiting -= 1;
        inner.answer.clone()
    }

    /// The answer, or a note of whom to wake for it.
    pub fn poll(&self, context: &Context<'_>) -> Poll<T> {
        let mut inner = self.lock();
        match &inner.answer {
            Some(answer) => Poll::Ready(answer.clone()),
            None => {
                inner.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}
