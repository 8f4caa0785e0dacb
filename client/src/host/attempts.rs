//! How connections come about, fail and end.

use std::time::Duration;

use ringmq_codec::ReasonCode;
use ringmq_turn::{ConnId, ConnectTicket};

use super::backoff::delay_ms;
use super::session::State;
use super::{GOODBYE, Host, HostIo};
use crate::auth::{AuthError, Credentials, CredentialsSource};
use crate::error::ConnectError;
use crate::status::{Happening, Retry};

/// Bytes of a user name or password.
const CREDENTIAL_BYTES_MAX: usize = 65_535;

impl Host {
    /// Tries the session's next address now.
    pub(super) fn attempt(&mut self, slot: u32, io: &mut HostIo) {
        self.touch(slot);
        let glue = &mut self.sessions[slot].glue;
        debug_assert!(glue.conn().is_none(), "a session has one connection");
        glue.tell(Happening::Connecting { address: usize::from(glue.address) });
        let timeout_ms = glue.shared.options.connect_timeout_ms;
        let until_ms = if timeout_ms == 0 { u64::MAX } else { io.now.mono_ms + timeout_ms };
        match &glue.shared.options.credentials {
            CredentialsSource::None => self.dial(slot, Credentials::default(), until_ms, io),
            CredentialsSource::Fixed(credentials) => {
                let credentials = (**credentials).clone();
                self.dial(slot, credentials, until_ms, io);
            }
            CredentialsSource::Provider(_) => {
                glue.state = State::Credentials { until_ms };
                glue.shared.watcher.needs_credentials(&glue.shared);
            }
        }
    }

    fn dial(&mut self, slot: u32, credentials: Credentials, until_ms: u64, io: &mut HostIo) {
        let Credentials { user, password } = &credentials;
        let longest = user.as_ref().map_or(0, String::len).max(password.as_ref().map_or(0, |it| it.len()));
        if longest > CREDENTIAL_BYTES_MAX {
            let what = format!("user name or password has {longest} bytes, where MQTT allows up to 65,535");
            return self.lost(slot, AuthError(what).into(), io);
        }
        self.attempts = self.attempts.wrapping_add(1);
        let ticket = ConnectTicket(u64::from(self.attempts) << 32 | u64::from(slot));
        let glue = &mut self.sessions[slot].glue;
        glue.state = State::Dialing { ticket, until_ms };
        glue.credentials = (credentials != Credentials::default()).then(|| Box::new(credentials));
        io.connect(ticket, glue.peers[usize::from(glue.address)]);
    }

    /// What was asked for in an attempt that goes on.
    pub(super) fn credentials(
        &mut self,
        slot: u32,
        credentials: Result<Credentials, AuthError>,
        io: &mut HostIo,
    ) {
        self.touch(slot);
        let State::Credentials { until_ms } = self.sessions[slot].glue.state else { return };
        match credentials {
            Ok(credentials) => self.dial(slot, credentials, until_ms, io),
            Err(error) => self.lost(slot, error.into(), io),
        }
    }

    /// The session that waits for the answer to this ticket.
    pub(super) fn slot_of_ticket(&self, ticket: ConnectTicket) -> Option<u32> {
        let slot = ticket.0 as u32;
        match self.sessions.get(slot)?.glue.state {
            State::Dialing { ticket: awaited, .. } if awaited == ticket => Some(slot),
            State::Dialing { .. }
            | State::Credentials { .. }
            | State::Open { .. }
            | State::Waiting { .. }
            | State::Stopped { .. } => None,
        }
    }

    /// A connection is open.
    pub(super) fn dialed(&mut self, ticket: ConnectTicket, conn: ConnId, io: &mut HostIo) {
        let Some(slot) = self.slot_of_ticket(ticket) else {
            // Given up in this very turn.
            return io.close(conn);
        };
        self.enter_conn(conn, slot);
        let glue = &mut self.sessions[slot].glue;
        let State::Dialing { until_ms, .. } = glue.state else { unreachable!("it was just looked at") };
        glue.state = State::Open { conn, until_ms };
        let credentials = glue.credentials.take().unwrap_or_default();
        if let Err(end) = self.with(slot, io, |machine, sink| machine.open(&credentials, sink)) {
            self.end(slot, end, io);
        }
    }

    /// Closes the session's connection, or gives up opening one. What is in its outbox still goes.
    pub(super) fn drop_connection(&mut self, slot: u32, io: &mut HostIo) {
        let glue = &mut self.sessions[slot].glue;
        match glue.state {
            State::Open { conn, .. } => {
                glue.note_stray();
                io.close(conn);
                self.by_conn[conn.index()] = None;
            }
            State::Dialing { ticket, .. } => io.cancel_connect(ticket),
            State::Credentials { .. } | State::Waiting { .. } | State::Stopped { .. } => {}
        }
        self.sessions[slot].glue.state = State::Stopped { by_program: false };
    }

    /// The session has no connection any more: what that leaves behind.
    fn forget_connection(&mut self, slot: u32, io: &mut HostIo) {
        debug_assert!(self.sessions[slot].glue.conn().is_none(), "it was dropped");
        self.with(slot, io, |machine, sink| machine.ended(sink));
        let glue = &mut self.sessions[slot].glue;
        glue.credentials = None;
        if std::mem::take(&mut glue.was_up) {
            glue.shared.set_connected(false);
        }
    }

