//! Who was the limit: the broker, the generator, the machine, or what was asked for.

use serde::{Deserialize, Serialize};

use crate::process::Cost;

/// Who held the figures down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Limit {
    /// The rate that was asked for was reached: there may be room for more.
    Offered,
    /// The broker used all the CPU that it can.
    Broker,
    /// The generator used all the CPU that it can: the broker could do more.
    Generator,
    /// Both waited for CPUs: there are too few.
    Cpus,
    /// Nobody was busy: messages were on their way.
    Window,
    /// It cannot be told.
    Unknown,
}

/// A verdict, with its reasons.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Who it was.
    pub limit: Limit,
    /// In words.
    pub words: String,
}

/// What a verdict is found from.
#[derive(Clone, Copy, Debug)]
pub struct Evidence<'a> {
    /// The generator's cost.
    pub generator: &'a Cost,
    /// Its I/O threads.
    pub threads: usize,
    /// The broker's, where it is known.
    pub broker: Option<&'a Cost>,
    /// What was asked for and what came of it, a second; absent for a window.
    pub offered: Option<(f64, f64)>,
    /// The 99th percentile of how late messages were sent, in nanoseconds.
    pub lag_p99_ns: u64,
    /// CPUs that this process may use.
    pub cpus: usize,
    /// Whether the generator looks for what is due without sleeping, which is no work.
    pub is_spinning: bool,
}

/// A thread that uses this share of a CPU has none left.
const FULL: f64 = 0.93;
/// Threads that wait this share of the time for a CPU lack one.
const STARVED: f64 = 0.10;
/// What is offered is reached when this share of it is.
const REACHED: f64 = 0.99;
/// Messages that are sent later than this are late.
const LATE_NS: u64 = 1_000_000;

/// Finds the limit.
pub fn judge(evidence: &Evidence<'_>) -> Verdict {
    let Evidence { generator, broker, .. } = evidence;
    let (is_reached, is_late) = match evidence.offered {
        Some((offered, achieved)) => (achieved >= offered * REACHED, evidence.lag_p99_ns > LATE_NS),
        None => (false, false),
    };
    let waited = generator.waited + broker.map_or(0.0, |broker| broker.waited);
    let is_starved = waited > STARVED;
    let broker_is_full = broker.is_some_and(|broker| broker.busiest_thread >= FULL);
    let generator_is_full = generator.busiest_thread >= FULL && (!evidence.is_spinning || is_late);
    let percent = |share: f64| format!("{:.0} %", share * 100.0);
    let (limit, words) = if is_reached && !is_late {
        (Limit::Offered, "the rate that was asked for was reached: neither side was the limit".to_owned())
    } else if is_starved && (generator_is_full || !broker_is_full) {
        let cpus = evidence.cpus;
        let words = format!(
            "a lack of CPU: threads that had work waited {} of the time for one of {cpus} CPUs. Latencies include \
             that wait; give broker and generator CPUs of their own (--cpus for the generator, taskset for the broker)",
            percent(waited)
        );
        (Limit::Cpus, words)
    } else if broker_is_full && generator_is_full {
        let words = "broker and generator both used all of a CPU: the broker could do little more, but its limit is \
                     not proven; give the generator another thread (--threads)";
        (Limit::Generator, words.to_owned())
    } else if generator_is_full {
        let words = format!(
            "the generator: its busiest thread used {} of a CPU, so the broker can do more than this; give it more \
             threads (--threads), or run several",
            percent(generator.busiest_thread)
        );
        (Limit::Generator, words)
    } else if broker_is_full {
        let share = broker.map_or(0.0, |broker| broker.busiest_thread);
        (Limit::Broker, format!("the broker: its busiest thread used {} of a CPU", percent(share)))
    } else if let Some((offered, achieved)) = evidence.offered {
        let words = format!(
            "{achieved:.0} of {offered:.0} messages a second came through, though neither side was short of CPU: see \
             the errors, and the network between"
        );
        (Limit::Unknown, words)
    } else if let Some(broker) = broker {
        let words = format!(
            "waiting: neither broker ({} of a CPU) nor generator ({}) was busy. Messages under way were the limit: a \
             larger --window or more clients load the broker more",
            percent(broker.busiest_thread),
            percent(generator.busiest_thread)
        );
        (Limit::Window, words)
    } else {
        let words = "the generator had CPU to spare; the broker's process is not known here, so whether it had is not \
                     either (give --broker-pid where it runs on this host)";
        (Limit::Unknown, words.to_owned())
    };
    Verdict { limit, words }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cost(busiest_thread: f64, waited: f64) -> Cost {
        Cost { seconds: 1.0, busiest_thread, waited, ..Cost::default() }
    }

    #[test]
    fn the_limit_is_told() {
        let idle = Some(cost(0.2, 0.0));
        let full = Some(cost(0.99, 0.01));
        let table = [
            // generator, broker, offered and achieved, lag, spinning
            (cost(0.4, 0.0), full.clone(), None, 0, false, Limit::Broker),
            (cost(0.99, 0.0), idle.clone(), None, 0, false, Limit::Generator),
            (cost(0.99, 0.0), full.clone(), None, 0, false, Limit::Generator),
            (cost(0.5, 0.4), Some(cost(0.5, 0.4)), None, 0, false, Limit::Cpus),
            (cost(0.3, 0.12), full.clone(), None, 0, false, Limit::Broker),
            (cost(0.3, 0.0), idle.clone(), None, 0, false, Limit::Window),
            (cost(0.3, 0.0), None, None, 0, false, Limit::Unknown),
            (cost(0.99, 0.0), idle.clone(), Some((1000.0, 1000.0)), 10_000, true, Limit::Offered),
            (cost(0.99, 0.0), idle.clone(), Some((1000.0, 1000.0)), 5_000_000, true, Limit::Generator),
            (cost(0.99, 0.0), full, Some((1000.0, 700.0)), 10_000, true, Limit::Broker),
            (cost(0.99, 0.0), idle, Some((1000.0, 700.0)), 10_000, true, Limit::Unknown),
        ];
        for (number, (generator, broker, offered, lag_p99_ns, is_spinning, expected)) in
            table.into_iter().enumerate()
        {
            let evidence = Evidence {
                generator: &generator,
                threads: 1,
                broker: broker.as_ref(),
                offered,
                lag_p99_ns,
                cpus: 2,
                is_spinning,
            };
            let verdict = judge(&evidence);
            assert_eq!(verdict.limit, expected, "row {number}: {}", verdict.words);
        }
    }
}
