//! The thread of a forwarder: takes messages from the buffer, sends them to the targets, and acknowledges those that
//! have arrived.
//!
//! Nothing is done for each message that can be done for many: it looks for settled deliveries in order, and is woken
//! for the one in the middle. Messages of a source are acknowledged in the order in which they came [MQTT-4.6.0-2].

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use super::intake::{Intake, Tally, Waiting, now_ms};
use super::settings::{DropReason, FailReason};
use super::way::{Fate, Origin, Way};
use crate::error::Error;
use crate::link::{AckToken, Outcome};
use crate::message::Message;
use crate::session::Returned;

/// How often a target that takes nothing is looked at.
const RETRY: Duration = Duration::from_millis(20);

/// How long one that has arrived waits to be acknowledged, when the one in the middle does not come back; and how
/// often is looked whether a target is back.
const GLANCE: Duration = Duration::from_millis(100);

/// How long to wait where nothing is awaited but messages.
const LONG: Duration = Duration::from_secs(3600);

/// Messages from the buffer at a time.
const BATCH_MESSAGES_MAX: usize = 256;

/// Where a forwarder sends to.
pub(super) trait Outlet: Send {
    /// A message on its way.
    type Pending: Send;

    /// Whether messages are taken now.
    fn is_open(&self) -> bool;

    /// Sends a message, or gives it back. Never waits.
    fn send(&self, message: Message) -> Result<Self::Pending, Returned>;

    /// What has become of a message, or a note of whom to wake.
    fn poll(&self, pending: &mut Self::Pending, context: &mut Context<'_>) -> Poll<Outcome>;
}

/// What is known of a message that was taken from the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    /// All is well so far.
    Sent,
    Dropped(DropReason),
    Failed(FailReason),
}

/// A message that was taken from the buffer and is not acknowledged yet.
struct Flying<P> {
    token: Option<Arc<AckToken>>,
    /// Of the targets in order. Settled ones are taken out.
    pending: Vec<Option<P>>,
    /// The one that most forwarders have, without a vector.
    first: Option<P>,
    known: Known,
}

/// A message that some target did not take yet.
struct Stuck<P> {
    message: Message,
    /// When it was received: its life goes on.
    received_ms: u64,
    /// The target that is next.
    next: usize,
    flying: Flying<P>,
}

pub(super) struct Worker<O: Outlet> {
    way: Arc<Way>,
    intake: Arc<Intake>,
    outlets: Vec<O>,
    window: usize,
    /// Whether all targets took messages at the last look.
    are_open: bool,
    batch: VecDeque<Waiting>,
    stuck: Option<Stuck<O::Pending>>,
    flying: VecDeque<Flying<O::Pending>>,
    tally: Tally,
    waker: Waker,
}

impl<O: Outlet> Worker<O> {
    pub fn new(way: Arc<Way>, intake: Arc<Intake>, outlets: Vec<O>, window: usize) -> Self {
        assert!(window > 0 && !outlets.is_empty(), "the builder checks both");
        let waker = Waker::from(Arc::clone(&intake));
        Self {
            way,
            intake,
            outlets,
            window,
            are_open: false,
            batch: VecDeque::new(),
            stuck: None,
            flying: VecDeque::new(),
            tally: Tally::default(),
            waker,
        }
    }

