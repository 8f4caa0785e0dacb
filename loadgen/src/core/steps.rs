//! How steps begin, go on, and end; and what is told of them.

use std::sync::Arc;

use ringmq_client::parts::Wanted;
use ringmq_codec::{SubscriptionOptions, encode_pingreq};

use super::client::{NONE, State};
use super::jobs::{Asking, Churning, Job, Joining, Pinging, turns};
use super::messages::{Command, Event, Sent, Stage, Task, Told};
use super::publishing::Extent;
use super::{Load, LoadIo};
use crate::hearing::filters;
use crate::measure::Kind;

/// How long before something is due a core stops sleeping: the driver sleeps in milliseconds.
const AWAKE_BEFORE_NS: u64 = 1_500_000;
/// Figures of a step that is not measured by the clock are told this often too.
const NS_A_MS: u64 = 1_000_000;

impl Load {
    pub(super) fn obey(&mut self, command: Command, io: &mut LoadIo) {
        match command {
            Command::Begin(peers) => self.peers = peers,
            Command::Step { number, task, times } => {
                self.step = number;
                self.is_done = false;
                self.times = times;
                self.stage = Stage::WarmUp;
                let now_ns = self.now_ns;
                self.told_ns = now_ns.max(times.start_ns);
                self.sample_due_ns = now_ns.max(times.start_ns) + Self::ns(self.settings().interval);
                self.stall_due_ns = now_ns + Self::ns(self.settings().stall);
                self.begin(task, io);
            }
            Command::Stop => {
                self.times.end_ns = self.times.end_ns.min(self.now_ns);
                self.stop();
            }
            Command::Report => self.tell(io),
            Command::Sent => {
                let sent = self.publishers.iter().map(|publisher| {
                    let mut unconfirmed = publisher.unconfirmed.clone();
                    publisher.flights.open(&mut unconfirmed);
                    Sent { publisher: publisher.number, count: publisher.sent, unconfirmed }
                });
                io.event(Event::Sent(sent.collect()));
            }
            Command::Check(sent) => self.check(&sent, io),
        }
    }

    fn check(&mut self, sent: &Arc<Vec<u64>>, io: &mut LoadIo) {
        let mut lacking = Vec::new();
        for subscriber in &self.subscribers {
            if let Some(checks) = &subscriber.checks {
                checks.lacking(subscriber.group, sent, &mut lacking);
            }
        }
        // A group that is checked together is so on its own core.
        for (at, checks) in self.together.iter().enumerate() {
            if let Some(checks) = checks
                && self.plan.core_of(at, 0) == self.me.index()
            {
                checks.lacking(at, sent, &mut lacking);
            }
        }
        io.event(Event::Missing(lacking));
    }

    fn begin(&mut self, task: Task, io: &mut LoadIo) {
        let (me, cores, start_ns) = (self.me.index(), self.plan.cores, self.times.start_ns);
        self.job = match task {
            Task::Rest => Job::Rest,
            Task::Connect { groups, rate, forget, patience_ns } => Job::Connect(Joining {
                waiting: self.clients_of(&groups).into(),
                turns: turns(rate, start_ns, me, cores),
                under_way: 0,
                forget,
                patient_until_ns: start_ns.saturating_add(patience_ns),
            }),
            Task::Subscribe { groups } => {
                let waiting = self.clients_of(&groups).into_iter();
                let waiting = waiting.filter(|at| self.clients[*at as usize].up().is_some());
                Job::Subscribe(Asking { waiting: waiting.collect(), under_way: 0 })
            }
            Task::Publish { groups, messages, ramp_ns, audience } => {
                Job::Publish(self.begin_publishing(&groups, Extent { messages, ramp_ns }, &audience))
            }
            Task::Clear { groups } => Job::Publish(self.begin_clearing(&groups)),
            Task::Disconnect { groups } => {
                for at in self.clients_of(&groups) {
                    self.rejoining.retain(|(_, waiting)| *waiting != at);
                    self.say_goodbye(at, io);
                }
                Job::Rest
            }
            Task::Ping { groups } => {
                Job::Ping(Pinging { clients: self.clients_of(&groups), has_begun: false, is_over: false })
            }
            Task::Churn { groups, rate } => Job::Churn(Churning {
                idle: self.clients_of(&groups).into(),
                turns: turns(rate, start_ns, me, cores),
                under_way: 0,
                is_over: false,
            }),
        };
    }

