//! Peers that are slow, rude or gone, and cores that pause, close and sync.

#![allow(clippy::unwrap_used, reason = "a test fails where it stands")]

mod common;

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use bytes::Bytes;
use common::{PATIENCE, config, connect, pattern, read};
use ringmq_shards::{Runtime, RuntimeConfig, start};
use ringmq_turn::{CloseReason, ConnId, ConnInfo, Core, Io, ShardId, SyncFailure, SyncRequest, SyncTicket};

/// What the core under test tells.
#[derive(Debug, PartialEq, Eq)]
enum Event {
    Opened { over_limit: bool },
    Received(usize),
    Drained { backlog: usize },
    Closed(CloseReason),
    Synced(u64, Option<i32>),
    Tick(u64),
}

enum Command {
    /// To the connection opened last.
    Send(Vec<u8>),
    Share(Bytes),
    Pause,
    Resume,
    Close,
    Sync(Arc<std::fs::File>),
    TickAfter(u64),
    Panic,
}

/// Obeys commands and reports what happens. Echoes politely: what it may not send yet, it keeps, and it
/// stops reading.
#[derive(Default)]
struct Puppet {
    conn: Option<ConnId>,
    held: Vec<u8>,
    backlog_max: usize,
    echoes: bool,
    tick_at: Option<u64>,
    goodbye: bool,
}

type Answers = Io<(), Event>;

impl Core for Puppet {
    type Message = ();
    type Command = Command;
    type Event = Event;

    fn opened(&mut self, conn: ConnId, info: &ConnInfo, io: &mut Answers) {
        self.conn = Some(conn);
        io.event(Event::Opened { over_limit: info.over_limit });
        if info.over_limit {
            io.outbox(conn).put(b"full");
            io.close(conn);
        }
    }

    fn received(&mut self, conn: ConnId, bytes: &[u8], io: &mut Answers) {
        if !self.echoes {
            io.event(Event::Received(bytes.len()));
            return;
        }
        if io.backlog_bytes(conn) > io.backlog_high_bytes || !self.held.is_empty() {
            if self.held.is_empty() {
                io.pause(conn);
            }
            self.held.extend_from_slice(bytes);
        } else {
            io.outbox(conn).put(bytes);
        }
        self.backlog_max = self.backlog_max.max(io.backlog_bytes(conn) + self.held.len());
        assert!(self.backlog_max < 16 << 20, "what the peer does not read is held back at its source");
    }

    fn drained(&mut self, conn: ConnId, io: &mut Answers) {
        let backlog = io.backlog_bytes(conn);
        assert!(backlog < io.backlog_low_bytes);
        io.event(Event::Drained { backlog });
        if self.echoes {
            io.outbox(conn).put(&std::mem::take(&mut self.held));
            io.resume(conn);
        }
    }

    fn closed(&mut self, _: ConnId, reason: CloseReason, io: &mut Answers) {
        self.conn = None;
        io.event(Event::Closed(reason));
    }

    fn message(&mut self, _: ShardId, (): (), _: &mut Answers) {}

    fn command(&mut self, command: Command, io: &mut Answers) {
        match command {
            Command::Sync(file) => io.sync(SyncRequest { ticket: SyncTicket(7), file }),
            Command::TickAfter(after_ms) => self.tick_at = Some(io.now.mono_ms + after_ms),
            Command::Panic => panic!("told to"),
            Command::Send(bytes) => io.outbox(self.conn.unwrap()).put(&bytes),
            Command::Share(bytes) => io.outbox(self.conn.unwrap()).put_shared(bytes),
            Command::Pause => io.pause(self.conn.unwrap()),
            Command::Resume => io.resume(self.conn.unwrap()),
            Command::Close => io.close(self.conn.take().unwrap()),
        }
    }

    fn synced(&mut self, ticket: SyncTicket, outcome: Result<Duration, SyncFailure>, io: &mut Answers) {
        io.event(Event::Synced(ticket.0, outcome.err().map(|failure| failure.errno)));
    }

    fn turn_over(&mut self, io: &mut Answers) {
        if let Some(at) = self.tick_at.filter(|&at| at <= io.now.mono_ms) {
            self.tick_at = None;
            io.event(Event::Tick(io.now.mono_ms - at));
        }
        io.wake_at_ms = self.tick_at;
    }

