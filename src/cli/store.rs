//! `ringmq store`: looks into a data directory without changing it.

mod report;

use std::io::Write;
use std::path::Path;

use ringmq_storage::{DumpFilter, Inspection, LogCheck, LogStats, StoreError};

use super::args::{DumpArgs, StoreArgs, StoreCommand, StoreReadArgs};
use super::{EXIT_FAILED, EXIT_FINE, EXIT_USAGE};

/// The longest queues that are named.
const LARGEST_QUEUES: usize = 10;

/// Looks, and says what there is.
pub fn run(args: &StoreArgs) -> u8 {
    let outcome = match &args.command {
        StoreCommand::Verify(args) => verify(args),
        StoreCommand::Stats(args) => stats(args),
        StoreCommand::Dump(args) => dump(args),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("{error}");
        EXIT_USAGE
    })
}

/// Prints what it can; whoever reads may have seen enough.
fn print(text: &str) {
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}

fn each_shard<T>(
    inspection: &Inspection,
    look: impl Fn(usize) -> Result<T, StoreError>,
) -> Result<Vec<T>, StoreError> {
    (0..inspection.manifest().shards).map(look).collect()
}

fn verify(args: &StoreReadArgs) -> Result<u8, StoreError> {
    let inspection = Inspection::open(&args.dir)?;
    let checks: Vec<LogCheck> = each_shard(&inspection, |shard| inspection.verify(shard))?;
    let healthy = report::is_healthy(&inspection, &checks);
    if args.json {
        print(&format!("{}\n", report::verify_json(&args.dir, &inspection, &checks)));
    } else {
        print(&report::verify_text(&args.dir, &inspection, &checks));
    }
    Ok(if healthy { EXIT_FINE } else { EXIT_FAILED })
}

fn stats(args: &StoreReadArgs) -> Result<u8, StoreError> {
    let inspection = Inspection::open(&args.dir)?;
    let stats: Vec<LogStats> = each_shard(&inspection, |shard| inspection.stats(shard, LARGEST_QUEUES))?;
    if args.json {
        print(&format!("{}\n", report::stats_json(&args.dir, &inspection, &stats)));
    } else {
        print(&report::stats_text(&args.dir, &inspection, &stats));
    }
    Ok(EXIT_FINE)
}

fn dump(args: &DumpArgs) -> Result<u8, StoreError> {
    let DumpArgs { dir, client, topic, limit, payload_bytes } = args;
    let inspection = Inspection::open(Path::new(dir))?;
    let filter =
        DumpFilter { client_id: client.clone(), topic: topic.clone(), payload_bytes_max: *payload_bytes };
    let mut left = limit.unwrap_or(usize::MAX);
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    for shard in 0..inspection.manifest().shards {
        inspection.dump(shard, &filter, &mut |line| {
            let Some(fewer) = left.checked_sub(1) else { return false };
            left = fewer;
            if writeln!(out, "{shard} {line}").is_err() {
                // Whoever reads has seen enough.
                left = 0;
            }
            left > 0
        })?;
    }
    let _ = out.flush();
    Ok(EXIT_FINE)
}
