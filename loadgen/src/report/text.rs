//! A report as plain text.

use std::fmt::Write;

use super::units::{bytes, count, percent, rate, time};
use super::{Messages, Phase, Report, Times};
use crate::measure::{Counts, Kind};
use crate::process::Cost;

/// The whole report.
pub fn summary(report: &Report) -> String {
    let mut out = String::new();
    line(&mut out, format_args!("{} against {}", report.name, report.address));
    for clients in &report.clients {
        line(&mut out, format_args!("  {clients}"));
    }
    if let Some(broker) = &report.machine.broker {
        line(&mut out, format_args!("  broker: {broker}"));
    }
    for notice in &report.notices {
        line(&mut out, format_args!("  note: {notice}"));
    }
    for (at, phase) in report.phases.iter().enumerate() {
        out.push('\n');
        out.push_str(&phase_text(phase, at));
    }
    out.push('\n');
    if report.messages.sent > 0 || report.messages.received > 0 {
        out.push_str(&messages_text(&report.messages));
    }
    for (what, times) in &report.troubles {
        line(&mut out, format_args!("error    {} x {what}", count(*times)));
    }
    if report.is_cut_short {
        line(&mut out, format_args!("The run was ended early; what was measured until then is above."));
    }
    line(&mut out, format_args!("{}", result(report)));
    out
}

fn line(out: &mut String, words: std::fmt::Arguments<'_>) {
    // Writing to a string does not fail.
    let _ = writeln!(out, "{words}");
}

/// How it came out, in one line.
pub fn result(report: &Report) -> String {
    match (report.is_fine(), report.messages.are_wrong()) {
        (true, _) => "Result: fine.".to_owned(),
        (false, true) => "Result: messages were lost, came twice or came out of order.".to_owned(),
        (false, false) => "Result: connections, subscriptions or publications failed.".to_owned(),
    }
}

fn phase_text(phase: &Phase, at: usize) -> String {
    let mut out = String::new();
    line(&mut out, format_args!("{}. {} ({:.2} s)", at + 1, phase.name, phase.seconds));
    let counts = &phase.counts;
    let rates = [
        (counts.sent, "sent"),
        (counts.acknowledged, "acknowledged"),
        (counts.received, "received"),
        (counts.connected, "connected"),
        (counts.subscribed, "subscribed"),
        (counts.pings, "pings"),
    ];
    for (number, word) in rates.into_iter().filter(|(number, _)| *number > 0) {
        let offered = match phase.offered {
            Some(offered) if word == "sent" || (word == "connected" && counts.sent == 0) => {
                format!("  of {} asked for", rate(offered))
            }
            Some(_) | None => String::new(),
        };
        let words = format!("   {word:<13}{:>14}{:>16}{offered}", count(number), rate(phase.rate(number)));
        line(&mut out, format_args!("{words}"));
    }
    if counts.received_bytes > 0 {
        let a_second = bytes(phase.rate(counts.received_bytes) as u64);
        line(
            &mut out,
            format_args!(
                "   {:<13}{:>14}{:>16}",
                "payload",
                bytes(counts.received_bytes),
                format!("{a_second}/s")
            ),
        );
    }
    let faults = faults(counts, &phase.other_counts);
    if !faults.is_empty() {
        line(&mut out, format_args!("   {}", faults.join(", ")));
    }
    if !phase.times.is_empty() {
        line(
            &mut out,
            format_args!(
                "   {:<13}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}",
                "", "p50", "p90", "p99", "p99.9", "p99.99", "max"
            ),
        );
        for times in &phase.times {
            line(&mut out, format_args!("   {}", times_text(times)));
        }
    }
    if let Some(broker) = &phase.broker {
        line(&mut out, format_args!("   broker       {}", cost_text(broker, phase)));
        if let Some(words) = memory_text(broker, phase) {
            line(&mut out, format_args!("   memory       {words}"));
        }
    }
    if phase.generator.cpu_ns > 0 {
        line(&mut out, format_args!("   generator    {}", cost_text(&phase.generator, phase)));
    }
    if let Some(verdict) = &phase.verdict {
        line(&mut out, format_args!("   limit        {}", verdict.words));
    }
    out
}

