use super::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

use crate::tree::model::{filter, naive_match, topic};

/// All that a scan reports, in one go or in pieces.
fn scan(store: &RetainedStore<u32>, filter: &str, visits_max: usize) -> Vec<(String, u32)> {
    let (mut found, mut cursor) = (Vec::new(), ScanCursor::new());
    let mut report = |topic: &str, value: &u32| found.push((topic.to_owned(), *value));
    while store.scan(filter, &mut cursor, visits_max, &mut report) == ScanProgress::More {}
    assert_eq!(store.scan(filter, &mut cursor, visits_max, &mut report), ScanProgress::Done);
    found
}

#[derive(Clone, Debug)]
enum Step {
    Set(String),
    Remove(usize),
    /// All topics that share that many levels with one of them.
    RemoveBelow(usize, usize),
    Scan(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => topic().prop_map(Step::Set),
        3 => any::<usize>().prop_map(Step::Remove),
        1 => (any::<usize>(), 1..3usize).prop_map(|(which, levels)| Step::RemoveBelow(which, levels)),
        4 => (1..4usize).prop_map(Step::Scan),
    ]
}

/// A store and the scan that goes on in it, beside what they must hold and report.
struct Model {
    store: RetainedStore<u32>,
    topics: BTreeMap<String, u32>,
    cursor: ScanCursor,
    /// What was there when the scan began and has been ever since.
    stayed: BTreeSet<String>,
    /// What was there at some time since.
    seen: BTreeSet<String>,
    reported: Vec<String>,
}

impl Model {
    fn apply(&mut self, filter: &str, step: Step, value: u32) -> bool {
        match step {
            Step::Set(topic) => {
                assert_eq!(self.store.set(&topic, value), self.topics.insert(topic.clone(), value));
                self.seen.insert(topic);
            }
            Step::Remove(which) => {
                let topic = self.topics.keys().nth(which % self.topics.len().max(1)).cloned();
                topic.into_iter().for_each(|topic| self.remove(&topic));
            }
            Step::RemoveBelow(which, levels) => {
                let Some(one) = self.topics.keys().nth(which % self.topics.len().max(1)) else {
                    return false;
                };
                let shared: Vec<&str> = one.split('/').take(levels).collect();
                let below = |topic: &&String| topic.split('/').take(levels).eq(shared.iter().copied());
                let topics: Vec<String> = self.topics.keys().filter(below).cloned().collect();
                topics.iter().for_each(|topic| self.remove(topic));
            }
            Step::Scan(visits) => return self.scan(filter, visits),
        }
        false
    }

    fn remove(&mut self, topic: &str) {
        assert_eq!(self.store.remove(topic), self.topics.remove(topic));
        assert_eq!(self.store.remove(topic), None);
        self.stayed.remove(topic);
    }

    /// Answers whether the scan is done.
    fn scan(&mut self, filter: &str, visits: usize) -> bool {
        let Self { store, topics, cursor, reported, .. } = self;
        let progress = store.scan(filter, cursor, visits, &mut |topic, value| {
            assert_eq!(topics.get(topic), Some(value), "{topic} is not there");
            reported.push(topic.to_owned());
        });
        progress == ScanProgress::Done
    }

    fn check(&self, filter: &str) {
        let reported: BTreeSet<&String> = self.reported.iter().collect();
        assert!(reported.iter().all(|topic| naive_match(filter, topic) && self.seen.contains(*topic)));
        let stayed: Vec<&String> = self.stayed.iter().filter(|topic| naive_match(filter, topic)).collect();
        for topic in stayed {
            assert_eq!(self.reported.iter().filter(|reported| *reported == topic).count(), 1, "{topic}");
        }
        for (topic, value) in &self.topics {
            assert_eq!(self.store.get(topic), Some(value));
        }
        assert_eq!(self.store.len(), self.topics.len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_500))]
    #[test]
    fn a_scan_among_changes_equals_a_filter(
        before in prop::collection::vec(topic(), 0..60),
        filter in filter(),
        steps in prop::collection::vec(step(), 0..80),
        seed: u64,
    ) {
        let mut store = RetainedStore::new(seed);
        let mut topics = BTreeMap::new();
        for (value, topic) in before.into_iter().enumerate() {
            store.set(&topic, value as u32);
            topics.insert(topic, value as u32);
        }
        let stayed: BTreeSet<String> = topics.keys().cloned().collect();
        let (cursor, seen, reported) = (ScanCursor::new(), stayed.clone(), Vec::new());
        let mut model = Model { store, topics, cursor, stayed, seen, reported };
        let mut done = false;
        for (value, step) in steps.into_iter().enumerate() {
            if !done || !matches!(step, Step::Scan(_)) {
                done |= model.apply(&filter, step, 1_000 + value as u32);
            }
        }
        while !done && !model.scan(&filter, 3) {}
        model.check(&filter);

        let quiet = scan(&model.store, &filter, 7);
        let mut expected = model.topics.clone();
        expected.retain(|topic, _| naive_match(&filter, topic));
        prop_assert_eq!(quiet.len(), expected.len());
        prop_assert_eq!(quiet.into_iter().collect::<BTreeMap<_, _>>(), expected);

        let leave: Vec<String> = model.topics.keys().cloned().collect();
        for topic in leave {
            prop_assert!(model.store.remove(&topic).is_some());
        }
        prop_assert!(model.store.is_empty());
        prop_assert_eq!(model.store.memory_bytes(), RetainedStore::<u32>::new(seed).memory_bytes());
    }
}

