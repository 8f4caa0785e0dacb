//! What goes in at one end comes out at the other.

use proptest::prelude::*;

use super::world::{End, Kind, World, carry, talk, whole};

/// Bytes that differ from place to place.
fn bytes(count: usize) -> Vec<u8> {
    (0..count).map(|at| (at * 7 + at / 251) as u8).collect()
}

fn check_both_ways(
    server: &mut End,
    client: &mut End,
    sizes: &[usize],
    cut: &mut impl FnMut(usize) -> usize,
) {
    for &size in sizes {
        let sent = bytes(size);
        client.send(&sent);
        carry(client, server, cut);
        assert!(server.take() == sent, "{size} bytes to the server");
        server.send(&sent);
        carry(server, client, cut);
        assert!(client.take() == sent, "{size} bytes to the client");
    }
    assert_eq!((server.fault, client.fault), (None, None));
}

#[test]
fn bytes_pass_in_pieces_of_any_size() {
    let world = World::new();
    for kind in Kind::ALL {
        for piece in [1, 2, 5, 1000, usize::MAX] {
            let mut cut = |_| piece;
            let (mut server, mut client) = world.pair(kind);
            talk(&mut server, &mut client, &mut cut);
            assert!(server.layers.is_ready(), "{kind:?} in pieces of {piece}: {server:?}");
            assert!(client.layers.is_ready(), "{kind:?} in pieces of {piece}: {client:?}");
            // Around the bounds of frame lengths, records and frames.
            let sizes = [1, 125, 126, 127, 16_383, 16_384, 16_385, 65_535, 65_536];
            let few = if piece < 5 { &sizes[..6] } else { &sizes };
            check_both_ways(&mut server, &mut client, few, &mut cut);
        }
    }
}

#[test]
fn large_flights_pass() {
    let world = World::new();
    for kind in Kind::ALL {
        let (mut server, mut client) = world.ready_pair(kind);
        check_both_ways(&mut server, &mut client, &[3_000_000], &mut whole);
    }
}

#[test]
fn what_is_sent_together_shares_its_wrapping() {
    let world = World::new();
    for (kind, extra) in [(Kind::WebSocket, 2), (Kind::Tls, 22), (Kind::WebSocketOverTls, 24)] {
        let (mut server, mut client) = world.ready_pair(kind);
        let pieces: [&[u8]; 4] = [b"one", b"", b"and", b"another"];
        server.layers.send(13, pieces.into_iter());
        let wire = server.wire();
        assert_eq!(wire.len(), 13 + extra, "{kind:?}");
        client.receive(&wire);
        assert_eq!(client.take(), b"oneandanother");
    }
}

#[test]
fn nothing_is_sent_for_nothing() {
    let world = World::new();
    for kind in Kind::ALL {
        let (mut server, mut client) = world.ready_pair(kind);
        server.layers.send(0, std::iter::empty());
        client.layers.send(0, std::iter::once(&[][..]));
        assert!(!server.layers.has_wire() && !client.layers.has_wire(), "{kind:?}");
    }
}

#[test]
fn either_side_may_say_goodbye() {
    let world = World::new();
    for kind in Kind::ALL {
        for server_first in [true, false] {
            let (mut server, mut client) = world.ready_pair(kind);
            let (first, second) =
                if server_first { (&mut server, &mut client) } else { (&mut client, &mut server) };
            first.send(b"the last");
            first.layers.finish();
            first.layers.finish();
            carry(first, second, &mut whole);
            assert_eq!(second.take(), b"the last", "{kind:?}");
            assert!(second.layers.has_ended() && !first.layers.has_ended(), "{kind:?}");
            // It may still say something, which under TLS the first one would not look at.
            second.send(b"an answer");
            second.layers.finish();
            assert!(second.layers.has_wire(), "{kind:?}");
            carry(second, first, &mut whole);
            let expected: &[u8] = if kind == Kind::WebSocket { b"an answer" } else { b"" };
            assert_eq!(first.take(), expected, "{kind:?}");
            // Who has said goodbye in TLS listens no more: the socket's end comes next.
            assert_eq!(first.layers.has_ended(), kind == Kind::WebSocket, "{kind:?}");
            // Nothing breaks when a core has not heard of the end yet.
            first.send(b"too late");
            second.send(b"too late");
            assert!(!first.layers.has_wire() && !second.layers.has_wire(), "{kind:?}");
            first.receive(b"whatever");
            second.receive(b"whatever");
            assert_eq!((first.fault, second.fault), (None, None), "{kind:?}");
        }
    }
}

#[test]
fn both_sides_may_say_goodbye_at_once() {
    let world = World::new();
    for kind in Kind::ALL {
        let (mut server, mut client) = world.ready_pair(kind);
        server.layers.finish();
        client.layers.finish();
        assert!(server.layers.has_wire() && client.layers.has_wire());
        talk(&mut server, &mut client, &mut whole);
        assert_eq!((server.fault, client.fault), (None, None), "{kind:?}");
    }
}

