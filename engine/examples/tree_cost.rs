//! What the engine's tables cost: nanoseconds an operation, and bytes.
//!
//! `cargo run --release -p ringmq-engine --example tree_cost`. The figures are the best of five rounds, with
//! topics that lie in the order of their use as they do in a receive buffer, and tables in no order at all.

use std::hint::black_box;
use std::time::Instant;

use ringmq_engine::ids::{FilterId, SessionSlot};
use ringmq_engine::retained::{RetainedStore, ScanCursor, ScanProgress};
use ringmq_engine::tree::{Subscriber, SubscriberOptions, TopicTree};
use ringmq_turn::Wheel;

const ROUNDS: usize = 5;
const FILTERS: usize = 200_000;
const WILDCARDS: usize = 100_000;
const RETAINED: usize = 100_000;
const TIMERS: usize = 1_000_000;
const FAN_OUT: u32 = 100_000;

/// How the levels of topics vary: a name, and the topic of a number.
type Shape = (&'static str, fn(usize) -> String);

const SHAPES: [Shape; 3] = [
    ("a device at level 5", |number| {
        let (region, hall, line) = (number % 7, number / 7 % 40, number / 280 % 9);
        format!("plant/eu-{region}/hall-{hall}/line-{line}/device-{number:06}/temp")
    }),
    ("a number at level 6", |number| {
        let (region, hall) = (number % 10, number / 10 % 100);
        format!("plant/europe-{region}/hall-{hall}/machine/sensors/{number:06}")
    }),
    ("50 words a level", |number| {
        let mut random = Random(number as u64 + 1);
        (0..6).map(|_| format!("word{:02}", random.below(50))).collect::<Vec<_>>().join("/")
    }),
];

struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((word >> 33) as usize * bound) >> 31
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for at in (1..items.len()).rev() {
            items.swap(at, self.below(at + 1));
        }
    }
}

/// Texts one behind the other.
struct Texts {
    all: String,
    ends: Vec<usize>,
}

impl Texts {
    fn new<'a>(texts: impl IntoIterator<Item = &'a String>) -> Self {
        let mut made = Self { all: String::new(), ends: vec![0] };
        for text in texts {
            made.all.push_str(text);
            made.ends.push(made.all.len());
        }
        made
    }

    fn iter(&self) -> impl Iterator<Item = &str> {
        self.ends.windows(2).map(|ends| &self.all[ends[0]..ends[1]])
    }
}

fn shuffled(seed: u64, texts: &[String]) -> Texts {
    let mut order: Vec<&String> = texts.iter().collect();
    Random(seed).shuffle(&mut order);
    Texts::new(order)
}

fn best(count: usize, mut round: impl FnMut() -> u128) -> f64 {
    (0..ROUNDS).map(|_| round()).min().unwrap_or(0) as f64 / count as f64
}

fn timed(work: impl FnOnce()) -> u128 {
    let start = Instant::now();
    work();
    start.elapsed().as_nanos()
}

fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).unwrap_or(0) * 4096
}

fn subscriber(session: usize) -> Subscriber {
    Subscriber {
        session: SessionSlot(session as u32),
        options: SubscriberOptions::new(1),
        subscription_id: 0,
    }
}

fn line(what: &str, ns: f64, note: &str) {
    println!("  {what:<44} {ns:>8.1} ns  {note}");
}

/// Subscribing to, matching and giving up `filters`; `topics` are what is published.
fn tree_cost(filters: &[String], topics: &[String]) {
    let count = filters.len();
    let (order, queries) = (shuffled(1, filters), shuffled(2, topics));
    let mut tree = TopicTree::new(42);
    let mut ids = Vec::with_capacity(count);
    let (mut resident, mut bytes) = (0, 0);
    let mut gone = f64::MAX;
    let subscribe = best(count, || {
        if !tree.is_empty() {
            let mut pairs: Vec<(FilterId, SessionSlot)> = std::mem::take(&mut ids);
            Random(3).shuffle(&mut pairs);
            let took = timed(|| pairs.iter().for_each(|(id, session)| _ = tree.unsubscribe(*id, *session)));
            gone = gone.min(took as f64 / count as f64);
            ids = pairs;
            ids.clear();
        }
        let before = resident_bytes();
        let took = timed(|| {
            for (session, filter) in order.iter().enumerate() {
                ids.push((tree.subscribe(filter, subscriber(session)).id, SessionSlot(session as u32)));
            }
        });
        resident = resident.max(resident_bytes().saturating_sub(before));
        bytes = tree.memory_bytes();
        took
    });
    line("subscribe", subscribe, &format!("{} filters", tree.len()));
    line("unsubscribe", gone, "");
    let mut out = Vec::with_capacity(1_024);
    let mut matched = 0;
    let matches = best(topics.len(), || {
        matched = 0;
        timed(|| {
            for topic in queries.iter() {
                out.clear();
                tree.matches(topic, &mut out);
                matched += black_box(&out).len();
            }
        })
    });
    line("match", matches, &format!("{:.1} filters each", matched as f64 / topics.len() as f64));
    let each = |bytes: usize| bytes as f64 / tree.len() as f64;
    println!("  {:<44} {:>8.1} B   (resident {:.1} B)", "memory a filter", each(bytes), each(resident));
}

fn wildcard(random: &mut Random, topic: &str) -> String {
    let levels: Vec<&str> = topic.split('/').collect();
    if random.below(2) == 0 {
        let at = random.below(levels.len());
        let level =
            |(index, level): (usize, &&str)| if index == at { "+".to_owned() } else { (*level).to_owned() };
        return levels.iter().enumerate().map(level).collect::<Vec<_>>().join("/");
    }
    let kept = 1 + random.below(levels.len() - 1);
    format!("{}/#", levels[..kept].join("/"))
}

