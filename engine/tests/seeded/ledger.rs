//! The ledger says what became of every message, and agrees with what the clients saw.

use ringmq_codec::{QoS, Version};
use ringmq_engine::{DropReason, Limits, OverflowPolicy};
use ringmq_sim::{Network, Rng, for_each_seed};

use crate::peer::{Habits, Key, Message};
use crate::rig::{Rig, Setup};

fn sums(rig: &Rig) -> (u64, u64) {
    let sent = rig.peers.iter().map(|peer| peer.sent_publishes).sum();
    let came = rig.peers.iter().map(|peer| peer.inbox.len() as u64).sum();
    (sent, came)
}

/// Nothing is lost or repeated, so every figure is known.
#[test]
fn agrees_with_the_clients_in_peace() {
    for_each_seed("ledger::agrees_with_the_clients_in_peace", 120, |seed| {
        let setup = Setup { sys_interval_ms: 10_000, ..Setup::rough(&mut Rng::new(seed)) };
        let mut rig = Rig::new(seed, &setup);
        for _ in 0..2 + rig.rng.below(4) {
            let habits = Habits::transient(Version::V5).varied(&mut rig.rng);
            rig.add("peer", habits);
        }
        rig.settle();
        for at in 0..rig.peers.len() {
            let (filter, qos) = (*rig.rng.pick(&["a/#", "+/b", "c", "$share/g/a/b"]), rig.any_qos());
            rig.subscribe(at, filter, qos);
        }
        rig.settle();
        for _ in 0..60 {
            rig.stir(15);
            let at = rig.rng.below(rig.peers.len());
            let (topic, qos) = (*rig.rng.pick(&["a/b", "c", "nobody"]), rig.any_qos());
            rig.publish(at, topic, qos);
        }
        rig.settle();
        rig.world.run_for_ms(11_000);
        let (ledger, traffic) = rig.figures();
        let (sent, came) = sums(&rig);
        assert_eq!((ledger.received, traffic.publishes_received), (sent, sent));
        assert_eq!((ledger.delivered, traffic.publishes_sent), (came, came));
        assert_eq!((ledger.queued, ledger.expired), (0, 0));
        assert_eq!(ledger.dropped_total(), ledger.dropped(DropReason::NoSubscriber));
    });
}

/// What is published to a session whose client is away, and what becomes of it.
struct Absence {
    queue_messages_max: usize,
    overflow: OverflowPolicy,
    unacked: u64,
    kept: Vec<(Key, Expires)>,
    overflowed: u64,
}

#[derive(Clone, Copy, PartialEq)]
enum Expires {
    BeforeTheReturn,
    Never,
}

impl Absence {
    fn new(rng: &mut Rng) -> Self {
        let policies = [OverflowPolicy::DropNewest, OverflowPolicy::DropOldest, OverflowPolicy::Disconnect];
        Self {
            queue_messages_max: 1 + rng.below(20),
            overflow: *rng.pick(&policies),
            unacked: 0,
            kept: Vec::new(),
            overflowed: 0,
        }
    }

    fn take(&mut self, message: &Message) {
        if message.qos == QoS::AtMostOnce {
            self.unacked += 1;
            return;
        }
        let expires = if message.expiry_s.is_some() { Expires::BeforeTheReturn } else { Expires::Never };
        if self.kept.len() < self.queue_messages_max {
            self.kept.push((message.key, expires));
            return;
        }
        self.overflowed += 1;
        if self.overflow == OverflowPolicy::DropOldest {
            self.kept.remove(0);
            self.kept.push((message.key, expires));
        }
    }

    fn check(&self, rig: &Rig, subscriber: usize) {
        let (ledger, traffic) = rig.figures();
        let (lasting, expired): (Vec<_>, Vec<_>) =
            self.kept.iter().partition(|(_, expires)| *expires == Expires::Never);
        let came: Vec<_> = rig.peers[subscriber].inbox.iter().filter_map(|came| came.key).collect();
        assert_eq!(came, lasting.iter().map(|(key, _)| *key).collect::<Vec<_>>());
        assert_eq!(ledger.delivered, lasting.len() as u64);
        assert_eq!(ledger.expired, expired.len() as u64);
        assert_eq!(ledger.dropped(DropReason::Offline), self.unacked);
        assert_eq!(ledger.dropped(DropReason::QueueFull), self.overflowed);
        assert_eq!(ledger.dropped_total(), self.unacked + self.overflowed);
        assert_eq!((ledger.queued, traffic.message_bytes), (0, 0));
    }
}