    /// The connection was lost, or could not be made. Plans the next try.
    pub(super) fn lost(&mut self, slot: u32, why: ConnectError, io: &mut HostIo) {
        let was_up = self.sessions[slot].glue.was_up;
        self.sessions[slot].glue.state = State::Stopped { by_program: false };
        self.forget_connection(slot, io);
        let chance = &mut self.chance;
        let glue = &mut self.sessions[slot].glue;
        glue.count_error();
        let options = glue.shared.options.clone();
        let is_ours = is_taken_over(&why) && glue.find_stray();
        let is_final = is_final(&why, &options.credentials) && !is_ours;
        let (is_store, addresses) = (matches!(why, ConnectError::Store(_)), glue.peers.len() as u16);
        if was_up && !is_store {
            (glue.attempt, glue.round) = (0, 0);
        }
        glue.tried = if was_up { addresses } else { glue.tried + 1 };
        glue.is_hopeless = is_final && (was_up || glue.is_hopeless);
        let is_last = glue.tried >= addresses;
        let retry = if is_last && (glue.is_hopeless || !options.reconnect) {
            None
        } else {
            glue.attempt += 1;
            let delay_ms = if is_last { delay_ms(&options.backoff, glue.round, chance) } else { 0 };
            Some(Retry { attempt: glue.attempt, delay_ms })
        };
        if is_last {
            (glue.tried, glue.address, glue.is_hopeless) = (0, 0, true);
            glue.round = glue.round.saturating_add(1);
        } else {
            glue.address = (glue.address + 1) % addresses;
        }
        if let Some(Retry { delay_ms, .. }) = retry {
            glue.state = State::Waiting { at_ms: io.now.mono_ms + delay_ms };
        }
        glue.tell(Happening::Lost { why, retry });
        if !is_last && retry.is_some() {
            self.attempt(slot, io);
        }
    }

    /// What a session's state waited for is over, or due.
    pub(super) fn state_due(&mut self, slot: u32, io: &mut HostIo) {
        let glue = &self.sessions[slot].glue;
        let after = Duration::from_millis(glue.shared.options.connect_timeout_ms);
        let address = glue.address_name();
        let waited_for = match glue.state {
            State::Waiting { .. } => return self.attempt(slot, io),
            State::Stopped { .. } => return,
            State::Credentials { .. } => "credentials",
            State::Dialing { .. } => "connection",
            State::Open { .. } => "CONNACK",
        };
        self.drop_connection(slot, io);
        self.lost(slot, ConnectError::TimedOut { address, waited_for, after }, io);
    }

    /// Says DISCONNECT and closes, or gives up connecting. Nothing is tried from then on.
    pub(super) fn leave(&mut self, slot: u32, reason: ReasonCode, io: &mut HostIo) {
        if self.sessions[slot].glue.conn().is_some() {
            self.with(slot, io, |machine, sink| machine.say_disconnect(reason, sink));
        }
        let glue = &mut self.sessions[slot].glue;
        if glue.was_up {
            (glue.attempt, glue.round) = (0, 0);
        }
        self.drop_connection(slot, io);
        self.forget_connection(slot, io);
    }

    /// The program wants no connection.
    pub(super) fn disconnect(&mut self, slot: u32, io: &mut HostIo) {
        if self.sessions[slot].glue.state == (State::Stopped { by_program: true }) {
            return;
        }
        self.leave(slot, GOODBYE, io);
        let glue = &mut self.sessions[slot].glue;
        glue.state = State::Stopped { by_program: true };
        glue.tell(Happening::Disconnected);
    }

    /// The program wants a connection now.
    pub(super) fn connect(&mut self, slot: u32, io: &mut HostIo) {
        let glue = &mut self.sessions[slot].glue;
        match glue.state {
            State::Waiting { .. } | State::Stopped { .. } => {
                (glue.tried, glue.round, glue.is_hopeless) = (0, 0, true);
                self.attempt(slot, io);
            }
            State::Credentials { .. } | State::Dialing { .. } | State::Open { .. } => {}
        }
    }

    /// The program wants another connection than it has.
    pub(super) fn reconnect(&mut self, slot: u32, io: &mut HostIo) {
        match self.sessions[slot].glue.state {
            State::Stopped { by_program: true } => {}
            State::Waiting { .. } | State::Stopped { by_program: false } => self.connect(slot, io),
            State::Credentials { .. } | State::Dialing { .. } | State::Open { .. } => {
                self.disconnect(slot, io);
                self.connect(slot, io);
            }
        }
    }
}

fn is_taken_over(why: &ConnectError) -> bool {
    matches!(why, ConnectError::Disconnected { reason: ReasonCode::SessionTakenOver, .. })
}

/// Whether trying again is of no use: the broker's word is final.
fn is_final(why: &ConnectError, credentials: &CredentialsSource) -> bool {
    match why {
        ConnectError::Refused {
            reason: ReasonCode::NotAuthorized | ReasonCode::BadUserNameOrPassword,
            ..
        } if matches!(credentials, CredentialsSource::Provider(_)) => false,
        ConnectError::Refused { .. } | ConnectError::Disconnected { .. } => !why.is_temporary(),
        ConnectError::Transport { .. }
        | ConnectError::TimedOut { .. }
        | ConnectError::Lost
        | ConnectError::Unresponsive { .. }
        | ConnectError::WriteTimedOut { .. }
        | ConnectError::Protocol(_)
        | ConnectError::Auth(_)
        | ConnectError::Store(_) => false,
    }
}
