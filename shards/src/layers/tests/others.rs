//! Ends that we did not write: tungstenite for WebSocket, rustls's own client and server for TLS.

use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::rc::Rc;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use tungstenite::client::IntoClientRequest;
use tungstenite::handshake::HandshakeRole;
use tungstenite::{HandshakeError, Message, WebSocket};

use super::super::Layers;
use super::world::{End, FRAME_BYTES_MAX, World};
use crate::peer::{Peer, WebSocketPath};
use crate::tls::ServerTls;

/// A stream whose far end is an [`End`]: what is written goes there at once, what it says can be read.
#[derive(Clone)]
struct Stream(Rc<RefCell<End>>, Rc<RefCell<Vec<u8>>>);

impl Stream {
    fn to(end: End) -> Self {
        Self(Rc::new(RefCell::new(end)), Rc::default())
    }
}

impl Read for Stream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let mut waiting = self.1.borrow_mut();
        waiting.extend(self.0.borrow_mut().wire());
        if waiting.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let count = waiting.len().min(into.len());
        into[..count].copy_from_slice(&waiting[..count]);
        waiting.drain(..count);
        Ok(count)
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().receive(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn finish<R: HandshakeRole>(mut outcome: Result<R::FinalResult, HandshakeError<R>>) -> R::FinalResult {
    loop {
        match outcome {
            Ok(done) => return done,
            Err(HandshakeError::Interrupted(mid)) => outcome = mid.handshake(),
            Err(HandshakeError::Failure(error)) => panic!("{error}"),
        }
    }
}

/// What both kinds of end do alike.
fn check(stream: &Stream, mut other: WebSocket<Stream>) {
    let end = &stream.0;
    assert!(end.borrow().layers.is_ready());
    for size in [0, 1, 125, 126, 65_535, 65_536, 300_000] {
        let sent = vec![size as u8; size];
        other.send(Message::binary(sent.clone())).unwrap();
        assert!(end.borrow_mut().take() == sent, "{size} bytes from the other");
        end.borrow_mut().send(&sent);
        let mut got = Vec::new();
        while got.len() < size {
            match other.read().unwrap() {
                Message::Binary(part) => got.extend(part),
                other => panic!("{other:?}"),
            }
        }
        assert!(got == sent, "{size} bytes to the other");
    }
    other.send(Message::Ping(b"there?"[..].into())).unwrap();
    assert_eq!(other.read().unwrap(), Message::Pong(b"there?"[..].into()));
    end.borrow_mut().send(b"the last");
    end.borrow_mut().layers.finish();
    assert_eq!(other.read().unwrap(), Message::binary(&b"the last"[..]));
    assert!(matches!(other.read().unwrap(), Message::Close(Some(close)) if u16::from(close.code) == 1000));
    let _ = other.flush();
    assert!(end.borrow().layers.has_ended());
    assert_eq!(end.borrow().fault, None);
}

#[test]
fn tungstenite_talks_to_our_server() {
    let server = End::new(Layers::accepted(None, true, FRAME_BYTES_MAX).unwrap());
    let stream = Stream::to(server);
    let mut request = "ws://localhost/mqtt".into_client_request().unwrap();
    request.headers_mut().insert("Sec-WebSocket-Protocol", "mqtt".parse().unwrap());
    let (client, answer) = finish(tungstenite::client(request, stream.clone()));
    assert_eq!(answer.headers()["Sec-WebSocket-Protocol"], "mqtt");
    check(&stream, client);
}

/// [MQTT-6.0.0-3], [MQTT311-6.0.0-3]
#[test]
fn tungstenite_talks_to_our_client() {
    let peer = Peer { websocket: Some(WebSocketPath::default()), ..Peer::tcp("localhost", 8083) };
    let stream = Stream::to(End::new(Layers::connecting(&peer, FRAME_BYTES_MAX).unwrap().unwrap()));
    #[allow(clippy::result_large_err, reason = "tungstenite's callback has this shape")]
    let answer = |request: &tungstenite::handshake::server::Request,
                  mut response: tungstenite::handshake::server::Response| {
        assert_eq!(request.uri().path(), "/mqtt");
        assert_eq!(request.headers()["Sec-WebSocket-Protocol"], "mqtt");
        response.headers_mut().insert("Sec-WebSocket-Protocol", "mqtt".parse().unwrap());
        Ok(response)
    };
    let server = finish(tungstenite::accept_hdr(stream.clone(), answer));
    check(&stream, server);
}

/// rustls's own client, which trusts the authority.
fn rustls_client(
    world: &World,
    version: &'static rustls::SupportedProtocolVersion,
    alpn: &[&str],
) -> ClientConnection {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(world.authority.pem.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[version]).unwrap();
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    ClientConnection::new(Arc::new(config), ServerName::try_from("localhost").unwrap()).unwrap()
}

#[test]
fn rustls_talks_to_our_server() {
    let world = World::new();
    for (version, alpn, websocket, chosen) in [
        (&rustls::version::TLS13, &[][..], false, None),
        (&rustls::version::TLS12, &[][..], false, None),
        (&rustls::version::TLS13, &["mqtt"][..], false, Some(&b"mqtt"[..])),
        (&rustls::version::TLS12, &["h2", "http/1.1"][..], true, Some(b"http/1.1")),
    ] {
        let mut client = rustls_client(&world, version, alpn);
        let tls = world.server_tls();
        let mut stream =
            Stream::to(End::new(Layers::accepted(Some(&tls), websocket, FRAME_BYTES_MAX).unwrap()));
        while client.is_handshaking() {
            client.complete_io(&mut stream).unwrap();
        }
        assert_eq!(client.alpn_protocol(), chosen);
        if websocket {
            continue;
        }
        let end = Rc::clone(&stream.0);
        let sent = vec![9; 100_000];
        // The client holds back what is more than its buffer.
        let mut left = &sent[..];
        while !left.is_empty() {
            left = &left[client.writer().write(left).unwrap()..];
            while client.wants_write() {
                client.write_tls(&mut stream).unwrap();
            }
        }
        assert!(end.borrow_mut().take() == sent, "{version:?}");
        end.borrow_mut().send(&sent);
        let mut got = Vec::new();
        while got.len() < sent.len() {
            client.read_tls(&mut stream).unwrap();
            client.process_new_packets().unwrap();
            let mut part = [0; 40_000];
            while let Ok(count) = client.reader().read(&mut part) {
                got.extend_from_slice(&part[..count]);
            }
        }
        assert!(got == sent, "{version:?}");
        client.send_close_notify();
        client.write_tls(&mut stream).unwrap();
        assert!(end.borrow().layers.has_ended() && end.borrow().fault.is_none(), "{version:?}");
    }
}

#[test]
fn keys_are_renewed_when_the_peer_asks() {
    let world = World::new();
    let mut client = rustls_client(&world, &rustls::version::TLS13, &[]);
    let tls = ServerTls::load(&world.files("server")).unwrap();
    let mut stream = Stream::to(End::new(Layers::accepted(Some(&tls), false, 0).unwrap()));
    while client.is_handshaking() {
        client.complete_io(&mut stream).unwrap();
    }
    let end = Rc::clone(&stream.0);
    for _ in 0..3 {
        client.refresh_traffic_keys().unwrap();
        client.writer().write_all(b"renewed").unwrap();
        while client.wants_write() {
            client.write_tls(&mut stream).unwrap();
        }
        assert_eq!(end.borrow_mut().take(), b"renewed");
        end.borrow_mut().send(b"so it is");
        client.read_tls(&mut stream).unwrap();
        client.process_new_packets().unwrap();
        let mut got = [0; 8];
        client.reader().read_exact(&mut got).unwrap();
        assert_eq!(&got, b"so it is");
    }
}

#[test]
fn no_application_protocol_in_common_is_a_failed_handshake() {
    let world = World::new();
    let mut client = rustls_client(&world, &rustls::version::TLS13, &["h2"]);
    let mut stream = Stream::to(End::new(Layers::accepted(Some(&world.server_tls()), false, 0).unwrap()));
    client.complete_io(&mut stream).unwrap_err();
    let end = stream.0.borrow();
    assert_eq!(end.fault, Some(ringmq_turn::TransportFault::TlsHandshake));
}
