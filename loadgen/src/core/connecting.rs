//! How clients come and go.

use ringmq_client::Credentials;
use ringmq_client::parts::{End, Machine, Restored};
use ringmq_codec::ReasonCode;
use ringmq_turn::{CloseReason, ConnId, ConnectFailure, ConnectTicket};

use super::client::{NONE, State};
use super::jobs::Job;
use super::link::{Outcomes, words};
use super::{Load, LoadIo, TIMERS_A_TURN};
use crate::measure::Kind;
use crate::pattern::Pattern;

/// How long a client that lost its connection waits before it tries again.
const REJOIN_AFTER_NS: u64 = 1_000_000_000;
/// The same for one whose broker is on its way up.
const RETRY_AFTER_NS: u64 = 100_000_000;

impl Load {
    /// Opens a client's connection.
    pub(super) fn dial(&mut self, at: u32, io: &mut LoadIo) {
        self.attempts = self.attempts.wrapping_add(1);
        let ticket = ConnectTicket(u64::from(self.attempts) << 32 | u64::from(at));
        let timeout_ms = self.settings().connect_timeout.as_millis() as u64;
        let client = &mut self.clients[at as usize];
        debug_assert_eq!(client.state, State::Away);
        client.state = State::Dialling(ticket);
        client.since_ns = self.now_ns;
        io.connect(ticket, self.peers[usize::from(client.group)]);
        self.set_timer(at, io.now.mono_ms + timeout_ms);
    }

    fn set_timer(&mut self, at: u32, due_ms: u64) {
        let client = &mut self.clients[at as usize];
        if let Some(timer) = client.timer.take() {
            self.wheel.cancel(timer);
        }
        if due_ms != u64::MAX {
            client.timer = Some(self.wheel.schedule(due_ms, at));
        }
    }

    fn of_ticket(&self, ticket: ConnectTicket) -> Option<u32> {
        let at = ticket.0 as u32;
        (self.clients.get(at as usize)?.state == State::Dialling(ticket)).then_some(at)
    }

    pub(super) fn dialled(&mut self, ticket: ConnectTicket, conn: ConnId, io: &mut LoadIo) {
        let Some(at) = self.of_ticket(ticket) else { return io.close(conn) };
        if self.by_conn.len() <= conn.index() {
            self.by_conn.resize(conn.index() + 1, NONE);
        }
        self.by_conn[conn.index()] = at;
        self.clients[at as usize].state = State::Greeting(conn);
        let (group, index) = (usize::from(self.clients[at as usize].group), self.clients[at as usize].index);
        if self.clients[at as usize].machine.is_none() {
            let id = self.plan.scenario.groups[group].client_id.fill(&self.plan.values(group, index, 0));
            let options = self.options[self.options_of(group)].clone();
            let machine = Machine::new(options, Restored::default()).with_client_id(id);
            self.clients[at as usize].machine = Some(Box::new(machine));
        }
        let credentials = self.credentials(group, index);
        let (opened, _) = self.with(at, io, |machine, link| machine.open(&credentials, link));
        if let Err(end) = opened {
            self.end(at, &end, io);
        }
    }

    /// Options are those of the groups, and then those with which their clients are forgotten.
    fn options_of(&self, group: usize) -> usize {
        let is_forgetting = matches!(&self.job, Job::Connect(joining) if joining.forget);
        if is_forgetting { self.plan.groups.len() + group } else { group }
    }

    fn credentials(&self, group: usize, index: u32) -> Credentials {
        let target = &self.plan.scenario.target;
        let user = target.user.as_ref().map(|user| match Pattern::parse(user) {
            Ok(pattern) => pattern.fill(&self.plan.values(group, index, 0)),
            Err(_) => user.clone(),
        });
        Credentials { user, password: target.password.clone().map(Into::into) }
    }

    pub(super) fn dial_failed(&mut self, ticket: ConnectTicket, failure: &ConnectFailure, io: &mut LoadIo) {
        if let Some(at) = self.of_ticket(ticket) {
            self.clients[at as usize].state = State::Away;
            self.not_connected(at, &failure.detail, io);
        }
    }

    /// A connection did not come about.
    fn not_connected(&mut self, at: u32, why: &str, io: &mut LoadIo) {
        self.set_timer(at, u64::MAX);
        self.clients[at as usize].clear();
        if let Job::Connect(joining) = &self.job
            && joining.patient_until_ns > self.now_ns
        {
            return self.rejoining.push_back((self.now_ns + RETRY_AFTER_NS, at));
        }
        self.sample.counts.connect_failed += 1;
        self.sample.trouble(why);
        self.joined(at, false, io);
    }

    /// The machine did something: what follows.
    pub(super) fn follow(&mut self, at: u32, outcomes: Outcomes, io: &mut LoadIo) {
        if let Some((is_resumed, receive_maximum)) = outcomes.connected {
            self.accepted(at, is_resumed, receive_maximum, io);
        }
        if outcomes.answered > 0 {
            self.were_answered(at, outcomes.answered);
        }
    }

