//! A message in the form that travels between shards.

use bytes::Bytes;
use ringmq_codec::QoS;
use ringmq_storage::{MessageView, PublicationRecord};

/// From this size up a payload is shared by reference instead of being copied.
pub(crate) const SHARED_PAYLOAD_BYTES_MIN: usize = 4096;

/// A message that travels between shards, shared by all of them.
#[derive(Debug)]
pub struct CarriedMessage {
    /// Topic, properties and, unless it is shared, payload.
    bytes: Box<[u8]>,
    topic_bytes: u16,
    properties_bytes: u32,
    shared: Option<Bytes>,
    qos: QoS,
    retain: bool,
    expires_at_ms: u64,
    /// Number of the message that has its topic's owner store it, on the publisher's lane to that; 0 if
    /// there is none.
    stored_as: u64,
    /// Its number, if it must not be taken twice.
    publication: Option<PublicationRecord>,
}

impl CarriedMessage {
    pub(crate) fn new(view: &MessageView<'_>, qos: QoS, retain: bool) -> Self {
        let shared = view.shared_payload.cloned();
        let copied = if shared.is_some() { &[][..] } else { view.payload };
        Self {
            bytes: [view.topic, view.properties, copied].concat().into_boxed_slice(),
            topic_bytes: view.topic.len() as u16,
            properties_bytes: view.properties.len() as u32,
            shared,
            qos,
            retain,
            expires_at_ms: view.expires_at_ms,
            stored_as: 0,
            publication: None,
        }
    }

    pub(crate) fn with_publication(self, publication: Option<PublicationRecord>) -> Self {
        Self { publication, ..self }
    }

    pub(crate) fn publication(&self) -> Option<PublicationRecord> {
        self.publication
    }

    pub(crate) fn with_stored_as(self, number: u64) -> Self {
        Self { stored_as: number, ..self }
    }

    pub(crate) fn stored_as(&self) -> u64 {
        self.stored_as
    }

    pub(crate) fn view(&self) -> MessageView<'_> {
        let (topic, rest) = self.bytes.split_at(usize::from(self.topic_bytes));
        let (properties, copied) = rest.split_at(self.properties_bytes as usize);
        MessageView {
            topic,
            properties,
            payload: self.shared.as_ref().map_or(copied, |payload| payload),
            shared_payload: self.shared.as_ref(),
            qos: self.qos as u8,
            expires_at_ms: self.expires_at_ms,
        }
    }

    pub(crate) fn qos(&self) -> QoS {
        self.qos
    }

    pub(crate) fn retain(&self) -> bool {
        self.retain
    }
}
