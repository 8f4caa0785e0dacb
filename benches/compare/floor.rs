//! The floor: a program that cheats. It answers CONNECT, SUBSCRIBE and acknowledgements by rote and passes
//! the same bytes on, so that it costs what a broker on this runtime cannot do without.
//!
//! It takes each publisher to have one topic, looks once for who hears it, and repeats its packet
//! identifiers, which is wrong where a subscriber hears more than one publisher above QoS 0.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use bytes::Bytes;
use ringmq_codec::{Ack, QoS};
use ringmq_codec::{
    AckKind, ConnAck, Connect, Decoded, Frame, Packet, PacketId, PacketType, ReasonCode, Version,
    encode_connack, encode_pingresp, encode_suback, frame, matches,
};
use ringmq_shards::{ListenerConfig, RuntimeConfig, start};
use ringmq_turn::{CloseReason, ConnId, ConnInfo, Core, Io, ShardId, SyncFailure, SyncTicket};

const PACKET_BYTES_MAX: u32 = 1 << 20;
/// From here on, bytes for several are copied once only.
const SHARED_BYTES_MIN: usize = 4096;

struct Conn {
    id: ConnId,
    version: Version,
    filters: Vec<String>,
    /// Who hears what this one publishes, once that was asked.
    to: Option<Vec<ConnId>>,
    /// The start of a packet whose end has not come.
    tail: Vec<u8>,
}

#[derive(Default)]
struct Floor {
    conns: Vec<Option<Conn>>,
}

/// Something that is not MQTT came.
struct Broken;

impl Floor {
    /// Forgets who hears whom.
    fn forget(&mut self) {
        self.conns.iter_mut().flatten().for_each(|conn| conn.to = None);
    }

    fn hearers(&self, topic: &str) -> Vec<ConnId> {
        let hears = |conn: &&Conn| conn.filters.iter().any(|filter| matches(filter, topic));
        self.conns.iter().flatten().filter(hears).map(|conn| conn.id).collect()
    }

    fn conn(&mut self, conn: ConnId) -> Result<&mut Conn, Broken> {
        self.conns.get_mut(conn.index()).and_then(Option::as_mut).ok_or(Broken)
    }

    /// Takes whole packets; how many bytes those were.
    fn packets(&mut self, conn: ConnId, bytes: &[u8], io: &mut Io<(), ()>) -> Result<usize, Broken> {
        let (mut at, mut run) = (0, 0);
        loop {
            match frame(&bytes[at..], PACKET_BYTES_MAX).map_err(|_| Broken)? {
                Decoded::Incomplete { .. } => break,
                Decoded::Complete(packet) => {
                    let is_publish = packet.packet_type() == Ok(PacketType::Publish);
                    if !is_publish {
                        self.relay(conn, &bytes[run..at], io)?;
                        run = at + packet.total;
                        self.control(conn, &packet, io)?;
                    } else if packet.flags() & 0b110 != 0 {
                        answer(conn, &packet, io)?;
                    }
                    at += packet.total;
                }
            }
        }
        self.relay(conn, &bytes[run..at], io)?;
        Ok(at)
    }

    /// Passes PUBLISH packets on as they are.
    fn relay(&mut self, conn: ConnId, packets: &[u8], io: &mut Io<(), ()>) -> Result<(), Broken> {
        if packets.is_empty() {
            return Ok(());
        }
        if self.conn(conn)?.to.is_none() {
            let Ok(Decoded::Complete(first)) = frame(packets, PACKET_BYTES_MAX) else { return Err(Broken) };
            let topic = topic(&first)?.to_owned();
            let to = self.hearers(&topic);
            self.conn(conn)?.to = Some(to);
        }
        let to = self.conn(conn)?.to.as_deref().unwrap_or_default();
        if packets.len() < SHARED_BYTES_MIN || to.len() < 2 {
            to.iter().for_each(|&hearer| io.outbox(hearer).put(packets));
        } else {
            let shared = Bytes::copy_from_slice(packets);
            to.iter().for_each(|&hearer| io.outbox(hearer).put_shared(shared.clone()));
        }
        Ok(())
    }

