use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

#[test]
fn a_stream_tells_what_each_arrival_means() {
    let mut stream = Stream::default();
    let table = [
        (0, Seen::New(0)),
        (1, Seen::New(1)),
        (1, Seen::Again(1)),
        (5, Seen::Ahead(Run { from: 2, to: 5 })),
        (3, Seen::Late(3)),
        (3, Seen::Again(3)),
        (6, Seen::New(6)),
    ];
    for (low, expected) in table {
        assert_eq!(stream.see(low), expected, "{low}");
    }
    assert_eq!(
        stream.missing(9).runs,
        [Run { from: 2, to: 3 }, Run { from: 4, to: 5 }, Run { from: 7, to: 9 }]
    );
    assert_eq!(stream.missing(9).count(), 4);
    assert_eq!(Stream::default().see(u32::MAX), Seen::Foreign, "before the first");
}

#[test]
fn a_stream_goes_on_past_what_the_stamp_can_say() {
    let mut stream = Stream::starting_at(u64::from(u32::MAX));
    assert_eq!(stream.see(u32::MAX), Seen::New(u64::from(u32::MAX)));
    assert_eq!(stream.see(0), Seen::New(1 << 32));
    assert_eq!(stream.see(u32::MAX), Seen::Again(u64::from(u32::MAX)));
    assert_eq!(stream.see(2), Seen::Ahead(Run { from: (1 << 32) + 1, to: (1 << 32) + 2 }));
}

#[test]
fn a_stream_counts_the_gaps_that_it_forgets() {
    let mut stream = Stream::default();
    let sent = 2 * (GAPS_MAX as u32 + 100);
    for low in (1..sent).step_by(2) {
        stream.see(low);
    }
    let missing = stream.missing(u64::from(sent));
    assert_eq!((missing.count(), missing.others), (u64::from(sent) / 2, 100));
    assert_eq!(stream.see(0), Seen::Late(0));
    assert_eq!(stream.missing(u64::from(sent)).count(), u64::from(sent) / 2 - 1);
}

#[test]
fn a_bag_gives_up_what_is_too_old_and_still_counts_it() {
    let mut bag = Bag::default();
    bag.see(1);
    bag.see(BAG_MESSAGES_MAX as u32 + 70);
    let sent = BAG_MESSAGES_MAX + 71;
    assert_eq!(bag.missing(sent).count(), sent - 2);
    assert_eq!(bag.see(0), Seen::Late(0));
    assert_eq!(bag.see(1), Seen::Again(1));
    assert_eq!(bag.missing(sent).count(), sent - 3);
}

/// What a network did to a publisher's messages.
#[derive(Clone, Debug)]
struct Way {
    sent: u32,
    lost: BTreeSet<u32>,
    again: Vec<u32>,
    /// Arrivals that change places with the one this far behind.
    swaps: Vec<(usize, usize)>,
}

impl Way {
    fn arrivals(&self) -> Vec<u32> {
        let mut arrivals: Vec<u32> = (0..self.sent).filter(|low| !self.lost.contains(low)).collect();
        for low in &self.again {
            if !self.lost.contains(low) {
                let at = arrivals.iter().position(|it| it == low).unwrap();
                arrivals.insert((at + 3).min(arrivals.len()), *low);
            }
        }
        for &(at, by) in &self.swaps {
            if at + by < arrivals.len() {
                arrivals.swap(at, at + by);
            }
        }
        arrivals
    }
}

fn ways() -> impl Strategy<Value = Way> {
    (1_u32..300).prop_flat_map(|sent| {
        let lost = proptest::collection::btree_set(0..sent, 0..40);
        let again = proptest::collection::vec(0..sent, 0..20);
        let swaps = proptest::collection::vec((0..sent as usize, 1_usize..80), 0..20);
        (lost, again, swaps).prop_map(move |(lost, again, swaps)| Way { sent, lost, again, swaps })
    })
}

/// What a model with a set finds: what is missing, how many came again, how many late.
fn model(way: &Way) -> (BTreeSet<u64>, usize, usize) {
    let (mut came, mut again, mut late) = (BTreeSet::new(), 0, 0);
    for low in way.arrivals() {
        let sequence = u64::from(low);
        let is_late = came.last().is_some_and(|last| sequence < *last);
        if came.insert(sequence) {
            late += usize::from(is_late);
        } else {
            again += 1;
        }
    }
    ((0..u64::from(way.sent)).filter(|sequence| !came.contains(sequence)).collect(), again, late)
}

fn missing(missing: &Missing) -> BTreeSet<u64> {
    missing.runs.iter().flat_map(|run| run.from..run.to).collect()
}

proptest! {
    #[test]
    fn a_stream_finds_what_a_set_finds(way in ways()) {
        let mut stream = Stream::default();
        let (mut again, mut late) = (0, 0);
        for low in way.arrivals() {
            match stream.see(low) {
                Seen::Again(sequence) => { prop_assert_eq!(sequence, u64::from(low)); again += 1; }
                Seen::Late(_) => late += 1,
                Seen::New(_) | Seen::Ahead(_) => {}
                Seen::Foreign => prop_assert!(false, "all are of this run"),
            }
        }
        let found = (missing(&stream.missing(u64::from(way.sent))), again, late);
        prop_assert_eq!(found, model(&way));
    }

    #[test]
    fn a_bag_finds_what_a_set_finds(way in ways()) {
        let mut bag = Bag::default();
        let again = way.arrivals().iter().filter(|low| matches!(bag.see(**low), Seen::Again(_))).count();
        let (expected, expected_again, _) = model(&way);
        prop_assert_eq!(missing(&bag.missing(u64::from(way.sent))), expected);
        prop_assert_eq!(again, expected_again);
    }
}
