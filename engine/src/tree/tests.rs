use super::model::{filter, naive_match, topic};
use super::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

#[test]
fn the_rules_by_table() {
    let table = [
        ("sport/tennis/player1/#", "sport/tennis/player1", true),
        ("sport/tennis/player1/#", "sport/tennis/player1/ranking", true),
        ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true),
        ("sport/#", "sport", true),
        ("sport/#", "sports", false),
        ("#", "a", true),
        ("#", "/", true),
        ("#", "$SYS/x", false),
        ("+/x", "$SYS/x", false),
        ("+/#", "$SYS/x", false),
        ("$SYS/#", "$SYS/x", true),
        ("$SYS/#", "$SYS", true),
        ("$SYS/+", "$SYS/$x", true),
        ("a/+", "a/$x", true),
        ("a/#", "a/$x/y", true),
        ("$SYS/monitor/+", "$SYS/monitor/Clients", true),
        ("sport/tennis/+", "sport/tennis/player1", true),
        ("sport/tennis/+", "sport/tennis/player1/ranking", false),
        ("sport/+", "sport", false),
        ("sport/+", "sport/", true),
        ("+/+", "/finance", true),
        ("/+", "/finance", true),
        ("+", "/finance", false),
        ("+", "", true),
        ("+/tennis/#", "sport/tennis", true),
        ("+/tennis/#", "sport/tennis/a/b", true),
        ("a//b", "a//b", true),
        ("a/+/b", "a//b", true),
        ("a/+/b", "a/b", false),
        ("a+/b", "a+/b", true),
        ("a+/b", "ax/b", false),
        ("A/b", "a/b", false),
        ("a/", "a", false),
        ("a", "a/", false),
        ("+/", "a/", true),
        ("+/", "a", false),
        ("a/b/c/d/e/f", "a/b/c/d/e/f", true),
    ];
    for (filter, topic, expected) in table {
        assert_eq!(naive_match(filter, topic), expected, "the model: {filter} {topic}");
        let mut tree = TopicTree::new(1);
        let Subscribed { id, .. } = tree.subscribe(filter, subscriber(1, 0));
        let mut out = Vec::new();
        tree.matches(topic, &mut out);
        assert_eq!(out, Vec::from_iter(expected.then_some(id)), "{filter} {topic}");
    }
}

fn subscriber(session: u32, subscription_id: u32) -> Subscriber {
    let options = SubscriberOptions::new((subscription_id % 3) as u8);
    Subscriber { session: SessionSlot(session), options, subscription_id }
}

#[derive(Clone, Debug)]
enum Step {
    Subscribe { session: u32, with: u32 },
    Unsubscribe { session: u32 },
    Interest { shard: usize, interested: bool },
    AddGroup { group: u32 },
    RemoveGroup { group: u32 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..4u32, any::<u32>()).prop_map(|(session, with)| Step::Subscribe { session, with }),
        4 => (0..4u32).prop_map(|session| Step::Unsubscribe { session }),
        2 => (0..3usize, any::<bool>()).prop_map(|(shard, interested)| Step::Interest { shard, interested }),
        1 => (0..3u32).prop_map(|group| Step::AddGroup { group }),
        1 => (0..3u32).prop_map(|group| Step::RemoveGroup { group }),
    ]
}

/// What the tree must hold for one filter.
#[derive(Clone, Debug, Default, PartialEq)]
struct Held {
    locals: BTreeMap<u32, Subscriber>,
    remote: BTreeSet<usize>,
    groups: BTreeSet<u32>,
}

#[derive(Default)]
struct Model(BTreeMap<String, Held>);

impl Model {
    fn apply(&mut self, tree: &mut TopicTree, filter: &str, step: Step) {
        let known = tree.find(filter);
        assert_eq!(known.is_some(), self.0.contains_key(filter), "{filter}");
        let held = self.0.entry(filter.to_owned()).or_default();
        match step {
            Step::Subscribe { session, with } => {
                let replaced = held.locals.insert(session, subscriber(session, with));
                let first_local = replaced.is_none() && held.locals.len() == 1;
                let done = tree.subscribe(filter, subscriber(session, with));
                assert!(known.is_none_or(|known| known == done.id));
                assert_eq!((done.replaced, done.first_local), (replaced, first_local));
            }
            Step::Unsubscribe { session } => {
                let found = held.locals.remove(&session);
                let last_local = found.is_some() && held.locals.is_empty();
                let done = known.map(|id| tree.unsubscribe(id, SessionSlot(session)));
                let expected = Unsubscribed { found, last_local };
                assert!(done.is_none_or(|done| done == expected));
            }
            Step::Interest { shard, interested: true } => {
                held.remote.insert(shard);
                tree.set_interest(filter, ShardId::new(shard), true);
            }
            Step::Interest { shard, interested: false } => {
                held.remote.remove(&shard);
                tree.set_interest(filter, ShardId::new(shard), false);
            }
            Step::AddGroup { group } => {
                held.groups.insert(group);
                tree.add_group(filter, GroupId(group));
            }
            Step::RemoveGroup { group } => {
                held.groups.remove(&group);
                known.into_iter().for_each(|id| tree.remove_group(id, GroupId(group)));
            }
        }
        self.0.retain(|_, held| *held != Held::default());
    }