    fn shutdown(&mut self, io: &mut Answers) {
        if let Some(conn) = self.conn.take().filter(|_| self.goodbye) {
            io.outbox(conn).put(b"bye");
            io.close(conn);
        }
    }
}

struct Stage {
    runtime: Runtime<Puppet>,
    events: Receiver<Event>,
}

impl Stage {
    fn new(config: RuntimeConfig, make: impl Fn() -> Puppet + Send + Sync + 'static) -> Self {
        let (tell, events) = mpsc::channel();
        let runtime = start(config, move |_| make(), move |_, event| tell.send(event).unwrap()).unwrap();
        Self { runtime, events }
    }

    fn event(&self) -> Event {
        self.events.recv_timeout(PATIENCE).unwrap()
    }

    fn tell(&self, command: Command) {
        self.runtime.handle().command(ShardId::new(0), command).unwrap_or_else(|_| panic!("full"));
    }

    fn client(&self) -> TcpStream {
        let client = connect(&self.runtime);
        assert_eq!(self.event(), Event::Opened { over_limit: false });
        client
    }
}

fn stage() -> Stage {
    Stage::new(config(1), Puppet::default)
}

/// Reads everything, a little at a time.
fn read_slowly(client: &mut TcpStream, len: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(len);
    while bytes.len() < len {
        let mut piece = [0; 8 * 1024];
        let wanted = piece.len().min(len - bytes.len());
        let count = client.read(&mut piece[..wanted]).unwrap();
        assert!(count > 0, "ended after {} bytes", bytes.len());
        bytes.extend_from_slice(&piece[..count]);
    }
    bytes
}

#[test]
fn sixteen_mebibytes_come_back_to_a_slow_reader_in_bounded_memory() {
    let stage = Stage::new(config(1), || Puppet { echoes: true, ..Puppet::default() });
    let client = stage.client();
    let bytes = pattern(16 << 20);
    let mut writer = client.try_clone().unwrap();
    let sent = bytes.clone();
    let writing = std::thread::spawn(move || writer.write_all(&sent).unwrap());
    let mut reader = client;
    assert!(read_slowly(&mut reader, bytes.len()) == bytes, "bytes were lost or mixed up");
    writing.join().unwrap();
    assert!(matches!(stage.event(), Event::Drained { .. }));
}

#[test]
fn drained_is_told_once_for_one_backlog() {
    let stage = stage();
    let mut client = stage.client();
    let bytes = pattern(24 << 20);
    stage.tell(Command::Send(bytes.clone()));
    assert!(read_slowly(&mut client, bytes.len()) == bytes, "bytes were lost or mixed up");
    assert!(matches!(stage.event(), Event::Drained { .. }));
    drop(client);
    assert_eq!(stage.event(), Event::Closed(CloseReason::PeerClosed));
}

#[test]
fn a_backlog_of_many_pieces_goes_out_when_the_peer_reads() {
    for shared in [false, true] {
        let stage = stage();
        let mut client = stage.client();
        let bytes = pattern(24 << 20);
        for piece in bytes.chunks(1 << 20) {
            stage.tell(if shared {
                Command::Share(Bytes::copy_from_slice(piece))
            } else {
                Command::Send(piece.to_vec())
            });
        }
        assert!(read_slowly(&mut client, bytes.len()) == bytes, "bytes were lost or mixed up");
        assert!(matches!(stage.event(), Event::Drained { .. }));
        stage.tell(Command::Send(b"end".to_vec()));
        assert_eq!(read(&mut client, 3), b"end");
        drop(client);
        let more = std::iter::repeat_with(|| stage.event());
        let last = more.into_iter().find(|event| !matches!(event, Event::Drained { .. }));
        assert_eq!(last, Some(Event::Closed(CloseReason::PeerClosed)));
    }
}

