//! Certificates of live listeners and far ends: shown, asked for, replaced.

#![allow(clippy::unwrap_used, reason = "a test fails where it stands")]

mod common;
#[allow(dead_code, reason = "the library's own tests use the rest")]
#[path = "../src/tls/testing.rs"]
mod testing;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use common::{PATIENCE, config, connect, pattern};
use ringmq_shards::{
    ClientTls, ClientTlsFiles, Peer, Runtime, RuntimeConfig, ServerTls, ShutdownReport, TlsFiles, start,
};
use ringmq_turn::{
    CloseReason, ConnId, ConnInfo, ConnectFailure, ConnectFailureKind, ConnectTicket, Core, Io, ListenerId,
    PeerId, ShardId, SyncFailure, SyncTicket, TransportFault, TurnedAway,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use testing::{Authority, Directory, Identity};

#[derive(Debug, PartialEq, Eq)]
enum Event {
    Opened,
    TurnedAway(TurnedAway),
    Connected,
    Failed(ConnectFailure),
    Closed(CloseReason),
}

/// Answers every byte with itself, connects where it is told to, and tells what happens.
struct Witness;

impl Core for Witness {
    type Message = ();
    type Command = PeerId;
    type Event = Event;

    fn opened(&mut self, _: ConnId, _: &ConnInfo, io: &mut Io<(), Event>) {
        io.event(Event::Opened);
    }

    fn turned_away(&mut self, _: ListenerId, why: TurnedAway, io: &mut Io<(), Event>) {
        io.event(Event::TurnedAway(why));
    }

    fn connected(
        &mut self,
        _: ConnectTicket,
        _: ConnId,
        _: Option<std::net::SocketAddr>,
        io: &mut Io<(), Event>,
    ) {
        io.event(Event::Connected);
    }

    fn connect_failed(&mut self, _: ConnectTicket, failure: ConnectFailure, io: &mut Io<(), Event>) {
        io.event(Event::Failed(failure));
    }

    fn received(&mut self, conn: ConnId, bytes: &[u8], io: &mut Io<(), Event>) {
        io.outbox(conn).put(bytes);
    }

    fn closed(&mut self, _: ConnId, reason: CloseReason, io: &mut Io<(), Event>) {
        io.event(Event::Closed(reason));
    }

    fn command(&mut self, peer: PeerId, io: &mut Io<(), Event>) {
        io.connect(ConnectTicket(0), peer);
    }

    fn drained(&mut self, _: ConnId, _: &mut Io<(), Event>) {}
    fn message(&mut self, _: ShardId, (): (), _: &mut Io<(), Event>) {}
    fn synced(&mut self, _: SyncTicket, _: Result<Duration, SyncFailure>, _: &mut Io<(), Event>) {}
    fn turn_over(&mut self, _: &mut Io<(), Event>) {}
    fn shutdown(&mut self, _: &mut Io<(), Event>) {}
}

struct Stage {
    directory: Directory,
    authority: Authority,
    tls: ServerTls,
    runtime: Runtime<Witness>,
    events: Receiver<Event>,
}

impl Stage {
    /// A listener whose certificate an authority issued, and that wants one of clients from another.
    fn new(clients: Option<&Authority>) -> Self {
        let (directory, authority) = (Directory::new(), Authority::new());
        directory.write("ca.pem", &authority.pem);
        let server = authority.issue("localhost");
        let files = TlsFiles {
            certificate: directory.write("server.pem", &server.certificate),
            key: directory.write("server.key", &server.key),
            client_ca: clients.map(|authority| directory.write("clients.pem", &authority.pem)),
            ..TlsFiles::default()
        };
        let tls = ServerTls::load(&files).unwrap();
        let mut config = RuntimeConfig { pinned: false, ..config(1) };
        config.listeners[0].tls = Some(tls.clone());
        let (tell, events) = mpsc::channel();
        let runtime = start(config, |_| Witness, move |_, event| drop(tell.send(event))).unwrap();
        Self { directory, authority, tls, runtime, events }
    }

    fn event(&self) -> Event {
        self.events.recv_timeout(PATIENCE).unwrap()
    }

    /// A client that is not ours.
    fn client(&self, identity: Option<&Identity>) -> StreamOwned<ClientConnection, TcpStream> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.authority.pem.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = builder.unwrap().with_root_certificates(roots);
        let config = match identity {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                let certificate = CertificateDer::from_pem_slice(identity.certificate.as_bytes()).unwrap();
                let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
                builder.with_client_auth_cert(vec![certificate], key).unwrap()
            }
        };
        let name = ServerName::try_from("localhost").unwrap();
        let session = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut client = StreamOwned::new(session, connect(&self.runtime));
        client.conn.complete_io(&mut client.sock).unwrap();
        client
    }

    fn connect(&self, peer: PeerId) {
        self.runtime.handle().command(ShardId::new(0), peer).unwrap_or_else(|_| panic!("full"));
    }

    /// Ends it; nothing may be left.
    fn end(self) {
        while self.runtime.handle().connections() > 0 {
            std::thread::yield_now();
        }
        assert_eq!(self.runtime.shutdown(PATIENCE).unwrap(), ShutdownReport::default());
    }
}

