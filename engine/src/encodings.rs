//! The packet of one message in the forms that its receivers need.

use bytes::Bytes;
use ringmq_codec::{PacketId, PublishHeader, QoS, Version};
use ringmq_storage::MessageView;
use ringmq_turn::ConnId;

use crate::EngineIo;
use crate::carried::SHARED_PAYLOAD_BYTES_MIN;
use crate::timers::remaining_s;

/// The packet of one message in each form that its receivers need, encoded when first asked for.
#[derive(Debug, Default)]
pub(crate) struct Encodings {
    bytes: Vec<u8>,
    forms: [Form; Form::COUNT],
    filled: u16,
    /// The payload of the message when it goes by reference.
    shared: Option<Bytes>,
}

/// One encoded form.
#[derive(Clone, Copy, Debug, Default)]
struct Form {
    start: usize,
    end: usize,
    packet_id_at: usize,
}

impl Form {
    /// MQTT 5 or older, three QoS, RETAIN or not.
    const COUNT: usize = 12;
}

/// A form ready to be copied.
#[derive(Clone, Copy)]
pub(crate) struct Encoded<'a> {
    pub(crate) head: &'a [u8],
    packet_id_at: usize,
    pub(crate) shared: Option<&'a Bytes>,
}

impl Encoded<'_> {
    pub(crate) fn len(&self) -> usize {
        self.head.len() + self.shared.map_or(0, Bytes::len)
    }
}

impl Encodings {
    /// Forgets the last message.
    pub(crate) fn restart(&mut self) {
        self.filled = 0;
        self.bytes.clear();
        self.shared = None;
    }

    #[inline]
    pub(crate) fn form(&mut self, message: &MessageView<'_>, kind: Kind, wall_ms: u64) -> Encoded<'_> {
        let index = kind.index();
        if self.filled & 1 << index == 0 {
            self.fill(message, kind, wall_ms);
        }
        let form = self.forms[index];
        Encoded {
            head: &self.bytes[form.start..form.end],
            packet_id_at: form.packet_id_at,
            shared: self.shared.as_ref(),
        }
    }

    fn fill(&mut self, message: &MessageView<'_>, kind: Kind, wall_ms: u64) {
        let start = self.bytes.len();
        let packet_id_at = kind.header(message, wall_ms).encode(&mut self.bytes);
        if message.payload.len() >= SHARED_PAYLOAD_BYTES_MIN {
            self.shared.get_or_insert_with(|| share(message));
        } else {
            self.bytes.extend_from_slice(message.payload);
        }
        self.forms[kind.index()] = Form { start, end: self.bytes.len(), packet_id_at };
        self.filled |= 1 << kind.index();
    }
}

/// The payload by reference; copied for it if it lies in a receive buffer.
pub(crate) fn share(message: &MessageView<'_>) -> Bytes {
    message.shared_payload.cloned().unwrap_or_else(|| Bytes::copy_from_slice(message.payload))
}

/// What distinguishes the forms of a message's packet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kind {
    pub(crate) v5: bool,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
}

impl Kind {
    #[inline]
    fn index(self) -> usize {
        self.qos as usize * 4 + usize::from(self.v5) * 2 + usize::from(self.retain)
    }

    pub(crate) fn header<'a>(self, message: &MessageView<'a>, wall_ms: u64) -> PublishHeader<'a> {
        PublishHeader {
            version: if self.v5 { Version::V5 } else { Version::V311 },
            dup: false,
            qos: self.qos,
            retain: self.retain,
            topic: message.topic,
            packet_id: None,
            properties: message.properties,
            message_expiry_s: remaining_s(message.expires_at_ms, wall_ms),
            topic_alias: None,
            subscription_ids: &[],
            payload_len: message.payload.len(),
        }
    }
}

/// Copies a form into a connection's outbox, under a packet id.
#[inline]
pub(crate) fn put(form: Encoded<'_>, packet_id: PacketId, conn: ConnId, io: &mut EngineIo) {
    let outbox = io.outbox(conn);
    let tail = outbox.tail();
    let at = tail.len() + form.packet_id_at;
    tail.extend_from_slice(form.head);
    tail[at..at + 2].copy_from_slice(&packet_id.get().to_be_bytes());
    if let Some(payload) = form.shared {
        outbox.put_shared(payload.clone());
    }
}
