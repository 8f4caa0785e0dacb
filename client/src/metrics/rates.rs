//! How fast something goes, from two looks at a count.

use std::time::{Duration, Instant};

/// Looks that are closer together than this share their rates.
const APART_MIN: Duration = Duration::from_secs(1);

/// How fast messages went, both ways together.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rates {
    /// Messages a second, since the last look that was at least a second ago.
    pub messages_per_s: f64,
    /// The same of bytes.
    pub bytes_per_s: f64,
    /// Messages a second, since the start.
    pub messages_per_s_average: f64,
}

/// Remembers the last look.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Meter {
    began: Instant,
    last: Instant,
    messages: u64,
    bytes: u64,
    rates: Rates,
}

impl Meter {
    pub fn new(began: Instant) -> Self {
        Self { began, last: began, messages: 0, bytes: 0, rates: Rates::default() }
    }

    /// The rates, given the counts of now.
    pub fn look(&mut self, now: Instant, messages: u64, bytes: u64) -> Rates {
        let apart = now.saturating_duration_since(self.last);
        if apart >= APART_MIN {
            self.rates.messages_per_s = messages.saturating_sub(self.messages) as f64 / apart.as_secs_f64();
            self.rates.bytes_per_s = bytes.saturating_sub(self.bytes) as f64 / apart.as_secs_f64();
            (self.last, self.messages, self.bytes) = (now, messages, bytes);
        }
        let all = now.saturating_duration_since(self.began).as_secs_f64();
        self.rates.messages_per_s_average = if all > 0.0 { messages as f64 / all } else { 0.0 };
        self.rates
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_of_the_time_between_two_looks() {
        let start = Instant::now();
        let mut meter = Meter::new(start);
        // Milliseconds since the start, messages, bytes: rates of messages, bytes, and the average.
        let table = [
            (0, 0, 0, (0.0, 0.0, 0.0)),
            (500, 50, 500, (0.0, 0.0, 100.0)),
            (2_000, 200, 4_000, (100.0, 2_000.0, 100.0)),
            (2_500, 300, 9_000, (100.0, 2_000.0, 120.0)),
            (4_000, 200, 4_000, (0.0, 0.0, 50.0)),
        ];
        for (ms, messages, bytes, (per_s, bytes_per_s, average)) in table {
            let rates = meter.look(start + Duration::from_millis(ms), messages, bytes);
            let expect = Rates { messages_per_s: per_s, bytes_per_s, messages_per_s_average: average };
            assert_eq!(rates, expect, "after {ms} ms");
        }
    }
}
