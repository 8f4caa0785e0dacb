//! A report as one page that needs nothing else.

use super::plot::{Plot, Series, escape, put};
use super::text::{chief, cost_text, fates, faults, memory_text, result};
use super::units::{bytes, count, rate, short, time};
use super::{Interval, Phase, Report, Times};
use crate::measure::Kind;

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// The page.
pub fn page(report: &Report) -> String {
    let mut out = String::new();
    let title = format!("{} - {}", report.name, report.address);
    put(
        &mut out,
        format_args!(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
             <meta name=\"color-scheme\" content=\"light dark\"><title>{}</title>\n<style>{STYLE}</style></head><body>\n",
            escape(&title)
        ),
    );
    head(report, &mut out);
    if let Some(phase) = report.main_phase() {
        tiles(report, phase, &mut out);
        if let Some(verdict) = &phase.verdict {
            put(
                &mut out,
                format_args!("<p class=\"verdict\"><b>Limit:</b> {}</p>\n", escape(&verdict.words)),
            );
        }
    }
    troubles(report, &mut out);
    let (main, others): (Vec<&Phase>, Vec<&Phase>) = report.phases.iter().partition(|phase| phase.is_main);
    main.iter().for_each(|phase| plots(phase, &mut out));
    times_table(report, &mut out);
    messages_table(report, &mut out);
    phases_table(report, &mut out);
    let is_worth_it = |phase: &&&Phase| course(phase).count() > 2 || main.is_empty();
    others.iter().filter(is_worth_it).for_each(|phase| plots(phase, &mut out));
    setup(report, &mut out);
    put(&mut out, format_args!("<script>{SCRIPT}</script></body></html>\n"));
    out
}

fn head(report: &Report, out: &mut String) {
    let class = if report.is_fine() { "good" } else { "bad" };
    put(
        out,
        format_args!(
            "<header><h1>{}</h1><p>{} &middot; {} &middot; ringmq bench {}</p><p class=\"badge {class}\">{}</p></header>\n",
            escape(&report.name),
            escape(&report.address),
            date(report.started_ms),
            escape(&report.generator_version),
            escape(&result(report)),
        ),
    );
    if report.is_cut_short {
        out.push_str("<p class=\"note\">The run was ended early.</p>\n");
    }
}

/// A time of the wall clock in UTC.
fn date(ms: u64) -> String {
    let (days, seconds) = ((ms / 86_400_000) as i64, ms / 1000 % 86_400);
    // Days from 1970 to a date of the Gregorian calendar, by eras of 400 years that begin in March.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02} UTC", seconds / 3600, seconds / 60 % 60)
}

fn tile(out: &mut String, value: &str, name: &str, class: &str) {
    put(
        out,
        format_args!(
            "<div class=\"tile {class}\"><b>{}</b><span>{}</span></div>",
            escape(value),
            escape(name)
        ),
    );
}

/// What matters most, at a glance.
fn tiles(report: &Report, phase: &Phase, out: &mut String) {
    out.push_str("<section class=\"tiles\">");
    let counts = &phase.counts;
    let rates = [
        (counts.received, "received"),
        (counts.sent, "sent"),
        (counts.pings, "pings"),
        (counts.subscribed, "subscribed"),
        (counts.connected, "connected"),
    ];
    for (number, name) in rates.into_iter().filter(|(number, _)| *number > 0).take(2) {
        tile(out, &format!("{}/s", short(phase.rate(number))), name, "");
    }
    if let Some(times) = chief(phase) {
        for (ns, name) in [(times.p50_ns, "p50"), (times.p99_ns, "p99"), (times.max_ns, "max")] {
            tile(out, &time(ns), &format!("{} {name}", times.kind), "");
        }
    }
    let messages = &report.messages;
    if messages.sent > 0 {
        let lost = messages.lost();
        tile(out, &count(lost), "lost", if lost == 0 { "good" } else { "bad" });
    }
    if let (Some(broker), Some((number, unit))) = (&phase.broker, phase.unit()) {
        tile(out, &time(broker.cpu_ns / number.max(1)), &format!("broker CPU a {unit}"), "");
        tile(out, &bytes(broker.resident_bytes), "broker memory", "");
    }
    out.push_str("</section>\n");
}

