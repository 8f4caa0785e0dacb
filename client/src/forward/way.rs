//! What becomes of one message between its source and its targets: a function.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::filter::Filter;
use super::pattern::{Pattern, Template};
use super::settings::{
    DropReason, FailReason, ForwardQos, ForwardRetain, HOPS_PROPERTY, LoopGuard, RECEIVED_PROPERTY,
    SOURCE_PROPERTY, TOPIC_PROPERTY,
};
use super::transform::{Transform, add_user_property};
use crate::dispatch::panic_message;
use crate::error::Error;
use crate::message::{Message, MessageProperties};

/// A rule of a topic map.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    pub pattern: Pattern,
    pub template: Template,
}

impl Rule {
    pub fn new(filter: &str, template: &str) -> Result<Self, Error> {
        let pattern = Pattern::new(filter)?;
        let template = Template::of_pattern(template, &pattern)?;
        Ok(Self { pattern, template })
    }
}

/// The whole way, as the forwarder was told.
#[derive(Clone, Debug, Default)]
pub(super) struct Way {
    pub filters: Vec<Filter>,
    /// The first that matches counts; without any, topics stay.
    pub map: Vec<Rule>,
    pub transforms: Vec<Transform>,
    pub has_metadata: bool,
    pub qos: ForwardQos,
    pub retain: ForwardRetain,
    pub guard: LoopGuard,
}

/// Where and when a message was received.
#[derive(Debug)]
pub(super) struct Origin {
    pub session: Arc<str>,
    /// Milliseconds since 1970.
    pub received_ms: u64,
}

/// What becomes of a message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Send(Message),
    Drop(DropReason),
    /// And what there is to say about it.
    Fail(FailReason, String),
}

impl Way {
    /// What becomes of this message. The program's functions may panic in it.
    pub fn prepare(&self, message: Message, origin: &Origin) -> Fate {
        let prepared = catch_unwind(AssertUnwindSafe(|| self.prepare_unguarded(message, origin)));
        prepared.unwrap_or_else(|panic| Fate::Fail(FailReason::Panic, panic_message(&*panic).to_owned()))
    }

    fn prepare_unguarded(&self, mut message: Message, origin: &Origin) -> Fate {
        let hops = match &self.guard {
            LoopGuard::Hops(max) => {
                let hops = take_hops(&mut message);
                if hops >= u32::from(*max) {
                    return Fate::Drop(DropReason::Loop);
                }
                Some(hops + 1)
            }
            LoopGuard::TopicPrefix(prefix) if message.topic.starts_with(&**prefix) => {
                return Fate::Drop(DropReason::Loop);
            }
            LoopGuard::TopicPrefix(_) | LoopGuard::Off => None,
        };
        if !self.filters.iter().all(|filter| filter.matches(&message)) {
            return Fate::Drop(DropReason::Filtered);
        }
        let topic = message.topic.clone();
        match self.mapped(&message.topic) {
            Ok(Some(topic)) => message.topic = topic.into(),
            Ok(None) if self.map.is_empty() => {}
            Ok(None) => return Fate::Drop(DropReason::Unmapped),
            Err(why) => return Fate::Fail(FailReason::Transform, why),
        }
        message.qos = self.qos.of(message.qos);
        match self.retain {
            ForwardRetain::AsReceived => {}
            ForwardRetain::Never => message.retain = false,
            ForwardRetain::Always => message.retain = true,
        }
        for transform in &self.transforms {
            match transform.apply(message) {
                Ok(changed) => message = changed,
                Err(error) => return Fate::Fail(FailReason::Transform, error.to_string()),
            }
        }
        if let LoopGuard::TopicPrefix(prefix) = &self.guard
            && !message.topic.starts_with(&**prefix)
        {
            return Fate::Fail(FailReason::Prefix, format!("{} does not begin with {prefix}", message.topic));
        }
        if self.has_metadata {
            // Those of the first forwarder on the way stay.
            add_missing(&mut message, SOURCE_PROPERTY, || origin.session.to_string());
            add_missing(&mut message, TOPIC_PROPERTY, || topic.to_string());
            add_missing(&mut message, RECEIVED_PROPERTY, || origin.received_ms.to_string());
        }
        if let Some(hops) = hops {
            add_user_property(&mut message, HOPS_PROPERTY.into(), hops.to_string());
        }
        Fate::Send(message)
    }

    /// The topic by the map.
    fn mapped(&self, topic: &str) -> Result<Option<String>, String> {
        for rule in &self.map {
            if let Some(captures) = rule.pattern.captures(topic) {
                let filled = rule.template.fill(&captures);
                return filled
                    .map(Some)
                    .map_err(|bad| format!("{:?} is not a topic name: {}", bad.topic, bad.why));
            }
        }
        Ok(None)
    }
}

/// How many forwarders a message has passed, taken out of it. What is no number counts as none.
fn take_hops(message: &mut Message) -> u32 {
    let Some(properties) = &mut message.properties else { return 0 };
    let mut hops = 0;
    properties.user.retain(|(name, value)| {
        if name != HOPS_PROPERTY {
            return true;
        }
        hops = hops.max(value.parse().unwrap_or(0));
        false
    });
    hops
}

fn add_missing(message: &mut Message, name: &str, value: impl FnOnce() -> String) {
    let properties = message.properties.get_or_insert_with(|| Box::new(MessageProperties::default()));
    if !properties.user.iter().any(|(other, _)| other == name) {
        properties.user.push((name.into(), value()));
    }
}

#[cfg(test)]
mod tests {
    use ringmq_codec::QoS;

    use super::*;

    fn origin() -> Origin {
        Origin { session: "here".into(), received_ms: 1234 }
    }

