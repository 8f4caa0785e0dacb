//! kill -9 at random moments under load, again and again: nothing acknowledged is lost.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ringmq_codec::{QoS, Version, matches};

use crate::client::{DEADLINE, Event, Link, Who};
use crate::keeper::Keeper;
use crate::ledger::{Fault, Name, Sent, Span, Strictness, faults, name_in, topic_name};
use crate::program::{Directory, Program, Setup};
use crate::publisher::{Publisher, RETAINED_TOPIC, last_of_each};
use crate::random::Random;
use crate::stage::Stage;
use crate::subscriber::{Subscriber, Temper};
use crate::wills::{Watcher, Wills};

/// Publishers, by the messages that each has unacknowledged.
const WINDOWS: [usize; 4] = [5, 50, 150, 400];

/// Subscribers: temper, filter and QoS.
const SUBSCRIBERS: [(Temper, &str, QoS); 8] = [
    (Temper::Prompt, "load/#", QoS::ExactlyOnce),
    (Temper::Prompt, "load/+/1", QoS::AtLeastOnce),
    (Temper::Slow, "load/0/#", QoS::ExactlyOnce),
    (Temper::Slow, "load/+/2", QoS::ExactlyOnce),
    (Temper::Cutting, "load/#", QoS::ExactlyOnce),
    (Temper::Cutting, "load/1/+", QoS::AtLeastOnce),
    (Temper::Away, "load/+/0", QoS::ExactlyOnce),
    (Temper::Away, "load/2/#", QoS::AtLeastOnce),
];

/// The members of one shared group.
const MEMBERS: [Temper; 2] = [Temper::Prompt, Temper::Cutting];
const GROUP_FILTER: &str = "$share/group/load/3/#";

/// How many kills, over all tests here: RINGMQ_KILLS, or a few.
fn kills() -> usize {
    std::env::var("RINGMQ_KILLS").map_or(6, |text| text.parse().unwrap())
}

#[test]
fn one_shard_is_killed() {
    Trial::new(1, 1024, "written").kill_and_check(kills().div_ceil(4));
}

#[test]
fn two_shards_are_killed() {
    Trial::new(2, 32 * 1024, "written").kill_and_check(kills().div_ceil(4));
}

#[test]
fn three_shards_are_killed_that_sync() {
    Trial::new(3, 256, "synced").kill_and_check(kills().div_ceil(4));
}

#[test]
fn shards_are_killed_and_their_number_changes() {
    let mut trial = Trial::new(2, 512, "written");
    trial.changes_shards = true;
    trial.kill_and_check(kills().div_ceil(4));
}

/// What finds faults after a kill finds none without: clients come and go, the program stays.
#[test]
fn nobody_is_killed() {
    let mut trial = Trial::new(2, 256, "memory");
    let program = trial.setup.start();
    trial.begin();
    for _ in 0..2 {
        trial.round(|| ());
        trial.check_sessions();
    }
    trial.conclude(program);
}

/// Everybody who takes part.
struct Trial {
    setup: Setup,
    /// Whether each start has another number of shards.
    changes_shards: bool,
    segment_kib: u64,
    directory: Directory,
    stage: Stage,
    random: Random,
    publishers: Vec<Publisher>,
    subscribers: Vec<Subscriber>,
    members: Vec<Subscriber>,
    mover: Subscriber,
    keeper: Keeper,
    wills: Wills,
    watcher: Watcher,
}

