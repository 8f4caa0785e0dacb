//! What programs ask of a host.

use std::sync::Arc;

use ringmq_codec::ReasonCode;

use super::session::{Glue, Session, State};
use super::{GOODBYE, Host, HostIo};
use crate::error::{ConnectError, Error};
use crate::link::{Begin, Request, SessionId, SessionShared};
use crate::machine::Machine;
use crate::status::Happening;

/// A list with room for more requests is given back to the allocator.
const REQUESTS_KEPT_MAX: usize = 1024;

impl Host {
    /// Does what is asked for in the mailbox.
    pub(super) fn take_requests(&mut self, io: &mut HostIo) {
        let mut requests = std::mem::take(&mut self.requests);
        self.mailbox.take(&mut requests);
        for request in requests.drain(..) {
            self.request(request, io);
        }
        if requests.capacity() > REQUESTS_KEPT_MAX {
            // After thousands of sessions were added at once, say.
            requests = Vec::new();
        }
        self.requests = requests;
    }

    fn slot_of_session(&self, id: SessionId) -> Option<u32> {
        self.by_id.get(&id.0).copied()
    }

    fn request(&mut self, request: Request, io: &mut HostIo) {
        match request {
            Request::Add(shared, begin) => self.add(shared, *begin, io),
            Request::Remove(id) => self.for_session(id, io, Self::remove),
            Request::Publications(id) => self.for_session(id, io, Self::pull),
            Request::Connect(id) => self.for_session(id, io, Self::connect),
            Request::Disconnect(id) => self.for_session(id, io, Self::disconnect),
            Request::Reconnect(id) => self.for_session(id, io, Self::reconnect),
            Request::RoomAgain(id) => self.for_session(id, io, Self::room_again),
            Request::Subscribe(id, wanted, answer) => match self.slot_of_session(id) {
                Some(slot) => {
                    self.with(slot, io, |machine, sink| machine.subscribe(wanted, Some(Some(answer)), sink));
                }
                None => answer.settle(Err(Error::Gone)),
            },
            Request::Unsubscribe(id, filter, answer) => match self.slot_of_session(id) {
                Some(slot) => {
                    self.with(slot, io, |machine, sink| machine.unsubscribe(&filter, Some(answer), sink));
                }
                None => answer.settle(Err(Error::Gone)),
            },
            Request::Reauthenticate(id, answer) => match self.slot_of_session(id) {
                Some(slot) => {
                    let outcome =
                        self.with(slot, io, |machine, sink| machine.reauthenticate(Some(answer), sink));
                    if let Err(end) = outcome {
                        self.end(slot, end, io);
                    }
                }
                None => answer.settle(Err(Error::Gone)),
            },
            Request::Acknowledge(id, acknowledgement) => {
                if let Some(slot) = self.slot_of_session(id) {
                    self.with(slot, io, |machine, sink| machine.acknowledge(acknowledgement, sink));
                }
            }
            Request::Credentials(id, credentials) => {
                if let Some(slot) = self.slot_of_session(id) {
                    self.credentials(slot, credentials, io);
                }
            }
            Request::Stored(id, outcome) => {
                if let Some(slot) = self.slot_of_session(id) {
                    self.stored(slot, outcome, io);
                }
            }
        }
    }

    fn for_session(&mut self, id: SessionId, io: &mut HostIo, act: fn(&mut Self, u32, &mut HostIo)) {
        if let Some(slot) = self.slot_of_session(id) {
            self.touch(slot);
            act(self, slot, io);
        }
    }

    fn add(&mut self, shared: Arc<SessionShared>, begin: Begin, io: &mut HostIo) {
        let id = shared.id;
        debug_assert!(!self.by_id.contains_key(&id.0), "ids are not used again");
        let is_paused = begin.is_paused;
        let mut machine = Machine::new(shared.options.clone(), begin.restored);
        machine.begin_at(io.now.mono_ms);
        let slot = self.sessions.insert(Session { machine, glue: Glue::new(shared, begin.peers) });
        self.by_id.insert(id.0, slot);
        self.touch(slot);
        if self.is_stopping {
            return self.remove(slot, io);
        }
        // Some may have been published before.
        self.pull(slot, io);
        if is_paused {
            self.sessions[slot].glue.state = State::Stopped { by_program: true };
        } else {
            self.attempt(slot, io);
        }
    }

    /// Takes what was published.
    pub(super) fn pull(&mut self, slot: u32, io: &mut HostIo) {
        let mut publications = std::mem::take(&mut self.publications);
        self.sessions[slot].glue.shared.take_publications(&mut publications);
        self.with(slot, io, |machine, sink| {
            for publication in publications.drain(..) {
                machine.publish(publication, sink);
            }
        });
        self.publications = publications;
    }

    /// Ends a session. Nothing of it is left.
    pub(super) fn remove(&mut self, slot: u32, io: &mut HostIo) {
        let shared = self.sessions[slot].glue.shared.clone();
        shared.set_gone();
        self.pull(slot, io);
        self.leave(slot, GOODBYE, io);
        self.with(slot, io, |machine, sink| machine.gone(sink));
        let Session { machine, mut glue } = self.sessions.remove(slot);
        glue.publish_counts(0, io.now.wall_ms);
        debug_assert_eq!(machine.unsettled(), 0, "everything was settled");
        if let Some((timer, _)) = glue.timer {
            self.wheel.cancel(timer);
        }
        self.by_id.remove(&shared.id.0);
        glue.tell(Happening::Removed);
    }

    /// A target of the session's has room again.
    fn room_again(&mut self, slot: u32, io: &mut HostIo) {
        let glue = &mut self.sessions[slot].glue;
        glue.targets_full = glue.targets_full.saturating_sub(1);
        if glue.targets_full == 0
            && let Some(conn) = glue.conn()
            && self.sessions[slot].machine.is_paused()
        {
            io.resume(conn);
            self.with(slot, io, |machine, sink| machine.set_paused(false, sink));
        }
    }

    fn stored(&mut self, slot: u32, outcome: Result<u64, Arc<str>>, io: &mut HostIo) {
        match outcome {
            Ok(up_to) => self.with(slot, io, |machine, sink| machine.stored(up_to, sink)),
            Err(why) => {
                self.touch(slot);
                let Session { machine, glue } = &mut self.sessions[slot];
                machine.store_failed();
                glue.shared.watcher.store_failed(&glue.shared, &why);
                if matches!(glue.state, State::Open { .. }) {
                    self.with(slot, io, |machine, sink| {
                        machine.say_disconnect(ReasonCode::ImplementationSpecificError, sink);
                    });
                    self.drop_connection(slot, io);
                    self.lost(slot, ConnectError::Store(Box::from(&*why)), io);
                }
            }
        }
    }
}
