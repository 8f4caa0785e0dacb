//! Scenario files.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use ringmq_codec::{QoS, Version};
use serde::{Deserialize, Deserializer};
use toml::Spanned;

use crate::pattern::Pattern;
use crate::payload::Size;
use crate::presets::{self, Options};
use crate::scenario::{
    Expect, Group, Limit, Pace, Pick, Publish, Scenario, Settings, Step, Subscribe, Target,
};

/// A file that names every key.
pub const EXAMPLE: &str = include_str!("example.toml");

/// Reads a scenario file's text. `name` is what the scenario is called where the file does not say.
///
/// # Errors
/// What is wrong with it, with its line, and what to write instead.
pub fn parse(text: &str, name: &str) -> Result<Scenario, String> {
    let file: File = toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())?;
    let reader = Reader { text };
    let mut groups: Vec<Group> = Vec::new();
    for raw in &file.group {
        let group = raw.get_ref().group().map_err(|fault| reader.at(raw.span().start, &fault))?;
        if groups.iter().any(|known| known.name == group.name) {
            let fault = format!("there are two groups {:?}: give one another name", group.name);
            return Err(reader.at(raw.span().start, &fault));
        }
        groups.push(group);
    }
    if groups.is_empty() {
        return Err(
            "there is no group of clients: write [[group]] with a name and what it publishes or subscribes \
                    to; `ringmq bench run --example` prints a whole file"
                .to_owned(),
        );
    }
    let mut steps = Vec::new();
    for raw in &file.step {
        steps.push(raw.get_ref().step(&groups).map_err(|fault| reader.at(raw.span().start, &fault))?);
    }
    if steps.is_empty() {
        steps = usual_steps(&groups);
    }
    let scenario = Scenario {
        name: file.name.clone().unwrap_or_else(|| name.to_owned()),
        target: file.target(),
        groups,
        steps,
        settings: file.settings(),
    };
    match scenario.fault() {
        // Which group it is stands in the words.
        Some(fault) => Err(reader.of_group(&file, &fault)),
        None => Ok(scenario),
    }
}

/// Reads a time: 10s, 500ms, 2m, 1h, or seconds.
///
/// # Errors
/// What to write instead.
pub fn time(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let factor = match text[digits..].trim() {
        "ms" => Some(0.001),
        "" | "s" => Some(1.0),
        "m" | "min" => Some(60.0),
        "h" => Some(3600.0),
        _ => None,
    };
    let value = text[..digits].parse::<f64>().ok().zip(factor).map(|(value, factor)| value * factor);
    value
        .filter(|seconds| *seconds <= 1e8)
        .map(Duration::from_secs_f64)
        .ok_or_else(|| format!("{text:?} is not a time: write 10s, 500ms, 2m or 1h"))
}

/// Finds lines.
struct Reader<'a> {
    text: &'a str,
}

impl Reader<'_> {
    fn at(&self, place: usize, fault: &str) -> String {
        let line = self.text[..place.min(self.text.len())].matches('\n').count() + 1;
        format!("line {line}: {fault}")
    }

    fn of_group(&self, file: &File, fault: &str) -> String {
        let named = file.group.iter().find(|raw| fault.contains(&format!("group {:?}", raw.get_ref().name)));
        named.map_or_else(|| fault.to_owned(), |raw| self.at(raw.span().start, fault))
    }
}

