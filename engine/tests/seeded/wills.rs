//! Wills and expiring sessions, on the virtual clock and across shards.

use ringmq_codec::{QoS, ReasonCode, Version};
use ringmq_sim::{Network, Rng, for_each_seed};

use crate::peer::{Habits, Key, Message, WillPlan};
use crate::rig::{Rig, Setup};

/// Timers are late by up to a tick, everything takes its time in the network, and one will waits for the
/// acknowledgement of another.
const SLACK_MS: u64 = 800;

/// How a client with a will ends its connection.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    Cut,
    HangUp,
    Goodbye,
    GoodbyeWithWill,
    TakenOver,
}

/// Between what times a will has to come; absent if it must not.
#[derive(Clone, Copy, Debug)]
struct Due {
    from_ms: u64,
    to_ms: u64,
}

/// One client with a will, from its connection to what becomes of it.
#[derive(Debug)]
struct Case {
    at: usize,
    key: Key,
    delay_s: u32,
    expiry_s: u32,
    end: End,
    /// It comes back so long after.
    back_s: Option<u32>,
    due: Option<Due>,
}

fn plan(rng: &mut Rng, number: u32) -> (Habits, Case) {
    let key = Key { publisher: u16::MAX, number };
    let delay_s = *rng.pick(&[0, 0, 5, 20]);
    let expiry_s = *rng.pick(&[0, 3, 10, 1000]);
    let message = Message {
        key,
        topic: format!("wills/{number}"),
        qos: *rng.pick(&[QoS::AtLeastOnce, QoS::ExactlyOnce]),
        retain: false,
        padding: *rng.pick(&[0, 5000]),
        empty: false,
        expiry_s: None,
    };
    let habits = Habits {
        clean_start: rng.chance(0.3),
        expiry_s,
        forgettable: true,
        will: Some(WillPlan { message, delay_s }),
        ..Habits::transient(Version::V5)
    };
    let end = *rng.pick(&[End::Cut, End::HangUp, End::Goodbye, End::GoodbyeWithWill, End::TakenOver]);
    let back_s = *rng.pick(&[None, Some(1), Some(4), Some(12), Some(30)]);
    (habits, Case { at: 0, key, delay_s, expiry_s, end, back_s, due: None })
}

impl Case {
    /// When the will is due, if its connection ends at `now_ms`.
    fn judge(&mut self, clean_start: bool, now_ms: u64) {
        let ends_session = self.expiry_s == 0 || (self.end == End::TakenOver && clean_start);
        let wait_s = if ends_session { 0 } else { self.delay_s.min(self.expiry_s) };
        let resumed_first = match self.end {
            End::Goodbye => true,
            End::TakenOver => wait_s > 0,
            // The new connection ends the session, and so the delay.
            End::Cut | End::HangUp | End::GoodbyeWithWill => {
                !clean_start && self.back_s.is_some_and(|back_s| back_s < wait_s)
            }
        };
        let cut_short_s = self.back_s.filter(|back_s| clean_start && *back_s < wait_s).unwrap_or(wait_s);
        let from_ms = now_ms + u64::from(cut_short_s) * 1000;
        self.due = (!resumed_first).then_some(Due { from_ms, to_ms: from_ms + SLACK_MS });
    }

    fn end(&mut self, rig: &mut Rig) {
        let peer = &mut rig.peers[self.at];
        self.judge(peer.habits.clean_start, rig.world.now_ms());
        match self.end {
            End::Cut => peer.cut(&mut rig.world),
            End::HangUp => peer.hang_up(&mut rig.world),
            End::Goodbye => peer.disconnect(&mut rig.world, ReasonCode::Success),
            End::GoodbyeWithWill => peer.disconnect(&mut rig.world, ReasonCode::DisconnectWithWill),
            End::TakenOver => self.come_back(rig),
        }
    }

    /// Without a will, so that the first one is the only one.
    fn come_back(&self, rig: &mut Rig) {
        let shard = ringmq_turn::ShardId::new(rig.rng.below(rig.world.shard_count()));
        let peer = &mut rig.peers[self.at];
        peer.habits.will = None;
        peer.connect(&mut rig.world, Some(shard));
    }

    fn check(&self, rig: &Rig, watchers: usize) {
        for watcher in &rig.peers[..watchers] {
            let mut came = watcher.inbox.iter().filter(|arrival| arrival.key == Some(self.key));
            match (self.due, came.next()) {
                (None, None) => {}
                (Some(due), Some(arrival)) => {
                    let in_time = (due.from_ms..=due.to_ms).contains(&arrival.at_ms);
                    assert!(in_time, "the will came at {} ms: {self:?}", arrival.at_ms);
                }
                (due, arrival) => panic!("{due:?} was due, but {arrival:?} came: {self:?}"),
            }
            assert!(came.next().is_none(), "the will came twice: {self:?}");
        }
    }
}