#[test]
fn a_goodbye_amid_the_handshake_is_silent() {
    let world = World::new();
    for kind in Kind::ALL {
        let (mut server, mut client) = world.pair(kind);
        let _ = client.wire();
        server.layers.finish();
        client.layers.finish();
        assert!(!server.layers.has_wire() && !client.layers.has_wire(), "{kind:?}");
    }
}

#[test]
fn what_a_client_says_right_behind_its_handshake_arrives() {
    // The last words of the handshake and the first of the core, in one piece.
    let world = World::new();
    for kind in [Kind::Tls, Kind::MutualTls] {
        let (mut server, mut client) = world.pair(kind);
        while !client.layers.is_ready() {
            carry(&mut client, &mut server, &mut whole);
            carry(&mut server, &mut client, &mut whole);
        }
        assert!(!server.layers.is_ready() && client.layers.has_wire());
        client.send(b"hello");
        carry(&mut client, &mut server, &mut whole);
        assert!(server.layers.is_ready());
        assert_eq!(server.take(), b"hello", "{kind:?}");
    }
}

#[test]
fn sessions_are_resumed_by_ticket_unless_clients_must_show_a_certificate() {
    use rustls::HandshakeKind::{Full, Resumed};
    let world = World::new();
    let mutual = crate::tls::ServerTls::load(&world.mutual_files()).unwrap();
    for (server_tls, identity, expect) in
        [(world.server_tls(), None, [Full, Resumed]), (mutual, Some("client"), [Full, Full])]
    {
        let peer = world.peer(Some(world.client_tls(identity, "ca")), false);
        for expect in expect {
            let server = super::super::Layers::accepted(Some(&server_tls), false, 0).unwrap();
            let client = super::super::Layers::connecting(&peer, 0).unwrap().unwrap();
            let (mut server, mut client) = (End::new(server), End::new(client));
            talk(&mut server, &mut client, &mut whole);
            assert!(server.layers.is_ready() && client.layers.is_ready());
            assert_eq!(client.layers.tls.as_ref().unwrap().handshake_kind(), Some(expect), "{identity:?}");
        }
    }
}

#[test]
fn a_reload_counts_for_those_who_come_after_it() {
    let world = World::new();
    let tls = world.server_tls();
    let peer = world.peer(Some(world.client_tls(None, "ca")), false);
    let pair = || {
        let server = super::super::Layers::accepted(Some(&tls), false, 0).unwrap();
        (End::new(server), End::new(super::super::Layers::connecting(&peer, 0).unwrap().unwrap()))
    };
    let (mut server, mut client) = pair();
    talk(&mut server, &mut client, &mut whole);

    let expired = world.authority.issue_expired("localhost");
    world.directory.write("server.pem", &expired.certificate);
    world.directory.write("server.key", &expired.key);
    tls.reload().unwrap();
    check_both_ways(&mut server, &mut client, &[100], &mut whole);
    // The ticket of the old one resumes nothing.
    let (mut server, mut client) = pair();
    talk(&mut server, &mut client, &mut whole);
    assert_eq!(client.fault, Some(ringmq_turn::TransportFault::Certificate));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn any_conversation_in_any_pieces(
        kind in prop::sample::select(Kind::ALL.to_vec()),
        // Who sends, and in which pieces.
        turns in prop::collection::vec((any::<bool>(), prop::collection::vec(0_usize..70_000, 0..4)), 0..8),
        cuts in prop::collection::vec(1_usize..20_000, 1..40),
    ) {
        let world = World::new();
        let mut next = cuts.iter().cycle().copied();
        let mut cut = |_| next.next().unwrap();
        let (mut server, mut client) = world.pair(kind);
        talk(&mut server, &mut client, &mut cut);
        prop_assert!(server.layers.is_ready() && client.layers.is_ready());
        let (mut to_server, mut to_client) = (Vec::new(), Vec::new());
        for (from_server, sizes) in turns {
            let pieces: Vec<Vec<u8>> = sizes.into_iter().map(bytes).collect();
            let sum = pieces.iter().map(Vec::len).sum();
            let (end, sent) =
                if from_server { (&mut server, &mut to_client) } else { (&mut client, &mut to_server) };
            end.layers.send(sum, pieces.iter().map(|piece| &piece[..]));
            sent.extend(pieces.concat());
        }
        talk(&mut server, &mut client, &mut cut);
        client.layers.finish();
        talk(&mut server, &mut client, &mut cut);
        prop_assert!(server.got == to_server);
        prop_assert!(server.layers.has_ended());
        prop_assert!(client.got == to_client);
        prop_assert_eq!((server.fault, client.fault), (None, None));
    }
}
