//! What peers that misbehave, or come all at once, do to a broker on real sockets: nothing.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use ringmq::{Broker, Limits, Message, QoS};
use ringmq_codec::{
    ConnAck, Connect, Decoded, PacketId, Subscribe, SubscribeFilter, SubscriptionOptions, Version, frame,
};

/// A deadline, not a pace: everything comes far sooner.
const DEADLINE: Duration = Duration::from_secs(60);

fn start(shards: usize, limits: Limits) -> Broker {
    let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
    Broker::builder().listen(any_port).shards(shards).limits(limits).start().unwrap()
}

/// A client that sends what it is told to.
struct Client {
    socket: TcpStream,
    received: Vec<u8>,
}

impl Client {
    fn open(broker: &Broker) -> Self {
        let socket = TcpStream::connect(broker.addresses()[0]).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        socket.set_nodelay(true).unwrap();
        Self { socket, received: Vec::new() }
    }

    /// A client with a session that outlives its connection; whether the session was there already.
    fn connect(broker: &Broker, client_id: &str) -> std::io::Result<(Self, bool)> {
        let mut client = Self::open(broker);
        let mut packet = Vec::new();
        Connect { clean_start: false, ..Connect::new(Version::V311, client_id) }.encode(&mut packet);
        client.socket.write_all(&packet)?;
        let bytes = client.packet()?;
        let Ok(Decoded::Complete(packet)) = frame(&bytes, 1000) else { panic!("{bytes:02x?}") };
        let connack = ConnAck::decode(Version::V311, &packet).unwrap();
        assert!(!connack.reason.is_error(), "{}", connack.reason);
        Ok((client, connack.session_present))
    }

    fn subscribe(&mut self, filter: &str) {
        let filters = [SubscribeFilter { filter, options: SubscriptionOptions::new(QoS::AtLeastOnce) }];
        let packet_id = PacketId::new(1).unwrap();
        let filters = filters[..].into();
        let subscribe = Subscribe { packet_id, subscription_id: None, user: Default::default(), filters };
        let mut packet = Vec::new();
        subscribe.encode(Version::V311, &mut packet);
        self.socket.write_all(&packet).unwrap();
        assert_eq!(self.packet().unwrap()[0], 0x90);
    }

    /// The next whole packet.
    fn packet(&mut self) -> std::io::Result<Vec<u8>> {
        loop {
            if let Decoded::Complete(packet) = frame(&self.received, u32::MAX).unwrap() {
                let total = packet.total;
                return Ok(self.received.drain(..total).collect());
            }
            let mut chunk = [0; 4096];
            match self.socket.read(&mut chunk)? {
                0 => return Err(ErrorKind::UnexpectedEof.into()),
                count => self.received.extend_from_slice(&chunk[..count]),
            }
        }
    }

    /// Waits for the broker to close.
    fn closed(mut self) {
        let mut sink = [0; 4096];
        while let Ok(1..) = self.socket.read(&mut sink) {}
    }
}

/// The broker still does its work: what is published is delivered, on every shard.
fn works(broker: &Broker) {
    for n in 0..8 {
        let topic = format!("alive/{n}");
        let (mut client, _) = Client::connect(broker, &format!("alive-{n}")).unwrap();
        client.subscribe(&topic);
        let ticket = broker.publish(Message::new(&topic, "x").qos(QoS::AtMostOnce)).unwrap();
        ticket.wait(DEADLINE).unwrap();
        let bytes = client.packet().unwrap();
        assert_eq!(&bytes[bytes.len() - 1..], b"x");
    }
}

/// Resident memory of this process.
fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

#[test]
fn ten_thousand_takeovers_of_one_client_id() {
    let broker = start(4, Limits::default());
    let (mut first, _) = Client::connect(&broker, "same").unwrap();
    first.subscribe("still/there");
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..1250 {
                    // One that is taken over before its CONNACK was read may be closed instead.
                    let _ = Client::connect(&broker, "same").map(|(_, present)| assert!(present));
                }
            });
        }
    });
    let (mut last, present) = Client::connect(&broker, "same").unwrap();
    assert!(present, "the session outlived every connection");
    let message = Message::new("still/there", "x").qos(QoS::AtLeastOnce);
    broker.publish(message).unwrap().wait(DEADLINE).unwrap();
    let bytes = last.packet().unwrap();
    assert_eq!(&bytes[bytes.len() - 1..], b"x", "so did its subscription");
    works(&broker);
    broker.shutdown(DEADLINE).unwrap();
}