/// A rig whose network takes no more time than [`SLACK_MS`] allows for, and watchers of all wills.
fn watch(seed: u64, watchers: usize) -> Rig {
    let setup = Setup::rough(&mut Rng::new(seed));
    let network = Network { lane_delay_ms: 0..=4, lane_room_messages: 8, ..setup.network };
    let mut rig = Rig::new(seed, &Setup { network, ..setup });
    for _ in 0..watchers {
        let habits = Habits { lazy: false, ..Habits::persistent(Version::V311) };
        rig.add("watcher", habits);
    }
    rig.settle();
    for at in 0..watchers {
        rig.subscribe(at, "wills/#", QoS::ExactlyOnce);
    }
    rig.settle();
    rig
}

/// Lets this much time pass while the clients attend to what comes.
fn pass(rig: &mut Rig, ms: u64) {
    let end_ms = rig.world.now_ms() + ms;
    while rig.world.now_ms() < end_ms {
        let left_ms = end_ms - rig.world.now_ms();
        rig.world.run_for_ms(left_ms.min(20));
        rig.poll();
    }
}

#[test]
fn come_when_they_are_due() {
    for_each_seed("wills::come_when_they_are_due", 120, |seed| {
        const WATCHERS: usize = 2;
        let mut rig = watch(seed, WATCHERS);
        let mut cases = Vec::new();
        for number in 0..12 {
            let (habits, mut case) = plan(&mut rig.rng, number);
            case.at = rig.add("mortal", habits);
            cases.push(case);
        }
        rig.settle();
        for case in &mut cases {
            case.end(&mut rig);
        }
        for second in 1..40 {
            pass(&mut rig, 1000);
            for case in cases.iter().filter(|case| case.back_s == Some(second) && case.end != End::TakenOver)
            {
                case.come_back(&mut rig);
            }
        }
        for case in &cases {
            case.check(&rig, WATCHERS);
        }
        let (ledger, traffic) = rig.figures();
        assert_eq!((ledger.queued, traffic.message_bytes, traffic.violations), (0, 0, 0));
    });
}

/// Sessions are there until they expire, and gone after, with all that they held; one whose client has
/// come back stays.
#[test]
fn sessions_expire() {
    for_each_seed("wills::sessions_expire", 120, |seed| {
        let mut rig = watch(seed, 0);
        let expiries: Vec<u32> = (0..8).map(|_| *rig.rng.pick(&[2, 5, 9])).collect();
        for expiry_s in &expiries {
            let persistent = Habits::persistent(Version::V5);
            rig.add("mortal", Habits { expiry_s: *expiry_s, ..persistent });
        }
        let publisher = rig.add_persistent("publisher");
        rig.settle();
        for at in 0..expiries.len() {
            rig.subscribe(at, "t", QoS::AtLeastOnce);
        }
        rig.settle();
        for at in 0..expiries.len() {
            rig.peers[at].cut(&mut rig.world);
        }
        pass(&mut rig, 100);
        rig.publish(publisher, "t", QoS::AtLeastOnce);
        pass(&mut rig, 500);
        // The last two come back in time.
        for at in expiries.len() - 2..expiries.len() {
            rig.connect(at);
        }
        let mortal = &expiries[..expiries.len() - 2];
        for second in 1_u32..12 {
            pass(&mut rig, 1000);
            let living = mortal.iter().filter(|expiry_s| **expiry_s > second).count() as u64;
            let dying = mortal.iter().filter(|expiry_s| **expiry_s == second).count() as u64;
            let (ledger, traffic) = rig.figures();
            let away = traffic.sessions - traffic.clients_connected;
            assert!((living..=living + dying).contains(&away), "{second} s: {traffic:?}");
            assert_eq!(traffic.clients_connected, 3);
            assert_eq!(ledger.queued, away, "each holds one message");
        }
        rig.publish(publisher, "t", QoS::AtLeastOnce);
        rig.settle_with(|peer| peer.name.starts_with("publisher"));
        for at in mortal.len()..expiries.len() {
            assert_eq!(rig.peers[at].inbox.len(), 2, "its session works");
        }
        let (ledger, traffic) = rig.figures();
        assert_eq!((ledger.queued, traffic.subscriptions, traffic.message_bytes), (0, 2, 0));
    });
}
