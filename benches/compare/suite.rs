//! The standard suite: what is run, what is read from each run, and what this project wants to reach.

/// One run of `ringmq bench`, and the figures in it.
#[derive(Debug)]
pub struct Row {
    /// Its arguments, but those that say where, how long and how to report.
    pub args: &'static [&'static str],
    /// How long it takes.
    pub length: Length,
    /// Whether the floor can do it: it knows no sessions, groups or retained messages.
    pub has_floor: bool,
    /// Whether it speaks MQTT 5.
    pub is_v5: bool,
    /// What is read from it.
    pub figures: &'static [Figure],
}

/// What bounds a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// The time that was asked for.
    Time,
    /// What it is to do.
    Work,
}

/// One line of the table for each broker.
#[derive(Debug)]
pub struct Figure {
    /// In words.
    pub work: &'static str,
    /// Where it is in the report.
    pub phase: Place,
    /// Which memory is divided by what was counted.
    pub memory: Memory,
    /// What Ringmq is to reach.
    pub budget: Budget,
}

/// A phase of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The first that the run is about.
    Main,
    /// The first whose name begins so.
    Named(&'static str),
}

/// Memory for each of what a phase counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    /// Not of interest.
    Whole,
    /// What the phase added, for each of what it counts.
    EachOfPhase,
    /// What the run added, for each connection.
    EachConnection,
}

/// What one of Ringmq's figures is to stay below.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Budget {
    /// CPU time for each of what is counted, in nanoseconds.
    CpuNs(f64),
    /// The 99th percentile, in nanoseconds.
    P99Ns(u64),
    /// Memory for each of what is counted, in bytes.
    EachBytes(f64),
}

const fn cost(work: &'static str, budget_ns: f64) -> Figure {
    Figure { work, phase: Place::Main, memory: Memory::Whole, budget: Budget::CpuNs(budget_ns) }
}

/// A row for a time, in MQTT 3.1.1, that the floor can do.
const fn flow(args: &'static [&'static str], figures: &'static [Figure]) -> Row {
    Row { args, length: Length::Time, has_floor: true, is_v5: false, figures }
}

/// A row that ends when its work is done, which the floor cannot do.
const fn work(args: &'static [&'static str], figures: &'static [Figure]) -> Row {
    Row { args, length: Length::Work, has_floor: false, is_v5: false, figures }
}

