//! Where the answers of a session's machine go.

use ringmq_client::parts::{Arrival, End, Outcome, Sink, StoreChange, Take};
use ringmq_codec::ConnAck;
use ringmq_turn::{ConnId, Outbox};

use super::LoadIo;
use crate::measure::{Kind, Sample};

/// What a call of a machine brought about.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Outcomes {
    /// The broker accepted the connection: whether it knew the session, and its Receive Maximum.
    pub connected: Option<(bool, u16)>,
    /// So many subscriptions were answered.
    pub answered: u32,
}

/// The surroundings of one call of a machine. Who asks for a subscription is known by when.
pub(crate) struct Link<'a> {
    pub io: &'a mut LoadIo,
    pub conn: Option<ConnId>,
    pub sample: &'a mut Sample,
    pub now_ns: u64,
    pub outcomes: Outcomes,
}

impl Sink for Link<'_> {
    type Delivery = u64;

    fn now_ms(&self) -> u64 {
        self.io.now.mono_ms
    }

    fn out(&mut self) -> &mut Outbox {
        self.io.outbox(self.conn.expect("a machine writes to an open connection"))
    }

    fn backlog_bytes(&self) -> usize {
        self.conn.map_or(0, |conn| self.io.backlog_bytes(conn))
    }

    fn backlog_high_bytes(&self) -> usize {
        self.io.backlog_high_bytes
    }

    fn connected(&mut self, connack: &ConnAck<'_>) {
        let receive_maximum = connack.properties.receive_maximum.map_or(u16::MAX, |max| max.get());
        self.outcomes.connected = Some((connack.session_present, receive_maximum));
    }

    fn ready(&mut self) {}

    fn message(&mut self, _message: &Arrival<'_>) -> Take {
        unreachable!("a PUBLISH passes the machine by")
    }

    fn sent(&mut self, _bytes: usize) {}

    fn left_queue(&mut self) {}

    fn settled(&mut self, asked_ns: u64, outcome: Outcome) {
        self.outcomes.answered += 1;
        match outcome {
            Ok(_) => {
                self.sample.counts.subscribed += 1;
                self.sample.record(Kind::Subscribe, self.now_ns.saturating_sub(asked_ns));
            }
            Err(error) => {
                self.sample.counts.subscribe_failed += 1;
                self.sample.trouble(&format!("subscription: {error}"));
            }
        }
    }

    fn store(&mut self, _change: StoreChange) -> Option<u64> {
        None
    }
}

/// Why a machine ended its connection, for people.
pub(crate) fn words(end: &End) -> String {
    match end {
        End::Refused(words) => {
            format!("the broker refused the connection: {}{}", words.reason, said(&words.said))
        }
        End::Disconnected(words) => format!("the broker disconnected: {}{}", words.reason, said(&words.said)),
        End::Unresponsive { after } => format!("the broker did not answer a PINGREQ within {after:?}"),
        End::WriteTimedOut { after } => format!("the broker took no bytes for {after:?}"),
        End::Protocol(what) => format!("the broker broke the protocol: {what}"),
        End::Auth(error) => format!("authentication failed: {error}"),
    }
}

fn said(text: &Option<Box<str>>) -> String {
    text.as_ref().map_or(String::new(), |text| format!(" ({text:?})"))
}
