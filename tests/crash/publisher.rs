//! A publisher with a session: what was not acknowledged is repeated on the next connection.

use std::collections::VecDeque;
use std::io::Result;
use std::time::Instant;

use ringmq_codec::{
    AckKind, Packet, PacketId, Publish, PublishProperties, QoS, ReasonCode, SubscriptionIds, Version,
};

use crate::client::{DEADLINE, Event, Link, Who};
use crate::ledger::{NEVER, Name, Sent, payload, topic_name};
use crate::random::Random;
use crate::stage::Stage;

/// Topics of each publisher.
pub const TOPICS: u8 = 5;
/// Messages to this one of them are retained.
pub const RETAINED_TOPIC: u8 = 4;

/// A message under way.
struct Flight {
    packet_id: u16,
    number: u32,
    /// Whether PUBREC came, so that PUBREL goes out in place of the message.
    released: bool,
}

/// A publisher.
pub struct Publisher {
    number: u16,
    version: Version,
    window: usize,
    random: Random,
    /// All that it sent.
    pub sent: Vec<Sent>,
    flights: VecDeque<Flight>,
    last_id: u16,
    known: bool,
}

impl Publisher {
    pub fn new(number: u16, window: usize, random: Random) -> Self {
        let version = if number.is_multiple_of(2) { Version::V311 } else { Version::V5 };
        let (sent, flights) = (Vec::new(), VecDeque::new());
        Self { number, version, window, random, sent, flights, last_id: 0, known: false }
    }

    /// Publishes until the broker is killed.
    pub fn run(&mut self, stage: &Stage) {
        stage.while_up(|stage| {
            let mut link = self.connect(stage)?;
            while !stage.is_over() {
                self.fill_window(&mut link, stage)?;
                self.read_acks(&mut link, stage)?;
            }
            Ok(())
        });
    }

    /// Has everything acknowledged, and one last message to each topic.
    pub fn finish(&mut self, stage: &Stage) {
        let mut link = self.connect(stage).unwrap();
        for topic in 0..TOPICS {
            self.send(&mut link, stage, topic, QoS::ExactlyOnce);
        }
        while !self.flights.is_empty() {
            link.flush().unwrap();
            self.read_acks(&mut link, stage).unwrap();
        }
        link.disconnect();
    }

    fn connect(&mut self, stage: &Stage) -> Result<Link> {
        let id = format!("publisher-{}", self.number);
        let mut link = Link::connect(stage.address, &Who::persistent(&id, self.version))?;
        assert!(link.present || !self.known, "the session of {id} is gone");
        self.known = true;
        for flight in &self.flights {
            if flight.released {
                link.put_ack(AckKind::PubRel, flight.packet_id);
            } else {
                self.put(&mut link, flight, true);
            }
        }
        Ok(link)
    }

    fn fill_window(&mut self, link: &mut Link, stage: &Stage) -> Result<()> {
        let window = self.window.min(link.receive_max.into());
        while self.flights.len() < window && link.unsent() < 60_000 {
            let topic = self.random.below(TOPICS.into()) as u8;
            if topic == 0 && self.random.happens(300) {
                put_qos_0(link, &topic_name(self.number, topic));
            }
            let qos = if self.random.happens(500) { QoS::AtLeastOnce } else { QoS::ExactlyOnce };
            self.send(link, stage, topic, qos);
        }
        link.flush()
    }

    fn send(&mut self, link: &mut Link, stage: &Stage, topic: u8, qos: QoS) {
        loop {
            self.last_id = self.last_id.wrapping_add(1).max(1);
            if self.flights.iter().all(|flight| flight.packet_id != self.last_id) {
                break;
            }
        }
        let number = self.sent.len() as u32;
        self.sent.push(Sent { topic, qos, at: stage.tick(), acked: NEVER });
        let flight = Flight { packet_id: self.last_id, number, released: false };
        self.put(link, &flight, false);
        self.flights.push_back(flight);
    }

    fn put(&self, link: &mut Link, flight: &Flight, dup: bool) {
        let sent = &self.sent[flight.number as usize];
        let name = Name { publisher: self.number, number: flight.number };
        let topic = topic_name(self.number, sent.topic);
        let content_type = content_type(name);
        let content_type = if self.version.is_v5() { content_type.as_deref() } else { None };
        link.put(&Packet::Publish(Publish {
            dup,
            qos: sent.qos,
            retain: sent.topic == RETAINED_TOPIC,
            topic: topic.as_bytes(),
            packet_id: PacketId::new(flight.packet_id),
            properties: PublishProperties { content_type, ..PublishProperties::default() },
            payload: &payload(name, size(name)),
        }));
    }

    fn read_acks(&mut self, link: &mut Link, stage: &Stage) -> Result<()> {
        let since = Instant::now();
        loop {
            match link.look()? {
                Some(event) => self.acked(event, link, stage),
                None => assert!(since.elapsed() < DEADLINE, "publisher {}: no acks come", self.number),
            }
            if !link.has_more() {
                return link.flush();
            }
        }
    }

    fn acked(&mut self, event: Event, link: &mut Link, stage: &Stage) {
        let Event::Ack(kind, packet_id, reason) = event else { panic!("{event:?} to a publisher") };
        assert!(!reason.is_error() || reason == ReasonCode::PacketIdentifierNotFound, "{kind:?} {reason}");
        let place = self.flights.iter().position(|flight| flight.packet_id == packet_id);
        let Some(place) = place else { panic!("{kind:?} for {packet_id}, which is not under way") };
        let flight = &mut self.flights[place];
        let sent = &mut self.sent[flight.number as usize];
        match (kind, sent.qos) {
            (AckKind::PubAck, QoS::AtLeastOnce) => {
                sent.acked = stage.tick();
                self.flights.remove(place);
            }
            (AckKind::PubRec, QoS::ExactlyOnce) => {
                if !flight.released {
                    sent.acked = stage.tick();
                    flight.released = true;
                }
                link.put_ack(AckKind::PubRel, packet_id);
            }
            (AckKind::PubComp, QoS::ExactlyOnce) => {
                assert!(flight.released, "PUBCOMP before PUBREC");
                self.flights.remove(place);
            }
            (kind, qos) => panic!("{kind:?} for a message of {qos:?}"),
        }
    }
}

/// The last messages that a publisher sent to each topic, by topic.
pub fn last_of_each(sent: &[Sent]) -> Vec<u32> {
    let last = |topic| sent.iter().rposition(|sent| sent.topic == topic).unwrap() as u32;
    (0..TOPICS).map(last).collect()
}

fn put_qos_0(link: &mut Link, topic: &str) {
    let (properties, topic) = (PublishProperties::default(), topic.as_bytes());
    let ids = SubscriptionIds::default();
    let properties = PublishProperties { subscription_ids: ids, ..properties };
    let (dup, retain, packet_id) = (false, false, None);
    let qos = QoS::AtMostOnce;
    link.put(&Packet::Publish(Publish { dup, qos, retain, topic, packet_id, properties, payload: b"0" }));
}

/// How many bytes of filler a message has: mostly few.
fn size(name: Name) -> usize {
    match name.number % 50 {
        0 => 5000,
        1..10 => 300,
        small => small as usize,
    }
}

/// The Content Type of every tenth message, from MQTT 5 publishers.
pub fn content_type(name: Name) -> Option<String> {
    name.number.is_multiple_of(10).then(|| format!("type/{}", name.number))
}