fn troubles(report: &Report, out: &mut String) {
    if report.troubles.is_empty() && report.notices.is_empty() {
        return;
    }
    out.push_str("<section class=\"troubles\"><ul>");
    for notice in &report.notices {
        put(out, format_args!("<li>{}</li>", escape(notice)));
    }
    for (what, times) in &report.troubles {
        put(out, format_args!("<li class=\"bad\">{} &times; {}</li>", count(*times), escape(what)));
    }
    out.push_str("</ul></section>\n");
}

fn plots(phase: &Phase, out: &mut String) {
    let has_course = course(phase).count() > 1;
    if !has_course && phase.times.iter().all(|times| times.curve.len() < 3) {
        return;
    }
    put(out, format_args!("<section><h2>{}</h2><div class=\"plots\">\n", escape(&phase.name)));
    if has_course {
        out.push_str(&rates_plot(phase).figure());
        if course(phase).any(|interval| interval.p50_ns.is_some()) {
            out.push_str(&times_plot(phase).figure());
        }
    }
    if phase.times.iter().any(|times| times.curve.len() > 2) {
        out.push_str(&curves_plot(phase).figure());
    }
    out.push_str("</div></section>\n");
}

/// The pieces of a phase that are long enough to say something: a moment at an end says nothing of a rate.
fn course(phase: &Phase) -> impl Iterator<Item = &Interval> {
    let longest = phase.intervals.iter().map(|interval| interval.seconds).fold(0.0, f64::max);
    phase.intervals.iter().filter(move |interval| interval.seconds > longest * INTERVAL_SHARE_MIN)
}

/// The share of the longest piece that a piece must have.
const INTERVAL_SHARE_MIN: f64 = 0.2;

/// About so many labels along a course.
const PLACE_LABELS: f64 = 8.0;

fn seconds_labels(phase: &Phase) -> Vec<(f64, String)> {
    let last = phase.intervals.last().map_or(1.0, |interval| interval.at_s);
    let raw = last / PLACE_LABELS;
    let size = 10_f64.powf(raw.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|it| it * size).find(|it| *it >= raw).unwrap_or(1.0);
    let places = (0..=(last / step) as u32).map(|at| f64::from(at) * step);
    places
        .map(|place| (place, if step >= 1.0 { format!("{place:.0}") } else { format!("{place:.1}") }))
        .collect()
}

fn shades(phase: &Phase) -> Vec<(f64, f64)> {
    let others = course(phase).filter(|interval| interval.stage != "measured");
    others.map(|interval| (interval.at_s - interval.seconds, interval.at_s)).collect()
}

fn course_plot<'a>(phase: &'a Phase, title: &'a str) -> Plot<'a> {
    Plot {
        title,
        places: course(phase).map(|interval| interval.at_s).collect(),
        place_labels: seconds_labels(phase),
        series: Vec::new(),
        is_logarithmic: false,
        words: |value| format!("{}/s", short(value)),
        place_words: |place| format!("{place:.1} s"),
        shades: shades(phase),
        place_name: "seconds (shaded: warm-up, and what came after the end)",
    }
}

fn rates_plot(phase: &Phase) -> Plot<'_> {
    let mut plot = course_plot(phase, "How many a second");
    type Pick = fn(&crate::measure::Counts) -> u64;
    let all: [(&str, &'static str, Pick); 6] = [
        ("sent", "b", |counts| counts.sent),
        ("received", "a", |counts| counts.received),
        ("acknowledged", "c", |counts| counts.acknowledged),
        ("connected", "a", |counts| counts.connected),
        ("subscribed", "b", |counts| counts.subscribed),
        ("pings", "a", |counts| counts.pings),
    ];
    for (name, class, pick) in all {
        let values = course(phase).map(|interval| Some(pick(&interval.counts) as f64 / interval.seconds));
        let values: Vec<_> = values.collect();
        if values.iter().flatten().any(|value| *value > 0.0) {
            plot.series.push(Series { name: name.to_owned(), class, values });
        }
    }
    plot
}

