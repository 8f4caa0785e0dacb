//! A value that threads and tasks wait on until it is as they want it.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

#[derive(Debug)]
struct Inner<T> {
    value: T,
    /// Threads that wait.
    waiting: u32,
    /// Tasks that wait, each under a key of its own.
    wakers: Vec<(u64, Waker)>,
    next_key: u64,
}

/// The value. Whoever waits no longer leaves nothing behind.
#[derive(Debug)]
pub(crate) struct Gate<T> {
    inner: Mutex<Inner<T>>,
    changed: Condvar,
}

impl<T> Gate<T> {
    pub fn new(value: T) -> Self {
        let inner = Inner { value, waiting: 0, wakers: Vec::new(), next_key: 0 };
        Self { inner: Mutex::new(inner), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner<T>> {
        // What the lock guards is whole after each statement, so a panic of a holder spoils nothing.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn look<R>(&self, look: impl FnOnce(&T) -> R) -> R {
        look(&self.lock().value)
    }

    /// Changes the value, and has all who wait look at it.
    pub fn change<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        let mut inner = self.lock();
        let result = change(&mut inner.value);
        let waiting = inner.waiting;
        let wakers = std::mem::take(&mut inner.wakers);
        drop(inner);
        if waiting > 0 {
            self.changed.notify_all();
        }
        // Outside the lock: a waker runs code of others.
        wakers.into_iter().for_each(|(_, waker)| waker.wake());
        result
    }

    /// Waits until `look` finds something.
    pub fn wait<R>(&self, timeout: Duration, mut look: impl FnMut(&T) -> Option<R>) -> Option<R> {
        let deadline = Instant::now().checked_add(timeout);
        let mut inner = self.lock();
        loop {
            if let Some(found) = look(&inner.value) {
                return Some(found);
            }
            inner.waiting += 1;
            inner = match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
                None => self.changed.wait(inner).unwrap_or_else(PoisonError::into_inner),
                Some(Duration::ZERO) => {
                    inner.waiting -= 1;
                    return None;
                }
                Some(left) => {
                    let waited = self.changed.wait_timeout(inner, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
            inner.waiting -= 1;
        }
    }

    /// What `look` finds, or a note of whom to wake when the value changes. The task keeps `key` between calls and
    /// gives it to [`Gate::forget`] at the end.
    pub fn poll<R>(
        &self,
        key: &mut Option<u64>,
        context: &Context<'_>,
        look: impl FnOnce(&T) -> Option<R>,
    ) -> Poll<R> {
        let mut inner = self.lock();
        if let Some(found) = look(&inner.value) {
            return Poll::Ready(found);
        }
        let key = *key.get_or_insert_with(|| {
            inner.next_key += 1;
            inner.next_key
        });
        match inner.wakers.iter_mut().find(|(other, _)| *other == key) {
            Some((_, waker)) => waker.clone_from(context.waker()),
            None => inner.wakers.push((key, context.waker().clone())),
        }
        Poll::Pending
    }

    /// A task waits no longer.
    pub fn forget(&self, key: Option<u64>) {
        if let Some(key) = key {
            let mut inner = self.lock();
            inner.wakers.retain(|(other, _)| *other != key);
            if inner.wakers.is_empty() {
                inner.wakers.shrink_to_fit();
            }
        }
    }

    #[cfg(test)]
    pub fn waiting(&self) -> usize {
        let inner = self.lock();
        inner.waiting as usize + inner.wakers.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_no_longer_leaves_nothing_behind() {
        let gate = Gate::new(0);
        let context = Context::from_waker(Waker::noop());
        for round in 0..10_000 {
            let mut key = None;
            assert!(gate.poll(&mut key, &context, |_| None::<()>).is_pending());
            assert!(gate.poll(&mut key, &context, |_| None::<()>).is_pending());
            assert_eq!(gate.waiting(), 1);
            gate.forget(key);
            assert_eq!(gate.wait(Duration::ZERO, |_| None::<()>), None);
            assert_eq!(gate.waiting(), 0, "round {round}");
        }
    }

    #[test]
    fn a_change_is_seen_by_threads_and_tasks() {
        let gate = Gate::new(0);
        let context = Context::from_waker(Waker::noop());
        let big = |value: &u32| (*value > 3).then_some(*value);
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| gate.wait(Duration::MAX, big));
            gate.change(|value| *value = 3);
            gate.change(|value| *value = 4);
            assert_eq!(waiter.join().unwrap(), Some(4));
        });
        assert_eq!(gate.poll(&mut None, &context, big), Poll::Ready(4));
    }
}
