//! One client's publishing.

use ringmq_turn::Outbox;

use super::flights::{Flight, Flights, UNNUMBERED};
use super::template::{Body, Particular, Template, write_clearing, write_different};
use crate::check::Run;
use crate::measure::{Kind, Sample};
use crate::pace::{Turns, Window};
use crate::payload::Stamp;
use crate::plan::Plan;
use crate::random::Random;
use crate::scenario::{Pace, Pick, WINDOW_MAX};

/// Why messages are sent.
#[derive(Debug, Default)]
pub(crate) enum Purpose {
    /// None are.
    #[default]
    Rest,
    /// As many as the window takes.
    Window,
    /// By a schedule, as the publisher at this place of a core's turns.
    Schedule { at: usize, due: u64 },
    /// To have retained messages forgotten, from the first topic on.
    Clear { next: u64 },
}

/// A client that publishes.
#[derive(Debug)]
pub(crate) struct Publisher {
    pub client: u32,
    pub group: usize,
    /// Among its group.
    pub index: u32,
    /// Among all.
    pub number: u32,
    pub sent: u64,
    pub flights: Flights,
    pub window: Option<Window>,
    pub purpose: Purpose,
    /// Messages that were sent when the step began, and those after which it ends.
    from: u64,
    until: u64,
    /// Copies of each message that subscribers are to get, and that are kept for them.
    listening: u32,
    away: u32,
    /// What the broker takes of messages that are not acknowledged.
    pub receive_maximum: u16,
    /// It has too many bytes to write already.
    pub is_blocked: bool,
    /// It is among those that may send in this turn.
    pub is_listed: bool,
    pub unconfirmed: Vec<Run>,
    template: Option<Box<Template>>,
    random: Random,
    /// The last topic, for its memory.
    name: Vec<u8>,
}

/// How a step has a publisher send.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Orders {
    pub messages: u64,
    pub listening: u32,
    pub away: u32,
}

/// The surroundings of sending over an open connection.
pub(crate) struct Way<'a> {
    pub plan: &'a Plan,
    /// Of the publisher's group, where it sends at a rate.
    pub turns: Option<&'a Turns>,
    pub now_ns: u64,
    pub backlog_high_bytes: usize,
    pub out: &'a mut Outbox,
    pub sample: &'a mut Sample,
}

/// Bytes that a publisher writes between two looks at its backlog.
const PIECE_BYTES: u64 = 64 * 1024;
/// Retained messages that are being forgotten at a time.
const CLEARING_MAX: u32 = 1000;

impl Publisher {
    pub fn new(client: u32, group: usize, index: u32, number: u32) -> Self {
        Self {
            client,
            group,
            index,
            number,
            sent: 0,
            flights: Flights::default(),
            window: None,
            purpose: Purpose::Rest,
            from: 0,
            until: 0,
            listening: 0,
            away: 0,
            receive_maximum: u16::MAX,
            is_blocked: false,
            is_listed: false,
            unconfirmed: Vec::new(),
            template: None,
            random: Random::new(u64::from(number)),
            name: Vec::new(),
        }
    }

    /// A step begins.
    pub fn begin(&mut self, plan: &Plan, orders: Orders, schedule_at: Option<usize>) {
        let publish = plan.scenario.groups[self.group].publish.as_ref().expect("it publishes");
        self.from = self.sent;
        self.until = self.sent.saturating_add(orders.messages);
        (self.listening, self.away) = (orders.listening, orders.away);
        self.window = None;
        self.purpose = match (publish.pace, schedule_at) {
            (_, Some(at)) => Purpose::Schedule { at, due: 0 },
            (Pace::Window(size), None) => {
                let can_count = plan.groups[self.group]
                    .content
                    .as_ref()
                    .is_some_and(|content| content.least >= crate::payload::SHORT_STAMP_BYTES);
                if self.listening > 0 && can_count {
                    self.window = Some(Window::new(size, self.listening, self.sent));
                }
                Purpose::Window
            }
            (Pace::Rate(_), None) => Purpose::Rest,
        };
        self.prepare(plan);
    }