/// Subscribers first, then publishers, then messages.
fn usual_steps(groups: &[Group]) -> Vec<Step> {
    let of = |is: fn(&Group) -> bool| (0..groups.len()).filter(|at| is(&groups[*at])).collect::<Vec<_>>();
    let hearing = of(|group| group.subscribe.is_some());
    let others = of(|group| group.subscribe.is_none());
    let publishing = of(|group| group.publish.is_some());
    let options = Options::default();
    let mut steps = Vec::new();
    for groups in [hearing.clone(), others] {
        if !groups.is_empty() {
            steps.push(Step::Connect { groups: groups.clone(), rate: None });
        }
        if groups == hearing && !groups.is_empty() {
            steps.push(Step::Subscribe { groups });
        }
    }
    if publishing.is_empty() {
        steps.push(Step::Hold { time: Duration::from_secs(10) });
    } else {
        let Options { limit, warm_up, ramp, .. } = options;
        steps.push(Step::Publish { groups: publishing, limit, warm_up, ramp });
    }
    steps
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct File {
    name: Option<String>,
    address: Option<String>,
    ca: Option<PathBuf>,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
    server_name: Option<String>,
    user: Option<String>,
    password: Option<String>,
    #[serde(default)]
    source: Vec<IpAddr>,
    threads: Option<usize>,
    #[serde(default)]
    cpus: Vec<usize>,
    interval: Option<Time>,
    drain: Option<Time>,
    stall: Option<Time>,
    connecting: Option<usize>,
    connect_timeout: Option<Time>,
    broker_pid: Option<u32>,
    #[serde(default)]
    group: Vec<Spanned<RawGroup>>,
    #[serde(default)]
    step: Vec<Spanned<RawStep>>,
}

impl File {
    fn target(&self) -> Target {
        Target {
            address: self.address.clone().unwrap_or_else(|| Options::default().target.address),
            ca: self.ca.clone(),
            certificate: self.cert.clone(),
            key: self.key.clone(),
            server_name: self.server_name.clone(),
            user: self.user.clone(),
            password: self.password.clone(),
            sources: self.source.clone(),
        }
    }

    fn settings(&self) -> Settings {
        let defaults = Settings::default();
        let or = |time: &Option<Time>, default| time.as_ref().map_or(default, |time| time.0);
        Settings {
            threads: self.threads.unwrap_or(defaults.threads),
            cpus: self.cpus.clone(),
            interval: or(&self.interval, defaults.interval),
            drain: or(&self.drain, defaults.drain),
            stall: or(&self.stall, defaults.stall),
            connecting_max: self.connecting.unwrap_or(defaults.connecting_max),
            connect_timeout: or(&self.connect_timeout, defaults.connect_timeout),
            broker_pid: self.broker_pid,
        }
    }
}

/// A time, as text or as seconds.
#[derive(Clone, Copy, Debug)]
struct Time(Duration);

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "a time: write \"10s\", \"500ms\", \"2m\" or \"1h\"")]
        enum Form {
            Text(String),
            Whole(u32),
            Seconds(f64),
        }
        let text = match Form::deserialize(deserializer)? {
            Form::Text(text) => text,
            Form::Whole(seconds) => seconds.to_string(),
            Form::Seconds(seconds) => seconds.to_string(),
        };
        time(&text).map(Self).map_err(serde::de::Error::custom)
    }
}

/// A payload's size, as text or as bytes.
#[derive(Clone, Debug)]
struct RawSize(Size);

