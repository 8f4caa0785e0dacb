//! Changes to messages.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use regex::Regex;
use ringmq_codec::QoS;
use serde_json::Value;

use super::filter::{self, Filter};
use super::json::JsonPath;
use super::pattern::{BadTopic, Captures, Pattern, Template};
use crate::error::Error;
use crate::message::{Message, MessageProperties};

/// Why a message could not be changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TransformError {
    /// The topic is none that the rewriting is for.
    #[error("the topic {topic:?} does not match {pattern}")]
    NoMatch {
        /// The message's topic.
        topic: String,
        /// What it should match.
        pattern: String,
    },
    /// What came out is not a topic name.
    #[error("{topic:?} is not a topic name: {why}")]
    Topic {
        /// What came out.
        topic: String,
        /// The rule that it breaks.
        why: String,
    },
    /// The payload is not JSON.
    #[error("the payload is not JSON: {0}")]
    NotJson(String),
    /// A JSON path finds nothing in the payload.
    #[error("{path} finds nothing in the payload")]
    NoValue {
        /// The path.
        path: String,
    },
    /// A JSON path finds several values where one is wanted.
    #[error("{path} finds {count} values in the payload, where one is wanted")]
    SeveralValues {
        /// The path.
        path: String,
        /// How many.
        count: usize,
    },
    /// A function of the program's refused.
    #[error("{0}")]
    Refused(String),
}

impl From<BadTopic> for TransformError {
    fn from(BadTopic { topic, why }: BadTopic) -> Self {
        Self::Topic { topic, why }
    }
}

/// A change to messages. Cheap to clone: clones share it.
///
/// ```
/// # use ringmq_client::{Message, QoS, Transform};
/// let transform = Transform::topic("rooms/+/t", "house/{1}/temp")?
///     .then(Transform::json_get("$.celsius")?)
///     .then(Transform::qos(QoS::AtLeastOnce));
/// let message = transform.apply(Message::new("rooms/7/t", r#"{"celsius":21.5}"#))?;
/// assert_eq!(message, Message::new("house/7/temp", "21.5").qos(QoS::AtLeastOnce));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Transform(Arc<Change>);

type PayloadFn = Box<dyn Fn(&[u8]) -> Result<Bytes, String> + Send + Sync>;
type MessageFn = Box<dyn Fn(Message) -> Result<Message, String> + Send + Sync>;
type ValueFn = Box<dyn Fn(Value) -> Result<Value, String> + Send + Sync>;

enum Change {
    Topic(Pattern, Template),
    TopicRegex(Regex, Template),
    Payload(PayloadFn),
    JsonGet(JsonPath),
    JsonMap(JsonPath, ValueFn),
    JsonRemove(JsonPath),
    QoS(QoS),
    Retain(bool),
    UserProperty(String, String),
    Message(MessageFn),
    When(Filter, Transform),
    Chain(Vec<Transform>),
}

impl fmt::Debug for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Topic(pattern, template) => write!(f, "topic {pattern:?} to {template:?}"),
            Self::TopicRegex(regex, template) => write!(f, "topic /{regex}/ to {template:?}"),
            Self::Payload(_) => f.write_str("payload by a function"),
            Self::JsonGet(path) => write!(f, "payload to {path}"),
            Self::JsonMap(path, _) => write!(f, "{path} by a function"),
            Self::JsonRemove(path) => write!(f, "remove {path}"),
            Self::QoS(qos) => write!(f, "{qos:?}"),
            Self::Retain(retain) => write!(f, "retain: {retain}"),
            Self::UserProperty(name, value) => write!(f, "user property {name:?} = {value:?}"),
            Self::Message(_) => f.write_str("message by a function"),
            Self::When(filter, transform) => write!(f, "when {filter:?}: {transform:?}"),
            Self::Chain(steps) => f.debug_list().entries(steps).finish(),
        }
    }
}

impl Transform {
    fn new(change: Change) -> Self {
        Self(Arc::new(change))
    }

    /// Rewrites topics that match a Topic Filter: `rooms/+/t` and `house/{1}/temp`, `a/#` and `b/{#}`. `{1}`, `{2}`,
    /// ... are what `+` stood for, `{#}` what `#` stood for, `{0}` the topic; `{{` and `}}` are braces. Another topic
    /// is an error: see [`Transform::when`].
    pub fn topic(filter: &str, template: &str) -> Result<Self, Error> {
        let pattern = Pattern::new(filter)?;
        let template = Template::of_pattern(template, &pattern)?;
        Ok(Self::new(Change::Topic(pattern, template)))
    }

