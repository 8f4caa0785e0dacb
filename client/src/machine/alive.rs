//! What the clock asks for: keep alive, write timeout, and the end of messages' lives.

use std::time::Duration;

use ringmq_codec::encode_pingreq;

use super::limits::EXPIRY_TICK_MS;
use super::{End, Machine, Sink};
use crate::error::Error;

/// The times that a session remembers, on the monotonic clock; 0 for none.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Clock {
    /// The Keep Alive in force; 0 for none.
    pub keep_alive_ms: u64,
    sent_ms: u64,
    heard_ms: u64,
    /// When the PINGREQ was sent that is not answered.
    pinged_ms: u64,
    /// Bytes written on this connection.
    written: u64,
    /// Of those, what the server had taken when that was last looked at.
    taken: u64,
    /// When the server must have taken more.
    write_by_ms: u64,
    /// When a message in the queue expires.
    pub expiry_ms: u64,
}

impl Clock {
    /// A connection opened.
    pub fn begin(&mut self, now_ms: u64) {
        *self = Self { sent_ms: now_ms, heard_ms: now_ms, expiry_ms: self.expiry_ms, ..Self::default() };
    }

    /// The connection ended.
    pub fn end(&mut self) {
        *self = Self { expiry_ms: self.expiry_ms, ..Self::default() };
    }

    /// Bytes came.
    pub fn heard(&mut self, now_ms: u64) {
        self.heard_ms = now_ms;
    }

    /// PINGRESP came.
    pub fn ponged(&mut self) {
        self.pinged_ms = 0;
    }

    /// Bytes were written.
    #[inline]
    pub fn wrote(&mut self, bytes: usize, now_ms: u64, timeout_ms: u64) {
        self.sent_ms = now_ms;
        self.written += bytes as u64;
        if self.write_by_ms == 0 && timeout_ms != 0 {
            self.write_by_ms = now_ms + timeout_ms;
        }
    }

    fn ping_ms(&self) -> u64 {
        if self.keep_alive_ms == 0 || self.pinged_ms != 0 {
            return u64::MAX;
        }
        self.sent_ms.min(self.heard_ms) + self.keep_alive_ms
    }

    /// When the server is given up, if nothing comes.
    fn silence_ms(&self, timeout_ms: u64) -> u64 {
        if self.pinged_ms == 0 || timeout_ms == 0 {
            return u64::MAX;
        }
        // Any bytes are a sign of life.
        self.pinged_ms.max(self.heard_ms) + timeout_ms
    }
}

fn or_never(at_ms: u64) -> u64 {
    if at_ms == 0 { u64::MAX } else { at_ms }
}

impl<T> Machine<T> {
    /// When [`Machine::due`] is to be called; `u64::MAX` for never.
    pub fn due_ms(&self) -> u64 {
        let clock = &self.clock;
        let silence_ms =
            if self.is_paused { u64::MAX } else { clock.silence_ms(self.options.ping_timeout_ms) };
        clock.ping_ms().min(silence_ms).min(or_never(clock.write_by_ms)).min(or_never(clock.expiry_ms))
    }

    /// Time passed. True when the session did nothing for a while.
    pub fn due<S: Sink<Delivery = T>>(&mut self, sink: &mut S) -> Result<bool, End> {
        let now_ms = sink.now_ms();
        let options = &self.options;
        if !self.is_paused && self.clock.silence_ms(options.ping_timeout_ms) <= now_ms {
            return Err(End::Unresponsive { after: Duration::from_millis(options.ping_timeout_ms) });
        }
        if or_never(self.clock.write_by_ms) <= now_ms {
            self.check_writing(sink)?;
        }
        if or_never(self.clock.expiry_ms) <= now_ms {
            self.expire(sink);
        }
        let is_idle = self.clock.ping_ms() <= now_ms;
        if is_idle {
            self.write(sink, encode_pingreq);
            self.clock.pinged_ms = now_ms;
            self.shrink();
        }
        Ok(is_idle)
    }

    fn check_writing<S: Sink<Delivery = T>>(&mut self, sink: &S) -> Result<(), End> {
        let (timeout_ms, clock) = (self.options.write_timeout_ms, &mut self.clock);
        let backlog = sink.backlog_bytes() as u64;
        if backlog == 0 {
            clock.taken = clock.written;
            clock.write_by_ms = 0;
            return Ok(());
        }
        let taken = clock.written.saturating_sub(backlog);
        if taken <= clock.taken {
            return Err(End::WriteTimedOut { after: Duration::from_millis(timeout_ms) });
        }
        clock.taken = taken;
        clock.write_by_ms = sink.now_ms() + timeout_ms;
        Ok(())
    }

    /// Notes when a publication that waits expires.
    pub(super) fn note_expiry(&mut self, since_ms: u64, message_expiry_s: Option<u32>) {
        if let Some(seconds) = message_expiry_s {
            let at_ms = since_ms + u64::from(seconds) * 1000;
            self.clock.expiry_ms = or_never(self.clock.expiry_ms).min(at_ms);
        }
    }

    /// Fails the publications that waited too long.
    fn expire<S: Sink<Delivery = T>>(&mut self, sink: &mut S) {
        let now_ms = sink.now_ms();
        self.clock.expiry_ms = 0;
        let restored = std::mem::take(&mut self.queue_restored) as usize;
        for (at, publication) in std::mem::take(&mut self.queue).into_iter().enumerate() {
            if !super::publish::is_expired(&publication, now_ms) {
                self.queue_restored += u32::from(at < restored);
                self.note_expiry(publication.since_ms, publication.message.message_expiry_s);
                self.queue.push_back(publication);
                continue;
            }
            if at >= restored {
                sink.left_queue();
            }
            self.complete(publication, Err(Error::Expired), sink);
        }
        if self.clock.expiry_ms != 0 {
            self.clock.expiry_ms = self.clock.expiry_ms.max(now_ms + EXPIRY_TICK_MS);
        }
    }
}
