//! Where a forwarder's messages wait: between the I/O threads that receive them and its worker.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::Wake;
use std::time::{Duration, Instant, SystemTime};

use ringmq_codec::QoS;

use super::settings::{DropReason, FailReason, ForwarderStats};
use crate::link::{Overflow, Request, SessionShared, Target};
use crate::message::Received;

/// A message in the buffer.
#[derive(Debug)]
pub(super) struct Waiting {
    pub received: Received,
    /// Milliseconds since 1970.
    pub received_ms: u64,
}

pub(super) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// How the worker waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Parked {
    #[default]
    No,
    /// For messages, or a ring.
    ForMessages,
    /// For a ring only: it could take no message.
    ForRing,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Waiting>,
    stats: ForwarderStats,
    parked: Parked,
    /// Somebody rang since the worker parked last.
    is_rung: bool,
    /// The worker is to end: when nothing is left, or then.
    stop: Option<Instant>,
    /// Sessions that are not read until there is room.
    starved: Vec<Arc<SessionShared>>,
}

/// Fates of messages that the worker knows and has not yet reported.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub sent: u64,
    pub dropped: [u64; DropReason::ALL.len()],
    pub failed: [u64; FailReason::ALL.len()],
}

/// The buffer, its policy, and the forwarder's counts.
#[derive(Debug)]
pub(super) struct Intake {
    messages_max: usize,
    overflow: Overflow,
    state: Mutex<State>,
    bell: Condvar,
}

impl Intake {
    pub fn new(messages_max: usize, overflow: Overflow) -> Self {
        Self { messages_max, overflow, state: Mutex::default(), bell: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // What the lock guards is whole after each statement, so a panic of a holder spoils nothing.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn stats(&self) -> ForwarderStats {
        let stats = self.lock().stats;
        stats.check();
        stats
    }

    /// Wakes the worker.
    pub fn ring(&self) {
        let mut state = self.lock();
        state.is_rung = true;
        let is_parked = std::mem::take(&mut state.parked) != Parked::No;
        drop(state);
        if is_parked {
            self.bell.notify_one();
        }
    }

    /// Has the worker end when nothing is left, or at this time; or not, any more.
    pub fn set_stop(&self, deadline: Option<Instant>) {
        self.lock().stop = deadline;
        self.ring();
    }

    /// For the worker: reports what it knows, and moves up to `max` messages into `batch`. When it is to end.
    pub fn exchange(&self, tally: &mut Tally, max: usize, batch: &mut VecDeque<Waiting>) -> Option<Instant> {
        let tally = std::mem::take(tally);
        let mut state = self.lock();
        let stats = &mut state.stats;
        stats.sent += tally.sent;
        let mut known = tally.sent;
        for (count, more) in stats.dropped.iter_mut().zip(tally.dropped) {
            *count += more;
            known += more;
        }
        for (count, more) in stats.failed.iter_mut().zip(tally.failed) {
            *count += more;
            known += more;
        }
        let taken = max.min(state.waiting.len());
        state.stats.under_way = state.stats.under_way - known + taken as u64;
        state.stats.buffered -= taken as u64;
        batch.extend(state.waiting.drain(..taken));
        debug_assert_eq!(state.stats.buffered, state.waiting.len() as u64);
        let stop = state.stop;
        // Once half of it is free, so that a session is not stopped and started at each message.
        if !state.starved.is_empty() && state.waiting.len() <= self.messages_max / 2 {
            let starved = std::mem::take(&mut state.starved);
            drop(state);
            for session in starved {
                session.mailbox.post(Request::RoomAgain(session.id));
            }
        }
        stop
    }

    /// For the worker: waits for a ring, for messages if it could take some, or for so long.
    pub fn park(&self, takes_messages: bool, timeout: Duration) {
        let mut state = self.lock();
        if state.is_rung || (takes_messages && !state.waiting.is_empty()) {
            state.is_rung = false;
            return;
        }
        state.parked = if takes_messages { Parked::ForMessages } else { Parked::ForRing };
        let is_parked = |state: &mut State| state.parked != Parked::No;
        let waited = self.bell.wait_timeout_while(state, timeout, is_parked);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner).0;
        state.parked = Parked::No;
        state.is_rung = false;
    }
}

/// A delivery that the worker waits for is settled.
impl Wake for Intake {
    fn wake(self: Arc<Self>) {
        self.ring();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ring();
    }
}