    /// Works until it is to stop. What is left is still there then, and goes on at the next call.
    pub fn run(&mut self) {
        loop {
            let (has_moved, stop) = self.turn();
            if let Some(deadline) = stop {
                let is_drained = self.is_empty() && self.intake.stats().buffered == 0;
                if is_drained || deadline <= Instant::now() {
                    return;
                }
            }
            if !has_moved && !self.has_news() {
                self.park(stop);
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.flying.is_empty() && self.batch.is_empty() && self.stuck.is_none()
    }

    /// Does what can be done now. Whether that was anything, and when to stop.
    pub fn turn(&mut self) -> (bool, Option<Instant>) {
        let acknowledged = self.acknowledge();
        // Once for all that is at hand: it takes a lock.
        self.are_open = self.outlets.iter().all(Outlet::is_open);
        let sent = self.send();
        // Messages wait in the buffer, where its policy finds them, rather than in the queue of a session.
        let is_free = self.are_open && self.stuck.is_none() && self.batch.is_empty();
        let room = if is_free { self.window - self.flying.len() } else { 0 };
        let stop = self.intake.exchange(&mut self.tally, room.min(BATCH_MESSAGES_MAX), &mut self.batch);
        (acknowledged > 0 || sent > 0 || (is_free && !self.batch.is_empty()), stop)
    }

    fn park(&mut self, stop: Option<Instant>) {
        let is_blocked = self.stuck.is_some() || !self.batch.is_empty();
        let takes_messages = self.are_open && !is_blocked && self.flying.len() < self.window;
        let mut timeout = match (is_blocked, self.are_open && self.flying.is_empty()) {
            (true, _) => RETRY,
            (false, false) => GLANCE,
            (false, true) => LONG,
        };
        if let Some(deadline) = stop {
            timeout = timeout.min(deadline.saturating_duration_since(Instant::now()));
        }
        self.intake.park(takes_messages, timeout);
    }

    /// Asks to be woken; whether there is news already.
    fn has_news(&mut self) -> bool {
        let middle = self.flying.len() / 2;
        let Some(flying) = self.flying.get_mut(middle) else { return false };
        let mut context = Context::from_waker(&self.waker);
        if !flying.poll(&self.outlets, &mut context) {
            return false;
        }
        // The middle is settled, and something before it not: that is what to wait for.
        match self.flying.front_mut() {
            Some(front) => front.poll(&self.outlets, &mut context),
            None => false,
        }
    }

    /// Acknowledges what has arrived, from the front on. How many messages.
    fn acknowledge(&mut self) -> usize {
        let mut context = Context::from_waker(Waker::noop());
        let mut count = 0;
        while let Some(front) = self.flying.front_mut() {
            if !front.poll(&self.outlets, &mut context) {
                break;
            }
            let flying = self.flying.pop_front().expect("it is at the front");
            count += 1;
            match flying.known {
                Known::Sent => self.tally.sent += 1,
                Known::Dropped(reason) => self.tally.dropped[reason as usize] += 1,
                Known::Failed(reason) => self.tally.failed[reason as usize] += 1,
            }
            if flying.known != Known::Failed(FailReason::Target)
                && let Some(token) = flying.token
            {
                token.used();
            }
        }
        count
    }

    /// Sends what it can. How many messages left the batch, or the place where they were stuck.
    fn send(&mut self) -> usize {
        let mut count = 0;
        while self.flying.len() < self.window {
            if let Some(stuck) = self.stuck.take() {
                self.send_on(stuck);
                if self.stuck.is_some() {
                    break;
                }
                count += 1;
                continue;
            }
            if self.batch.is_empty() || !self.are_open {
                break;
            }
            let waiting = self.batch.pop_front().expect("it is not empty");
            self.begin(waiting);
        }
        count
    }

    fn begin(&mut self, Waiting { mut received, received_ms }: Waiting) {
        let token = received.ack.take();
        let origin = Origin { session: received.session, received_ms };
        let fate = self.way.prepare(received.message, &origin);
        let mut flying = Flying { token, pending: Vec::new(), first: None, known: Known::Sent };
        match fate {
            Fate::Send(message) => self.send_on(Stuck { message, received_ms, next: 0, flying }),
            Fate::Drop(reason) => {
                flying.known = Known::Dropped(reason);
                self.flying.push_back(flying);
            }
            Fate::Fail(reason, why) => {
                tracing::debug!(%reason, why, "a message cannot be forwarded");
                flying.known = Known::Failed(reason);
                self.flying.push_back(flying);
            }
        }
    }

    /// Sends a message to the targets that it was not sent to yet.
    fn send_on(&mut self, mut stuck: Stuck<O::Pending>) {
        while stuck.next < self.outlets.len() {
            let outlet = &self.outlets[stuck.next];
            let is_last = stuck.next + 1 == self.outlets.len();
            let mut message =
                if is_last { std::mem::take(&mut stuck.message) } else { stuck.message.clone() };
            let given_life = message.message_expiry_s;
            if let Some(life_s) = given_life {
                let waited_s = now_ms().saturating_sub(stuck.received_ms) / 1000;
                let left_s = u64::from(life_s).saturating_sub(waited_s);
                if left_s == 0 {
                    // Those targets that have it have it.
                    stuck.flying.known = Known::Dropped(DropReason::Expired);
                    break;
                }
                message.message_expiry_s = u32::try_from(left_s).ok();
            }
            match outlet.send(message) {
                Ok(pending) if stuck.next == 0 => stuck.flying.first = Some(pending),
                Ok(pending) => stuck.flying.pending.push(Some(pending)),
                Err(returned) => match failure(&returned.1) {
                    Some(reason) => {
                        let (message, error) = *returned;
                        tracing::debug!(%reason, %error, "a message cannot be forwarded");
                        stuck.flying.known.worsen(Known::Failed(reason));
                        if stuck.next > 0 {
                            stuck.flying.pending.push(None);
                        }
                        stuck.message = message;
                    }
                    None => {
                        stuck.message = returned.0;
                        stuck.message.message_expiry_s = given_life;
                        self.stuck = Some(stuck);
                        return;
                    }
                },
            }
            stuck.next += 1;
        }
        self.flying.push_back(stuck.flying);
    }
}

/// What an error of a target means for a message; none: it is to be tried again.
fn failure(error: &Error) -> Option<FailReason> {
    match error {
        // A target that is gone takes nothing, like one that is offline: the buffer's policy acts.
        Error::Full { .. } | Error::Gone => None,
        Error::TooLarge { .. } => Some(FailReason::TooLarge),
        Error::Refused(_) | Error::Invalid { .. } => Some(FailReason::Refused),
        Error::NameTaken(_)
        | Error::NoSession(_)
        | Error::NotReady { .. }
        | Error::TimedOut(_)
        | Error::Expired
        | Error::SessionLost
        | Error::Connect(_)
        | Error::Store(_)
        | Error::Runtime(_)
        | Error::Tls(_) => Some(FailReason::Target),
    }
}

impl<P> Flying<P> {
    /// Whether everything about it is known.
    fn poll<O: Outlet<Pending = P>>(&mut self, outlets: &[O], context: &mut Context<'_>) -> bool {
        let Self { first, pending, known, .. } = self;
        let all = std::iter::once(first).chain(pending.iter_mut()).zip(outlets);
        let mut is_known = true;
        for (slot, outlet) in all {
            let Some(delivery) = slot else { continue };
            match outlet.poll(delivery, context) {
                Poll::Pending => is_known = false,
                Poll::Ready(outcome) => {
                    *slot = None;
                    known.learn(outcome);
                }
            }
        }
        is_known
    }
}

impl Known {
    /// One target's outcome.
    fn learn(&mut self, outcome: Outcome) {
        let failed = match outcome {
            Ok(reason) if reason.is_error() => Self::Failed(FailReason::Refused),
            Ok(_) => return,
            Err(Error::Expired) => Self::Dropped(DropReason::Expired),
            Err(error) => Self::Failed(failure(&error).unwrap_or(FailReason::Target)),
        };
        self.worsen(failed);
    }

    /// A target that may not have it counts for more than one that does not want it: no acknowledgement.
    fn worsen(&mut self, other: Self) {
        if *self != Self::Failed(FailReason::Target) {
            *self = other;
        }
    }
}

#[cfg(test)]
mod tests;
