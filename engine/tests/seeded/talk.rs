//! What a client says on the wire, and how it takes what it is told.

use ringmq_codec::{
    Ack, ConnAck, Decoded, Packet, PacketId, Publish, PublishProperties, QoS, ReasonCode, SubAck, Version,
    encode_puback, encode_pubcomp, encode_pubrec, encode_pubrel, frame,
};

use crate::peer::{Arrival, Asked, Broker, Key, Link, Message, Owed, Peer, Stage};

/// Messages that a client of MQTT 3.1.1 has unacknowledged at most.
const WINDOW_V3: usize = 20;

/// Sending.
impl Peer {
    pub(crate) fn send_publish(
        &mut self,
        world: &mut Broker,
        message: &Message,
        packet_id: Option<PacketId>,
        dup: bool,
    ) {
        let link = self.link.as_mut().expect("the caller has looked");
        let payload = message.payload();
        let mut topic = message.topic.as_str();
        let mut properties = PublishProperties::default();
        if self.habits.version == Version::V5 {
            properties.message_expiry_s = message.expiry_s;
            let known = link.aliases_out.iter().position(|known| known == topic);
            if let Some(at) = known {
                properties.topic_alias = Some(at as u16 + 1);
                topic = "";
            } else if link.aliases_out.len() < usize::from(link.aliases_max) {
                link.aliases_out.push(topic.to_owned());
                properties.topic_alias = Some(link.aliases_out.len() as u16);
            }
        }
        let (qos, retain) = (message.qos, message.retain);
        let publish =
            Publish { dup, qos, retain, topic: topic.as_bytes(), packet_id, properties, payload: &payload };
        let mut bytes = Vec::new();
        publish.encode(self.habits.version, &mut bytes);
        self.sent_publishes += 1;
        world.send(link.client, &bytes);
    }

    /// Sends what has not been sent on this connection, as far as the broker's window allows.
    pub fn pump(&mut self, world: &mut Broker) {
        let Some(window) = self.link.as_ref().filter(|link| link.up).map(|link| link.window) else { return };
        let mut open = self.flights.iter().filter(|flight| flight.sent).count();
        for at in 0..self.flights.len() {
            if self.flights[at].sent {
                continue;
            }
            if open >= window {
                break;
            }
            open += 1;
            let (id, stage, dup) = (self.flights[at].id, self.flights[at].stage, self.flights[at].repeated);
            self.flights[at].sent = true;
            if stage == Stage::Release {
                self.send_pubrel(world, id);
                continue;
            }
            let message = self.flights[at].message.clone();
            self.flights[at].repeated = true;
            self.send_publish(world, &message, Some(id), dup);
            let link = self.link.as_mut().expect("it is up");
            match message.qos {
                QoS::AtLeastOnce => link.pubacks.push_back(id),
                QoS::ExactlyOnce => link.pubrecs.push_back(id),
                QoS::AtMostOnce => unreachable!("QoS 0 is not kept"),
            }
        }
    }

    fn send_pubrel(&mut self, world: &mut Broker, id: PacketId) {
        let mut bytes = Vec::new();
        encode_pubrel(self.habits.version, id, ReasonCode::Success, &mut bytes);
        world.send(self.link.as_ref().expect("it is up").client, &bytes);
    }

    /// Sends up to `most` of the acknowledgements that are due.
    pub fn pay(&mut self, world: &mut Broker, most: usize) {
        let Some(link) = &mut self.link else { return };
        let mut bytes = Vec::new();
        for _ in 0..most {
            let Some(owed) = self.owed.pop_front() else { break };
            let (version, success) = (self.habits.version, ReasonCode::Success);
            match owed {
                Owed::Ack(id) => {
                    link.unacked.remove(&id);
                    encode_puback(version, id, success, &mut bytes);
                }
                Owed::Rec(id) => encode_pubrec(version, id, success, &mut bytes),
                Owed::Comp(id) => {
                    link.unacked.remove(&id);
                    encode_pubcomp(version, id, success, &mut bytes);
                }
            }
        }
        world.send(link.client, &bytes);
    }
}