    /// Encodes what all messages have in common, where they have.
    fn prepare(&mut self, plan: &Plan) {
        let group = &plan.scenario.groups[self.group];
        let (Some(publish), Some(content)) = (&group.publish, &plan.groups[self.group].content) else {
            return;
        };
        if self.template.is_none() && publish.topics == 1 && content.least == content.most() {
            let topic = publish.topic.fill(&plan.values(self.group, self.index, 0));
            self.template = Some(Box::new(Template::new(publish, group.version, topic.as_bytes(), content)));
        }
    }

    /// Has retained messages forgotten.
    pub fn begin_clearing(&mut self) {
        self.window = None;
        self.purpose = Purpose::Clear { next: 0 };
        (self.listening, self.away) = (0, 0);
    }

    /// Nothing more is sent but what was due already.
    pub fn stop(&mut self) {
        match self.purpose {
            Purpose::Rest => {}
            Purpose::Window | Purpose::Clear { .. } => self.purpose = Purpose::Rest,
            Purpose::Schedule { due, .. } => self.until = self.until.min(self.from + due),
        }
    }

    /// Whether all is sent and acknowledged.
    pub fn has_ended(&self) -> bool {
        self.is_through() && self.flights.len() == 0
    }

    /// Whether it has nothing more to send.
    pub fn is_through(&self) -> bool {
        match self.purpose {
            Purpose::Rest => true,
            Purpose::Window | Purpose::Schedule { .. } => self.sent >= self.until,
            Purpose::Clear { .. } => false,
        }
    }

    /// Another message is due.
    #[inline]
    pub fn is_due(&mut self) {
        if let Purpose::Schedule { due, .. } = &mut self.purpose {
            *due += 1;
        }
    }

    /// The connection is gone.
    pub fn lost(&mut self) {
        self.is_blocked = false;
        let mut unconfirmed = std::mem::take(&mut self.unconfirmed);
        self.flights.lose(&mut unconfirmed);
        self.unconfirmed = unconfirmed;
    }

    /// How many more may be in flight.
    fn flights_room(&self, size: u32) -> u64 {
        let most = size.min(u32::from(self.receive_maximum)).min(WINDOW_MAX - 1);
        u64::from(most).saturating_sub(self.flights.len() as u64)
    }

    /// Sends what may be sent now.
    pub fn send(&mut self, way: &mut Way<'_>) {
        let Some(publish) = &way.plan.scenario.groups[self.group].publish else { return };
        let is_acknowledged = publish.qos != ringmq_codec::QoS::AtMostOnce;
        let (mut count, size) = match self.purpose {
            Purpose::Rest => return,
            Purpose::Clear { .. } => return self.clear(way),
            Purpose::Window => {
                let Pace::Window(size) = publish.pace else { return };
                // Nothing else holds a publisher back at QoS 0: the plan saw to it that there is a window.
                let unbounded = if is_acknowledged { u64::MAX } else { 0 };
                (self.window.as_ref().map_or(unbounded, Window::room), size)
            }
            Purpose::Schedule { due, .. } => ((self.from + due).saturating_sub(self.sent), WINDOW_MAX),
        };
        count = count.min(self.until.saturating_sub(self.sent));
        if is_acknowledged {
            count = count.min(self.flights_room(size));
        }
        let mut sent = 0;
        while sent < count && !self.is_blocked {
            // In pieces, so that one publisher does not write without end.
            let piece = (count - sent).min(self.piece(way.plan));
            for _ in 0..piece {
                let at_ns = self.at_ns(way);
                self.write(at_ns, is_acknowledged, way);
            }
            sent += piece;
            self.is_blocked = way.out.backlog_bytes() > way.backlog_high_bytes;
        }
        if let Some(window) = &mut self.window {
            window.send(sent);
        }
        let counts = &mut way.sample.counts;
        counts.sent += sent;
        counts.expected += sent * u64::from(self.listening);
    }