fn times_plot(phase: &Phase) -> Plot<'_> {
    let mut plot = course_plot(phase, "Time");
    plot.is_logarithmic = true;
    plot.words = |value| time(value as u64);
    type Pick = fn(&Interval) -> Option<u64>;
    let all: [(&str, &'static str, Pick); 3] =
        [("p50", "a", |it| it.p50_ns), ("p99", "b", |it| it.p99_ns), ("max", "c", |it| it.max_ns)];
    for (name, class, pick) in all {
        let values = course(phase).map(|interval| pick(interval).map(|ns| ns as f64)).collect();
        plot.series.push(Series { name: name.to_owned(), class, values });
    }
    plot
}

/// Shorter times are not told apart in a plot.
const TIME_NS_MIN: f64 = 100.0;

/// Nines of a quantile: 1 for 90 %, 2 for 99 %.
fn nines(quantile: f64) -> f64 {
    -(1.0 - quantile).max(1e-9).log10()
}

fn curves_plot(phase: &Phase) -> Plot<'_> {
    let longest = phase.times.iter().max_by_key(|times| times.curve.len());
    let places: Vec<f64> =
        longest.map_or_else(Vec::new, |it| it.curve.iter().map(|(q, _)| nines(*q)).collect());
    let last = places.last().copied().unwrap_or(1.0);
    let names = ["0 %", "90 %", "99 %", "99.9 %", "99.99 %", "99.999 %", "99.9999 %", "99.99999 %"];
    let labels = names.iter().enumerate().map(|(at, name)| (at as f64, (*name).to_owned()));
    let classes = ["a", "b", "c", "d", "e", "f"];
    let series =
        phase.times.iter().filter(|times| times.curve.len() > 2).zip(classes).map(|(times, class)| {
            let values = times.curve.iter().map(|(_, ns)| Some((*ns as f64).max(TIME_NS_MIN))).collect();
            Series { name: times.kind.clone(), class, values }
        });
    Plot {
        title: "So many took no longer",
        place_labels: labels.filter(|(place, _)| *place <= last + 0.3).collect(),
        places,
        series: series.collect(),
        is_logarithmic: true,
        words: |value| time(value as u64),
        place_words: |nines| format!("{:.4} %", (1.0 - 10_f64.powf(-nines)) * 100.0),
        shades: Vec::new(),
        place_name: "percentile",
    }
}

fn times_table(report: &Report, out: &mut String) {
    let rows: Vec<(&Phase, &Times)> =
        report.phases.iter().flat_map(|phase| phase.times.iter().map(move |times| (phase, times))).collect();
    if rows.is_empty() {
        return;
    }
    out.push_str(
        "<section><h2>Times</h2><div class=\"wide\"><table><tr><th>phase<th>kind<th class=\"n\">count",
    );
    for name in ["min", "mean", "p50", "p90", "p99", "p99.9", "p99.99", "max"] {
        put(out, format_args!("<th class=\"n\">{name}"));
    }
    for (phase, times) in rows {
        let kind = Kind::ALL.into_iter().find(|kind| kind.name() == times.kind).map_or("", Kind::words);
        put(
            out,
            format_args!(
                "<tr><td>{}<td title=\"{}\">{}<td class=\"n\">{}",
                escape(&phase.name),
                escape(kind),
                escape(&times.kind),
                count(times.count)
            ),
        );
        let all = [
            times.min_ns,
            times.mean_ns as u64,
            times.p50_ns,
            times.p90_ns,
            times.p99_ns,
            times.p999_ns,
            times.p9999_ns,
            times.max_ns,
        ];
        for ns in all {
            put(out, format_args!("<td class=\"n\">{}", time(ns)));
        }
    }
    out.push_str("</table></div></section>\n");
}