impl Trial {
    /// With segments of so many KiB: the smaller, the more the log moves on and is compacted.
    fn new(shards: usize, segment_kib: u64, durability: &str) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let random = Random::seeded(&format!("{shards} shards"));
        let directory = Directory::new(&format!("kill-{}", COUNT.fetch_add(1, Ordering::Relaxed)));
        let file = directory.join("ringmq.toml");
        // However long it goes on, nothing is dropped because a slow subscriber has too much.
        let config = format!(
            "[limits]\npacket_bytes_max = \"16KiB\"\nmemory_bytes_max = \"1TiB\"\n\
             queue_messages_max = 1_000_000_000\nqueue_bytes_max = \"1TiB\"\n\
             [storage]\nsegment_bytes = \"{segment_kib}KiB\"\ndurability = \"{durability}\"\n"
        );
        std::fs::write(&file, config).unwrap();
        let setup = Setup::new(&directory.join("data"), shards).with("--config").with(file.to_str().unwrap());
        let publisher = |(n, window)| Publisher::new(n as u16, window, random.part(n as u64));
        let client = |n: usize, temper| {
            let version = if n.is_multiple_of(2) { Version::V5 } else { Version::V311 };
            let id = format!("subscriber-{n}-{temper:?}");
            Subscriber::new(id, version, temper, random.part(100 + n as u64))
        };
        Self {
            publishers: WINDOWS.into_iter().enumerate().map(publisher).collect(),
            subscribers: SUBSCRIBERS.iter().enumerate().map(|(n, (temper, ..))| client(n, *temper)).collect(),
            members: MEMBERS.iter().enumerate().map(|(n, temper)| client(20 + 2 * n, *temper)).collect(),
            mover: client(30, Temper::Moving),
            keeper: Keeper::new(random.part(200)),
            wills: Wills::default(),
            watcher: Watcher::default(),
            stage: Stage::new(setup.address),
            setup,
            changes_shards: false,
            segment_kib,
            directory,
            random,
        }
    }

    fn kill_and_check(mut self, kills: usize) {
        let program = self.setup.start();
        self.begin();
        self.round(|| _ = program.kill());
        for kill in 1..kills {
            if kill.is_multiple_of(10) {
                eprintln!("{}: killed {kill} times", self.directory.path().display());
            }
            let program = self.restart();
            self.round(|| _ = program.kill());
        }
        let program = self.restart();
        self.conclude(program);
    }

    fn restart(&mut self) -> Program {
        if self.changes_shards {
            self.setup.shards = 1 + self.random.below(4) as usize;
        }
        while self.random.happens(200) {
            // Before it is ready, perhaps: a recovery that is cut short.
            let program = Program::spawn(&self.setup);
            std::thread::sleep(Duration::from_millis(self.random.below(200)));
            program.kill();
        }
        let mut program = self.setup.start();
        let log = program.log();
        assert!(
            !log.contains("lost to damage") && !log.contains("quarantine"),
            "a kill is no damage:\n{log}"
        );
        self.check_sessions();
        program
    }

    fn conclude(mut self, program: Program) {
        let found = self.finish();
        if found.is_empty() {
            self.settle();
        }
        let log = program.stop();
        assert!(found.is_empty(), "{}\n{log}", found.join("\n"));
    }

    /// Nearly nothing lives any more: what the log holds on disk gets as little.
    fn settle(&self) {
        const LIVING_BYTES_MAX: u64 = 1 << 20;
        // The one that is written to, and a spare one.
        let segments = 2 * self.setup.shards as u64;
        let bound = 2 * LIVING_BYTES_MAX + segments * (self.segment_kib << 10);
        let since = Instant::now();
        loop {
            let bytes = bytes_below(&self.setup.directory);
            if bytes <= bound {
                return;
            }
            assert!(since.elapsed() < DEADLINE / 4, "{bytes} bytes stay on disk, {bound} are enough");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn begin(&mut self) {
        self.watcher.begin(&self.stage);
        for (subscriber, (_, filter, qos)) in self.subscribers.iter_mut().zip(SUBSCRIBERS) {
            subscriber.begin(&self.stage, filter, qos);
        }
        for member in &mut self.members {
            member.begin(&self.stage, GROUP_FILTER, QoS::ExactlyOnce);
        }
    }

    /// Everybody at work, and in the midst of it the kill.
    fn round(&mut self, kill: impl FnOnce()) {
        let stage = &self.stage;
        stage.set_over(false);
        self.wills.make(stage);
        // Clients that leave nothing behind, of either version.
        let brief = |version| Link::connect(stage.address, &Who::clean(brief_id(version), version)).unwrap();
        let mut briefs = [Version::V311, Version::V5].map(brief);
        briefs.iter_mut().for_each(|link| link.subscribe("load/#", QoS::AtLeastOnce, None).unwrap());
        let load = Duration::from_millis(20 + self.random.below(1500));
        std::thread::scope(|scope| {
            self.publishers.iter_mut().for_each(|one| _ = scope.spawn(|| one.run(stage)));
            self.subscribers.iter_mut().for_each(|one| _ = scope.spawn(|| one.run(stage)));
            self.members.iter_mut().for_each(|one| _ = scope.spawn(|| one.run(stage)));
            scope.spawn(|| self.mover.run(stage));
            scope.spawn(|| self.keeper.run(stage));
            scope.spawn(|| self.watcher.run(stage));
            drop(briefs);
            std::thread::sleep(load);
            self.wills.before_kill();
            kill();
            stage.set_over(true);
        });
        self.wills.after_kill();
    }

    /// What must be so before anybody does anything.
    fn check_sessions(&self) {
        for version in [Version::V311, Version::V5] {
            let who = Who { clean: false, ..Who::clean(brief_id(version), version) };
            let link = Link::connect(self.stage.address, &who).unwrap();
            assert!(!link.present, "a clean session of {version} survived");
            link.disconnect();
            // In 3.1.1 that has made one that stays.
            Link::connect(self.stage.address, &Who::clean(brief_id(version), version)).unwrap().disconnect();
        }
        self.keeper.check(&self.stage);
        self.check_retained();
    }

    /// Each publisher's retained message is its last acknowledged one, or a later one.
    fn check_retained(&self) {
        let mut link = Link::connect(self.stage.address, &Who::clean("auditor", Version::V311)).unwrap();
        for (publisher, sent) in self.publishers.iter().map(|one| &one.sent).enumerate() {
            let is_retained = |sent: &&Sent| sent.topic == RETAINED_TOPIC;
            let acked = |sent: &Sent| sent.topic == RETAINED_TOPIC && sent.acked != crate::ledger::NEVER;
            let Some(at_least) = sent.iter().rposition(acked) else { continue };
            link.put_subscribe(&topic_name(publisher as u16, RETAINED_TOPIC), QoS::AtLeastOnce, None);
            link.flush().unwrap();
            loop {
                let Event::Publish(message) = link.next().unwrap() else { continue };
                let name = name_in(&message.payload).unwrap();
                let number = name.number as usize;
                let fits = usize::from(name.publisher) == publisher && number >= at_least;
                assert!(
                    fits && sent.get(number).as_ref().is_some_and(is_retained),
                    "{name:?} is retained, {at_least} was acknowledged, {} sent",
                    sent.len()
                );
                break;
            }
        }
        link.disconnect();
    }

    /// Has everything delivered, and tells what is wrong.
    fn finish(&mut self) -> Vec<String> {
        let stage = &self.stage;
        std::thread::scope(|scope| {
            self.publishers.iter_mut().for_each(|one| _ = scope.spawn(|| one.finish(stage)));
            scope.spawn(|| self.keeper.finish(stage));
        });
        self.keeper.check(stage);
        let histories: Vec<&[Sent]> = self.publishers.iter().map(|one| &one.sent[..]).collect();
        let mut found: Vec<String> = std::thread::scope(|scope| {
            let drain = |one| scope.spawn(|| drain(one, stage, &histories));
            let threads: Vec<_> = self.subscribers.iter_mut().chain([&mut self.mover]).map(drain).collect();
            threads.into_iter().filter_map(|thread| thread.join().unwrap().err()).collect()
        });
        found.extend(drain_group(&mut self.members, stage, &histories));
        // A kill may come after another shard has a will and before its own shard knows that.
        let is_alone = self.setup.shards == 1 && !self.changes_shards;
        found.extend(self.watcher.finish(stage, &self.wills, if is_alone { 1 } else { 2 }));
        // A publication of QoS 2 that the kill cut off is taken anew by other shards.
        let strictness = if self.changes_shards { Strictness::Moved } else { Strictness::Session };
        for one in self.subscribers.iter().chain([&self.mover]) {
            let faults = faults(&histories, &one.received, &one.spans, strictness);
            found.extend(report(&one.id, &faults));
        }
        let group: Vec<Name> = self.members.iter().flat_map(|one| one.received.clone()).collect();
        found.extend(report(
            "the group",
            &faults(&histories, &group, &self.members[0].spans, Strictness::Group),
        ));
        let sent: usize = histories.iter().map(|sent| sent.len()).sum();
        let received: usize = self.subscribers.iter().map(|one| one.received.len()).sum();
        eprintln!("{} shards: {sent} messages sent, {received} received", self.setup.shards);
        found
    }
}

fn bytes_below(directory: &Path) -> u64 {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap());
    // A segment may be removed while this looks.
    let bytes = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => bytes_below(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    };
    entries.map(bytes).sum()
}

