//! A connection to a broker that sends what it is told to, and nothing else.

use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use ringmq_codec::{
    Ack, AckKind, Connect, ConnectProperties, Decoded, Disconnect, Packet, PacketId, QoS, ReasonCode,
    Subscribe, SubscribeFilter, SubscriptionOptions, Unsubscribe, Version, Will, frame,
};

/// A deadline, not a pace: everything comes far sooner.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// How long one read waits before it looks around.
const LOOK: Duration = Duration::from_millis(50);

/// What a broker sent, with its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Publish(Message),
    Ack(AckKind, u16, ReasonCode),
    SubAck(Vec<ReasonCode>),
    UnsubAck,
    PingResp,
    Disconnect(ReasonCode),
}

/// A PUBLISH as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub dup: bool,
    pub qos: QoS,
    pub retain: bool,
    pub topic: String,
    /// 0 at QoS 0.
    pub packet_id: u16,
    pub ids: Vec<u32>,
    pub content_type: Option<String>,
    pub payload: Vec<u8>,
}

/// Who connects, and how.
#[derive(Clone, Copy)]
pub struct Who<'a> {
    pub id: &'a str,
    pub version: Version,
    /// Clean Start, or Clean Session in 3.1.1.
    pub clean: bool,
    /// Session Expiry Interval; MQTT 5 only.
    pub expiry_s: u32,
    /// Receive Maximum; MQTT 5 only.
    pub receive_max: u16,
    pub will: Option<Will<'a>>,
}

impl<'a> Who<'a> {
    /// A client with a session that stays.
    pub fn persistent(id: &'a str, version: Version) -> Self {
        Self { id, version, clean: false, expiry_s: 3600, receive_max: u16::MAX, will: None }
    }

    /// A client whose session ends with its connection.
    pub fn clean(id: &'a str, version: Version) -> Self {
        Self { clean: true, expiry_s: 0, ..Self::persistent(id, version) }
    }
}

/// A connection.
pub struct Link {
    pub version: Version,
    /// Whether the broker had the session.
    pub present: bool,
    /// The broker's Receive Maximum.
    pub receive_max: u16,
    socket: TcpStream,
    received: Vec<u8>,
    at: usize,
    out: Vec<u8>,
}