    fn user(message: &Message) -> Vec<(&str, &str)> {
        let properties = message.properties.iter().flat_map(|properties| &properties.user);
        properties.map(|(name, value)| (name.as_str(), value.as_str())).collect()
    }

    fn sent(way: &Way, message: Message) -> Message {
        match way.prepare(message, &origin()) {
            Fate::Send(message) => message,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_message_takes_the_first_rule_that_matches() {
        let way = Way {
            filters: vec![!Filter::payload_contains("no")],
            map: vec![
                Rule::new("rooms/+/t", "house/{1}/temp").unwrap(),
                Rule::new("rooms/#", "rest/{#}").unwrap(),
            ],
            guard: LoopGuard::Off,
            ..Way::default()
        };
        for (topic, payload, expected) in [
            ("rooms/7/t", "x", Ok("house/7/temp")),
            ("rooms/7/h", "x", Ok("rest/7/h")),
            ("rooms", "x", Ok("rest")),
            ("other", "x", Err(DropReason::Unmapped)),
            ("rooms/7/t", "no", Err(DropReason::Filtered)),
        ] {
            let expected = match expected {
                Ok(topic) => Fate::Send(Message::new(topic, payload)),
                Err(reason) => Fate::Drop(reason),
            };
            assert_eq!(way.prepare(Message::new(topic, payload), &origin()), expected);
        }
    }

    #[test]
    fn hops_are_counted_and_bounded() {
        let way = Way { guard: LoopGuard::Hops(2), ..Way::default() };
        let first = sent(&way, Message::new("t", ""));
        assert_eq!(user(&first), [(HOPS_PROPERTY, "1")]);
        let second = sent(&way, first);
        assert_eq!(user(&second), [(HOPS_PROPERTY, "2")]);
        assert_eq!(way.prepare(second, &origin()), Fate::Drop(DropReason::Loop));
        // What is no count counts as none; of several the highest counts.
        for (values, expected) in [(vec!["x"], "1"), (vec!["1", "0"], "2"), (vec!["", "-1"], "1")] {
            let mut message = Message::new("t", "");
            for value in values {
                add_user_property(&mut message, HOPS_PROPERTY.into(), value.into());
            }
            assert_eq!(user(&sent(&way, message)), [(HOPS_PROPERTY, expected)]);
        }
    }

    #[test]
    fn a_prefix_guards_without_properties() {
        let way = Way {
            map: vec![Rule::new("in/#", "bridge/{#}").unwrap(), Rule::new("#", "{#}").unwrap()],
            guard: LoopGuard::TopicPrefix("bridge/".into()),
            ..Way::default()
        };
        let message = sent(&way, Message::new("in/x", ""));
        assert_eq!(message.topic, "bridge/x");
        assert!(message.properties.is_none());
        assert_eq!(way.prepare(message, &origin()), Fate::Drop(DropReason::Loop));
        let fate = way.prepare(Message::new("other", ""), &origin());
        assert!(matches!(fate, Fate::Fail(FailReason::Prefix, _)), "{fate:?}");
    }

    #[test]
    fn metadata_is_of_the_first_forwarder() {
        let way = Way {
            map: vec![Rule::new("#", "b/{#}").unwrap()],
            has_metadata: true,
            guard: LoopGuard::Off,
            ..Way::default()
        };
        let first = sent(&way, Message::new("a", ""));
        let expected = [(SOURCE_PROPERTY, "here"), (TOPIC_PROPERTY, "a"), (RECEIVED_PROPERTY, "1234")];
        assert_eq!(user(&first), expected);
        let second = sent(&way, first);
        assert_eq!((user(&second), second.topic.as_str()), (expected.to_vec(), "b/b/a"));
    }

    #[test]
    fn qos_and_retain_are_set_before_transforms() {
        let mut way =
            Way { qos: ForwardQos::AtMost(QoS::AtLeastOnce), guard: LoopGuard::Off, ..Way::default() };
        let message = || Message::new("t", "").qos(QoS::ExactlyOnce).retained();
        let result = sent(&way, message());
        assert_eq!((result.qos, result.retain), (QoS::AtLeastOnce, true));
        way.retain = ForwardRetain::Never;
        assert!(!sent(&way, message()).retain);
        way.retain = ForwardRetain::Always;
        assert!(sent(&way, Message::new("t", "")).retain);
        way.transforms = vec![Transform::qos(QoS::ExactlyOnce), Transform::not_retained()];
        let result = sent(&way, message());
        assert_eq!((result.qos, result.retain), (QoS::ExactlyOnce, false));
    }

    #[test]
    fn what_fails_says_why() {
        let transform = |transform| Way { transforms: vec![transform], ..Way::default() };
        let panics = Way { filters: vec![Filter::payload(|_| panic!("oh dear"))], ..Way::default() };
        let empty = Way { map: vec![Rule::new("+", "{1}").unwrap()], ..Way::default() };
        for (way, reason, why) in [
            (transform(Transform::json_get("$.a").unwrap()), FailReason::Transform, "not JSON"),
            (transform(Transform::payload(|_| Err::<Vec<u8>, _>("no".into()))), FailReason::Transform, "no"),
            (
                transform(Transform::payload(|_| -> Result<Vec<u8>, String> { panic!() })),
                FailReason::Panic,
                "",
            ),
            (panics, FailReason::Panic, "oh dear"),
            (empty, FailReason::Transform, "is not a topic name"),
        ] {
            match way.prepare(Message::new("", "x"), &origin()) {
                Fate::Fail(is, said) => assert!(is == reason && said.contains(why), "{is} {said}"),
                other => panic!("{other:?}"),
            }
        }
    }
}
