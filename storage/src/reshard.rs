//! Moves a store to another number of shards: new logs beside the old ones, then one switch.

use std::io;
use std::time::Duration;

use hashbrown::HashMap;

use crate::manifest::{COPIES, Manifest, sync_directory};
use crate::recover::{Reading, Segments, put_aside, views::Views};
use crate::store::{Owner, Resharded, Store, log_path, remove_leftovers};
use crate::{
    ChoreSender, Directory, Level, Log, LogOffset, LogOptions, QueuedMessage, Record, RecoveredMessage,
    RecoveredSession, SegmentLog, StoreError, SubscriptionIds, WillView, chores, open_log,
};

/// What was done. The store opens after each of them, with all that it had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A new log was begun.
    Begun,
    /// An old log was written into the new ones.
    Copied,
    /// A new log is durable.
    Synced,
    /// The first copy of the manifest names the new logs.
    Switched,
    /// And so does the second.
    SwitchedCopy,
}

/// After so many bytes of messages, a log may write what it has.
const TURN_BYTES: usize = 1 << 20;

/// The logs that are written, and who gets what.
struct Target<'o> {
    logs: Vec<SegmentLog<Directory>>,
    seed: u64,
    owner: Owner<'o>,
    /// Bytes written since the turn was last over.
    pending: usize,
}

/// Writes all that the store's logs hold into new ones, one for each of `shards`, and makes those count.
///
/// QoS 2 publications that went to several shards and were not released count as not taken, and the marks
/// of the shards that have them are dropped: those say what an old shard had, and its sessions are
/// scattered. If its publisher repeats such a publication, since a crash kept the PUBREC from it, everybody
/// gets it: twice perhaps, where otherwise a session that moved might never have got it.
pub(crate) fn reshard(
    store: &Store,
    shards: usize,
    owner: Owner<'_>,
    step: &mut dyn FnMut(Step) -> Result<(), StoreError>,
) -> Result<(Manifest, Resharded), StoreError> {
    assert!(shards > 0, "there is at least one shard");
    let old = *store.manifest();
    let new = Manifest { generation: old.generation + 1, shards, ..old };
    // Nobody runs them, so that they are done at once.
    let (sender, runner) = chores();
    drop(runner);
    let mut target = Target { logs: Vec::new(), seed: old.seed, owner, pending: 0 };
    for shard in 0..shards {
        let directory = store.log_directory(new.generation, shard, &sender)?;
        // The limit is for what runs: a store that has to shrink first could never be opened.
        let options = LogOptions { bytes_max: u64::MAX, ..store.log_options() };
        target.logs.push(open_log(directory, options)?.0);
        step(Step::Begun)?;
    }
    let mut resharded = Resharded { from: old.shards, ..Resharded::default() };
    for shard in 0..old.shards {
        copy_log(store, shard, &sender, (&mut target, &mut resharded))?;
        step(Step::Copied)?;
    }
    for (shard, log) in target.logs.iter_mut().enumerate() {
        let path = log_path(store.path(), new.generation, shard);
        let synced = make_durable(log).and_then(|()| sync_directory(&path));
        synced.map_err(|source| StoreError::writing(path.display().to_string(), source))?;
        step(Step::Synced)?;
    }
    drop(target);
    new.write_copy(store.path(), COPIES[0])?;
    step(Step::Switched)?;
    new.write_copy(store.path(), COPIES[1])?;
    step(Step::SwitchedCopy)?;
    remove_leftovers(store.path(), new.generation)?;
    Ok((new, resharded))
}