impl Target for Intake {
    fn overflow(&self) -> Overflow {
        self.overflow
    }

    fn acknowledges(&self) -> bool {
        true
    }

    fn room(&self) -> usize {
        self.messages_max.saturating_sub(self.lock().waiting.len())
    }

    fn put(&self, messages: &mut Vec<Received>) {
        let received_ms = now_ms();
        let mut refused = Vec::new();
        let mut state = self.lock();
        state.stats.received += messages.len() as u64;
        for received in messages.drain(..) {
            let is_kept = received.qos != QoS::AtMostOnce;
            if state.waiting.len() >= self.messages_max {
                match self.overflow {
                    // Those at QoS 1 and 2 are bounded by the session's Receive Maximum, since they are not
                    // acknowledged.
                    Overflow::Withhold if is_kept => {}
                    Overflow::Withhold | Overflow::DropNewest => {
                        refused.push(received);
                        continue;
                    }
                    Overflow::DropOldest => {
                        refused.extend(state.waiting.pop_front().map(|waiting| waiting.received));
                    }
                    Overflow::Pause => {}
                }
            }
            state.waiting.push_back(Waiting { received, received_ms });
        }
        state.stats.dropped[DropReason::Overflow as usize] += refused.len() as u64;
        state.stats.buffered = state.waiting.len() as u64;
        let is_awaited = state.parked == Parked::ForMessages && !state.waiting.is_empty();
        if is_awaited {
            state.parked = Parked::No;
        }
        drop(state);
        if is_awaited {
            self.bell.notify_one();
        }
        // Outside the lock: it posts. They are dropped, so the broker need not keep them.
        refused.iter_mut().for_each(Received::ack);
    }

    fn wait_for_room(&self, session: &Arc<SessionShared>) -> bool {
        let mut state = self.lock();
        if state.waiting.len() < self.messages_max {
            return false;
        }
        if !state.starved.iter().any(|other| other.id == session.id) {
            state.starved.push(Arc::clone(session));
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Message;

    fn received(qos: QoS, payload: &'static str) -> Received {
        let message = Message::new("t", payload).qos(qos);
        Received { message, session: "s".into(), dup: false, subscription_ids: Vec::new(), ack: None }
    }

    #[test]
    fn a_full_buffer_follows_its_policy() {
        use QoS::{AtLeastOnce, AtMostOnce};
        for (overflow, kept, dropped) in [
            (Overflow::Withhold, &["a", "b", "c", "e"][..], 1),
            (Overflow::DropNewest, &["a", "b"], 3),
            (Overflow::DropOldest, &["d", "e"], 3),
            (Overflow::Pause, &["a", "b", "c", "d", "e"], 0),
        ] {
            let intake = Intake::new(2, overflow);
            assert!(intake.acknowledges());
            for (qos, payload) in [
                (AtMostOnce, "a"),
                (AtLeastOnce, "b"),
                (AtLeastOnce, "c"),
                (AtMostOnce, "d"),
                (AtLeastOnce, "e"),
            ] {
                intake.put(&mut vec![received(qos, payload)]);
            }
            assert_eq!(intake.room(), 0);
            let stats = intake.stats();
            assert_eq!(
                (stats.received, stats.dropped_for(DropReason::Overflow)),
                (5, dropped),
                "{overflow:?}"
            );
            let mut batch = VecDeque::new();
            assert_eq!(intake.exchange(&mut Tally::default(), 9, &mut batch), None);
            let payloads: Vec<_> = batch.iter().map(|waiting| waiting.received.payload.clone()).collect();
            assert_eq!(payloads, kept, "{overflow:?}");
            assert_eq!(intake.stats().under_way, kept.len() as u64);
            assert_eq!(intake.room(), 2);
        }
    }

    #[test]
    fn a_ring_is_not_lost() {
        let intake = Arc::new(Intake::new(2, Overflow::Withhold));
        let for_ever = Duration::from_secs(3600);
        // Rung before, or with a message there: it does not wait.
        intake.ring();
        intake.park(true, for_ever);
        intake.put(&mut vec![received(QoS::AtMostOnce, "a")]);
        intake.park(true, for_ever);
        let worker = std::thread::spawn({
            let intake = Arc::clone(&intake);
            move || intake.park(false, for_ever)
        });
        intake.ring();
        worker.join().unwrap();
    }
}
