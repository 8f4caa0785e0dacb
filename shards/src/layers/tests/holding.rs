//! What connections hold, idle ones and those of hostile peers.

use proptest::prelude::*;

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

/// [MQTT-6.0.0-2], [MQTT311-6.0.0-2]: where packets begin and end has nothing to do with frames.
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

/// How what one end says is spoilt, at a place of all that it says.
#[derive(Clone, Debug)]
enum Damage {
    Flip { at: usize, bits: u8 },
    Cut { at: usize, bytes: usize },
    Insert { at: usize, bytes: Vec<u8> },
}

fn damage() -> impl Strategy<Value = Damage> {
    let at = 0_usize..4000;
    prop_oneof![
        (at.clone(), 1_u8..).prop_map(|(at, bits)| Damage::Flip { at, bits }),
        (at.clone(), 1_usize..300).prop_map(|(at, bytes)| Damage::Cut { at, bytes }),
        (at, prop::collection::vec(any::<u8>(), 1..300)).prop_map(|(at, bytes)| Damage::Insert { at, bytes }),
    ]
}

/// A wire that spoils what it carries.
struct Wire {
    damage: Option<Damage>,
    carried: usize,
    piece: usize,
}

impl Wire {
    fn carry(&mut self, from: &mut End, to: &mut End) {
        let mut wire = from.wire();
        let said = wire.len();
        let place = |at: &usize| at.checked_sub(self.carried).filter(|at| *at < said);
        match &self.damage {
            Some(Damage::Flip { at, bits }) => {
                place(at).into_iter().for_each(|at| wire[at] ^= bits);
            }
            Some(Damage::Cut { at, bytes }) => {
                place(at).into_iter().for_each(|at| drop(wire.drain(at..said.min(at + bytes))));
            }
            Some(Damage::Insert { at, bytes }) => {
                place(at).into_iter().for_each(|at| drop(wire.splice(at..at, bytes.iter().copied())));
            }
            None => {}
        }
        self.carried += said;
        for piece in wire.chunks(self.piece) {
            to.receive(piece);
            assert!(to.layers.held_bytes() < UNDONE_BYTES_MAX);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    /// Neither end panics, holds much, or gets what the other did not say over TLS.
    #[test]
    fn a_spoilt_conversation_harms_nobody(
        kind in prop::sample::select(Kind::ALL.to_vec()),
        damages in (prop::option::of(damage()), prop::option::of(damage())),
        piece in 1_usize..2000,
    ) {
        let world = World::new();
        let (mut server, mut client) = world.pair(kind);
        let mut to_server = Wire { damage: damages.0, carried: 0, piece };
        let mut to_client = Wire { damage: damages.1, carried: 0, piece };
        for round in 0..8 {
            for end in [&mut server, &mut client] {
                if round > 2 && end.layers.is_ready() {
                    end.send(&[7; 500]);
                }
            }
            if round == 6 {
                client.layers.finish();
            }
            to_server.carry(&mut client, &mut server);
            to_client.carry(&mut server, &mut client);
        }
        if kind != Kind::WebSocket {
            prop_assert!(server.got.iter().chain(&client.got).all(|byte| *byte == 7));
        }
        let whole = to_server.damage.is_none() && to_client.damage.is_none();
        if whole {
            prop_assert_eq!((server.fault, client.fault), (None, None));
            prop_assert!(server.layers.has_ended());
        }
    }

    /// Nothing that anybody may say makes an end panic or hold much.
    #[test]
    fn noise_harms_nobody(
        kind in prop::sample::select(Kind::ALL.to_vec()),
        ready in any::<bool>(),
        start in prop::sample::select(vec![&b""[..], b"GET / HTTP/1.1\r\n", b"HTTP/1.1 101 ", b"\x16\x03\x01", b"\x82"]),
        noise in prop::collection::vec(any::<u8>(), 0..3000),
        piece in 1_usize..3000,
    ) {
        let world = World::new();
        let (server, client) = if ready { world.ready_pair(kind) } else { world.pair(kind) };
        for mut end in [server, client] {
            for part in [start, &noise].concat().chunks(piece) {
                end.receive(part);
                prop_assert!(end.layers.held_bytes() < UNDONE_BYTES_MAX);
            }
            end.layers.finish();
            let _ = end.wire();
        }
    }
}
