//! Timers of one shard: a hierarchical timing wheel.

#[cfg(test)]
mod tests;

use crate::slab::{Chunks, NONE};

/// Milliseconds of a tick, as a power of two. A timer is never early, and late by less than a tick when asked
/// in time.
const TICK_BITS: u32 = 4;

/// Slots of a level, as a power of two.
const SLOT_BITS: u32 = 6;
const SLOTS: usize = 1 << SLOT_BITS;

/// Levels. Together they reach 2^48 ticks, so that time never wraps.
const LEVELS: usize = 8;

/// The last tick that a wheel knows. What is scheduled later is due then: in 142,000 years.
const TICK_MAX: u64 = (1 << (SLOT_BITS as usize * LEVELS)) - 1;

/// Set in `prev` of the first timer of a slot, beside the slot's number.
const FIRST: u32 = 1 << 31;

/// `prev` of a timer that is not scheduled.
const IDLE: u32 = u32::MAX;

/// A timer that was scheduled. It is recognised as stale once the timer fired or was cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TimerId {
    index: u32,
    generation: u32,
}

#[derive(Clone, Debug)]
struct Timer<T> {
    /// The tick at which it is due.
    tick: u64,
    value: T,
    /// The next one of the slot, or of the free list.
    next: u32,
    /// The one before it in its slot, or [`FIRST`] and the slot's number, or [`IDLE`].
    prev: u32,
    /// Counts the uses of this place.
    generation: u32,
}

/// Timers that carry a small value and fire within a tick of 16 ms after their time, never before.
///
/// Scheduling and cancelling cost a few links each; firing at most eight moves a timer, which are
/// counted against the caller's budget, so that a million timers due at once are spread over many calls. A
/// jump of the clock over empty slots costs nothing. Each shard owns one; its bound is its callers', 2^31
/// timers at most.
#[derive(Clone, Debug)]
pub struct Wheel<T> {
    timers: Chunks<Timer<T>>,
    free: u32,
    len: usize,
    /// The first timer of each slot, by level.
    slots: [[u32; SLOTS]; LEVELS],
    /// Which slots of a level hold timers.
    occupied: [u64; LEVELS],
    /// All before it has fired. Slots above level 0 that it lies in are empty, but for `cascading`.
    tick: u64,
    /// The slot that a call left half moved down to lower levels; it goes on before anything else.
    cascading: Option<(usize, usize)>,
}

impl<T: Copy> Wheel<T> {
    /// An empty wheel. Times are milliseconds of a clock that only goes forward.
    pub fn new(now_ms: u64) -> Self {
        Self {
            timers: Chunks::new(),
            free: NONE,
            len: 0,
            slots: [[NONE; SLOTS]; LEVELS],
            occupied: [0; LEVELS],
            tick: (now_ms >> TICK_BITS).min(TICK_MAX),
            cascading: None,
        }
    }

    /// How many timers are scheduled.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no timer is scheduled.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Has `value` come due at `at_ms` or up to a tick later; at the next call when that has passed.
    pub fn schedule(&mut self, at_ms: u64, value: T) -> TimerId {
        let due = at_ms.div_ceil(1 << TICK_BITS).clamp(self.tick, TICK_MAX);
        let index = self.place(due, value);
        self.link(index);
        self.len += 1;
        TimerId { index, generation: self.timers[index].generation }
    }

    /// Takes a timer back. False when it fired or was cancelled before.
    pub fn cancel(&mut self, id: TimerId) -> bool {
        let current = self.timers.get(id.index);
        if !current.is_some_and(|timer| timer.generation == id.generation && timer.prev != IDLE) {
            return false;
        }
        self.unlink(id.index);
        self.release(id.index);
        true
    }

    /// Appends the values of timers that are due at `now_ms`, and answers whether more of them wait.
    ///
    /// Does about `budget` pieces of work: a timer fired, or moved down a level. "More" may turn out to be
    /// timers that only had to move.
    pub fn expire(&mut self, now_ms: u64, budget: usize, due: &mut Vec<T>) -> bool {
        let now = (now_ms >> TICK_BITS).min(TICK_MAX);
        let mut left = budget;
        while let Some((level, slot, starts)) = self.next_slot() {
            if starts > now {
                break;
            }
            if left == 0 {
                return true;
            }
            assert!(starts >= self.tick, "what was due before has fired");
            self.tick = starts;
            left = if level == 0 { self.fire(slot, left, due) } else { self.cascade(level, slot, left) };
        }
        self.tick = self.tick.max(now);
        false
    }

