//! A subscriber with a session, of one temper or another.

use std::collections::{BTreeSet, HashMap};
use std::io::{ErrorKind, Result};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use ringmq_codec::{AckKind, Packet, QoS, Version};

use crate::client::{DEADLINE, Event, Link, Message, Who};
use crate::ledger::{NEVER, Name, Span, name_in};
use crate::publisher::content_type;
use crate::random::Random;
use crate::stage::Stage;

/// How a subscriber behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Temper {
    /// Acknowledges at once.
    Prompt,
    /// Takes few messages at a time, and acknowledges them late.
    Slow,
    /// Cuts its connection now and then, with messages unacknowledged.
    Cutting,
    /// Is there every third time, and leaves early.
    Away,
    /// Subscribes and unsubscribes all the time.
    Moving,
}

/// A subscriber.
pub struct Subscriber {
    pub id: String,
    pub version: Version,
    pub temper: Temper,
    /// Its subscriptions.
    pub spans: Vec<Span>,
    /// The Subscription Identifiers that come with each message.
    ids: Vec<u32>,
    /// What it received, in order.
    pub received: Vec<Name>,
    /// Messages of QoS 2 that it has and that are not released, by packet id.
    open: HashMap<u16, Name>,
    held: Vec<(AckKind, u16)>,
    random: Random,
    known: bool,
}

/// The Subscription Identifier of those that use one.
const SUBSCRIPTION_ID: u32 = 1000;

impl Subscriber {
    pub fn new(id: String, version: Version, temper: Temper, random: Random) -> Self {
        let (spans, received, open, held) = (Vec::new(), Vec::new(), HashMap::new(), Vec::new());
        let ids = Vec::new();
        Self { id, version, temper, spans, ids, received, open, held, random, known: false }
    }

    /// Makes the session and a subscription for all time.
    pub fn begin(&mut self, stage: &Stage, filter: &str, qos: QoS) {
        let mut link = self.connect(stage).unwrap();
        link.subscribe(filter, qos, Some(SUBSCRIPTION_ID)).unwrap();
        self.ids.push(SUBSCRIPTION_ID);
        // What is received is matched without the group.
        let plain = filter.strip_prefix("$share/").map_or(filter, |rest| rest.split_once('/').unwrap().1);
        self.spans.push(Span::always(plain, qos));
        link.disconnect();
    }

    fn connect(&mut self, stage: &Stage) -> Result<Link> {
        let receive_max = if self.temper == Temper::Slow { 20 } else { u16::MAX };
        let who = Who { receive_max, ..Who::persistent(&self.id, self.version) };
        let link = Link::connect(stage.address, &who)?;
        assert!(link.present || !self.known, "the session of {} is gone", self.id);
        self.known = true;
        self.held.clear();
        Ok(link)
    }

    /// Receives until the broker is killed.
    pub fn run(&mut self, stage: &Stage) {
        if self.temper == Temper::Away && !self.random.happens(333) {
            return;
        }
        let mut left = if self.temper == Temper::Away { self.random.below(5000) } else { u64::MAX };
        stage.while_up(|stage| {
            if left == 0 {
                std::thread::sleep(Duration::from_millis(1));
                return Ok(());
            }
            let mut link = self.connect(stage)?;
            while !stage.is_over() && left > 0 {
                if self.temper == Temper::Moving && self.random.happens(20) {
                    self.step(&mut link, stage)?;
                }
                if self.temper == Temper::Cutting && self.random.happens(3) {
                    return Ok(());
                }
                let event = link.look()?;
                left -= u64::from(event.is_some());
                self.handle(event, &mut link)?;
            }
            if left == 0 && self.random.happens(500) {
                link.flush()?;
                link.disconnect();
            }
            Ok(())
        });
    }

    /// Receives until nothing is missing: by it, or by others that share it.
    pub fn drain(
        &mut self,
        stage: &Stage,
        missing: &Mutex<BTreeSet<Name>>,
    ) -> std::result::Result<(), String> {
        self.drain_with(stage, missing).map_err(|error| format!("{}: {error}", self.id))
    }