fn phases_table(report: &Report, out: &mut String) {
    out.push_str(
        "<section><h2>Phases</h2><div class=\"wide\"><table><tr><th>phase<th class=\"n\">seconds<th class=\"n\">sent\
         <th class=\"n\">received<th class=\"n\">connected<th class=\"n\">subscribed<th>broker<th>generator<th>failures",
    );
    for phase in &report.phases {
        let rate_of = |number: u64| if number == 0 { "-".to_owned() } else { rate(phase.rate(number)) };
        let counts = &phase.counts;
        let broker = phase.broker.as_ref().map_or_else(
            || "-".to_owned(),
            |cost| {
                [Some(cost_text(cost, phase)), memory_text(cost, phase)]
                    .into_iter()
                    .flatten()
                    .collect::<Vec<_>>()
                    .join("; ")
            },
        );
        let generator =
            if phase.generator.cpu_ns > 0 { cost_text(&phase.generator, phase) } else { "-".to_owned() };
        put(
            out,
            format_args!(
                "<tr><td>{}<td class=\"n\">{:.2}<td class=\"n\">{}<td class=\"n\">{}<td class=\"n\">{}<td class=\"n\">{}\
                 <td>{}<td>{}<td class=\"bad\">{}",
                escape(&phase.name),
                phase.seconds,
                rate_of(counts.sent),
                rate_of(counts.received),
                rate_of(counts.connected),
                rate_of(counts.subscribed),
                escape(&broker),
                escape(&generator),
                escape(&faults(counts, &phase.other_counts).join(", ")),
            ),
        );
    }
    out.push_str("</table></div></section>\n");
}

fn messages_table(report: &Report, out: &mut String) {
    let messages = &report.messages;
    if messages.sent == 0 && messages.received == 0 {
        return;
    }
    out.push_str("<section><h2>Messages</h2><table>");
    let first = [
        (messages.sent, "messages sent, warm-up included"),
        (messages.expected, "copies expected"),
        (messages.received, "copies received"),
    ];
    for (number, words) in first {
        put(out, format_args!("<tr><td class=\"n\">{}<td>{words}", count(number)));
    }
    for (at, (number, words)) in fates(messages).into_iter().enumerate() {
        let class = if at < 3 && number > 0 { "n bad" } else { "n" };
        put(out, format_args!("<tr><td class=\"{class}\">{}<td>{words}", count(number)));
    }
    out.push_str("</table></section>\n");
}

fn setup(report: &Report, out: &mut String) {
    out.push_str("<section><h2>Set-up</h2><ul>");
    for clients in &report.clients {
        put(out, format_args!("<li>{}</li>", escape(clients)));
    }
    let machine = &report.machine;
    put(
        out,
        format_args!(
            "<li>Linux {}, {} CPUs for the generator, {} I/O threads</li>",
            escape(&machine.kernel),
            machine.cpus,
            machine.threads
        ),
    );
    if let Some(broker) = &machine.broker {
        put(out, format_args!("<li>broker: {}</li>", escape(broker)));
    }
    put(out, format_args!("</ul><pre>{}</pre></section>\n", escape(&report.asked)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_right() {
        let table = [
            (0, "1970-01-01 00:00 UTC"),
            (951_782_400_000, "2000-02-29 00:00 UTC"),
            (1_767_225_599_000, "2025-12-31 23:59 UTC"),
        ];
        for (ms, expected) in table {
            assert_eq!(date(ms), expected);
        }
    }

    #[test]
    fn the_page_needs_nothing_else_and_is_safe() {
        let mut report = Report { name: "<script>alert(1)</script>".to_owned(), ..Report::default() };
        report.troubles.push(("a \"quoted\" <b>".to_owned(), 2));
        report.phases.push(Phase { name: "p & q".to_owned(), is_main: true, ..Phase::default() });
        let page = page(&report);
        assert!(
            !page.contains("<script>alert")
                && page.contains("p &amp; q")
                && page.contains("&quot;quoted&quot;")
        );
        for outside in ["http://", "https://", "src=", "@import", "url("] {
            assert!(!page.contains(outside), "{outside}");
        }
    }
}