    fn stop(&mut self) {
        match &mut self.job {
            Job::Rest => {}
            Job::Connect(joining) => joining.waiting.clear(),
            Job::Subscribe(asking) => {
                asking.waiting.clear();
                asking.under_way = 0;
            }
            Job::Publish(_) => self.stop_publishing(),
            Job::Ping(pinging) => pinging.is_over = true,
            Job::Churn(churning) => {
                churning.is_over = true;
                churning.idle.clear();
            }
        }
    }

    /// A turn's part of the step.
    pub(super) fn go_on(&mut self, io: &mut LoadIo) {
        if self.now_ns >= self.times.start_ns {
            match std::mem::take(&mut self.job) {
                Job::Rest => {}
                Job::Connect(mut joining) => {
                    self.dial_next(&mut joining, io);
                    self.job = Job::Connect(joining);
                }
                Job::Subscribe(mut asking) => {
                    self.ask_next(&mut asking, io);
                    self.job = Job::Subscribe(asking);
                }
                Job::Publish(publishing) => {
                    self.job = Job::Publish(publishing);
                    self.publish(io);
                }
                Job::Ping(mut pinging) => {
                    if !std::mem::replace(&mut pinging.has_begun, true) {
                        for at in &pinging.clients {
                            self.ping(*at, io);
                        }
                    }
                    self.job = Job::Ping(pinging);
                }
                Job::Churn(mut churning) => {
                    self.churn_next(&mut churning, io);
                    self.job = Job::Churn(churning);
                }
            }
        }
        if !self.is_done && self.is_over() {
            self.is_done = true;
            self.tell(io);
            io.event(Event::Done { number: self.step });
        }
    }

    fn is_over(&mut self) -> bool {
        match &mut self.job {
            Job::Rest => true,
            Job::Connect(joining) => joining.waiting.is_empty() && joining.under_way == 0,
            Job::Subscribe(asking) => asking.waiting.is_empty() && asking.under_way == 0,
            Job::Publish(publishing) => {
                // What is through stays so: each is looked at once.
                let publishers = &self.publishers;
                let is_through = |at: &u32| publishers[*at as usize].has_ended();
                while publishing.publishers.get(publishing.through).is_some_and(is_through) {
                    publishing.through += 1;
                }
                publishing.through == publishing.publishers.len()
            }
            Job::Ping(pinging) => {
                pinging.is_over && pinging.clients.iter().all(|at| !self.clients[*at as usize].is_pinging)
            }
            Job::Churn(churning) => churning.is_over && churning.under_way == 0,
        }
    }
}

/// Connections.
impl Load {
    /// How many may be under way at a time.
    fn at_a_time(&self) -> usize {
        (self.settings().connecting_max / self.plan.cores).max(1)
    }

    fn dial_next(&mut self, joining: &mut Joining, io: &mut LoadIo) {
        let most = self.at_a_time();
        while joining.turns.is_some() || joining.under_way < most {
            if joining.waiting.is_empty() {
                return;
            }
            if let Some(turns) = &mut joining.turns
                && turns.take(self.now_ns).is_none()
            {
                return;
            }
            let Some(at) = joining.waiting.pop_front() else { return };
            if self.clients[at as usize].state == State::Away {
                joining.under_way += 1;
                self.dial(at, io);
            }
        }
    }