/// Receiving.
impl Peer {
    /// Takes what came, and answers unless it is lazy. Whether anything came.
    pub fn poll(&mut self, world: &mut Broker) -> bool {
        let Some(link) = &mut self.link else { return false };
        let client = link.client;
        let came = world.take_received(client);
        let mut bytes = std::mem::take(&mut link.bytes);
        bytes.extend_from_slice(&came);
        let mut used = 0;
        while let Decoded::Complete(packet) =
            frame(&bytes[used..], u32::MAX).expect("the broker sends packets")
        {
            used += packet.total;
            let packet =
                Packet::decode(self.habits.version, &packet).expect("the broker sends what can be decoded");
            self.take(world, &packet);
        }
        if let Some(link) = &mut self.link {
            link.bytes = bytes.split_off(used);
        }
        if self.link.is_some() && !world.is_connected(client) {
            self.closed_by_broker += 1;
            self.lose_link();
            return true;
        }
        if !self.habits.lazy {
            self.pay(world, usize::MAX);
        }
        self.pump(world);
        !came.is_empty()
    }

    fn take(&mut self, world: &mut Broker, packet: &Packet<'_>) {
        let name = self.name.clone();
        match packet {
            Packet::ConnAck(connack) => self.take_connack(connack),
            Packet::Publish(publish) => self.take_publish(world, publish),
            Packet::PubAck(ack) => self.take_puback(world, ack),
            Packet::PubRec(ack) => self.take_pubrec(world, ack),
            Packet::PubRel(ack) => self.take_pubrel(ack),
            Packet::PubComp(ack) => self.take_pubcomp(ack),
            Packet::SubAck(suback) => self.take_suback(world, suback),
            Packet::UnsubAck(unsuback) => {
                let asked = self.link().asked.remove(&unsuback.packet_id);
                assert!(matches!(asked, Some(Asked::Unsubscribe)), "{name} asked for that UNSUBACK");
            }
            Packet::Disconnect(disconnect) => {
                assert_eq!(disconnect.reason, ReasonCode::SessionTakenOver, "{name} is well-behaved");
            }
            Packet::Connect(_)
            | Packet::Subscribe(_)
            | Packet::Unsubscribe(_)
            | Packet::PingReq
            | Packet::PingResp
            | Packet::Auth(_) => panic!("{name} got {packet:?}, which it did not ask for"),
        }
    }

    fn link(&mut self) -> &mut Link {
        self.link.as_mut().expect("what arrives arrives on a connection")
    }

    fn take_connack(&mut self, connack: &ConnAck<'_>) {
        let name = self.name.clone();
        assert_eq!(connack.reason, ReasonCode::Success, "{name} may connect");
        assert!(!self.link().up, "{name} got CONNACK twice");
        if !connack.session_present {
            assert!(self.habits.forgettable || !self.knows_session, "the session of {name} is lost");
            self.taken.clear();
            self.filters.clear();
            for flight in &mut self.flights {
                (flight.stage, flight.repeated) = (Stage::Publish, false);
            }
        }
        assert!(!(connack.session_present && self.habits.clean_start), "{name} wanted a clean start");
        self.knows_session = self.habits.expiry_s > 0;
        let v5 = self.habits.version == Version::V5;
        let link = self.link();
        link.up = true;
        link.aliases_max = connack.properties.topic_alias_maximum.unwrap_or(0);
        let window =
            connack.properties.receive_maximum.map_or(usize::from(u16::MAX), |most| most.get().into());
        link.window = if v5 { window } else { WINDOW_V3 };
    }

