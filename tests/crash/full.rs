//! The log has no more room: QoS 1 and 2 are refused, the rest goes on, and nothing acknowledged is lost.

use std::fs;
use std::io::Result;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use ringmq_codec::{AckKind, Packet, PacketId, Publish, PublishProperties, QoS, ReasonCode, Version};

use crate::client::{DEADLINE, Event, Link, Who};
use crate::ledger::{Name, name_in, payload};
use crate::program::{Directory, Setup};

const SLEEPER: &str = "sleeper";

fn put(link: &mut Link, topic: &str, qos: QoS, payload: &[u8]) {
    link.put(&Packet::Publish(Publish {
        dup: false,
        qos,
        retain: false,
        topic: topic.as_bytes(),
        packet_id: if qos == QoS::AtMostOnce { None } else { PacketId::new(1) },
        properties: PublishProperties::default(),
        payload,
    }));
}

/// A publisher that sends one numbered message after the other, and what of it was acknowledged.
struct Filler {
    address: SocketAddr,
    version: Version,
    bytes: usize,
    next: u32,
    acked: Vec<Name>,
}

impl Filler {
    fn new(setup: &Setup, version: Version, bytes: usize) -> Self {
        Self { address: setup.address, version, bytes, next: 0, acked: Vec::new() }
    }

    fn connect(&self) -> Link {
        let id = format!("filler-{}", self.version);
        Link::connect(self.address, &Who::clean(&id, self.version)).unwrap()
    }

    /// Sends one message: whether it was taken.
    fn send(&mut self, link: &mut Link) -> Result<bool> {
        let name = Name { publisher: self.version.level().into(), number: self.next };
        let qos = if self.next.is_multiple_of(3) { QoS::ExactlyOnce } else { QoS::AtLeastOnce };
        self.next += 1;
        put(link, "fill/it", qos, &payload(name, self.bytes));
        link.flush()?;
        loop {
            match link.next()? {
                Event::Ack(AckKind::PubAck, _, ReasonCode::Success) => break,
                Event::Ack(AckKind::PubRec, packet_id, ReasonCode::Success) => {
                    self.acked.push(name);
                    link.put_ack(AckKind::PubRel, packet_id);
                    link.flush()?;
                }
                Event::Ack(AckKind::PubComp, ..) => return Ok(true),
                Event::Ack(AckKind::PubAck | AckKind::PubRec, _, ReasonCode::QuotaExceeded) => {
                    return Ok(false);
                }
                other => panic!("{other:?} to a publisher"),
            }
        }
        self.acked.push(name);
        Ok(true)
    }

    /// Sends until the broker takes no more.
    fn fill(&mut self) {
        let mut link = self.connect();
        let most = 1 << 30;
        while self.send(&mut link).unwrap() {
            assert!(self.acked.len() * self.bytes < most, "a gigabyte, and it is not full");
        }
        // It is not full by accident: it stays so.
        for _ in 0..10 {
            assert!(!self.send(&mut link).unwrap(), "full, and then not");
        }
        link.disconnect();
    }

    /// Sends until the broker takes a message again.
    fn until_taken(&mut self) {
        let since = Instant::now();
        loop {
            assert!(since.elapsed() < DEADLINE, "there is room, and nothing is taken");
            let mut link = self.connect();
            if let Ok(true) = self.send(&mut link) {
                return link.disconnect();
            }
        }
    }
}

/// MQTT 3.1.1 has no way to refuse a message but to end the connection.
fn old_publisher_is_sent_away(filler: &mut Filler) {
    let mut link = filler.connect();
    let (before, outcome) = (filler.acked.len(), filler.send(&mut link));
    assert!(outcome.is_err() && filler.acked.len() == before, "{outcome:?} instead of an end");
}

/// QoS 0, subscriptions and pings need no room, or little.
fn the_rest_goes_on(address: SocketAddr) {
    let mut link = Link::connect(address, &Who::persistent("bystander", Version::V5)).unwrap();
    link.subscribe("aside/#", QoS::AtLeastOnce, None).unwrap();
    let mut other = Link::connect(address, &Who::clean("other", Version::V311)).unwrap();
    for n in 0..100 {
        put(&mut other, "aside/x", QoS::AtMostOnce, format!("{n}").as_bytes());
        other.flush().unwrap();
        let Event::Publish(message) = link.next().unwrap() else { panic!("no message") };
        assert_eq!(message.payload, format!("{n}").as_bytes());
    }
    link.put(&Packet::PingReq);
    link.flush().unwrap();
    assert_eq!(link.next().unwrap(), Event::PingResp);
    link.put_unsubscribe("aside/#");
    link.flush().unwrap();
    assert_eq!(link.next().unwrap(), Event::UnsubAck);
    link.disconnect();
    other.disconnect();
}