impl<'de> Deserialize<'de> for RawSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "a payload size: write 64, \"4KiB\", \"16-1024\" or \"@file\"")]
        enum Form {
            Bytes(u32),
            Text(String),
        }
        let text = match Form::deserialize(deserializer)? {
            Form::Bytes(bytes) => bytes.to_string(),
            Form::Text(text) => text,
        };
        text.parse().map(Self).map_err(serde::de::Error::custom)
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawGroup {
    name: String,
    count: Option<u32>,
    client_id: Option<String>,
    mqtt: Option<Mqtt>,
    keep_alive: Option<u16>,
    clean_start: Option<bool>,
    session_expiry: Option<u32>,
    publish: Option<RawPublish>,
    subscribe: Option<RawSubscribe>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
enum Mqtt {
    #[serde(rename = "3.1")]
    V31,
    #[serde(rename = "3.1.1")]
    V311,
    #[serde(rename = "5")]
    V5,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawPublish {
    topic: String,
    topics: Option<u64>,
    #[serde(default)]
    pick: RawPick,
    #[serde(default)]
    qos: u8,
    #[serde(default)]
    retain: bool,
    size: Option<RawSize>,
    window: Option<u32>,
    rate: Option<f64>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum RawPick {
    #[default]
    InTurn,
    Random,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawSubscribe {
    filter: Option<String>,
    #[serde(default)]
    filters: Vec<String>,
    each: Option<u32>,
    #[serde(default)]
    qos: u8,
    share: Option<String>,
    #[serde(default)]
    expect: RawExpect,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum RawExpect {
    #[default]
    Matching,
    Every,
    One,
    Anything,
}

fn qos(qos: u8) -> Result<QoS, String> {
    match qos {
        0 => Ok(QoS::AtMostOnce),
        1 => Ok(QoS::AtLeastOnce),
        2 => Ok(QoS::ExactlyOnce),
        _ => Err(format!("there is no QoS {qos}: write 0, 1 or 2")),
    }
}

impl RawGroup {
    fn group(&self) -> Result<Group, String> {
        let of_group = |fault: String| format!("group {:?}: {fault}", self.name);
        Ok(Group {
            name: self.name.clone(),
            count: self.count.unwrap_or(1),
            client_id: Pattern::parse(self.client_id.as_deref().unwrap_or(presets::CLIENT_ID))
                .map_err(of_group)?,
            version: match self.mqtt.unwrap_or(Mqtt::V311) {
                Mqtt::V31 => Version::V31,
                Mqtt::V311 => Version::V311,
                Mqtt::V5 => Version::V5,
            },
            keep_alive_s: self.keep_alive.unwrap_or(60),
            clean_start: self.clean_start.unwrap_or(true),
            session_expiry_s: self.session_expiry.unwrap_or(0),
            publish: self.publish.as_ref().map(RawPublish::publish).transpose().map_err(of_group)?,
            subscribe: self.subscribe.as_ref().map(RawSubscribe::subscribe).transpose().map_err(of_group)?,
        })
    }
}

impl RawPublish {
    fn publish(&self) -> Result<Publish, String> {
        Ok(Publish {
            topic: Pattern::parse(&self.topic)?,
            topics: self.topics.unwrap_or(1),
            pick: match self.pick {
                RawPick::InTurn => Pick::InTurn,
                RawPick::Random => Pick::Random,
            },
            qos: qos(self.qos)?,
            retain: self.retain,
            size: self.size.as_ref().map_or(Size::Fixed(64), |size| size.0.clone()),
            pace: match (self.window, self.rate) {
                (Some(_), Some(_)) => return Err("both window and rate: write one of the two".to_owned()),
                (Some(window), None) => Pace::Window(window),
                (None, Some(rate)) => Pace::Rate(rate),
                (None, None) => Options::default().pace,
            },
        })
    }
}

impl RawSubscribe {
    fn subscribe(&self) -> Result<Subscribe, String> {
        let filters = self.filter.iter().chain(&self.filters);
        Ok(Subscribe {
            filters: filters.map(|filter| Pattern::parse(filter)).collect::<Result<_, _>>()?,
            each: self.each.unwrap_or(1),
            qos: qos(self.qos)?,
            share: self.share.clone(),
            expect: match self.expect {
                RawExpect::Matching => Expect::Matching,
                RawExpect::Every => Expect::Every,
                RawExpect::One => Expect::One,
                RawExpect::Anything => Expect::Anything,
            },
        })
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawStep {
    r#do: Deed,
    #[serde(default)]
    groups: Vec<String>,
    rate: Option<f64>,
    time: Option<Time>,
    messages: Option<u64>,
    warm_up: Option<Time>,
    ramp: Option<Time>,
    command: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Deed {
    Connect,
    Subscribe,
    Publish,
    Receive,
    Disconnect,
    Forget,
    Clear,
    Hold,
    Ping,
    Churn,
    Shell,
}

impl RawStep {
    fn groups(&self, known: &[Group]) -> Result<Vec<usize>, String> {
        if self.groups.is_empty() {
            return Err("no groups: write groups = [\"...\"] with their names".to_owned());
        }
        let find = |name: &String| {
            let at = known.iter().position(|group| group.name == *name);
            at.ok_or_else(|| {
                let names: Vec<&str> = known.iter().map(|group| &*group.name).collect();
                format!("there is no group {name:?}: write one of {}", names.join(", "))
            })
        };
        self.groups.iter().map(find).collect()
    }

    fn time(&self) -> Result<Duration, String> {
        self.time.map(|time| time.0).ok_or_else(|| "no time: write how long, time = \"10s\"".to_owned())
    }

    fn step(&self, known: &[Group]) -> Result<Step, String> {
        self.check_keys()?;
        let groups = || self.groups(known);
        let or_zero = |time: &Option<Time>| time.map_or(Duration::ZERO, |time| time.0);
        Ok(match self.r#do {
            Deed::Connect => Step::Connect { groups: groups()?, rate: self.rate },
            Deed::Subscribe => Step::Subscribe { groups: groups()? },
            Deed::Publish => Step::Publish {
                groups: groups()?,
                limit: match (self.time, self.messages) {
                    (Some(time), None) => Limit::Time(time.0),
                    (None, Some(messages)) => Limit::Messages(messages),
                    (None, None) => {
                        return Err("write how long, time = \"10s\", or how much, messages = 1000".to_owned());
                    }
                    (Some(_), Some(_)) => {
                        return Err("both time and messages: write one of the two".to_owned());
                    }
                },
                warm_up: or_zero(&self.warm_up),
                ramp: or_zero(&self.ramp),
            },
            Deed::Receive => Step::Receive,
            Deed::Disconnect => Step::Disconnect { groups: groups()? },
            Deed::Forget => Step::Forget { groups: groups()? },
            Deed::Clear => Step::Clear { groups: groups()? },
            Deed::Hold => Step::Hold { time: self.time()? },
            Deed::Ping => {
                Step::Ping { groups: groups()?, time: self.time()?, warm_up: or_zero(&self.warm_up) }
            }
            Deed::Churn => Step::Churn { groups: groups()?, time: self.time()?, rate: self.rate },
            Deed::Shell => Step::Shell {
                command: self.command.clone().ok_or("no command: write command = \"...\"".to_owned())?,
            },
        })
    }

    /// Keys that do nothing here.
    fn check_keys(&self) -> Result<(), String> {
        use Deed::{Churn, Clear, Connect, Disconnect, Forget, Hold, Ping, Publish, Shell, Subscribe};
        let deed = self.r#do;
        let with_groups = [Connect, Subscribe, Publish, Disconnect, Forget, Clear, Ping, Churn];
        let table: [(&str, bool, &[Deed]); 7] = [
            ("groups", !self.groups.is_empty(), &with_groups),
            ("rate", self.rate.is_some(), &[Connect, Churn]),
            ("time", self.time.is_some(), &[Publish, Hold, Ping, Churn]),
            ("messages", self.messages.is_some(), &[Publish]),
            ("warm-up", self.warm_up.is_some(), &[Publish, Ping]),
            ("ramp", self.ramp.is_some(), &[Publish]),
            ("command", self.command.is_some(), &[Shell]),
        ];
        match table.iter().find(|(_, is_there, deeds)| *is_there && !deeds.contains(&deed)) {
            Some((key, _, _)) => Err(format!("{key} means nothing for this step: drop it")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_right() {
        let scenario = parse(EXAMPLE, "example").unwrap();
        assert_eq!(scenario.groups.len(), 3);
        assert_eq!(scenario.steps.len(), 9);
    }

    #[test]
    fn a_short_file_is_enough() {
        let text = "[[group]]\nname = \"p\"\ncount = 3\n[group.publish]\ntopic = \"a/{i}\"\n\
                    [[group]]\nname = \"s\"\n[group.subscribe]\nfilter = \"a/#\"\n";
        let scenario = parse(text, "short").unwrap();
        assert_eq!(scenario.name, "short");
        let steps: Vec<String> = scenario.steps.iter().map(|step| format!("{step:?}")).collect();
        assert!(
            steps[0].starts_with("Connect { groups: [1]") && steps[1] == "Subscribe { groups: [1] }",
            "{steps:?}"
        );
        assert!(
            steps[2].starts_with("Connect { groups: [0]") && steps[3].starts_with("Publish { groups: [0]"),
            "{steps:?}"
        );
    }

    #[test]
    fn mistakes_are_answered_with_line_and_fix() {
        let group = "[[group]]\nname = \"p\"\n[group.publish]\ntopic = \"a\"\n";
        let with = |more: &str| format!("{group}{more}");
        let table = [
            ("nmae = 1\n".to_owned(), &["line 1", "nmae", "expected one of"][..]),
            ("name = \"a\"\n".to_owned(), &["[[group]]", "--example"]),
            (with("qos = 3\n"), &["line 1", "group \"p\"", "write 0, 1 or 2"]),
            (with("size = \"x\"\n"), &["line 5", "16-1024"]),
            (with("window = 1\nrate = 2.0\n"), &["line 1", "one of the two"]),
            (with("window = 0\n"), &["line 1", "write 1 or more"]),
            (with("[[step]]\ndo = \"fly\"\n"), &["line 6", "fly", "expected one of"]),
            (
                with("\n[[step]]\ndo = \"connect\"\ngroups = [\"q\"]\n"),
                &["line 6", "no group \"q\"", "one of p"],
            ),
            (with("[[step]]\ndo = \"publish\"\ngroups = [\"p\"]\n"), &["line 5", "time = \"10s\""]),
            (with("[[step]]\ndo = \"hold\"\ntime = \"soon\"\n"), &["line 7", "500ms"]),
            (with("[[step]]\ndo = \"hold\"\ntime = 1\nrate = 1.0\n"), &["line 5", "rate means nothing"]),
            (with(group), &["line 5", "two groups \"p\""]),
        ];
        for (text, expected) in table {
            let error = parse(&text, "x").unwrap_err();
            for part in expected {
                assert!(error.contains(part), "no {part:?} in {error:?} for\n{text}");
            }
        }
    }

    #[test]
    fn times_are_read() {
        let table = [
            ("10s", Some(10_000)),
            ("1.5", Some(1_500)),
            ("20ms", Some(20)),
            ("2m", Some(120_000)),
            ("1h", Some(3_600_000)),
            ("", None),
            ("-1s", None),
            ("5 days", None),
        ];
        for (text, ms) in table {
            assert_eq!(time(text).ok().map(|time| time.as_millis()), ms, "{text:?}");
        }
    }
}