    fn accepted(&mut self, at: u32, is_resumed: bool, receive_maximum: u16, io: &mut LoadIo) {
        let client = &mut self.clients[at as usize];
        let conn = client.conn().expect("CONNACK came over it");
        client.state = State::Up(conn);
        self.sample.counts.connected += 1;
        self.sample.counts.resumed += u64::from(is_resumed);
        self.sample.record(Kind::Connect, self.now_ns.saturating_sub(client.since_ns));
        let due_ms = client.machine.as_ref().map_or(u64::MAX, |machine| machine.due_ms());
        let publisher = client.publisher;
        self.set_timer(at, due_ms);
        if publisher != NONE {
            self.publishers[publisher as usize].receive_maximum = receive_maximum;
            self.list(publisher);
        }
        self.joined(at, true, io);
    }

    /// The machine gives its connection up.
    pub(super) fn end(&mut self, at: u32, end: &End, io: &mut LoadIo) {
        let was_up = self.clients[at as usize].up().is_some();
        if let Some(conn) = self.clients[at as usize].conn() {
            io.close(conn);
            self.by_conn[conn.index()] = NONE;
        }
        self.connection_gone(at, was_up, &words(end), io);
    }

    pub(super) fn closed_by_peer(&mut self, at: u32, reason: CloseReason, io: &mut LoadIo) {
        let was_up = self.clients[at as usize].up().is_some();
        let why = match (reason, was_up) {
            (CloseReason::PeerClosed, true) => "the broker closed the connection".to_owned(),
            (CloseReason::PeerClosed, false) => {
                "the broker closed the connection before CONNACK: does it speak this version of MQTT, and allow so \
                 many connections?"
                    .to_owned()
            }
            (CloseReason::Broken, _) => "the connection broke".to_owned(),
            (CloseReason::Transport(fault), _) => format!("the connection broke below MQTT: {fault:?}"),
        };
        self.connection_gone(at, was_up, &why, io);
    }

    fn connection_gone(&mut self, at: u32, was_up: bool, why: &str, io: &mut LoadIo) {
        self.clients[at as usize].clear();
        self.with(at, io, |machine, link| machine.ended(link));
        self.forget_flights(at);
        if !was_up {
            return self.not_connected(at, why, io);
        }
        self.set_timer(at, u64::MAX);
        self.sample.counts.connections_lost += 1;
        self.sample.trouble(why);
        if let Job::Churn(churning) = &mut self.job {
            churning.idle.push_back(at);
        } else {
            self.rejoining.push_back((self.now_ns + REJOIN_AFTER_NS, at));
        }
    }

    fn forget_flights(&mut self, at: u32) {
        let publisher = self.clients[at as usize].publisher;
        if publisher != NONE {
            self.publishers[publisher as usize].lost();
        }
    }

    /// Clients that lost their connection try again.
    pub(super) fn rejoin(&mut self, io: &mut LoadIo) {
        while let Some((due_ns, at)) = self.rejoining.front().copied() {
            if due_ns > self.now_ns {
                return;
            }
            self.rejoining.pop_front();
            if self.clients[at as usize].state == State::Away {
                self.dial(at, io);
            }
        }
    }

    /// Says DISCONNECT, and closes.
    pub(super) fn say_goodbye(&mut self, at: u32, io: &mut LoadIo) {
        match self.clients[at as usize].state {
            State::Away => {}
            State::Dialling(ticket) => io.cancel_connect(ticket),
            State::Greeting(conn) | State::Up(conn) => {
                self.with(at, io, |machine, link| machine.say_disconnect(ReasonCode::Success, link));
                io.close(conn);
                self.by_conn[conn.index()] = NONE;
                self.clients[at as usize].clear();
                self.with(at, io, |machine, link| machine.ended(link));
                self.forget_flights(at);
            }
        }
        self.set_timer(at, u64::MAX);
        let client = &mut self.clients[at as usize];
        client.clear();
        // What the broker forgets, the machine need not remember.
        let group = &self.plan.scenario.groups[usize::from(client.group)];
        if group.clean_start || matches!(&self.job, Job::Connect(joining) if joining.forget) {
            client.machine = None;
        }
    }

    pub(super) fn run_timers(&mut self, io: &mut LoadIo) {
        let mut due = std::mem::take(&mut self.due);
        let more = self.wheel.expire(io.now.mono_ms, TIMERS_A_TURN, &mut due);
        for at in due.drain(..) {
            self.clients[at as usize].timer = None;
            self.timer_fired(at, io);
        }
        self.due = due;
        io.wake_at_ms = if more { Some(io.now.mono_ms) } else { self.wheel.next_due_ms() };
    }

    fn timer_fired(&mut self, at: u32, io: &mut LoadIo) {
        let timeout = self.settings().connect_timeout;
        match self.clients[at as usize].state {
            State::Away => {}
            State::Dialling(ticket) => {
                io.cancel_connect(ticket);
                let why = format!("the broker's address did not answer within {timeout:?}");
                self.not_connected(at, &why, io);
            }
            State::Greeting(conn) => {
                io.close(conn);
                self.by_conn[conn.index()] = NONE;
                let why = format!("the broker sent no CONNACK within {timeout:?}");
                self.connection_gone(at, false, &why, io);
            }
            State::Up(_) => {
                let (due, _) = self.with(at, io, |machine, link| machine.due(link));
                match due {
                    Ok(_) => {
                        let due_ms =
                            self.clients[at as usize].machine.as_ref().map_or(u64::MAX, |it| it.due_ms());
                        self.set_timer(at, due_ms);
                    }
                    Err(end) => self.end(at, &end, io),
                }
            }
        }
    }
}
