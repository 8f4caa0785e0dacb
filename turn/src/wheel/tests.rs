use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

const TICK_MS: u64 = 1 << TICK_BITS;

#[derive(Clone, Debug)]
enum Step {
    Schedule { in_ms: u64 },
    Cancel { which: usize },
    Pass { ms: u64, budget: usize },
}

fn step() -> impl Strategy<Value = Step> {
    let horizon = prop_oneof![0..100u64, 0..20_000u64, 0..100_000_000u64, 0..(1u64 << 48), Just(u64::MAX)];
    let jump = prop_oneof![0..40u64, 0..5_000u64, 0..10_000_000u64, 0..(1u64 << 40)];
    prop_oneof![
        4 => horizon.prop_map(|in_ms| Step::Schedule { in_ms }),
        1 => any::<usize>().prop_map(|which| Step::Cancel { which }),
        3 => (jump, 0..12usize).prop_map(|(ms, budget)| Step::Pass { ms, budget }),
    ]
}

/// What a wheel must do, by a sorted list.
struct Model {
    wheel: Wheel<u32>,
    waiting: BTreeMap<u32, (u64, TimerId)>,
    gone: Vec<TimerId>,
    now_ms: u64,
}

impl Model {
    fn schedule(&mut self, value: u32, in_ms: u64) {
        let at_ms = self.now_ms.saturating_add(in_ms);
        let id = self.wheel.schedule(at_ms, value);
        self.waiting.insert(value, (at_ms, id));
    }

    fn cancel(&mut self, which: usize) {
        if self.waiting.is_empty() {
            return;
        }
        let (&value, &(_, id)) = self.waiting.iter().nth(which % self.waiting.len()).unwrap();
        self.waiting.remove(&value);
        assert!(self.wheel.cancel(id));
        self.gone.push(id);
    }

    fn pass(&mut self, ms: u64, budget: usize) {
        self.now_ms += ms;
        let mut due = Vec::new();
        let more = self.wheel.expire(self.now_ms, budget, &mut due);
        assert!(due.len() <= budget);
        self.fired(due);
        let late = self.waiting.values().filter(|(at_ms, _)| at_ms.saturating_add(TICK_MS) <= self.now_ms);
        assert!(more || late.count() == 0, "a timer is late and the wheel says that there is no more");
        if !more {
            assert!(self.wheel.next_due_ms().is_none_or(|next| next + TICK_MS > self.now_ms));
        }
    }

    fn fired(&mut self, due: Vec<u32>) {
        let mut last_tick = 0;
        for value in due {
            let (at_ms, id) = self.waiting.remove(&value).expect("a timer fires once");
            assert!(at_ms <= self.now_ms, "{value} is early");
            let tick = at_ms.div_ceil(TICK_MS);
            assert!(tick >= last_tick || at_ms + TICK_MS < self.now_ms, "out of order");
            last_tick = tick;
            self.gone.push(id);
        }
    }