fn brief_id(version: Version) -> &'static str {
    if version.is_v5() { "brief-5" } else { "brief-3" }
}

fn drain(one: &mut Subscriber, stage: &Stage, histories: &[&[Sent]]) -> Result<(), String> {
    let wanted = |publisher: u16, topic: u8, spans: &[Span]| {
        let stays =
            |span: &&Span| span.granted != crate::ledger::NEVER && span.ending == crate::ledger::NEVER;
        spans.iter().filter(stays).any(|span| matches(&span.filter, &topic_name(publisher, topic)))
    };
    let mut last = BTreeSet::new();
    for (publisher, sent) in histories.iter().enumerate() {
        for (topic, number) in last_of_each(sent).into_iter().enumerate() {
            if wanted(publisher as u16, topic as u8, &one.spans) {
                last.insert(Name { publisher: publisher as u16, number });
            }
        }
    }
    one.temper = Temper::Prompt;
    one.drain(stage, &Mutex::new(last))
}

/// It is not known who of a group gets what: all that was acknowledged has to come to somebody.
fn drain_group(members: &mut [Subscriber], stage: &Stage, histories: &[&[Sent]]) -> Vec<String> {
    let mut missing: BTreeSet<Name> = BTreeSet::new();
    for (publisher, sent) in histories.iter().enumerate() {
        let matches = |topic| matches(&members[0].spans[0].filter, &topic_name(publisher as u16, topic));
        let numbers = (0..sent.len()).filter(|number| matches(sent[*number].topic));
        missing.extend(numbers.map(|number| Name { publisher: publisher as u16, number: number as u32 }));
    }
    let missing = Mutex::new(missing);
    let drain = |one: &mut Subscriber| {
        one.temper = Temper::Prompt;
        one.drain(stage, &missing)
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = members.iter_mut().map(|one| scope.spawn(|| drain(one))).collect();
        threads.into_iter().filter_map(|thread| thread.join().unwrap().err()).collect()
    })
}

/// How many faults of each kind, and the first of them.
fn report(who: &str, faults: &[Fault]) -> Option<String> {
    if faults.is_empty() {
        return None;
    }
    let count = |kind: fn(&Fault) -> bool| faults.iter().filter(|fault| kind(fault)).count();
    let first: Vec<String> = faults.iter().take(10).map(Fault::to_string).collect();
    Some(format!(
        "{who}: {} lost, {} doubled, {} reordered, {} not asked for: {}",
        count(|fault| matches!(fault, Fault::Lost(..))),
        count(|fault| matches!(fault, Fault::Doubled(_))),
        count(|fault| matches!(fault, Fault::Reordered(..))),
        count(|fault| matches!(fault, Fault::Unasked(_))),
        first.join(", ")
    ))
}
