//! What the contract forbids, and the driver finds.

mod toys;

use ringmq_sim::{Network, World};
use ringmq_turn::*;
use toys::{Run, Toy, ToyIo, shard};

/// Does what a connection's first byte says, and again what it says at the end of the turn.
#[derive(Default)]
struct Culprit {
    last: Option<(ConnId, u8)>,
}

impl Culprit {
    fn act(conn: ConnId, what: u8, io: &mut ToyIo) {
        match what {
            b'c' => io.close(conn),
            b'h' => io.hand_over(HandOver { conn, to: shard(1), unread: Vec::new() }),
            b's' => io.hand_over(HandOver { conn, to: shard(0), unread: Vec::new() }),
            b'p' => io.pause(conn),
            b'w' => io.outbox(conn).put(b"bytes"),
            b'm' => io.message(shard(0), 1),
            b'd' => io.connect(ConnectTicket(1), PeerId(0)),
            b'g' => io.cancel_connect(ConnectTicket(1)),
            _ => {}
        }
    }
}

impl Toy for Culprit {
    fn received(&mut self, conn: ConnId, bytes: &[u8], io: &mut ToyIo) {
        Self::act(conn, bytes[0], io);
        self.last = Some((conn, bytes[1]));
    }

    fn closed(&mut self, conn: ConnId, _: CloseReason, io: &mut ToyIo) {
        if let Some((_, what)) = self.last {
            Self::act(conn, what, io);
        }
    }

    fn turn_over(&mut self, io: &mut ToyIo) {
        if let Some((conn, what)) = self.last {
            Self::act(conn, what, io);
        }
    }
}

fn message_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).expect("a panic has a text")
}

fn panic_of(f: impl FnOnce() + std::panic::UnwindSafe) -> String {
    message_of(&*std::panic::catch_unwind(f).expect_err("the driver notices"))
}

#[test]
fn a_breach_is_named_with_the_seed() {
    let table = [
        ("cc", "it closed ConnId"),
        ("ch", "it handed over ConnId"),
        ("cp", "it paused ConnId"),
        ("hc", "it closed ConnId"),
        ("hp", "it paused ConnId"),
        ("wh", "with 5 bytes in its outbox"),
        ("s ", "which is not another one"),
        ("m ", "a message to itself"),
        ("dd", "it used ConnectTicket(1) again"),
        ("g ", "it gave up ConnectTicket(1), which is not being opened"),
    ];
    for (acts, expected) in table {
        let text = panic_of(|| {
            let mut world = World::new(5, 2, Network::calm(), |_, _| Run(Culprit::default()));
            let client = world.connect(Some(shard(0)));
            world.send(client, acts.as_bytes());
            world.run_until_idle();
        });
        assert!(text.starts_with("seed 5: the core of shard 0 breaks the contract"), "{acts}: {text}");
        assert!(text.contains(expected), "{acts}: {text}");
    }
}

#[test]
#[cfg(debug_assertions)]
fn a_write_to_a_void_connection_is_found_where_it_happens() {
    for acts in ["cw", "hw"] {
        let text = panic_of(|| {
            let mut world = World::new(5, 2, Network::calm(), |_, _| Run(Culprit::default()));
            let client = world.connect(Some(shard(0)));
            world.send(client, acts.as_bytes());
            world.run_until_idle();
        });
        assert!(text.contains("a stale connection id"), "{acts}: {text}");
    }
}

#[test]
fn a_connection_that_is_gone_is_left_alone() {
    for (acts, expected) in [(" w", "it wrote to ConnId"), (" c", "it closed ConnId")] {
        let text = panic_of(|| {
            let mut world = World::new(5, 2, Network::calm(), |_, _| Run(Culprit::default()));
            let client = world.connect(Some(shard(0)));
            world.send(client, b"  ");
            world.run_until_idle();
            let (conn, _) = world.core(shard(0)).0.last.unwrap();
            world.core_mut(shard(0)).0.last = None;
            world.run_until_idle();
            world.core_mut(shard(0)).0.last = Some((conn, acts.as_bytes()[1]));
            world.hang_up(client);
            world.run_until_idle();
        });
        assert!(text.starts_with("seed 5:") && text.contains(expected), "{acts}: {text}");
    }
}
