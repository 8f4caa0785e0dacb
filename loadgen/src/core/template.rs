//! PUBLISH packets, encoded once and sent often.

use bytes::Bytes;
use ringmq_codec::{PublishHeader, QoS, Version};
use ringmq_turn::Outbox;

use crate::payload::{Content, SHARED_PAYLOAD_BYTES_MIN, STAMP_BYTES, Stamp, Tag};
use crate::scenario::Publish;

/// What differs from one message to the next.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Particular {
    /// 0 at QoS 0.
    pub packet_id: u16,
    pub stamp: Stamp,
}

/// A PUBLISH that only lacks what differs.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    /// Up to the payload's end, or its shared part.
    frame: Vec<u8>,
    /// Where the packet id is; 0 at QoS 0.
    id_at: usize,
    payload_at: usize,
    /// The rest of a large payload.
    shared: Bytes,
}

fn header(
    publish: &Publish,
    version: Version,
    topic: &[u8],
    payload_len: usize,
    frame: &mut Vec<u8>,
) -> usize {
    PublishHeader {
        version,
        dup: false,
        qos: publish.qos,
        retain: publish.retain,
        topic,
        packet_id: None,
        properties: &[],
        message_expiry_s: None,
        topic_alias: None,
        subscription_ids: &[],
        payload_len,
    }
    .encode(frame)
}

impl Template {
    pub fn new(publish: &Publish, version: Version, topic: &[u8], content: &Content) -> Self {
        let bytes = &content.bytes;
        let mut frame = Vec::new();
        let id_at = header(publish, version, topic, bytes.len(), &mut frame);
        let payload_at = frame.len();
        let copied = if bytes.len() >= SHARED_PAYLOAD_BYTES_MIN { STAMP_BYTES } else { bytes.len() };
        frame.extend_from_slice(&bytes[..copied]);
        Self { frame, id_at, payload_at, shared: Bytes::copy_from_slice(&bytes[copied..]) }
    }

    /// Bytes of the payload.
    #[inline]
    pub fn payload_len(&self) -> usize {
        self.frame.len() - self.payload_at + self.shared.len()
    }

    /// Appends one message.
    #[inline]
    pub fn write(&self, particular: Particular, tag: Tag, out: &mut Outbox) {
        let bytes = out.tail();
        let start = bytes.len();
        bytes.extend_from_slice(&self.frame);
        patch(&mut bytes[start..], self.id_at, self.payload_at, particular, tag);
        if !self.shared.is_empty() {
            out.put_shared(self.shared.clone());
        }
    }
}

#[inline]
fn patch(frame: &mut [u8], id_at: usize, payload_at: usize, particular: Particular, tag: Tag) {
    if id_at > 0 {
        frame[id_at..id_at + 2].copy_from_slice(&particular.packet_id.to_be_bytes());
    }
    particular.stamp.write(tag, &mut frame[payload_at..]);
}

/// What a message has of its own beside its stamp.
pub(crate) struct Body<'a> {
    pub version: Version,
    pub topic: &'a [u8],
    pub payload: &'a [u8],
}

/// Appends a message that is not like the one before.
pub(crate) fn write_different(
    publish: &Publish,
    body: &Body<'_>,
    particular: Particular,
    tag: Tag,
    out: &mut Outbox,
) {
    let bytes = out.tail();
    let start = bytes.len();
    let id_at = header(publish, body.version, body.topic, body.payload.len(), bytes);
    let payload_at = bytes.len() - start;
    bytes.extend_from_slice(body.payload);
    patch(&mut bytes[start..], id_at, payload_at, particular, tag);
}

/// Appends an empty retained message at QoS 1.
pub(crate) fn write_clearing(version: Version, topic: &[u8], packet_id: u16, out: &mut Outbox) {
    let bytes = out.tail();
    let start = bytes.len();
    let id_at = PublishHeader {
        version,
        dup: false,
        qos: QoS::AtLeastOnce,
        retain: true,
        topic,
        packet_id: None,
        properties: &[],
        message_expiry_s: None,
        topic_alias: None,
        subscription_ids: &[],
        payload_len: 0,
    }
    .encode(bytes);
    bytes[start + id_at..start + id_at + 2].copy_from_slice(&packet_id.to_be_bytes());
}
