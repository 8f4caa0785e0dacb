//! What a run found, as it is kept: the JSON file's content.

pub mod compare;
pub mod csv;
pub mod hdr;
pub mod html;
mod plot;
pub mod text;
pub mod units;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::measure::Counts;
use crate::process::Cost;
use crate::verdict::Verdict;

/// The version of what is written; another one is not read.
pub const VERSION: u32 = 1;
/// What the file says that it is.
pub const FORMAT: &str = "ringmq-bench";

/// A whole run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Report {
    /// [`FORMAT`]
    pub format: String,
    /// [`VERSION`]
    pub version: u32,
    /// The generator's version.
    pub generator_version: String,
    /// The scenario's name.
    pub name: String,
    /// The broker's address.
    pub address: String,
    /// When it began, in milliseconds since 1970.
    pub started_ms: u64,
    /// How it was asked for: a command line, or a file.
    pub asked: String,
    /// What was to be known beforehand.
    pub notices: Vec<String>,
    /// The machine.
    pub machine: Machine,
    /// Its groups of clients, in words.
    pub clients: Vec<String>,
    /// Its parts, in order.
    pub phases: Vec<Phase>,
    /// What became of the messages.
    pub messages: Messages,
    /// What went wrong, and how often.
    pub troubles: Vec<(String, u64)>,
    /// It was ended early.
    pub is_cut_short: bool,
}

/// The machine that the generator ran on.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Machine {
    /// The kernel's release.
    pub kernel: String,
    /// CPUs that the generator might use.
    pub cpus: usize,
    /// Its I/O threads.
    pub threads: usize,
    /// The broker's process, where it was found.
    pub broker: Option<String>,
}

/// A part of a run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Phase {
    /// What it did.
    pub name: String,
    /// How long what is measured took.
    pub seconds: f64,
    /// What was counted in that time.
    pub counts: Counts,
    /// What was counted before and after it.
    pub other_counts: Counts,
    /// Times, by kind.
    pub times: Vec<Times>,
    /// Its course.
    pub intervals: Vec<Interval>,
    /// What the broker's process used.
    pub broker: Option<Cost>,
    /// What the generator used.
    pub generator: Cost,
    /// Who was the limit.
    pub verdict: Option<Verdict>,
    /// Messages a second that were asked for.
    pub offered: Option<f64>,
    /// Connections that were open at its end.
    pub connections: u64,
    /// How much more memory that no file backs the broker had at its end than when the run began, in bytes.
    pub broker_grown_bytes: i64,
    /// Whether it is the one that the run is about.
    pub is_main: bool,
}

/// Times of one kind.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Times {
    /// [`crate::measure::Kind::name`]
    pub kind: String,
    /// How many there are.
    pub count: u64,
    /// The shortest. All are in nanoseconds.
    pub min_ns: u64,
    /// The mean.
    pub mean_ns: f64,
    /// The median.
    pub p50_ns: u64,
    /// 90 % are no longer.
    pub p90_ns: u64,
    /// 99 % are no longer.
    pub p99_ns: u64,
    /// 99.9 % are no longer.
    pub p999_ns: u64,
    /// 99.99 % are no longer.
    pub p9999_ns: u64,
    /// The longest.
    pub max_ns: u64,
    /// Quantile, 0 to 1, and time.
    pub curve: Vec<(f64, u64)>,
}

/// A piece of a phase's course.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Interval {
    /// When it ended, from the phase's start on.
    pub at_s: f64,
    /// When it ended, in milliseconds since 1970.
    pub ended_ms: u64,
    /// How long it was.
    pub seconds: f64,
    /// Before the measured time, in it, or after.
    pub stage: String,
    /// What was counted.
    pub counts: Counts,
    /// Copies under way at its end.
    pub under_way: u64,
    /// Times of the kind that the phase is about: none where nothing was timed.
    pub p50_ns: Option<u64>,
    /// 99 % are no longer.
    pub p99_ns: Option<u64>,
    /// The longest.
    pub max_ns: Option<u64>,
}

