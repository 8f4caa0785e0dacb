//! Bytes as a server might send them, through a machine: nothing may panic.

use std::sync::Arc;

use ringmq_codec::{ConnAck, PacketId, QoS, ReasonCode, SubscriptionOptions, Version};
use ringmq_turn::Outbox;

use super::{Arrival, Machine, Sink, Take};
use crate::auth::Credentials;
use crate::link::{Acknowledgement, Number, Outcome, Publication, Restored, StoreChange, Wanted};
use crate::message::Message;
use crate::options::SessionOptions;

/// A sink that takes everything, and acknowledges some of it later.
#[derive(Debug, Default)]
struct Drain {
    now_ms: u64,
    out: Outbox,
    later: Vec<Acknowledgement>,
    messages: u32,
    stored: u64,
    has_store: bool,
    settled: u64,
}

impl Sink for Drain {
    type Delivery = u64;

    fn now_ms(&self) -> u64 {
        self.now_ms
    }

    fn out(&mut self) -> &mut Outbox {
        &mut self.out
    }

    fn backlog_bytes(&self) -> usize {
        0
    }

    fn backlog_high_bytes(&self) -> usize {
        0
    }

    fn connected(&mut self, _connack: &ConnAck<'_>) {}

    fn ready(&mut self) {}

    fn message(&mut self, arrival: &Arrival<'_>) -> Take {
        assert!(ringmq_codec::check_name(arrival.topic.as_bytes()).is_ok());
        self.messages += 1;
        match arrival.publish.packet_id {
            Some(packet_id) if self.messages.is_multiple_of(3) => {
                self.later.push(Acknowledgement { connection: arrival.connection, packet_id });
                Take::Later { is_kept: self.messages.is_multiple_of(2) }
            }
            Some(_) | None => Take::Now,
        }
    }

    fn sent(&mut self, _bytes: usize) {}

    fn left_queue(&mut self) {}

    fn settled(&mut self, delivery: u64, _outcome: Outcome) {
        self.settled += delivery;
    }

    fn store(&mut self, _change: StoreChange) -> Option<u64> {
        if !self.has_store {
            return None;
        }
        self.stored += 1;
        Some(self.stored)
    }
}

impl Drain {
    /// The server takes what was written.
    fn empty(&mut self) {
        let (bytes, shared) = self.out.take(Vec::new(), Vec::new());
        self.out.sent(bytes.len() + shared.iter().map(|piece| piece.bytes.len()).sum::<usize>());
    }
}

/// The first byte picks the version and what the session is like, the rest is what the server sends; 0xFE between
/// packets stands for the program or the clock doing something.
#[doc(hidden)]
pub fn receive(data: &[u8]) {
    let Some((&first, mut data)) = data.split_first() else { return };
    let mut options = SessionOptions::new("f".into(), vec!["mqtt://f".into()]);
    options.version = [Version::V31, Version::V311, Version::V5][usize::from(first % 3)];
    options.receive_maximum = if first & 0x10 == 0 { 4 } else { u16::MAX };
    options.packet_bytes_max = 1 << 20;
    options.topic_aliases_out_max = 2;
    options.clean_start = first & 0x20 == 0;
    options.manual_acks = true;
    let is_v5 = options.version.is_v5();
    let mut sink = Drain { now_ms: 1, has_store: first & 0x40 != 0, ..Drain::default() };
    let mut machine = Machine::<u64>::new(Arc::new(options), Restored::default());
    let mut given = 0;
    let mut next = 0;
    machine.open(&Credentials::default(), &mut sink).expect("nothing was authenticated");
    let mut is_open = true;
    if first & 0x80 != 0 {
        let mut connack = vec![0x20, 2 + u8::from(is_v5), 0, 0];
        connack.extend(is_v5.then_some(0));
        is_open = machine.received(&connack, &mut sink).is_ok();
    }
    while let Some((&byte, rest)) = data.split_first() {
        if byte != 0xFE {
            let end = data.iter().position(|byte| *byte == 0xFE).unwrap_or(data.len());
            let (bytes, after) = data.split_at(end);
            is_open = is_open && machine.received(bytes, &mut sink).is_ok();
            data = after;
        } else {
            let Some((&what, rest)) = rest.split_first() else { break };
            data = rest;
            match what % 7 {
                0 | 1 => {
                    let qos = QoS::try_from(what / 7 % 3).expect("it is below 3");
                    let number = (qos != QoS::AtMostOnce).then_some(Number(next));
                    next += u64::from(number.is_some());
                    given += 1;
                    let message = Message::new("a/b", vec![what; usize::from(what)]).qos(qos);
                    machine.publish(Publication { message, number, since_ms: 0, delivery: 1 }, &mut sink);
                }
                2 => {
                    given += 1;
                    let options = SubscriptionOptions::default();
                    let filter: Arc<str> = if what & 0x80 == 0 { "a/#".into() } else { "b".into() };
                    machine.subscribe(Wanted { filter, options, subscription_id: 0 }, Some(1), &mut sink);
                }
                3 => {
                    given += 1;
                    machine.unsubscribe(&"a/#".into(), 1, &mut sink);
                }
                4 => {
                    sink.now_ms += u64::from(what) * 1000;
                    is_open = is_open && machine.due(&mut sink).is_ok();
                }
                5 => {
                    let stored = sink.stored;
                    machine.stored(stored, &mut sink);
                    sink.later.pop().into_iter().for_each(|ack| machine.acknowledge(ack, &mut sink));
                }
                _ => {
                    let packet_id = PacketId::new(u16::from(what)).expect("it is 6 at least");
                    machine.acknowledge(Acknowledgement { connection: 1, packet_id }, &mut sink);
                    machine.say_disconnect(ReasonCode::Success, &mut sink);
                }
            }
        }
        sink.empty();
        if !is_open {
            machine.ended(&mut sink);
            machine.open(&Credentials::default(), &mut sink).expect("nothing was authenticated");
            is_open = true;
        }
    }
    machine.gone(&mut sink);
    assert_eq!(machine.unsettled(), 0);
    assert_eq!(sink.settled, given, "everybody is told once");
}
