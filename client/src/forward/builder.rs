//! What a forwarder is told, and whether it makes sense.

use std::sync::Arc;

use ringmq_codec::{Version, check_filter, check_name};

use super::filter::Filter;
use super::forwarder::Forwarder;
use super::pattern::overlap;
use super::settings::{ForwardQos, ForwardRetain, LoopGuard};
use super::transform::Transform;
use super::way::{Rule, Way};
use crate::address::Address;
use crate::error::Error;
use crate::link::{Overflow, PUBLICATION_IDS};
use crate::options::SessionOptions;
use crate::routes::RouteOptions;
use crate::session::Session;

/// Messages that wait, unless told otherwise.
const BUFFER_MESSAGES_DEFAULT: usize = 10_000;

/// Messages under way, unless told otherwise.
const WINDOW_DEFAULT: usize = 1_024;

/// Where a forwarder's messages come from: a session, and what to subscribe there.
#[derive(Clone, Debug)]
pub struct Source {
    pub(super) session: Session,
    pub(super) routes: Vec<RouteOptions>,
}

impl Source {
    /// What comes to this session by a topic filter, or by one with options: its QoS, its retain handling. Their
    /// capacity and overflow do not count: the forwarder has a buffer of its own.
    pub fn new(session: &Session, route: impl Into<RouteOptions>) -> Self {
        Self { session: session.clone(), routes: vec![route.into()] }
    }

    /// And what comes by another filter, which must not overlap with the others.
    #[must_use]
    pub fn and(mut self, route: impl Into<RouteOptions>) -> Self {
        self.routes.push(route.into());
        self
    }
}

/// A forwarder that makes sense.
pub(super) struct Plan {
    pub name: Arc<str>,
    pub sources: Vec<Source>,
    pub targets: Vec<Session>,
    pub way: Way,
    pub buffer_messages_max: usize,
    pub overflow: Overflow,
    pub window: usize,
}

/// Describes a [`Forwarder`].
///
/// A message passes the loop guard, then the filters, the topic map, QoS and retain rules, the transforms in their
/// order; then metadata is added.
#[must_use = "it does nothing before start()"]
pub struct ForwarderBuilder {
    plan: Plan,
    /// The first thing that made no sense.
    fault: Option<Error>,
}

fn invalid(what: &'static str, given: impl Into<String>, remedy: impl Into<String>) -> Error {
    Error::Invalid { what, given: given.into(), remedy: remedy.into() }
}

impl ForwarderBuilder {
    pub(super) fn new(name: &str) -> Self {
        Self {
            plan: Plan {
                name: name.into(),
                sources: Vec::new(),
                targets: Vec::new(),
                way: Way::default(),
                buffer_messages_max: BUFFER_MESSAGES_DEFAULT,
                overflow: Overflow::default(),
                window: WINDOW_DEFAULT,
            },
            fault: None,
        }
    }

    /// Adds a source. Several may be of different managers and brokers.
    pub fn source(mut self, source: Source) -> Self {
        self.plan.sources.push(source);
        self
    }

    /// Adds a target. Each gets every message.
    pub fn target(mut self, session: &Session) -> Self {
        self.plan.targets.push(session.clone());
        self
    }

    /// Adds a rule to the topic map: topics that match the filter get the template's form, in which `{1}`, `{2}`, ...
    /// are what `+` stood for, `{#}` what `#` stood for, `{0}` the whole topic: `rooms/+/t` and `house/{1}/temp`,
    /// `a/#` and `b/{#}`. The first rule that matches counts; a topic that none matches is dropped and counted.
    /// Without rules topics stay.
    pub fn map(mut self, filter: &str, template: &str) -> Self {
        match Rule::new(filter, template) {
            Ok(rule) => self.plan.way.map.push(rule),
            Err(error) => self.fault = self.fault.or(Some(error)),
        }
        self
    }

    /// Forwards only messages that satisfy this, and every other filter that was given.
    pub fn filter(mut self, filter: Filter) -> Self {
        self.plan.way.filters.push(filter);
        self
    }

    /// Changes messages, after what was given before has. One that fails counts as failed.
    pub fn transform(mut self, transform: Transform) -> Self {
        self.plan.way.transforms.push(transform);
        self
    }

    /// Adds user properties that say where messages come from: `mqtt-forwarder-source` (the session),
    /// `mqtt-forwarder-topic` (the topic there), `mqtt-forwarder-received-ms` (since 1970). Those that an earlier
    /// forwarder added stay. MQTT 5.
    pub fn metadata(mut self) -> Self {
        self.plan.way.has_metadata = true;
        self
    }

    /// At which QoS messages go on. Default as received.
    pub fn qos(mut self, qos: ForwardQos) -> Self {
        self.plan.way.qos = qos;
        self
    }

    /// What becomes of the RETAIN flag. Default it stays.
    pub fn retain(mut self, retain: ForwardRetain) -> Self {
        self.plan.way.retain = retain;
        self
    }