    /// A client's connection was accepted, or failed.
    pub(super) fn joined(&mut self, at: u32, is_up: bool, io: &mut LoadIo) {
        match &mut self.job {
            Job::Connect(joining) => joining.under_way = joining.under_way.saturating_sub(1),
            Job::Churn(churning) => {
                churning.under_way = churning.under_way.saturating_sub(1);
                if !churning.is_over {
                    churning.idle.push_back(at);
                }
                if is_up {
                    self.say_goodbye(at, io);
                }
            }
            Job::Rest | Job::Subscribe(_) | Job::Publish(_) | Job::Ping(_) => {}
        }
    }

    fn churn_next(&mut self, churning: &mut Churning, io: &mut LoadIo) {
        while let Some(at) = churning.idle.front().copied() {
            if let Some(turns) = &mut churning.turns
                && turns.take(self.now_ns).is_none()
            {
                return;
            }
            churning.idle.pop_front();
            churning.under_way += 1;
            self.dial(at, io);
        }
        // Nobody is free: what was due is not made up for, which a rate that cannot be kept would pile up.
    }
}

/// Subscriptions and pings.
impl Load {
    fn ask_next(&mut self, asking: &mut Asking, io: &mut LoadIo) {
        let most = self.at_a_time();
        while asking.under_way < most {
            let Some(at) = asking.waiting.pop_front() else { return };
            if self.clients[at as usize].up().is_none() {
                continue;
            }
            asking.under_way += 1;
            let plan = Arc::clone(&self.plan);
            let (group, index) =
                (usize::from(self.clients[at as usize].group), self.clients[at as usize].index);
            let group = &plan.scenario.groups[group];
            let Some(subscribe) = &group.subscribe else {
                asking.under_way -= 1;
                continue;
            };
            let (count, outcomes) = self.with(at, io, |machine, link| {
                let options = SubscriptionOptions { qos: subscribe.qos, ..SubscriptionOptions::default() };
                let mut count = 0;
                for filter in filters(group, subscribe, &plan.run, index) {
                    count += 1;
                    let filter = match &subscribe.share {
                        Some(share) => format!("$share/{share}/{filter}"),
                        None => filter,
                    };
                    let wanted = Wanted { filter: filter.into(), options, subscription_id: 0 };
                    machine.subscribe(wanted, Some(link.now_ns), link);
                }
                count
            });
            // What is refused without a question is answered at once.
            self.clients[at as usize].asking = count - outcomes.answered.min(count);
            if self.clients[at as usize].asking == 0 {
                asking.under_way -= 1;
            }
        }
    }

    /// Some of a client's subscriptions were answered.
    pub(super) fn were_answered(&mut self, at: u32, answered: u32) {
        let client = &mut self.clients[at as usize];
        let was_asking = client.asking > 0;
        client.asking = client.asking.saturating_sub(answered);
        if was_asking
            && client.asking == 0
            && let Job::Subscribe(asking) = &mut self.job
        {
            asking.under_way = asking.under_way.saturating_sub(1);
        }
    }

    pub(super) fn ping(&mut self, at: u32, io: &mut LoadIo) {
        if let Some(conn) = self.clients[at as usize].up() {
            encode_pingreq(io.outbox(conn).tail());
            let client = &mut self.clients[at as usize];
            (client.is_pinging, client.since_ns) = (true, self.now_ns);
        }
    }

    pub(super) fn ponged(&mut self, at: u32, io: &mut LoadIo) {
        let client = &mut self.clients[at as usize];
        client.is_pinging = false;
        let since_ns = client.since_ns;
        self.sample.counts.pings += 1;
        if since_ns >= self.times.measured_ns {
            self.sample.record(Kind::Ping, self.now_ns.saturating_sub(since_ns));
        }
        if let Job::Ping(pinging) = &self.job
            && !pinging.is_over
        {
            self.ping(at, io);
        }
    }
}

/// The clock.
impl Load {
    /// Tells what was measured since the last time.
    pub(super) fn tell(&mut self, io: &mut LoadIo) {
        let (from_ns, to_ns) = (self.told_ns, self.now_ns);
        self.told_ns = to_ns;
        let sample = Box::new(std::mem::take(&mut self.sample));
        io.event(Event::Sample(Told { stage: self.stage, from_ns, to_ns, sample }));
    }