#[test]
fn many_small_shared_pieces_between_copied_ones_keep_their_places() {
    let stage = stage();
    let mut client = stage.client();
    let mut expected = Vec::new();
    for number in 0..3_000u32 {
        let bytes = number.to_be_bytes();
        expected.extend_from_slice(&bytes);
        let command = if number % 3 == 0 {
            Command::Send(bytes.to_vec())
        } else {
            Command::Share(Bytes::copy_from_slice(&bytes))
        };
        let mut waiting = Some(command);
        while let Some(command) = waiting.take() {
            waiting = stage.runtime.handle().command(ShardId::new(0), command).err().map(|full| full.0);
        }
    }
    assert!(read(&mut client, expected.len()) == expected);
}

#[test]
fn a_peer_that_never_reads_does_not_stop_another() {
    let stage = stage();
    let _deaf = stage.client();
    stage.tell(Command::Send(pattern(32 << 20)));
    let mut other = stage.client();
    for _ in 0..100 {
        stage.tell(Command::Send(b"hello".to_vec()));
        assert_eq!(read(&mut other, 5), b"hello");
    }
}

#[test]
fn a_closed_connection_is_written_out_first() {
    let stage = stage();
    let mut client = stage.client();
    let bytes = pattern(20 << 20);
    stage.tell(Command::Send(bytes.clone()));
    stage.tell(Command::Close);
    assert!(read_slowly(&mut client, bytes.len()) == bytes);
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
}

#[test]
fn the_last_words_arrive_although_the_peer_keeps_sending() {
    let stage = stage();
    let mut client = stage.client();
    client.write_all(&pattern(1 << 20)).unwrap();
    stage.tell(Command::Send(b"go away".to_vec()));
    stage.tell(Command::Close);
    client.write_all(&pattern(1 << 20)).unwrap();
    let mut words = Vec::new();
    client.read_to_end(&mut words).unwrap();
    assert_eq!(words, b"go away");
}

#[test]
fn a_closing_peer_that_takes_nothing_is_cut() {
    let stage = Stage::new(RuntimeConfig { linger_ms: 50, ..config(1) }, Puppet::default);
    let client = stage.client();
    stage.tell(Command::Send(pattern(32 << 20)));
    stage.tell(Command::Close);
    // Its socket closes although it never reads, and its slot with it.
    while stage.runtime.handle().connections() > 0 {
        std::thread::yield_now();
    }
    drop(client);
}

#[test]
fn a_reset_is_told_as_broken() {
    for busy in [false, true] {
        let stage = stage();
        let client = stage.client();
        if busy {
            stage.tell(Command::Send(pattern(32 << 20)));
        }
        socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
        drop(client);
        assert_eq!(stage.event(), Event::Closed(CloseReason::Broken), "busy: {busy}");
        while stage.runtime.handle().connections() > 0 {
            std::thread::yield_now();
        }
    }
}

#[test]
fn a_reset_is_told_while_paused_and_written_to() {
    let stage = stage();
    let client = stage.client();
    stage.tell(Command::Pause);
    stage.tell(Command::Send(pattern(32 << 20)));
    socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
    drop(client);
    assert_eq!(stage.event(), Event::Closed(CloseReason::Broken));
}

#[test]
fn a_paused_connection_is_not_read_until_it_is_resumed() {
    let stage = stage();
    let mut client = stage.client();
    client.write_all(b"one").unwrap();
    assert_eq!(stage.event(), Event::Received(3));
    for _ in 0..50 {
        stage.tell(Command::Pause);
        stage.tell(Command::Send(b"paused".to_vec()));
        assert_eq!(read(&mut client, 6), b"paused");
        client.write_all(b"two").unwrap();
        stage.tell(Command::TickAfter(1));
        // The pause was carried out in the turn of its command or the next; nothing of "two" may come.
        assert!(matches!(stage.event(), Event::Tick(_)));
        stage.tell(Command::Resume);
        assert_eq!(stage.event(), Event::Received(3));
    }
    // Back and forth within a turn ends as the last word says.
    for command in [Command::Pause, Command::Resume, Command::Pause, Command::Resume] {
        stage.tell(command);
    }
    client.write_all(b"three").unwrap();
    assert_eq!(stage.event(), Event::Received(5));
    client.shutdown(Shutdown::Both).unwrap();
    assert_eq!(stage.event(), Event::Closed(CloseReason::PeerClosed));
}

