//! What a run consists of: who connects where, what they publish and hear, and what happens step by step.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use ringmq_codec::{QoS, Version};

use crate::pattern::Pattern;
use crate::payload::Size;

/// A whole run.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Its name, for reports.
    pub name: String,
    /// The broker.
    pub target: Target,
    /// The clients.
    pub groups: Vec<Group>,
    /// What happens, in order.
    pub steps: Vec<Step>,
    /// How it is run.
    pub settings: Settings,
}

/// A broker, and who one is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// Its address: mqtt://, mqtts://, ws://, wss:// or unix:.
    pub address: String,
    /// Certificates that are trusted in place of the system's.
    pub ca: Option<PathBuf>,
    /// Our certificate.
    pub certificate: Option<PathBuf>,
    /// Its key.
    pub key: Option<PathBuf>,
    /// The name that the broker's certificate must have, where it is not the address's.
    pub server_name: Option<String>,
    /// The user name; a pattern.
    pub user: Option<String>,
    /// The password.
    pub password: Option<String>,
    /// Local addresses to connect from, in turn.
    pub sources: Vec<IpAddr>,
}

/// Clients that are alike.
#[derive(Clone, Debug)]
pub struct Group {
    /// Its name, for steps and patterns.
    pub name: String,
    /// How many clients.
    pub count: u32,
    /// Their client ids.
    pub client_id: Pattern,
    /// MQTT 3.1, 3.1.1 or 5.
    pub version: Version,
    /// Seconds; 0 for none.
    pub keep_alive_s: u16,
    /// Whether the broker is to forget what it knows of a client when it connects.
    pub clean_start: bool,
    /// How long the broker is to remember a client that is gone, in seconds. MQTT 5; an MQTT 3 client that does
    /// not start clean is remembered.
    pub session_expiry_s: u32,
    /// What each publishes.
    pub publish: Option<Publish>,
    /// What each subscribes to.
    pub subscribe: Option<Subscribe>,
}

/// What a client publishes.
#[derive(Clone, Debug)]
pub struct Publish {
    /// The topic; a pattern, `{k}` in it goes from message to message.
    pub topic: Pattern,
    /// Values of `{k}`, from 0.
    pub topics: u64,
    /// How `{k}` is chosen.
    pub pick: Pick,
    /// Quality of service.
    pub qos: QoS,
    /// Whether messages are to be retained.
    pub retain: bool,
    /// Their payloads.
    pub size: Size,
    /// How fast.
    pub pace: Pace,
}

/// How a topic is chosen among many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pick {
    /// One after the other; clients of a group share them out.
    #[default]
    InTurn,
    /// At random.
    Random,
}

/// How fast messages are published.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// Each publisher has so many under way at most, counted until their last copy arrived.
    Window(u32),
    /// The publishers of the group together send so many a second, whatever the broker does.
    Rate(f64),
}

/// What a client subscribes to.
#[derive(Clone, Debug)]
pub struct Subscribe {
    /// The filters; patterns, `{k}` counts them over all clients of the group.
    pub filters: Vec<Pattern>,
    /// Values of `{k}` for each client.
    pub each: u32,
    /// Quality of service.
    pub qos: QoS,
    /// The name of the shared subscription.
    pub share: Option<String>,
    /// Which messages are expected.
    pub expect: Expect,
}

/// Which messages a group of subscribers is expected to get.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Expect {
    /// Follows from filters and topics.
    #[default]
    Matching,
    /// Each client gets every message of the publishers.
    Every,
    /// Each message goes to one client of the group.
    One,
    /// Not known: arrivals are only counted.
    Anything,
}

