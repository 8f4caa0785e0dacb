//! What peers do wrong, what it is called, and what they are told.

use ringmq_turn::{ConnectFailureKind, TransportFault};

use super::super::frames::{CLOSE_PROTOCOL, CLOSE_TOO_LARGE, CLOSE_UNSUPPORTED};
use super::super::{HEAD_BYTES_MAX, Layers};
use super::world::{End, FRAME_BYTES_MAX, Kind, World, carry, talk, whole};
use crate::peer::{Peer, PeerAddress, WebSocketPath};
use crate::tls::{ClientCertificate, ServerTls, TlsFiles};

const REQUEST: &str = "GET /any/path HTTP/1.1\r\nHost: localhost\r\nConnection: keep-alive, Upgrade\r\n\
                       Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n";
const CONNECT: &[u8] = b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00";

fn websocket_server() -> End {
    End::new(Layers::accepted(None, true, FRAME_BYTES_MAX).unwrap())
}

fn websocket_client() -> End {
    let peer = Peer { websocket: Some(WebSocketPath::default()), ..Peer::tcp("localhost", 8083) };
    End::new(Layers::connecting(&peer, FRAME_BYTES_MAX).unwrap().unwrap())
}

#[test]
fn who_does_not_speak_tls_is_named() {
    let world = World::new();
    for (websocket, said, answer, detail) in [
        (false, CONNECT, &b""[..], "it does not speak TLS, but MQTT without TLS, it seems"),
        (false, b"GET / HTTP/1.1\r\n\r\n", b"", "but HTTP, it seems"),
        (true, b"GET / HTTP/1.1\r\n\r\n", b"HTTP/1.1 400 Bad Request\r\n", "but HTTP, it seems"),
        (true, CONNECT, b"", "but MQTT"),
        (false, b"\x16\x99", b"", "but something else"),
        (false, b"\x00", b"", "but something else"),
    ] {
        let tls = world.server_tls();
        let mut server = End::new(Layers::accepted(Some(&tls), websocket, FRAME_BYTES_MAX).unwrap());
        server.receive(said);
        assert_eq!(server.fault, Some(TransportFault::NotTls), "{said:?}");
        assert!(server.detail().contains(detail), "{said:?}: {}", server.detail());
        let wire = server.wire();
        assert!(wire.starts_with(answer) && wire.is_empty() == answer.is_empty(), "{said:?}: {wire:?}");
        assert!(!server.layers.is_ready());
    }
    let peer = world.peer(Some(world.client_tls(None, "ca")), false);
    let mut client = End::new(Layers::connecting(&peer, 0).unwrap().unwrap());
    client.receive(b"HTTP/1.1 400 Bad Request\r\n");
    assert_eq!(client.fault, Some(TransportFault::NotTls));
    assert!(client.detail().contains("check the port, or connect without TLS"), "{}", client.detail());
}

/// What comes of a TLS handshake: the faults of both ends, and what they say.
struct Outcome {
    server: End,
    client: End,
}

impl World {
    fn handshake(&self, files: &TlsFiles, peer: &Peer) -> Outcome {
        let tls = ServerTls::load(files).unwrap();
        let mut server = End::new(Layers::accepted(Some(&tls), false, 0).unwrap());
        let mut client = End::new(Layers::connecting(peer, 0).unwrap().unwrap());
        talk(&mut server, &mut client, &mut whole);
        Outcome { server, client }
    }
}

