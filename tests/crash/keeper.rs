//! A publisher of retained messages, some of which it clears again.

use std::collections::{BTreeMap, HashMap};
use std::io::Result;
use std::time::Instant;

use ringmq_codec::{AckKind, Packet, PacketId, Publish, PublishProperties, QoS, Version};

use crate::client::{DEADLINE, Event, Link, Message, Who};
use crate::random::Random;
use crate::stage::Stage;

const TOPICS: u64 = 40;
/// Unacknowledged changes at a time.
const WINDOW: usize = 20;

/// The changes of one topic since its last acknowledged one, that one included; 0 clears.
#[derive(Clone, Default)]
struct Topic(Vec<u64>);

/// The publisher.
pub struct Keeper {
    random: Random,
    /// What each topic may hold.
    topics: BTreeMap<String, Topic>,
    under_way: HashMap<u16, (String, u64)>,
    order: Vec<u16>,
    last_id: u16,
    last_value: u64,
}

impl Keeper {
    pub fn new(random: Random) -> Self {
        let (topics, under_way) = (BTreeMap::new(), HashMap::new());
        Self { random, topics, under_way, order: Vec::new(), last_id: 0, last_value: 0 }
    }

    /// Changes retained messages until the broker is killed.
    pub fn run(&mut self, stage: &Stage) {
        stage.while_up(|stage| {
            let mut link = self.connect(stage)?;
            while !stage.is_over() {
                while self.order.len() < WINDOW {
                    self.change(&mut link);
                }
                link.flush()?;
                self.read_ack(&mut link)?;
            }
            Ok(())
        });
    }

    /// Has everything acknowledged.
    pub fn finish(&mut self, stage: &Stage) {
        let mut link = self.connect(stage).unwrap();
        while !self.order.is_empty() {
            self.read_ack(&mut link).unwrap();
        }
        link.disconnect();
    }

    fn connect(&self, stage: &Stage) -> Result<Link> {
        let mut link = Link::connect(stage.address, &Who::persistent("keeper", Version::V311))?;
        for packet_id in &self.order {
            let (topic, value) = &self.under_way[packet_id];
            put(&mut link, topic, *value, (*packet_id, true));
        }
        link.flush()?;
        Ok(link)
    }

    fn change(&mut self, link: &mut Link) {
        let topic = format!("keep/{}", self.random.below(TOPICS));
        self.last_value += 1;
        let value = if self.random.happens(300) { 0 } else { self.last_value };
        self.last_id = self.last_id.wrapping_add(1).max(1);
        put(link, &topic, value, (self.last_id, false));
        self.topics.entry(topic.clone()).or_insert_with(|| Topic(vec![0])).0.push(value);
        self.under_way.insert(self.last_id, (topic, value));
        self.order.push(self.last_id);
    }

    /// QoS 1 is acknowledged in order.
    fn read_ack(&mut self, link: &mut Link) -> Result<()> {
        match link.next()? {
            Event::Ack(AckKind::PubAck, packet_id, _) => {
                assert_eq!(packet_id, self.order[0], "acks of QoS 1 come in order");
                self.order.remove(0);
                let (topic, _) = self.under_way.remove(&packet_id).unwrap();
                self.topics.get_mut(&topic).unwrap().0.remove(0);
                Ok(())
            }
            other => panic!("{other:?} to the keeper"),
        }
    }

    /// Compares what the broker holds with what it may hold.
    pub fn check(&self, stage: &Stage) {
        // Nothing says where retained messages end; but none that must be there may be missing.
        let mut must: Vec<&String> =
            self.topics.iter().filter(|(_, t)| !t.0.contains(&0)).map(|(n, _)| n).collect();
        let mut link = Link::connect(stage.address, &Who::clean("auditor", Version::V5)).unwrap();
        link.put_subscribe("keep/#", QoS::AtLeastOnce, None);
        link.flush().unwrap();
        let since = Instant::now();
        let mut subscribed = false;
        while !must.is_empty() || !subscribed {
            assert!(since.elapsed() < DEADLINE / 4, "retained messages are missing: {must:?}");
            match link.look().unwrap() {
                Some(Event::Publish(message)) => {
                    self.check_one(&message);
                    must.retain(|name| **name != message.topic);
                }
                Some(Event::SubAck(_)) => subscribed = true,
                Some(other) => panic!("{other:?} to the auditor"),
                None => {}
            }
        }
        link.put(&Packet::PingReq);
        link.flush().unwrap();
        loop {
            match link.next().unwrap() {
                Event::Publish(message) => self.check_one(&message),
                Event::PingResp => break,
                other => panic!("{other:?} to the auditor"),
            }
        }
        link.disconnect();
    }

    fn check_one(&self, message: &Message) {
        let value = String::from_utf8(message.payload.clone()).unwrap().parse().unwrap();
        let may = &self.topics[&message.topic].0;
        assert!(message.retain && may.contains(&value), "{} holds {value}, not of {may:?}", message.topic);
    }
}

fn put(link: &mut Link, topic: &str, value: u64, (packet_id, dup): (u16, bool)) {
    let payload = if value == 0 { String::new() } else { value.to_string() };
    link.put(&Packet::Publish(Publish {
        dup,
        qos: QoS::AtLeastOnce,
        retain: true,
        topic: topic.as_bytes(),
        packet_id: PacketId::new(packet_id),
        properties: PublishProperties::default(),
        payload: payload.as_bytes(),
    }));
}