/// One step of a run. Groups are named by their place.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Connect all clients of some groups.
    Connect {
        /// Which.
        groups: Vec<usize>,
        /// Connections a second; as fast as they come without.
        rate: Option<f64>,
    },
    /// Subscribe with all clients of some groups.
    Subscribe {
        /// Which.
        groups: Vec<usize>,
    },
    /// Publish, and wait until all arrived.
    Publish {
        /// Which.
        groups: Vec<usize>,
        /// How long, or how much.
        limit: Limit,
        /// This time at the start is not measured.
        warm_up: Duration,
        /// How long a rate takes to rise.
        ramp: Duration,
    },
    /// Have the broker forget the retained messages of some groups.
    Clear {
        /// Which.
        groups: Vec<usize>,
    },
    /// Wait for all messages that the broker keeps for subscribers. Behind a step that connects or subscribes it
    /// is measured together with that, since they come at once.
    Receive,
    /// Say goodbye and close.
    Disconnect {
        /// Which.
        groups: Vec<usize>,
    },
    /// Have the broker forget the sessions of some groups, and close.
    Forget {
        /// Which.
        groups: Vec<usize>,
    },
    /// Do nothing for a time.
    Hold {
        /// How long.
        time: Duration,
    },
    /// Send PINGREQs, one at a time on each connection.
    Ping {
        /// Which.
        groups: Vec<usize>,
        /// How long.
        time: Duration,
        /// This time at the start is not measured.
        warm_up: Duration,
    },
    /// Connect and disconnect over and over.
    Churn {
        /// Which.
        groups: Vec<usize>,
        /// How long.
        time: Duration,
        /// Connections a second; as fast as they come without.
        rate: Option<f64>,
    },
    /// Run a command of the shell, and wait for it.
    Shell {
        /// The command.
        command: String,
    },
}

/// How much is published.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Limit {
    /// For so long, warm-up included.
    Time(Duration),
    /// So many messages of all groups together, warm-up included.
    Messages(u64),
}

/// How a run is run.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// I/O threads.
    pub threads: usize,
    /// CPUs to pin them to, in order; none leaves it to the kernel.
    pub cpus: Vec<usize>,
    /// How often figures are taken.
    pub interval: Duration,
    /// How long to wait for messages that are missing, after the last one came.
    pub drain: Duration,
    /// After which time without progress a window gives up what is under way.
    pub stall: Duration,
    /// Connections that are opened at a time.
    pub connecting_max: usize,
    /// How long a connection may take.
    pub connect_timeout: Duration,
    /// The broker's process, where it is on this host: found by its port without.
    pub broker_pid: Option<u32>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            threads: 1,
            cpus: Vec::new(),
            interval: Duration::from_secs(1),
            drain: Duration::from_secs(5),
            stall: Duration::from_secs(5),
            connecting_max: 256,
            connect_timeout: Duration::from_secs(30),
            broker_pid: None,
        }
    }
}

/// Clients that one run may have.
pub const CLIENTS_MAX: u64 = 4_000_000;
/// Messages of a window; packet ids are fewer.
pub const WINDOW_MAX: u32 = 61_440;

impl Scenario {
    /// How many clients there are.
    pub fn clients(&self) -> u64 {
        self.groups.iter().map(|group| u64::from(group.count)).sum()
    }

    /// What is wrong with it, and what to write instead.
    pub fn fault(&self) -> Option<String> {
        if self.clients() > CLIENTS_MAX {
            return Some(format!("{} clients, but one run has {CLIENTS_MAX} at most", self.clients()));
        }
        if self.settings.threads == 0 {
            return Some("0 threads, but at least 1 is needed".to_owned());
        }
        if self.settings.interval < Duration::from_millis(10) {
            return Some("an interval below 10 ms: write 100ms or more".to_owned());
        }
        self.groups
            .iter()
            .find_map(Group::fault)
            .or_else(|| self.steps.iter().find_map(|step| self.step_fault(step)))
    }

