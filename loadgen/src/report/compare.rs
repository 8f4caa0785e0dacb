//! Runs side by side: ratios, and whether they are more than noise.

use serde::Serialize;

use super::text::chief;
use super::units::{bytes, count, time};
use super::{Phase, Report};

/// How a figure reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unit {
    /// A second.
    Rate,
    /// A time.
    Nanoseconds,
    /// Memory.
    Bytes,
    /// A number of things.
    Count,
}

/// A figure of a run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Figure {
    /// Its value.
    pub value: f64,
    /// How far it went up and down in the run, as a share of it: none where that was not seen.
    pub noise: Option<f64>,
}

/// One figure of all runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// What it is.
    pub name: String,
    /// How it reads.
    pub unit: Unit,
    /// Whether more is better.
    pub more_is_better: bool,
    /// Of each run, in order.
    pub figures: Vec<Option<Figure>>,
}

/// The word for a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// Better by more than noise.
    Better,
    /// Worse by more than noise.
    Worse,
    /// No more than noise.
    Same,
}

/// All figures of all runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Table {
    /// Names of the runs; the first one is what the others are compared with.
    pub runs: Vec<String>,
    /// What should be known: runs that are not alike, for example.
    pub notes: Vec<String>,
    /// The figures.
    pub rows: Vec<Row>,
}

/// Changes below this are never told apart.
const NOISE_MIN: f64 = 0.03;

