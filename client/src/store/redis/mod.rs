//! A store in Redis, or what speaks its protocol.
//!
//! Four keys for each session, all with the same tag so that a cluster has them on one node, below a prefix:
//!
//! - `ringmq:session:{name}:meta`, a hash: `format` is 1, `next` the number of the next publication;
//! - `ringmq:session:{name}:pub`, a hash from numbers of publications to values: a byte 1, the end of the
//!   message's life (eight bytes, little-endian milliseconds since 1970, 0 for never), an MQTT 5 PUBLISH packet;
//!   or a single byte 2 once PUBREC came;
//! - `ringmq:session:{name}:taken`, a set of packet ids;
//! - `ringmq:session:{name}:subs`, a hash from topic filters to `OPTIONS ID`: the options byte of MQTT 5 and the
//!   Subscription Identifier, in decimal.
//!
//! What belongs together is one transaction.

mod calls;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use redis::Pipeline;
use ringmq_codec::{PacketId, SubscriptionOptions, Version};

use super::encoding::{FIELD_BYTES_MAX, check_fields, decode_value, encode_value, released_value, wall_ms};
use super::{Number, Restored, SessionStore, Store, StoreChange, StoreError, Wanted};
use crate::message::Message;
use calls::Calls;

/// The layout that is described above.
const FORMAT: &str = "1";
/// So many times within their time to live, keys of open sessions get a new one.
const REFRESHES_PER_TTL: u32 = 3;

/// How a [`Redis`] is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisOptions {
    /// What all keys begin with. Default `ringmq`. Managers that share a Redis and have sessions of the same
    /// names need prefixes of their own.
    pub prefix: String,
    /// How long a session is kept that is not open anywhere; none, the default: for ever.
    pub ttl: Option<Duration>,
    /// How long to wait for a connection, and for an answer. Default 2 s.
    pub timeout: Duration,
    /// How long a call tries again after a failure, with growing pauses, before it answers with an error.
    /// Default 3 s.
    pub retry_for: Duration,
    /// Connections at a time. Default 4.
    pub connections_max: usize,
}

impl Default for RedisOptions {
    fn default() -> Self {
        Self {
            prefix: "ringmq".to_owned(),
            ttl: None,
            timeout: Duration::from_secs(2),
            retry_for: Duration::from_secs(3),
            connections_max: 4,
        }
    }
}

/// A store in Redis. Clones share it.
///
/// A session is to be open in one process at a time: nothing stops another from opening it, and both from
/// writing to it.
#[derive(Clone, Debug)]
pub struct Redis {
    calls: Arc<Calls>,
}

impl Redis {
    /// The store in the Redis at an address: `redis://[user:password@]host[:port][/database]`, or
    /// `unix:/path/of/the/socket`. Connects when it is first used.
    ///
    /// # Errors
    /// The address, or an option, makes no sense.
    pub fn new(address: &str, options: RedisOptions) -> Result<Self, StoreError> {
        Ok(Self { calls: Arc::new(Calls::new(address, options)?) })
    }
}

impl Store for Redis {
    fn open(&self, session: &str) -> Result<Box<dyn SessionStore>, StoreError> {
        let calls = Arc::clone(&self.calls);
        if !calls.claim(session) {
            return Err(StoreError::InUse { store: calls.name(), session: session.to_owned() });
        }
        let session =
            RedisSession { keys: Keys::new(&calls.options.prefix, session), name: session.into(), calls };
        session.begin()?;
        Ok(Box::new(session))
    }

    fn refresh_every(&self) -> Option<Duration> {
        self.calls.options.ttl.map(|ttl| ttl / REFRESHES_PER_TTL)
    }

    fn refresh(&self) -> Result<(), StoreError> {
        let names = self.calls.claimed();
        let prefix = &self.calls.options.prefix;
        self.calls.run(&|pipeline| {
            for name in &names {
                self.expire(&Keys::new(prefix, name), pipeline);
            }
        })
    }
}

impl Redis {
    fn expire(&self, keys: &Keys, pipeline: &mut Pipeline) {
        expire(self.calls.options.ttl, keys, pipeline);
    }
}

fn expire(ttl: Option<Duration>, keys: &Keys, pipeline: &mut Pipeline) {
    let Some(ttl) = ttl else { return };
    let ttl_ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).clamp(1, i64::MAX as u64 / 2);
    for key in [&keys.meta, &keys.publications, &keys.taken, &keys.subscriptions] {
        pipeline.cmd("PEXPIRE").arg(key).arg(ttl_ms).ignore();
    }
}

/// The names of a session's keys.
#[derive(Debug)]
struct Keys {
    meta: String,
    publications: String,
    taken: String,
    subscriptions: String,
}

impl Keys {
    fn new(prefix: &str, session: &str) -> Self {
        let key = |what: &str| format!("{prefix}:session:{{{session}}}:{what}");
        Self { meta: key("meta"), publications: key("pub"), taken: key("taken"), subscriptions: key("subs") }
    }
}

#[derive(Debug)]
struct RedisSession {
    name: Box<str>,
    keys: Keys,
    calls: Arc<Calls>,
}

impl Drop for RedisSession {
    fn drop(&mut self) {
        self.calls.give_up(&self.name);
    }
}

/// A session's keys as they were read.
type Read = (BTreeMap<String, String>, BTreeMap<String, Vec<u8>>, Vec<String>, BTreeMap<String, String>);

impl RedisSession {
    fn damaged(&self, detail: String) -> StoreError {
        StoreError::Damaged { store: self.calls.name(), session: self.name.to_string(), detail }
    }

