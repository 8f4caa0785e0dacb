//! How a run goes on, shown while it does: one block that is drawn anew on a terminal, plain lines elsewhere.

use std::io::Write;

use crate::measure::Sample;
use crate::report::Interval;
use crate::report::units::{count, rate, short, time};
use crate::run::Watcher;

/// Where progress is shown.
pub struct Live<W> {
    out: W,
    is_terminal: bool,
    /// Lines of the block on the screen.
    drawn: usize,
    /// The block's first line.
    phase: String,
    sent: u64,
    received: u64,
    errors: u64,
    /// Messages received a second, for the small curve.
    rates: Vec<f64>,
}

/// Intervals that the small curve shows.
const CURVE: usize = 48;

impl<W: Write> Live<W> {
    /// Shows it there; as a block if that is a terminal.
    pub fn new(out: W, is_terminal: bool) -> Self {
        Self {
            out,
            is_terminal,
            drawn: 0,
            phase: String::new(),
            sent: 0,
            received: 0,
            errors: 0,
            rates: Vec::new(),
        }
    }

    /// Takes the block off the screen.
    pub fn finish(&mut self) {
        if self.is_terminal {
            self.draw(&[]);
        }
    }

    /// Puts these lines in the place of those that were drawn before.
    fn draw(&mut self, lines: &[String]) {
        let mut text = String::new();
        if self.drawn > 0 {
            text.push_str(&format!("\x1b[{}A", self.drawn));
        }
        for line in lines {
            text.push_str(&format!("\x1b[2K{line}\n"));
        }
        for _ in lines.len()..self.drawn {
            text.push_str("\x1b[2K\n");
        }
        let below = self.drawn.saturating_sub(lines.len());
        if below > 0 {
            text.push_str(&format!("\x1b[{below}A"));
        }
        self.drawn = lines.len();
        self.put(&text);
    }

    fn put(&mut self, text: &str) {
        // Nobody is hurt when progress cannot be shown.
        let _ = self.out.write_all(text.as_bytes());
        let _ = self.out.flush();
    }
}

fn times(interval: &Interval) -> Option<String> {
    let (p50, p99, max) = (interval.p50_ns?, interval.p99_ns?, interval.max_ns?);
    Some(format!("p50 {}  p99 {}  max {}", time(p50), time(p99), time(max)))
}

/// How many a second of what the interval is about, with words.
fn rates(interval: &Interval) -> Vec<(f64, &'static str)> {
    let counts = &interval.counts;
    let all = [
        (counts.sent, "sent"),
        (counts.received, "received"),
        (counts.connected, "connected"),
        (counts.subscribed, "subscribed"),
        (counts.pings, "pings"),
    ];
    let seconds = interval.seconds.max(1e-9);
    all.into_iter()
        .filter(|(number, _)| *number > 0)
        .map(|(number, word)| (number as f64 / seconds, word))
        .collect()
}

fn errors(interval: &Interval) -> u64 {
    let counts = &interval.counts;
    counts.connect_failed + counts.connections_lost + counts.subscribe_failed + counts.refused
}

/// A curve of one line.
fn curve(values: &[f64]) -> String {
    const STEPS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let most = values.iter().copied().fold(0.0, f64::max);
    let step = |value: &f64| if most > 0.0 { (value / most * 7.0).round() as usize } else { 0 };
    values.iter().map(|value| STEPS[step(value).min(7)]).collect()
}

impl<W: Write> Watcher for Live<W> {
    fn begins(&mut self, phase: &str) {
        phase.clone_into(&mut self.phase);
        self.rates.clear();
        if self.is_terminal {
            self.draw(&[format!("{phase} ...")]);
        } else {
            self.put(&format!("{phase}\n"));
        }
    }

    fn interval(&mut self, _phase: &str, interval: &Interval, _sample: &Sample) {
        self.sent += interval.counts.sent;
        self.received += interval.counts.received;
        self.errors += errors(interval);
        let rates = rates(interval);
        let words: Vec<String> =
            rates.iter().map(|(value, word)| format!("{word} {}", rate(*value))).collect();
        let stage =
            if interval.stage == "measured" { String::new() } else { format!("  ({})", interval.stage) };
        if !self.is_terminal {
            let mut line = format!("{:8.1} s  {}", interval.at_s, words.join("  "));
            if let Some(times) = times(interval) {
                line.push_str(&format!("  {times}"));
            }
            line.push_str(&format!(
                "  under way {}  errors {}{stage}\n",
                count(interval.under_way),
                count(self.errors)
            ));
            return self.put(&line);
        }
        if let Some((value, _)) = rates.last() {
            self.rates.push(*value);
        }
        let from = self.rates.len().saturating_sub(CURVE);
        let most = self.rates[from..].iter().copied().fold(0.0, f64::max);
        let lines = [
            format!("{}  {:.1} s{stage}", self.phase, interval.at_s),
            format!("  now      {}", words.join("   ")),
            format!("  times    {}", times(interval).unwrap_or_else(|| "-".to_owned())),
            format!(
                "  so far   {} sent   {} received   {} under way   {} errors",
                count(self.sent),
                count(self.received),
                count(interval.under_way),
                count(self.errors)
            ),
            format!("  course   {}  up to {}/s", curve(&self.rates[from..]), short(most)),
        ];
        self.draw(&lines);
    }

    fn says(&mut self, line: &str) {
        self.finish();
        self.put(&format!("{line}\n"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interval(received: u64) -> Interval {
        let mut interval =
            Interval { at_s: 1.0, seconds: 0.5, stage: "measured".to_owned(), ..Interval::default() };
        interval.counts.received = received;
        (interval.p50_ns, interval.p99_ns, interval.max_ns) = (Some(1_000), Some(2_000), Some(3_000));
        interval
    }

    fn shown(is_terminal: bool) -> String {
        let mut out = Vec::new();
        let mut live = Live::new(&mut out, is_terminal);
        live.begins("publish");
        live.interval("publish", &interval(500), &Sample::default());
        live.interval("publish", &interval(1000), &Sample::default());
        live.says("a note");
        live.finish();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn lines_are_plain_where_it_is_no_terminal() {
        let text = shown(false);
        assert!(!text.contains('\x1b'), "{text}");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "publish");
        assert!(lines[1].contains("received 1,000/s  p50 1.00 us  p99 2.00 us  max 3.00 us"), "{text}");
        assert_eq!(lines.len(), 4);
    }

    #[test]
    fn a_block_is_drawn_in_place() {
        let text = shown(true);
        // Up over one line, then over five, then over five to take it away.
        assert_eq!([text.matches("\x1b[1A").count(), text.matches("\x1b[5A").count()], [1, 3], "{text:?}");
        assert!(text.contains("▅█") && text.ends_with("a note\n"), "{text:?}");
    }
}
