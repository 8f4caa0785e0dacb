//! Looks into a store without changing anything, whether or not a broker uses it.
//!
//! Of a running broker's store it sees what is written at that moment: the end of each log may look torn.
//! One shard's log is in memory at a time.

mod dump;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::manifest::{Manifest, ReadManifest};
use crate::reading::Batch;
use crate::recover::views::{View, Views};
use crate::recover::walk::{Visit, walk};
use crate::recover::{Reading, read};
use crate::store::{locked_by, log_path};
use crate::{
    Damage, LogOffset, QueuedMessage, Record, RecoveredSession, SegmentId, StoreError, SubscriptionIds,
    WillView, encoded_len,
};
pub use dump::DumpFilter;

/// A store that is looked at.
#[derive(Debug)]
pub struct Inspection {
    path: PathBuf,
    manifest: Manifest,
    report: Option<String>,
    user: Option<StoreUser>,
}

/// Who has the store open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreUser {
    /// The process, if it said.
    pub process: Option<u32>,
}

/// Whether a log can be read.
#[derive(Debug)]
pub struct LogCheck {
    /// Its segments, lowest first.
    pub segments: Vec<SegmentCheck>,
    /// Bytes that cannot be read.
    pub damage: Vec<Damage>,
    /// Sentences on what is lost to that.
    pub losses: Vec<String>,
}

/// What lies in a segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SegmentCheck {
    /// The segment.
    pub segment: SegmentId,
    /// Bytes of its file.
    pub file_bytes: u64,
    /// Of them, those used.
    pub used_bytes: u64,
    /// Whole batches, of whole units.
    pub batches: u64,
    /// Records in them.
    pub records: u64,
}

/// What a log holds.
#[derive(Debug, Default)]
pub struct LogStats {
    /// Segments.
    pub segments: usize,
    /// Bytes of their files.
    pub file_bytes: u64,
    /// Of them, those used.
    pub used_bytes: u64,
    /// Records, living or not, by the name of their kind.
    pub kinds: BTreeMap<&'static str, KindStats>,
    /// Bytes of messages that queues or topics refer to.
    pub live_message_bytes: u64,
    /// Bytes that all else takes that is not outdated, if written anew.
    pub live_state_bytes: u64,
    /// Sessions.
    pub sessions: usize,
    /// Of them, those whose client went away.
    pub sessions_closed: usize,
    /// Subscriptions.
    pub subscriptions: usize,
    /// Places in queues.
    pub queued: usize,
    /// Retained messages.
    pub retained: usize,
    /// The longest queues, longest first: client id and messages.
    pub largest_queues: Vec<(Box<str>, usize)>,
}

/// Records of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KindStats {
    /// How many.
    pub records: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Inspection {
    /// Looks at the store in a directory.
    ///
    /// # Errors
    /// There is none, or it cannot be read.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        match fs::metadata(path) {
            Ok(found) if !found.is_dir() => {
                return Err(StoreError::NotADirectory { path: path.to_path_buf() });
            }
            Err(source) => {
                return Err(StoreError::Unreadable { what: path.display().to_string(), source });
            }
            Ok(_) => {}
        }
        let (manifest, report) = match Manifest::read(path)? {
            ReadManifest::Found(manifest, report) => (manifest, report),
            ReadManifest::Absent => return Err(StoreError::NoStore { path: path.to_path_buf() }),
        };
        let user = locked_by(path).map(|process| StoreUser { process });
        Ok(Self { path: path.to_path_buf(), manifest, report, user })
    }

    /// How the store is laid out.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// What is wrong with one copy of the manifest, if anything is. The next start mends it.
    pub fn manifest_report(&self) -> Option<&str> {
        self.report.as_deref()
    }

    /// Who has it open, if somebody does.
    pub fn user(&self) -> Option<StoreUser> {
        self.user
    }

    /// Reads all of a shard's log and tells what is wrong.
    ///
    /// # Errors
    /// The files cannot be read.
    pub fn verify(&self, shard: usize) -> Result<LogCheck, StoreError> {
        let files = self.files(shard)?;
        let (views, mut counts) = (files.views(), Counts::default());
        let walked = walk(&views, &mut counts);
        let segments = views.all().iter().zip(&walked.extents).map(|(view, extent)| SegmentCheck {
            segment: view.id,
            file_bytes: view.bytes.len() as u64,
            used_bytes: extent.used as u64,
            ..counts.segments.get(&view.id).copied().unwrap_or_default()
        });
        let segments = segments.collect();
        let Reading { recovered, .. } = read(&views, &|_| {});
        Ok(LogCheck { segments, damage: recovered.damage, losses: recovered.losses })
    }

    /// Counts what a shard's log holds, with so many of the longest queues.
    ///
    /// # Errors
    /// The files cannot be read.
    pub fn stats(&self, shard: usize, largest: usize) -> Result<LogStats, StoreError> {
        let files = self.files(shard)?;
        let (views, mut counts) = (files.views(), Counts::default());
        walk(&views, &mut counts);
        let Reading { recovered, mut references, extents, .. } = read(&views, &|_| {});
        references.dedup();
        let mut stats = LogStats {
            segments: views.all().len(),
            file_bytes: views.all().iter().map(|view| view.bytes.len() as u64).sum(),
            used_bytes: extents.iter().map(|extent| extent.used as u64).sum(),
            kinds: counts.kinds,
            live_message_bytes: references.iter().map(|&at| encoded_len(&views.record(at)) as u64).sum(),
            sessions: recovered.sessions.len(),
            retained: recovered.retained.len(),
            ..LogStats::default()
        };
        for &message in &recovered.retained {
            stats.live_state_bytes += encoded_len(&Record::Retained { message }) as u64;
        }
        for session in &recovered.sessions {
            stats.sessions_closed += usize::from(session.closed_at_ms.is_some());
            stats.subscriptions += session.subscriptions.len();
            stats.queued += session.messages.len();
            for_each_state(session, &mut |record| stats.live_state_bytes += encoded_len(&record) as u64);
        }
        let mut queues: Vec<_> = recovered
            .sessions
            .into_iter()
            .map(|session| (session.client_id, session.messages.len()))
            .collect();
        queues.retain(|(_, messages)| *messages > 0);
        queues.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        queues.truncate(largest);
        stats.largest_queues = queues;
        Ok(stats)
    }

    /// Writes every record of a shard's log as a line, and then every damaged place. `each` answers whether
    /// to go on.
    ///
    /// # Errors
    /// The files cannot be read.
    pub fn dump(
        &self,
        shard: usize,
        filter: &DumpFilter,
        each: &mut dyn FnMut(&str) -> bool,
    ) -> Result<(), StoreError> {
        let files = self.files(shard)?;
        dump::dump(&files.views(), filter, each);
        Ok(())
    }

    fn files(&self, shard: usize) -> Result<Files, StoreError> {
        let path = log_path(&self.path, self.manifest.generation, shard);
        let unreadable = |source| StoreError::Unreadable { what: path.display().to_string(), source };
        Files::read(&path).map_err(unreadable)
    }
}

