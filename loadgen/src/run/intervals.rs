//! The course of a phase, in pieces.

use std::collections::BTreeMap;

use crate::core::messages::{Stage, Told};
use crate::measure::{Kind, Sample};
use crate::report::Interval;

/// What cores told of one piece.
#[derive(Debug, Default)]
struct Piece {
    sample: Sample,
    /// Of all cores together.
    ns: u64,
    to_ns: u64,
}

/// The pieces that are not over, and those that are.
#[derive(Debug)]
pub(super) struct Intervals {
    /// When the run's clock was zero, in milliseconds since 1970.
    zero_ms: u64,
    start_ns: u64,
    interval_ns: u64,
    cores: u64,
    /// What times are shown of.
    kinds: &'static [Kind],
    open: BTreeMap<(u64, Stage), Piece>,
    pub closed: Vec<Interval>,
    under_way: i64,
}

/// When pieces begin, and how long they are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub zero_ms: u64,
    pub start_ns: u64,
    pub interval_ns: u64,
}

impl Stage {
    fn word(self) -> &'static str {
        match self {
            Self::WarmUp => "warm-up",
            Self::Measured => "measured",
            Self::Drain => "drain",
        }
    }
}

impl Intervals {
    /// `under_way` copies are so when it begins.
    pub fn new(span: Span, cores: usize, kinds: &'static [Kind], under_way: i64) -> Self {
        let Span { zero_ms, start_ns, interval_ns } = span;
        let cores = cores as u64;
        Self {
            zero_ms,
            start_ns,
            interval_ns,
            cores,
            kinds,
            open: BTreeMap::new(),
            closed: Vec::new(),
            under_way,
        }
    }

    /// A core told what it measured.
    pub fn add(&mut self, told: &Told) {
        let Told { stage, from_ns, to_ns, sample } = told;
        let since_ns = to_ns.saturating_sub(self.start_ns);
        let number = since_ns / self.interval_ns;
        // Told at a tick or a little later: the piece that ended there.
        let ended = since_ns % self.interval_ns < self.interval_ns / 4;
        let number = if ended { number.saturating_sub(1) } else { number };
        let piece = self.open.entry((number, *stage)).or_default();
        piece.sample.add(sample);
        piece.ns += to_ns.saturating_sub(*from_ns);
        piece.to_ns = piece.to_ns.max(*to_ns);
    }

    /// Closes the pieces that are over by now; all of them at the end.
    pub fn close(&mut self, now_ns: u64, mut tell: impl FnMut(&Interval, &Sample)) {
        while let Some(entry) = self.open.first_entry() {
            let (number, stage) = *entry.key();
            let over_ns = (number + 1).saturating_mul(self.interval_ns).saturating_add(self.interval_ns / 2);
            if now_ns != u64::MAX && now_ns.saturating_sub(self.start_ns) < over_ns {
                return;
            }
            let piece = entry.remove();
            let counts = piece.sample.counts;
            self.under_way +=
                (counts.expected + counts.kept) as i64 - (counts.received - counts.duplicates) as i64;
            if piece.ns == 0 || (counts.is_empty() && stage != Stage::Measured) {
                continue;
            }
            let times = self.kinds.iter().find_map(|kind| piece.sample.times(*kind));
            let interval = Interval {
                at_s: piece.to_ns.saturating_sub(self.start_ns) as f64 / 1e9,
                ended_ms: self.zero_ms + piece.to_ns / 1_000_000,
                seconds: piece.ns as f64 / self.cores as f64 / 1e9,
                stage: stage.word().to_owned(),
                counts,
                under_way: self.under_way.max(0) as u64,
                p50_ns: times.map(|times| times.value_at_quantile(0.5)),
                p99_ns: times.map(|times| times.value_at_quantile(0.99)),
                max_ns: times.map(|times| times.max()),
            };
            tell(&interval, &piece.sample);
            self.closed.push(interval);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn pieces_hold_what_cores_told_of_them() {
        let mut intervals =
            Intervals::new(Span { zero_ms: 0, start_ns: 0, interval_ns: 1000 * MS }, 2, &[Kind::Latency], 0);
        let mut sample = Sample::default();
        sample.counts.received = 10;
        sample.counts.expected = 15;
        sample.record(Kind::Latency, 5_000);
        // Two cores, which are a little late, and one of them twice.
        for (from_ms, to_ms) in [(0, 1002), (0, 1100), (1002, 2001), (1100, 1600), (1600, 2000)] {
            let sample = Box::new(sample.clone());
            intervals.add(&Told { stage: Stage::Measured, from_ns: from_ms * MS, to_ns: to_ms * MS, sample });
        }
        let mut told = Vec::new();
        intervals.close(1500 * MS, |interval, sample| told.push((interval.clone(), sample.counts.received)));
        assert_eq!(told.len(), 1);
        assert_eq!(told[0].1, 20);
        assert!((told[0].0.seconds - 1.051).abs() < 1e-6 && told[0].0.under_way == 10, "{:?}", told[0]);
        intervals.close(u64::MAX, |_, _| {});
        let rest: Vec<u64> = intervals.closed.iter().map(|interval| interval.counts.received).collect();
        assert_eq!(rest, [20, 30]);
    }
}