#[test]
fn topics_that_share_a_beginning_are_kept_apart() {
    let mut store = RetainedStore::new(1);
    let topics =
        ["a/b/c/d/e", "a/b/c/d/f", "a/b/c", "a", "a/", "a/b/c/d", "/", "", "a/b/c/d/e/f/g/h", "$a/b/c"];
    for (value, topic) in topics.iter().enumerate() {
        assert_eq!(store.get(topic), None);
        assert_eq!(store.set(topic, value as u32), None);
    }
    for (value, topic) in topics.iter().enumerate() {
        assert_eq!(store.get(topic), Some(&(value as u32)), "{topic}");
    }
    for absent in ["a/b", "a/b/c/d/g", "b", "a/b/c/d/e/f", "//", "$a", "$a/b/c/d"] {
        assert_eq!(store.get(absent), None, "{absent}");
        assert_eq!(store.remove(absent), None, "{absent}");
    }
    assert_eq!(scan(&store, "#", 100).len(), 9);
    assert_eq!(scan(&store, "$a/#", 100).len(), 1);
    assert_eq!(scan(&store, "a/b/+/d", 100), [("a/b/c/d".to_owned(), 5)]);
}

/// How many looks a scan takes.
fn visits(store: &RetainedStore<u32>, filter: &str) -> usize {
    let (mut cursor, mut visits) = (ScanCursor::new(), 1);
    while store.scan(filter, &mut cursor, 1, &mut |_, _| ()) == ScanProgress::More {
        visits += 1;
    }
    visits
}

#[test]
fn a_scan_costs_what_it_finds() {
    let mut store = RetainedStore::new(1);
    for site in 0..20u32 {
        for device in 0..200 {
            store.set(&format!("site/{site}/device/{device}/temperature"), device);
            store.set(&format!("site/{site}/device/{device}/humidity"), device);
        }
    }
    assert_eq!(visits(&store, "site/3/device/7/temperature"), 1);
    assert_eq!(visits(&store, "site/3/device/7/absent"), 1);
    assert_eq!(visits(&store, "site/3/device/7/+"), 3);
    assert_eq!(visits(&store, "absent/#"), 1);
    let devices = visits(&store, "site/3/device/+/humidity");
    assert!((200..=202).contains(&devices), "{devices}");
    assert_eq!(scan(&store, "site/3/device/+/humidity", 10).len(), 200);
    assert_eq!(scan(&store, "site/+/device/7/#", 10).len(), 40);
    assert_eq!(scan(&store, "#", 10).len(), 8_000);
}

#[test]
fn removing_where_a_scan_stands_does_not_stop_it() {
    let mut store = RetainedStore::new(1);
    for number in 0..1_000u32 {
        store.set(&format!("a/{number}"), number);
    }
    let (mut reported, mut cursor) = (Vec::new(), ScanCursor::new());
    while store.scan("a/+", &mut cursor, 10, &mut |_, value| reported.push(*value)) == ScanProgress::More {
        let last = reported.last().copied();
        if let Some(last) = last.filter(|last| last % 7 == 0) {
            store.remove(&format!("a/{last}"));
        }
    }
    reported.sort_unstable();
    assert!(reported.into_iter().eq(0..1_000));
}

#[test]
fn a_scan_survives_the_loss_of_the_branch_that_it_is_in() {
    let mut store = RetainedStore::new(1);
    for branch in ["a", "b"] {
        for number in 0..20 {
            store.set(&format!("{branch}/x/{number}/y"), number);
        }
    }
    let (mut reported, mut cursor) = (Vec::new(), ScanCursor::new());
    let mut report = |topic: &str, _: &u32| reported.push(topic.to_owned());
    assert_eq!(store.scan("#", &mut cursor, 7, &mut report), ScanProgress::More);
    for number in 0..20 {
        store.remove(&format!("a/x/{number}/y"));
    }
    // Takes the slots of what is gone, so that a scan which trusted them would go astray.
    for number in 0..20 {
        store.set(&format!("c/{number}/x"), number);
        store.set(&format!("c/{number}/z"), number);
    }
    while store.scan("#", &mut cursor, 7, &mut report) == ScanProgress::More {}
    let of = |branch: &str| reported.iter().filter(|topic| topic.starts_with(branch)).count();
    assert!((1..7).contains(&of("a/")), "{}", of("a/"));
    assert_eq!((of("b/"), of("c/")), (20, 40));
}
