//! Brokers that refuse a connection or a message, and what the session says of it.

use std::process::Command;

use ringmq::client::{ConnectError, Error, EventKind, Message, Status, Version};
use ringmq::{QoS, ReasonCode};

use crate::broker::{Ability, Broker, Kind, Setup, able, can};
use crate::pki::Pki;
use crate::{DEADLINE, manager, session, session_at, wait_for};

const BOTH: [Version; 2] = [Version::V311, Version::V5];

/// A broker that knows one user, with the folder that it needs.
fn guarded(kind: Kind) -> (Broker, Pki) {
    let folder = Pki::new();
    let setup = Setup::new(kind).closed();
    let setup = match kind {
        Kind::Mosquitto => {
            let file = folder.path("passwords");
            let mut command = Command::new("mosquitto_passwd");
            let made = command.args(["-b", "-c"]).arg(&file).args(["user", "secret"]).status();
            let made = made.unwrap_or_else(|error| {
                panic!("mosquitto_passwd cannot be started ({error}): it comes with mosquitto, install that")
            });
            assert!(made.success());
            setup.with(format!("password_file {}", file.display()))
        }
        Kind::Rumqttd => setup.with("auth = { user = 'secret' }"),
        Kind::Ringmq => unreachable!("it knows no passwords"),
    };
    (setup.start(), folder)
}

#[test]
fn a_bad_password_is_final_and_a_good_one_works() {
    for kind in able(Ability::Passwords) {
        let (broker, _folder) = guarded(kind);
        for version in BOTH {
            let manager = manager();
            for (name, builder) in [
                ("wrong", session("wrong", &broker, version).user("user").password("guess")),
                ("unknown", session("unknown", &broker, version).user("other").password("secret")),
                ("none", session("none", &broker, version)),
            ] {
                let events = manager.events();
                let session = manager.add(builder).unwrap();
                if !can(kind, Ability::SaysWhy) {
                    let lost = wait_for(&events, name, |kind| matches!(kind, EventKind::Disconnected { .. }));
                    let EventKind::Disconnected { why: Some(why) } = lost.kind else { panic!("{lost:?}") };
                    assert!(why.is_temporary(), "{broker:?} says nothing, so it is tried again: {why}");
                    manager.remove(name).unwrap();
                    continue;
                }
                let error = session.wait(DEADLINE).unwrap_err();
                let Error::Connect(ConnectError::Refused { reason, .. }) = &error else {
                    panic!("{error:?}")
                };
                assert!(
                    matches!(reason, ReasonCode::NotAuthorized | ReasonCode::BadUserNameOrPassword),
                    "{broker:?} {version:?} {name}: {error}"
                );
                assert!(!error.is_temporary() && !error.is_timeout(), "{error}");
                assert_eq!(session.status(), Status::Failed);
                manager.remove(name).unwrap();
            }
            let good = session("good", &broker, version).user("user").password("secret");
            manager.add(good).unwrap().wait(DEADLINE).unwrap();
            manager.shutdown(DEADLINE).unwrap();
        }
    }
}

#[test]
fn a_full_broker_is_tried_until_it_has_room() {
    for version in BOTH {
        // Mosquitto 2.0.11 miscounts those that it refuses, and lets some in. All of them are too many for it.
        let broker = Setup::new(Kind::Mosquitto).with("max_connections 2").start();
        let manager = manager();
        let events = manager.events();
        for n in 0..20 {
            manager.add(session(&n.to_string(), &broker, version)).unwrap();
        }
        let (name, why) = loop {
            let event = events.recv(DEADLINE).expect("one is refused in time");
            if let EventKind::Disconnected { why: Some(why) } = event.kind {
                break (event.session, why);
            }
        };
        assert!(why.is_temporary() && !why.is_timeout(), "{why:?}");
        for session in manager.list().iter().filter(|session| session.name() != &*name) {
            manager.remove(session.name()).unwrap();
        }
        manager.wait(&name, DEADLINE).unwrap();
        manager.shutdown(DEADLINE).unwrap();
    }
}

#[test]
fn a_message_that_is_not_allowed_fails_and_others_do_not() {
    let folder = Pki::new();
    folder.write("acl", "topic readwrite open/#\n");
    let setup = Setup::new(Kind::Mosquitto).with(folder.paths("acl_file $/acl"));
    let broker = setup.start();
    let manager = manager();
    let session = manager.add(session("s", &broker, Version::V5)).unwrap();
    for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let closed = session.publish(Message::new("closed", "").qos(qos)).unwrap();
        let open = session.publish(Message::new("open/1", "").qos(qos)).unwrap();
        let error = closed.wait(DEADLINE).unwrap_err();
        assert!(matches!(error, Error::Refused(ReasonCode::NotAuthorized)), "{qos:?} {error:?}");
        assert!(!error.is_temporary());
        open.wait(DEADLINE).unwrap();
    }
    manager.shutdown(DEADLINE).unwrap();
}

#[test]
fn a_version_that_the_broker_does_not_speak_is_refused() {
    let broker = Broker::new(Kind::Rumqttd);
    let manager = manager();
    let events = manager.events();
    // To the listener of version 5 with another version.
    manager.add(session_at("s", broker.url(Version::V5), Version::V311)).unwrap();
    let lost = wait_for(&events, "s", |kind| matches!(kind, EventKind::Disconnected { .. }));
    assert!(matches!(lost.kind, EventKind::Disconnected { why: Some(_) }), "{lost:?}");
    manager.shutdown(DEADLINE).unwrap();
}
