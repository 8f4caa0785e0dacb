//! Finds what was lost, came twice, or came out of order.
//!
//! A [`Stream`] is what one subscriber gets of one publisher in the publisher's order. A [`Bag`] is for what has
//! no order of its own: several subscribers share it, or it goes to many topics. Both find every loss and every
//! repetition exactly, within the bounds that they name.

use std::collections::VecDeque;

/// Gaps that a stream remembers one by one; beyond, the oldest are only counted.
const GAPS_MAX: usize = 4096;
/// Messages whose arrival a bag remembers one by one, from the oldest that is missing on.
const BAG_MESSAGES_MAX: u64 = 1 << 22;
const WORD: u64 = u64::BITS as u64;

/// A run of sequence numbers, the end not included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Run {
    /// The first one.
    pub from: u64,
    /// The one after the last.
    pub to: u64,
}

impl Run {
    /// How many.
    pub fn len(self) -> u64 {
        self.to - self.from
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.from == self.to
    }
}

/// What an arrival means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// The next one in order, or any one of a bag for the first time.
    New(u64),
    /// Newer than expected: those in between have not come, if ever they will.
    Ahead(Run),
    /// It was missing, and comes after a newer one.
    Late(u64),
    /// It came before.
    Again(u64),
    /// No publisher can have sent it yet: it is not of this run.
    Foreign,
}

/// The full sequence number of which `low` is the lower half, next to `near`.
#[inline]
fn widen(low: u32, near: u64) -> Option<u64> {
    near.checked_add_signed(i64::from(low.wrapping_sub(near as u32) as i32))
}

/// Gaps in what came, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Gaps {
    runs: VecDeque<Run>,
    /// Messages of gaps that are not remembered one by one any more; all are before the first run.
    forgotten: u64,
}

impl Gaps {
    fn push(&mut self, run: Run) {
        if self.runs.len() == GAPS_MAX {
            self.forgotten += self.runs.pop_front().map_or(0, Run::len);
        }
        self.runs.push_back(run);
    }

    /// Takes one out; whether it was missing.
    #[cold]
    fn fill(&mut self, sequence: u64) -> bool {
        let at = self.runs.partition_point(|run| run.to <= sequence);
        let Some(run) = self.runs.get_mut(at).filter(|run| run.from <= sequence) else {
            // Before all that is remembered it may be one of the forgotten.
            let is_old = self.forgotten > 0 && self.runs.front().is_none_or(|run| sequence < run.from);
            self.forgotten -= u64::from(is_old);
            return is_old;
        };
        let (before, after) = (Run { to: sequence, ..*run }, Run { from: sequence + 1, ..*run });
        match (before.is_empty(), after.is_empty()) {
            (true, true) => drop(self.runs.remove(at)),
            (false, true) => *run = before,
            (true, false) => *run = after,
            (false, false) => {
                *run = before;
                self.runs.insert(at + 1, after);
            }
        }
        true
    }
}

/// What is missing in the end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Missing {
    /// Those that are known one by one.
    pub runs: Vec<Run>,
    /// How many more there are.
    pub others: u64,
}

impl Missing {
    /// All of them.
    pub fn count(&self) -> u64 {
        self.runs.iter().map(|run| run.len()).sum::<u64>() + self.others
    }
}

/// What one subscriber got of one publisher, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stream {
    next: u64,
    gaps: Option<Box<Gaps>>,
}

impl Stream {
    /// Nothing came yet, and nothing before this one will.
    pub fn starting_at(next: u64) -> Self {
        Self { next, gaps: None }
    }

    /// A message came.
    #[inline]
    pub fn see(&mut self, low: u32) -> Seen {
        if low == self.next as u32 {
            self.next += 1;
            return Seen::New(self.next - 1);
        }
        self.out_of_order(low)
    }

    #[cold]
    fn out_of_order(&mut self, low: u32) -> Seen {
        let Some(sequence) = widen(low, self.next) else { return Seen::Foreign };
        if sequence > self.next {
            let gap = Run { from: self.next, to: sequence };
            self.gaps.get_or_insert_default().push(gap);
            self.next = sequence + 1;
            return Seen::Ahead(gap);
        }
        let was_missing = self.gaps.as_mut().is_some_and(|gaps| gaps.fill(sequence));
        if was_missing { Seen::Late(sequence) } else { Seen::Again(sequence) }
    }

    /// What is missing of all that were sent.
    pub fn missing(&self, sent: u64) -> Missing {
        let mut missing = Missing::default();
        if let Some(gaps) = &self.gaps {
            missing.runs.extend(&gaps.runs);
            missing.others = gaps.forgotten;
        }
        if self.next < sent {
            missing.runs.push(Run { from: self.next, to: sent });
        }
        missing
    }
}

/// What came of one publisher, in any order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bag {
    /// All before it came, or are gaps. A multiple of a word's bits.
    base: u64,
    words: VecDeque<u64>,
    gaps: Gaps,
    /// One past the newest.
    end: u64,
}

impl Bag {
    /// A message came.
    pub fn see(&mut self, low: u32) -> Seen {
        let Some(sequence) = widen(low, self.end) else { return Seen::Foreign };
        if sequence < self.base {
            let was_missing = self.gaps.fill(sequence);
            return if was_missing { Seen::Late(sequence) } else { Seen::Again(sequence) };
        }
        while sequence >= self.base + BAG_MESSAGES_MAX {
            self.give_up_first();
        }
        let (at, bit) = (((sequence - self.base) / WORD) as usize, 1 << (sequence % WORD));
        while self.words.len() <= at {
            self.words.push_back(0);
        }
        let word = &mut self.words[at];
        if *word & bit != 0 {
            return Seen::Again(sequence);
        }
        *word |= bit;
        self.end = self.end.max(sequence + 1);
        while self.words.front() == Some(&u64::MAX) {
            self.words.pop_front();
            self.base += WORD;
        }
        Seen::New(sequence)
    }

    /// Does not wait for the oldest any more.
    #[cold]
    fn give_up_first(&mut self) {
        let word = self.words.pop_front().unwrap_or_default();
        unset(word, self.base, |run| self.gaps.push(run));
        self.base += WORD;
    }

    /// What is missing of all that were sent.
    pub fn missing(&self, sent: u64) -> Missing {
        let mut runs: Vec<Run> = self.gaps.runs.iter().copied().collect();
        let mut at = self.base;
        let mut add = |run: Run| {
            let run = Run { to: run.to.min(sent), ..run };
            match runs.last_mut() {
                _ if run.from >= run.to => {}
                Some(last) if last.to == run.from => last.to = run.to,
                Some(_) | None => runs.push(run),
            }
        };
        for word in &self.words {
            unset(*word, at, &mut add);
            at += WORD;
        }
        if at < sent {
            add(Run { from: at, to: sent });
        }
        Missing { runs, others: self.gaps.forgotten }
    }
}

/// The runs of bits that are not set in a word that stands for the numbers from `base` on.
fn unset(word: u64, base: u64, mut found: impl FnMut(Run)) {
    let mut at = 0;
    while at < WORD {
        let clear = u64::from((word >> at).trailing_zeros()).min(WORD - at);
        if clear > 0 {
            found(Run { from: base + at, to: base + at + clear });
        }
        at += clear;
        if at < WORD {
            at += u64::from((word >> at).trailing_ones()).min(WORD - at);
        }
    }
}

#[cfg(test)]
mod tests;
