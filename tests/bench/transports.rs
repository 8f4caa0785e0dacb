//! The load generator over TLS, WebSocket and Unix sockets.

use std::time::Duration;

use ringmq::Broker;
use ringmq::config::ListenerConfig;
use ringmq_codec::QoS;
use ringmq_loadgen::scenario::Limit;

use super::pki::Pki;
use super::{fine, options};

#[test]
fn messages_go_over_every_transport() {
    let pki = Pki::new();
    let socket = pki.path("socket");
    let at = |address: &str| ListenerConfig::at(address.parse().unwrap());
    let with_tls = |address: &str| ListenerConfig {
        certificate: Some(pki.path("server.pem")),
        key: Some(pki.path("server.key")),
        client_ca: Some(pki.path("ca.pem")),
        ..at(address)
    };
    let broker = Broker::builder()
        .shards(1)
        .listen("127.0.0.1:0".parse().unwrap())
        .listen_on(with_tls("tls://127.0.0.1:0"))
        .listen_on(at("ws://127.0.0.1:0"))
        .listen_on(with_tls("wss://127.0.0.1:0"))
        .listen_on(at(&format!("unix:{}", socket.display())))
        .start()
        .unwrap();
    let ports = broker.addresses();
    let addresses = [
        format!("mqtt://{}", ports[0]),
        format!("mqtts://{}", ports[1]),
        format!("ws://{}/mqtt", ports[2]),
        format!("wss://{}/mqtt", ports[3]),
        format!("unix:{}", socket.display()),
    ];
    for address in addresses {
        let mut options = options(ports[0]);
        (options.publish_qos, options.subscribe_qos) = (QoS::AtLeastOnce, QoS::AtLeastOnce);
        options.limit = Limit::Messages(500);
        options.size = "16-6000".parse().unwrap();
        if address.contains("s://") && !address.starts_with("ws:") {
            options.target.ca = Some(pki.path("ca.pem"));
            options.target.certificate = Some(pki.path("client.pem"));
            options.target.key = Some(pki.path("client.key"));
        }
        options.target.address = address.clone();
        let report = fine(options.pairs(4).unwrap());
        assert_eq!(report.messages.received, 500, "{address}");
    }
    broker.shutdown(Duration::from_secs(30)).unwrap();
}
