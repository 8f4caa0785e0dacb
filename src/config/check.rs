//! Checks a configuration as a whole: ranges, and what must not be combined.

use ringmq_storage::Level;

use super::source::{Origins, listener_path};
use super::{Config, KEYS, Place, Problem, Unit, listeners};

/// Everything that is wrong with the configuration.
pub fn problems(config: &Config, origins: &Origins) -> Vec<Problem> {
    let mut problems = ranges(config);
    problems.extend(listeners::problems(config, origins));
    problems.extend(backlog(config, origins));
    problems.extend(ring(config, origins));
    problems.extend(memory(config, origins));
    problems.extend(durability(config, origins));
    problems.extend(log_bytes(config, origins));
    problems
}

/// Values that a program set beyond their ranges; what was read from outside has been checked before.
fn ranges(config: &Config) -> Vec<Problem> {
    let mut problems = Vec::new();
    for key in KEYS {
        let value = (key.get)(config);
        if !key.kind.holds(&value) {
            let (path, shown, expects) = (key.path(), key.kind.show(&value), key.kind.expects());
            let text = format!("{path} = {shown} is not accepted: write {expects}");
            problems.push(Problem { place: Place::Program, text });
        }
    }
    problems
}

fn backlog(config: &Config, origins: &Origins) -> Option<Problem> {
    let (low, high) = (config.runtime.backlog_low_bytes, config.runtime.backlog_high_bytes);
    if low < high {
        return None;
    }
    let path = first_set(origins, ["runtime.backlog_low_bytes", "runtime.backlog_high_bytes"]);
    let (low, high) = (Unit::Bytes.show(low as u64), Unit::Bytes.show(high as u64));
    let text = format!(
        "backlog_low_bytes ({low}) is not below backlog_high_bytes ({high}): a connection that was held \
         back would never go on; lower the one or raise the other"
    );
    Some(Problem { place: origins.of(path), text })
}

fn ring(config: &Config, origins: &Origins) -> Option<Problem> {
    let (submission, completion) = (config.runtime.submission_entries, config.runtime.completion_entries);
    if submission <= completion {
        return None;
    }
    let path = first_set(origins, ["runtime.submission_entries", "runtime.completion_entries"]);
    let text = format!(
        "submission_entries ({submission}) is above completion_entries ({completion}): lower the one or raise \
         the other"
    );
    Some(Problem { place: origins.of(path), text })
}

/// A shard must be able to hold the largest packet that it accepts.
fn memory(config: &Config, origins: &Origins) -> Option<Problem> {
    let packet = u64::from(config.limits.packet_bytes_max);
    // How many CPUs there are is not known here; one shard is the least.
    let shards = config.shards.max(1);
    if config.shard_limits(shards).memory_bytes_max >= packet {
        return None;
    }
    let path = first_set(origins, ["limits.memory_bytes_max", "limits.packet_bytes_max"]);
    let needed = packet.saturating_mul(shards as u64);
    let (packet, needed) = (Unit::Bytes.show(packet), Unit::Bytes.show(needed));
    let shards = if shards == 1 { "one shard".to_owned() } else { format!("{shards} shards") };
    let text = format!(
        "memory_bytes_max, divided among {shards}, is less than a packet of packet_bytes_max ({packet}): \
         raise memory_bytes_max to {needed} or more, or lower packet_bytes_max"
    );
    Some(Problem { place: origins.of(path), text })
}

/// Nothing survives without a directory to survive in.
fn durability(config: &Config, origins: &Origins) -> Vec<Problem> {
    if config.data_dir.is_some() {
        return Vec::new();
    }
    let whole = config.storage.durability.map(|level| (level, "storage.durability".to_owned()));
    let listeners = config.listeners.0.iter().enumerate();
    let listeners = listeners.filter_map(|(at, l)| Some((l.durability?, listener_path(at, "durability"))));
    let asked = whole.into_iter().chain(listeners).filter(|(level, _)| *level > Level::Memory);
    let problem = |(level, path): (Level, String)| {
        let place = origins.of(&path);
        let add = match place {
            Place::Flag(_) => "give --data-dir DIR too",
            Place::File { .. } => "add data_dir = \"DIR\" at the top of the file",
            Place::Program => "set data_dir too",
        };
        let level = level.name();
        let text = format!(
            "durability \"{level}\" needs a directory to keep the log in: {add}, or ask for \"memory\""
        );
        Problem { place, text }
    };
    asked.map(problem).collect()
}

/// A log that may not have a few segments could not make room by compaction.
const SEGMENTS_MIN: u64 = 4;

fn log_bytes(config: &Config, origins: &Origins) -> Option<Problem> {
    let shards = config.shards.max(1);
    let segment = config.segment_bytes() as u64;
    if config.shard_log_bytes_max(shards) >= SEGMENTS_MIN * segment {
        return None;
    }
    let path = first_set(origins, ["storage.bytes_max", "storage.segment_bytes"]);
    let needed = Unit::Bytes.show(SEGMENTS_MIN * segment * shards as u64);
    let segment = Unit::Bytes.show(segment);
    let shards = if shards == 1 { "one shard".to_owned() } else { format!("{shards} shards") };
    let text = format!(
        "bytes_max, divided among {shards}, has no room for {SEGMENTS_MIN} segments of {segment}, which is the least: \
         raise bytes_max to {needed} or more, or lower segment_bytes and limits.packet_bytes_max"
    );
    Some(Problem { place: origins.of(path), text })
}

/// The first of the keys that was set by somebody, to blame.
fn first_set<'a>(origins: &Origins, paths: [&'a str; 2]) -> &'a str {
    paths.into_iter().find(|path| origins.is_set(path)).unwrap_or(paths[0])
}