    fn control(&mut self, conn: ConnId, packet: &Frame<'_>, io: &mut Io<(), ()>) -> Result<(), Broken> {
        let kind = packet.packet_type().map_err(|_| Broken)?;
        let out = io.outbox(conn).tail();
        let reply = |kind, out: &mut Vec<u8>| {
            let id = id_at(packet.body, 0)?;
            Ack::new(id, ReasonCode::Success).encode(kind, Version::V311, out);
            Ok(())
        };
        match kind {
            PacketType::Connect => {
                let version = Connect::decode(packet).map_err(|_| Broken)?.version;
                encode_connack(version, &ConnAck::new(ReasonCode::Success), out);
                self.conn(conn)?.version = version;
            }
            PacketType::Subscribe => {
                let version = self.conn(conn)?.version;
                let Ok(Packet::Subscribe(subscribe)) = Packet::decode(version, packet) else {
                    return Err(Broken);
                };
                let mut granted = Vec::new();
                for filter in subscribe.filters {
                    granted.push(match filter.options.qos {
                        QoS::AtMostOnce => ReasonCode::Success,
                        QoS::AtLeastOnce => ReasonCode::GrantedQoS1,
                        QoS::ExactlyOnce => ReasonCode::GrantedQoS2,
                    });
                    self.conn(conn)?.filters.push(filter.filter.to_owned());
                }
                encode_suback(version, subscribe.packet_id, &granted, out);
                self.forget();
            }
            PacketType::PubRec => reply(AckKind::PubRel, out)?,
            PacketType::PubRel => reply(AckKind::PubComp, out)?,
            PacketType::PingReq => encode_pingresp(out),
            PacketType::PubAck | PacketType::PubComp => {}
            PacketType::Disconnect => io.close(conn),
            PacketType::ConnAck
            | PacketType::Publish
            | PacketType::SubAck
            | PacketType::Unsubscribe
            | PacketType::UnsubAck
            | PacketType::PingResp
            | PacketType::Auth => return Err(Broken),
        }
        Ok(())
    }
}

/// PUBACK or PUBREC for a PUBLISH.
fn answer(conn: ConnId, packet: &Frame<'_>, io: &mut Io<(), ()>) -> Result<(), Broken> {
    let id = id_at(packet.body, 2 + topic(packet)?.len())?;
    let kind = if packet.flags() & 0b100 == 0 { AckKind::PubAck } else { AckKind::PubRec };
    Ack::new(id, ReasonCode::Success).encode(kind, Version::V311, io.outbox(conn).tail());
    Ok(())
}

fn topic<'a>(packet: &Frame<'a>) -> Result<&'a str, Broken> {
    let [high, low, rest @ ..] = packet.body else { return Err(Broken) };
    let bytes = rest.get(..usize::from(u16::from_be_bytes([*high, *low]))).ok_or(Broken)?;
    std::str::from_utf8(bytes).map_err(|_| Broken)
}

fn id_at(body: &[u8], at: usize) -> Result<PacketId, Broken> {
    let Some(&[high, low]) = body.get(at..at + 2) else { return Err(Broken) };
    PacketId::new(u16::from_be_bytes([high, low])).ok_or(Broken)
}

impl Core for Floor {
    type Message = ();
    type Command = ();
    type Event = ();

    fn opened(&mut self, conn: ConnId, _: &ConnInfo, _: &mut Io<(), ()>) {
        if self.conns.len() <= conn.index() {
            self.conns.resize_with(conn.index() + 1, || None);
        }
        self.conns[conn.index()] =
            Some(Conn { id: conn, version: Version::V311, filters: Vec::new(), to: None, tail: Vec::new() });
    }

