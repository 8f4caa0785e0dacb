//! TLS, client certificates, WebSocket and Unix sockets, and certificates that change.

use ringmq::client::{
    ConnectError, Error, EventKind, Manager, Message, Session, SessionBuilder, Status, Tls,
};
use ringmq::config::ListenerConfig;
use ringmq::{Broker, QoS};

use crate::DEADLINE;
use crate::pki::Pki;

/// A listener with the server's certificate where it speaks TLS.
fn listener(address: &str, pki: &Pki) -> ListenerConfig {
    let config = ListenerConfig::at(address.parse().unwrap());
    if !address.starts_with("tls:") && !address.starts_with("wss:") {
        return config;
    }
    ListenerConfig { certificate: Some(pki.path("server.pem")), key: Some(pki.path("server.key")), ..config }
}

fn start(listeners: Vec<ListenerConfig>) -> Broker {
    let builder = Broker::builder().shards(1);
    listeners.into_iter().fold(builder, |builder, listener| builder.listen_on(listener)).start().unwrap()
}

fn there_and_back(session: &Session) {
    session.wait(DEADLINE).unwrap();
    let listener = session.listen("t").unwrap();
    listener.wait_subscribed(DEADLINE).unwrap();
    // More than a TLS record or a small frame holds.
    let payload = vec![7; 100_000];
    let message = Message::new("t", payload.clone()).qos(QoS::ExactlyOnce);
    session.publish(message).unwrap().wait(DEADLINE).unwrap();
    assert_eq!(listener.recv(DEADLINE).unwrap().payload, payload);
}

#[test]
fn sessions_speak_through_every_transport() {
    let pki = Pki::new();
    let socket = pki.path("m.sock");
    let unix = format!("unix:{}", socket.display());
    let ports = ["127.0.0.1:0", "tls://127.0.0.1:0", "ws://127.0.0.1:0", "wss://127.0.0.1:0"];
    let mut listeners: Vec<_> = ports.iter().map(|address| listener(address, &pki)).collect();
    listeners.push(listener(&unix, &pki));
    let broker = start(listeners);
    let manager = Manager::new().unwrap();
    let schemes = ["mqtt", "mqtts", "ws", "wss"];
    let mut addresses: Vec<String> =
        schemes.iter().zip(broker.addresses()).map(|(scheme, at)| format!("{scheme}://{at}")).collect();
    addresses.push(unix);
    for address in &addresses {
        let mut builder = SessionBuilder::quick(address, address);
        if address.starts_with("mqtts") || address.starts_with("wss") {
            builder = builder.tls(Tls::ca_file(pki.path("ca.pem")));
        }
        there_and_back(&manager.add(builder).unwrap());
    }
    manager.wait_all(DEADLINE).unwrap();
    // The first two are not there: the third is.
    let failover = SessionBuilder::new("failover")
        .broker("unix:/nowhere/m.sock")
        .broker(format!("mqtt://{}", crate::free_address()))
        .broker(&addresses[0]);
    there_and_back(&manager.add(failover).unwrap());
    manager.shutdown(DEADLINE).unwrap();
    broker.shutdown(DEADLINE).unwrap();
}