/// Writes what one old log holds into the new ones.
fn copy_log(
    store: &Store,
    shard: usize,
    sender: &ChoreSender,
    (target, resharded): (&mut Target<'_>, &mut Resharded),
) -> Result<(), StoreError> {
    let mut directory = store.log_directory(store.manifest().generation, shard, sender)?;
    let segments = Segments::open(&mut directory)?;
    let Reading { mut recovered, .. } = segments.read();
    put_aside(&mut directory, &segments, &mut recovered.damage);
    resharded.damage.extend(recovered.damage.into_iter().map(|damage| (shard, damage)));
    resharded.losses.append(&mut recovered.losses);
    let views = segments.views();
    // Where a message went in each new log. Sessions that share one share it there, too.
    let mut copies = HashMap::new();
    for session in &recovered.sessions {
        let to = target.owner_of(&session.client_id);
        target.tell(to, session);
        target.unit_ends(to, session.client_id.len());
        for queued in &session.messages {
            target.tell_queued(to, session, queued, (&views, &mut copies))?;
        }
    }
    for &at in &recovered.retained {
        let topic = String::from_utf8_lossy(views.message(at).topic);
        let to = target.owner_of(&topic);
        let message = target.keep(to, at, (&views, &mut copies))?;
        target.logs[to].append(Record::Retained { message });
        target.unit_ends(to, topic.len());
    }
    Ok(())
}

impl Target<'_> {
    fn owner_of(&self, name: &str) -> usize {
        (self.owner)(self.seed, name, self.logs.len())
    }

    /// All that is known of a session but its messages.
    fn tell(&mut self, to: usize, of: &RecoveredSession) {
        let (log, session) = (&mut self.logs[to], of.record);
        log.append(Record::SessionBegins {
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
            log.append(Record::Will { session, will });
        }
        for one in &of.subscriptions {
            let (filter, options, subscription_id) = (&one.filter, one.options, one.subscription_id);
            log.append(Record::Subscribed { session, filter, options, subscription_id });
        }
        for &(packet_id, publication) in &of.taken {
            if publication.is_none() {
                log.append(Record::Taken { session, packet_id, publication });
            }
        }
    }

    fn tell_queued(
        &mut self,
        to: usize,
        session: &RecoveredSession,
        queued: &RecoveredMessage,
        from: (&Views<'_>, &mut HashMap<(usize, LogOffset), LogOffset>),
    ) -> Result<(), StoreError> {
        let (session, number) = (session.record, queued.number);
        let Some(at) = queued.message else {
            self.logs[to].append(Record::Received { session, number });
            return Ok(());
        };
        let message = self.keep(to, at, from)?;
        let (ids, group) = match queued.more.as_deref() {
            Some((ids, group)) => (SubscriptionIds::Numbers(ids), group.as_deref()),
            None => (SubscriptionIds::NONE, None),
        };
        let queued = QueuedMessage { number, message, queued_as: queued.queued_as, ids, group };
        self.logs[to].append(Record::Queued { session, queued });
        self.unit_ends(to, 0);
        Ok(())
    }

    /// What was written belongs together. It need not for its own sake, since none of the logs counts until
    /// all do, but large units are dearer to read.
    fn unit_ends(&mut self, to: usize, bytes: usize) {
        const RECORDS_BYTES: usize = 64;
        self.logs[to].end_unit();
        self.pending += bytes + RECORDS_BYTES;
        if self.pending > TURN_BYTES {
            self.pending = 0;
            self.logs.iter_mut().for_each(Log::turn_over);
        }
    }

    /// A message in a new log, copied there the first time.
    fn keep(
        &mut self,
        to: usize,
        at: LogOffset,
        (views, copies): (&Views<'_>, &mut HashMap<(usize, LogOffset), LogOffset>),
    ) -> Result<LogOffset, StoreError> {
        if let Some(&copy) = copies.get(&(to, at)) {
            return Ok(copy);
        }
        let view = views.message(at);
        self.pending += view.charged_bytes();
        let no_space = |_| StoreError::NoSpace {
            what: "the logs that another number of shards needs, beside those there are (or keep the number)"
                .to_owned(),
        };
        let copy = self.logs[to].keep(&view).map_err(no_space)?;
        copies.insert((to, at), copy);
        Ok(copy)
    }
}

/// Waits until all of a log is durable.
fn make_durable(log: &mut SegmentLog<Directory>) -> io::Result<()> {
    log.end_unit();
    log.want_synced();
    log.turn_over();
    while log.reached(Level::Synced) < log.appended() {
        let Some(request) = log.sync() else {
            return Err(io::ErrorKind::StorageFull.into());
        };
        request.file.sync_all()?;
        log.synced(request.ticket, Ok(Duration::ZERO));
        log.turn_over();
    }
    Ok(())
}

#[cfg(test)]
mod tests;
