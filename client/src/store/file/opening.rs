//! Opening a directory, and what was found in it.

use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};

use ringmq_storage::{Damage, Store as Directories, StoreOptions, chores};

use super::book::Book;
use super::{Desk, Durability, FileOptions, SEGMENTS_MIN, Shared, name_of};
use crate::store::StoreError;

/// Opens a store's directory and reads all that is there.
pub(super) fn open(path: &Path, options: FileOptions) -> Result<Shared, StoreError> {
    let name = name_of(path);
    check(&name, &options)?;
    let failed = |source| StoreError::Unusable { store: name.clone(), source: Arc::new(source) };
    let store_options = StoreOptions {
        shards: 1,
        segment_bytes: options.segment_bytes,
        bytes_max: options.bytes_max,
        new_seed: RandomState::new().hash_one(std::process::id()),
    };
    let directories = Directories::open(path, store_options, &|_, _, _| 0).map_err(failed)?;
    let no_thread = |error: std::io::Error| {
        let detail = format!("its threads cannot start: {error}; see the limits of processes and memory");
        StoreError::Failed { store: name.clone(), detail }
    };
    let (sender, chores) = chores();
    let chores = std::thread::Builder::new().name("chores".to_owned()).spawn(move || chores.run());
    let chores = chores.map_err(no_thread)?;
    let (log, recovered) = directories.open_shard(0, &sender).map_err(failed)?;
    let mut reports = directories.reports().to_vec();
    reports.extend(recovered.damage.iter().filter_map(report));
    reports.extend(recovered.losses.iter().map(|loss| format!("lost to damage: {loss}")));
    for report in &reports {
        tracing::warn!(store = %path.display(), "{report}");
    }
    let book = Book::new(log, directories.epoch(), recovered.sessions);
    let desk = Arc::new(Desk {
        path: path.to_owned(),
        options,
        book: Mutex::new(book),
        synced: Condvar::new(),
        work: Condvar::new(),
    });
    let for_thread = Arc::clone(&desk);
    let tending = std::thread::Builder::new().name("store-files".to_owned()).spawn(move || for_thread.tend());
    Ok(Shared {
        desk: Some(desk),
        tending: Some(tending.map_err(no_thread)?),
        chores: Some((sender, chores)),
        reports,
        _directories: directories,
    })
}

fn check(name: &str, options: &FileOptions) -> Result<(), StoreError> {
    let FileOptions { durability: Durability::Written | Durability::Synced, segment_bytes, bytes_max } =
        *options;
    let largest = ringmq_storage::SEGMENT_BYTES_MAX;
    let detail = if segment_bytes < 4096 || !segment_bytes.is_multiple_of(4096) || segment_bytes > largest {
        format!("segment_bytes is {segment_bytes}: make it a multiple of 4096 up to {largest}")
    } else if bytes_max < SEGMENTS_MIN * segment_bytes as u64 {
        let least = SEGMENTS_MIN * segment_bytes as u64;
        format!(
            "bytes_max is {bytes_max}, which has no room for {SEGMENTS_MIN} segments of {segment_bytes}: raise it to \
             {least} or more, or lower segment_bytes"
        )
    } else {
        return Ok(());
    };
    Err(StoreError::Failed { store: name.to_owned(), detail })
}

/// A sentence on damage. What a crash leaves at the end is none.
fn report(damage: &Damage) -> Option<String> {
    let Damage { segment, place, bytes, records, seems, quarantined, torn_tail } = damage;
    if *torn_tail {
        return None;
    }
    let records = records.map_or_else(String::new, |records| format!(", {records} records are missing"));
    let kept =
        quarantined.as_ref().map_or_else(String::new, |path| format!("; the bytes were put into {path}"));
    Some(format!(
        "{bytes} bytes of segment {:08x} at {place} are damaged ({seems}){records}{kept}",
        segment.0
    ))
}