/// Compares reports, by their main phases. The first is the base.
pub fn compare(reports: &[(String, Report)]) -> Table {
    let phases: Vec<Option<&Phase>> = reports.iter().map(|(_, report)| report.main_phase()).collect();
    let mut table = Table {
        runs: reports.iter().map(|(name, _)| name.clone()).collect(),
        notes: notes(reports),
        rows: Vec::new(),
    };
    let mut add = |name: &str, unit, more_is_better, figure: &dyn Fn(&Phase) -> Option<Figure>| {
        let figures: Vec<_> = phases.iter().map(|phase| phase.and_then(figure)).collect();
        if figures.iter().any(Option::is_some) {
            table.rows.push(Row { name: name.to_owned(), unit, more_is_better, figures });
        }
    };
    type Pick = fn(&crate::measure::Counts) -> u64;
    let rates: [(&str, Pick); 5] = [
        ("sent", |counts| counts.sent),
        ("received", |counts| counts.received),
        ("connected", |counts| counts.connected),
        ("subscribed", |counts| counts.subscribed),
        ("pings", |counts| counts.pings),
    ];
    for (name, pick) in rates {
        add(name, Unit::Rate, true, &|phase| {
            let count = pick(&phase.counts);
            (count > 0).then(|| Figure { value: phase.rate(count), noise: rate_noise(phase, pick) })
        });
    }
    type Quantile = (&'static str, fn(&super::Times) -> u64, fn(&super::Interval) -> Option<u64>);
    let quantiles: [Quantile; 5] = [
        ("p50", |times| times.p50_ns, |interval| interval.p50_ns),
        ("p99", |times| times.p99_ns, |interval| interval.p99_ns),
        ("p99.9", |times| times.p999_ns, |_| None),
        ("p99.99", |times| times.p9999_ns, |_| None),
        ("max", |times| times.max_ns, |_| None),
    ];
    for (name, of_times, of_interval) in quantiles {
        add(name, Unit::Nanoseconds, false, &|phase| {
            let times = chief(phase)?;
            let values = measured(phase).filter_map(of_interval).map(|ns| ns as f64);
            Some(Figure { value: of_times(times) as f64, noise: spread(values.collect()) })
        });
    }
    let each = |cost: &crate::process::Cost, phase: &Phase| {
        let (number, _) = phase.unit()?;
        (cost.cpu_ns > 0).then(|| Figure { value: cost.cpu_ns as f64 / number as f64, noise: None })
    };
    add("broker CPU each", Unit::Nanoseconds, false, &|phase| each(phase.broker.as_ref()?, phase));
    add("generator CPU each", Unit::Nanoseconds, false, &|phase| each(&phase.generator, phase));
    add("broker memory", Unit::Bytes, false, &|phase| {
        let value = phase.broker.as_ref()?.resident_bytes as f64;
        Some(Figure { value, noise: None })
    });
    let lost =
        reports.iter().map(|(_, report)| Some(Figure { value: report.messages.lost() as f64, noise: None }));
    let lost: Vec<_> = lost.collect();
    if reports.iter().any(|(_, report)| report.messages.lost() > 0) {
        table.rows.push(Row {
            name: "lost".to_owned(),
            unit: Unit::Count,
            more_is_better: false,
            figures: lost,
        });
    }
    table
}

fn notes(reports: &[(String, Report)]) -> Vec<String> {
    let Some(((base_name, base), others)) = reports.split_first() else { return Vec::new() };
    let mut notes = Vec::new();
    for (name, report) in others {
        if report.name != base.name || report.clients != base.clients {
            notes.push(format!(
                "{base_name} and {name} are not the same scenario: {} and {}",
                base.name, report.name
            ));
        }
        if (report.machine.cpus, &report.machine.kernel) != (base.machine.cpus, &base.machine.kernel) {
            notes.push(format!("{base_name} and {name} were measured on different machines"));
        }
    }
    for (name, report) in reports {
        if !report.is_fine() {
            notes.push(format!("{name} had losses or failures"));
        }
        if let Some(verdict) = report.main_phase().and_then(|phase| phase.verdict.as_ref())
            && matches!(verdict.limit, crate::verdict::Limit::Generator | crate::verdict::Limit::Cpus)
        {
            notes.push(format!("{name} was not limited by the broker, but by {}", verdict.words));
        }
    }
    notes
}

fn measured(phase: &Phase) -> impl Iterator<Item = &super::Interval> {
    phase.intervals.iter().filter(|interval| interval.stage == "measured")
}

fn rate_noise(phase: &Phase, pick: fn(&crate::measure::Counts) -> u64) -> Option<f64> {
    let rates = measured(phase).filter(|interval| interval.seconds > 0.0);
    spread(rates.map(|interval| pick(&interval.counts) as f64 / interval.seconds).collect())
}

/// How uncertain the mean of some values is, as a share of it: two standard errors.
fn spread(values: Vec<f64>) -> Option<f64> {
    if values.len() < 3 {
        return None;
    }
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (count - 1.0);
    (mean > 0.0).then(|| 2.0 * (variance / count).sqrt() / mean)
}

impl Row {
    /// How much more a run has than the base, and whether that means something.
    pub fn change(&self, run: usize) -> Option<(f64, Change)> {
        let (base, other) = (self.figures.first()?.as_ref()?, self.figures.get(run)?.as_ref()?);
        if base.value <= 0.0 {
            return None;
        }
        let ratio = other.value / base.value;
        let noise = base.noise.unwrap_or(0.0) + other.noise.unwrap_or(0.0);
        let change = if (ratio - 1.0).abs() <= noise.max(NOISE_MIN) {
            Change::Same
        } else if (ratio > 1.0) == self.more_is_better {
            Change::Better
        } else {
            Change::Worse
        };
        Some((ratio, change))
    }
}

fn words(figure: &Figure, unit: Unit) -> String {
    let value = match unit {
        Unit::Rate => format!("{}/s", count(figure.value.round() as u64)),
        Unit::Nanoseconds => time(figure.value.round() as u64),
        Unit::Bytes => bytes(figure.value as u64),
        Unit::Count => count(figure.value as u64),
    };
    match figure.noise {
        Some(noise) => format!("{value} ±{:.0} %", noise * 100.0),
        None => value,
    }
}

impl Table {
    /// As plain text.
    pub fn to_text(&self) -> String {
        let mut lines = vec![vec![String::new()]];
        for (at, run) in self.runs.iter().enumerate() {
            lines[0].push(run.clone());
            if at > 0 {
                lines[0].extend(["ratio".to_owned(), String::new()]);
            }
        }
        for row in &self.rows {
            let mut line = vec![row.name.clone()];
            for (at, figure) in row.figures.iter().enumerate() {
                line.push(figure.as_ref().map_or_else(|| "-".to_owned(), |figure| words(figure, row.unit)));
                if at > 0 {
                    let (ratio, change) = match row.change(at) {
                        Some((ratio, change)) => (format!("x {ratio:.2}"), change_word(change)),
                        None => ("-".to_owned(), ""),
                    };
                    line.extend([ratio, change.to_owned()]);
                }
            }
            lines.push(line);
        }
        let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
        let wide = |column: usize| {
            lines.iter().filter_map(|line| line.get(column)).map(|it| it.chars().count()).max()
        };
        let widths: Vec<usize> = (0..columns).map(|column| wide(column).unwrap_or(0)).collect();
        let mut out = String::new();
        for line in &lines {
            let mut text = String::new();
            for (column, (word, width)) in line.iter().zip(&widths).enumerate() {
                let pad = " ".repeat(width - word.chars().count());
                // Names and words from the left, figures from the right.
                let is_left = column == 0 || (column >= 2 && (column - 1) % 3 == 0);
                text.push_str(&if is_left { format!("{word}{pad}  ") } else { format!("{pad}{word}  ") });
            }
            out.push_str(text.trim_end());
            out.push('\n');
        }
        for note in &self.notes {
            out.push_str(&format!("note: {note}\n"));
        }
        out.push_str(
            "± is the noise seen within a run; `same` is a change within that of both, or below 3 %.\n",
        );
        out
    }

    /// As JSON.
    pub fn to_json(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).expect("a table has no maps with odd keys");
        text.push('\n');
        text
    }
}

