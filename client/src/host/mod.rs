//! Many sessions on one I/O thread: a [`Core`] that runs their machines.
//!
//! - `requests` is what programs ask for, `attempts` how connections come about and end.
//! - `sink` carries the machines' answers to the driver and to what programs hold, `routes` their messages to
//!   the targets.
//!
//! invariant: a session owns at most one connection, and one timer.

mod attempts;
mod backoff;
mod requests;
mod routes;
#[cfg(test)]
mod seeded;
mod session;
mod sink;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use hashbrown::HashMap;
use ringmq_codec::ReasonCode;
use ringmq_turn::{
    CloseReason, ConnId, ConnInfo, ConnectFailure, ConnectFailureKind, ConnectTicket, Core, Io, ShardId,
    Slab, SyncFailure, SyncTicket, Wheel, make_room_for,
};

use crate::error::ConnectError;
use crate::link::{Mailbox, Publication, Request};
use crate::machine::End;
use backoff::Chance;
use routes::Batches;
use session::Session;
use sink::HostSink;

/// Look into the mailbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Look;

pub(crate) type HostIo = Io<(), ()>;

/// Timers that one turn runs.
const TIMERS_A_TURN_MAX: usize = 4096;

/// The sessions of one I/O thread.
pub(crate) struct Host {
    mailbox: Arc<Mailbox>,
    sessions: Slab<Session>,
    by_id: HashMap<u32, u32, foldhash::fast::FixedState>,
    /// Generation and session by the connection's slot.
    by_conn: Vec<Option<(u32, u32)>>,
    wheel: Wheel<u32>,
    chance: Chance,
    /// Attempts to connect so far.
    attempts: u32,
    /// Sessions for which something happened in this turn.
    touched: Vec<u32>,
    batches: Batches,
    requests: Vec<Request>,
    publications: Vec<Publication>,
    due: Vec<u32>,
    is_stopping: bool,
}

impl Host {
    /// A host without sessions. Chance, such as of backoff, follows from the seed.
    pub fn new(mailbox: Arc<Mailbox>, seed: u64) -> Self {
        Self {
            mailbox,
            sessions: Slab::new(),
            by_id: HashMap::default(),
            by_conn: Vec::new(),
            wheel: Wheel::new(0),
            chance: Chance::new(seed),
            attempts: 0,
            touched: Vec::new(),
            batches: Batches::default(),
            requests: Vec::new(),
            publications: Vec::new(),
            due: Vec::new(),
            is_stopping: false,
        }
    }

    /// How many sessions it runs.
    #[cfg(test)]
    fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Has the session seen to at the end of the turn.
    fn touch(&mut self, slot: u32) {
        let session = &mut self.sessions[slot];
        if !std::mem::replace(&mut session.glue.is_touched, true) {
            self.touched.push(slot);
        }
    }

    /// The session of an open connection.
    fn slot_of(&self, conn: ConnId) -> Option<u32> {
        let (generation, slot) = (*self.by_conn.get(conn.index())?)?;
        (generation == conn.generation).then_some(slot)
    }

    fn enter_conn(&mut self, conn: ConnId, slot: u32) {
        if self.by_conn.len() <= conn.index() {
            make_room_for(&mut self.by_conn, conn.index());
            self.by_conn.resize(conn.index() + 1, None);
        }
        self.by_conn[conn.index()] = Some((conn.generation, slot));
    }

