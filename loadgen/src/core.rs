//! One I/O core of the load generator: clients, publishers and subscribers, run without a hop between threads.
//!
//! Each client's session is a machine of the client library: it connects, authenticates, subscribes and keeps the
//! connection alive. What comes and goes by the million passes it by: PUBLISH and its acknowledgements are
//! written from templates by `publisher`, and read where they lie by `incoming` and `subscriber`.

mod client;
pub(crate) mod clock;
mod connecting;
mod flights;
mod incoming;
mod jobs;
mod link;
pub(crate) mod messages;
mod publisher;
mod publishing;
mod steps;
mod subscriber;
mod template;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ringmq_client::parts::Machine;
use ringmq_turn::{
    CloseReason, ConnId, ConnInfo, ConnectFailure, ConnectTicket, Core, Io, PeerId, ShardId, SyncFailure,
    SyncTicket, Wheel,
};

use crate::check::Run;
use crate::hearing::Hearing;
use crate::measure::Sample;
use crate::plan::Plan;
use client::{Client, NONE, Shared};
use clock::Clock;
use jobs::Job;
use link::{Link, Outcomes};
use messages::{Arrived, Command, Event, Stage, Times};
use publisher::Publisher;
use subscriber::{Checks, Gathering, Subscriber};

pub(crate) type LoadIo = Io<Vec<Arrived>, Event>;

/// Where a publisher's number leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Home {
    /// To this place in the core's table.
    Here(u32),
    Core(u16),
}

/// One core.
pub(crate) struct Load {
    me: ShardId,
    plan: Arc<Plan>,
    clock: Clock,
    /// The time, read at the start of each call of the driver's.
    now_ns: u64,
    options: Arc<[Shared]>,
    peers: Vec<PeerId>,
    clients: Vec<Client>,
    /// By group: the first of its clients here, and how many there are.
    groups: Vec<(u32, u32)>,
    publishers: Vec<Publisher>,
    subscribers: Vec<Subscriber>,
    /// By group: what is checked for its clients together.
    together: Vec<Option<Checks>>,
    /// By publisher.
    homes: Vec<Home>,
    /// Client by connection slot; [`NONE`] for none.
    by_conn: Vec<u32>,
    wheel: Wheel<u32>,
    due: Vec<u32>,
    attempts: u32,
    /// Clients that lost their connection, and when they try again.
    rejoining: VecDeque<(u64, u32)>,
    job: Job,
    step: u32,
    is_done: bool,
    times: Times,
    stage: Stage,
    sample: Sample,
    sample_due_ns: u64,
    /// When it was last told what was measured.
    told_ns: u64,
    stall_due_ns: u64,
    /// Publishers that may send in this turn.
    ready: Vec<u32>,
    gathering: Gathering,
    answers: Vec<u8>,
    /// For other cores.
    crossing: Vec<Vec<Arrived>>,
}

/// Timers that fire in one turn.
const TIMERS_A_TURN: usize = 1024;

impl Load {
    pub fn new(me: ShardId, plan: Arc<Plan>, options: Arc<[Shared]>, clock: Clock) -> Self {
        let core = me.index();
        let count = plan.publishers();
        let mut load = Self {
            me,
            clock,
            now_ns: 0,
            options,
            peers: Vec::new(),
            clients: Vec::new(),
            groups: Vec::new(),
            publishers: Vec::new(),
            subscribers: Vec::new(),
            together: Vec::new(),
            homes: vec![Home::Core(0); count],
            by_conn: Vec::new(),
            wheel: Wheel::new(0),
            due: Vec::new(),
            attempts: 0,
            rejoining: VecDeque::new(),
            job: Job::Rest,
            step: 0,
            is_done: true,
            times: Times { start_ns: 0, measured_ns: 0, end_ns: u64::MAX },
            stage: Stage::WarmUp,
            sample: Sample::default(),
            sample_due_ns: u64::MAX,
            told_ns: 0,
            stall_due_ns: u64::MAX,
            ready: Vec::new(),
            gathering: Gathering::default(),
            answers: Vec::new(),
            crossing: (0..plan.cores).map(|_| Vec::new()).collect(),
            plan: Arc::clone(&plan),
        };
        for (at, group) in plan.groups.iter().enumerate() {
            load.add_group(at, core);
            for index in 0..group.publishers {
                let home = plan.core_of(at, index);
                if home != core {
                    load.homes[(group.first_publisher + index) as usize] = Home::Core(home as u16);
                }
            }
        }
        load
    }

    fn add_group(&mut self, at: usize, core: usize) {
        let plan = Arc::clone(&self.plan);
        let group = &plan.groups[at];
        let is_ordered = |publisher: u32| {
            let (group, _) = plan.publisher(publisher);
            plan.scenario.groups[group].publish.as_ref().is_none_or(|publish| publish.topics == 1)
        };
        let first = self.clients.len() as u32;
        for index in plan.clients_of(at, core) {
            let mut client = Client::new(at, index);
            if group.publishers > 0 {
                let number = group.first_publisher + index;
                client.publisher = self.publishers.len() as u32;
                self.homes[number as usize] = Home::Here(client.publisher);
                self.publishers.push(Publisher::new(self.clients.len() as u32, at, index, number));
            }
            if let Some(hearing) = &group.hearing {
                client.subscriber = self.subscribers.len() as u32;
                let checks = match hearing {
                    Hearing::Each(lists) => Some(Checks::new(Arc::clone(&lists[index as usize]), is_ordered)),
                    Hearing::Together(_) | Hearing::Anything => None,
                };
                self.subscribers.push(Subscriber::new(at, checks));
            }
            self.clients.push(client);
        }
        self.groups.push((first, self.clients.len() as u32 - first));
        self.together.push(match &group.hearing {
            Some(Hearing::Together(list)) => Some(Checks::new(Arc::clone(list), |_| false)),
            Some(Hearing::Each(_) | Hearing::Anything) | None => None,
        });
    }

