//! What it costs to find who subscribes to a topic, by how many filters there are: topics that one filter
//! matches, and topics that none does.
#![allow(missing_docs, reason = "criterion's macros make a function that has none")]

mod quick;

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use ringmq_engine::ids::SessionSlot;
use ringmq_engine::tree::{Subscriber, SubscriberOptions, TopicTree};

const SIZES: [usize; 6] = [10, 100, 1_000, 10_000, 100_000, 1_000_000];
/// `--test` only looks whether all works.
const TEST_SIZE_MAX: usize = 1_000;
/// Topics that are asked for in turn.
const QUERIES_MAX: usize = 100_000;

/// Topics one behind the other, as they lie in receive buffers.
struct Topics {
    all: String,
    ends: Vec<usize>,
}

impl Topics {
    fn new(topics: impl Iterator<Item = String>) -> Self {
        let mut made = Self { all: String::new(), ends: vec![0] };
        for topic in topics {
            made.all.push_str(&topic);
            made.ends.push(made.all.len());
        }
        made
    }

    fn len(&self) -> usize {
        self.ends.len() - 1
    }

    fn get(&self, at: usize) -> &str {
        &self.all[self.ends[at]..self.ends[at + 1]]
    }
}

fn topic(number: usize, last: &str) -> String {
    let (region, hall, line) = (number % 7, number / 7 % 40, number / 280 % 9);
    format!("plant/eu-{region}/hall-{hall}/line-{line}/device-{number:06}/{last}")
}

/// So many filters; every tenth has a `+` where `with_wildcards` says so.
fn tree(size: usize, with_wildcards: bool) -> TopicTree {
    let mut tree = TopicTree::new(42);
    for number in 0..size {
        let mut filter = topic(number, "temp");
        if with_wildcards && number % 10 == 0 {
            filter = filter.replacen("plant", "+", 1);
        }
        let session = SessionSlot(number as u32);
        tree.subscribe(
            &filter,
            Subscriber { session, options: SubscriberOptions::new(1), subscription_id: 0 },
        );
    }
    tree
}

fn matches(criterion: &mut Criterion) {
    let is_test = std::env::args().any(|word| word == "--test");
    let sizes = SIZES.into_iter().filter(|&size| !is_test || size <= TEST_SIZE_MAX);
    for size in sizes {
        for (kind, with_wildcards) in [("exact", false), ("a tenth with +", true)] {
            let tree = tree(size, with_wildcards);
            for (fate, last, expected) in [("hit", "temp", 1), ("miss", "none", 0)] {
                // A step that shares no factor with the sizes visits all of them in no order that caches like.
                let numbers = (0..size.min(QUERIES_MAX)).map(|at| at * 7_919 % size);
                let topics = Topics::new(numbers.map(|number| topic(number, last)));
                let mut out = Vec::with_capacity(16);
                let mut at = 0;
                criterion.bench_function(&format!("match/{kind}, {fate}/{size}"), |bencher| {
                    bencher.iter(|| {
                        out.clear();
                        tree.matches(black_box(topics.get(at)), &mut out);
                        at = if at + 1 == topics.len() { 0 } else { at + 1 };
                        assert_eq!(black_box(&out).len(), expected);
                    });
                });
            }
        }
    }
}

criterion_group!(name = benches; config = quick::config(); targets = matches);
criterion_main!(benches);