/// A log's segments in memory.
struct Files(Vec<(SegmentId, Vec<u8>)>);

impl Files {
    fn read(path: &Path) -> io::Result<Self> {
        let mut files = Vec::new();
        let entries = match fs::read_dir(path) {
            // A shard that never ran.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self(files)),
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            let Some(id) = entry.file_name().to_str().and_then(crate::directory::segment_id) else {
                continue;
            };
            match fs::read(entry.path()) {
                Ok(bytes) => files.push((id, bytes)),
                // The broker has just removed it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        files.sort_unstable_by_key(|(id, _)| *id);
        Ok(Self(files))
    }

    fn views(&self) -> Views<'_> {
        Views::new(self.0.iter().map(|(id, bytes)| View { id: *id, bytes }).collect())
    }
}

/// Counts what is read.
#[derive(Default)]
struct Counts {
    segments: BTreeMap<SegmentId, SegmentCheck>,
    kinds: BTreeMap<&'static str, KindStats>,
}

impl<'a> Visit<'a> for Counts {
    fn batch(&mut self, segment: SegmentId, _batch: &Batch<'a>) {
        let check = self.segments.entry(segment).or_default();
        check.segment = segment;
        check.batches += 1;
    }

    fn record(&mut self, at: LogOffset, _number: u64, record: Record<'a>) {
        self.segments.entry(at.segment()).or_default().records += 1;
        let kind = self.kinds.entry(dump::kind(&record)).or_default();
        kind.records += 1;
        kind.bytes += encoded_len(&record) as u64;
    }
}

/// The records that tell all of a session, as a compaction writes them.
fn for_each_state(of: &RecoveredSession, each: &mut dyn FnMut(Record<'_>)) {
    let session = of.record;
    each(Record::SessionBegins {
        session,
        client_id: &of.client_id,
        expiry_s: of.expiry_s,
        closed_at_ms: of.closed_at_ms.unwrap_or(0),
        next: of.next,
    });
    if let Some(will) = &of.will {
        let will = WillView {
            topic: &will.topic,
            properties: &will.properties,
            payload: &will.payload,
            qos: will.qos,
            retain: will.retain,
            delay_s: will.delay_s,
            message_expiry_s: will.message_expiry_s,
        };
        each(Record::Will { session, will });
    }
    for one in &of.subscriptions {
        let (filter, options, subscription_id) = (&one.filter, one.options, one.subscription_id);
        each(Record::Subscribed { session, filter, options, subscription_id });
    }
    for &(packet_id, publication) in &of.taken {
        each(Record::Taken { session, packet_id, publication });
    }
    for one in &of.messages {
        let number = one.number;
        let Some(message) = one.message else {
            each(Record::Received { session, number });
            continue;
        };
        let (ids, group) = match one.more.as_deref() {
            Some((ids, group)) => (SubscriptionIds::Numbers(ids), group.as_deref()),
            None => (SubscriptionIds::NONE, None),
        };
        let queued = QueuedMessage { number, message, queued_as: one.queued_as, ids, group };
        each(Record::Queued { session, queued });
    }
}