#[test]
fn certificates_that_clients_do_not_trust_are_named() {
    let world = World::new();
    let trusting = |host: &str, authority| Peer {
        tls: Some(world.client_tls(None, authority)),
        ..Peer::tcp(host, 8883)
    };
    for (certificate, peer, detail) in [
        ("server", trusting("localhost", "stranger"), "not issued by a trusted authority"),
        ("server", trusting("localhost", "namesake"), "the CA file may be out of date"),
        ("expired", trusting("localhost", "ca"), "it has to be renewed"),
        ("server", trusting("elsewhere", "ca"), "is only valid for"),
        ("server", trusting("127.0.0.1", "ca"), "connect by a name that it has"),
    ] {
        let Outcome { server, client } = world.handshake(&world.files(certificate), &peer);
        assert_eq!(client.fault, Some(TransportFault::Certificate), "{detail}");
        assert!(client.detail().contains(detail), "{}", client.detail());
        // The alert tells the server that it is about its certificate, where one says so.
        assert_eq!(server.fault, Some(TransportFault::TlsHandshake), "{detail}");
        let told = server.detail().contains("does not trust the certificate");
        assert!(told || server.detail().contains("DecryptError"), "{}", server.detail());
        assert!(!server.layers.is_ready() && !client.layers.is_ready());
    }
}

#[test]
fn certificates_of_clients_are_judged() {
    let world = World::new();
    for (identity, policy, fault, detail) in [
        (Some("client"), ClientCertificate::Required, None, ""),
        (Some("client"), ClientCertificate::Optional, None, ""),
        (None, ClientCertificate::Optional, None, ""),
        (None, ClientCertificate::Required, Some(TransportFault::Certificate), "it showed no certificate"),
        (Some("strange"), ClientCertificate::Required, Some(TransportFault::Certificate), "client CA file"),
        (Some("strange"), ClientCertificate::Optional, Some(TransportFault::Certificate), "client CA file"),
        (Some("revoked"), ClientCertificate::Required, Some(TransportFault::Certificate), "has revoked it"),
        (Some("expired"), ClientCertificate::Required, Some(TransportFault::Certificate), "renewed"),
    ] {
        let files = TlsFiles { client_certificate: policy, ..world.mutual_files() };
        let peer = world.peer(Some(world.client_tls(identity, "ca")), false);
        let Outcome { server, client } = world.handshake(&files, &peer);
        assert_eq!(server.fault, fault, "{identity:?}, {policy:?}: {}", server.detail());
        assert!(server.detail().contains(detail), "{identity:?}, {policy:?}: {}", server.detail());
        assert_eq!(server.layers.is_ready(), fault.is_none());
        // The client hears of it, though its own handshake was over.
        assert_eq!(client.fault, fault, "{identity:?}, {policy:?}: {}", client.detail());
        if fault.is_some() {
            assert!(client.detail().contains("check the client certificate"), "{}", client.detail());
        }
    }
}

#[test]
fn handshakes_that_make_no_sense_are_ended_with_an_alert() {
    let world = World::new();
    let tls = world.server_tls();
    for said in [
        // A ClientHello of one byte, one that is cut by its own lengths, an alert, and application data.
        &b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00"[..],
        b"\x16\x03\x01\x00\x08\x01\x00\x00\x04\x03\x03\x00\x00",
        b"\x15\x03\x03\x00\x02\x02\x28",
        b"\x17\x03\x03\x00\x05hello",
    ] {
        let mut server = End::new(Layers::accepted(Some(&tls), false, 0).unwrap());
        server.receive(said);
        assert_eq!(server.fault, Some(TransportFault::TlsHandshake), "{said:?}");
        let wire = server.wire();
        let answered = said[0] != 0x15;
        assert_eq!(wire.first(), answered.then_some(&0x15), "an alert for {said:?}");
        assert_eq!(server.layers.receive(b"more", &mut Vec::new()), Err(TransportFault::TlsHandshake));
    }
}

#[test]
fn records_that_make_no_sense_end_a_connection() {
    let world = World::new();
    for kind in [Kind::Tls, Kind::MutualTls, Kind::WebSocketOverTls] {
        let (mut server, mut client) = world.ready_pair(kind);
        client.send(b"good");
        let mut wire = client.wire();
        client.send(b"bad");
        let mut damaged = client.wire();
        *damaged.last_mut().unwrap() ^= 1;
        wire.extend(damaged);
        server.receive(&wire);
        assert_eq!(server.take(), b"good", "what came before the damage counts");
        assert_eq!(server.fault, Some(TransportFault::TlsRecord), "{kind:?}");
        carry(&mut server, &mut client, &mut whole);
        assert!(client.layers.has_ended() || client.fault == Some(TransportFault::TlsRecord), "{client:?}");
    }
}

