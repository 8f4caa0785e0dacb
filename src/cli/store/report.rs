//! What `ringmq store` found, for people and as JSON.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use ringmq_storage::{Damage, Inspection, KindStats, LogCheck, LogStats};
use serde_json::{Value, json};

/// Whether everything is as it was written. An end that a crash left unfinished is.
pub fn is_healthy(inspection: &Inspection, checks: &[LogCheck]) -> bool {
    let whole = |check: &LogCheck| check.losses.is_empty() && check.damage.iter().all(|d| d.torn_tail);
    inspection.manifest_report().is_none() && checks.iter().all(whole)
}

/// The line that begins every report.
fn title(dir: &Path, inspection: &Inspection) -> String {
    let manifest = inspection.manifest();
    let (format, shards) = (manifest.format, count(manifest.shards, "shard"));
    let opened = count(manifest.epoch as usize, "time");
    let mut title = format!("{}: format {format}, {shards}, opened {opened}", dir.display());
    if let Some(user) = inspection.user() {
        let process = user.process.map(|process| format!(" (process {process})")).unwrap_or_default();
        put(&mut title, format_args!("\na broker uses it{process}: the end of a log may look unfinished"));
    }
    if let Some(report) = inspection.manifest_report() {
        put(
            &mut title,
            format_args!("\none copy of the manifest is wrong, {report}; the next start mends it"),
        );
    }
    title.push('\n');
    title
}

pub fn verify_text(dir: &Path, inspection: &Inspection, checks: &[LogCheck]) -> String {
    let mut out = title(dir, inspection);
    for (shard, check) in checks.iter().enumerate() {
        let used: u64 = check.segments.iter().map(|segment| segment.used_bytes).sum();
        let records: u64 = check.segments.iter().map(|segment| segment.records).sum();
        let (segments, used) = (count(check.segments.len(), "segment"), size(used));
        put(&mut out, format_args!("shard {shard}: {segments}, {used} used, {records} records\n"));
        for damage in &check.damage {
            put(&mut out, format_args!("shard {shard}: {}\n", damage_text(damage)));
        }
        for loss in &check.losses {
            put(&mut out, format_args!("shard {shard}: lost: {loss}\n"));
        }
    }
    out.push_str(if is_healthy(inspection, checks) {
        "No damage.\n"
    } else {
        "There is damage. A broker that is started with this directory puts it aside and goes on.\n"
    });
    out
}

fn damage_text(damage: &Damage) -> String {
    let Damage { segment, place, bytes, records, seems, torn_tail, quarantined: _ } = damage;
    let place = format!("segment {:08x} at byte {place}", segment.0);
    if *torn_tail {
        return format!("{place}: an unfinished end of {bytes} bytes, as a crash leaves it");
    }
    let records = records.map(|records| format!(", {records} records missing")).unwrap_or_default();
    format!("{place}: {bytes} bytes are damaged{records}; {seems}")
}

pub fn verify_json(dir: &Path, inspection: &Inspection, checks: &[LogCheck]) -> Value {
    let logs: Vec<Value> = checks.iter().map(check_json).collect();
    let mut report = head_json(dir, inspection);
    report["healthy"] = json!(is_healthy(inspection, checks));
    report["logs"] = json!(logs);
    report
}

fn head_json(dir: &Path, inspection: &Inspection) -> Value {
    let manifest = inspection.manifest();
    json!({
        "path": dir.display().to_string(),
        "format": manifest.format,
        "shards": manifest.shards,
        "opened": manifest.epoch,
        "in_use": inspection.user().is_some(),
        "process": inspection.user().and_then(|user| user.process),
        "manifest_damage": inspection.manifest_report(),
    })
}

fn check_json(check: &LogCheck) -> Value {
    let segments = check.segments.iter().map(|segment| {
        json!({
            "segment": segment.segment.0,
            "file_bytes": segment.file_bytes,
            "used_bytes": segment.used_bytes,
            "batches": segment.batches,
            "records": segment.records,
        })
    });
    let damage = check.damage.iter().map(|damage| {
        json!({
            "segment": damage.segment.0,
            "place": damage.place,
            "bytes": damage.bytes,
            "records": damage.records,
            "seems": damage.seems,
            "torn_tail": damage.torn_tail,
        })
    });
    json!({
        "segments": segments.collect::<Vec<_>>(),
        "damage": damage.collect::<Vec<_>>(),
        "losses": check.losses,
    })
}

