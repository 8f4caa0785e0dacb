//! The end of a turn for the log: what is written, what is synced, and what waited for either.

use ringmq_storage::{Level, Log};

use crate::mesh::{LogState, ShardMessage};
use crate::{Engine, EngineIo};

impl<L: Log> Engine<L> {
    /// What waited for the log to come so far goes on.
    pub(crate) fn log_reached(&mut self, io: &mut EngineIo) {
        for level in [Level::Written, Level::Synced] {
            if !self.mesh.log_is_due(level, self.log.reached(level)) {
                continue;
            }
            let mut over = std::mem::take(&mut self.over);
            self.mesh.log_reached(level, self.log.reached(level), &mut over);
            self.finish_all(over, io);
        }
        if self.gated.is_empty() {
            return;
        }
        let synced = self.log.reached(Level::Synced);
        for key in std::mem::take(&mut self.gated) {
            let appended = self.log.appended();
            let Some(session) = self.sessions.alive(key) else { continue };
            let next = session.out.next();
            let resends = session.gate.resend_at.take_if(|record| *record <= synced).is_some();
            if session.gate.pass(synced, (appended, next)) || resends {
                let (_, mut delivery) = self.delivery(io);
                if resends { delivery.resend(key.slot) } else { delivery.pump(key.slot) }
            }
            if self.sessions.alive(key).is_some_and(|session| session.gate.waits()) {
                self.gated.push(key);
            }
        }
    }

    /// The end of a turn for the log: what was appended is written, and what must be synced is asked for.
    pub(crate) fn commit(&mut self, io: &mut EngineIo) -> bool {
        self.completions.tell(&mut self.log);
        let compacts = self.compact();
        self.log.turn_over();
        if self.syncs {
            self.mesh.mark(self.log.appended());
            if self.log.reached(Level::Synced) < self.log.appended() {
                self.log.want_synced();
            }
        }
        while let Some(request) = self.log.sync() {
            io.sync(request);
        }
        if self.log.is_full() != self.told_full {
            self.told_full = !self.told_full;
            for shard in self.mesh.others.iter() {
                io.message(shard, ShardMessage::LogIsFull(self.told_full));
            }
        }
        self.report(io);
        compacts
    }

    /// Tells the other shards how far we have come with their messages.
    fn report(&mut self, io: &mut EngineIo) {
        if self.mesh.others.is_empty() {
            return;
        }
        let levels: &[Level] = if self.syncs { &[Level::Written, Level::Synced] } else { &[Level::Written] };
        for &level in levels {
            let log = LogState { appended: self.log.appended(), reached: self.log.reached(level) };
            for (shard, count) in self.mesh.reports(level, log) {
                io.message(shard, ShardMessage::Accepted(level, count));
            }
        }
    }
}
