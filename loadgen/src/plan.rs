//! A scenario made ready: which core runs which client, and who is to hear whom.

use std::collections::HashMap;
use std::sync::Arc;

use crate::hearing::{Hearing, hear};
use crate::pattern::Values;
use crate::payload::{Content, PUBLISHERS_MAX, Tag};
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
    /// How often each client's messages arrive; empty where it does not publish.
    pub copies: Vec<Copies>,
    /// Whom its clients hear, where it subscribes.
    pub hearing: Option<Hearing>,
    /// By publisher: how many copies of its messages the group gets.
    pub heard: Vec<Copies>,
}

/// How often each message of a publisher arrives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Copies {
    pub count: u32,
    /// There may be more, which nobody expects.
    pub is_open: bool,
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
                copies: Vec::new(),
                hearing: None,
                heard: Vec::new(),
            });
        }
        let mut copies = vec![Copies::default(); voices.len()];
        let mut notices = Vec::new();
        for (plan, group) in groups.iter_mut().zip(&scenario.groups) {
            if let Some(subscribe) = &group.subscribe {
                let heard = hear(group, subscribe, &run, &voices);
                for (copies, more) in copies.iter_mut().zip(&heard.copies) {
                    copies.count += more.count;
                    copies.is_open |= more.is_open;
                }
                notices.extend(heard.notice.map(|notice| format!("group {:?}: {notice}", group.name)));
                (plan.hearing, plan.heard) = (Some(heard.hearing), heard.copies);
            }
        }
        for (plan, group) in groups.iter_mut().zip(&scenario.groups) {
            if group.publish.is_some() {
                let first = plan.first_publisher as usize;
                plan.copies = copies[first..first + group.count as usize].to_vec();
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
        self.scenario.groups.iter().zip(&self.groups).find_map(|(group, plan)| {
            let publish = group.publish.as_ref()?;
            let name = &group.name;
            let is_published = |step: &Step| matches!(step, Step::Publish { groups, .. } if groups.iter().any(|at| self.scenario.groups[*at].name == *name));
            if !self.scenario.steps.iter().any(is_published) || !matches!(publish.pace, Pace::Window(_)) {
                return None;
            }
            // At QoS 1 and 2 acknowledgements hold a publisher back, whoever listens.
            if publish.qos != ringmq_codec::QoS::AtMostOnce {
                return None;
            }
            let content = plan.content.as_ref()?;
            if content.least < crate::payload::SHORT_STAMP_BYTES {
                return Some(format!(
                    "group {name:?}: a window at QoS 0 is counted by what the messages carry, and {} bytes are too few: \
                     write a size of {} or more, a rate in place of the window, or QoS 1",
                    content.least,
                    crate::payload::SHORT_STAMP_BYTES,
                ));
            }
            plan.copies.iter().any(|copies| copies.count == 0).then(|| {
                format!(
                    "group {name:?}: nobody here is known to receive its messages, so a window at QoS 0 cannot be \
                     counted: write a rate in place of the window, QoS 1, or subscribers for {:?}",
                    publish.topic.to_string()
                )
            })
        })
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

    /// What a client's patterns are filled in with.
    pub fn values(&self, group: usize, client: u32, topic: u64) -> Values<'_> {
        let group = &self.scenario.groups[group];
        Values { client: u64::from(client), topic, run: &self.run, group: &group.name }
    }

    /// The group and client that a publisher's number belongs to.
    pub fn publisher(&self, number: u32) -> (usize, u32) {
        let mut publishing = self.groups.iter().enumerate().filter(|(_, plan)| !plan.copies.is_empty());
        let found = publishing.find(|(_, plan)| (number - plan.first_publisher) < plan.copies.len() as u32);
        let (at, plan) = found.expect("every publisher is of some group");
        (at, number - plan.first_publisher)
    }
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