    /// When the next message was to be sent.
    #[inline]
    fn at_ns(&self, way: &mut Way<'_>) -> u64 {
        match (&self.purpose, way.turns) {
            (Purpose::Schedule { at, .. }, Some(turns)) => {
                let due_ns = turns.due_ns(*at, self.sent - self.from);
                way.sample.record(Kind::Lag, way.now_ns.saturating_sub(due_ns));
                due_ns
            }
            (Purpose::Rest | Purpose::Window | Purpose::Schedule { .. } | Purpose::Clear { .. }, _) => {
                way.now_ns
            }
        }
    }

    /// Messages between two looks at the backlog.
    fn piece(&self, plan: &Plan) -> u64 {
        let bytes = plan.groups[self.group].content.as_ref().map_or(0, |content| content.most());
        (PIECE_BYTES / (bytes as u64 + 64)).max(1)
    }

    #[inline]
    fn write(&mut self, at_ns: u64, is_acknowledged: bool, way: &mut Way<'_>) {
        let sequence = self.sent;
        self.sent += 1;
        let stamp = Stamp { publisher: self.number, sequence: sequence as u32, at_ns: Some(at_ns) };
        let packet_id = if is_acknowledged { self.flights.send(sequence, at_ns) } else { 0 };
        let particular = Particular { packet_id, stamp };
        if let Some(template) = &self.template {
            way.sample.counts.sent_bytes += template.payload_len() as u64;
            return template.write(particular, way.plan.tag, way.out);
        }
        self.write_different(particular, way);
    }

    /// Each message has a topic or a size of its own.
    fn write_different(&mut self, particular: Particular, way: &mut Way<'_>) {
        let plan = way.plan;
        let group = &plan.scenario.groups[self.group];
        let (Some(publish), Some(content)) = (&group.publish, &plan.groups[self.group].content) else {
            return;
        };
        let topic = match publish.pick {
            Pick::Random => self.random.below(publish.topics),
            Pick::InTurn => {
                ((self.sent - 1) * u64::from(group.count) + u64::from(self.index)) % publish.topics
            }
        };
        let len = content.least + self.random.below((content.most() - content.least) as u64 + 1) as usize;
        way.sample.counts.sent_bytes += len as u64;
        self.name.clear();
        publish.topic.write(&plan.values(self.group, self.index, topic), &mut self.name);
        let body = Body { version: group.version, topic: &self.name, payload: &content.bytes[..len] };
        write_different(publish, &body, particular, plan.tag, way.out);
    }

    fn clear(&mut self, way: &mut Way<'_>) {
        let group = &way.plan.scenario.groups[self.group];
        let Some(publish) = &group.publish else { return };
        let Purpose::Clear { next } = self.purpose else { return };
        let mut round = next;
        while !self.is_blocked && self.flights_room(CLEARING_MAX) > 0 {
            let topic = round * u64::from(group.count) + u64::from(self.index);
            if topic >= publish.topics {
                self.purpose = Purpose::Rest;
                return;
            }
            let name = publish.topic.fill(&way.plan.values(self.group, self.index, topic));
            let packet_id = self.flights.send(UNNUMBERED, 0);
            write_clearing(group.version, name.as_bytes(), packet_id, way.out);
            round += 1;
            self.is_blocked = way.out.backlog_bytes() > way.backlog_high_bytes;
        }
        self.purpose = Purpose::Clear { next: round };
    }

    /// A message was acknowledged; whether it is one that counts.
    #[inline]
    pub fn acknowledged(&mut self, flight: &Flight, sample: &mut Sample) -> bool {
        if flight.sequence == UNNUMBERED {
            return false;
        }
        sample.counts.acknowledged += 1;
        sample.counts.kept += u64::from(self.away);
        true
    }

    /// A message was refused: nobody is to expect it.
    pub fn refused(&mut self, sequence: u64) {
        if sequence != UNNUMBERED {
            self.unconfirmed.push(Run { from: sequence, to: sequence + 1 });
            if let Some(window) = &mut self.window {
                window.give_up(sequence);
            }
        }
    }
}
