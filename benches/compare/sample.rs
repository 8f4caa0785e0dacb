//! What one run of the load says of a broker.

use ringmq_loadgen::measure::Kind;
use ringmq_loadgen::report::{Phase, Report};
use ringmq_loadgen::verdict::Limit;
use serde::Serialize;

use crate::suite::{Figure, Memory, Place};

/// A figure, measured once.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Sample {
    /// CPU time of the broker for each of what the phase counts.
    pub cpu_ns: Option<f64>,
    /// How many a second.
    pub per_second: Option<f64>,
    pub p50_ns: Option<u64>,
    pub p99_ns: Option<u64>,
    /// Resident memory at the phase's end.
    pub resident_bytes: Option<f64>,
    /// Memory for each of what [`Memory`] says.
    pub each_bytes: Option<f64>,
    /// Whether the broker was what held the figures down.
    pub is_broker_limit: bool,
    /// Whether messages were lost, came twice or out of order, or connections failed.
    pub is_wrong: bool,
}

/// Reads a figure from a report; what is missing is said.
pub fn read(report: &Report, figure: &Figure) -> Result<Sample, String> {
    let is_it = |phase: &&Phase| match figure.phase {
        Place::Main => phase.is_main,
        Place::Named(name) => phase.name.starts_with(name),
    };
    let phase = report.phases.iter().find(is_it).ok_or("the run ended before it was measured")?;
    let unit = phase.unit().map(|(count, _)| count as f64);
    let broker = phase.broker.as_ref();
    let chief = [Kind::Latency, Kind::Ping, Kind::Acknowledge, Kind::Connect, Kind::Subscribe];
    let times = chief.into_iter().find_map(|kind| phase.times_of(kind));
    let each_bytes = match figure.memory {
        Memory::Whole => None,
        Memory::EachOfPhase => broker.zip(unit).map(|(cost, count)| {
            (cost.anonymous_bytes as f64 - cost.anonymous_bytes_before as f64).max(0.0) / count
        }),
        Memory::EachConnection => {
            (phase.connections > 0).then(|| phase.broker_grown_bytes.max(0) as f64 / phase.connections as f64)
        }
    };
    Ok(Sample {
        cpu_ns: broker.zip(unit).map(|(cost, count)| cost.cpu_ns as f64 / count),
        per_second: unit.filter(|_| phase.seconds > 0.0).map(|count| count / phase.seconds),
        p50_ns: times.map(|times| times.p50_ns),
        p99_ns: times.map(|times| times.p99_ns),
        resident_bytes: broker.map(|cost| cost.resident_bytes as f64),
        each_bytes,
        is_broker_limit: phase.verdict.as_ref().is_some_and(|verdict| verdict.limit == Limit::Broker),
        is_wrong: !report.is_fine(),
    })
}

#[cfg(test)]
mod tests {
    use ringmq_loadgen::measure::Counts;
    use ringmq_loadgen::process::Cost;
    use ringmq_loadgen::report::Times;
    use ringmq_loadgen::verdict::Verdict;

    use super::*;
    use crate::suite::Budget;

    fn report() -> Report {
        let broker = Cost {
            cpu_ns: 1_000_000_000,
            resident_bytes: 9_000,
            anonymous_bytes_before: 1_000,
            anonymous_bytes: 5_000,
            ..Cost::default()
        };
        let connect = Phase {
            name: "connect subscribers".to_owned(),
            seconds: 0.5,
            counts: Counts { connected: 10, ..Counts::default() },
            broker: Some(broker.clone()),
            ..Phase::default()
        };
        let publish = Phase {
            name: "publish publishers".to_owned(),
            seconds: 2.0,
            counts: Counts { sent: 5_000_000, received: 10_000_000, ..Counts::default() },
            times: vec![Times { kind: "latency".to_owned(), p50_ns: 30, p99_ns: 50, ..Times::default() }],
            broker: Some(broker),
            verdict: Some(Verdict { limit: Limit::Broker, words: String::new() }),
            connections: 4,
            broker_grown_bytes: 2_000,
            is_main: true,
            ..Phase::default()
        };
        Report { phases: vec![connect, publish], ..Report::default() }
    }

    fn figure(phase: Place, memory: Memory) -> Figure {
        Figure { work: "w", phase, memory, budget: Budget::CpuNs(1.0) }
    }

    #[test]
    fn figures_are_read() {
        let expected = Sample {
            cpu_ns: Some(100.0),
            per_second: Some(5_000_000.0),
            p50_ns: Some(30),
            p99_ns: Some(50),
            resident_bytes: Some(9_000.0),
            each_bytes: Some(500.0),
            is_broker_limit: true,
            is_wrong: false,
        };
        assert_eq!(read(&report(), &figure(Place::Main, Memory::EachConnection)), Ok(expected));
        let connect = read(&report(), &figure(Place::Named("connect"), Memory::EachOfPhase)).unwrap();
        assert_eq!((connect.cpu_ns, connect.per_second), (Some(1e8), Some(20.0)));
        assert_eq!((connect.each_bytes, connect.p99_ns, connect.is_broker_limit), (Some(400.0), None, false));
    }

    #[test]
    fn what_is_not_there_is_an_error() {
        let figure = figure(Place::Named("connect subscribers and receive"), Memory::Whole);
        assert_eq!(read(&report(), &figure).unwrap_err(), "the run ended before it was measured");
    }

    #[test]
    fn losses_are_not_hidden() {
        let mut report = report();
        report.messages.lost_acknowledged = 1;
        assert!(read(&report, &figure(Place::Main, Memory::Whole)).unwrap().is_wrong);
    }
}