#[test]
fn requests_that_are_no_upgrade_get_a_sentence() {
    let without = |line: &str| {
        let kept = REQUEST.split_inclusive("\r\n").filter(|part| !part.starts_with(line));
        kept.collect::<String>()
    };
    for (request, fault, status, sentence) in [
        (
            "GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(),
            TransportFault::NotWebSocket,
            "426 Upgrade Required\r\nUpgrade: websocket\r\n",
            "speaks MQTT over WebSocket, and no other HTTP",
        ),
        (
            REQUEST.replace("GET", "POST"),
            TransportFault::NotWebSocket,
            "405 Method Not Allowed\r\nAllow: GET\r\n",
            "starts with a GET request",
        ),
        (REQUEST.replace("1.1", "1.0"), TransportFault::NotWebSocket, "426 ", "speaks MQTT"),
        (without("Connection"), TransportFault::NotWebSocket, "426 ", "speaks MQTT"),
        (without("Upgrade"), TransportFault::NotWebSocket, "426 ", "speaks MQTT"),
        (
            REQUEST.replace("Version: 13", "Version: 8"),
            TransportFault::NotWebSocket,
            "426 Upgrade Required\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
            "version 13",
        ),
        (without("Sec-WebSocket-Key"), TransportFault::NotWebSocket, "400 ", "16 bytes in base64"),
        (REQUEST.replace("bXBs", "b*Bs"), TransportFault::NotWebSocket, "400 ", "16 bytes in base64"),
        (without("Sec-WebSocket-Protocol"), TransportFault::Subprotocol, "400 ", "offer `mqtt`"),
        (REQUEST.replace(": mqtt", ": chat, amqp"), TransportFault::Subprotocol, "400 ", "offer `mqtt`"),
        ("GET\r\n\r\n".to_owned(), TransportFault::NotWebSocket, "400 ", "no HTTP request"),
        (
            format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(100)),
            TransportFault::NotWebSocket,
            "400 ",
            "no HTTP request",
        ),
        (format!("GET /{}", "x".repeat(HEAD_BYTES_MAX)), TransportFault::NotWebSocket, "431 ", "8192 bytes"),
    ] {
        for piece in [1, usize::MAX] {
            let mut server = websocket_server();
            for part in request.as_bytes().chunks(piece.min(request.len())) {
                server.receive(part);
            }
            assert_eq!(server.fault, Some(fault), "{request}");
            let answer = String::from_utf8(server.wire()).unwrap();
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{request}: {answer}");
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{answer}");
            assert!(body.contains(sentence) && server.detail().contains(sentence), "{request}: {answer}");
        }
    }
}

#[test]
fn who_does_not_speak_http_gets_no_answer_in_it() {
    for (said, detail) in [(CONNECT, "MQTT without WebSocket"), (b"\x16\x03\x01", "TLS"), (b"\r\n", "HTTP")] {
        let mut server = websocket_server();
        server.receive(said);
        assert_eq!(server.fault, Some(TransportFault::NotWebSocket), "{said:?}");
        assert!(server.detail().contains(detail), "{said:?}: {}", server.detail());
        assert!(!server.layers.has_wire());
    }
}

