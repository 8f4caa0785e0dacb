//! When to send: a schedule of intended times, or a window of messages that are under way.

use crate::check::Run;

/// When what is to happen at a rate is due. The times are spread evenly, and each follows from its number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    /// When it begins, on the run's clock.
    pub start_ns: u64,
    /// How long the rate takes to rise from nothing.
    pub ramp_ns: u64,
    /// How many a second, once it has risen.
    pub rate: f64,
}

const NS: f64 = 1e9;

impl Schedule {
    /// When the one with this number, from 0, is due.
    #[inline]
    pub fn due_ns(&self, number: u64) -> u64 {
        let number = number as f64;
        let ramp_s = self.ramp_ns as f64 / NS;
        // While the rate rises evenly, the count grows with the square of time.
        let in_ramp = self.rate * ramp_s / 2.0;
        let at_s = if number < in_ramp {
            (2.0 * number * ramp_s / self.rate).sqrt()
        } else {
            ramp_s + (number - in_ramp) / self.rate
        };
        self.start_ns.saturating_add((at_s * NS) as u64)
    }
}

/// The part of a schedule that falls to one core: of `stride` that take turns, those numbered in `mine`.
#[derive(Clone, Debug)]
pub struct Turns {
    schedule: Schedule,
    stride: u64,
    mine: Vec<u64>,
    /// Rounds that are over, and the place in this one.
    round: u64,
    at: usize,
    next_ns: u64,
}

impl Turns {
    /// `mine` rise, below `stride`.
    pub fn new(schedule: Schedule, stride: u64, mine: Vec<u64>) -> Self {
        assert!(mine.last().is_none_or(|last| *last < stride), "{mine:?} take turns among {stride}");
        let mut turns = Self { schedule, stride, mine, round: 0, at: 0, next_ns: u64::MAX };
        turns.look();
        turns
    }

    fn look(&mut self) {
        self.next_ns = match self.mine.get(self.at) {
            Some(mine) => self.schedule.due_ns(self.round * self.stride + mine),
            None => u64::MAX,
        };
    }

    /// When the next one is due; `u64::MAX` when none ever is.
    #[inline]
    pub fn next_ns(&self) -> u64 {
        self.next_ns
    }

    /// Whose turn it is now, as a place in `mine`, if anybody's is.
    #[inline]
    pub fn take(&mut self, now_ns: u64) -> Option<usize> {
        if self.next_ns > now_ns {
            return None;
        }
        let at = self.at;
        self.at += 1;
        if self.at == self.mine.len() {
            (self.at, self.round) = (0, self.round + 1);
        }
        self.look();
        Some(at)
    }

    /// When the turn with this number, from 0, of the one at this place in `mine` is due.
    pub fn due_ns(&self, at: usize, turn: u64) -> u64 {
        self.schedule.due_ns(turn * self.stride + self.mine[at])
    }
}

/// The messages of one publisher that are under way to its subscribers.
///
/// A message is done once all its copies came, so that no queue between publisher and subscribers ever holds more
/// than a window's messages.
#[derive(Clone, Debug)]
pub struct Window {
    /// Messages before this one are done.
    base: u64,
    sent: u64,
    size: u64,
    copies: u32,
    /// Copies that have not come, by sequence number modulo the length, which is a power of two.
    awaited: Box<[u32]>,
    /// The oldest under way when [`Window::stalled`] last looked.
    looked_at: Option<u64>,
}

impl Window {
    /// A window of so many messages, each of which arrives so many times. It begins with message `from`.
    pub fn new(size: u32, copies: u32, from: u64) -> Self {
        assert!(size > 0 && copies > 0);
        let awaited = vec![0; size.next_power_of_two() as usize].into();
        Self { base: from, sent: from, size: u64::from(size), copies, awaited, looked_at: None }
    }

    /// How many may be sent now.
    #[inline]
    pub fn room(&self) -> u64 {
        self.size - (self.sent - self.base)
    }

    /// How many are under way.
    #[inline]
    pub fn under_way(&self) -> u64 {
        self.sent - self.base
    }

    #[inline]
    fn slot(&self, sequence: u64) -> usize {
        sequence as usize & (self.awaited.len() - 1)
    }

    /// The next `count` were sent.
    #[inline]
    pub fn send(&mut self, count: u64) {
        debug_assert!(count <= self.room());
        for sequence in self.sent..self.sent + count {
            let slot = self.slot(sequence);
            self.awaited[slot] = self.copies;
        }
        self.sent += count;
    }

    /// One copy of each of these came, or will not come any more.
    #[inline]
    pub fn arrived(&mut self, run: Run) {
        for sequence in run.from.max(self.base)..run.to.min(self.sent) {
            let slot = self.slot(sequence);
            self.awaited[slot] = self.awaited[slot].saturating_sub(1);
        }
        while self.base < self.sent && self.awaited[self.slot(self.base)] == 0 {
            self.base += 1;
        }
    }

    /// No copy of this one will come.
    pub fn give_up(&mut self, sequence: u64) {
        if sequence >= self.base && sequence < self.sent {
            let slot = self.slot(sequence);
            self.awaited[slot] = 0;
            self.arrived(Run { from: sequence, to: sequence });
        }
    }

    /// To be called at long intervals: when nothing was done since the last call, what is under way is given up.
    /// How many that were.
    pub fn stalled(&mut self) -> u64 {
        let oldest = (self.base < self.sent).then_some(self.base);
        if oldest.is_none() || self.looked_at != oldest {
            self.looked_at = oldest;
            return 0;
        }
        let given_up = self.sent - self.base;
        (self.base, self.looked_at) = (self.sent, None);
        given_up
    }
}

#[cfg(test)]
mod tests;