    /// Puts what a regular expression captures in the topic into a template, which becomes the topic: `{1}` and
    /// `{name}` are its groups. A topic in which it is not found is an error.
    pub fn topic_regex(pattern: &str, template: &str) -> Result<Self, Error> {
        let regex = filter::regex(pattern)?;
        let template = Template::of_regex(template, &regex)?;
        Ok(Self::new(Change::TopicRegex(regex, template)))
    }

    /// Makes another payload of the payload; an `Err` says why not.
    pub fn payload<B, F>(function: F) -> Self
    where
        B: Into<Bytes>,
        F: Fn(&[u8]) -> Result<B, String> + Send + Sync + 'static,
    {
        Self::new(Change::Payload(Box::new(move |payload| function(payload).map(Into::into))))
    }

    /// Makes the one value that a JSON path (RFC 9535) finds the payload: a string as its text, anything else as
    /// JSON.
    pub fn json_get(path: &str) -> Result<Self, Error> {
        Ok(Self::new(Change::JsonGet(JsonPath::new(path)?)))
    }

    /// Sets every value that a JSON path finds; it must find one at least.
    ///
    /// The payload is written anew: the members of its objects come out in alphabetical order, without white space.
    pub fn json_set(path: &str, value: impl Into<Value>) -> Result<Self, Error> {
        let value = value.into();
        Self::json_map(path, move |_| Ok(value.clone()))
    }

    /// Makes another value of every value that a JSON path finds; it must find one at least. For the rest see
    /// [`Transform::json_set`].
    pub fn json_map<F>(path: &str, function: F) -> Result<Self, Error>
    where
        F: Fn(Value) -> Result<Value, String> + Send + Sync + 'static,
    {
        Ok(Self::new(Change::JsonMap(JsonPath::new(path)?, Box::new(function))))
    }

    /// Takes out every value that a JSON path finds, if any.
    pub fn json_remove(path: &str) -> Result<Self, Error> {
        Ok(Self::new(Change::JsonRemove(JsonPath::new(path)?)))
    }

    /// Sets the QoS.
    pub fn qos(qos: QoS) -> Self {
        Self::new(Change::QoS(qos))
    }

    /// Sets the RETAIN flag.
    pub fn retained() -> Self {
        Self::new(Change::Retain(true))
    }

    /// Clears the RETAIN flag.
    pub fn not_retained() -> Self {
        Self::new(Change::Retain(false))
    }

    /// Adds a user property, which MQTT 5 carries.
    pub fn user_property(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self::new(Change::UserProperty(name.into(), value.into()))
    }

    /// Makes another message of the message; an `Err` says why not.
    pub fn message(function: impl Fn(Message) -> Result<Message, String> + Send + Sync + 'static) -> Self {
        Self::new(Change::Message(Box::new(function)))
    }

    /// Changes only messages that satisfy a filter; the others stay as they are.
    #[must_use]
    pub fn when(self, filter: Filter) -> Self {
        Self::new(Change::When(filter, self))
    }

    /// This, then the next with what came out.
    #[must_use]
    pub fn then(self, next: Self) -> Self {
        Self::chain([self, next])
    }

    /// All of these, one after the other. The first that fails ends it.
    pub fn chain(steps: impl IntoIterator<Item = Self>) -> Self {
        Self::new(Change::Chain(steps.into_iter().collect()))
    }

    /// Whether what comes out may have another topic.
    pub(super) fn changes_topic(&self) -> bool {
        match &*self.0 {
            Change::Topic(..) | Change::TopicRegex(..) | Change::Message(_) => true,
            Change::Payload(_)
            | Change::JsonGet(_)
            | Change::JsonMap(..)
            | Change::JsonRemove(_)
            | Change::QoS(_)
            | Change::Retain(_)
            | Change::UserProperty(..) => false,
            Change::When(_, transform) => transform.changes_topic(),
            Change::Chain(steps) => steps.iter().any(Self::changes_topic),
        }
    }

