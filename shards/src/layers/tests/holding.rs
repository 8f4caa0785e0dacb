//! What connections hold, idle ones and those of hostile peers.

use super::super::{HEAD_BYTES_MAX, Layers, UNDONE_BYTES_MAX};
use super::world::{End, FRAME_BYTES_MAX, Kind, World, talk, whole};

/// What layers may hold beside TLS's own state, which is larger.
const IDLE_BYTES_MAX: usize = 512;

#[test]
fn an_idle_connection_holds_little() {
    let world = World::new();
    for kind in Kind::ALL {
        let (mut server, mut client) = world.ready_pair(kind);
        for end in [&mut server, &mut client] {
            end.send(&[1; 100_000]);
        }
        talk(&mut server, &mut client, &mut whole);
        for end in [server, client] {
            let session = end.layers.tls.as_ref().map_or(0, |tls| tls.held_bytes());
            let own = end.layers.held_bytes() - session;
            assert!(own <= IDLE_BYTES_MAX, "{kind:?}: {own} bytes, and {session} of TLS");
            assert_eq!(end.layers.wire.capacity(), 0, "{kind:?}");
        }
    }
}

#[test]
fn an_endless_head_is_not_kept() {
    let mut server = End::new(Layers::accepted(None, true, FRAME_BYTES_MAX).unwrap());
    server.receive(b"GET / HTTP/1.1\r\n");
    while server.fault.is_none() {
        server.receive(b"Cookie: more and more and more\r\n");
        assert!(server.layers.held_bytes() < 3 * HEAD_BYTES_MAX, "{}", server.layers.held_bytes());
    }
}

#[test]
fn pings_pile_up_no_answers() {
    let world = World::new();
    for kind in [Kind::WebSocket, Kind::WebSocketOverTls] {
        let (mut server, mut client) = world.ready_pair(kind);
        let before = server.layers.held_bytes();
        for at in 0..1000_u32 {
            // A client's ping with a mask of zeros.
            let frame = [&[0x89, 0x80 | 125, 0, 0, 0, 0][..], &[at as u8; 125]].concat();
            match &mut client.layers.tls {
                None => server.receive(&frame),
                Some(tls) => {
                    let mut wire = Vec::new();
                    tls.send(&frame, &mut wire);
                    server.receive(&wire);
                }
            }
        }
        assert!(server.layers.held_bytes() <= before + 200, "{kind:?}");
        assert!(server.layers.has_wire());
        // The last one is answered.
        let wire = server.wire();
        assert!(wire.len() < 200, "{kind:?}: {} bytes", wire.len());
        if kind == Kind::WebSocket {
            assert_eq!(wire, [&[0x8a, 125][..], &[999_u32 as u8; 125]].concat());
        }
        client.receive(&wire);
        assert_eq!((server.fault, client.fault), (None, None));
    }
}

#[test]
fn frames_are_passed_on_as_they_arrive() {
    let world = World::new();
    let (mut server, mut client) = world.ready_pair(Kind::WebSocket);
    let before = server.layers.held_bytes();
    client.send(&[7; 60_000]);
    let wire = client.wire();
    let mut passed_on = 0;
    for byte in wire.chunks(1000) {
        server.receive(byte);
        passed_on += server.take().len();
        assert_eq!(server.layers.held_bytes(), before);
    }
    assert_eq!(passed_on, 60_000);
}

#[test]
fn a_handshake_without_end_is_ended() {
    let world = World::new();
    let tls = world.server_tls();
    for piece in [&[0x16, 3, 1, 0, 1, 1][..], &[0x16, 3, 1, 0, 4, 1, 0, 0xff, 0xff]] {
        let mut server = End::new(Layers::accepted(Some(&tls), false, 0).unwrap());
        // A ClientHello of as many bytes as its length can say, in the smallest records.
        server.receive(&[0x16, 3, 1, 0, 4, 1, 0, 0xff, 0xf0]);
        let mut received = 0;
        while server.fault.is_none() {
            server.receive(piece);
            received += piece.len();
            let held = server.layers.tls.as_ref().unwrap().held_bytes();
            assert!(held < 3 * UNDONE_BYTES_MAX, "{held} bytes held of {received}");
            assert!(received < 1 << 20, "it goes on");
        }
    }
}
