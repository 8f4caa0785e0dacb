//! What a session may be told to do.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Weak};

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

/// Everything that a session is told; made by [`crate::SessionBuilder`], whose methods say what each means.
#[derive(Clone, Debug)]
pub struct SessionOptions {
    /// Unique in its manager.
    pub(crate) name: Arc<str>,
    /// Empty: the broker assigns one (MQTT 5, 3.1.1 with clean start).
    pub(crate) client_id: Arc<str>,
    pub(crate) credentials: CredentialsSource,
    pub(crate) authenticator: Option<Arc<dyn Authenticator>>,
    pub(crate) will: Option<Box<Will>>,
    pub(crate) store: Option<Arc<dyn Store>>,
    common: Arc<Common>,
}

/// Options that thousands of sessions may have in common; they are read as those of [`SessionOptions`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Common {
    /// For messages: the brokers' addresses as they were given, tried in order.
    pub(crate) addresses: Vec<Box<str>>,
    pub(crate) version: Version,
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
    pub(crate) manual_acks: bool,
}

impl SessionOptions {
    /// The defaults, for a session of this name at these addresses.
    pub fn new(name: Arc<str>, addresses: Vec<Box<str>>) -> Self {
        let common = Common {
            addresses,
            version: Version::V5,
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
            manual_acks: false,
        };
        Self {
            client_id: Arc::clone(&name),
            name,
            credentials: CredentialsSource::None,
            authenticator: None,
            will: None,
            store: None,
            common: Arc::new(common),
        }
    }
}

impl Deref for SessionOptions {
    type Target = Common;

    fn deref(&self) -> &Common {
        &self.common
    }
}

/// Other sessions keep what they have.
impl DerefMut for SessionOptions {
    fn deref_mut(&mut self) -> &mut Common {
        Arc::make_mut(&mut self.common)
    }
}

/// How many different ones a manager remembers.
const COMMONS_MAX: usize = 16;

/// What the sessions that were added last have in common, the last first.
#[derive(Debug, Default)]
pub struct Commons(Vec<Weak<Common>>);

impl Commons {
    /// Has a session use what an earlier one has that is equal.
    pub fn share(&mut self, options: &mut SessionOptions) {
        self.0.retain(|known| known.strong_count() > 0);
        let equal = |(at, known): (usize, &Weak<Common>)| {
            known.upgrade().filter(|known| *known == options.common).map(|known| (at, known))
        };
        if let Some((at, known)) = self.0.iter().enumerate().find_map(equal) {
            options.common = known;
            self.0[..=at].rotate_right(1);
        } else {
            self.0.truncate(COMMONS_MAX - 1);
            self.0.insert(0, Arc::downgrade(&options.common));
        }
    }
}

/// Thousands of them are kept.
const _: () = assert!(size_of::<SessionOptions>() <= 104);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_options_are_kept_once() {
        let mut commons = Commons::default();
        let make = |name: &str, keep_alive_s| {
            let mut options = SessionOptions::new(name.into(), vec!["mqtt://a".into()]);
            options.keep_alive_s = keep_alive_s;
            options
        };
        let mut kept: Vec<SessionOptions> = (0..COMMONS_MAX as u16).map(|it| make("first", it)).collect();
        kept.iter_mut().for_each(|options| commons.share(options));
        for (at, first) in kept.iter().enumerate() {
            let mut options = make("other", at as u16);
            assert!(!Arc::ptr_eq(&options.common, &first.common));
            commons.share(&mut options);
            assert!(Arc::ptr_eq(&options.common, &first.common), "{at}");
            assert_eq!(&*options.name, "other");
            // A change is the session's own.
            options.keep_alive_s = 1000;
            assert_eq!((options.keep_alive_s, first.keep_alive_s), (1000, at as u16));
        }
        // Of too many, the one that was shared longest ago is forgotten; so is one that nobody has any more.
        commons.share(&mut make("other", 0));
        let mut new = make("new", 100);
        commons.share(&mut new);
        assert_eq!(commons.0.len(), COMMONS_MAX);
        for (keep_alive_s, is_known) in [(0, true), (100, true), (2, true), (1, false)] {
            let mut options = make("other", keep_alive_s);
            let before = Arc::as_ptr(&options.common);
            commons.share(&mut options);
            assert_eq!(before != Arc::as_ptr(&options.common), is_known, "{keep_alive_s}");
        }
        drop(kept);
        commons.share(&mut new);
        assert_eq!(commons.0.len(), 1);
    }
}
