//! What becomes of a message that was given to a session.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use ringmq_codec::ReasonCode;

use crate::error::Error;
use crate::link::Outcome;
use crate::session::Session;
use crate::slot::Slot;

/// The outcome of a publication, or another request to the broker: wait for it with [`Delivery::wait`], or await it
/// in a task of any runtime. Dropping it lets the message go on unwatched.
///
/// At QoS 0 it is there once the message was written to the connection, at QoS 1 and 2 once the broker has
/// acknowledged all of it.
#[must_use = "dropping a delivery is fine, but then nobody learns whether the message arrived"]
pub struct Delivery {
    slot: Arc<Slot<Outcome>>,
    /// The store's answer, where one comes first.
    stored: Option<Arc<Slot<Result<(), Error>>>>,
    session: Session,
}

impl Delivery {
    pub(crate) fn new(session: &Session, slot: Arc<Slot<Outcome>>) -> Self {
        Self { slot, stored: None, session: session.clone() }
    }

    pub(crate) fn after_store(mut self, stored: Arc<Slot<Result<(), Error>>>) -> Self {
        self.stored = Some(stored);
        self
    }

    fn outcome(&self, outcome: Outcome) -> Outcome {
        match outcome {
            Ok(reason) if reason.is_error() => Err(Error::Refused(reason)),
            Ok(reason) => Ok(reason),
            Err(error) => Err(self.session.explain(error)),
        }
    }

    /// Waits for the outcome: the broker's reason code, when it is not an error.
    ///
    /// # Errors
    /// [`Error::TimedOut`] when there is none yet; the message may still arrive. Others are final.
    pub fn wait(&self, timeout: Duration) -> Result<ReasonCode, Error> {
        let deadline = Instant::now().checked_add(timeout);
        if let Some(stored) = &self.stored {
            stored.wait(timeout).ok_or(Error::TimedOut(timeout))??;
        }
        let left = deadline.map_or(timeout, |at| at.saturating_duration_since(Instant::now()));
        self.slot.wait(left).map_or(Err(Error::TimedOut(timeout)), |outcome| self.outcome(outcome))
    }

    /// The outcome, if it is there.
    pub fn try_get(&self) -> Option<Result<ReasonCode, Error>> {
        if let Some(stored) = &self.stored
            && let Err(error) = stored.get()?
        {
            return Some(Err(error));
        }
        self.slot.get().map(|outcome| self.outcome(outcome))
    }
}

impl Future for Delivery {
    type Output = Result<ReasonCode, Error>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(stored) = &self.stored {
            match stored.poll(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Ready(Ok(())) => {}
            }
        }
        self.slot.poll(context).map(|outcome| self.outcome(outcome))
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery").field("outcome", &self.try_get()).finish_non_exhaustive()
    }
}