/// The rows, in the table's order.
pub const ROWS: &[Row] = &[
    flow(&["pairs"], &[cost("QoS 0, 50 pairs", 100.0)]),
    flow(&["pairs", "--pairs", "1", "--window", "4000"], &[cost("QoS 0, 1 to 1, window 4,000", 70.0)]),
    flow(&["fan-out", "--size", "16"], &[cost("QoS 0, 1 to 100, 16 B, a delivery", 45.0)]),
    flow(&["fan-out", "--size", "256"], &[cost("QoS 0, 1 to 100, 256 B, a delivery", 95.0)]),
    flow(&["fan-in"], &[cost("QoS 0, 50 to 1", 90.0)]),
    flow(&["pairs", "--qos", "1"], &[cost("QoS 1, 50 pairs, both acks", 270.0)]),
    flow(&["pairs", "--pairs", "20", "--qos", "2"], &[cost("QoS 2, 20 pairs, all acks", 420.0)]),
    Row {
        args: &["shared", "--qos", "1", "--mqtt", "5"],
        length: Length::Time,
        has_floor: false,
        is_v5: true,
        figures: &[cost("shared group, 10 to 4, QoS 1, MQTT 5", 260.0)],
    },
    flow(
        &["pairs", "--pairs", "1", "--size", "64KiB", "--window", "16"],
        &[cost("64 KiB, QoS 0, 1 to 1", 26_000.0)],
    ),
    flow(
        &["fan-out", "--subscribers", "10", "--size", "64KiB", "--window", "16"],
        &[cost("64 KiB, QoS 0, 1 to 10, a delivery", 9_000.0)],
    ),
    flow(
        &["pairs", "--pairs", "10", "--rate", "20000"],
        &[Figure {
            work: "open load, 20,000/s, QoS 0, 10 pairs",
            phase: Place::Main,
            memory: Memory::Whole,
            budget: Budget::P99Ns(80_000),
        }],
    ),
    flow(
        &["pairs", "--pairs", "10", "--rate", "20000", "--qos", "1"],
        &[Figure {
            work: "open load, 20,000/s, QoS 1, 10 pairs",
            phase: Place::Main,
            memory: Memory::Whole,
            budget: Budget::P99Ns(80_000),
        }],
    ),
    flow(&["ping"], &[cost("PINGREQ to PINGRESP, 100 connections", 4_300.0)]),
    work(
        &["connect", "--clients", "4000", "--hold", "1s"],
        &[
            Figure {
                work: "CONNECT to CONNACK, 4,000 new connections",
                phase: Place::Named("connect"),
                memory: Memory::Whole,
                budget: Budget::CpuNs(12_000.0),
            },
            Figure {
                work: "4,000 idle connections",
                phase: Place::Named("hold"),
                memory: Memory::EachConnection,
                budget: Budget::EachBytes(640.0),
            },
        ],
    ),
    Row {
        args: &["subscribe", "--filters", "200000"],
        length: Length::Time,
        has_floor: false,
        is_v5: false,
        figures: &[
            Figure {
                work: "SUBSCRIBE, 200,000 filters, each",
                phase: Place::Named("subscribe"),
                memory: Memory::EachOfPhase,
                budget: Budget::CpuNs(1_000.0),
            },
            cost("PUBLISH to one of them at random", 1_200.0),
        ],
    },
    Row {
        args: &["subscribe", "--filters", "100000", "--wildcards"],
        length: Length::Time,
        has_floor: false,
        is_v5: false,
        figures: &[cost("PUBLISH to one of 100,000 filters with +", 1_200.0)],
    },
    work(
        &["retained", "--topics", "100000"],
        &[
            Figure {
                work: "retained, 100,000 topics: store, each",
                phase: Place::Named("publish"),
                memory: Memory::EachOfPhase,
                budget: Budget::CpuNs(600.0),
            },
            Figure {
                work: "retained: replay, each",
                phase: Place::Named("subscribe"),
                memory: Memory::Whole,
                budget: Budget::CpuNs(300.0),
            },
        ],
    ),
    work(
        &["offline", "--messages", "100000", "--qos", "1"],
        &[
            Figure {
                work: "offline, QoS 1, 100,000 messages: queue, each",
                phase: Place::Named("publish"),
                memory: Memory::EachOfPhase,
                budget: Budget::CpuNs(600.0),
            },
            Figure {
                work: "offline: drain, each",
                phase: Place::Named("connect subscribers and receive"),
                memory: Memory::Whole,
                budget: Budget::CpuNs(400.0),
            },
        ],
    ),
];

impl Row {
    /// Its name on the command line and in progress: the arguments.
    pub fn name(&self) -> String {
        self.args.join(" ")
    }

    /// Whether one of these texts is in its name or its figures'; all are, where none is given.
    pub fn is_wanted(&self, texts: &[String]) -> bool {
        let has = |text: &String| {
            self.name().contains(text.as_str())
                || self.figures.iter().any(|it| it.work.contains(text.as_str()))
        };
        texts.is_empty() || texts.iter().any(has)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_differ() {
        let works: BTreeSet<&str> =
            ROWS.iter().flat_map(|row| row.figures).map(|figure| figure.work).collect();
        assert_eq!(works.len(), ROWS.iter().map(|row| row.figures.len()).sum::<usize>());
        let names: BTreeSet<String> = ROWS.iter().map(Row::name).collect();
        assert_eq!(names.len(), ROWS.len());
    }

    #[test]
    fn rows_are_chosen_by_a_part_of_their_names() {
        let chosen = |text: &str| {
            let texts = [text.to_owned()];
            ROWS.iter().filter(|row| row.is_wanted(&texts)).map(Row::name).collect::<Vec<_>>()
        };
        assert_eq!(chosen("drain"), ["offline --messages 100000 --qos 1"]);
        assert_eq!(chosen("shared"), ["shared --qos 1 --mqtt 5"]);
        assert_eq!(chosen("nothing"), [""; 0]);
        assert!(ROWS.iter().all(|row| row.is_wanted(&[])));
    }
}
