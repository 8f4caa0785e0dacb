//! One shard of the broker as a function: no runtime, no socket, no clock. Bytes go in, bytes come out.
//! This is how a test, a simulator or another event loop drives it.
//!
//! Run it with `cargo run --example engine_alone`.

use std::error::Error;

use ringmq_engine::{Engine, EngineConfig, EngineIo};
use ringmq_turn::{ConnId, ConnInfo, Core, Io, ListenerId, ShardId};

/// MQTT 3.1.1, Clean Session, Keep Alive 60, client id "solo".
const CONNECT: &[u8] = b"\x10\x10\x00\x04MQTT\x04\x02\x00\x3c\x00\x04solo";
/// Packet id 1: topic filter "a/+" at QoS 0.
const SUBSCRIBE: &[u8] = b"\x82\x08\x00\x01\x00\x03a/+\x00";
/// "hi" to topic "a/b" at QoS 0.
const PUBLISH: &[u8] = b"\x30\x07\x00\x03a/bhi";

fn main() -> Result<(), Box<dyn Error>> {
    let mut driver = Driver::new();
    let conn = driver.open();
    for (name, packet) in [("CONNECT", CONNECT), ("SUBSCRIBE", SUBSCRIBE), ("PUBLISH", PUBLISH)] {
        let answer = driver.turn(conn, packet);
        println!("{name} {packet:02x?}\n  -> {answer:02x?}");
    }
    Ok(())
}

/// The smallest driver of an engine: one connection at a time, and a clock that is turned by hand.
struct Driver {
    engine: Engine,
    io: EngineIo,
}

impl Driver {
    fn new() -> Self {
        let shards = 1;
        let config = EngineConfig { sys_interval_ms: 0, ..EngineConfig::new(ShardId::new(0), shards, 42) };
        let mut io = Io::new(shards);
        io.now.wall_ms = 1_700_000_000_000;
        Self { engine: Engine::new(config), io }
    }

    fn open(&mut self) -> ConnId {
        let conn = ConnId { slot: 0, generation: 1 };
        self.io.open(conn);
        let info = ConnInfo { listener: ListenerId(0), remote: None, over_limit: false };
        self.engine.opened(conn, &info, &mut self.io);
        conn
    }

    /// One turn: bytes arrive, a millisecond passes, and what the engine wrote is taken as sent.
    fn turn(&mut self, conn: ConnId, bytes: &[u8]) -> Vec<u8> {
        self.io.now.mono_ms += 1;
        self.io.now.wall_ms += 1;
        self.engine.received(conn, bytes, &mut self.io);
        self.engine.turn_over(&mut self.io);
        let outbox = self.io.peek(conn);
        let (mut written, shared) = outbox.take(Vec::new(), Vec::new());
        // Large payloads are not copied into the outbox, but named with their place in it.
        for piece in shared.iter().rev() {
            written.splice(piece.after..piece.after, piece.bytes.iter().copied());
        }
        outbox.sent(written.len());
        self.io.take_dirty(&mut Vec::new());
        written
    }
}

#[test]
fn the_example_runs() {
    main().expect("every step of the example works");
    let mut driver = Driver::new();
    let conn = driver.open();
    assert_eq!(driver.turn(conn, CONNECT), b"\x20\x02\x00\x00");
    assert_eq!(driver.turn(conn, SUBSCRIBE), b"\x90\x03\x00\x01\x00");
    assert_eq!(driver.turn(conn, PUBLISH), PUBLISH);
}
