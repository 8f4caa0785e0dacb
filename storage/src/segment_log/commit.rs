//! Group commit: many records, one sync.

use std::time::Duration;

use ringmq_turn::{SyncFailure, SyncRequest, SyncTicket};

use crate::mapping::touch;
use crate::{Disk, LogFigures, Segment, SegmentId};

use super::SegmentLog;

/// How many files are synced at a time.
const UNDER_WAY_MAX: usize = 8;
/// After so many failures in a row, retries wait for turns.
const EAGER_RETRIES: u32 = 3;
/// The most turns that a retry waits.
const RETRY_TURNS_MAX: u32 = 64;

/// A sync that was asked for.
#[derive(Debug)]
struct UnderWay {
    ticket: SyncTicket,
    segment: SegmentId,
    /// What it covers.
    to: usize,
    records: u64,
}

#[derive(Debug)]
pub(super) struct Commits {
    /// Somebody waits for so many records to be synced.
    wanted: u64,
    /// Somebody outside the log did.
    waited_for: bool,
    /// So many are.
    synced: u64,
    /// The first segment that is not synced as a whole.
    first: SegmentId,
    next_ticket: u64,
    under_way: Vec<UnderWay>,
    failures: u32,
    retry_in: u32,
    figures: LogFigures,
}

impl Commits {
    /// Of a log whose segments begin with `first`. None of them counts as synced: whoever wrote them may
    /// have been killed before they were.
    pub(super) fn new(first: SegmentId) -> Self {
        Self {
            wanted: 0,
            waited_for: false,
            synced: 0,
            first,
            next_ticket: 0,
            under_way: Vec::with_capacity(UNDER_WAY_MAX),
            failures: 0,
            retry_in: 0,
            figures: LogFigures::default(),
        }
    }

    pub(super) fn want(&mut self, records: u64) {
        self.wanted = self.wanted.max(records);
    }

    /// Somebody outside the log waits for syncs.
    pub(super) fn wait_for(&mut self, records: u64) {
        self.waited_for = true;
        self.want(records);
    }

    /// How many records are synced, if somebody waits for that.
    pub(super) fn told(&self) -> Option<u64> {
        Some(self.synced).filter(|_| self.waited_for)
    }

    #[inline]
    pub(super) fn synced_records(&self) -> u64 {
        self.synced
    }

    pub(super) fn turn_over(&mut self) {
        self.retry_in = self.retry_in.saturating_sub(1);
    }

    /// The figures that are about commits.
    pub(super) fn figures(&self) -> LogFigures {
        self.figures.clone()
    }

    fn failed(&mut self) {
        self.figures.commits_failed += 1;
        self.failures += 1;
        let beyond = self.failures.saturating_sub(EAGER_RETRIES);
        self.retry_in = if beyond == 0 { 0 } else { (1 << beyond.min(16)).min(RETRY_TURNS_MAX) };
    }
}

impl<D: Disk> SegmentLog<D> {
    /// Asks for the oldest file to be synced that has something new.
    pub(super) fn next_sync(&mut self) -> Option<SyncRequest> {
        let commits = &mut self.commits;
        if commits.synced >= commits.wanted
            || commits.retry_in > 0
            || commits.under_way.len() == UNDER_WAY_MAX
        {
            return None;
        }
        let mut changed =
            self.segments.iter_from(commits.first).filter(|(_, slot)| slot.synced_to < slot.sealed_to);
        let (segment, slot) =
            changed.find(|(id, _)| commits.under_way.iter().all(|sync| sync.segment != *id))?;
        let ticket = SyncTicket(commits.next_ticket);
        commits.next_ticket += 1;
        commits.under_way.push(UnderWay {
            ticket,
            segment,
            to: slot.sealed_to,
            records: slot.sealed_records,
        });
        Some(SyncRequest { ticket, file: slot.segment.sync_file() })
    }

    /// A sync succeeded or failed.
    pub(super) fn sync_ended(&mut self, ticket: SyncTicket, outcome: Result<Duration, SyncFailure>) {
        let index = self.commits.under_way.iter().position(|sync| sync.ticket == ticket);
        let index = index.unwrap_or_else(|| panic!("{ticket:?} is no sync that is under way"));
        let sync = self.commits.under_way.swap_remove(index);
        let slot = self.segments.get_mut(sync.segment);
        match outcome {
            Ok(took) => {
                self.commits.failures = 0;
                self.commits.figures.commits += 1;
                self.commits.figures.commit_us.count(took);
                if let Some(slot) = slot {
                    slot.segment.synced();
                    (slot.synced_to, slot.synced_records) = (sync.to, sync.records);
                }
                self.advance_synced();
            }
            Err(SyncFailure { errno }) => {
                let segment = sync.segment.0;
                tracing::warn!("segment {segment:08x} could not be synced: error {errno}");
                self.commits.failed();
                if let Some(slot) = slot {
                    // The kernel takes pages for clean that it failed to write, and would not try again.
                    touch(&mut slot.segment[slot.synced_to / 4096 * 4096..slot.sealed_to]);
                }
            }
        }
    }

    /// What is synced of a segment counts when all before it is.
    fn advance_synced(&mut self) {
        let head = self.segments.head_id();
        let commits = &mut self.commits;
        for (id, slot) in self.segments.iter_from(commits.first) {
            commits.synced = commits.synced.max(slot.synced_records);
            commits.first = id;
            if id == head || slot.synced_to < slot.sealed_to {
                break;
            }
        }
    }
}