    pub(super) fn look_at_clock(&mut self, io: &mut LoadIo) {
        let now_ns = self.now_ns;
        let stage = if now_ns >= self.times.end_ns {
            Stage::Drain
        } else if now_ns >= self.times.measured_ns {
            Stage::Measured
        } else {
            Stage::WarmUp
        };
        if stage != self.stage {
            self.tell(io);
            self.stage = stage;
        }
        if stage == Stage::Drain && !self.is_done {
            self.stop();
        }
        if now_ns >= self.sample_due_ns {
            self.tell(io);
            self.sample_due_ns += Self::ns(self.settings().interval);
        }
        if now_ns >= self.stall_due_ns {
            self.stall_due_ns = now_ns + Self::ns(self.settings().stall);
            self.look_for_stalls();
        }
    }

    fn look_for_stalls(&mut self) {
        for publisher in 0..self.publishers.len() as u32 {
            let window = self.publishers[publisher as usize].window.as_mut();
            let given_up = window.map_or(0, |window| window.stalled());
            if given_up > 0 {
                self.sample.counts.given_up += given_up;
                self.list(publisher);
            }
        }
    }

    /// Says when the next turn is wanted at the latest.
    pub(super) fn plan_next_turn(&mut self, io: &mut LoadIo) {
        let now_ns = self.now_ns;
        let turns_ns = match &self.job {
            Job::Connect(joining) if !joining.waiting.is_empty() => {
                joining.turns.as_ref().map(|it| it.next_ns())
            }
            Job::Churn(churning) if !churning.idle.is_empty() => {
                churning.turns.as_ref().map(|it| it.next_ns())
            }
            Job::Publish(publishing) if !publishing.is_over => {
                publishing.scheduled.iter().map(|scheduled| scheduled.turns.next_ns()).min()
            }
            Job::Rest
            | Job::Connect(_)
            | Job::Subscribe(_)
            | Job::Publish(_)
            | Job::Ping(_)
            | Job::Churn(_) => None,
        };
        let is_waiting_to_start = self.times.start_ns > now_ns && !self.is_done;
        let start_ns = if is_waiting_to_start { self.times.start_ns } else { u64::MAX };
        let exact_ns = turns_ns.filter(|_| !is_waiting_to_start).unwrap_or(u64::MAX);
        // What is due on time is waited for awake; the rest may be a little late.
        let now_ms = io.now.mono_ms;
        let exact_ms = match exact_ns.saturating_sub(now_ns) {
            _ if exact_ns == u64::MAX => None,
            left if left <= AWAKE_BEFORE_NS => Some(now_ms),
            left => Some(now_ms + (left - AWAKE_BEFORE_NS) / NS_A_MS),
        };
        let later_ns =
            [self.times.measured_ns, self.times.end_ns, self.sample_due_ns, self.stall_due_ns, start_ns];
        let rejoin_ns = self.rejoining.front().map(|(due_ns, _)| *due_ns);
        let later_ns = later_ns
            .into_iter()
            .chain(rejoin_ns)
            .filter(|due_ns| *due_ns > now_ns && *due_ns != u64::MAX)
            .min();
        let later_ms = later_ns.map(|due_ns| now_ms + (due_ns - now_ns).div_ceil(NS_A_MS));
        let more_ms = (!self.ready.is_empty()).then_some(now_ms);
        io.wake_at_ms = [io.wake_at_ms, exact_ms, later_ms, more_ms].into_iter().flatten().min();
    }

    /// Messages of other cores' publishers arrived here.
    pub(super) fn cross(&mut self, io: &mut LoadIo) {
        for (core, arrived) in self.crossing.iter_mut().enumerate() {
            if !arrived.is_empty() {
                io.message(ringmq_turn::ShardId::new(core), std::mem::take(arrived));
            }
        }
    }

    /// The publisher of a client.
    pub(super) fn publisher_of(&self, at: u32) -> Option<u32> {
        Some(self.clients[at as usize].publisher).filter(|publisher| *publisher != NONE)
    }
}
