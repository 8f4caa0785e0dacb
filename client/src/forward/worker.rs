//! The thread of a forwarder: takes messages from the buffer, sends them to the targets, and acknowledges those that
//! have arrived.
//!
//! Nothing is done for each message that can be done for many: it looks for settled deliveries in order, and is woken
//! for the one in the middle. Messages of a source are acknowledged in the order in which they came [MQTT-4.6.0-2].

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use ringmq_codec::QoS;

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

/// How long after a target refused a message for now, or lost it, it is sent again.
const AGAIN: Duration = Duration::from_secs(1);

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

/// A message and one of its targets.
enum Leg<P> {
    /// To be sent, or to be sent again.
    Unsent,
    Pending(P),
    /// Nothing more is to be done or known.
    Done,
}

/// A message that was taken from the buffer and is not acknowledged yet.
struct Flying<P> {
    token: Option<Arc<AckToken>>,
    /// Kept at QoS 1 and 2, to be sent again.
    message: Message,
    /// When it was received: its life goes on.
    received_ms: u64,
    first: Leg<P>,
    /// Those of other targets than the first; most forwarders have none, and no vector.
    rest: Vec<Leg<P>>,
    known: Known,
}

pub(super) struct Worker<O: Outlet> {
    way: Arc<Way>,
    intake: Arc<Intake>,
    outlets: Vec<O>,
    window: usize,
    /// Whether all targets took messages at the last look.
    are_open: bool,
    batch: VecDeque<Waiting>,
    /// One that a target did not take yet.
    stuck: Option<Flying<O::Pending>>,
    /// When the first that is under way may be sent again.
    again_at: Option<Instant>,
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
            again_at: None,
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
            // One that is to be sent again has its time.
            Some(front) => front.poll(&self.outlets, &mut context) && !front.is_unsent(),
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
            if front.is_unsent() {
                // Those behind it wait to be acknowledged, as they would behind one that is on its way.
                let now = Instant::now();
                let at = *self.again_at.get_or_insert(now + AGAIN);
                if at <= now {
                    self.again_at = None;
                    front.send(&self.outlets);
                }
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
            if let Some(mut stuck) = self.stuck.take() {
                if !stuck.send(&self.outlets) {
                    self.stuck = Some(stuck);
                    break;
                }
                self.flying.push_back(stuck);
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
        let (message, known) = match fate {
            Fate::Send(message) => (message, Known::Sent),
            Fate::Drop(reason) => (Message::default(), Known::Dropped(reason)),
            Fate::Fail(reason, why) => {
                tracing::debug!(%reason, why, "a message cannot be forwarded");
                (Message::default(), Known::Failed(reason))
            }
        };
        let (mut first, mut rest) = (Leg::Done, Vec::new());
        if known == Known::Sent {
            first = Leg::Unsent;
            rest.extend((1..self.outlets.len()).map(|_| Leg::Unsent));
        }
        let mut flying = Flying { token, message, received_ms, first, rest, known };
        if flying.send(&self.outlets) {
            self.flying.push_back(flying);
        } else {
            self.stuck = Some(flying);
        }
    }
}

/// What an error of a target means for a message; none: it is to be tried again.
fn failure(error: &Error) -> Option<FailReason> {
    match error {
        // A target that is gone takes nothing, like one that is offline: the buffer's policy acts.
        Error::Full { .. } | Error::Gone => None,
        Error::SessionLost => None,
        Error::Refused(_) if error.is_temporary() => None,
        Error::TooLarge { .. } => Some(FailReason::TooLarge),
        Error::Refused(_) | Error::Invalid { .. } => Some(FailReason::Refused),
        Error::NameTaken(_)
        | Error::NoSession(_)
        | Error::NotReady { .. }
        | Error::TimedOut(_)
        | Error::Expired
        | Error::Connect(_)
        | Error::Store(_)
        | Error::Runtime(_)
        | Error::Tls(_) => Some(FailReason::Target),
    }
}

impl<P> Flying<P> {
    fn legs(&mut self) -> impl Iterator<Item = &mut Leg<P>> {
        std::iter::once(&mut self.first).chain(&mut self.rest)
    }

    fn is_unsent(&mut self) -> bool {
        self.legs().any(|leg| matches!(leg, Leg::Unsent))
    }

    /// Sends it to the targets that are to get it, or get it again. Whether all took it, or never will.
    fn send<O: Outlet<Pending = P>>(&mut self, outlets: &[O]) -> bool {
        let Self { message, received_ms, first, rest, known, .. } = self;
        let legs = std::iter::once(first).chain(rest);
        for (nth, (leg, outlet)) in legs.zip(outlets).enumerate() {
            if !matches!(leg, Leg::Unsent) {
                continue;
            }
            let Some(life_s) = life_left(message, *received_ms) else {
                // Those targets that have it have it.
                *leg = Leg::Done;
                known.worsen(Known::Dropped(DropReason::Expired));
                continue;
            };
            let given_life_s = message.message_expiry_s;
            let is_needed = nth + 1 < outlets.len() || message.qos != QoS::AtMostOnce;
            let mut sent = if is_needed { message.clone() } else { std::mem::take(message) };
            sent.message_expiry_s = life_s;
            match outlet.send(sent) {
                Ok(pending) => *leg = Leg::Pending(pending),
                Err(returned) => match failure(&returned.1) {
                    Some(reason) => {
                        tracing::debug!(%reason, error = %returned.1, "a message cannot be forwarded");
                        *leg = Leg::Done;
                        known.worsen(Known::Failed(reason));
                    }
                    None => {
                        if !is_needed {
                            *message = returned.0;
                            message.message_expiry_s = given_life_s;
                        }
                        return false;
                    }
                },
            }
        }
        true
    }

    /// Whether nothing is on its way.
    fn poll<O: Outlet<Pending = P>>(&mut self, outlets: &[O], context: &mut Context<'_>) -> bool {
        let Self { first, rest, known, .. } = self;
        let mut is_known = true;
        for (leg, outlet) in std::iter::once(first).chain(rest).zip(outlets) {
            let Leg::Pending(delivery) = leg else { continue };
            match outlet.poll(delivery, context) {
                Poll::Pending => is_known = false,
                Poll::Ready(outcome) => *leg = known.learn(outcome),
            }
        }
        is_known
    }
}

/// The rest of a message's life: none when it is over, no number where it has no end.
fn life_left(message: &Message, received_ms: u64) -> Option<Option<u32>> {
    let Some(life_s) = message.message_expiry_s else { return Some(None) };
    let waited_s = now_ms().saturating_sub(received_ms) / 1000;
    let left_s = u64::from(life_s).saturating_sub(waited_s);
    if left_s == 0 { None } else { Some(u32::try_from(left_s).ok()) }
}

impl Known {
    /// One target's outcome, and what is to be done about it.
    fn learn<P>(&mut self, outcome: Outcome) -> Leg<P> {
        let failed = match outcome {
            Ok(reason) if !reason.is_error() => return Leg::Done,
            Ok(_) => Self::Failed(FailReason::Refused),
            Err(Error::Expired) => Self::Dropped(DropReason::Expired),
            // It will not come back.
            Err(Error::Gone) => Self::Failed(FailReason::Target),
            Err(error) => match failure(&error) {
                Some(reason) => Self::Failed(reason),
                None => return Leg::Unsent,
            },
        };
        self.worsen(failed);
        Leg::Done
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
