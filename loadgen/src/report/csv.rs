//! The course of a run as a table.

use super::{Interval, Report};
use crate::measure::Counts;

/// A line for each interval of each phase.
pub fn table(report: &Report) -> String {
    let mut out = String::from("phase,stage,at_s,seconds,under_way,p50_ns,p99_ns,max_ns");
    for (name, _) in Counts::default().all() {
        out.push(',');
        out.push_str(name);
    }
    out.push('\n');
    for phase in &report.phases {
        for interval in &phase.intervals {
            out.push_str(&line(&phase.name, interval));
        }
    }
    out
}

/// A field, in quotes where it needs them.
fn field(text: &str) -> String {
    if text.contains([',', '"', '\n']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

fn line(phase: &str, interval: &Interval) -> String {
    let ns = |ns: Option<u64>| ns.map_or(String::new(), |ns| ns.to_string());
    let mut fields = vec![
        field(phase),
        interval.stage.clone(),
        format!("{:.3}", interval.at_s),
        format!("{:.3}", interval.seconds),
        interval.under_way.to_string(),
        ns(interval.p50_ns),
        ns(interval.p99_ns),
        ns(interval.max_ns),
    ];
    fields.extend(interval.counts.all().into_iter().map(|(_, count)| count.to_string()));
    fields.join(",") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Phase;

    #[test]
    fn each_line_has_all_columns() {
        let interval = Interval { at_s: 1.5, seconds: 0.5, p50_ns: Some(7), ..Interval::default() };
        let phase =
            Phase { name: "publish a, \"b\"".to_owned(), intervals: vec![interval], ..Phase::default() };
        let text = table(&Report { phases: vec![phase], ..Report::default() });
        let lines: Vec<&str> = text.lines().collect();
        let columns = lines[0].split(',').count();
        assert!(lines[1].starts_with("\"publish a, \"\"b\"\"\",,1.500,0.500,0,7,,,"), "{text}");
        // The name has one comma of its own.
        assert_eq!(lines[1].split(',').count(), columns + 1);
    }
}