    /// The clients of these groups that are here.
    fn clients_of(&self, groups: &[usize]) -> Vec<u32> {
        groups.iter().flat_map(|at| self.groups[*at].0..self.groups[*at].0 + self.groups[*at].1).collect()
    }

    /// Calls the machine of a client.
    fn with<R>(
        &mut self,
        at: u32,
        io: &mut LoadIo,
        call: impl FnOnce(&mut Machine<u64>, &mut Link<'_>) -> R,
    ) -> (R, Outcomes) {
        let client = &mut self.clients[at as usize];
        let conn = client.conn();
        let machine = client.machine.as_mut().expect("a client with a connection has a machine");
        let now_ns = self.now_ns;
        let mut link = Link { io, conn, sample: &mut self.sample, now_ns, outcomes: Outcomes::default() };
        let result = call(machine, &mut link);
        (result, link.outcomes)
    }

    /// The client of a connection.
    fn client_of(&self, conn: ConnId) -> Option<u32> {
        self.by_conn.get(conn.index()).copied().filter(|at| *at != NONE)
    }

    /// Its publisher may have room now.
    fn list(&mut self, publisher: u32) {
        let it = &mut self.publishers[publisher as usize];
        if !it.is_listed && !it.is_through() {
            it.is_listed = true;
            self.ready.push(publisher);
        }
    }

    /// Messages of a publisher arrived here or elsewhere.
    fn arrived(&mut self, arrived: Arrived) {
        match self.homes[arrived.publisher as usize] {
            Home::Here(publisher) => self.arrived_here(publisher, arrived.run),
            Home::Core(core) => self.crossing[usize::from(core)].push(arrived),
        }
    }

    #[inline]
    fn arrived_here(&mut self, publisher: u32, run: Run) {
        if let Some(window) = &mut self.publishers[publisher as usize].window {
            window.arrived(run);
            if window.room() > 0 {
                self.list(publisher);
            }
        }
    }

    fn look_at_time(&mut self) {
        self.now_ns = self.clock.now_ns();
    }

    fn settings(&self) -> &crate::scenario::Settings {
        &self.plan.scenario.settings
    }

    /// How long something takes on the run's clock.
    fn ns(time: Duration) -> u64 {
        u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
    }
}

impl Core for Load {
    type Message = Vec<Arrived>;
    type Command = Command;
    type Event = Event;

    fn opened(&mut self, _conn: ConnId, _info: &ConnInfo, _io: &mut LoadIo) {
        unreachable!("nobody is listened for");
    }

    fn connected(
        &mut self,
        ticket: ConnectTicket,
        conn: ConnId,
        _remote: Option<SocketAddr>,
        io: &mut LoadIo,
    ) {
        self.look_at_time();
        self.dialled(ticket, conn, io);
    }

    fn connect_failed(&mut self, ticket: ConnectTicket, failure: ConnectFailure, io: &mut LoadIo) {
        self.look_at_time();
        self.dial_failed(ticket, &failure, io);
    }

    fn received(&mut self, conn: ConnId, bytes: &[u8], io: &mut LoadIo) {
        if let Some(at) = self.client_of(conn) {
            self.look_at_time();
            self.bytes_came(at, bytes, io);
        }
    }

    fn drained(&mut self, conn: ConnId, _io: &mut LoadIo) {
        let Some(at) = self.client_of(conn) else { return };
        let publisher = self.clients[at as usize].publisher;
        if publisher != NONE {
            self.publishers[publisher as usize].is_blocked = false;
            self.list(publisher);
        }
    }

    fn closed(&mut self, conn: ConnId, reason: CloseReason, io: &mut LoadIo) {
        if let Some(at) = self.client_of(conn) {
            self.look_at_time();
            self.by_conn[conn.index()] = NONE;
            self.closed_by_peer(at, reason, io);
        }
    }

    fn message(&mut self, _from: ShardId, message: Vec<Arrived>, _io: &mut LoadIo) {
        for arrived in message {
            if let Home::Here(publisher) = self.homes[arrived.publisher as usize] {
                self.arrived_here(publisher, arrived.run);
            }
        }
    }

    fn command(&mut self, command: Command, io: &mut LoadIo) {
        self.look_at_time();
        self.obey(command, io);
    }

    fn synced(&mut self, _ticket: SyncTicket, _outcome: Result<Duration, SyncFailure>, _io: &mut LoadIo) {
        unreachable!("nothing is synced");
    }

    fn turn_over(&mut self, io: &mut LoadIo) {
        self.look_at_time();
        self.run_timers(io);
        self.rejoin(io);
        self.look_at_clock(io);
        self.go_on(io);
        self.cross(io);
        self.plan_next_turn(io);
    }

    fn shutdown(&mut self, io: &mut LoadIo) {
        self.look_at_time();
        self.job = Job::Rest;
        for at in 0..self.clients.len() as u32 {
            self.say_goodbye(at, io);
        }
    }
}