    fn take_publish(&mut self, world: &Broker, publish: &Publish<'_>) {
        let name = self.name.clone();
        let most = usize::from(self.habits.receive_maximum);
        let aliases_max = self.habits.alias_maximum;
        let link = self.link();
        let mut topic = String::from_utf8(publish.topic.to_vec()).expect("topics are UTF-8");
        if let Some(alias) = publish.properties.topic_alias {
            assert!((1..=aliases_max).contains(&alias), "{name} allows {aliases_max} aliases, not {alias}");
            if topic.is_empty() {
                topic.clone_from(link.aliases_in.get(&alias).expect("an alias is set before it is used"));
            }
            link.aliases_in.insert(alias, topic.clone());
        }
        let key = Key::decode(publish.payload);
        let arrival = Arrival {
            key,
            topic,
            qos: publish.qos,
            retain: publish.retain,
            at: world.steps(),
            at_ms: world.now_ms(),
        };
        let Some(id) = publish.packet_id else {
            self.inbox.push(arrival);
            return;
        };
        let is_new = link.unacked.insert(id);
        assert!(is_new, "{name}: packet id {id} is used twice on one connection");
        assert!(link.unacked.len() <= most, "{name}: more than its Receive Maximum of {most}");
        if publish.qos == QoS::AtLeastOnce {
            self.inbox.push(arrival);
            self.owed.push_back(Owed::Ack(id));
            return;
        }
        self.owed.push_back(Owed::Rec(id));
        let dup = publish.dup || self.lenient;
        match self.taken.insert(id, key) {
            Some(before) => {
                assert!(dup && before == key, "{name}: id {id} is not released: {before:?}, {key:?}");
            }
            None => self.inbox.push(arrival),
        }
    }

    fn take_puback(&mut self, world: &Broker, ack: &Ack<'_>) {
        let expected = self.link().pubacks.pop_front();
        assert_eq!(expected, Some(ack.packet_id), "{}: PUBACKs come in order", self.name);
        assert!(!ack.reason.is_error(), "{}: {:?}", self.name, ack.reason);
        let at = self.flight_of(ack.packet_id);
        let flight = self.flights.remove(at).expect("it was just found");
        assert_eq!(flight.message.qos, QoS::AtLeastOnce);
        self.acked.entry(flight.message.key.number).or_insert(world.steps());
    }

    fn flight_of(&self, id: PacketId) -> usize {
        let at = self.flights.iter().position(|flight| flight.id == id && flight.sent);
        at.unwrap_or_else(|| panic!("{} has nothing in flight as {id}", self.name))
    }

    fn take_pubrec(&mut self, world: &mut Broker, ack: &Ack<'_>) {
        let expected = self.link().pubrecs.pop_front();
        assert_eq!(expected, Some(ack.packet_id), "{}: PUBRECs come in order", self.name);
        assert!(!ack.reason.is_error(), "{}: {:?}", self.name, ack.reason);
        let at = self.flight_of(ack.packet_id);
        let flight = &mut self.flights[at];
        assert_eq!((flight.message.qos, flight.stage), (QoS::ExactlyOnce, Stage::Publish));
        flight.stage = Stage::Release;
        self.acked.entry(flight.message.key.number).or_insert(world.steps());
        self.send_pubrel(world, ack.packet_id);
    }

    fn take_pubrel(&mut self, ack: &Ack<'_>) {
        self.taken.remove(&ack.packet_id);
        self.owed.push_back(Owed::Comp(ack.packet_id));
    }

    fn take_pubcomp(&mut self, ack: &Ack<'_>) {
        let at = self.flight_of(ack.packet_id);
        let flight = self.flights.remove(at).expect("it was just found");
        assert_eq!(flight.stage, Stage::Release, "{}: PUBCOMP before PUBREL", self.name);
    }

    fn take_suback(&mut self, world: &Broker, suback: &SubAck<'_>) {
        let name = self.name.clone();
        let Some(Asked::Subscribe(asked)) = self.link().asked.remove(&suback.packet_id) else {
            panic!("{name} asked for no such SUBACK");
        };
        assert_eq!(asked.len(), suback.reasons.len());
        for ((filter, qos), reason) in asked.into_iter().zip(suback.reasons.iter()) {
            assert_eq!(reason as u8, qos as u8, "{name} gets {filter} as asked");
            self.filters.retain(|(held, ..)| *held != filter);
            self.filters.push((filter, qos, world.steps()));
        }
    }
}
