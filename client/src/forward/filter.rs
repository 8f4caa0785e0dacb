//! Conditions on messages.

use std::fmt;
use std::ops::{Not, RangeBounds};
use std::sync::Arc;

use bytes::Bytes;
use regex::bytes::{Regex as BytesRegex, RegexBuilder as BytesRegexBuilder};
use regex::{Regex, RegexBuilder};

use super::pattern::Pattern;
use crate::error::Error;
use crate::message::Message;

/// Memory that one compiled regular expression may take, in bytes.
const REGEX_BYTES_MAX: usize = 1024 * 1024;

/// A condition on messages. Cheap to clone: clones share it.
///
/// ```
/// # use ringmq_client::{Filter, Message};
/// let filter = Filter::topic("rooms/+/t")?.and(!Filter::payload_contains("error"));
/// assert!(filter.matches(&Message::new("rooms/7/t", "21.5")));
/// assert!(!filter.matches(&Message::new("rooms/7/t", "error 3")));
/// # Ok::<(), ringmq_client::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Filter(Arc<Condition>);

type Predicate<T> = Box<dyn Fn(&T) -> bool + Send + Sync>;

enum Condition {
    Topic(Pattern),
    TopicRegex(Regex),
    Payload(Predicate<[u8]>),
    PayloadContains(Bytes),
    PayloadRegex(BytesRegex),
    PayloadBytes { min: usize, max: usize },
    Retained,
    Message(Predicate<Message>),
    Not(Filter),
    All(Vec<Filter>),
    Any(Vec<Filter>),
}

impl fmt::Debug for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Topic(pattern) => write!(f, "topic matches {pattern}"),
            Self::TopicRegex(regex) => write!(f, "topic matches /{regex}/"),
            Self::Payload(_) => f.write_str("payload satisfies a function"),
            Self::PayloadContains(text) => write!(f, "payload contains {text:?}"),
            Self::PayloadRegex(regex) => write!(f, "payload matches /{regex}/"),
            Self::PayloadBytes { min, max } => write!(f, "payload has {min} to {max} bytes"),
            Self::Retained => f.write_str("retained"),
            Self::Message(_) => f.write_str("message satisfies a function"),
            Self::Not(filter) => write!(f, "not ({:?})", filter.0),
            Self::All(filters) => f.debug_tuple("all").field(filters).finish(),
            Self::Any(filters) => f.debug_tuple("any").field(filters).finish(),
        }
    }
}

impl Filter {
    fn new(condition: Condition) -> Self {
        Self(Arc::new(condition))
    }

    /// The topic matches a Topic Filter, with `+` and `#`.
    pub fn topic(filter: &str) -> Result<Self, Error> {
        Ok(Self::new(Condition::Topic(Pattern::new(filter)?)))
    }

    /// A regular expression (of the `regex` crate's syntax) is found in the topic; `^` and `$` make it the whole.
    pub fn topic_regex(pattern: &str) -> Result<Self, Error> {
        Ok(Self::new(Condition::TopicRegex(regex(pattern)?)))
    }

    /// The payload satisfies a function. One that panics fails the message, not the forwarder.
    pub fn payload(predicate: impl Fn(&[u8]) -> bool + Send + Sync + 'static) -> Self {
        Self::new(Condition::Payload(Box::new(predicate)))
    }

    /// These bytes stand somewhere in the payload.
    pub fn payload_contains(part: impl Into<Bytes>) -> Self {
        Self::new(Condition::PayloadContains(part.into()))
    }

    /// A regular expression is found in the payload, which need not be text.
    pub fn payload_regex(pattern: &str) -> Result<Self, Error> {
        let built = BytesRegexBuilder::new(pattern).size_limit(REGEX_BYTES_MAX).build();
        Ok(Self::new(Condition::PayloadRegex(built.map_err(|error| bad_regex(pattern, &error))?)))
    }

    /// The payload has so many bytes: `..=1024`, `1..`, `10..20`.
    pub fn payload_bytes(range: impl RangeBounds<usize>) -> Self {
        use std::ops::Bound::{Excluded, Included, Unbounded};
        let min = match range.start_bound() {
            Included(&min) => min,
            Excluded(&before) => before.saturating_add(1),
            Unbounded => 0,
        };
        let max = match range.end_bound() {
            Included(&max) => Some(max),
            Excluded(&after) => after.checked_sub(1),
            Unbounded => Some(usize::MAX),
        };
        match max {
            Some(max) => Self::new(Condition::PayloadBytes { min, max }),
            // Fewer than none: nothing matches.
            None => Self::any([]),
        }
    }

    /// The RETAIN flag is set.
    pub fn retained() -> Self {
        Self::new(Condition::Retained)
    }

    /// The message satisfies a function. One that panics fails the message, not the forwarder.
    pub fn message(predicate: impl Fn(&Message) -> bool + Send + Sync + 'static) -> Self {
        Self::new(Condition::Message(Box::new(predicate)))
    }

