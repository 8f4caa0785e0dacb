//! Where the answers of a host's machines go.

use std::num::NonZeroU32;
use std::sync::atomic::Ordering;

use ringmq_codec::{ConnAck, ReasonCode};
use ringmq_turn::{ConnId, Outbox};

use super::HostIo;
use super::routes::Batches;
use super::session::Glue;
use crate::error::Error;
use crate::link::{Delivery, Outcome, StoreChange};
use crate::machine::{Arrival, Sink, Take};
use crate::status::Happening;

/// The surroundings of one call of a machine.
pub(super) struct HostSink<'a> {
    pub io: &'a mut HostIo,
    pub conn: Option<ConnId>,
    pub slot: u32,
    pub glue: &'a mut Glue,
    pub batches: &'a mut Batches,
}

impl Sink for HostSink<'_> {
    type Delivery = Delivery;

    #[inline]
    fn now_ms(&self) -> u64 {
        self.io.now.mono_ms
    }

    #[inline]
    fn out(&mut self) -> &mut Outbox {
        self.io.outbox(self.conn.expect("a machine writes to an open connection"))
    }

    #[inline]
    fn backlog_bytes(&self) -> usize {
        self.conn.map_or(0, |conn| self.io.backlog_bytes(conn))
    }

    #[inline]
    fn backlog_high_bytes(&self) -> usize {
        self.io.backlog_high_bytes
    }

    fn connected(&mut self, connack: &ConnAck<'_>) {
        let glue = &mut *self.glue;
        glue.was_up = true;
        if std::mem::replace(&mut glue.has_connected, true) {
            glue.shared.metrics.reconnects.fetch_add(1, Ordering::Relaxed);
        }
        let bytes_max = connack.properties.packet_bytes_max.map_or(u32::MAX, NonZeroU32::get);
        glue.shared.broker_packet_bytes_max.store(bytes_max, Ordering::Relaxed);
        if let Some(information) = connack.properties.response_information {
            glue.shared.set_response_information(information);
        }
        glue.shared.set_connected(true);
        let (address, session_present) = (usize::from(glue.address), connack.session_present);
        glue.shared.watcher.happened(&glue.shared, Happening::Connected { address, session_present });
    }

    fn ready(&mut self) {
        self.glue.shared.watcher.happened(&self.glue.shared, Happening::Ready);
    }

    fn message(&mut self, arrival: &Arrival<'_>) -> Take {
        self.glue.counts.received += 1;
        self.glue.counts.received_bytes += (arrival.topic.len() + arrival.publish.payload.len()) as u64;
        self.batches.route(self.slot, self.glue, arrival)
    }

    #[inline]
    fn sent(&mut self, bytes: usize) {
        self.glue.counts.sent += 1;
        self.glue.counts.sent_bytes += bytes as u64;
    }

    #[inline]
    fn left_queue(&mut self) {
        self.glue.counts.left_queue += 1;
    }

    fn settled(&mut self, delivery: Delivery, outcome: Outcome) {
        if let Err(Error::Refused(_)) = &outcome {
            self.glue.counts.errors += 1;
        }
        if let Some(delivery) = delivery {
            delivery.settle(outcome);
        }
    }

    fn explained(&mut self, reason: ReasonCode, said: &str) {
        tracing::warn!(session = &*self.glue.shared.options.name, "the broker refused: {reason} ({said})");
    }

    fn store(&mut self, change: StoreChange) -> Option<u64> {
        self.glue.shared.store.as_ref().map(|store| store.post(change))
    }
}

impl Glue {
    /// Tells the program's side.
    pub fn tell(&self, happening: Happening) {
        self.shared.watcher.happened(&self.shared, happening);
    }

    /// A connection failed, or was lost.
    pub fn count_error(&mut self) {
        self.counts.errors += 1;
    }
}
