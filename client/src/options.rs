//! What a session may be told to do.

use std::sync::Arc;

use bytes::Bytes;
use ringmq_codec::{QoS, Version};

use crate::auth::{Authenticator, CredentialsSource};
use crate::message::{MessageProperties, Topic};
use crate::store::Store;

/// How long to wait between tries to connect: from `first_ms`, `factor_percent` / 100 times longer each time,
/// up to `max_ms`; of that a random part with `jitter`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// Before the second try. Default 2,000.
    pub first_ms: u64,
    /// The longest. Default 120,000.
    pub max_ms: u64,
    /// Growth from one try to the next. Default 150.
    pub factor_percent: u32,
    /// Wait a random time between 0 and that (full jitter). Default true.
    pub jitter: bool,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { first_ms: 2_000, max_ms: 120_000, factor_percent: 150, jitter: true }
    }
}

/// What becomes of messages that were sent and not acknowledged when the broker does not know the session any
/// more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LostSession {
    /// They are sent again as new ones: nothing is lost, but one may arrive twice, at QoS 2 too.
    #[default]
    Resend,
    /// Their deliveries fail with [`crate::Error::SessionLost`].
    Fail,
}

/// The message that the broker publishes when the connection ends without a DISCONNECT.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Will {
    /// The topic name.
    pub topic: Topic,
    /// The payload.
    pub payload: Bytes,
    /// Its QoS.
    pub qos: QoS,
    /// Whether it is to be retained.
    pub retain: bool,
    /// Will Delay Interval in seconds, MQTT 5.
    pub delay_s: u32,
    /// Message Expiry Interval in seconds, MQTT 5.
    pub message_expiry_s: Option<u32>,
    /// Other properties, MQTT 5.
    pub properties: MessageProperties,
}

/// Everything that a session is told; made by [`crate::SessionBuilder`](SessionOptions), whose methods say what each
/// means.
#[derive(Clone, Debug)]
pub struct SessionOptions {
    /// Unique in its manager.
    pub(crate) name: Arc<str>,
    /// For messages: the brokers' addresses as they were given, tried in order.
    pub(crate) addresses: Vec<Box<str>>,
    pub(crate) version: Version,
    /// Empty: the broker assigns one (MQTT 5, 3.1.1 with clean start).
    pub(crate) client_id: Box<str>,
    pub(crate) credentials: CredentialsSource,
    pub(crate) authenticator: Option<Arc<dyn Authenticator>>,
    /// For the first connection. Later ones resume what `session_expiry_s` kept (MQTT 5); an MQTT 3 session is
    /// clean each time or never.
    pub(crate) clean_start: bool,
    pub(crate) session_expiry_s: u32,
    pub(crate) keep_alive_s: u16,
    pub(crate) ping_timeout_ms: u64,
    pub(crate) connect_timeout_ms: u64,
    pub(crate) write_timeout_ms: u64,
    pub(crate) backoff: Backoff,
    pub(crate) reconnect: bool,
    pub(crate) resume_subscriptions: bool,
    pub(crate) lost_session: LostSession,
    /// Messages accepted and not yet written (QoS 0) or sent for the first time (QoS 1 and 2).
    pub(crate) queue_messages_max: usize,
    /// The same while there is no connection.
    pub(crate) offline_messages_max: usize,
    /// Messages sent and not acknowledged, further bounded by the broker's Receive Maximum.
    pub(crate) inflight_messages_max: u16,
    /// Largest packet accepted from the broker; announced as Maximum Packet Size.
    pub(crate) packet_bytes_max: u32,
    pub(crate) receive_maximum: u16,
    /// Highest alias that the broker may use towards us.
    pub(crate) topic_alias_maximum: u16,
    /// Aliases that we use towards a broker that allows them; 0 uses none.
    pub(crate) topic_aliases_out_max: u16,
    pub(crate) request_problem_information: bool,
    pub(crate) request_response_information: bool,
    pub(crate) connect_user_properties: Vec<(String, String)>,
    pub(crate) will: Option<Box<Will>>,
    pub(crate) manual_acks: bool,
    pub(crate) store: Option<Arc<dyn Store>>,
}

impl SessionOptions {
    /// The defaults, for a session of this name at these addresses.
    pub(crate) fn new(name: Arc<str>, addresses: Vec<Box<str>>) -> Self {
        Self {
            client_id: Box::from(&*name),
            name,
            addresses,
            version: Version::V5,
            credentials: CredentialsSource::None,
            authenticator: None,
            clean_start: true,
            session_expiry_s: 0,
            keep_alive_s: 60,
            ping_timeout_ms: 30_000,
            connect_timeout_ms: 30_000,
            write_timeout_ms: 30_000,
            backoff: Backoff::default(),
            reconnect: true,
            resume_subscriptions: true,
            lost_session: LostSession::Resend,
            queue_messages_max: 10_000,
            offline_messages_max: 1_000,
            inflight_messages_max: 1_000,
            packet_bytes_max: 16 * 1024 * 1024,
            receive_maximum: u16::MAX,
            topic_alias_maximum: 16,
            topic_aliases_out_max: 0,
            request_problem_information: true,
            request_response_information: false,
            connect_user_properties: Vec::new(),
            will: None,
            manual_acks: false,
            store: None,
        }
    }
}