/// [MQTT-6.0.0-4], [MQTT311-6.0.0-4]: whoever offers `mqtt` gets it.
#[test]
fn requests_for_upgrades_are_granted() {
    for (request, chosen) in [
        (REQUEST.to_owned(), "mqtt"),
        (REQUEST.replace(": mqtt", ": mqttv3.1"), "mqttv3.1"),
        (REQUEST.replace(": mqtt", ": chat, mqttv3.1,mqtt"), "mqtt"),
        (REQUEST.replace(": mqtt\r\n", ": chat\r\nsec-websocket-protocol: mqtt\r\n"), "mqtt"),
        (REQUEST.replace(": websocket", ": WebSocket").replace("Connection", "connection"), "mqtt"),
    ] {
        let mut server = websocket_server();
        server.receive(request.as_bytes());
        assert!(server.layers.is_ready(), "{request}: {server:?}");
        let answer = String::from_utf8(server.wire()).unwrap();
        assert!(answer.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{answer}");
        assert!(answer.contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{answer}");
        assert!(answer.contains(&format!("Sec-WebSocket-Protocol: {chosen}\r\n")), "{answer}");
    }
}

#[test]
fn answers_that_are_no_upgrade_are_told_with_their_status() {
    let answer = |status: &str, lines: &str| format!("HTTP/1.1 {status}\r\n{lines}\r\n");
    let upgrade = "Connection: upgrade\r\nUpgrade: websocket\r\n";
    for (answer, fault, detail) in [
        (
            answer("301 Moved", "Location: https://elsewhere/mqtt\r\n"),
            TransportFault::NotWebSocket,
            "`301 Moved`: it sends clients on to `https://elsewhere/mqtt`",
        ),
        (
            answer("401 Unauthorized", ""),
            TransportFault::NotWebSocket,
            "`401 Unauthorized`: it, or a proxy, wants",
        ),
        (
            answer("404 Not Found", ""),
            TransportFault::NotWebSocket,
            "`404 Not Found`: there is nothing at this path",
        ),
        (answer("502 Bad Gateway", ""), TransportFault::NotWebSocket, "`502 Bad Gateway`"),
        (answer("200 OK", ""), TransportFault::NotWebSocket, "`200 OK`: check address and path"),
        (answer("101 Switching", ""), TransportFault::NotWebSocket, "but not to WebSocket"),
        (answer("101 Switching", upgrade), TransportFault::NotWebSocket, "Sec-WebSocket-Accept does not fit"),
        ("SSH-2.0-OpenSSH\r\n\r\n".to_owned(), TransportFault::NotWebSocket, "something else than HTTP"),
        ("\x20\x02\x00\x00".to_owned(), TransportFault::NotWebSocket, "does not speak HTTP"),
        (format!("HTTP/1.1 200 {}", "x".repeat(HEAD_BYTES_MAX)), TransportFault::NotWebSocket, "8192 bytes"),
    ] {
        let mut client = websocket_client();
        let _ = client.wire();
        client.receive(answer.as_bytes());
        assert_eq!(client.fault, Some(fault), "{answer}");
        assert!(client.detail().contains(detail), "{answer}: {}", client.detail());
    }
    // With a proof that fits.
    for (lines, fault) in [
        ("Sec-WebSocket-Protocol: mqtt\r\n", None),
        ("", Some(TransportFault::Subprotocol)),
        ("Sec-WebSocket-Protocol: chat\r\n", Some(TransportFault::Subprotocol)),
        (
            "Sec-WebSocket-Protocol: mqtt\r\nSec-WebSocket-Extensions: permessage-deflate\r\n",
            Some(TransportFault::NotWebSocket),
        ),
    ] {
        let mut client = websocket_client();
        let mut server = websocket_server();
        server.receive(&client.wire());
        let answer = String::from_utf8(server.wire()).unwrap();
        client.receive(answer.replace("Sec-WebSocket-Protocol: mqtt\r\n", lines).as_bytes());
        assert_eq!(client.fault, fault, "{lines}: {}", client.detail());
    }
}

#[test]
fn what_cannot_be_asked_for_is_an_error_at_once() {
    let world = World::new();
    let tls = || Some(world.client_tls(None, "ca"));
    let path = |path: &str| Some(WebSocketPath { path: path.into() });
    for (peer, kind) in [
        (Peer { tls: tls(), ..Peer::tcp("no host", 1) }, TransportFault::Certificate),
        (Peer { websocket: path("mqtt"), ..Peer::tcp("host", 1) }, TransportFault::NotWebSocket),
        (Peer { websocket: path("/a b"), ..Peer::tcp("host", 1) }, TransportFault::NotWebSocket),
        (Peer { websocket: path("/x HTTP/1.1\r\nA: b"), ..Peer::tcp("h", 1) }, TransportFault::NotWebSocket),
        (Peer { websocket: path("/"), ..Peer::tcp("h\r\nA: b", 1) }, TransportFault::NotWebSocket),
    ] {
        let failure = Layers::connecting(&peer, 0).unwrap_err();
        assert_eq!(failure.kind, ConnectFailureKind::Transport(kind), "{peer:?}: {failure:?}");
    }
    for (address, host) in [
        (PeerAddress::Tcp { host: "::1".into(), port: 80 }, "Host: [::1]:80\r\n"),
        (PeerAddress::Tcp { host: "broker".into(), port: 8083 }, "Host: broker:8083\r\n"),
        (PeerAddress::Unix("/run/x".into()), "Host: localhost\r\n"),
    ] {
        let peer = Peer { websocket: path("/mqtt?x=%20"), ..Peer::new(address) };
        let mut client = End::new(Layers::connecting(&peer, 0).unwrap().unwrap());
        let request = String::from_utf8(client.wire()).unwrap();
        assert!(request.starts_with("GET /mqtt?x=%20 HTTP/1.1\r\n") && request.contains(host), "{request}");
    }
    assert!(Layers::connecting(&Peer::tcp("host", 1), 0).unwrap().is_none());
    assert!(Layers::accepted(None, false, 0).is_none());
}

/// A frame as a client sends it, with a mask of zeros.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        short @ 0..126 => frame.push(0x80 | short as u8),
        long => {
            frame.push(0x80 | 127);
            frame.extend((long as u64).to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(payload);
    frame
}

/// [MQTT-6.0.0-1], [MQTT311-6.0.0-1]: only binary frames carry anything.
#[test]
fn frames_that_break_the_rules_close_the_connection() {
    use TransportFault::{FrameText, FrameTooLarge, WebSocketFrame};
    let large = vec![7; FRAME_BYTES_MAX];
    let header = |first: u8, length: u64| [&[first, 0x80 | 127][..], &length.to_be_bytes(), &[0; 4]].concat();
    let max = FRAME_BYTES_MAX as u64;
    for (frames, outcome) in [
        (frame(0x82, b"whole"), None),
        (frame(0x82, b""), None),
        (frame(0x82, &large), None),
        (
            [frame(0x02, b"in "), frame(0x89, b"?"), frame(0x00, b"three "), frame(0x80, b"parts")].concat(),
            None,
        ),
        (frame(0x8a, b"a pong that nobody asked for"), None),
        (frame(0x81, b"text"), Some((FrameText, CLOSE_UNSUPPORTED))),
        (header(0x82, max + 1), Some((FrameTooLarge, CLOSE_TOO_LARGE))),
        (header(0x82, u64::MAX), Some((FrameTooLarge, CLOSE_TOO_LARGE))),
        ([frame(0x02, &large), header(0x80, 1)].concat(), Some((FrameTooLarge, CLOSE_TOO_LARGE))),
        ([frame(0x02, b"x"), header(0x80, u64::MAX)].concat(), Some((FrameTooLarge, CLOSE_TOO_LARGE))),
        (b"\x82\x01x".to_vec(), Some((WebSocketFrame, CLOSE_PROTOCOL))),
        (frame(0xc2, b"reserved"), Some((WebSocketFrame, CLOSE_PROTOCOL))),
        (frame(0x83, b"unknown"), Some((WebSocketFrame, CLOSE_PROTOCOL))),
        (frame(0x8b, b"unknown"), Some((WebSocketFrame, CLOSE_PROTOCOL))),
        (frame(0x80, b"of nothing"), Some((WebSocketFrame, CLOSE_PROTOCOL))),
        ([frame(0x02, b"a"), frame(0x82, b"b")].concat(), Some((WebSocketFrame, CLOSE_PROTOCOL))),
        (frame(0x09, b"in pieces"), Some((WebSocketFrame, CLOSE_PROTOCOL))),
        (frame(0x89, &[0; 126]), Some((WebSocketFrame, CLOSE_PROTOCOL))),
        (frame(0x88, b"\x03"), Some((WebSocketFrame, CLOSE_PROTOCOL))),
        (frame(0x88, &1005_u16.to_be_bytes()), Some((WebSocketFrame, CLOSE_PROTOCOL))),
        (frame(0x88, b"\x03\xe8\xff\xff"), Some((WebSocketFrame, 1007))),
    ] {
        for piece in [1, usize::MAX] {
            let mut server = websocket_server();
            server.receive(REQUEST.as_bytes());
            let _ = server.wire();
            for part in frames.chunks(piece.min(frames.len())) {
                server.receive(part);
            }
            let shown = &frames[..frames.len().min(40)];
            assert_eq!(server.fault, outcome.map(|(fault, _)| fault), "{shown:?}: {}", server.detail());
            if let Some((_, code)) = outcome {
                let [high, low] = code.to_be_bytes();
                assert_eq!(server.wire(), [0x88, 2, high, low], "{shown:?}");
            }
        }
    }
}

#[test]
fn a_close_frame_is_answered_with_its_code() {
    for (payload, answer) in [
        (&b""[..], &b"\x88\x00"[..]),
        (b"\x03\xe8bye", b"\x88\x02\x03\xe8"),
        (b"\x0f\xa0", b"\x88\x02\x0f\xa0"),
    ] {
        let mut server = websocket_server();
        server.receive(REQUEST.as_bytes());
        let _ = server.wire();
        server.receive(&[frame(0x82, b"last"), frame(0x88, payload), frame(0x82, b"ignored")].concat());
        assert_eq!(server.take(), b"last");
        assert!(server.layers.has_ended() && server.fault.is_none());
        assert!(!server.layers.has_wire(), "the core may have something to say first");
        server.send(b"?");
        server.layers.finish();
        server.layers.finish();
        assert_eq!(server.wire(), [b"\x82\x01?", answer].concat());
    }
}

#[test]
fn a_client_is_as_strict() {
    for (frames, fault) in [
        (&b"\x82\x01x"[..], None),
        (b"\x82\x81\0\0\0\0x", Some(TransportFault::WebSocketFrame)),
        (b"\x81\x01x", Some(TransportFault::FrameText)),
        (b"\x82\x7f\x00\x00\x00\x00\xff\xff\xff\xff", Some(TransportFault::FrameTooLarge)),
    ] {
        let (mut server, mut client) = (websocket_server(), websocket_client());
        talk(&mut server, &mut client, &mut whole);
        client.receive(frames);
        assert_eq!(client.fault, fault, "{frames:?}");
        carry(&mut client, &mut server, &mut whole);
        assert_eq!(server.layers.has_ended(), fault.is_some(), "its close frame is masked, and understood");
        assert_eq!(server.fault, None);
    }
}

#[test]
fn faults_inside_tls_are_told_inside_tls() {
    let world = World::new();
    let (mut server, mut client) = world.ready_pair(Kind::WebSocketOverTls);
    // A text frame of the client's, in its TLS.
    let mut wire = Vec::new();
    client.layers.tls.as_mut().unwrap().send(&frame(0x81, b"text"), &mut wire);
    server.receive(&wire);
    assert_eq!(server.fault, Some(TransportFault::FrameText));
    carry(&mut server, &mut client, &mut whole);
    assert!(client.layers.websocket.as_ref().unwrap().has_ended(), "the close frame");
    assert!(client.layers.tls.as_ref().unwrap().has_ended(), "the close_notify");
    assert_eq!(client.fault, None);
}
