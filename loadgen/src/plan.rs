//! A scenario made ready: which core runs which client, and who is to hear whom.

use std::collections::HashMap;
use std::sync::Arc;

use ringmq_codec::QoS;

use crate::course::Course;
use crate::hearing::{Heard, Hearing, hear};
use crate::pattern::Values;
use crate::payload::{Content, PUBLISHERS_MAX, SHORT_STAMP_BYTES, Tag};
use crate::scenario::{Group, Pace, Scenario, Step};

/// Everything that cores know before they begin.
#[derive(Debug)]
pub(crate) struct Plan {
    pub scenario: Scenario,
    /// A word that differs from run to run.
    pub run: String,
    pub tag: Tag,
    pub cores: usize,
    pub groups: Vec<GroupPlan>,
    /// What users should know of it.
    pub notices: Vec<String>,
}

/// One group, made ready.
#[derive(Debug)]
pub(crate) struct GroupPlan {
    /// What its messages carry, where it publishes.
    pub content: Option<Content>,
    /// The number of its first publisher over all groups.
    pub first_publisher: u32,
    /// How many of its clients publish: all or none.
    pub publishers: u32,
    /// Whom its clients hear, where it subscribes.
    pub hearing: Option<Hearing>,
    /// By publisher: how many copies of its messages the group gets.
    pub heard: Vec<Copies>,
}

/// How often each message of a publisher arrives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Copies {
    pub count: u32,
}

/// A publisher's messages, as those see it who are to hear them.
#[derive(Debug)]
pub(crate) struct Voice {
    pub publisher: u32,
    pub topics: Topics,
}

/// Where a publisher's messages go.
#[derive(Debug)]
pub(crate) enum Topics {
    One(String),
    /// Some of many, which stand for all.
    Many(Vec<String>),
}

/// Topics that stand for many.
const EXAMPLES_MAX: u64 = 1000;

impl Plan {
    pub fn new(scenario: Scenario, run: String, tag: Tag) -> Result<Self, String> {
        if let Some(fault) = scenario.fault() {
            return Err(fault);
        }
        let mut groups = Vec::new();
        let mut voices = Vec::new();
        for group in &scenario.groups {
            let first_publisher = voices.len() as u32;
            voices.extend(voices_of(group, first_publisher, &run));
            if voices.len() > PUBLISHERS_MAX {
                return Err(format!("{} publishers, but one run has {PUBLISHERS_MAX} at most", voices.len()));
            }
            groups.push(GroupPlan {
                content: group.publish.as_ref().map(|publish| Content::load(&publish.size)).transpose()?,
                first_publisher,
                publishers: 0,
                hearing: None,
                heard: Vec::new(),
            });
        }
        let mut notices = Vec::new();
        for (at, (plan, group)) in groups.iter_mut().zip(&scenario.groups).enumerate() {
            if let Some(subscribe) = &group.subscribe {
                let mut heard = hear(group, subscribe, &run, &voices);
                if let Some(notice) = misses(&scenario, at, &heard) {
                    heard = Heard::anything(&voices, Some(&notice));
                }
                notices.extend(heard.notice.map(|notice| format!("group {:?}: {notice}", group.name)));
                (plan.hearing, plan.heard) = (Some(heard.hearing), heard.copies);
            }
            if group.publish.is_some() {
                plan.publishers = group.count;
            }
        }
        let cores = scenario.settings.threads;
        let plan = Self { scenario, run, tag, cores, groups, notices };
        match plan.fault() {
            Some(fault) => Err(fault),
            None => Ok(plan),
        }
    }

    /// What cannot work.
    fn fault(&self) -> Option<String> {
        let mut course = Course::new(&self.scenario);
        for step in &self.scenario.steps {
            if let Step::Publish { groups, .. } = step {
                let listening = course.audience(groups).listening;
                if let Some(fault) = groups.iter().find_map(|at| self.window_fault(*at, &listening)) {
                    return Some(fault);
                }
            }
            course.take(step);
        }
        None
    }

    /// Why a group's window cannot be counted.
    fn window_fault(&self, at: usize, listening: &[usize]) -> Option<String> {
        let (group, plan) = (&self.scenario.groups[at], &self.groups[at]);
        let publish = group.publish.as_ref()?;
        // At QoS 1 and 2 acknowledgements hold a publisher back, whoever listens.
        if matches!(publish.pace, Pace::Rate(_)) || publish.qos != QoS::AtMostOnce {
            return None;
        }
        let (name, least) = (&group.name, plan.content.as_ref()?.least);
        if least < SHORT_STAMP_BYTES {
            return Some(format!(
                "group {name:?}: a window at QoS 0 is counted by what the messages carry, and {least} bytes are too few: \
                 write a size of {SHORT_STAMP_BYTES} or more, a rate in place of the window, or QoS 1"
            ));
        }
        let mut publishers = plan.first_publisher..plan.first_publisher + plan.publishers;
        publishers.any(|publisher| self.copies(publisher, listening) == 0).then(|| {
            format!(
                "group {name:?}: nobody here is known to receive its messages, so a window at QoS 0 cannot be counted: \
                 write a rate in place of the window, QoS 1, or subscribers for {:?} that connect and subscribe before",
                publish.topic.to_string()
            )
        })
    }

