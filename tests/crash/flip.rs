//! One byte of a store is flipped, and the program started on it: it says what it lost, and delivers nothing
//! that was not published.

use std::collections::BTreeMap;
use std::fs;
use std::io::Result;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use ringmq_codec::{AckKind, Packet, PacketId, Publish, PublishProperties, QoS, Version, Will, matches};

use crate::client::{Event, Link, Message, Who};
use crate::program::{Directory, Setup};
use crate::random::Random;

const SMALL: &str = "[limits]\npacket_bytes_max = \"16KiB\"\n[storage]\nsegment_bytes = \"64KiB\"\n";

/// How many bytes are flipped where not all are.
const FLIPS: usize = 100;

/// The clients that come back, each with its subscription.
const READERS: [(&str, Version, &str, QoS); 5] = [
    ("one", Version::V5, "queue/1", QoS::AtLeastOnce),
    ("all", Version::V311, "queue/#", QoS::ExactlyOnce),
    ("member", Version::V5, "$share/group/shared/+", QoS::AtLeastOnce),
    ("holder", Version::V5, "held/+", QoS::ExactlyOnce),
    ("heir", Version::V311, "will/#", QoS::AtLeastOnce),
];

const PUBLISHER: Who<'_> = Who {
    id: "publisher",
    version: Version::V311,
    clean: false,
    expiry_s: 3600,
    receive_max: u16::MAX,
    will: None,
};

/// Every payload says where it was published, so that none can pass for another.
fn text(topic: &str, n: usize) -> Vec<u8> {
    format!("{topic} {n} {}", "abcdefghij".repeat(n % 4)).into_bytes()
}

fn publish<'a>(topic: &'a str, payload: &'a [u8], qos: QoS, packet_id: u16) -> Publish<'a> {
    let properties = PublishProperties::default();
    let (topic, packet_id) = (topic.as_bytes(), PacketId::new(packet_id));
    Publish { dup: false, qos, retain: false, topic, packet_id, properties, payload }
}

fn publish_acked(link: &mut Link, publish: Publish<'_>) -> Result<()> {
    link.put(&Packet::Publish(publish));
    link.flush()?;
    loop {
        match link.next()? {
            Event::Ack(AckKind::PubAck | AckKind::PubComp, ..) => return Ok(()),
            Event::Ack(AckKind::PubRec, packet_id, _) => {
                link.put_ack(AckKind::PubRel, packet_id);
                link.flush()?;
            }
            other => panic!("{other:?} to a publisher"),
        }
    }
}

/// Makes a store that has a record of every kind.
fn furnish(setup: &Setup) -> Result<()> {
    let program = setup.start();
    let mut holder = None;
    for (id, version, filter, qos) in READERS {
        let mut link = Link::connect(setup.address, &Who::persistent(id, version))?;
        link.subscribe(filter, qos, (id == "one").then_some(77))?;
        link.subscribe("nothing/#", qos, None)?;
        link.put_unsubscribe("nothing/#");
        link.flush()?;
        assert_eq!(link.next()?, Event::UnsubAck);
        match id {
            "holder" => holder = Some(link),
            _ => link.disconnect(),
        }
    }
    // One whose session ends, and two that die: one lately, one with the program.
    Link::connect(setup.address, &Who::persistent("ended", Version::V5))?.disconnect();
    Link::connect(setup.address, &Who::clean("ended", Version::V5))?.disconnect();
    let mortal = |id, delay_s, payload| {
        let (qos, retain, message_expiry_s, properties) = (QoS::AtLeastOnce, false, None, &[][..]);
        let will = Will { topic: "will/x", payload, qos, retain, delay_s, message_expiry_s, properties };
        Link::connect(setup.address, &Who { will: Some(will), ..Who::persistent(id, Version::V5) })
    };
    let payload = text("will/x", 3);
    let living = mortal("living", 3600, &payload)?;
    drop(mortal("dead", 1, &payload)?);

    let mut publisher = Link::connect(setup.address, &PUBLISHER)?;
    for n in 1..=4 {
        for (topic, qos) in [
            ("queue/1", QoS::AtLeastOnce),
            ("queue/2", QoS::ExactlyOnce),
            ("shared/1", QoS::AtLeastOnce),
            ("held/1", QoS::AtLeastOnce),
            ("held/2", QoS::ExactlyOnce),
        ] {
            publish_acked(&mut publisher, publish(topic, &text(topic, n), qos, n as u16))?;
        }
        let topic = format!("kept/{}", n % 3);
        let payload = text(&topic, n);
        publish_acked(
            &mut publisher,
            Publish { retain: true, ..publish(&topic, &payload, QoS::AtLeastOnce, 9) },
        )?;
    }
    publish_acked(&mut publisher, Publish { retain: true, ..publish("kept/2", b"", QoS::AtLeastOnce, 9) })?;
    // The holder has one message of QoS 2 and said so, one whose release it did not confirm, and others that it
    // did not acknowledge at all.
    let mut holder = holder.expect("it was connected above");
    let mut seen = Vec::new();
    while seen.len() < 8 {
        if let Event::Publish(message) = holder.next()? {
            seen.push((message.qos, message.packet_id));
        }
    }
    let twice: Vec<u16> =
        seen.iter().filter(|(qos, _)| *qos == QoS::ExactlyOnce).map(|(_, id)| *id).collect();
    holder.put_ack(AckKind::PubRec, twice[0]);
    holder.put_ack(AckKind::PubRec, twice[1]);
    holder.put_ack(AckKind::PubComp, twice[1]);
    holder.put(&Packet::PingReq);
    holder.flush()?;
    while holder.next()? != Event::PingResp {}
    // A message that is taken and not released.
    publisher.put(&Packet::Publish(publish("queue/3", &text("queue/3", 1), QoS::ExactlyOnce, 500)));
    publisher.flush()?;
    assert!(matches!(publisher.next()?, Event::Ack(AckKind::PubRec, 500, _)));
    program.kill();
    drop((holder, living, publisher));
    // The will of the dead is due.
    std::thread::sleep(Duration::from_millis(1100));
    Ok(())
}

