//! Subscriptions outlive the broker from SUBACK on, and their ends from UNSUBACK on.

use std::collections::HashMap;

use ringmq_codec::{QoS, SubscriptionOptions};
use ringmq_sim::{ClientId, for_each_seed};

use crate::model::counts;
use crate::rig::Rig;
use crate::ship::{SYNCED, Ship, Voyage, WRITTEN};

const FILTERS: usize = 4;

/// What a peer knows of one of its subscriptions.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Known {
    /// It was asked for, or to end, and no answer came.
    Unclear,
    Made,
    Ended,
}

/// By peer and the number of the filter.
type Wishes = HashMap<(usize, usize), Known>;

fn filter(at: usize, nth: usize) -> String {
    if nth == 0 { format!("$share/g{at}/s/{at}/0") } else { format!("s/{at}/{nth}") }
}

/// What a peer asked for, and on which connection.
struct Asked {
    at: usize,
    nth: usize,
    wish: Known,
    client: ClientId,
}

/// Of what was asked on a connection that lives still, notes what was answered.
fn note_answers(rig: &Rig, asked: &mut Vec<Asked>, wishes: &mut Wishes) {
    asked.retain(|asked| {
        let link = rig.peers[asked.at].link.as_ref().filter(|link| link.client == asked.client);
        let answered = link.is_some_and(|link| link.asked.is_empty());
        if answered {
            wishes.insert((asked.at, asked.nth), asked.wish);
        }
        link.is_some() && !answered
    });
}

/// A peer whose last wish was answered has another one.
fn wish(rig: &mut Rig, asked: &mut Vec<Asked>, wishes: &mut Wishes) {
    let (at, nth) = (rig.rng.below(rig.peers.len()), rig.rng.below(FILTERS));
    let idle = rig.peers[at].link.as_ref().filter(|link| link.up && link.asked.is_empty());
    let Some(client) = idle.map(|link| link.client) else { return };
    let filter = filter(at, nth);
    let wish = *rig.rng.pick(&[Known::Made, Known::Ended]);
    if wish == Known::Made {
        let options = SubscriptionOptions::new(QoS::ExactlyOnce);
        rig.peers[at].subscribe(&mut rig.world, &[(&filter, options)]);
    } else {
        rig.peers[at].unsubscribe(&mut rig.world, &[&filter]);
    }
    wishes.insert((at, nth), Known::Unclear);
    asked.push(Asked { at, nth, wish, client });
}

fn check(ship: &mut Ship, wishes: &Wishes) {
    let rig = &mut ship.rig;
    let mut sent = Vec::new();
    for (&(at, nth), &known) in wishes {
        let mut message = rig.peers[0].message(&format!("s/{at}/{nth}"), QoS::ExactlyOnce);
        message.padding = nth;
        sent.push((at, known, message.key));
        rig.peers[0].publish(&mut rig.world, message);
    }
    ship.settle();
    for (at, known, key) in sent {
        let count = counts(&ship.rig.peers[at]).get(&key).copied().unwrap_or(0);
        match known {
            Known::Unclear => assert!(count <= 1),
            Known::Made => assert_eq!(count, 1, "peer {at} has subscribed"),
            Known::Ended => assert_eq!(count, 0, "peer {at} has unsubscribed"),
        }
    }
}

fn come_and_go(seed: u64, voyage: Voyage) {
    let mut ship = Ship::new(seed, voyage);
    for _ in 0..1 + ship.rig.rng.below(4) {
        ship.rig.add_persistent("peer");
    }
    ship.settle();
    let mut wishes = Wishes::new();
    for _ in 0..2 + ship.rig.rng.below(3) {
        let mut asked = Vec::new();
        ship.live(60, |rig| {
            rig.stir(15);
            note_answers(rig, &mut asked, &mut wishes);
            wish(rig, &mut asked, &mut wishes);
            let at = rig.rng.below(rig.peers.len());
            if rig.peers[at].link.is_none() || rig.rng.chance(0.05) {
                rig.harm(at);
            }
        });
        // What the crash leaves in the clients' hands counts as answered too.
        ship.rig.poll();
        note_answers(&ship.rig, &mut asked, &mut wishes);
        ship.crash(0);
        ship.settle();
        check(&mut ship, &wishes);
    }
}

#[test]
fn outlive_kills() {
    for_each_seed("subscriptions::outlive_kills", 100, |seed| come_and_go(seed, WRITTEN));
}

#[test]
fn outlive_power_losses() {
    for_each_seed("subscriptions::outlive_power_losses", 100, |seed| come_and_go(seed, SYNCED));
}