    /// What keeps messages from going round. Default [`LoopGuard::Hops`] with 8.
    pub fn loop_guard(mut self, guard: LoopGuard) -> Self {
        self.plan.way.guard = guard;
        self
    }

    /// Messages that may wait to be sent; at least 1. Default 10,000.
    pub fn buffer(mut self, messages: usize) -> Self {
        self.plan.buffer_messages_max = messages;
        self
    }

    /// What happens to messages that come when the buffer is full. Default [`Overflow::Withhold`]: those at QoS 0 are
    /// dropped; those at QoS 1 and 2 wait, and since they are not acknowledged, the source's Receive Maximum (in
    /// MQTT 3, where there is none, what its broker sends ahead, at most 65,535 messages) bounds them.
    pub fn overflow(mut self, overflow: Overflow) -> Self {
        self.plan.overflow = overflow;
        self
    }

    /// Messages that may be under way to the targets, 1 to 61,439. Default 1,024.
    pub fn window(mut self, messages: usize) -> Self {
        self.plan.window = messages;
        self
    }

    /// Makes it, without starting it.
    ///
    /// # Errors
    /// [`Error::Invalid`] for the first thing that makes no sense, a topic map that feeds itself among them.
    pub fn build(self) -> Result<Forwarder, Error> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        let plan = self.plan.check()?;
        Ok(Forwarder::new(plan))
    }

    /// Makes it and starts it.
    ///
    /// # Errors
    /// As [`ForwarderBuilder::build`] and [`Forwarder::start`].
    pub fn start(self) -> Result<Forwarder, Error> {
        let forwarder = self.build()?;
        forwarder.start()?;
        Ok(forwarder)
    }
}

impl Plan {
    fn check(mut self) -> Result<Self, Error> {
        let name = &*self.name;
        if name.is_empty() || name.contains('\0') {
            return Err(invalid("the forwarder's name", name, "give it some characters, without a null"));
        }
        if self.sources.is_empty() || self.targets.is_empty() {
            return Err(invalid("the forwarder", name, "it needs a source and a target at least: call both"));
        }
        if self.buffer_messages_max == 0 {
            return Err(invalid("the buffer", "0", "give room for one message at least"));
        }
        if self.window == 0 || self.window >= usize::from(PUBLICATION_IDS) {
            let window = self.window.to_string();
            return Err(invalid("the window", window, "give a number from 1 to 61439, as packet ids allow"));
        }
        match &self.way.guard {
            LoopGuard::Hops(0) => {
                return Err(invalid(
                    "the loop guard",
                    "0 hops",
                    "give 1 at least, else nothing is forwarded",
                ));
            }
            LoopGuard::TopicPrefix(prefix) if check_name(prefix.as_bytes()).is_err() => {
                return Err(invalid("the loop guard's prefix", prefix, "give the beginning of a topic name"));
            }
            LoopGuard::Hops(_) | LoopGuard::TopicPrefix(_) | LoopGuard::Off => {}
        }
        if self.way.has_metadata {
            let old = self.targets.iter().find(|target| options(target).version != Version::V5);
            if let Some(old) = old {
                let remedy = "metadata goes into user properties, which MQTT 5 carries: use it, or leave metadata away";
                return Err(invalid("the target", &*options(old).name, remedy));
            }
        }
        for source in &mut self.sources {
            let is_kept = self.way.retain == ForwardRetain::AsReceived;
            if is_kept && options(&source.session).version == Version::V5 {
                source.routes.iter_mut().for_each(|route| route.subscription.retain_as_published = true);
            }
        }
        for source in &self.sources {
            let filters = filters(source)?;
            for (index, filter) in filters.iter().enumerate() {
                if let Some(other) = filters[..index].iter().find(|other| overlap(filter, other)) {
                    let remedy =
                        format!("it overlaps with {other:?}, so that messages would be forwarded twice");
                    return Err(invalid("the source's filter", *filter, remedy));
                }
            }
            for target in &self.targets {
                let ends = Ends { source: options(&source.session), target: options(target) };
                check_loop(&self.way, &ends, &filters)?;
            }
        }
        Ok(self)
    }
}

fn options(session: &Session) -> &SessionOptions {
    &session.shared().options
}

/// What a source's subscriptions match.
fn filters(source: &Source) -> Result<Vec<&str>, Error> {
    fn filter(route: &RouteOptions) -> Result<&str, Error> {
        route.check()?;
        let checked = check_filter(&route.filter);
        let parts =
            checked.map_err(|error| invalid("the source's filter", &*route.filter, error.to_string()))?;
        Ok(parts.filter)
    }
    source.routes.iter().map(filter).collect()
}

/// The two sessions of a way through a forwarder.
struct Ends<'a> {
    source: &'a SessionOptions,
    target: &'a SessionOptions,
}