fn change_word(change: Change) -> &'static str {
    match change {
        Change::Better => "better",
        Change::Worse => "worse",
        Change::Same => "same",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Interval, Times};

    fn report(rates: &[u64], p99_ns: u64) -> Report {
        let interval = |received: &u64| {
            let mut interval = Interval { seconds: 1.0, stage: "measured".to_owned(), ..Interval::default() };
            interval.counts.received = *received;
            interval
        };
        let mut phase = Phase { seconds: rates.len() as f64, is_main: true, ..Phase::default() };
        phase.counts.received = rates.iter().sum();
        phase.intervals = rates.iter().map(interval).collect();
        phase.times = vec![Times { kind: "latency".to_owned(), count: 1, p99_ns, ..Times::default() }];
        Report { phases: vec![phase], ..Report::default() }
    }

    fn change(base: &[u64], other: &[u64]) -> Change {
        let reports = [("a".to_owned(), report(base, 100)), ("b".to_owned(), report(other, 100))];
        let table = compare(&reports);
        let row = table.rows.iter().find(|row| row.name == "received").unwrap();
        row.change(1).unwrap().1
    }

    #[test]
    fn a_change_counts_when_it_is_more_than_noise() {
        let table: [(&[u64], &[u64], Change); 5] = [
            (&[100, 100, 100, 100], &[100, 100, 100, 100], Change::Same),
            (&[100, 100, 100, 100], &[102, 102, 102, 102], Change::Same),
            (&[100, 100, 100, 100], &[110, 110, 110, 110], Change::Better),
            (&[100, 100, 100, 100], &[90, 90, 90, 90], Change::Worse),
            (&[60, 140, 60, 140], &[70, 150, 70, 150], Change::Same),
        ];
        for (base, other, expected) in table {
            assert_eq!(change(base, other), expected, "{base:?} {other:?}");
        }
    }

    #[test]
    fn less_time_is_better() {
        let reports = [("a".to_owned(), report(&[1], 100)), ("b".to_owned(), report(&[1], 50))];
        let table = compare(&reports);
        let row = table.rows.iter().find(|row| row.name == "p99").unwrap();
        assert_eq!(row.change(1), Some((0.5, Change::Better)));
        let text = table.to_text();
        assert!(text.contains("x 0.50  better"), "{text}");
    }

    #[test]
    fn runs_that_are_not_alike_are_named() {
        let (base, mut other) = (report(&[1], 1), report(&[1], 1));
        other.name = "fan-out".to_owned();
        other.messages.lost_qos0 = 3;
        let table = compare(&[("a".to_owned(), base), ("b".to_owned(), other)]);
        assert!(
            table.notes[0].contains("not the same scenario") && table.notes[1].contains("losses"),
            "{table:?}"
        );
        assert_eq!(table.rows.last().map(|row| &*row.name), Some("lost"));
    }
}