#[test]
fn a_timer_fires_on_time_and_not_before() {
    let stage = stage();
    for after_ms in [30, 1, 0, 10] {
        stage.tell(Command::TickAfter(after_ms));
        assert!(matches!(stage.event(), Event::Tick(_)));
    }
    // A sooner one takes the place of a later one that the ring waits for already.
    stage.tell(Command::TickAfter(60_000));
    stage.tell(Command::TickAfter(5));
    assert!(matches!(stage.event(), Event::Tick(late) if late < 30_000));
}

#[test]
fn connections_beyond_the_limit_are_told_and_turned_away() {
    let stage = Stage::new(RuntimeConfig { connections_max: 2, ..config(2) }, Puppet::default);
    let kept = [stage.client(), stage.client()];
    let mut third = connect(&stage.runtime);
    assert_eq!(stage.event(), Event::Opened { over_limit: true });
    let mut words = Vec::new();
    third.read_to_end(&mut words).unwrap();
    assert_eq!(words, b"full");
    drop((third, kept));
    while stage.runtime.handle().connections() > 0 {
        std::thread::yield_now();
    }
    drop(stage);
}

#[test]
fn connections_far_beyond_the_limit_are_closed_at_once() {
    let stage =
        Stage::new(RuntimeConfig { connections_max: 1, linger_ms: 60_000, ..config(1) }, Puppet::default);
    let mut clients: Vec<_> = (0..200).map(|_| connect(&stage.runtime)).collect();
    // Those that were told linger, since their peers do not close; the others do not even open.
    let told: Vec<_> = (0..65).map(|_| stage.event()).collect();
    assert_eq!(told[0], Event::Opened { over_limit: false });
    assert!(told[1..].iter().all(|event| *event == Event::Opened { over_limit: true }));
    for client in &mut clients[65..] {
        match client.read(&mut [0]) {
            Ok(count) => assert_eq!(count, 0),
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
        }
    }
}

#[test]
fn a_file_is_synced_and_a_pipe_is_refused() {
    let stage = stage();
    let path = std::env::temp_dir().join(format!("ringmq-shards-sync-{}", std::process::id()));
    let mut file = std::fs::File::create(&path).unwrap();
    file.write_all(&pattern(1 << 20)).unwrap();
    stage.tell(Command::Sync(Arc::new(file)));
    assert_eq!(stage.event(), Event::Synced(7, None));
    std::fs::remove_file(path).unwrap();
    let (pipe, _) = std::io::pipe().unwrap();
    stage.tell(Command::Sync(Arc::new(std::fs::File::from(std::os::fd::OwnedFd::from(pipe)))));
    assert_eq!(stage.event(), Event::Synced(7, Some(libc::EINVAL)));
}

#[test]
fn shutdown_says_goodbye_and_drains() {
    let stage = Stage::new(config(1), || Puppet { goodbye: true, ..Puppet::default() });
    let mut client = stage.client();
    let bytes = pattern(20 << 20);
    stage.tell(Command::Send(bytes.clone()));
    let reading = std::thread::spawn(move || {
        let mut all = Vec::new();
        client.read_to_end(&mut all).unwrap();
        all
    });
    let report = stage.runtime.shutdown(PATIENCE).unwrap();
    assert_eq!((report.connections_cut, report.bytes_unsent), (0, 0));
    let all = reading.join().unwrap();
    assert!(all[..bytes.len()] == bytes && &all[bytes.len()..] == b"bye");
}

#[test]
fn shutdown_cuts_what_is_left_after_the_grace() {
    let stage = stage();
    let mut client = stage.client();
    stage.tell(Command::Send(pattern(32 << 20)));
    assert_eq!(read(&mut client, 1).len(), 1);
    let report = stage.runtime.shutdown(Duration::from_millis(20)).unwrap();
    assert_eq!(report.connections_cut, 1);
    assert!(report.bytes_unsent > 0);
}

#[test]
fn a_shard_that_panics_takes_the_runtime_down_with_an_error() {
    let stage = Stage::new(config(2), Puppet::default);
    stage.tell(Command::Panic);
    let failure = stage.runtime.wait_failure(PATIENCE).unwrap();
    assert_eq!((failure.shard.index(), failure.message.as_str()), (0, "told to"));
    let failure = stage.runtime.shutdown(Duration::from_secs(5)).unwrap_err();
    assert_eq!(failure.message, "told to");
}