#[test]
fn a_thousand_clients_come_back_at_once() {
    let broker = start(4, Limits::default());
    for round in 0..2 {
        let clients: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..10)
                .map(|thread| {
                    let broker = &broker;
                    scope.spawn(move || {
                        let ids = (0..100).map(|n| format!("c-{thread}-{n}"));
                        ids.map(|id| Client::connect(broker, &id).unwrap()).collect::<Vec<_>>()
                    })
                })
                .collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(clients.len(), 1000);
        assert!(clients.iter().all(|(_, present)| *present == (round == 1)), "no session was lost");
    }
    works(&broker);
    broker.shutdown(DEADLINE).unwrap();
}

#[test]
fn noise_is_closed_and_disturbs_nobody() {
    let broker = start(2, Limits::default());
    let mut seed = 1_u64;
    let mut random = move || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as u8
    };
    for n in 0..500 {
        let noise: Vec<u8> = (0..200).map(|_| random()).collect();
        let mut client = if n % 2 == 0 {
            Client::open(&broker)
        } else {
            Client::connect(&broker, &format!("noise-{n}")).unwrap().0
        };
        // The broker may close before it has read everything.
        let _ = client.socket.write_all(&noise);
        let _ = client.socket.shutdown(std::net::Shutdown::Write);
        client.closed();
    }
    works(&broker);
    broker.shutdown(DEADLINE).unwrap();
}

#[test]
fn an_announcement_of_256_mb_costs_no_memory() {
    let limits = Limits { packet_bytes_max: 268_435_455, ..Limits::default() };
    let broker = start(1, limits);
    let mut clients: Vec<_> =
        (0..200).map(|n| Client::connect(&broker, &format!("big-{n}")).unwrap().0).collect();
    let before = resident_bytes();
    for client in &mut clients {
        client.socket.write_all(b"\x30\xff\xff\xff\x7f\0\x01tthe start of a very long payload").unwrap();
    }
    works(&broker);
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < 40 << 20, "200 announcements of 256 MB cost {grown} bytes");
    broker.shutdown(DEADLINE).unwrap();
}

#[test]
fn a_crowd_that_says_nothing_is_sent_away() {
    let limits = Limits { connect_timeout_ms: 300, ..Limits::default() };
    let broker = start(2, limits);
    let silent: Vec<_> = (0..2000).map(|_| Client::open(&broker)).collect();
    works(&broker);
    silent.into_iter().for_each(Client::closed);
    works(&broker);
    broker.shutdown(DEADLINE).unwrap();
}

#[test]
fn a_byte_at_a_time_is_enough() {
    let broker = start(2, Limits::default());
    let mut client = Client::open(&broker);
    let mut bytes = Vec::new();
    Connect::new(Version::V5, "slow").encode(&mut bytes);
    bytes.extend_from_slice(b"\x32\x0a\0\x03s/t\0\x07\0hi\xc0\0");
    for byte in bytes {
        client.socket.write_all(&[byte]).unwrap();
    }
    let first_bytes: Vec<_> = (0..3).map(|_| client.packet().unwrap()[0]).collect();
    assert_eq!(first_bytes, [0x20, 0x40, 0xd0], "CONNACK, PUBACK, PINGRESP");
    broker.shutdown(DEADLINE).unwrap();
}

#[test]
fn one_that_never_reads_holds_its_bound_and_no_more() {
    let limits = Limits { outbox_bytes_max: 1 << 20, ..Limits::default() };
    let broker = start(1, limits);
    let (mut deaf, _) = Client::connect(&broker, "deaf").unwrap();
    deaf.subscribe("flood");
    let (mut good, _) = Client::connect(&broker, "good").unwrap();
    good.subscribe("good");
    let payload = vec![7; 1000];
    for _ in 0..20 {
        for _ in 0..5000 {
            drop(broker.publish(Message::new("flood", payload.clone())).unwrap());
        }
        broker.publish(Message::new("good", "x")).unwrap().wait(DEADLINE).unwrap();
        assert_eq!(good.packet().unwrap().last(), Some(&b'x'));
    }
    let grown_before_close = resident_bytes();
    assert!(grown_before_close < 1 << 30, "100 MB were published to it, {grown_before_close} are resident");
    drop(deaf);
    works(&broker);
    broker.shutdown(DEADLINE).unwrap();
}

#[test]
fn a_thousand_publishes_in_one_write_arrive_in_order() {
    let broker = start(2, Limits::default());
    let (mut subscriber, _) = Client::connect(&broker, "s").unwrap();
    subscriber.subscribe("p/#");
    let (mut publisher, _) = Client::connect(&broker, "p").unwrap();
    let packets: Vec<u8> =
        (0..1000_u16).flat_map(|n| [&b"\x30\x07\0\x03p/t"[..], &n.to_be_bytes()].concat()).collect();
    publisher.socket.write_all(&packets).unwrap();
    let since = Instant::now();
    for n in 0..1000_u16 {
        assert_eq!(subscriber.packet().unwrap()[7..], n.to_be_bytes());
    }
    assert!(since.elapsed() < DEADLINE);
    broker.shutdown(DEADLINE).unwrap();
}