    fn check(&self, tree: &TopicTree, topic: &str) {
        let mut out = Vec::new();
        tree.matches(topic, &mut out);
        let count = out.len();
        let found: BTreeMap<String, Held> =
            out.into_iter().map(|id| (tree.text(id).to_owned(), held(tree, id))).collect();
        assert_eq!(found.len(), count, "a filter is found once");
        let expected = self.0.iter().filter(|(filter, _)| naive_match(filter, topic));
        assert_eq!(found, expected.map(|(filter, held)| (filter.clone(), held.clone())).collect(), "{topic}");
    }
}

fn held(tree: &TopicTree, id: FilterId) -> Held {
    assert_eq!(tree.find(tree.text(id)), Some(id));
    assert_eq!(tree.is_exact(id), !tree.text(id).split('/').any(|level| level == "+" || level == "#"));
    assert_eq!(tree.local_count(id), tree.locals(id).count());
    for one in tree.locals(id) {
        assert_eq!(tree.subscriber(id, one.session), Some(one));
    }
    Held {
        locals: tree.locals(id).map(|one| (one.session.0, *one)).collect(),
        remote: tree.remote(id).iter().map(ShardId::index).collect(),
        groups: tree.groups(id).iter().map(|group| group.0).collect(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]
    #[test]
    fn equals_a_linear_matcher(
        steps in prop::collection::vec((filter(), step()), 0..120),
        topics in prop::collection::vec(topic(), 20),
        seed: u64,
    ) {
        let mut tree = TopicTree::new(seed);
        let mut model = Model::default();
        for (filter, step) in steps {
            model.apply(&mut tree, &filter, step);
            prop_assert_eq!(tree.len(), model.0.len());
        }
        for topic in &topics {
            model.check(&tree, topic);
        }
        let leave: Vec<String> = model.0.keys().cloned().collect();
        for filter in leave {
            for number in 0..4 {
                model.apply(&mut tree, &filter, Step::Unsubscribe { session: number });
                model.apply(&mut tree, &filter, Step::Interest { shard: number as usize, interested: false });
                model.apply(&mut tree, &filter, Step::RemoveGroup { group: number });
            }
        }
        prop_assert!(tree.is_empty());
        prop_assert_eq!(tree.memory_bytes(), TopicTree::new(seed).memory_bytes());
    }
}

#[test]
fn the_order_of_matches_and_subscribers_does_not_depend_on_the_seed() {
    let run = |seed| {
        let mut tree = TopicTree::new(seed);
        for filter in ["a/#", "+/b", "a/b", "#", "a/+", "+/+", "+/#", "a/b/#"] {
            for session in (0..100).rev() {
                tree.subscribe(filter, subscriber(session, 0));
            }
        }
        let mut out = Vec::new();
        tree.matches("a/b", &mut out);
        let texts: Vec<String> = out.iter().map(|id| tree.text(*id).to_owned()).collect();
        let sessions: Vec<u32> = tree.locals(out[0]).map(|one| one.session.0).collect();
        (texts, sessions)
    };
    assert_eq!(run(1), run(2));
    assert_eq!(run(1).1, Vec::from_iter((0..100).rev()));
}

#[test]
fn deep_topics_visit_what_exists() {
    let mut tree = TopicTree::new(1);
    for depth in 1..=128 {
        tree.subscribe(&vec!["+"; depth].join("/"), subscriber(1, 0));
        tree.subscribe(&format!("{}/#", vec!["+"; depth].join("/")), subscriber(1, 0));
        tree.subscribe(&format!("{}/+", vec!["a"; depth].join("/")), subscriber(1, 0));
    }
    let mut out = Vec::new();
    tree.matches(&vec!["a"; 128].join("/"), &mut out);
    assert_eq!(out.len(), 1 + 128 + 1);
}

#[test]
fn every_mixture_of_plus_and_level_is_found() {
    let mut tree = TopicTree::new(1);
    for depth in 1..=8 {
        for mask in 0..1 << depth {
            let levels: Vec<&str> =
                (0..depth).map(|bit| if mask >> bit & 1 == 0 { "+" } else { "a" }).collect();
            tree.subscribe(&levels.join("/"), subscriber(1, 0));
        }
    }
    let mut out = Vec::new();
    tree.matches("a/a/a/a/a/a/a/a", &mut out);
    assert_eq!(out.len(), 256, "more nodes of a level than a walk keeps without allocating");
}

#[test]
#[should_panic(expected = "'#' before the last level")]
fn an_invalid_filter_is_our_fault() {
    TopicTree::new(1).subscribe("a/#/b", subscriber(1, 0));
}

#[test]
fn a_subscription_to_a_topic_of_its_own_stays_within_its_bytes() {
    let mut tree = TopicTree::new(1);
    for number in 0..50_000 {
        tree.subscribe(&format!("plant/eu-5/hall-12/line-6/device-{number:06}/temp"), subscriber(number, 0));
    }
    assert!(tree.memory_bytes() / 50_000 <= 160, "{}", tree.memory_bytes() / 50_000);
}