    fn received(&mut self, conn: ConnId, bytes: &[u8], io: &mut Io<(), ()>) {
        let Ok(state) = self.conn(conn) else { return };
        let mut tail = std::mem::take(&mut state.tail);
        let whole = if tail.is_empty() {
            bytes
        } else {
            tail.extend_from_slice(bytes);
            &tail
        };
        match self.packets(conn, whole, io) {
            Ok(done) => {
                let rest = if tail.is_empty() {
                    bytes[done..].to_vec()
                } else {
                    tail.drain(..done);
                    tail
                };
                if let Ok(state) = self.conn(conn) {
                    state.tail = rest;
                }
            }
            Err(Broken) => io.close(conn),
        }
    }

    fn closed(&mut self, conn: ConnId, _: CloseReason, _: &mut Io<(), ()>) {
        let gone = self.conns.get_mut(conn.index()).and_then(Option::take);
        if gone.is_some_and(|gone| !gone.filters.is_empty()) {
            self.forget();
        }
    }

    fn drained(&mut self, _: ConnId, _: &mut Io<(), ()>) {}
    fn message(&mut self, _: ShardId, (): (), _: &mut Io<(), ()>) {}
    fn command(&mut self, (): (), _: &mut Io<(), ()>) {}
    fn synced(&mut self, _: SyncTicket, _: Result<std::time::Duration, SyncFailure>, _: &mut Io<(), ()>) {}
    fn turn_over(&mut self, _: &mut Io<(), ()>) {}
    fn shutdown(&mut self, _: &mut Io<(), ()>) {}
}

/// Serves at a port of the loopback until the process is killed.
pub fn serve(port: u16) -> io::Result<Infallible> {
    let config = RuntimeConfig {
        shards: Some(1),
        listeners: vec![ListenerConfig::tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))],
        ..RuntimeConfig::default()
    };
    let _runtime = start(config, |_| Floor::default(), |_, ()| {}).map_err(io::Error::other)?;
    loop {
        std::thread::park();
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;

    use super::*;

    /// Sends bytes and reads as many as the answer is to have.
    fn talk(stream: &mut TcpStream, send: &[u8], expected: &[u8]) {
        stream.write_all(send).unwrap();
        let mut got = vec![0; expected.len()];
        stream.read_exact(&mut got).unwrap();
        assert_eq!(got, expected);
    }

    fn connect(addr: SocketAddr) -> TcpStream {
        let mut stream = TcpStream::connect(addr).unwrap();
        stream.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
        let mut packet = Vec::new();
        Connect::new(Version::V311, "a").encode(&mut packet);
        talk(&mut stream, &packet, &[0x20, 2, 0, 0]);
        stream
    }

    #[test]
    fn messages_are_passed_on_as_they_are() {
        let config = RuntimeConfig {
            shards: Some(1),
            listeners: vec![ListenerConfig::tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))],
            ..RuntimeConfig::default()
        };
        let runtime = start(config, |_| Floor::default(), |_, ()| {}).unwrap();
        let (mut hearer, mut publisher) = (connect(runtime.addresses()[0]), connect(runtime.addresses()[0]));
        talk(&mut hearer, b"\x82\x08\0\x01\0\x03t/+\x02", b"\x90\x03\0\x01\x02");
        // At QoS 0, cut in two, at QoS 1, and at QoS 2.
        publisher.write_all(b"\x30\x08\0\x03t/ax").unwrap();
        publisher.write_all(b"yz").unwrap();
        talk(&mut hearer, b"", b"\x30\x08\0\x03t/axyz");
        talk(&mut publisher, b"\x32\x08\0\x03t/a\0\x07x", b"\x40\x02\0\x07");
        talk(&mut hearer, b"\x40\x02\0\x07", b"\x32\x08\0\x03t/a\0\x07x");
        talk(&mut publisher, b"\x34\x08\0\x03t/a\0\x08x", b"\x50\x02\0\x08");
        talk(&mut publisher, b"\x62\x02\0\x08", b"\x70\x02\0\x08");
        talk(&mut hearer, b"\x50\x02\0\x08", b"\x34\x08\0\x03t/a\0\x08x\x62\x02\0\x08");
        talk(&mut hearer, b"\xc0\0", b"\xd0\0");
        runtime.shutdown(std::time::Duration::ZERO).unwrap();
    }
}