    fn check(&mut self) {
        assert_eq!(self.wheel.len(), self.waiting.len());
        let first = self.waiting.values().map(|(at_ms, _)| *at_ms).min();
        let next = self.wheel.next_due_ms();
        assert_eq!(first.is_some(), next.is_some());
        if let (Some(first), Some(next)) = (first, next) {
            let first = first.div_ceil(TICK_MS).saturating_mul(TICK_MS).max(self.now_ms);
            assert!(next <= first, "{next} is later than {first}");
        }
        for id in &self.gone {
            assert!(!self.wheel.cancel(*id), "a stale id");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]
    #[test]
    fn equals_a_sorted_list(start in 0..(1u64 << 47), steps in prop::collection::vec(step(), 0..150)) {
        let wheel = Wheel::new(start);
        let mut model = Model { wheel, waiting: BTreeMap::new(), gone: Vec::new(), now_ms: start };
        for (value, step) in steps.into_iter().enumerate() {
            match step {
                Step::Schedule { in_ms } => model.schedule(value as u32, in_ms),
                Step::Cancel { which } => model.cancel(which),
                Step::Pass { ms, budget } => model.pass(ms, budget),
            }
            model.check();
        }
        model.now_ms = 1 << 51;
        model.pass(0, 10_000);
        prop_assert!(model.waiting.values().all(|(at_ms, _)| *at_ms > model.now_ms));
        model.check();
    }
}

/// Follows `next_due_ms` as a driver does, and answers when each value came and how often the driver woke.
fn drive(wheel: &mut Wheel<u32>, from_ms: u64) -> (Vec<(u64, u32)>, usize) {
    let (mut came, mut wakes, mut now_ms) = (Vec::new(), 0, from_ms);
    while let Some(next_ms) = wheel.next_due_ms() {
        now_ms = now_ms.max(next_ms);
        let mut due = Vec::new();
        while wheel.expire(now_ms, 10, &mut due) {}
        came.extend(due.into_iter().map(|value| (now_ms, value)));
        wakes += 1;
    }
    (came, wakes)
}

#[test]
fn sleeping_on_the_next_due_time_is_exact_and_wakes_seldom() {
    for at_ms in [0, 1, 15, 16, 17, 1_000, 60_000, 3_600_000, 86_400_000, 1 << 40, (1 << 48) - 1] {
        let mut wheel = Wheel::new(12_345);
        wheel.schedule(12_345 + at_ms, 7);
        let (came, wakes) = drive(&mut wheel, 12_345);
        let &[(when, 7)] = &came[..] else { panic!("{came:?}") };
        assert!(when >= 12_345 + at_ms && when < 12_345 + at_ms + TICK_MS, "{at_ms}: {when}");
        assert!(wakes <= LEVELS + 1, "{at_ms}: {wakes} wakes");
    }
}

#[test]
fn a_crowd_due_at_once_is_spread_by_the_budget() {
    const CROWD: u32 = 50_000;
    let mut wheel = Wheel::new(0);
    for value in 0..CROWD {
        wheel.schedule(1 << 30, value);
    }
    let (mut due, mut calls) = (Vec::new(), 0);
    while wheel.expire((1 << 30) + 100, 1_000, &mut due) {
        calls += 1;
    }
    assert_eq!(due.len(), CROWD as usize);
    assert!((50..=50 * (LEVELS + 1)).contains(&calls), "{calls} calls");
    due.sort_unstable();
    assert!(due.into_iter().eq(0..CROWD));
}

#[test]
fn what_is_scheduled_in_the_middle_of_a_cascade_keeps_its_turn() {
    let mut wheel = Wheel::new(0);
    for value in 0..100 {
        wheel.schedule(TICK_MS * 4_100, value);
    }
    let mut due = Vec::new();
    assert!(wheel.expire(TICK_MS * 4_200, 10, &mut due));
    wheel.schedule(TICK_MS * 4_099, 1_000);
    wheel.schedule(0, 1_001);
    let last = wheel.schedule(TICK_MS * 5_000, 1_002);
    while wheel.expire(TICK_MS * 4_200, 10, &mut due) {}
    assert_eq!(due.len(), 102);
    assert_eq!(due[..2], [1_001, 1_000]);
    assert!(wheel.cancel(last) && wheel.is_empty() && wheel.next_due_ms().is_none());
}

#[test]
fn places_are_used_again() {
    let mut wheel = Wheel::new(0);
    for round in 0..10_000u64 {
        let id = wheel.schedule(round * 50 + 10_000, 0);
        assert!(round % 2 == 0 || wheel.cancel(id));
        let mut due = Vec::new();
        while wheel.expire(round * 50, 100, &mut due) {}
    }
    assert!(wheel.memory_bytes() < 400 * 40, "{}", wheel.memory_bytes());
}

#[test]
fn cancelling_in_the_middle_of_a_cascade_leaves_nothing_behind() {
    let mut wheel = Wheel::new(0);
    let ids: Vec<TimerId> = (0..100).map(|value| wheel.schedule(1 << 30, value)).collect();
    let mut due = Vec::new();
    assert!(wheel.expire(1 << 30, 10, &mut due));
    assert!(ids.into_iter().all(|id| wheel.cancel(id)));
    assert_eq!((wheel.len(), wheel.next_due_ms()), (0, None));
    assert!(!wheel.expire(1 << 30, 10, &mut due) && due.is_empty());
}