/// What failed in a phase, in words.
pub(crate) fn faults(counts: &Counts, others: &Counts) -> Vec<String> {
    let mut all = *counts;
    all.add(others);
    [
        (all.connect_failed, "connections failed"),
        (all.connections_lost, "connections lost"),
        (all.subscribe_failed, "subscriptions refused"),
        (all.refused, "publications refused"),
        (all.given_up, "messages not waited for any longer"),
        (all.foreign, "messages of another run"),
    ]
    .into_iter()
    .filter(|(number, _)| *number > 0)
    .map(|(number, words)| format!("{} {words}", count(number)))
    .collect()
}

fn times_text(times: &Times) -> String {
    let all = [times.p50_ns, times.p90_ns, times.p99_ns, times.p999_ns, times.p9999_ns, times.max_ns];
    let all: String = all.iter().map(|ns| format!("{:>10}", time(*ns))).collect();
    format!("{:<13}{all}", times.kind)
}

/// CPU time, for each of what the phase counts.
pub(crate) fn cost_text(cost: &Cost, phase: &Phase) -> String {
    let mut words = format!("{:.2} CPUs", cost.cpus());
    if let Some((number, unit)) = phase.unit() {
        // Costs are of the measured time, like the counts.
        let _ = write!(words, ", {} a {unit}", time(cost.cpu_ns / number.max(1)));
    }
    let a_second = rate(cost.switches as f64 / cost.seconds.max(1e-9));
    let _ = write!(words, ", {a_second} context switches");
    if cost.waited > 0.01 {
        let _ = write!(words, ", waited {} for a CPU", percent(cost.waited));
    }
    words
}

/// Memory, and for each connection.
pub(crate) fn memory_text(cost: &Cost, phase: &Phase) -> Option<String> {
    let mut words = format!("{} resident", bytes(cost.resident_bytes));
    let grown = cost.anonymous_bytes as i64 - cost.anonymous_bytes_before as i64;
    if phase.counts.connected > 0 && grown > 0 {
        let each = grown as u64 / phase.counts.connected.max(1);
        let _ = write!(words, ", grown by {} or {} a connection", bytes(grown as u64), bytes(each));
    } else if phase.counts.subscribed > 0 && grown > 0 {
        let each = grown as u64 / phase.counts.subscribed.max(1);
        let _ = write!(words, ", grown by {} or {} a subscription", bytes(grown as u64), bytes(each));
    } else if phase.broker_grown_bytes > 0 && phase.connections > 0 && phase.name == "hold" {
        let all = phase.broker_grown_bytes as u64;
        let each = bytes(all / phase.connections);
        let _ = write!(words, ", {} more than before the run, or {each} a connection", bytes(all));
    } else if grown.unsigned_abs() > 1 << 20 {
        let verb = if grown > 0 { "grown" } else { "shrunk" };
        let _ = write!(words, ", {verb} by {}", bytes(grown.unsigned_abs()));
    }
    (cost.resident_bytes > 0).then_some(words)
}

fn messages_text(messages: &Messages) -> String {
    let mut out = String::new();
    let received = count(messages.received);
    let mut words = format!("Messages: {} sent, {received} copies received", count(messages.sent));
    if messages.expected > 0 {
        let _ = write!(words, " of {} expected", count(messages.expected));
    }
    line(&mut out, format_args!("{words}"));
    for (number, words) in fates(messages) {
        line(&mut out, format_args!("  {:>14} {words}", count(number)));
    }
    if messages.unchecked {
        line(&mut out, format_args!("  Some arrivals could only be counted, see the notes above."));
    }
    out
}

/// What can become of messages, and how often it did.
pub(crate) fn fates(messages: &Messages) -> Vec<(u64, &'static str)> {
    let always = [
        (messages.lost(), "lost"),
        (messages.duplicates_qos0 + messages.duplicates_qos2, "came twice at QoS 0 or 2"),
        (messages.reordered, "came out of order"),
    ];
    let sometimes = [
        (messages.lost_acknowledged, "of the lost were acknowledged by the broker"),
        (messages.lost_unacknowledged, "did not come and were not acknowledged, which is no loss"),
        (messages.duplicates_qos1, "came twice at QoS 1, as they may"),
        (messages.foreign, "were not of this run"),
    ];
    always.into_iter().chain(sometimes.into_iter().filter(|(number, _)| *number > 0)).collect()
}

/// The times that a phase is about.
pub(crate) fn chief(phase: &Phase) -> Option<&Times> {
    let order = [Kind::Latency, Kind::Ping, Kind::Acknowledge, Kind::Connect, Kind::Subscribe];
    order.into_iter().find_map(|kind| phase.times_of(kind))
}