    /// This and the other.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self::all([self, other])
    }

    /// This or the other, or both.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self::any([self, other])
    }

    /// All of these; without any, every message.
    pub fn all(filters: impl IntoIterator<Item = Self>) -> Self {
        Self::new(Condition::All(filters.into_iter().collect()))
    }

    /// At least one of these; without any, no message.
    pub fn any(filters: impl IntoIterator<Item = Self>) -> Self {
        Self::new(Condition::Any(filters.into_iter().collect()))
    }

    /// Whether a message satisfies it.
    pub fn matches(&self, message: &Message) -> bool {
        match &*self.0 {
            Condition::Topic(pattern) => pattern.matches(&message.topic),
            Condition::TopicRegex(regex) => regex.is_match(&message.topic),
            Condition::Payload(predicate) => predicate(&message.payload),
            Condition::PayloadContains(part) => contains(&message.payload, part),
            Condition::PayloadRegex(regex) => regex.is_match(&message.payload),
            Condition::PayloadBytes { min, max } => (*min..=*max).contains(&message.payload.len()),
            Condition::Retained => message.retain,
            Condition::Message(predicate) => predicate(message),
            Condition::Not(filter) => !filter.matches(message),
            Condition::All(filters) => filters.iter().all(|filter| filter.matches(message)),
            Condition::Any(filters) => filters.iter().any(|filter| filter.matches(message)),
        }
    }
}

/// `!filter`; mind that `!a.or(b)` is `!(a.or(b))`.
impl Not for Filter {
    type Output = Self;

    fn not(self) -> Self {
        Self::new(Condition::Not(self))
    }
}

/// Whether `part` stands somewhere in `whole`.
fn contains(whole: &[u8], part: &[u8]) -> bool {
    part.is_empty() || whole.windows(part.len()).any(|window| window == part)
}

/// A regular expression over text, of bounded size.
pub(super) fn regex(pattern: &str) -> Result<Regex, Error> {
    let built = RegexBuilder::new(pattern).size_limit(REGEX_BYTES_MAX).build();
    built.map_err(|error| bad_regex(pattern, &error))
}

fn bad_regex(pattern: &str, error: &regex::Error) -> Error {
    Error::Invalid { what: "the regular expression", given: pattern.into(), remedy: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(topic: &str, payload: &'static str) -> Message {
        Message::new(topic, payload)
    }

    #[test]
    fn conditions() {
        let topic = |filter| Filter::topic(filter).unwrap();
        let regex = |pattern| Filter::topic_regex(pattern).unwrap();
        let payload = |pattern| Filter::payload_regex(pattern).unwrap();
        let size = |range: std::ops::Range<usize>| Filter::payload_bytes(range);
        for (filter, at, text, expected) in [
            (topic("a/+"), "a/b", "", true),
            (topic("a/+"), "a/b/c", "", false),
            (topic("#"), "$SYS/x", "", false),
            (regex("^a/[0-9]+$"), "a/12", "", true),
            (regex("^a/[0-9]+$"), "a/12x", "", false),
            (regex("[0-9]"), "a/1x", "", true),
            (payload("(?i)^ok"), "t", "OK then", true),
            (payload("^ok"), "t", "not ok", false),
            (Filter::payload(|payload| payload.len() == 2), "t", "ab", true),
            (Filter::payload(|payload| payload.len() == 2), "t", "abc", false),
            (Filter::payload_contains("bc"), "t", "abcd", true),
            (Filter::payload_contains("bc"), "t", "abdc", false),
            (Filter::payload_contains("abc"), "t", "ab", false),
            (Filter::payload_contains(""), "t", "", true),
            (size(1..3), "t", "", false),
            (size(1..3), "t", "ab", true),
            (size(1..3), "t", "abc", false),
            (size(0..0), "t", "", false),
            (Filter::payload_bytes(..=3), "t", "abc", true),
            (Filter::payload_bytes(4..), "t", "abc", false),
            (Filter::payload_bytes(..), "t", "", true),
            (Filter::retained(), "t", "", false),
            (!Filter::retained(), "t", "", true),
            (Filter::message(|message| message.topic.len() == 1), "t", "", true),
            (topic("a").and(Filter::payload_contains("x")), "a", "x", true),
            (topic("a").and(Filter::payload_contains("x")), "a", "y", false),
            (topic("a").or(Filter::payload_contains("x")), "b", "x", true),
            (topic("a").or(Filter::payload_contains("x")), "b", "y", false),
            ((!topic("a")).or(topic("b")), "b", "", true),
            (!(topic("a").or(topic("b"))), "b", "", false),
            (Filter::all([]), "t", "", true),
            (Filter::any([]), "t", "", false),
            (Filter::all([topic("t"), !Filter::any([])]), "t", "", true),
        ] {
            assert_eq!(filter.matches(&message(at, text)), expected, "{filter:?}: {at} {text:?}");
        }
        assert!(Filter::retained().matches(&message("t", "").retained()));
        // A payload need not be text.
        let bytes = Message::new("t", &b"\xff\x00\x01"[..]);
        assert!(Filter::payload_regex(r"(?-u)\xff\x00").unwrap().matches(&bytes));
        assert!(Filter::payload_contains(&b"\x00\x01"[..]).matches(&bytes));
    }

    #[test]
    fn evaluation_stops_where_the_answer_is_known() {
        let never = || Filter::payload(|_| panic!("not asked"));
        let no = || Filter::any([]);
        assert!(!no().and(never()).matches(&message("t", "")));
        assert!((!no()).or(never()).matches(&message("t", "")));
    }

    #[test]
    fn bad_ones_say_why() {
        for (error, why) in [
            (Filter::topic("a/#/b"), "# must be the whole last level"),
            (Filter::topic("$share/g/a"), "leave $share"),
            (Filter::topic_regex("a(b"), "unclosed group"),
            (Filter::payload_regex("[z-a]"), "invalid character class range"),
            (Filter::topic_regex("(a{1000}){1000}"), "exceeds size limit"),
        ] {
            let error = error.unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
