//! The table: medians of what was measured, ratios to Ringmq's, as Markdown and as JSON.

use std::fmt::Write;

use ringmq_loadgen::report::units::{bytes, rate, time};
use serde::Serialize;

use crate::sample::Sample;
use crate::suite::Budget;

/// The version of the JSON.
pub const VERSION: u32 = 1;
/// Whom the others are compared with.
pub const BASE: &str = "ringmq";

/// All of it.
#[derive(Debug, Serialize)]
pub struct Comparison {
    pub format: &'static str,
    pub version: u32,
    pub kernel: String,
    /// The model of its CPU, and how many there are.
    pub cpu: String,
    pub cpus: usize,
    pub broker_cpu: usize,
    pub load_cpu: usize,
    /// How long a row that is measured for a time takes, and how often each row is measured.
    pub seconds: f64,
    pub repeats: usize,
    /// Name and version of each broker.
    pub brokers: Vec<(String, String)>,
    /// Who or what was left out, and why.
    pub left_out: Vec<String>,
    pub lines: Vec<Line>,
}

/// What one broker did in one figure.
#[derive(Debug, Serialize)]
pub struct Line {
    pub work: &'static str,
    pub broker: String,
    /// One for each repetition that worked.
    pub samples: Vec<Sample>,
    /// Their medians.
    pub median: Sample,
    /// Why a repetition did not work.
    pub fault: Option<String>,
    /// CPU time, and rate, divided by Ringmq's.
    pub cpu_ratio: Option<f64>,
    pub rate_ratio: Option<f64>,
    #[serde(skip)]
    pub budget: Budget,
}

impl Line {
    /// A line without ratios.
    pub fn new(work: &'static str, broker: &str, budget: Budget) -> Self {
        Self {
            work,
            broker: broker.to_owned(),
            samples: Vec::new(),
            median: Sample::default(),
            fault: None,
            cpu_ratio: None,
            rate_ratio: None,
            budget,
        }
    }
}

/// The middle one; of an even number, the lower of the two, so that it was measured.
fn median<T: PartialOrd + Copy>(samples: &[Sample], of: impl Fn(&Sample) -> Option<T>) -> Option<T> {
    let mut values: Vec<T> = samples.iter().filter_map(of).collect();
    values.sort_by(|a, b| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
    values.get(values.len().saturating_sub(1) / 2).copied()
}

/// Medians and ratios, from the samples.
pub fn finish(lines: &mut [Line]) {
    for line in lines.iter_mut() {
        let samples = &line.samples;
        let limited = samples.iter().filter(|sample| sample.is_broker_limit).count();
        line.median = Sample {
            cpu_ns: median(samples, |it| it.cpu_ns),
            per_second: median(samples, |it| it.per_second),
            p50_ns: median(samples, |it| it.p50_ns),
            p99_ns: median(samples, |it| it.p99_ns),
            resident_bytes: median(samples, |it| it.resident_bytes),
            each_bytes: median(samples, |it| it.each_bytes),
            is_broker_limit: limited * 2 > samples.len(),
            is_wrong: samples.iter().any(|sample| sample.is_wrong),
        };
    }
    for at in 0..lines.len() {
        let base = lines.iter().find(|line| line.work == lines[at].work && line.broker == BASE);
        let Some(base) = base.map(|line| line.median.clone()) else { continue };
        let ratio = |this: Option<f64>, other: Option<f64>| {
            this.zip(other).filter(|(_, other)| *other > 0.0).map(|(this, other)| this / other)
        };
        let line = &mut lines[at];
        line.cpu_ratio = ratio(line.median.cpu_ns, base.cpu_ns);
        line.rate_ratio = ratio(line.median.per_second, base.per_second);
    }
}

impl Comparison {
    /// As JSON.
    pub fn to_json(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).expect("it has no maps with odd keys");
        text.push('\n');
        text
    }

    /// As Markdown.
    pub fn to_markdown(&self) -> String {
        let mut out = String::new();
        let mut put = |words: std::fmt::Arguments<'_>| {
            // Writing to a string does not fail.
            let _ = writeln!(out, "{words}");
        };
        put(format_args!(
            "{}, {} CPUs, Linux {}. Brokers on CPU {}, the load on CPU {}. {} s a row, {}.\n",
            self.cpu,
            self.cpus,
            self.kernel,
            self.broker_cpu,
            self.load_cpu,
            self.seconds,
            match self.repeats {
                1 => "once".to_owned(),
                count => format!("medians of {count}, in turns; the range of CPU times in brackets"),
            }
        ));
        for (name, version) in &self.brokers {
            put(format_args!("- {name}: {version}"));
        }
        for words in &self.left_out {
            put(format_args!("- {words}"));
        }
        put(format_args!(
            "\n| work | broker | CPU each | ratio | each second | ratio | p50 | p99 | memory | notes |\n\
             |---|---|---:|---:|---:|---:|---:|---:|---:|---|"
        ));
        let mut previous = "";
        for line in &self.lines {
            // A figure's name stands in its first line only.
            let work = if line.work == previous { "" } else { line.work };
            previous = line.work;
            put(format_args!("| {work} | {} |", line.cells().join(" | ")));
        }
        out
    }
}

impl Line {
    /// All but the first column.
    fn cells(&self) -> Vec<String> {
        let median = &self.median;
        let none = || "-".to_owned();
        let ratio = |ratio: Option<f64>| ratio.map_or_else(none, |ratio| format!("{ratio:.2}"));
        let ns = |ns: Option<u64>| ns.map_or_else(none, time);
        vec![
            self.broker.clone(),
            self.cpu_cell(),
            ratio(self.cpu_ratio),
            median.per_second.map_or_else(none, rate),
            ratio(self.rate_ratio),
            ns(median.p50_ns),
            ns(median.p99_ns),
            self.memory_cell(),
            self.notes(),
        ]
    }