impl Ends<'_> {
    /// Whether both are known to be at the same broker.
    fn meet(&self) -> bool {
        let address = |text: &str| Address::parse(text).ok();
        let theirs: Vec<_> = self.target.addresses.iter().filter_map(|text| address(text)).collect();
        self.source.addresses.iter().filter_map(|text| address(text)).any(|ours| theirs.contains(&ours))
    }

    /// Whether properties, and so hops, arrive at both.
    fn are_v5(&self) -> bool {
        self.source.version == Version::V5 && self.target.version == Version::V5
    }
}

/// Refuses a way that leads back to its source.
fn check_loop(way: &Way, ends: &Ends<'_>, filters: &[&str]) -> Result<(), Error> {
    match way.guard {
        LoopGuard::Hops(_) if ends.meet() => {}
        LoopGuard::Hops(_) | LoopGuard::TopicPrefix(_) | LoopGuard::Off => return Ok(()),
    }
    let remedy = "map topics to others than those that are subscribed, or set another loop guard: TopicPrefix, or Off \
                  if it cannot go round";
    if way.transforms.iter().any(Transform::changes_topic) {
        // What comes out is not known; hops are counted where messages carry them.
        let given = "with a transform that changes topics";
        return if ends.are_v5() {
            Ok(())
        } else {
            Err(invalid("a forwarder within one MQTT 3 broker", given, remedy))
        };
    }
    let outputs: Vec<String> = if way.map.is_empty() {
        filters.iter().map(|filter| (*filter).to_owned()).collect()
    } else {
        let used =
            way.map.iter().filter(|rule| filters.iter().any(|filter| overlap(rule.pattern.as_str(), filter)));
        used.map(|rule| rule.template.reach()).collect()
    };
    let fed = outputs.iter().find(|output| filters.iter().any(|filter| overlap(output, filter)));
    match fed {
        Some(output) => Err(invalid("a topic map that feeds its own source", output, remedy)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(versions: [Version; 2], addresses: [&str; 2]) -> [SessionOptions; 2] {
        let make = |version, address: &str| {
            let mut options = SessionOptions::new("s".into(), vec![address.into()]);
            options.version = version;
            options
        };
        [make(versions[0], addresses[0]), make(versions[1], addresses[1])]
    }

    #[test]
    fn maps_that_feed_themselves() {
        const SAME: [&str; 2] = ["mqtt://broker", "mqtt://broker:1883"];
        const OTHER: [&str; 2] = ["mqtt://broker", "mqtt://elsewhere"];
        const V5: [Version; 2] = [Version::V5; 2];
        const MIXED: [Version; 2] = [Version::V311, Version::V5];
        let renaming = || Transform::topic("#", "b/{#}").unwrap();
        let hops = || LoopGuard::Hops(8);
        let prefix = || LoopGuard::TopicPrefix("b/".into());
        for (filters, map, addresses, versions, guard, renames, is_loop) in [
            // The same topics at the same broker.
            ("a/#", "", SAME, V5, hops(), false, true),
            ("a/#", "", SAME, MIXED, hops(), false, true),
            ("a/#", "", OTHER, MIXED, hops(), false, false),
            ("a/#", "", SAME, MIXED, LoopGuard::Off, false, false),
            ("a/#", "", SAME, MIXED, prefix(), false, false),
            // Topics that are mapped away, or not.
            ("a/#", "a/#=b/{#}", SAME, MIXED, hops(), false, false),
            ("a/#", "a/#=a/b/{#}", SAME, MIXED, hops(), false, true),
            ("+/x", "+/x=y/{1}", SAME, V5, hops(), false, true),
            ("+/x", "+/x=y/z/{1}", SAME, V5, hops(), false, false),
            ("a/# b/#", "a/#=b/{#}", SAME, V5, hops(), false, true),
            // A rule that no subscription uses.
            ("a/#", "c/#=a/{#} a/#=b/{#}", SAME, V5, hops(), false, false),
            ("#", "a/#=$x/{#}", SAME, V5, hops(), false, false),
            // A transform may lead anywhere.
            ("a/#", "", SAME, V5, hops(), true, false),
            ("a/#", "", SAME, MIXED, hops(), true, true),
            ("a/#", "", OTHER, MIXED, hops(), true, false),
        ] {
            let filters: Vec<&str> = filters.split(' ').collect();
            let rule = |rule: &str| {
                let (filter, template) = rule.split_once('=').unwrap();
                Rule::new(filter, template).unwrap()
            };
            let map: Vec<Rule> = map.split_whitespace().map(rule).collect();
            let transforms = if renames { vec![renaming()] } else { Vec::new() };
            let way = Way { map, transforms, guard, ..Way::default() };
            let [source, target] = ends(versions, addresses);
            let checked = check_loop(&way, &Ends { source: &source, target: &target }, &filters);
            assert_eq!(checked.is_err(), is_loop, "{filters:?} {way:?} {addresses:?}");
            if let Err(error) = checked {
                assert!(error.to_string().contains("TopicPrefix"), "{error}");
            }
        }
    }
}