fn fan_out_cost() {
    println!("{FAN_OUT} subscribers of one filter");
    let mut tree = TopicTree::new(42);
    let mut sessions: Vec<u32> = (0..FAN_OUT).collect();
    let count = sessions.len();
    let mut gone = f64::MAX;
    let ns = best(count, || {
        let took =
            timed(|| sessions.iter().for_each(|one| _ = tree.subscribe("a/b/c", subscriber(*one as usize))));
        let id = tree.find("a/b/c").expect("it was subscribed to");
        let bytes = tree.memory_bytes();
        Random(5).shuffle(&mut sessions);
        let left = timed(|| sessions.iter().for_each(|one| _ = tree.unsubscribe(id, SessionSlot(*one))));
        gone = gone.min(left as f64 / count as f64);
        black_box(bytes);
        took
    });
    line("subscribe", ns, "");
    line("unsubscribe", gone, "");
}

fn retained_cost(topics: &[String]) {
    let count = topics.len();
    let (order, again) = (shuffled(1, topics), shuffled(2, topics));
    let mut store = RetainedStore::<u64>::new(42);
    let mut resident = 0;
    let set = best(count, || {
        store = RetainedStore::new(42);
        let before = resident_bytes();
        let took = timed(|| order.iter().for_each(|topic| _ = store.set(topic, 7)));
        resident = resident.max(resident_bytes().saturating_sub(before));
        took
    });
    line("set, new", set, &format!("{} topics", store.len()));
    line("set, again", best(count, || timed(|| again.iter().for_each(|topic| _ = store.set(topic, 7)))), "");
    line("get", best(count, || timed(|| again.iter().for_each(|topic| _ = black_box(store.get(topic))))), "");
    let mut found = 0;
    let scan = best(store.len(), || {
        let mut cursor = ScanCursor::new();
        let mut report = |topic: &str, value: &u64| {
            black_box((topic, value));
            found += 1;
        };
        timed(|| while store.scan("#", &mut cursor, 256, &mut report) == ScanProgress::More {})
    });
    assert_eq!(found, store.len() * ROUNDS);
    line("scan of '#', 256 a chunk", scan, "");
    let each = |bytes: usize| bytes as f64 / store.len() as f64 - size_of::<u64>() as f64;
    let memory = each(store.memory_bytes());
    println!(
        "  {:<44} {:>8.1} B   (resident {:.1} B)",
        "memory a topic, its value left out",
        memory,
        each(resident)
    );
    let one = |filter: &str| {
        let mut cursor = ScanCursor::new();
        store.scan(filter, &mut cursor, 256, &mut |_, value| _ = black_box(value));
    };
    line("scan of the topic itself", best(count, || timed(|| again.iter().for_each(one))), "");
    line(
        "remove",
        timed(|| again.iter().for_each(|topic| _ = store.remove(topic))) as f64 / count as f64,
        "",
    );
}

fn wheel_cost() {
    println!("{TIMERS} timers within an hour");
    let mut random = Random(1);
    let times: Vec<u64> = (0..TIMERS).map(|_| random.below(3_600_000) as u64).collect();
    let mut wheel = Wheel::new(0);
    let (mut now_ms, mut due) = (0, Vec::with_capacity(TIMERS));
    let mut fire = f64::MAX;
    let schedule = best(TIMERS, || {
        let took = timed(|| times.iter().for_each(|in_ms| _ = wheel.schedule(now_ms + in_ms, 7u32)));
        due.clear();
        let fired = timed(|| {
            while let Some(next_ms) = wheel.next_due_ms() {
                now_ms = now_ms.max(next_ms);
                while wheel.expire(now_ms, 1_000, &mut due) {}
            }
        });
        fire = fire.min(fired as f64 / TIMERS as f64);
        took
    });
    line("schedule", schedule, &format!("{} bytes each", wheel.memory_bytes() / TIMERS));
    line("fire, cascades included", fire, "");
    let moved = best(TIMERS, || {
        let mut ids: Vec<_> = times.iter().map(|in_ms| wheel.schedule(now_ms + in_ms, 7)).collect();
        Random(2).shuffle(&mut ids);
        let took = timed(|| {
            for id in &mut ids {
                wheel.cancel(*id);
                *id = wheel.schedule(now_ms + 90_000, 7);
            }
        });
        ids.into_iter().for_each(|id| _ = wheel.cancel(id));
        took
    });
    line("cancel and schedule again", moved, "");
    line(
        "ask when the next is due",
        best(TIMERS, || timed(|| (0..TIMERS).for_each(|_| _ = black_box(wheel.next_due_ms())))),
        "",
    );
}

fn main() {
    for (name, shape) in SHAPES {
        let topics: Vec<String> = (0..FILTERS).map(shape).collect();
        println!("{FILTERS} exact filters, {name}: {:?}", topics[FILTERS / 2]);
        tree_cost(&topics, &topics);
        let mut random = Random(9);
        let wild: Vec<String> =
            topics[..WILDCARDS].iter().map(|topic| wildcard(&mut random, topic)).collect();
        println!("{WILDCARDS} subscriptions with wildcards, {name}: {:?}", wild[WILDCARDS / 2]);
        tree_cost(&wild, &topics[..WILDCARDS]);
        println!("{RETAINED} retained topics, {name}");
        retained_cost(&topics[..RETAINED]);
    }
    fan_out_cost();
    wheel_cost();
}
