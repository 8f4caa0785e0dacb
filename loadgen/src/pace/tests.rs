use super::*;

const SECOND: u64 = 1_000_000_000;

fn run(from: u64, to: u64) -> Run {
    Run { from, to }
}

#[test]
fn intended_times_are_spread_evenly() {
    let schedule = Schedule { start_ns: SECOND, ramp_ns: 0, rate: 20_000.0 };
    let times: Vec<u64> = (0..40_000).map(|number| schedule.due_ns(number)).collect();
    assert_eq!(times[0], SECOND);
    for (number, pair) in times.windows(2).enumerate() {
        let gap = pair[1] - pair[0];
        assert!((49_999..=50_001).contains(&gap), "between {number} and the next: {gap} ns");
    }
    assert_eq!(times[20_000], 2 * SECOND);
}

#[test]
fn a_ramp_rises_evenly_and_meets_the_rate() {
    let schedule = Schedule { start_ns: 0, ramp_ns: 4 * SECOND, rate: 1000.0 };
    let by = |at_ns: u64| (0..).take_while(|number| schedule.due_ns(*number) < at_ns).count();
    // Half the average in the first half of the ramp, and the full rate behind it.
    for (at_s, expected) in [(1, 125), (2, 500), (4, 2000), (5, 3000), (9, 7000)] {
        let count = by(at_s * SECOND);
        assert!(count.abs_diff(expected) <= 1, "{count} after {at_s} s");
    }
}

#[test]
fn cores_take_turns_without_a_gap_or_a_burst() {
    let schedule = Schedule { start_ns: 0, ramp_ns: 0, rate: 1000.0 };
    let mut cores = [Turns::new(schedule, 5, vec![0, 2, 4]), Turns::new(schedule, 5, vec![1, 3])];
    let publishers = [vec![0, 2, 4], vec![1, 3]];
    let mut order = Vec::new();
    // Time goes in steps of which each has just one.
    for now_ms in 0..100_u64 {
        for (core, turns) in cores.iter_mut().enumerate() {
            while let Some(at) = turns.take(now_ms * 1_000_000) {
                order.push(publishers[core][at]);
            }
        }
        assert_eq!(order.len() as u64, now_ms + 1);
    }
    assert!(order.iter().enumerate().all(|(at, publisher)| at as u64 % 5 == *publisher));
}

#[test]
fn what_is_late_keeps_its_intended_time() {
    let schedule = Schedule { start_ns: 0, ramp_ns: 0, rate: 1000.0 };
    let mut turns = Turns::new(schedule, 2, vec![0, 1]);
    let mut count = 0;
    while turns.take(2 * SECOND).is_some() {
        count += 1;
    }
    assert_eq!(count, 2001, "a stall of two seconds is made up for at once");
    assert_eq!(turns.due_ns(1, 3), 7_000_000);
    assert_eq!(Turns::new(schedule, 2, vec![]).next_ns(), u64::MAX);
}

#[test]
fn a_window_is_full_until_every_copy_came() {
    let mut window = Window::new(3, 2, 10);
    window.send(3);
    assert_eq!((window.room(), window.under_way()), (0, 3));
    window.arrived(run(11, 13));
    window.arrived(run(11, 13));
    assert_eq!(window.room(), 0, "the first one is missing");
    window.arrived(run(10, 11));
    window.arrived(run(10, 11));
    assert_eq!(window.room(), 3);
    window.send(2);
    window.arrived(run(0, 100));
    assert_eq!(window.under_way(), 2, "one copy of two");
    window.arrived(run(13, 15));
    window.arrived(run(13, 15));
    assert_eq!(window.under_way(), 0);
}

#[test]
fn a_window_that_is_stuck_is_given_up() {
    let mut window = Window::new(4, 1, 0);
    window.send(4);
    assert_eq!(window.stalled(), 0, "it was not looked at before");
    assert_eq!(window.stalled(), 4);
    assert_eq!((window.room(), window.stalled()), (4, 0));
    window.send(4);
    assert_eq!(window.stalled(), 0);
    window.arrived(run(0, 5));
    assert_eq!(window.stalled(), 0, "it moved");
    assert_eq!(window.stalled(), 3);
    window.arrived(run(5, 8));
    assert_eq!(window.room(), 4, "what comes late changes nothing");
}