fn echo(client: &mut StreamOwned<ClientConnection, TcpStream>, bytes: &[u8]) {
    client.write_all(bytes).unwrap();
    let mut back = vec![0; bytes.len()];
    client.read_exact(&mut back).unwrap();
    assert!(back == bytes, "bytes were lost or mixed up");
}

#[test]
fn clients_are_let_in_by_their_certificates() {
    let clients = Authority::named("of clients");
    let stage = Stage::new(Some(&clients));
    let mut good = stage.client(Some(&clients.issue("a client")));
    echo(&mut good, &pattern(100_000));
    assert_eq!(stage.event(), Event::Opened);
    let stranger = Authority::named("a stranger").issue("a client");
    for (identity, alert) in [
        (None, "CertificateRequired"),
        (Some(&stranger), "UnknownCA"),
        (Some(&clients.issue_expired("a client")), "CertificateExpired"),
    ] {
        // In TLS 1.3 a client hears of it after its own handshake.
        let mut client = stage.client(identity);
        let error = client.read(&mut [0]).unwrap_err().to_string();
        assert!(error.contains(alert), "{error}");
        assert_eq!(stage.event(), Event::TurnedAway(TurnedAway::Fault(TransportFault::Certificate)));
    }
    echo(&mut good, b"and stay");
    drop(good);
    stage.end();
}

#[test]
fn a_new_certificate_counts_for_new_connections() {
    let stage = Stage::new(None);
    let shown = |client: &StreamOwned<ClientConnection, TcpStream>| {
        client.conn.peer_certificates().unwrap()[0].clone().into_owned()
    };
    let mut old = stage.client(None);
    stage.directory.write("server.key", "");
    stage.tls.reload().unwrap_err();
    let mut same = stage.client(None);
    assert_eq!(shown(&old), shown(&same), "a bad file changes nothing");
    let new = stage.authority.issue("localhost");
    stage.directory.write("server.pem", &new.certificate);
    stage.directory.write("server.key", &new.key);
    stage.tls.reload().unwrap();
    let mut new = stage.client(None);
    assert_ne!(shown(&old), shown(&new));
    for client in [&mut old, &mut same, &mut new] {
        echo(client, b"all of them go on");
    }
    drop((old, same, new));
    stage.end();
}

#[test]
fn a_far_end_that_changes_its_authority_is_found_again_by_a_reload() {
    let stage = Stage::new(None);
    let files =
        ClientTlsFiles { ca: Some(stage.directory.path().join("ca.pem")), ..ClientTlsFiles::default() };
    let tls = ClientTls::load(&files).unwrap();
    let port = stage.runtime.addresses()[0].port();
    let peer = Peer { tls: Some(tls.clone()), ..Peer::tcp("localhost", port) };
    let peer = stage.runtime.handle().add_peer(peer);
    let both_open = |stage: &Stage| {
        let events = [stage.event(), stage.event()];
        assert!(events.contains(&Event::Opened) && events.contains(&Event::Connected), "{events:?}");
    };
    stage.connect(peer);
    both_open(&stage);

    let authority = Authority::named("another");
    let server = authority.issue("localhost");
    stage.directory.write("server.pem", &server.certificate);
    stage.directory.write("server.key", &server.key);
    stage.tls.reload().unwrap();
    stage.connect(peer);
    let events = [stage.event(), stage.event()];
    let failure = events.iter().find_map(|event| match event {
        Event::Failed(failure) => Some(failure),
        Event::Opened | Event::TurnedAway(_) | Event::Connected | Event::Closed(_) => None,
    });
    let failure = failure.unwrap();
    assert_eq!(failure.kind, ConnectFailureKind::Transport(TransportFault::Certificate));
    assert!(failure.detail.contains("not issued by a trusted authority"), "{}", failure.detail);
    let turned_away = Event::TurnedAway(TurnedAway::Fault(TransportFault::TlsHandshake));
    assert!(events.contains(&turned_away), "{events:?}");

    stage.directory.write("ca.pem", &authority.pem);
    tls.reload().unwrap();
    stage.connect(peer);
    both_open(&stage);
    stage.runtime.shutdown(Duration::ZERO).unwrap();
}

#[test]
fn a_reset_under_tls_leaves_nothing() {
    let stage = Stage::new(None);
    for unread in [0, 100, 4 << 20] {
        let mut client = stage.client(None);
        assert_eq!(stage.event(), Event::Opened);
        client.write_all(&pattern(unread)).unwrap();
        socket2::SockRef::from(&client.sock).set_linger(Some(Duration::ZERO)).unwrap();
        drop(client);
        assert!(matches!(stage.event(), Event::Closed(_)), "{unread} bytes unread");
    }
    stage.end();
}