    fn drain_with(&mut self, stage: &Stage, missing: &Mutex<BTreeSet<Name>>) -> Result<()> {
        let remove = |names: &[Name]| {
            let mut missing = missing.lock().unwrap();
            names.iter().for_each(|name| _ = missing.remove(name));
            missing.is_empty()
        };
        let mut link = self.connect(stage)?;
        // What comes is quick; nothing comes any more when something is lost.
        let mut since = Instant::now();
        let mut all = remove(&self.received);
        while !all {
            let (before, event) = (self.received.len(), link.look()?);
            if event.is_some() {
                since = Instant::now();
            } else if since.elapsed() > DEADLINE / 4 {
                eprintln!("{} waits in vain", self.id);
                break;
            }
            self.handle(event, &mut link)?;
            all = remove(&self.received[before..]);
        }
        // What came twice has come by now.
        link.put(&Packet::PingReq);
        link.flush()?;
        loop {
            match link.next()? {
                Event::PingResp => break,
                event => self.handle(Some(event), &mut link)?,
            }
        }
        link.flush()?;
        link.disconnect();
        Ok(())
    }

    /// Takes what came, and acknowledges as its temper is.
    fn handle(&mut self, event: Option<Event>, link: &mut Link) -> Result<()> {
        let came = event.is_some();
        match event {
            Some(Event::Publish(message)) => self.publish(&message),
            Some(Event::Ack(AckKind::PubRel, packet_id, _)) => {
                self.open.remove(&packet_id);
                self.held.push((AckKind::PubComp, packet_id));
            }
            Some(other) => panic!("{}: {other:?}", self.id),
            None => {}
        }
        let enough = match self.temper {
            Temper::Slow => self.held.len() >= 8,
            // Else it would get nowhere, with as much to be sent again as it reads at a time.
            Temper::Cutting => self.held.len() >= 30,
            Temper::Prompt | Temper::Away | Temper::Moving => !link.has_more(),
        };
        if enough || !came {
            for (kind, packet_id) in self.held.drain(..) {
                link.put_ack(kind, packet_id);
            }
            link.flush()?;
        }
        Ok(())
    }

    fn publish(&mut self, message: &Message) {
        if message.qos == QoS::AtMostOnce {
            return;
        }
        let who = &self.id;
        let name = name_in(&message.payload).unwrap_or_else(|| panic!("{who} got altered {message:?}"));
        if self.version.is_v5() {
            assert_eq!(message.ids, self.ids, "{who}: {name:?}");
        }
        if self.version.is_v5() && name.publisher % 2 == 1 {
            assert_eq!(message.content_type, content_type(name), "{who}: {name:?}");
        }
        let packet_id = message.packet_id;
        if message.qos == QoS::AtLeastOnce {
            self.held.push((AckKind::PubAck, packet_id));
        } else {
            self.held.push((AckKind::PubRec, packet_id));
            if let Some(had) = self.open.insert(packet_id, name) {
                assert_eq!(had, name, "{who}: packet id {packet_id} again before its PUBREL");
                assert!(message.dup, "{who}: {name:?} again without DUP");
                return;
            }
        }
        // A retained message is no delivery of its own.
        if !message.retain {
            self.received.push(name);
        }
    }

    /// Ends its subscription, or makes one.
    fn step(&mut self, link: &mut Link, stage: &Stage) -> Result<()> {
        let filter = "load/+/1";
        let is_there = self.spans.last().is_some_and(|span| span.granted != NEVER && span.ended == NEVER);
        if is_there {
            let at = stage.tick();
            let span = self.spans.last_mut().unwrap();
            span.ending = span.ending.min(at);
            link.put_unsubscribe(filter);
            link.flush()?;
            self.answer(link, &Event::UnsubAck)?;
            let at = stage.tick();
            self.spans.iter_mut().for_each(|span| span.ended = span.ended.min(at));
        } else {
            let (qos, asked) = (QoS::ExactlyOnce, stage.tick());
            let (filter, granted, ending, ended) = (filter.to_owned(), NEVER, NEVER, NEVER);
            link.put_subscribe(&filter, qos, None);
            self.spans.push(Span { filter, qos, asked, granted, ending, ended });
            link.flush()?;
            self.answer(link, &Event::SubAck(vec![ringmq_codec::ReasonCode::GrantedQoS2]))?;
            self.spans.last_mut().unwrap().granted = stage.tick();
        }
        Ok(())
    }

    fn answer(&mut self, link: &mut Link, wanted: &Event) -> Result<()> {
        let since = Instant::now();
        loop {
            match link.look()? {
                Some(event) if event == *wanted => return Ok(()),
                event => self.handle(event, link)?,
            }
            if since.elapsed() > DEADLINE {
                return Err(ErrorKind::TimedOut.into());
            }
        }
    }
}