/// The figures of a shard, or of all, by name.
fn figures(stats: &LogStats) -> [(&'static str, u64); 10] {
    [
        ("sessions", stats.sessions as u64),
        ("sessions_away", stats.sessions_closed as u64),
        ("subscriptions", stats.subscriptions as u64),
        ("queued", stats.queued as u64),
        ("retained", stats.retained as u64),
        ("segments", stats.segments as u64),
        ("file_bytes", stats.file_bytes),
        ("used_bytes", stats.used_bytes),
        ("live_message_bytes", stats.live_message_bytes),
        ("live_state_bytes", stats.live_state_bytes),
    ]
}

fn kinds(stats: &[LogStats]) -> BTreeMap<&'static str, KindStats> {
    let mut sums: BTreeMap<&'static str, KindStats> = BTreeMap::new();
    for (kind, more) in stats.iter().flat_map(|stats| &stats.kinds) {
        let sum = sums.entry(kind).or_default();
        sum.records += more.records;
        sum.bytes += more.bytes;
    }
    sums
}

fn largest_queues(stats: &[LogStats]) -> Vec<(&str, usize)> {
    let queues = stats.iter().flat_map(|stats| &stats.largest_queues);
    let mut queues: Vec<(&str, usize)> = queues.map(|(client, count)| (&**client, *count)).collect();
    queues.sort_by_key(|(client, count)| (std::cmp::Reverse(*count), *client));
    queues.truncate(super::LARGEST_QUEUES);
    queues
}

pub fn stats_text(dir: &Path, inspection: &Inspection, stats: &[LogStats]) -> String {
    let mut out = title(dir, inspection);
    let columns: Vec<_> = stats.iter().map(figures).collect();
    put(&mut out, format_args!("\n{:<20}{:>16}", "", "all"));
    if stats.len() > 1 {
        for shard in 0..stats.len() {
            put(&mut out, format_args!("{:>16}", format!("shard {shard}")));
        }
    }
    out.push('\n');
    for (row, (name, _)) in figures(&LogStats::default()).iter().enumerate() {
        let sum: u64 = columns.iter().map(|column| column[row].1).sum();
        put(&mut out, format_args!("{:<20}{sum:>16}", name.replace('_', " ")));
        if stats.len() > 1 {
            for column in &columns {
                put(&mut out, format_args!("{:>16}", column[row].1));
            }
        }
        out.push('\n');
    }
    put(&mut out, format_args!("\n{:<20}{:>16}{:>16}\n", "records", "number", "bytes"));
    for (kind, KindStats { records, bytes }) in kinds(stats) {
        put(&mut out, format_args!("{kind:<20}{records:>16}{bytes:>16}\n"));
    }
    let queues = largest_queues(stats);
    if !queues.is_empty() {
        put(&mut out, format_args!("\n{:>8}  longest queues, by client id\n", "messages"));
    }
    for (client, messages) in queues {
        put(&mut out, format_args!("{messages:>8}  {client:?}\n"));
    }
    out
}

pub fn stats_json(dir: &Path, inspection: &Inspection, stats: &[LogStats]) -> Value {
    let object = |pairs: &[(&str, u64)]| -> Value {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), json!(value)))
            .collect::<serde_json::Map<_, _>>()
            .into()
    };
    let columns: Vec<_> = stats.iter().map(figures).collect();
    let mut all = figures(&LogStats::default());
    for (row, (_, sum)) in all.iter_mut().enumerate() {
        *sum = columns.iter().map(|column| column[row].1).sum();
    }
    let kinds = kinds(stats).into_iter();
    let kinds =
        kinds.map(|(kind, of)| (kind.to_owned(), json!({ "records": of.records, "bytes": of.bytes })));
    let queues = largest_queues(stats).into_iter();
    let queues = queues.map(|(client, messages)| json!({ "client": client, "messages": messages }));
    let mut report = head_json(dir, inspection);
    report["all"] = object(&all);
    report["logs"] = columns.iter().map(|column| object(column)).collect();
    report["records"] = kinds.collect::<serde_json::Map<_, _>>().into();
    report["longest_queues"] = queues.collect();
    report
}

/// Bytes, for people.
fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} bytes"),
        1024..1_048_576 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        1_048_576.. => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
    }
}

fn count(number: usize, thing: &str) -> String {
    if number == 1 { format!("1 {thing}") } else { format!("{number} {thing}s") }
}

fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a String takes what is written to it");
}
