//! A broker that is stopped for a while.

use std::time::{Duration, Instant};

use ringmq_loadgen::measure::{Kind, Sample};
use ringmq_loadgen::report::Interval;
use ringmq_loadgen::scenario::{Limit, Pace, Scenario};
use ringmq_loadgen::{Asked, Watcher, run};

use super::options;
use super::program::{Serving, signal};

const STALL: Duration = Duration::from_secs(2);

/// Stops the broker once messages flow, and lets it go on.
struct Stopper {
    pid: u32,
    has_stopped: bool,
}

impl Watcher for Stopper {
    fn interval(&mut self, _phase: &str, interval: &Interval, _sample: &Sample) {
        if interval.counts.received > 0 && !self.has_stopped {
            self.has_stopped = true;
            let pid = self.pid;
            std::thread::spawn(move || {
                signal(pid, "STOP");
                let since = Instant::now();
                // It is the stall itself that takes this long.
                while let Some(left) = STALL.checked_sub(since.elapsed()) {
                    std::thread::sleep(left);
                }
                signal(pid, "CONT");
            });
        }
    }
}

fn tail(serving: &Serving, scenario: Scenario) -> (u64, u64, u64) {
    let mut stopper = Stopper { pid: serving.child.id(), has_stopped: false };
    let stop = std::sync::atomic::AtomicBool::new(false);
    let report = run(scenario, Asked { words: "a test", stop: &stop }, &mut stopper).unwrap();
    assert!(stopper.has_stopped && report.is_fine(), "{}", report.to_json());
    let times = report.main_phase().unwrap().times_of(Kind::Latency).unwrap().clone();
    (times.p50_ns, times.p90_ns, times.max_ns)
}

#[test]
fn two_seconds_of_silence_are_two_seconds_in_the_tail() {
    let serving = Serving::start();
    let mut options = options(serving.address);
    options.limit = Limit::Time(Duration::from_secs(4));
    options.pace = Pace::Rate(500.0);
    let (_, p90_ns, max_ns) = tail(&serving, options.pairs(5).unwrap());
    // At a rate, messages go on being due: half of them wait, evenly from two seconds down to nothing.
    assert!(max_ns >= 1_900_000_000, "the longest took {max_ns} ns");
    assert!(p90_ns >= 1_000_000_000, "a tenth took {p90_ns} ns or longer");
    options.pace = Pace::Window(10);
    let (_, _, max_ns) = tail(&serving, options.pairs(5).unwrap());
    assert!(max_ns >= 1_900_000_000, "with a window, the longest took {max_ns} ns");
}