/// Takes what waits for the sleeper, until it has what was acknowledged.
fn wake(address: SocketAddr, received: &mut Vec<Name>, acked: &[&[Name]]) {
    let mut link = Link::connect(address, &Who::persistent(SLEEPER, Version::V5)).unwrap();
    assert!(link.present);
    let mut missing: std::collections::BTreeSet<Name> = acked.iter().copied().flatten().copied().collect();
    received.iter().for_each(|name| _ = missing.remove(name));
    let since = Instant::now();
    while !missing.is_empty() {
        assert!(since.elapsed() < DEADLINE, "acknowledged and not delivered: {missing:?}");
        match link.look().unwrap() {
            Some(Event::Publish(message)) => {
                let kind = if message.qos == QoS::ExactlyOnce { AckKind::PubRec } else { AckKind::PubAck };
                link.put_ack(kind, message.packet_id);
                let name = name_in(&message.payload).expect("payloads arrive as they were sent");
                missing.remove(&name);
                received.push(name);
            }
            Some(Event::Ack(AckKind::PubRel, packet_id, _)) => link.put_ack(AckKind::PubComp, packet_id),
            Some(other) => panic!("{other:?} to the {SLEEPER}"),
            None => {}
        }
        if !link.has_more() {
            link.flush().unwrap();
        }
    }
    link.put(&Packet::PingReq);
    link.flush().unwrap();
    loop {
        match link.next().unwrap() {
            Event::PingResp => break,
            Event::Ack(AckKind::PubRel, packet_id, _) => link.put_ack(AckKind::PubComp, packet_id),
            other => panic!("{other:?} to the {SLEEPER}"),
        }
    }
    link.flush().unwrap();
    link.disconnect();
}

/// Fills it, looks around, kills it, drains it, and fills it again.
fn fill_and_drain(setup: &Setup, bytes: usize, rounds: usize) {
    let mut program = setup.start();
    let mut link = Link::connect(setup.address, &Who::persistent(SLEEPER, Version::V5)).unwrap();
    link.subscribe("fill/#", QoS::ExactlyOnce, None).unwrap();
    link.disconnect();
    let mut new = Filler::new(setup, Version::V5, bytes);
    let mut old = Filler::new(setup, Version::V311, bytes);
    let mut received = Vec::new();
    for round in 0..rounds {
        new.fill();
        eprintln!("round {round}: full after {} messages", new.acked.len());
        old_publisher_is_sent_away(&mut old);
        the_rest_goes_on(setup.address);
        if round % 2 == 0 {
            program.kill();
            program = setup.start();
            the_rest_goes_on(setup.address);
        }
        wake(setup.address, &mut received, &[&new.acked, &old.acked]);
        new.until_taken();
        old.until_taken();
    }
    program.kill();
    program = setup.start();
    wake(setup.address, &mut received, &[&new.acked, &old.acked]);
    for version in [Version::V5, Version::V311] {
        let of_one = received.iter().filter(|name| name.publisher == u16::from(version.level()));
        assert!(of_one.is_sorted(), "{version}: messages came out of order");
    }
    program.stop();
}

fn configured(directory: &Path, text: &str, data: &Path) -> Setup {
    let config = directory.join("ringmq.toml");
    fs::write(&config, text).unwrap();
    Setup::new(data, 1).with("--config").with(config.to_str().unwrap())
}

#[test]
fn a_log_at_its_limit_refuses_and_recovers() {
    let directory = Directory::new("full");
    let text = "[limits]\npacket_bytes_max = \"16KiB\"\n[storage]\nsegment_bytes = \"64KiB\"\nbytes_max = \"1MiB\"\n";
    let setup = configured(directory.path(), text, &directory.join("data"));
    fill_and_drain(&setup, 1000, 3);
}

/// A small file system of its own; unmounted when its value is dropped.
struct Mounted(PathBuf);

impl Mounted {
    fn new(at: PathBuf) -> std::result::Result<Self, String> {
        fs::create_dir_all(&at).unwrap();
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=24m", "tmpfs"]).arg(&at).output();
        match mount {
            Ok(output) if output.status.success() => Ok(Self(at)),
            Ok(output) => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
            Err(error) => Err(error.to_string()),
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn a_full_file_system_refuses_and_recovers() {
    let directory = Directory::new("full-disk");
    let mounted = match Mounted::new(directory.join("mounted")) {
        Ok(mounted) => mounted,
        Err(why) => return eprintln!("skipped: no file system can be mounted here: {why}"),
    };
    let text = "[limits]\npacket_bytes_max = \"64KiB\"\n[storage]\nsegment_bytes = \"1MiB\"\n";
    let setup = configured(directory.path(), text, &mounted.0.join("data"));
    fill_and_drain(&setup, 8000, 2);

    // Somebody else takes the room, and gives it back.
    let ballast = mounted.0.join("ballast");
    fs::write(&ballast, vec![1; 10 << 20]).unwrap();
    let program = setup.start();
    let mut filler = Filler::new(&setup, Version::V5, 8000);
    // Numbers that were not used before.
    filler.next = 1 << 20;
    filler.fill();
    fs::remove_file(&ballast).unwrap();
    filler.until_taken();
    let mut received = Vec::new();
    wake(setup.address, &mut received, &[&filler.acked]);
    program.stop();
}
