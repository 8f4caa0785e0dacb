//! The scenarios that need no file.

use std::time::Duration;

use ringmq_codec::{QoS, Version};

use crate::pattern::Pattern;
use crate::payload::Size;
use crate::scenario::{
    Expect, Group, Limit, Pace, Pick, Publish, Scenario, Settings, Step, Subscribe, Target,
};

/// What the scenarios have in common.
#[derive(Clone, Debug)]
pub struct Options {
    /// The broker.
    pub target: Target,
    /// How it is run.
    pub settings: Settings,
    /// MQTT 3.1, 3.1.1 or 5.
    pub version: Version,
    /// Client ids; a pattern.
    pub client_id: Pattern,
    /// Seconds; 0 for none.
    pub keep_alive_s: u16,
    /// Of what is published.
    pub publish_qos: QoS,
    /// Of subscriptions.
    pub subscribe_qos: QoS,
    /// Whether messages are to be retained.
    pub retain: bool,
    /// Their payloads.
    pub size: Size,
    /// How fast.
    pub pace: Pace,
    /// How long, or how much.
    pub limit: Limit,
    /// This time at the start is not measured.
    pub warm_up: Duration,
    /// How long a rate takes to rise.
    pub ramp: Duration,
    /// Connections a second; as fast as they come without.
    pub connect_rate: Option<f64>,
    /// What topics begin with; a pattern.
    pub prefix: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            target: Target { address: "mqtt://127.0.0.1:1883".to_owned(), ..Target::default() },
            settings: Settings::default(),
            version: Version::V311,
            client_id: pattern(CLIENT_ID),
            keep_alive_s: 60,
            publish_qos: QoS::AtMostOnce,
            subscribe_qos: QoS::AtMostOnce,
            retain: false,
            size: Size::Fixed(64),
            pace: Pace::Window(100),
            limit: Limit::Time(Duration::from_secs(10)),
            warm_up: Duration::from_secs(1),
            ramp: Duration::ZERO,
            connect_rate: None,
            prefix: "ringmq-bench/{run}".to_owned(),
        }
    }
}

/// The client ids where none are given.
pub const CLIENT_ID: &str = "bench-{run}-{group}-{i}";

/// A pattern of ours.
fn pattern(text: &str) -> Pattern {
    Pattern::parse(text).expect("our own patterns are right")
}

/// Clients that publish to a topic, with the defaults.
pub fn publishers(name: &str, count: u32, topic: &str) -> Group {
    let options = Options::default();
    let group = options.group(name, count);
    Group { publish: Some(options.publish(pattern(topic))), ..group }
}

/// Clients that subscribe to a filter, with the defaults.
pub fn subscribers(name: &str, count: u32, filter: &str) -> Group {
    let options = Options::default();
    let group = options.group(name, count);
    Group { subscribe: Some(options.subscribe(pattern(filter))), ..group }
}

impl Options {
    fn group(&self, name: &str, count: u32) -> Group {
        Group {
            name: name.to_owned(),
            count,
            client_id: self.client_id.clone(),
            version: self.version,
            keep_alive_s: self.keep_alive_s,
            clean_start: true,
            session_expiry_s: 0,
            publish: None,
            subscribe: None,
        }
    }

    fn publish(&self, topic: Pattern) -> Publish {
        Publish {
            topic,
            topics: 1,
            pick: Pick::InTurn,
            qos: self.publish_qos,
            retain: self.retain,
            size: self.size.clone(),
            pace: self.pace,
        }
    }

    fn subscribe(&self, filter: Pattern) -> Subscribe {
        Subscribe {
            filters: vec![filter],
            each: 1,
            qos: self.subscribe_qos,
            share: None,
            expect: Expect::Matching,
        }
    }

    /// A topic below the prefix.
    fn topic(&self, rest: &str) -> Result<Pattern, String> {
        Pattern::parse(&format!("{}/{rest}", self.prefix))
    }

    fn scenario(&self, name: &str, groups: Vec<Group>, steps: Vec<Step>) -> Scenario {
        Scenario {
            name: name.to_owned(),
            target: self.target.clone(),
            groups,
            steps,
            settings: self.settings.clone(),
        }
    }

    fn connect(&self, group: usize) -> Step {
        Step::Connect { groups: vec![group], rate: self.connect_rate }
    }

    fn publish_step(&self, group: usize) -> Step {
        Step::Publish { groups: vec![group], limit: self.limit, warm_up: self.warm_up, ramp: self.ramp }
    }

    /// Subscribers, then publishers, then messages.
    fn flow(&self, name: &str, subscribers: Group, publishers: Group) -> Scenario {
        let steps =
            vec![self.connect(0), Step::Subscribe { groups: vec![0] }, self.connect(1), self.publish_step(1)];
        self.scenario(name, vec![subscribers, publishers], steps)
    }

    fn sending(&self, count: u32, topic: Pattern) -> Group {
        Group { publish: Some(self.publish(topic)), ..self.group("publishers", count) }
    }

    fn hearing(&self, count: u32, filter: Pattern) -> Group {
        Group { subscribe: Some(self.subscribe(filter)), ..self.group("subscribers", count) }
    }

    /// Each publisher has a subscriber of its own.
    pub fn pairs(&self, pairs: u32) -> Result<Scenario, String> {
        let topic = self.topic("pairs/{i}")?;
        Ok(self.flow("pairs", self.hearing(pairs, topic.clone()), self.sending(pairs, topic)))
    }

    /// Every message goes to every subscriber.
    pub fn fan_out(&self, publishers: u32, subscribers: u32) -> Result<Scenario, String> {
        let topic = self.topic("fan-out")?;
        Ok(self.flow("fan-out", self.hearing(subscribers, topic.clone()), self.sending(publishers, topic)))
    }