#[test]
fn certificates_are_asked_for_and_checked_on_both_sides() {
    let pki = Pki::new();
    let config =
        ListenerConfig { client_ca: Some(pki.path("ca.pem")), ..listener("tls://127.0.0.1:0", &pki) };
    let broker = start(vec![config]);
    let address = format!("mqtts://{}", broker.addresses()[0]);
    let manager = Manager::new().unwrap();
    let ours = || Tls::ca_file(pki.path("ca.pem"));
    let add =
        |name: &str, tls| manager.add(SessionBuilder::quick(name, &address).tls(tls).no_reconnect()).unwrap();
    there_and_back(&add("good", ours().certificate(pki.path("client.pem"), pki.path("client.key"))));
    let bad = [
        ("none", ours()),
        ("foreign", ours().certificate(pki.path("foreign.pem"), pki.path("foreign.key"))),
        (
            "distrustful",
            Tls::ca_file(pki.path("foreign-ca.pem"))
                .certificate(pki.path("client.pem"), pki.path("client.key")),
        ),
        ("misnamed", ours().server_name("elsewhere")),
        ("system", Tls::system_roots()),
    ];
    for (name, tls) in bad {
        let session = add(name, tls);
        let error = session.wait(DEADLINE).unwrap_err();
        assert!(matches!(error, Error::Connect(_)), "{name}: {error}");
        assert_eq!(session.status(), Status::Failed, "{name}");
    }
    let files = [
        Tls::ca_file(pki.path("missing.pem")),
        Tls::ca_file(pki.path("text")),
        ours().certificate(pki.path("client.pem"), pki.path("other.key")),
    ];
    for tls in files {
        let error = manager.add(SessionBuilder::quick("bad", &address).tls(tls)).unwrap_err();
        assert!(matches!(error, Error::Tls(_)), "{error}");
    }
    assert!(manager.get("bad").is_none());
    manager.shutdown(DEADLINE).unwrap();
}

/// A broker whose certificate another authority issued meanwhile.
fn renew(broker: &Broker, pki: &Pki) {
    pki.renew_server();
    broker.reload_certificates();
}

#[test]
fn certificates_are_read_again_when_told_and_when_they_change() {
    let pki = Pki::new();
    let broker = start(vec![listener("tls://127.0.0.1:0", &pki)]);
    let address = format!("mqtts://{}", broker.addresses()[0]);
    let manager = Manager::new().unwrap();
    let events = manager.events();
    let ca = pki.path("ca.pem");
    let told = manager.add(SessionBuilder::quick("told", &address).tls(Tls::ca_file(&ca))).unwrap();
    let watching = Tls::ca_file(&ca).watch_certificates();
    let watching = manager.add(SessionBuilder::quick("watching", &address).tls(watching)).unwrap();
    manager.wait_all(DEADLINE).unwrap();
    // What is bad changes nothing.
    let good = std::fs::read_to_string(&ca).unwrap();
    pki.write("ca.pem", "no certificate\n");
    assert!(matches!(told.reload_tls(), Err(Error::Tls(_))));
    assert_eq!(told.status(), Status::Ready);
    let wait = |name: &str, is_it: fn(&EventKind) -> bool| {
        loop {
            let event = events.recv(DEADLINE).expect("the event in time");
            if &*event.session == name && is_it(&event.kind) {
                return;
            }
        }
    };
    wait("watching", |kind| matches!(kind, EventKind::CertificatesRefused { .. }));
    assert_eq!(watching.status(), Status::Ready);
    pki.write("ca.pem", &good);
    told.reload_tls().unwrap();
    wait("told", |kind| matches!(kind, EventKind::Ready));
    // The broker goes to another authority, which only those who read again know.
    renew(&broker, &pki);
    wait("watching", |kind| matches!(kind, EventKind::CertificatesReloaded));
    wait("watching", |kind| matches!(kind, EventKind::Ready));
    told.reload_tls().unwrap();
    wait("told", |kind| matches!(kind, EventKind::Ready));
    there_and_back(&told);
    there_and_back(&watching);
    let plain = manager.add(SessionBuilder::quick("plain", "mqtt://127.0.0.1:1").paused()).unwrap();
    assert!(matches!(plain.reload_tls(), Err(Error::Invalid { .. })));
}

#[test]
fn a_plain_session_at_a_tls_port_says_so() {
    let pki = Pki::new();
    let broker = start(vec![listener("tls://127.0.0.1:0", &pki)]);
    let manager = Manager::new().unwrap();
    let address = format!("mqtt://{}", broker.addresses()[0]);
    let session = manager.add(SessionBuilder::quick("plain", &address).no_reconnect()).unwrap();
    let error = session.wait(DEADLINE).unwrap_err();
    assert!(
        matches!(
            error,
            Error::Connect(ConnectError::Lost | ConnectError::Protocol(_) | ConnectError::Transport { .. })
        ),
        "{error}"
    );
}