/// What each client finds when it comes back.
type Findings = BTreeMap<&'static str, (bool, Vec<Vec<u8>>)>;

fn come_back(setup: &Setup) -> Result<Findings> {
    let mut findings = Findings::new();
    let mut publisher = Link::connect(setup.address, &PUBLISHER)?;
    let again = publish("queue/3", b"never seen", QoS::ExactlyOnce, 500);
    if publisher.present {
        // As taken as before: this is the same message, whatever it says now.
        let payload = text("queue/3", 1);
        publish_acked(&mut publisher, Publish { dup: true, payload: &payload, ..again })?;
    }
    findings.insert("publisher", (publisher.present, Vec::new()));
    await_will(setup)?;
    for (id, version, ..) in READERS {
        let link = Link::connect(setup.address, &Who::persistent(id, version))?;
        let present = link.present;
        let mut found = collect(link, id)?;
        found.sort();
        findings.insert(id, (present, found));
    }
    // Do they still get what they subscribed to?
    for (topic, n) in [("queue/1", 50), ("shared/2", 51), ("held/3", 52), ("will/y", 53)] {
        publish_acked(&mut publisher, publish(topic, &text(topic, n), QoS::AtLeastOnce, 600))?;
    }
    for (id, version, ..) in READERS {
        let link = Link::connect(setup.address, &Who::persistent(id, version))?;
        let found = collect(link, id)?;
        findings.get_mut(id).expect("it was there before").1.extend(found);
    }
    let mut auditor = Link::connect(setup.address, &Who::clean("auditor", Version::V5))?;
    auditor.put_subscribe("kept/#", QoS::AtLeastOnce, None);
    let mut found = collect(auditor, "auditor")?;
    found.sort();
    findings.insert("auditor", (false, found));
    Ok(findings)
}

/// Gives the will that is due time to be published, and leaves it to be collected.
fn await_will(setup: &Setup) -> Result<()> {
    let (id, version, ..) = READERS[4];
    let mut link = Link::connect(setup.address, &Who::persistent(id, version))?;
    let since = Instant::now();
    // For ever, if it is what was damaged.
    while link.look()?.is_none() && since.elapsed() < Duration::from_secs(1) {}
    Ok(())
}

/// Takes and acknowledges everything that waits.
fn collect(mut link: Link, id: &str) -> Result<Vec<Vec<u8>>> {
    let mut found = Vec::new();
    for _ in 0..2 {
        link.put(&Packet::PingReq);
        link.flush()?;
        loop {
            match link.next()? {
                Event::PingResp => break,
                Event::Publish(message) => {
                    check_message(&message, id);
                    match message.qos {
                        QoS::AtMostOnce => {}
                        QoS::AtLeastOnce => link.put_ack(AckKind::PubAck, message.packet_id),
                        QoS::ExactlyOnce => link.put_ack(AckKind::PubRec, message.packet_id),
                    }
                    found.push(message.payload);
                }
                Event::Ack(AckKind::PubRel, packet_id, _) => link.put_ack(AckKind::PubComp, packet_id),
                Event::SubAck(_) => {}
                other => panic!("{other:?} to {id}"),
            }
        }
    }
    link.flush()?;
    link.disconnect();
    Ok(found)
}