    /// Many publishers, each with a topic of its own, and subscribers that hear all of them.
    pub fn fan_in(&self, publishers: u32, subscribers: u32) -> Result<Scenario, String> {
        let hearing = self.hearing(subscribers, self.topic("fan-in/+")?);
        Ok(self.flow("fan-in", hearing, self.sending(publishers, self.topic("fan-in/{i}")?)))
    }

    /// The members of a shared subscription share the messages of all publishers.
    pub fn shared(&self, publishers: u32, members: u32) -> Result<Scenario, String> {
        let mut hearing = self.hearing(members, self.topic("shared/+")?);
        if let Some(subscribe) = &mut hearing.subscribe {
            subscribe.share = Some("bench".to_owned());
        }
        Ok(self.flow("shared", hearing, self.sending(publishers, self.topic("shared/{i}")?)))
    }

    /// Clients that connect at a rate, and stay for a time.
    pub fn connect_storm(&self, name: &str, clients: u32, hold: Duration) -> Scenario {
        let steps = vec![self.connect(0), Step::Hold { time: hold }];
        self.scenario(name, vec![self.group("clients", clients)], steps)
    }

    /// Clients that connect and disconnect over and over.
    pub fn churn(&self, at_once: u32, time: Duration) -> Scenario {
        let steps = vec![Step::Churn { groups: vec![0], time, rate: self.connect_rate }];
        self.scenario("churn", vec![self.group("clients", at_once)], steps)
    }

    /// PINGREQs, one at a time on each connection.
    pub fn ping(&self, clients: u32, time: Duration) -> Scenario {
        let ping = Step::Ping { groups: vec![0], time, warm_up: self.warm_up };
        self.scenario("ping", vec![self.group("clients", clients)], vec![self.connect(0), ping])
    }

    /// Very many filters, and messages each of which matches one of them.
    pub fn subscribe_many(
        &self,
        clients: u32,
        filters: u32,
        wildcards: bool,
        publishers: u32,
    ) -> Result<Scenario, String> {
        let each = filters.div_ceil(clients.max(1));
        let filter = if wildcards {
            "site/{k/10000}/+/{k/100%100}/{k%100}/value"
        } else {
            "site/{k/10000}/line/{k/100%100}/{k%100}/value"
        };
        let mut hearing = self.hearing(clients, self.topic(filter)?);
        if let Some(subscribe) = &mut hearing.subscribe {
            (subscribe.each, subscribe.expect) = (each, Expect::One);
        }
        let mut sending =
            self.sending(publishers, self.topic("site/{k/10000}/line/{k/100%100}/{k%100}/value")?);
        if let Some(publish) = &mut sending.publish {
            (publish.topics, publish.pick) = (u64::from(each) * u64::from(clients), Pick::Random);
        }
        Ok(self.flow("subscribe", hearing, sending))
    }

    /// Retained messages, one for each of many topics, and subscribers that get all of them.
    pub fn retained(&self, topics: u32, publishers: u32, subscribers: u32) -> Result<Scenario, String> {
        let mut sending = self.sending(publishers, self.topic("retained/{k/1000}/{k%1000}")?);
        if let Some(publish) = &mut sending.publish {
            (publish.topics, publish.retain) = (u64::from(topics), true);
            // Nobody listens yet, so acknowledgements hold publishers back.
            publish.qos = publish.qos.max(QoS::AtLeastOnce);
        }
        let mut hearing = self.hearing(subscribers, self.topic("retained/#")?);
        if let Some(subscribe) = &mut hearing.subscribe {
            subscribe.expect = Expect::Every;
        }
        let steps = vec![
            self.connect(0),
            Step::Publish {
                groups: vec![0],
                limit: Limit::Messages(u64::from(topics)),
                warm_up: Duration::ZERO,
                ramp: Duration::ZERO,
            },
            self.connect(1),
            Step::Subscribe { groups: vec![1] },
            Step::Receive,
            Step::Disconnect { groups: vec![1] },
            Step::Clear { groups: vec![0] },
        ];
        Ok(self.scenario("retained", vec![sending, hearing], steps))
    }

    /// Messages for clients that are away, a command in between, and how they get them.
    pub fn offline(
        &self,
        messages: u64,
        clients: u32,
        publishers: u32,
        command: Option<String>,
    ) -> Result<Scenario, String> {
        let mut hearing = self.hearing(clients, self.topic("offline/+")?);
        (hearing.clean_start, hearing.session_expiry_s) = (false, 24 * 3600);
        if let Some(subscribe) = &mut hearing.subscribe {
            subscribe.qos = subscribe.qos.max(QoS::AtLeastOnce);
        }
        let mut sending = self.sending(publishers, self.topic("offline/{i}")?);
        if let Some(publish) = &mut sending.publish {
            publish.qos = publish.qos.max(QoS::AtLeastOnce);
        }
        let mut steps = vec![
            self.connect(0),
            Step::Subscribe { groups: vec![0] },
            Step::Disconnect { groups: vec![0] },
            self.connect(1),
            Step::Publish {
                groups: vec![1],
                limit: Limit::Messages(messages),
                warm_up: Duration::ZERO,
                ramp: Duration::ZERO,
            },
            Step::Disconnect { groups: vec![1] },
        ];
        steps.extend(command.map(|command| Step::Shell { command }));
        steps.extend([self.connect(0), Step::Receive, Step::Forget { groups: vec![0] }]);
        Ok(self.scenario("offline", vec![hearing, sending], steps))
    }
}
