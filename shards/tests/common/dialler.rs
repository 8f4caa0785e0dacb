//! A core that opens connections.
#![allow(dead_code, clippy::unwrap_used, reason = "not every test binary uses all of it")]

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use ringmq_shards::{Peer, Runtime, RuntimeConfig, ShutdownReport, start};
use ringmq_turn::{
    CloseReason, ConnId, ConnInfo, ConnectFailure, ConnectTicket, Core, Io, PeerId, ShardId, SyncFailure,
    SyncTicket,
};

use super::{PATIENCE, config};

#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    Connected(u64, Option<SocketAddr>),
    Failed(u64, ConnectFailure),
    Received(u64, Vec<u8>),
    Closed(u64, CloseReason),
}

pub enum Command {
    Connect(u64, PeerId),
    GiveUp(u64),
    /// Both within one turn.
    ConnectAndGiveUp(u64, PeerId),
    Send(u64, Vec<u8>),
    Close(u64),
}

/// Opens connections as it is told, and tells what comes of them.
#[derive(Default)]
pub struct Dialler {
    conns: HashMap<u64, ConnId>,
    tickets: HashMap<ConnId, u64>,
}

pub type Answers = Io<(), Event>;

impl Core for Dialler {
    type Message = ();
    type Command = Command;
    type Event = Event;

    fn opened(&mut self, _: ConnId, _: &ConnInfo, _: &mut Answers) {}

    fn connected(
        &mut self,
        ticket: ConnectTicket,
        conn: ConnId,
        remote: Option<SocketAddr>,
        io: &mut Answers,
    ) {
        self.conns.insert(ticket.0, conn);
        self.tickets.insert(conn, ticket.0);
        io.event(Event::Connected(ticket.0, remote));
    }

    fn connect_failed(&mut self, ticket: ConnectTicket, failure: ConnectFailure, io: &mut Answers) {
        io.event(Event::Failed(ticket.0, failure));
    }

    fn received(&mut self, conn: ConnId, bytes: &[u8], io: &mut Answers) {
        if let Some(ticket) = self.tickets.get(&conn) {
            io.event(Event::Received(*ticket, bytes.to_vec()));
        }
    }

    fn closed(&mut self, conn: ConnId, reason: CloseReason, io: &mut Answers) {
        if let Some(ticket) = self.tickets.remove(&conn) {
            self.conns.remove(&ticket);
            io.event(Event::Closed(ticket, reason));
        }
    }

    fn command(&mut self, command: Command, io: &mut Answers) {
        match command {
            Command::Connect(ticket, peer) => io.connect(ConnectTicket(ticket), peer),
            Command::GiveUp(ticket) => io.cancel_connect(ConnectTicket(ticket)),
            Command::ConnectAndGiveUp(ticket, peer) => {
                io.connect(ConnectTicket(ticket), peer);
                io.cancel_connect(ConnectTicket(ticket));
            }
            Command::Send(ticket, bytes) => io.outbox(self.conns[&ticket]).put(&bytes),
            Command::Close(ticket) => {
                let conn = self.conns.remove(&ticket).unwrap();
                self.tickets.remove(&conn);
                io.close(conn);
            }
        }
    }

    fn drained(&mut self, _: ConnId, _: &mut Answers) {}
    fn message(&mut self, _: ShardId, (): (), _: &mut Answers) {}
    fn synced(&mut self, _: SyncTicket, _: Result<Duration, SyncFailure>, _: &mut Answers) {}
    fn turn_over(&mut self, _: &mut Answers) {}
    fn shutdown(&mut self, _: &mut Answers) {}
}

pub struct Stage {
    pub runtime: Runtime<Dialler>,
    pub events: Receiver<Event>,
}

impl Stage {
    pub fn new(config: RuntimeConfig) -> Self {
        let (tell, events) = mpsc::channel();
        let runtime = start(config, |_| Dialler::default(), move |_, event| drop(tell.send(event))).unwrap();
        Self { runtime, events }
    }

    pub fn peer(&self, peer: Peer) -> PeerId {
        self.runtime.handle().add_peer(peer)
    }

    pub fn tell(&self, mut command: Command) {
        while let Err(full) = self.runtime.handle().command(ShardId::new(0), command) {
            command = full.0;
        }
    }

    pub fn event(&self) -> Event {
        self.events.recv_timeout(PATIENCE).unwrap()
    }

    /// Opens a connection that works.
    pub fn dial(&self, ticket: u64, peer: Peer) -> Option<SocketAddr> {
        self.tell(Command::Connect(ticket, self.peer(peer)));
        match self.event() {
            Event::Connected(connected, remote) if connected == ticket => remote,
            other => panic!("{other:?}"),
        }
    }

    /// Tries to open one that does not.
    pub fn failure(&self, ticket: u64, peer: PeerId) -> ConnectFailure {
        self.tell(Command::Connect(ticket, peer));
        match self.event() {
            Event::Failed(failed, failure) if failed == ticket => failure,
            other => panic!("{other:?}"),
        }
    }

    /// Sends, and expects the same back.
    pub fn echo(&self, ticket: u64, bytes: &[u8]) {
        self.tell(Command::Send(ticket, bytes.to_vec()));
        let mut back = Vec::new();
        while back.len() < bytes.len() {
            match self.event() {
                Event::Received(from, piece) if from == ticket => back.extend(piece),
                other => panic!("{other:?}"),
            }
        }
        assert!(back == bytes, "bytes were lost or mixed up");
    }

    /// Ends it; nothing may be left.
    pub fn end(self) {
        while self.runtime.handle().connections() > 0 {
            std::thread::yield_now();
        }
        assert_eq!(self.runtime.shutdown(PATIENCE).unwrap(), ShutdownReport::default());
        assert_eq!(self.events.try_iter().count(), 0, "nothing more is told");
    }
}

/// Without listeners, and not pinned: a client inside of another program.
pub fn stage() -> Stage {
    Stage::new(RuntimeConfig { listeners: Vec::new(), pinned: false, ..config(1) })
}

pub fn at(addr: SocketAddr) -> Peer {
    Peer::tcp(addr.ip().to_string(), addr.port())
}