    /// Refuses what has another layout.
    fn begin(&self) -> Result<(), StoreError> {
        let (format,): (Option<String>,) = self.calls.query(&|pipeline| {
            pipeline.cmd("HGET").arg(&self.keys.meta).arg("format");
        })?;
        match format.as_deref() {
            None | Some(FORMAT) => Ok(()),
            Some(other) => {
                Err(self.damaged(format!("its format is {other:?}, and this version knows {FORMAT}")))
            }
        }
    }

    /// Has a batch carried out as one transaction, and its keys live on.
    fn write(&self, batch: &dyn Fn(&mut Pipeline)) -> Result<(), StoreError> {
        self.calls.run(&|pipeline| {
            pipeline.atomic();
            pipeline.cmd("HSET").arg(&self.keys.meta).arg("format").arg(FORMAT).ignore();
            batch(pipeline);
            expire(self.calls.options.ttl, &self.keys, pipeline);
        })
    }

    fn restored(&self, (meta, publications, taken, subscriptions): Read) -> Result<Restored, StoreError> {
        let now_ms = wall_ms();
        let mut out = Restored { resumes: !meta.is_empty(), ..Restored::default() };
        if let Some(next) = meta.get("next") {
            out.next = next.parse().map_err(|_| self.damaged(format!("next is {next:?}")))?;
        }
        for (number, value) in publications {
            let decoded = number.parse().ok().zip(decode_value(&value, now_ms));
            let (number, (message, is_released)) =
                decoded.ok_or_else(|| self.damaged(format!("publication {number:?} is none of ours")))?;
            out.publications.push((Number(number), message, is_released));
        }
        out.publications.sort_unstable_by_key(|(number, _, _)| *number);
        for id in taken {
            let parsed = id.parse().ok().and_then(PacketId::new);
            out.taken.push(parsed.ok_or_else(|| self.damaged(format!("packet id {id:?} is none")))?);
        }
        out.taken.sort_unstable();
        for (filter, value) in subscriptions {
            let wanted = subscription(&filter, &value);
            out.subscriptions
                .push(wanted.ok_or_else(|| self.damaged(format!("subscription {filter:?} is {value:?}")))?);
        }
        Ok(out)
    }
}

fn subscription(filter: &str, value: &str) -> Option<Wanted> {
    let (options, subscription_id) = value.split_once(' ')?;
    let options = SubscriptionOptions::decode(Version::V5, options.parse().ok()?).ok()?;
    Some(Wanted { filter: Arc::from(filter), options, subscription_id: subscription_id.parse().ok()? })
}

impl SessionStore for RedisSession {
    fn restore(&self) -> Result<Restored, StoreError> {
        let keys = &self.keys;
        let read: Read = self.calls.query(&|pipeline| {
            pipeline.atomic();
            pipeline.cmd("HGETALL").arg(&keys.meta);
            pipeline.cmd("HGETALL").arg(&keys.publications);
            pipeline.cmd("SMEMBERS").arg(&keys.taken);
            pipeline.cmd("HGETALL").arg(&keys.subscriptions);
        })?;
        let restored = self.restored(read)?;
        // From now on it is not new.
        self.write(&|_| {})?;
        Ok(restored)
    }

    fn put(&self, publications: &[(Number, Message)]) -> Result<(), StoreError> {
        let Some((last, _)) = publications.last() else { return Ok(()) };
        let now_ms = wall_ms();
        for (_, message) in publications {
            check_fields(message).map_err(|bytes| self.calls.too_large(bytes, FIELD_BYTES_MAX))?;
        }
        self.write(&|pipeline| {
            let put = pipeline.cmd("HSET").arg(&self.keys.publications);
            for (number, message) in publications {
                put.arg(number.0).arg(encode_value(*number, message, now_ms));
            }
            put.ignore();
            pipeline.cmd("HSET").arg(&self.keys.meta).arg("next").arg(last.0 + 1).ignore();
        })
    }

    fn apply(&self, changes: &[StoreChange]) -> Result<(), StoreError> {
        if changes.is_empty() {
            return Ok(());
        }
        let keys = &self.keys;
        self.write(&|pipeline| {
            for change in changes {
                match change {
                    StoreChange::Completed(number) => {
                        pipeline.cmd("HDEL").arg(&keys.publications).arg(number.0)
                    }
                    StoreChange::Released(number) => {
                        pipeline.cmd("HSET").arg(&keys.publications).arg(number.0).arg(released_value())
                    }
                    StoreChange::Taken(id) => pipeline.cmd("SADD").arg(&keys.taken).arg(id.get()),
                    StoreChange::Given(id) => pipeline.cmd("SREM").arg(&keys.taken).arg(id.get()),
                    StoreChange::Forgotten => pipeline.cmd("DEL").arg(&keys.taken),
                    StoreChange::Subscribed(wanted) => {
                        let options = wanted.options.encode(Version::V5);
                        let value = format!("{options} {}", wanted.subscription_id);
                        pipeline.cmd("HSET").arg(&keys.subscriptions).arg(&*wanted.filter).arg(value)
                    }
                    StoreChange::Unsubscribed(filter) => {
                        pipeline.cmd("HDEL").arg(&keys.subscriptions).arg(&**filter)
                    }
                }
                .ignore();
            }
        })
    }

    fn remove(&self) -> Result<(), StoreError> {
        let keys = &self.keys;
        self.calls.run(&|pipeline| {
            let all = [&keys.meta, &keys.publications, &keys.taken, &keys.subscriptions];
            pipeline.cmd("DEL").arg(&all[..]).ignore();
        })
    }
}