/// What became of all messages.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Messages {
    /// Messages sent, warm-up included.
    pub sent: u64,
    /// Copies that subscribers were to get.
    pub expected: u64,
    /// Copies that came, each once.
    pub received: u64,
    /// Copies that did not come of messages at QoS 0.
    pub lost_qos0: u64,
    /// Copies that did not come of messages that the broker had acknowledged.
    pub lost_acknowledged: u64,
    /// Copies that did not come of messages that it had not acknowledged, which it may lose.
    pub lost_unacknowledged: u64,
    /// Copies that came again at QoS 0, which is wrong.
    pub duplicates_qos0: u64,
    /// Copies that came again at QoS 1, as they may.
    pub duplicates_qos1: u64,
    /// Copies that came again at QoS 2, which is wrong.
    pub duplicates_qos2: u64,
    /// Copies that came after a newer one.
    pub reordered: u64,
    /// Messages that were not of this run.
    pub foreign: u64,
    /// Copies that could only be counted, since nothing says who is to get what.
    pub unchecked: bool,
}

impl Messages {
    /// All that were lost and should not be.
    pub fn lost(&self) -> u64 {
        self.lost_qos0 + self.lost_acknowledged
    }

    /// Whether something happened that a broker must not do.
    pub fn are_wrong(&self) -> bool {
        self.lost() + self.duplicates_qos0 + self.duplicates_qos2 + self.reordered > 0
    }
}

impl Report {
    /// The part that the run is about.
    pub fn main_phase(&self) -> Option<&Phase> {
        self.phases.iter().find(|phase| phase.is_main).or(self.phases.last())
    }

    /// Whether connections or subscriptions failed.
    pub fn has_failures(&self) -> bool {
        let failed = |counts: &Counts| {
            counts.connect_failed + counts.connections_lost + counts.subscribe_failed + counts.refused > 0
        };
        self.phases.iter().any(|phase| failed(&phase.counts) || failed(&phase.other_counts))
    }

    /// Whether all went as it should.
    pub fn is_fine(&self) -> bool {
        !self.has_failures() && !self.messages.are_wrong()
    }

    /// As JSON.
    pub fn to_json(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).expect("a report has no maps with odd keys");
        text.push('\n');
        text
    }

    /// From JSON.
    ///
    /// # Errors
    /// What is wrong with it, and what to do.
    pub fn from_json(text: &str) -> Result<Self, String> {
        let value: serde_json::Value = serde_json::from_str(text)
            .map_err(|error| format!("it is not JSON ({error}): name a file that --json wrote"))?;
        if value["format"] != FORMAT {
            return Err("it is not a report of this program: name a file that --json wrote".to_owned());
        }
        if value["version"] != VERSION {
            return Err(format!(
                "it has version {}, and this program reads version {VERSION}: write it anew",
                value["version"]
            ));
        }
        serde_json::from_value(value).map_err(|error| format!("it is damaged ({error}): write it anew"))
    }
}

impl Times {
    /// What a histogram says.
    pub fn of(kind: &str, histogram: &Histogram<u64>) -> Self {
        let at = |quantile: f64| histogram.value_at_quantile(quantile);
        // Each step leaves out a quarter of what is above it, so that the tail is drawn as finely as the rest.
        let mut curve = vec![(0.0, histogram.min())];
        let mut left = 1.0;
        while left * histogram.len() as f64 >= 0.5 && curve.len() < 200 {
            left *= 0.85;
            curve.push((1.0 - left, at(1.0 - left)));
        }
        Self {
            kind: kind.to_owned(),
            count: histogram.len(),
            min_ns: histogram.min(),
            mean_ns: histogram.mean(),
            p50_ns: at(0.5),
            p90_ns: at(0.9),
            p99_ns: at(0.99),
            p999_ns: at(0.999),
            p9999_ns: at(0.9999),
            max_ns: histogram.max(),
            curve,
        }
    }
}

impl Phase {
    /// Times of a kind.
    pub fn times_of(&self, kind: crate::measure::Kind) -> Option<&Times> {
        self.times.iter().find(|times| times.kind == kind.name())
    }

    /// How many a second.
    pub fn rate(&self, count: u64) -> f64 {
        if self.seconds > 0.0 { count as f64 / self.seconds } else { 0.0 }
    }

    /// What costs are told for: what was received, or else what was sent, and so on; and its name.
    pub fn unit(&self) -> Option<(u64, &'static str)> {
        let counts = &self.counts;
        [
            (counts.received, "message"),
            (counts.sent, "message"),
            (counts.pings, "ping"),
            (counts.subscribed, "subscription"),
            (counts.connected, "connection"),
        ]
        .into_iter()
        .find(|(count, _)| *count > 0)
    }
}

/// The kernel's release.
pub fn kernel() -> String {
    std::fs::read_to_string("/proc/sys/kernel/osrelease")
        .map_or_else(|_| "unknown".to_owned(), |it| it.trim().to_owned())
}
