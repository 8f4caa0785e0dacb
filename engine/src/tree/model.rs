//! What the tests of trees and stores compare with.

use proptest::prelude::*;

/// The matching rule as the specification puts it, by lists of levels.
pub(crate) fn naive_match(filter: &str, topic: &str) -> bool {
    if topic.starts_with('$') && (filter.starts_with('+') || filter.starts_with('#')) {
        return false;
    }
    fn levels(filter: &[&str], topic: &[&str]) -> bool {
        match (filter, topic) {
            (["#"], _) => true,
            ([], topic) => topic.is_empty(),
            (_, []) => false,
            ([wanted, filter @ ..], [level, topic @ ..]) => {
                (*wanted == "+" || wanted == level) && levels(filter, topic)
            }
        }
    }
    levels(&filter.split('/').collect::<Vec<_>>(), &topic.split('/').collect::<Vec<_>>())
}

/// Topics over few levels, so that they meet.
pub(crate) fn topic() -> impl Strategy<Value = String> {
    let level = prop::sample::select(vec!["", "a", "b", "a-level-that-is-long", "$x", "é"]);
    prop::collection::vec(level, 1..6).prop_map(|levels| levels.join("/"))
}

/// Filters over the same levels.
pub(crate) fn filter() -> impl Strategy<Value = String> {
    (topic(), prop::collection::vec(0..4u8, 5), any::<bool>()).prop_map(|(topic, plus, hash)| {
        let levels = topic.split('/').zip(plus).map(|(level, plus)| if plus == 0 { "+" } else { level });
        levels.chain(hash.then_some("#")).collect::<Vec<_>>().join("/")
    })
}
