//! Clients that die, and one that reads their wills.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use ringmq_codec::{AckKind, Packet, QoS, Version, Will};

use crate::client::{DEADLINE, Event, Link, Who};
use crate::stage::Stage;

const WATCHER: &str = "watcher";
/// The Will Delay Interval of those that do not come back.
const DELAY_S: u32 = 1;

/// What is to become of a will.
enum Fate {
    /// Published once, not before a moment.
    Once { not_before: Instant },
    /// Not published.
    Never,
}

/// The wills of a test.
#[derive(Default)]
pub struct Wills {
    fates: HashMap<String, Fate>,
    /// Clients that are connected, until the broker is killed: those that will stay away, and those that
    /// will be back.
    staying_away: Vec<(String, Link)>,
    coming_back: Vec<(String, Link)>,
    /// Those that were connected when it was killed and come back.
    to_come_back: Vec<String>,
    made: usize,
}

impl Wills {
    /// Connects clients with wills: some die at once, others with the broker.
    pub fn make(&mut self, stage: &Stage) {
        for id in std::mem::take(&mut self.to_come_back) {
            // Back in time: the will that it had is void, and it has none now.
            let link = Link::connect(stage.address, &Who::persistent(&id, Version::V5)).unwrap();
            assert!(link.present, "the session of {id} is gone");
            link.disconnect();
            self.fates.insert(id, Fate::Never);
        }
        let (id, link) = self.connect(stage, DELAY_S);
        let not_before = earliest();
        drop(link);
        self.fates.insert(id, Fate::Once { not_before });
        let (id, link) = self.connect(stage, DELAY_S);
        link.disconnect();
        self.fates.insert(id, Fate::Never);
        let one = self.connect(stage, DELAY_S);
        self.staying_away.push(one);
        let other = self.connect(stage, 3600);
        self.coming_back.push(other);
    }

    fn connect(&mut self, stage: &Stage, delay_s: u32) -> (String, Link) {
        self.made += 1;
        let id = format!("mortal-{}", self.made);
        let topic = format!("will/{}", self.made % 7);
        let (payload, qos, retain) = (id.as_bytes(), QoS::ExactlyOnce, false);
        let (message_expiry_s, properties) = (None, &[][..]);
        let topic = topic.as_str();
        let will = Some(Will { topic, payload, qos, retain, delay_s, message_expiry_s, properties });
        let link = Link::connect(stage.address, &Who { will, ..Who::persistent(&id, Version::V5) }).unwrap();
        (id, link)
    }

    /// The broker is killed in a moment.
    pub fn before_kill(&mut self) {
        let not_before = earliest();
        for (id, _) in &self.staying_away {
            self.fates.insert(id.clone(), Fate::Once { not_before });
        }
    }

    /// The broker was killed, and the connections with it.
    pub fn after_kill(&mut self) {
        self.staying_away.clear();
        self.to_come_back.extend(self.coming_back.drain(..).map(|(id, _)| id));
    }

    /// Of how many wills the reading is due.
    fn missing(&self, read: &[(String, Instant)]) -> usize {
        let due = |(id, fate): &(&String, &Fate)| matches!(fate, Fate::Once { .. }) && times(id, read) == 0;
        self.fates.iter().filter(due).count()
    }

    fn faults(&self, read: &[(String, Instant)], times_max: usize) -> Vec<String> {
        let mut faults = Vec::new();
        for (id, fate) in &self.fates {
            let times = times(id, read);
            let expected = match fate {
                Fate::Once { .. } => 1..=times_max,
                Fate::Never => 0..=0,
            };
            if !expected.contains(&times) {
                faults.push(format!("the will of {id} was published {times} times, not {expected:?}"));
            } else if times > 1 {
                eprintln!("the will of {id} was published {times} times");
            }
        }
        for (id, at) in read {
            match self.fates.get(id) {
                Some(Fate::Once { not_before }) if at < not_before => {
                    faults.push(format!("the will of {id} came {:?} early", *not_before - *at));
                }
                Some(_) => {}
                None => faults.push(format!("a will of {id}, who has none")),
            }
        }
        faults
    }
}

/// When the will of a client that dies now is due, at the earliest by a clock of whole milliseconds.
fn earliest() -> Instant {
    Instant::now() + Duration::from_secs(DELAY_S.into()) - Duration::from_millis(2)
}

fn times(id: &str, read: &[(String, Instant)]) -> usize {
    read.iter().filter(|(read, _)| read == id).count()
}

/// The one who reads the wills.
#[derive(Default)]
pub struct Watcher {
    read: Vec<(String, Instant)>,
    open: HashMap<u16, String>,
}

impl Watcher {
    /// Makes its session.
    pub fn begin(&self, stage: &Stage) {
        let mut link = Link::connect(stage.address, &Who::persistent(WATCHER, Version::V5)).unwrap();
        link.subscribe("will/#", QoS::ExactlyOnce, None).unwrap();
        link.disconnect();
    }

    /// Reads wills until the broker is killed.
    pub fn run(&mut self, stage: &Stage) {
        stage.while_up(|stage| {
            let mut link = Link::connect(stage.address, &Who::persistent(WATCHER, Version::V5))?;
            assert!(link.present, "the session of the {WATCHER} is gone");
            while !stage.is_over() {
                let event = link.look()?;
                self.handle(event, &mut link)?;
            }
            Ok(())
        });
    }

    fn handle(&mut self, event: Option<Event>, link: &mut Link) -> std::io::Result<()> {
        match event {
            Some(Event::Publish(message)) => {
                let id = String::from_utf8(message.payload).unwrap();
                link.put_ack(AckKind::PubRec, message.packet_id);
                if self.open.insert(message.packet_id, id.clone()).is_none() {
                    self.read.push((id, Instant::now()));
                }
            }
            Some(Event::Ack(AckKind::PubRel, packet_id, _)) => {
                self.open.remove(&packet_id);
                link.put_ack(AckKind::PubComp, packet_id);
            }
            Some(other) => panic!("{other:?} to the {WATCHER}"),
            None => {}
        }
        link.flush()
    }

    /// Waits for all wills that are due; what is wrong with them.
    ///
    /// Each will has to be published once, and `times_max` times at most.
    pub fn finish(&mut self, stage: &Stage, wills: &Wills, times_max: usize) -> Vec<String> {
        let mut link = Link::connect(stage.address, &Who::persistent(WATCHER, Version::V5)).unwrap();
        let since = Instant::now();
        while wills.missing(&self.read) > 0 && since.elapsed() < DEADLINE / 4 {
            let event = link.look().unwrap();
            self.handle(event, &mut link).unwrap();
        }
        link.put(&Packet::PingReq);
        link.flush().unwrap();
        loop {
            match link.next().unwrap() {
                Event::PingResp => break,
                event => self.handle(Some(event), &mut link).unwrap(),
            }
        }
        link.disconnect();
        wills.faults(&self.read, times_max)
    }
}