    /// A time until which nothing is due: never later than the first timer, and at most a few times earlier
    /// as the wheel turns towards it. None when there is no timer.
    pub fn next_due_ms(&self) -> Option<u64> {
        self.next_slot().map(|(_, _, starts)| starts << TICK_BITS)
    }

    /// Bytes on the heap.
    pub fn memory_bytes(&self) -> usize {
        self.timers.memory_bytes()
    }

    /// The slot to go on with, and the tick at which it begins, never before the wheel's own.
    fn next_slot(&self) -> Option<(usize, usize, u64)> {
        if let Some((level, slot)) = self.cascading {
            return Some((level, slot, self.tick));
        }
        // All timers of a level are due before those of the next: they agree with now in more leading digits.
        let level = self.occupied.iter().position(|occupied| *occupied != 0)?;
        let slot = self.occupied[level].trailing_zeros() as usize;
        let shift = SLOT_BITS * level as u32;
        let above = self.tick >> (shift + SLOT_BITS) << (shift + SLOT_BITS);
        Some((level, slot, above | (slot as u64) << shift))
    }

    /// Fires timers of a slot of level 0, and answers what is left of the budget.
    fn fire(&mut self, slot: usize, mut left: usize, due: &mut Vec<T>) -> usize {
        while left > 0 && self.slots[0][slot] != NONE {
            let index = self.slots[0][slot];
            due.push(self.timers[index].value);
            self.unlink(index);
            self.release(index);
            left -= 1;
        }
        left
    }

    /// Moves timers of a slot that the wheel has reached to the levels below, and answers what is left.
    fn cascade(&mut self, level: usize, slot: usize, mut left: usize) -> usize {
        while left > 0 && self.slots[level][slot] != NONE {
            let index = self.slots[level][slot];
            self.unlink(index);
            self.link(index);
            left -= 1;
        }
        self.cascading = (self.slots[level][slot] != NONE).then_some((level, slot));
        left
    }

    /// A place for a timer, not linked yet.
    fn place(&mut self, tick: u64, value: T) -> u32 {
        let index = self.free;
        if let Some(timer) = self.timers.get_mut(index) {
            self.free = timer.next;
            (timer.tick, timer.value) = (tick, value);
            return index;
        }
        let index = self.timers.push(Timer { tick, value, next: NONE, prev: IDLE, generation: 0 });
        assert!(index < FIRST, "a shard has fewer than 2^31 timers");
        index
    }

    /// Gives an unlinked timer's place back; its id is stale from here on.
    fn release(&mut self, index: u32) {
        let timer = &mut self.timers[index];
        timer.generation = timer.generation.wrapping_add(1);
        (timer.next, timer.prev) = (self.free, IDLE);
        self.free = index;
        self.len -= 1;
    }

    /// Puts a timer first into the slot where its tick belongs: at the highest digit that differs from now.
    fn link(&mut self, index: u32) {
        let tick = self.timers[index].tick;
        let level = ((tick ^ self.tick) | 1).ilog2() / SLOT_BITS;
        let slot = (tick >> (SLOT_BITS * level)) as usize % SLOTS;
        let head = &mut self.slots[level as usize][slot];
        let next = std::mem::replace(head, index);
        self.occupied[level as usize] |= 1 << slot;
        let timer = &mut self.timers[index];
        (timer.next, timer.prev) = (next, FIRST | level << SLOT_BITS | slot as u32);
        if next != NONE {
            self.timers[next].prev = index;
        }
    }

    fn unlink(&mut self, index: u32) {
        let (next, prev) = (self.timers[index].next, self.timers[index].prev);
        if next != NONE {
            self.timers[next].prev = prev;
        }
        if prev & FIRST == 0 {
            self.timers[prev].next = next;
            return;
        }
        let (level, slot) = ((prev & !FIRST) as usize >> SLOT_BITS, prev as usize % SLOTS);
        self.slots[level][slot] = next;
        if next == NONE {
            self.occupied[level] &= !(1 << slot);
            if self.cascading == Some((level, slot)) {
                self.cascading = None;
            }
        }
    }
}

const _: () = assert!(size_of::<Timer<u64>>() == 32 && size_of::<Timer<u32>>() <= 32);
const _: () = assert!((LEVELS << SLOT_BITS) < FIRST as usize && TICK_MAX >> (48 - TICK_BITS) > 0);