impl Link {
    /// Connects; an error if the broker is not there, or does not want it.
    pub fn connect(to: SocketAddr, who: &Who<'_>) -> Result<Self> {
        let socket = TcpStream::connect(to)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(LOOK))?;
        socket.set_write_timeout(Some(DEADLINE))?;
        let version = who.version;
        let (received, out) = (Vec::new(), Vec::new());
        let mut link = Self { version, present: false, receive_max: u16::MAX, socket, received, at: 0, out };
        let v5 = ConnectProperties {
            session_expiry_s: who.expiry_s,
            receive_maximum: who.receive_max.try_into().unwrap(),
            ..ConnectProperties::default()
        };
        let properties = if version.is_v5() { v5 } else { ConnectProperties::default() };
        let new = Connect::new(version, who.id);
        Connect { clean_start: who.clean, will: who.will, properties, ..new }.encode(&mut link.out);
        link.flush()?;
        let since = Instant::now();
        while !link.read_connack()? {
            assert!(since.elapsed() < DEADLINE, "no CONNACK for {}", who.id);
        }
        Ok(link)
    }

    fn read_connack(&mut self) -> Result<bool> {
        self.fill()?;
        let Decoded::Complete(bytes) = frame(&self.received, u32::MAX).unwrap() else { return Ok(false) };
        let Packet::ConnAck(connack) = Packet::decode(self.version, &bytes).unwrap() else {
            panic!("{bytes:?} is no CONNACK")
        };
        if connack.reason.is_error() {
            return Err(Error::other(connack.reason.name()));
        }
        self.present = connack.session_present;
        self.receive_max = connack.properties.receive_maximum.map_or(u16::MAX, |max| max.get());
        self.at = bytes.total;
        Ok(true)
    }

    /// Reads what there is, waiting a little for the first byte.
    fn fill(&mut self) -> Result<()> {
        self.received.drain(..self.at);
        self.at = 0;
        let old = self.received.len();
        self.received.resize(old + 65_536, 0);
        let outcome = self.socket.read(&mut self.received[old..]);
        self.received.truncate(old + *outcome.as_ref().unwrap_or(&0));
        match outcome {
            Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
            Ok(_) => Ok(()),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Whether a packet, or a part of one, was read and not yet taken.
    pub fn has_more(&self) -> bool {
        self.at < self.received.len()
    }

    /// The next packet, if one comes within a moment.
    pub fn look(&mut self) -> Result<Option<Event>> {
        if let Some(event) = self.take() {
            return Ok(Some(event));
        }
        self.fill()?;
        Ok(self.take())
    }

    /// The next packet.
    pub fn next(&mut self) -> Result<Event> {
        let since = Instant::now();
        loop {
            if let Some(event) = self.look()? {
                return Ok(event);
            }
            assert!(since.elapsed() < DEADLINE, "nothing came");
        }
    }

    fn take(&mut self) -> Option<Event> {
        let Decoded::Complete(bytes) = frame(&self.received[self.at..], u32::MAX).unwrap() else {
            return None;
        };
        let event = match Packet::decode(self.version, &bytes).unwrap() {
            Packet::Publish(publish) => Event::Publish(Message {
                dup: publish.dup,
                qos: publish.qos,
                retain: publish.retain,
                topic: String::from_utf8(publish.topic.to_vec()).unwrap(),
                packet_id: publish.packet_id.map_or(0, PacketId::get),
                ids: publish.properties.subscription_ids.iter().collect(),
                content_type: publish.properties.content_type.map(str::to_owned),
                payload: publish.payload.to_vec(),
            }),
            Packet::PubAck(ack) => Event::Ack(AckKind::PubAck, ack.packet_id.get(), ack.reason),
            Packet::PubRec(ack) => Event::Ack(AckKind::PubRec, ack.packet_id.get(), ack.reason),
            Packet::PubRel(ack) => Event::Ack(AckKind::PubRel, ack.packet_id.get(), ack.reason),
            Packet::PubComp(ack) => Event::Ack(AckKind::PubComp, ack.packet_id.get(), ack.reason),
            Packet::SubAck(suback) => Event::SubAck(suback.reasons.iter().collect()),
            Packet::UnsubAck(_) => Event::UnsubAck,
            Packet::PingResp => Event::PingResp,
            Packet::Disconnect(disconnect) => Event::Disconnect(disconnect.reason),
            other => panic!("a broker does not send {other:?}"),
        };
        self.at += bytes.total;
        Some(event)
    }

    /// Appends a packet to what the next flush sends.
    pub fn put(&mut self, packet: &Packet<'_>) {
        packet.encode(self.version, &mut self.out);
    }

    /// Appends an acknowledgement.
    pub fn put_ack(&mut self, kind: AckKind, packet_id: u16) {
        let ack = Ack::new(PacketId::new(packet_id).unwrap(), ReasonCode::Success);
        ack.encode(kind, self.version, &mut self.out);
    }

    /// How many bytes wait for the next flush.
    pub fn unsent(&self) -> usize {
        self.out.len()
    }

    /// Sends what was put.
    pub fn flush(&mut self) -> Result<()> {
        let outcome = self.socket.write_all(&self.out);
        self.out.clear();
        outcome
    }

    /// Puts a SUBSCRIBE with an identifier, if the version has them.
    pub fn put_subscribe(&mut self, filter: &str, qos: QoS, id: Option<u32>) {
        let filters = [SubscribeFilter { filter, options: SubscriptionOptions::new(qos) }];
        let subscription_id = id.filter(|_| self.version.is_v5());
        let packet_id = PacketId::new(u16::MAX).unwrap();
        let user = ringmq_codec::UserProperties::EMPTY;
        let filters = filters[..].into();
        self.put(&Packet::Subscribe(Subscribe { packet_id, subscription_id, user, filters }));
    }

    /// Puts an UNSUBSCRIBE.
    pub fn put_unsubscribe(&mut self, filter: &str) {
        let filters = [filter];
        let packet_id = PacketId::new(u16::MAX).unwrap();
        let user = ringmq_codec::UserProperties::EMPTY;
        self.put(&Packet::Unsubscribe(Unsubscribe { packet_id, user, filters: filters[..].into() }));
    }

    /// Subscribes, with nothing else under way.
    pub fn subscribe(&mut self, filter: &str, qos: QoS, id: Option<u32>) -> Result<()> {
        self.put_subscribe(filter, qos, id);
        self.flush()?;
        match self.next()? {
            Event::SubAck(reasons) => assert!(!reasons[0].is_error(), "{filter}: {}", reasons[0]),
            other => panic!("{other:?} instead of a SUBACK"),
        }
        Ok(())
    }

    /// Leaves in good order.
    pub fn disconnect(mut self) {
        self.put(&Packet::Disconnect(Disconnect::new(ReasonCode::Success)));
        // The broker may have been killed.
        if self.flush().is_ok() {
            while self.fill().is_ok() {}
        }
    }
}