    fn cpu_cell(&self) -> String {
        let Some(cpu_ns) = self.median.cpu_ns else { return "-".to_owned() };
        let all = || self.samples.iter().filter_map(|sample| sample.cpu_ns);
        let (low, high) = (all().fold(f64::MAX, f64::min), all().fold(0.0, f64::max));
        let middle = time(cpu_ns.round() as u64);
        if self.samples.len() < 2 {
            return middle;
        }
        format!("{middle} ({} to {})", time(low.round() as u64), time(high.round() as u64))
    }

    fn memory_cell(&self) -> String {
        let resident = self.median.resident_bytes.map(|resident| bytes(resident as u64));
        let each = self.median.each_bytes.map(|each| format!("{} each", bytes(each as u64)));
        let words: Vec<String> = resident.into_iter().chain(each).collect();
        if words.is_empty() { "-".to_owned() } else { words.join(", ") }
    }

    fn notes(&self) -> String {
        let mut notes = Vec::new();
        if self.broker == BASE
            && let Some(words) = self.budget_note()
        {
            notes.push(words);
        }
        if let Some(fault) = &self.fault {
            notes.push(format!("failed: {}", fault.replace('|', "/")));
        }
        if self.median.is_wrong {
            notes.push("lost messages, or worse".to_owned());
        }
        if self.median.is_broker_limit {
            notes.push("saturated".to_owned());
        }
        notes.join("; ")
    }

    /// The budget, and whether it was kept.
    fn budget_note(&self) -> Option<String> {
        let (budget, is_kept) = match self.budget {
            Budget::CpuNs(budget) => (time(budget as u64), self.median.cpu_ns? <= budget),
            Budget::P99Ns(budget) => (format!("p99 of {}", time(budget)), self.median.p99_ns? <= budget),
            Budget::EachBytes(budget) => (bytes(budget as u64), self.median.each_bytes? <= budget),
        };
        Some(format!("budget {budget}: {}", if is_kept { "kept" } else { "not kept" }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(broker: &str, cpu: &[f64], per_second: f64) -> Line {
        let sample = |cpu_ns: &f64| Sample {
            cpu_ns: Some(*cpu_ns),
            per_second: Some(per_second),
            p50_ns: Some(1_000),
            p99_ns: Some(2_000_000),
            resident_bytes: Some(1_048_576.0),
            ..Sample::default()
        };
        Line { samples: cpu.iter().map(sample).collect(), ..Line::new("QoS 0", broker, Budget::CpuNs(100.0)) }
    }

    fn comparison(mut lines: Vec<Line>) -> Comparison {
        finish(&mut lines);
        Comparison {
            format: "ringmq-compare",
            version: VERSION,
            kernel: "6.1".to_owned(),
            cpu: "A CPU".to_owned(),
            cpus: 2,
            broker_cpu: 0,
            load_cpu: 1,
            seconds: 2.0,
            repeats: 3,
            brokers: vec![("ringmq".to_owned(), "ringmq 0.1.0".to_owned())],
            left_out: vec!["other is left out: it is not in PATH".to_owned()],
            lines,
        }
    }

    #[test]
    fn the_table_has_medians_and_ratios() {
        let mut broken = Line::new("QoS 0", "broken", Budget::CpuNs(100.0));
        broken.fault = Some("it | ended".to_owned());
        let mut lossy = line("lossy", &[50.0], 1_000_000.0);
        lossy.samples[0].is_wrong = true;
        lossy.samples[0].is_broker_limit = true;
        let lines = vec![
            line("ringmq", &[90.0, 80.0, 120.0], 2_000_000.0),
            line("peer", &[900.0, 901.0, 899.0], 500_000.0),
            lossy,
            broken,
        ];
        let text = comparison(lines).to_markdown();
        let expected = "\
A CPU, 2 CPUs, Linux 6.1. Brokers on CPU 0, the load on CPU 1. 2 s a row, medians of 3, in turns; the range of CPU times in brackets.

- ringmq: ringmq 0.1.0
- other is left out: it is not in PATH

| work | broker | CPU each | ratio | each second | ratio | p50 | p99 | memory | notes |
|---|---|---:|---:|---:|---:|---:|---:|---:|---|
| QoS 0 | ringmq | 90 ns (80 ns to 120 ns) | 1.00 | 2,000,000/s | 1.00 | 1.00 us | 2.00 ms | 1.00 MiB | budget 100 ns: kept |
|  | peer | 900 ns (899 ns to 901 ns) | 10.00 | 500,000/s | 0.25 | 1.00 us | 2.00 ms | 1.00 MiB |  |
|  | lossy | 50 ns | 0.56 | 1,000,000/s | 0.50 | 1.00 us | 2.00 ms | 1.00 MiB | lost messages, or worse; saturated |
|  | broken | - | - | - | - | - | - | - | failed: it / ended |
";
        assert_eq!(text, expected);
    }

    #[test]
    fn budgets_can_be_missed() {
        let text = comparison(vec![line("ringmq", &[101.0], 1.0)]).to_markdown();
        assert!(text.contains("budget 100 ns: not kept"), "{text}");
    }

    #[test]
    fn the_json_holds_every_sample() {
        let text = comparison(vec![line("ringmq", &[90.0, 80.0], 1.0)]).to_json();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["format"], "ringmq-compare");
        assert_eq!(value["lines"][0]["samples"].as_array().unwrap().len(), 2);
        // Of two, the lower.
        assert_eq!(value["lines"][0]["median"]["cpu_ns"], 80.0);
        assert_eq!(value["lines"][0]["cpu_ratio"], 1.0);
    }
}