/// One publisher keeps the order, so that it is known what overflows a queue.
#[test]
fn counts_what_an_absent_client_misses() {
    for_each_seed("ledger::counts_what_an_absent_client_misses", 200, |seed| {
        let mut rng = Rng::new(!seed);
        let mut absence = Absence::new(&mut rng);
        let setup = Setup::rough(&mut rng);
        let limits = Limits {
            queue_messages_max: absence.queue_messages_max as u32,
            overflow: absence.overflow,
            ..setup.limits
        };
        let mut rig = Rig::new(seed, &Setup { limits, ..setup });
        let publisher = rig.add("publisher", Habits::transient(Version::V5));
        let subscriber = rig.add_persistent("subscriber");
        rig.settle();
        rig.subscribe(subscriber, "t", QoS::ExactlyOnce);
        rig.settle();
        rig.peers[subscriber].hang_up(&mut rig.world);
        rig.world.run_until_idle();
        let qos = *rig.rng.pick(&[QoS::AtLeastOnce, QoS::ExactlyOnce]);
        for _ in 0..rig.rng.below(40) {
            let qos = if rig.rng.chance(0.2) { QoS::AtMostOnce } else { qos };
            let mut message = rig.peers[publisher].message("t", qos);
            message.expiry_s = rig.rng.chance(0.3).then_some(10);
            absence.take(&message);
            rig.peers[publisher].publish(&mut rig.world, message);
            rig.stir(10);
        }
        rig.settle_with(|peer| peer.name.starts_with("publisher"));
        rig.world.run_for_ms(11_000);
        rig.settle();
        absence.check(&rig, subscriber);
    });
}

/// A client that does not read misses messages at QoS 0 only, and each is counted.
#[test]
fn counts_what_a_slow_client_misses() {
    for_each_seed("ledger::counts_what_a_slow_client_misses", 120, |seed| {
        let mut rng = Rng::new(!seed);
        let setup = Setup::rough(&mut rng);
        let network = Network { backlog_high_bytes: 4000, backlog_low_bytes: 1000, ..setup.network };
        let limits = Limits { outbox_bytes_max: 8000, ..setup.limits };
        let mut rig = Rig::new(seed, &Setup { network, limits, ..setup });
        let publisher = rig.add("publisher", Habits::transient(Version::V311));
        for _ in 0..2 {
            let habits = Habits::transient(Version::V5).varied(&mut rig.rng);
            rig.add("subscriber", habits);
        }
        rig.settle();
        for at in 1..3 {
            rig.subscribe(at, "t", QoS::ExactlyOnce);
        }
        rig.settle();
        rig.peers[1].stall(&mut rig.world, true);
        for round in 0..150 {
            let qos = rig.any_qos();
            let mut message = rig.peers[publisher].message("t", qos);
            message.padding = rig.rng.below(500);
            rig.peers[publisher].publish(&mut rig.world, message);
            rig.stir(15);
            if round % 50 == 49 {
                let stalled = rig.rng.chance(0.5);
                rig.peers[1].stall(&mut rig.world, stalled);
            }
        }
        rig.settle();
        let (ledger, _) = rig.figures();
        let (_, came) = sums(&rig);
        assert_eq!(ledger.delivered, came);
        assert_eq!(ledger.dropped_total(), ledger.dropped(DropReason::SlowConsumer));
        for at in 1..3 {
            let acked = rig.peers[at].inbox.iter().filter(|came| came.qos != QoS::AtMostOnce).count();
            let due = rig.peers[publisher].published.iter().filter(|(sent, _)| sent.qos != QoS::AtMostOnce);
            assert_eq!(acked, due.count(), "QoS 1 and 2 wait for a slow client");
        }
    });
}