    /// Calls a session's machine, with where its answers go.
    fn with<R>(
        &mut self,
        slot: u32,
        io: &mut HostIo,
        call: impl FnOnce(&mut crate::machine::Machine<crate::link::Delivery>, &mut HostSink<'_>) -> R,
    ) -> R {
        self.touch(slot);
        let Session { machine, glue } = &mut self.sessions[slot];
        let conn = glue.conn();
        call(machine, &mut HostSink { io, conn, slot, glue, batches: &mut self.batches })
    }

    /// The machine ended its connection.
    fn end(&mut self, slot: u32, end: End, io: &mut HostIo) {
        let glue = &self.sessions[slot].glue;
        let address = glue.address_name();
        let why = match end {
            End::Refused(words) => ConnectError::Refused {
                address,
                reason: words.reason,
                said: words.said,
                server_reference: words.server_reference,
            },
            End::Disconnected(words) => ConnectError::Disconnected {
                reason: words.reason,
                said: words.said,
                server_reference: words.server_reference,
            },
            End::Unresponsive { after } => ConnectError::Unresponsive { after },
            End::WriteTimedOut { after } => ConnectError::WriteTimedOut { after },
            End::Protocol(what) => ConnectError::Protocol(what),
            End::Auth(error) => ConnectError::Auth(error),
        };
        self.drop_connection(slot, io);
        self.lost(slot, why, io);
    }

    /// Runs the timers that are due; whether more wait.
    fn run_timers(&mut self, io: &mut HostIo) -> bool {
        let mut due = std::mem::take(&mut self.due);
        let more = self.wheel.expire(io.now.mono_ms, TIMERS_A_TURN_MAX, &mut due);
        for slot in due.drain(..) {
            self.sessions[slot].glue.timer = None;
            self.touch(slot);
            self.timer(slot, io);
        }
        self.due = due;
        more
    }

    fn timer(&mut self, slot: u32, io: &mut HostIo) {
        let now_ms = io.now.mono_ms;
        if self.sessions[slot].glue.due_ms() <= now_ms {
            return self.state_due(slot, io);
        }
        if self.sessions[slot].machine.due_ms() <= now_ms {
            match self.with(slot, io, |machine, sink| machine.due(sink)) {
                Ok(true) => {
                    let glue = &mut self.sessions[slot].glue;
                    glue.routes = None;
                    glue.shared.shrink();
                }
                Ok(false) => {}
                Err(end) => self.end(slot, end, io),
            }
        }
    }

    /// Sees to a session for which something happened.
    fn see_to(&mut self, slot: u32, io: &mut HostIo) {
        let Some(Session { machine, glue }) = self.sessions.get_mut(slot) else { return };
        if !std::mem::take(&mut glue.is_touched) {
            return;
        }
        glue.publish_counts(machine.granted(), io.now.wall_ms);
        if glue.targets_full > 0
            && let Some(conn) = glue.conn()
            && machine.is_up()
            && !machine.is_paused()
        {
            io.pause(conn);
            machine
                .set_paused(true, &HostSink { io, conn: Some(conn), slot, glue, batches: &mut self.batches });
        }
        let due_ms = machine.due_ms().min(glue.due_ms());
        match glue.timer {
            Some((_, at_ms)) if at_ms <= due_ms => {}
            _ if due_ms == u64::MAX => {}
            timer => {
                if let Some((id, _)) = timer {
                    self.wheel.cancel(id);
                }
                glue.timer = Some((self.wheel.schedule(due_ms, slot), due_ms));
            }
        }
    }

    /// Puts what came in this turn into the targets.
    fn put_batches(&mut self) {
        for (slot, id) in self.batches.put() {
            // It may have been removed since.
            if let Some(session) = self.sessions.get_mut(slot).filter(|session| session.glue.shared.id == id)
            {
                session.glue.targets_full += 1;
                self.touch(slot);
            }
        }
    }
}

impl Core for Host {
    type Message = ();
    type Command = Look;
    type Event = ();

    fn opened(&mut self, conn: ConnId, _info: &ConnInfo, io: &mut HostIo) {
        // A client listens nowhere.
        io.close(conn);
    }

    fn connected(
        &mut self,
        ticket: ConnectTicket,
        conn: ConnId,
        _remote: Option<std::net::SocketAddr>,
        io: &mut HostIo,
    ) {
        self.dialed(ticket, conn, io);
    }

    fn connect_failed(&mut self, ticket: ConnectTicket, failure: ConnectFailure, io: &mut HostIo) {
        let Some(slot) = self.slot_of_ticket(ticket) else { return };
        let address = self.sessions[slot].glue.address_name();
        self.lost(slot, ConnectError::Transport { address, failure }, io);
    }

    fn received(&mut self, conn: ConnId, bytes: &[u8], io: &mut HostIo) {
        let Some(slot) = self.slot_of(conn) else { return };
        if let Err(end) = self.with(slot, io, |machine, sink| machine.received(bytes, sink)) {
            self.end(slot, end, io);
        }
    }

    fn drained(&mut self, conn: ConnId, io: &mut HostIo) {
        let Some(slot) = self.slot_of(conn) else { return };
        self.with(slot, io, |machine, sink| machine.drained(sink));
    }

    fn closed(&mut self, conn: ConnId, reason: CloseReason, io: &mut HostIo) {
        let Some(slot) = self.slot_of(conn) else { return };
        self.by_conn[conn.index()] = None;
        let glue = &mut self.sessions[slot].glue;
        let why = match reason {
            CloseReason::PeerClosed | CloseReason::Broken => ConnectError::Lost,
            CloseReason::Transport(fault) => ConnectError::Transport {
                address: glue.address_name(),
                failure: ConnectFailure {
                    kind: ConnectFailureKind::Transport(fault),
                    detail: format!("the broker broke a rule below MQTT: {fault:?}").into(),
                },
            },
        };
        glue.note_stray();
        self.lost(slot, why, io);
    }

    fn message(&mut self, _from: ShardId, _message: (), _io: &mut HostIo) {
        unreachable!("hosts tell each other nothing");
    }

    fn command(&mut self, _look: Look, io: &mut HostIo) {
        self.take_requests(io);
    }

    fn synced(
        &mut self,
        _ticket: SyncTicket,
        _outcome: Result<std::time::Duration, SyncFailure>,
        _io: &mut HostIo,
    ) {
        unreachable!("a host syncs nothing");
    }

    fn turn_over(&mut self, io: &mut HostIo) {
        let more = self.run_timers(io);
        self.put_batches();
        let mut touched = std::mem::take(&mut self.touched);
        for slot in touched.drain(..) {
            self.see_to(slot, io);
        }
        debug_assert!(self.touched.is_empty(), "seeing to a session touches none");
        self.touched = touched;
        io.wake_at_ms = if more { Some(io.now.mono_ms) } else { self.wheel.next_due_ms() };
    }

    fn shutdown(&mut self, io: &mut HostIo) {
        self.take_requests(io);
        self.is_stopping = true;
        let slots: Vec<u32> = self.by_id.values().copied().collect();
        for slot in slots {
            self.pull(slot, io);
            self.remove(slot, io);
        }
    }
}

/// What a normal DISCONNECT says.
const GOODBYE: ReasonCode = ReasonCode::Success;