    /// The message that this makes of a message.
    pub fn apply(&self, mut message: Message) -> Result<Message, TransformError> {
        match &*self.0 {
            Change::Topic(pattern, template) => {
                let captures = pattern.captures(&message.topic);
                let captures = captures.ok_or_else(|| no_match(&message, pattern.as_str()))?;
                message.topic = template.fill(&captures)?.into();
            }
            Change::TopicRegex(regex, template) => {
                let found = regex.captures(&message.topic);
                let found = found.ok_or_else(|| no_match(&message, regex.as_str()))?;
                let groups = found.iter().map(|group| group.map(|group| group.as_str())).collect();
                message.topic = template.fill(&Captures { groups, rest: None })?.into();
            }
            Change::Payload(function) => {
                message.payload = function(&message.payload).map_err(TransformError::Refused)?;
            }
            Change::JsonGet(path) => message.payload = path.get(&message.payload)?,
            Change::JsonMap(path, function) => message.payload = path.map(&message.payload, function)?,
            Change::JsonRemove(path) => message.payload = path.remove(&message.payload)?,
            Change::QoS(qos) => message.qos = *qos,
            Change::Retain(retain) => message.retain = *retain,
            Change::UserProperty(name, value) => {
                add_user_property(&mut message, name.clone(), value.clone());
            }
            Change::Message(function) => {
                message = function(message).map_err(TransformError::Refused)?;
                // Checked here, where its cause is still known.
                if let Err(error) = ringmq_codec::check_name(message.topic.as_bytes()) {
                    return Err(TransformError::Topic {
                        topic: message.topic.to_string(),
                        why: error.to_string(),
                    });
                }
            }
            Change::When(filter, transform) => {
                if filter.matches(&message) {
                    return transform.apply(message);
                }
            }
            Change::Chain(steps) => {
                for step in steps {
                    message = step.apply(message)?;
                }
            }
        }
        Ok(message)
    }
}

fn no_match(message: &Message, pattern: &str) -> TransformError {
    TransformError::NoMatch { topic: message.topic.to_string(), pattern: pattern.into() }
}

