//! The client against brokers that others wrote, and against our own as a third row: mosquitto of Debian's packages and
//! rumqttd of crates.io, each a process of a test's own. Run it with `cargo test --features services --test others`;
//! `RINGMQ_MOSQUITTO` and `RINGMQ_RUMQTTD` name the programs where they are not on the path.
#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

#[path = "../pki/mod.rs"]
mod pki;

mod broker;
mod exchange;
mod forward;
mod messages;
mod outages;
mod proxy;
mod refusals;
mod v5;
mod wrapped;

use std::time::Duration;

use ringmq::QoS;
use ringmq::client::{Backoff, Event, EventKind, Events, Manager, Message, SessionBuilder, Version};

use broker::Broker;

/// A deadline, not a pace: everything comes far sooner.
const DEADLINE: Duration = Duration::from_secs(120);

const VERSIONS: [Version; 3] = [Version::V31, Version::V311, Version::V5];

const EVERY_QOS: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];

/// A session that is quick to try again.
fn session_at(name: &str, address: impl Into<String>, version: Version) -> SessionBuilder {
    let backoff = Backoff { first_ms: 10, max_ms: 200, factor_percent: 150, jitter: true };
    SessionBuilder::quick(name, address).version(version).backoff(backoff)
}

fn session(name: &str, broker: &Broker, version: Version) -> SessionBuilder {
    session_at(name, broker.url(version), version)
}

/// A session that its broker keeps while the connection is away.
fn kept(builder: SessionBuilder, version: Version) -> SessionBuilder {
    match version {
        Version::V31 | Version::V311 => builder.resume(),
        Version::V5 => builder.session_expiry(Duration::from_secs(3600)),
    }
}

fn manager() -> Manager {
    Manager::new().unwrap()
}

fn numbered(topic: &str, n: u32, qos: QoS) -> Message {
    Message::new(topic, n.to_be_bytes().to_vec()).qos(qos)
}

fn number(message: &Message) -> u32 {
    u32::from_be_bytes(message.payload[..].try_into().unwrap())
}

/// Waits for an event of a session.
fn wait_for(events: &Events, session: &str, mut is_it: impl FnMut(&EventKind) -> bool) -> Event {
    loop {
        let event = events.recv(DEADLINE).expect("the event in time");
        if &*event.session == session && is_it(&event.kind) {
            return event;
        }
    }
}