    fn step_fault(&self, step: &Step) -> Option<String> {
        let publishes = |at: &usize| self.groups[*at].publish.is_some();
        match step {
            Step::Publish { groups, limit, warm_up, .. } => {
                if let Some(at) = groups.iter().find(|at| !publishes(at)) {
                    return Some(format!("group {:?} publishes nothing", self.groups[*at].name));
                }
                match limit {
                    Limit::Time(time) if time <= warm_up => Some(format!(
                        "the warm-up of {warm_up:?} leaves nothing of {time:?}: write a longer duration"
                    )),
                    Limit::Messages(0) => Some("0 messages: write how many are to be sent".to_owned()),
                    Limit::Time(_) | Limit::Messages(_) => None,
                }
            }
            Step::Connect { rate, .. } | Step::Churn { rate, .. } => {
                rate.filter(|rate| !rate.is_finite() || *rate <= 0.0).map(|rate| {
                    format!("{rate} connections a second: write a number above 0, or none for as fast as they come")
                })
            }
            Step::Ping { time, warm_up, .. } if time <= warm_up => {
                Some(format!("the warm-up of {warm_up:?} leaves nothing of {time:?}: write a longer duration"))
            }
            Step::Subscribe { .. }
            | Step::Receive
            | Step::Disconnect { .. }
            | Step::Clear { .. }
            | Step::Forget { .. }
            | Step::Hold { .. }
            | Step::Ping { .. }
            | Step::Shell { .. } => None,
        }
    }
}

impl Group {
    fn fault(&self) -> Option<String> {
        let fault = self.publish.as_ref().and_then(Publish::fault);
        let fault = fault.or_else(|| self.subscribe.as_ref().and_then(Subscribe::fault));
        let fault = fault.or_else(|| {
            (self.count > 1 && !self.client_id.has_client()).then(|| {
                format!("all clients would have the id {:?}: put {{i}} into it", self.client_id.to_string())
            })
        });
        fault.map(|fault| format!("group {:?}: {fault}", self.name))
    }
}

impl Publish {
    fn fault(&self) -> Option<String> {
        match self.pace {
            Pace::Window(0) => return Some("a window of 0 messages: write 1 or more".to_owned()),
            Pace::Window(size) if size > WINDOW_MAX => {
                return Some(format!("a window of {size} messages: write {WINDOW_MAX} or fewer"));
            }
            Pace::Rate(rate) if !rate.is_finite() || rate <= 0.0 => {
                return Some(format!("a rate of {rate} messages a second: write a number above 0"));
            }
            Pace::Window(_) | Pace::Rate(_) => {}
        }
        if self.topics == 0 {
            return Some("0 topics: write 1 or more".to_owned());
        }
        if self.topics > 1 && !self.topic.has_topic() {
            let topic = self.topic.to_string();
            return Some(format!(
                "{} topics, but {topic:?} is the same for all: put {{k}} into it",
                self.topics
            ));
        }
        let example =
            self.topic.fill(&crate::pattern::Values { run: "run", group: "group", ..Default::default() });
        ringmq_codec::check_name(example.as_bytes())
            .err()
            .map(|_| format!("{example:?} is not a topic: write one without + and #, of 1 to 65535 bytes"))
    }
}

impl Subscribe {
    fn fault(&self) -> Option<String> {
        if self.each == 0 || self.filters.is_empty() {
            return Some("no filter: write one".to_owned());
        }
        if let Some(share) = &self.share
            && (share.is_empty() || share.contains(['/', '+', '#']))
        {
            return Some(format!(
                "{share:?} is not a name for a shared subscription: write one without / + and #"
            ));
        }
        self.filters.iter().find_map(|filter| {
            if self.each > 1 && !filter.has_topic() {
                let filter = filter.to_string();
                return Some(format!("{} filters a client, but {filter:?} has no {{k}}", self.each));
            }
            let values = crate::pattern::Values { run: "run", group: "group", ..Default::default() };
            let example = filter.fill(&values);
            let is_shared = example.starts_with("$share/");
            if is_shared {
                return Some(format!(
                    "{example:?}: write the share's name as share = \"...\", not into the filter"
                ));
            }
            ringmq_codec::check_filter(&example)
                .err()
                .map(|_| format!("{example:?} is not a filter: + and # stand alone between slashes, # last"))
        })
    }
}
