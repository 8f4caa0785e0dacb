//! TLS, certificates of clients, and WebSocket, to mosquitto.

use ringmq::QoS;
use ringmq::client::{
    ConnectError, Error, EventKind, Manager, Message, SessionBuilder, Status, Tls, Version,
};

use crate::broker::{Broker, Setup};
use crate::pki::Pki;
use crate::{DEADLINE, manager, session_at, wait_for};

/// Mosquitto 2.0.11 does not start with listeners for WebSocket alone.
const WEBSOCKET: &str = "protocol websockets\nlistener PLAIN 127.0.0.1\n";

const SECURE: &str = "listener PORT 127.0.0.1\nallow_anonymous true\n\
                      cafile $/ca.pem\ncertfile $/server.pem\nkeyfile $/server.key\n";

/// A mosquitto with these lines, and the scheme and TLS options for it.
fn start(pki: &Pki, lines: &str) -> Broker {
    Setup::mosquitto(&pki.paths(lines)).start()
}

fn url(scheme: &str, broker: &Broker) -> String {
    format!("{scheme}://127.0.0.1:{}", broker.port())
}

fn secure(name: &str, broker: &Broker, tls: Tls) -> SessionBuilder {
    session_at(name, url("mqtts", broker), Version::V5).tls(tls)
}

fn trusting(pki: &Pki) -> Tls {
    Tls::ca_file(pki.path("ca.pem"))
}

/// Messages of up to so many bytes go there and come back.
fn echo(manager: &Manager, builder: SessionBuilder, bytes_max: usize) {
    let session = manager.add(builder).unwrap();
    let listener = session.listen("echo").unwrap();
    session.wait(DEADLINE).unwrap();
    listener.wait_subscribed(DEADLINE).unwrap();
    for payload in [vec![1; 10], vec![2; bytes_max]] {
        let message = Message::new("echo", payload.clone()).qos(QoS::ExactlyOnce);
        session.publish(message).unwrap().wait(DEADLINE).unwrap();
        assert!(listener.recv(DEADLINE).unwrap().payload == payload);
    }
    manager.remove(session.name()).unwrap();
}

#[test]
fn tls_and_websocket() {
    let pki = Pki::new();
    for (scheme, lines) in [
        ("mqtts", SECURE.to_owned()),
        ("ws", format!("listener PORT 127.0.0.1\nallow_anonymous true\n{WEBSOCKET}")),
        ("wss", format!("{SECURE}{WEBSOCKET}")),
    ] {
        let broker = start(&pki, &lines);
        let manager = manager();
        for version in [Version::V311, Version::V5] {
            let mut builder = session_at("s", url(scheme, &broker), version);
            if scheme != "ws" {
                builder = builder.tls(trusting(&pki));
            }
            // Mosquitto 2.0.11 takes half a minute for a megabyte over WebSocket, whatever client sends it.
            echo(&manager, builder, if scheme == "mqtts" { 1_000_000 } else { 20_000 });
        }
        manager.shutdown(DEADLINE).unwrap();
    }
}

#[test]
fn a_server_that_cannot_be_trusted_is_refused() {
    let pki = Pki::new();
    let broker = start(&pki, SECURE);
    pki.expire_server();
    let expired = start(&pki, SECURE);
    let manager = manager();
    for (name, broker, tls, word) in [
        ("foreign", &broker, Tls::ca_file(pki.path("foreign-ca.pem")), "certificate is refused"),
        ("name", &broker, trusting(&pki).server_name("elsewhere"), "elsewhere"),
        ("expired", &expired, trusting(&pki), "expired"),
    ] {
        let events = manager.events();
        let session = manager.add(secure(name, broker, tls)).unwrap();
        let lost = wait_for(&events, name, |kind| matches!(kind, EventKind::Disconnected { .. }));
        let EventKind::Disconnected { why: Some(error) } = lost.kind else { panic!("{lost:?}") };
        assert!(matches!(error, ConnectError::Transport { .. }), "{error:?}");
        assert!(!error.is_temporary(), "{error}");
        let text = error.to_string();
        assert!(text.to_lowercase().contains(&word.to_lowercase()), "{name}: {text:?} must say {word:?}");
        // The broker may get another certificate, so it is tried again, as often as the backoff says.
        assert_ne!(session.status(), Status::Failed);
    }
    manager.shutdown(DEADLINE).unwrap();
}

#[test]
fn clients_show_their_certificates_and_get_new_ones() {
    let pki = Pki::new();
    let broker = start(&pki, &format!("{SECURE}require_certificate true\n"));
    let manager = manager();
    let shown = |name: &str| {
        trusting(&pki).certificate(pki.path(&format!("{name}.pem")), pki.path(&format!("{name}.key")))
    };
    echo(&manager, secure("known", &broker, shown("client")), 1_000_000);
    let events = manager.events();
    for (name, tls) in [("none", trusting(&pki)), ("foreign", shown("foreign"))] {
        let session = manager.add(secure(name, &broker, tls)).unwrap();
        wait_for(&events, name, |kind| matches!(kind, EventKind::Disconnected { why: Some(_) }));
        assert!(!session.status().is_connected());
    }
    manager.remove("none").unwrap();
    // The foreign certificate is replaced by one that the broker's authority issued.
    let session = manager.get("foreign").unwrap();
    pki.reissue_as_client("foreign");
    session.reload_tls().unwrap();
    session.connect();
    session.wait(DEADLINE).unwrap();
    // And that by another, while it is connected.
    let events = manager.events();
    pki.reissue_as_client("foreign");
    session.reload_tls().unwrap();
    wait_for(&events, "foreign", |kind| matches!(kind, EventKind::Disconnected { .. }));
    wait_for(&events, "foreign", |kind| matches!(kind, EventKind::Ready));
    // Files that are no good change nothing.
    pki.write("foreign.pem", "no certificate\n");
    let error = session.reload_tls().unwrap_err();
    assert!(matches!(error, Error::Tls(_)), "{error:?}");
    let delivery = session.publish(Message::new("t", "").qos(QoS::AtLeastOnce)).unwrap();
    delivery.wait(DEADLINE).unwrap();
    manager.shutdown(DEADLINE).unwrap();
}