    /// Copies of a publisher's message that these groups get.
    pub fn copies(&self, publisher: u32, groups: &[usize]) -> u32 {
        let of_group =
            |at: &usize| self.groups[*at].heard.get(publisher as usize).map_or(0, |copies| copies.count);
        groups.iter().map(of_group).sum()
    }

    /// Whether some arrivals are only counted.
    pub fn is_unchecked(&self) -> bool {
        self.groups.iter().any(|group| matches!(group.hearing, Some(Hearing::Anything)))
    }

    /// The core that runs a client.
    pub fn core_of(&self, group: usize, client: u32) -> usize {
        match &self.groups[group].hearing {
            // What one of them gets, the others must not: they are checked together.
            Some(Hearing::Together(_)) => group % self.cores,
            Some(Hearing::Each(_) | Hearing::Anything) | None => client as usize % self.cores,
        }
    }

    /// The clients of a group that a core runs.
    pub fn clients_of(&self, group: usize, core: usize) -> impl Iterator<Item = u32> + '_ {
        (0..self.scenario.groups[group].count).filter(move |client| self.core_of(group, *client) == core)
    }

    /// How many publishers there are.
    pub fn publishers(&self) -> usize {
        self.groups.iter().map(|group| group.publishers as usize).sum()
    }

    /// What a client's patterns are filled in with.
    pub fn values(&self, group: usize, client: u32, topic: u64) -> Values<'_> {
        let group = &self.scenario.groups[group];
        Values { client: u64::from(client), topic, run: &self.run, group: &group.name }
    }

    /// The group and client that a publisher's number belongs to.
    pub fn publisher(&self, number: u32) -> (usize, u32) {
        let is_of = |plan: &GroupPlan| {
            (plan.first_publisher..plan.first_publisher + plan.publishers).contains(&number)
        };
        let found = self.groups.iter().enumerate().find(|(_, plan)| is_of(plan));
        let (at, plan) = found.expect("every publisher is of some group");
        (at, number - plan.first_publisher)
    }
}

/// Why a group does not get all that it would by its filters: it is not there when something is published.
fn misses(scenario: &Scenario, at: usize, heard: &Heard) -> Option<String> {
    let mut course = Course::new(scenario);
    let mut first = 0;
    let hears = |group: usize, first: u32| {
        let count = if scenario.groups[group].publish.is_some() { scenario.groups[group].count } else { 0 };
        heard.copies[first as usize..(first + count) as usize].iter().any(|copies| copies.count > 0)
    };
    let mut firsts = Vec::new();
    for group in &scenario.groups {
        firsts.push(first);
        first += if group.publish.is_some() { group.count } else { 0 };
    }
    for step in &scenario.steps {
        if let Step::Publish { groups, .. } = step {
            let audience = course.audience(groups);
            let is_there = audience.listening.contains(&at) || audience.away.contains(&at);
            if !is_there && groups.iter().any(|group| hears(*group, firsts[*group])) {
                return Some(
                    "it is not subscribed whenever its publishers publish, so arrivals are only counted"
                        .to_owned(),
                );
            }
        }
        course.take(step);
    }
    None
}

/// The topics of each of a group's clients.
fn voices_of(group: &Group, first: u32, run: &str) -> Vec<Voice> {
    let Some(publish) = &group.publish else { return Vec::new() };
    let values = |client: u32, topic| Values { client: u64::from(client), topic, run, group: &group.name };
    (0..group.count)
        .map(|client| {
            let topics = if publish.topics == 1 {
                Topics::One(publish.topic.fill(&values(client, 0)))
            } else {
                let step = publish.topics.div_ceil(EXAMPLES_MAX);
                let examples = (0..publish.topics).step_by(step as usize);
                Topics::Many(examples.map(|topic| publish.topic.fill(&values(client, topic))).collect())
            };
            Voice { publisher: first + client, topics }
        })
        .collect()
}

/// Lists that are equal share their memory.
#[derive(Debug, Default)]
pub(crate) struct Lists(HashMap<Vec<u32>, Arc<[u32]>>);

impl Lists {
    pub fn share(&mut self, list: Vec<u32>) -> Arc<[u32]> {
        if let Some(known) = self.0.get(&list) {
            return Arc::clone(known);
        }
        let shared: Arc<[u32]> = list.clone().into();
        self.0.insert(list, Arc::clone(&shared));
        shared
    }
}