pub(super) fn add_user_property(message: &mut Message, name: String, value: String) {
    let properties = message.properties.get_or_insert_with(|| Box::new(MessageProperties::default()));
    properties.user.push((name, value));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(topic: &str, payload: &'static str) -> Message {
        Message::new(topic, payload)
    }

    #[test]
    fn topics() {
        let wild = |filter, template| Transform::topic(filter, template).unwrap();
        let regex = |pattern, template| Transform::topic_regex(pattern, template).unwrap();
        for (transform, topic, expected) in [
            (wild("rooms/+/t", "house/{1}/temp"), "rooms/7/t", "house/7/temp"),
            (wild("a/#", "b/{#}"), "a/x/y", "b/x/y"),
            (wild("#", "up/{0}"), "a", "up/a"),
            (regex(r"^rooms/(\d+)/(?<what>.+)$", "house/{1}/{what}"), "rooms/7/t/u", "house/7/t/u"),
            (regex(r"^(a)?b$", "x{1}"), "b", "x"),
            (regex(r"\d+", "n/{0}"), "a/12/b", "n/12"),
            (wild("a", "b").when(Filter::topic("a").unwrap()), "c", "c"),
            (wild("a", "b").then(wild("b", "c")), "a", "c"),
        ] {
            let result = transform.apply(message(topic, "")).unwrap();
            assert_eq!(result.topic, *expected, "{transform:?} {topic}");
        }
        for (transform, topic, why) in [
            (wild("a", "b"), "c", r#"the topic "c" does not match a"#),
            (regex("^a", "b"), "c", r#"the topic "c" does not match ^a"#),
            (wild("a/+", "{1}"), "a/", r#""" is not a topic name"#),
            (regex("(#?)", "{1}"), "a", "is not a topic name"),
            (wild("a", "b").then(wild("a", "c")), "a", "does not match a"),
            (Transform::message(|_| Ok(Message::new("a/+", ""))), "a", r#""a/+" is not a topic name"#),
            (Transform::message(|_| Err("no".into())), "a", "no"),
        ] {
            let error = transform.apply(message(topic, "")).unwrap_err().to_string();
            assert!(error.contains(why), "{transform:?} {topic}: {error}");
        }
    }

    #[test]
    fn payloads() {
        let get = |path| Transform::json_get(path).unwrap();
        let set = |path, value: Value| Transform::json_set(path, value).unwrap();
        let remove = |path| Transform::json_remove(path).unwrap();
        let double = |path| {
            let double = |value: Value| value.as_i64().map(|v| (v * 2).into()).ok_or("no integer".into());
            Transform::json_map(path, double).unwrap()
        };
        let upper = Transform::payload(|p| Ok::<_, String>(p.to_ascii_uppercase()));
        for (transform, payload, expected) in [
            (upper, "abc", Ok("ABC")),
            (Transform::payload(|_| Err::<Bytes, _>("never".to_string())), "abc", Err("never")),
            (get("$.a"), r#"{"a":1.5}"#, Ok("1.5")),
            (get("$.a"), r#"{"a":"x"}"#, Ok("x")),
            (get("$.a.b[1]"), r#"{"a":{"b":[1,{"c":2}]}}"#, Ok(r#"{"c":2}"#)),
            (get("$.a[?@.id == 2].v"), r#"{"a":[{"id":1,"v":7},{"id":2,"v":8}]}"#, Ok("8")),
            (get("$"), " null ", Ok("null")),
            (get("$.a"), r#"{"b":1}"#, Err("$.a finds nothing in the payload")),
            (get("$[*]"), "[1,2]", Err("$[*] finds 2 values in the payload, where one is wanted")),
            (get("$.a"), "{", Err("the payload is not JSON: ")),
            (get("$.a"), "", Err("the payload is not JSON: ")),
            (set("$.a", 2.into()), r#"{"b":1,"a":1}"#, Ok(r#"{"a":2,"b":1}"#)),
            (set("$..t", "x".into()), r#"[{"t":1},{"u":{"t":2}}]"#, Ok(r#"[{"t":"x"},{"u":{"t":"x"}}]"#)),
            (set("$", 1.into()), "[]", Ok("1")),
            (set("$.a", 1.into()), "{}", Err("$.a finds nothing in the payload")),
            (double("$[*]"), "[1,2]", Ok("[2,4]")),
            // What lies within another value that is found is changed first.
            (double("$[*]"), r#"[1,"x"]"#, Err("no integer")),
            (remove("$.a"), r#"{"a":1,"b":2}"#, Ok(r#"{"b":2}"#)),
            (remove("$[0,1]"), "[1,2,3]", Ok("[3]")),
            (remove("$..a"), r#"{"a":{"a":1},"b":[{"a":2}]}"#, Ok(r#"{"b":[{}]}"#)),
            (remove("$.c"), r#"{"b":2}"#, Ok(r#"{"b":2}"#)),
            (remove("$"), "1", Ok("null")),
            (set("$['a/b~c']", 1.into()), r#"{"a/b~c":0}"#, Ok(r#"{"a/b~c":1}"#)),
        ] {
            let result = transform.apply(message("t", payload));
            let result = result.map(|message| String::from_utf8(message.payload.to_vec()).unwrap());
            match (result, expected) {
                (Ok(result), Ok(expected)) => assert_eq!(result, expected, "{transform:?} {payload}"),
                (Err(error), Err(why)) => {
                    assert!(error.to_string().contains(why), "{transform:?} {payload}: {error}");
                }
                (result, _) => panic!("{transform:?} {payload}: {result:?}"),
            }
        }
    }

    #[test]
    fn the_rest() {
        let transform = Transform::chain([
            Transform::qos(QoS::ExactlyOnce),
            Transform::retained(),
            Transform::user_property("a", "1"),
            Transform::user_property("a", "2"),
        ]);
        let result = transform.apply(message("t", "p")).unwrap();
        assert_eq!((result.qos, result.retain), (QoS::ExactlyOnce, true));
        let user = &result.properties.as_ref().unwrap().user;
        assert_eq!(*user, [("a".to_string(), "1".to_string()), ("a".to_string(), "2".to_string())]);
        assert!(!Transform::not_retained().apply(result).unwrap().retain);
        assert_eq!(Transform::chain([]).apply(message("t", "p")).unwrap(), message("t", "p"));
    }

    #[test]
    fn bad_ones_say_why() {
        for (error, why) in [
            (Transform::topic("a/+", "b/{2}"), "{2} names nothing"),
            (Transform::topic("a/#/b", "b"), "# must be"),
            (Transform::topic_regex("a(", "b"), "unclosed group"),
            (
                Transform::topic_regex("(?<x>a)", "{y}"),
                "{y} names nothing: the regular expression has 1 groups",
            ),
            (Transform::topic_regex("(a)", "{2}"), "{2} names nothing"),
            (Transform::topic_regex("(a)", "{#}"), "{#} names nothing"),
            (Transform::json_get("a.b"), "begin it with $"),
            (Transform::json_get("$.a["), "JSON path"),
            (Transform::json_remove(""), "begin it with $"),
        ] {
            let error = error.unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
