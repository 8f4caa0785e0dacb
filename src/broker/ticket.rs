//! Answers that are waited for: by a thread, by a task of any runtime, or not at all.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use ringmq_codec::ReasonCode;
use thiserror::Error;

/// Why an answer is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum WaitError {
    /// The time is up; the answer may still come.
    #[error("no answer within the time given")]
    TimedOut,
    /// The broker stopped before it answered.
    #[error("the broker stopped before it answered")]
    Stopped,
    /// The broker refused.
    #[error("the broker refused: {0}")]
    Refused(ReasonCode),
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Waiting,
    Answered(ReasonCode),
    Stopped,
}

#[derive(Debug, Default)]
struct Inner {
    state: State,
    waker: Option<Waker>,
}

/// Where an answer arrives; shared by the shard that gives it and the ticket that waits for it.
#[derive(Debug, Default)]
pub(super) struct Slot {
    inner: Mutex<Inner>,
    changed: Condvar,
}

impl Slot {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        // What the lock guards is whole after each statement, so a panic of a holder spoils nothing.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn answer(&self, reason: ReasonCode) {
        self.settle(State::Answered(reason));
    }

    pub fn stop(&self) {
        self.settle(State::Stopped);
    }

    fn settle(&self, state: State) {
        let mut inner = self.lock();
        inner.state = state;
        let waker = inner.waker.take();
        drop(inner);
        self.changed.notify_all();
        // Outside the lock: a waker runs code of others.
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// The answer to a request; dropping it lets the request go on unwatched.
///
/// Wait for it with [`Ticket::wait`], or await it in a task of any runtime.
#[derive(Debug)]
#[must_use = "dropping a ticket is fine, but then nobody learns whether the request was refused"]
pub struct Ticket {
    pub(super) slot: Arc<Slot>,
}

impl Ticket {
    /// Waits for the answer: the reason code, when it is not an error.
    pub fn wait(&self, timeout: Duration) -> Result<ReasonCode, WaitError> {
        let (inner, _) = self
            .slot
            .changed
            .wait_timeout_while(self.slot.lock(), timeout, |inner| matches!(inner.state, State::Waiting))
            .unwrap_or_else(PoisonError::into_inner);
        outcome(&inner.state).unwrap_or(Err(WaitError::TimedOut))
    }

    /// The answer, if it is there.
    pub fn try_wait(&self) -> Option<Result<ReasonCode, WaitError>> {
        outcome(&self.slot.lock().state)
    }
}

fn outcome(state: &State) -> Option<Result<ReasonCode, WaitError>> {
    match state {
        State::Waiting => None,
        State::Answered(reason) if reason.is_error() => Some(Err(WaitError::Refused(*reason))),
        State::Answered(reason) => Some(Ok(*reason)),
        State::Stopped => Some(Err(WaitError::Stopped)),
    }
}

impl Future for Ticket {
    type Output = Result<ReasonCode, WaitError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut inner = self.slot.lock();
        match outcome(&inner.state) {
            Some(outcome) => Poll::Ready(outcome),
            None => {
                inner.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicBool);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::SeqCst);
        }
    }

    #[test]
    fn an_answer_reaches_a_thread_that_waits() {
        let slot = Arc::new(Slot::default());
        let ticket = Ticket { slot: Arc::clone(&slot) };
        assert_eq!(ticket.wait(Duration::ZERO), Err(WaitError::TimedOut));
        let waiter = std::thread::spawn(move || ticket.wait(Duration::from_secs(60)));
        slot.answer(ReasonCode::Success);
        assert_eq!(waiter.join().unwrap(), Ok(ReasonCode::Success));
    }

    #[test]
    fn an_answer_wakes_the_task_that_waits() {
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        let slot = Arc::new(Slot::default());
        let mut ticket = Ticket { slot: Arc::clone(&slot) };
        let mut context = Context::from_waker(&waker);
        assert!(Pin::new(&mut ticket).poll(&mut context).is_pending());
        slot.answer(ReasonCode::TopicNameInvalid);
        assert!(woken.0.load(Ordering::SeqCst));
        let answer = Pin::new(&mut ticket).poll(&mut context);
        assert_eq!(answer, Poll::Ready(Err(WaitError::Refused(ReasonCode::TopicNameInvalid))));
    }

    #[test]
    fn a_stop_is_an_answer() {
        let slot = Arc::new(Slot::default());
        let ticket = Ticket { slot: Arc::clone(&slot) };
        slot.stop();
        assert_eq!(ticket.try_wait(), Some(Err(WaitError::Stopped)));
    }
}