/// What arrives was published so, and to somebody who asked for it.
fn check_message(message: &Message, id: &str) {
    let says = String::from_utf8_lossy(&message.payload).into_owned();
    let mut words = says.split(' ');
    let (topic, n) = (words.next().unwrap(), words.next().and_then(|n| n.parse().ok()));
    let n = n.unwrap_or_else(|| panic!("{id} got {message:?}"));
    assert_eq!((topic, &message.payload), (&*message.topic, &text(topic, n)), "{id} got {message:?}");
    let filter =
        READERS.iter().find(|(reader, ..)| *reader == id).map_or("kept/#", |(_, _, filter, _)| filter);
    let filter = filter.strip_prefix("$share/group/").unwrap_or(filter);
    assert!(matches(filter, &message.topic), "{id} did not ask for {message:?}");
    if id == "one" {
        assert_eq!(message.ids, [77], "{message:?}");
    }
}

/// A place in a store.
#[derive(Clone, Debug)]
struct Place {
    file: PathBuf,
    at: usize,
}

/// Every byte of every file that means something, and some zeroes behind them.
fn places(store: &Path) -> Vec<Place> {
    let mut places = Vec::new();
    let mut directories = vec![store.to_owned()];
    while let Some(directory) = directories.pop() {
        let mut entries: Vec<_> =
            fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()).collect();
        entries.sort();
        for path in entries {
            if path.is_dir() {
                directories.push(path);
                continue;
            }
            let bytes = fs::read(&path).unwrap();
            let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
            let file = path.strip_prefix(store).unwrap();
            places.extend((0..bytes.len().min(used + 32)).map(|at| Place { file: file.into(), at }));
        }
    }
    places
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() { copy(&path, &target) } else { _ = fs::copy(&path, &target).unwrap() }
    }
}

/// Starts the program on a copy of the store with one byte changed: what clients find, and what it said.
fn start_on(store: &Path, work: &Path, config: &Path, flip: Option<(&Place, u8)>) -> (Findings, String) {
    let _ = fs::remove_dir_all(work);
    copy(store, work);
    if let Some((place, mask)) = flip {
        let mut bytes = fs::read(work.join(&place.file)).unwrap();
        bytes[place.at] ^= mask;
        fs::write(work.join(&place.file), bytes).unwrap();
    }
    let setup = Setup::new(work, 1).with("--config").with(config.to_str().unwrap());
    let program = setup.start();
    let findings = come_back(&setup).unwrap_or_else(|error| panic!("{flip:?}: {error}"));
    (findings, program.kill())
}

/// What the program says of damage.
fn complaints(log: &str) -> Vec<&str> {
    let words = ["damage", "lost", "torn", "cut", "quarantine", "store.copy"];
    log.lines()
        .filter(|line| words.iter().any(|word| line.contains(word)) && !line.contains("\"recovered\""))
        .collect()
}

#[test]
fn a_flipped_byte_is_noticed() {
    let random = Random::seeded("flips");
    let (template, area) = (Directory::new("flip-store"), Directory::new("flip-area"));
    let config = area.join("ringmq.toml");
    fs::write(&config, SMALL).unwrap();
    let setup = Setup::new(template.path(), 1).with("--config").with(config.to_str().unwrap());
    furnish(&setup).unwrap();
    let store = template.path();
    let (whole, said) = start_on(store, &area.join("whole"), &config, None);
    assert!(complaints(&said).is_empty(), "nothing is wrong with it:\n{said}");
    let expected = [("one", 5), ("all", 10), ("member", 5), ("holder", 7), ("heir", 2), ("auditor", 2)];
    for (id, count) in expected {
        let (_, found) = &whole[id];
        assert_eq!(
            found.len(),
            count,
            "{id} finds {:?}",
            found.iter().map(|p| String::from_utf8_lossy(p)).collect::<Vec<_>>()
        );
    }

    let places = places(store);
    let all = std::env::var("RINGMQ_FLIPS").is_ok_and(|value| value == "all");
    let step = if all { 1 } else { (places.len() / FLIPS).max(1) };
    let mut chance = random.part(0);
    let first = chance.below(step as u64) as usize;
    let chosen: Vec<(Place, u8)> = places
        .iter()
        .skip(first)
        .step_by(step)
        .cloned()
        .map(|place| (place, chance.below(255) as u8 + 1))
        .collect();
    eprintln!("{} of {} bytes are flipped", chosen.len(), places.len());
    let (next, silent) = (Mutex::new(chosen.iter()), Mutex::new(0));
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let work = area.join(&format!("work-{thread}"));
            let (config, whole, next, silent) = (&config, &whole, &next, &silent);
            scope.spawn(move || {
                loop {
                    let Some((place, mask)) = next.lock().unwrap().next() else { return };
                    let (found, said) = start_on(store, &work, config, Some((place, *mask)));
                    if complaints(&said).is_empty() {
                        assert_eq!(&found, whole, "{place:?} ^ {mask:#04x} was not noticed:\n{said}");
                        *silent.lock().unwrap() += 1;
                    }
                }
            });
        }
    });
    eprintln!("{} of them mean nothing", silent.lock().unwrap());
}
