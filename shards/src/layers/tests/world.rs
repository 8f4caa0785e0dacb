//! Two ends and what is between them.

use rcgen::{CertificateParams, SerialNumber};
use ringmq_turn::TransportFault;

use super::super::Layers;
use crate::peer::{Peer, WebSocketPath};
use crate::tls::testing::{Authority, Directory, Identity};
use crate::tls::{ClientTls, ClientTlsFiles, ServerTls, TlsFiles};

/// The largest frame that the ends accept, unless a test says otherwise.
pub(super) const FRAME_BYTES_MAX: usize = 1 << 20;
/// The number of the certificate that the authority has revoked.
const REVOKED: u64 = 666;

/// The certificates of a test.
pub(super) struct World {
    pub directory: Directory,
    pub authority: Authority,
}

impl World {
    pub fn new() -> Self {
        let (directory, authority) = (Directory::new(), Authority::new());
        directory.write("ca.pem", &authority.pem);
        directory.write("stranger.pem", &Authority::named("a stranger").pem);
        directory.write("namesake.pem", &Authority::new().pem);
        directory.write("revoked.crl", &authority.revoke(REVOKED));
        let world = Self { directory, authority };
        world.write("server", &world.authority.issue("localhost"));
        world.write("expired", &world.authority.issue_expired("localhost"));
        world.write("client", &world.authority.issue("a client"));
        world.write("strange", &Authority::named("a stranger").issue("a client"));
        let mut revoked = CertificateParams::new(vec!["a client".to_owned()]).unwrap();
        revoked.serial_number = Some(SerialNumber::from(REVOKED));
        world.write("revoked", &world.authority.issue_as(revoked));
        world
    }

    fn write(&self, name: &str, identity: &Identity) {
        self.directory.write(&format!("{name}.pem"), &identity.certificate);
        self.directory.write(&format!("{name}.key"), &identity.key);
    }

    /// The files of a listener with the certificate of this name.
    pub fn files(&self, name: &str) -> TlsFiles {
        let path = self.directory.path();
        TlsFiles {
            certificate: path.join(format!("{name}.pem")),
            key: path.join(format!("{name}.key")),
            ..TlsFiles::default()
        }
    }

    /// The files of a listener that wants certificates of clients.
    pub fn mutual_files(&self) -> TlsFiles {
        let path = self.directory.path();
        TlsFiles {
            client_ca: Some(path.join("ca.pem")),
            crl: Some(path.join("revoked.crl")),
            ..self.files("server")
        }
    }

    pub fn server_tls(&self) -> ServerTls {
        ServerTls::load(&self.files("server")).unwrap()
    }

    /// A client that shows the certificate of this name, and trusts the authority of that one.
    pub fn client_tls(&self, identity: Option<&str>, authority: &str) -> ClientTls {
        let path = |name: String| self.directory.path().join(name);
        let files = ClientTlsFiles {
            ca: Some(path(format!("{authority}.pem"))),
            identity: identity.map(|name| (path(format!("{name}.pem")), path(format!("{name}.key")))),
            server_name: None,
        };
        ClientTls::load(&files).unwrap()
    }

    /// The far end of a client.
    pub fn peer(&self, tls: Option<ClientTls>, websocket: bool) -> Peer {
        let websocket = websocket.then(WebSocketPath::default);
        Peer { tls, websocket, ..Peer::tcp("localhost", 1883) }
    }

    /// Both ends of a connection of a kind, before they have said anything.
    pub fn pair(&self, kind: Kind) -> (End, End) {
        let (server, client) = match kind {
            Kind::Tls | Kind::WebSocketOverTls => {
                (Some(self.server_tls()), Some(self.client_tls(None, "ca")))
            }
            Kind::MutualTls => (
                Some(ServerTls::load(&self.mutual_files()).unwrap()),
                Some(self.client_tls(Some("client"), "ca")),
            ),
            Kind::WebSocket => (None, None),
        };
        let websocket = kind.is_websocket();
        let server = Layers::accepted(server.as_ref(), websocket, FRAME_BYTES_MAX);
        let client = Layers::connecting(&self.peer(client, websocket), FRAME_BYTES_MAX).unwrap();
        (End::new(server.unwrap()), End::new(client.unwrap()))
    }

    /// Both ends, when their handshakes are over.
    pub fn ready_pair(&self, kind: Kind) -> (End, End) {
        let (mut server, mut client) = self.pair(kind);
        talk(&mut server, &mut client, &mut whole);
        assert!(server.layers.is_ready() && client.layers.is_ready(), "{kind:?}: {server:?}, {client:?}");
        (server, client)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Tls,
    MutualTls,
    WebSocket,
    WebSocketOverTls,
}

impl Kind {
    pub const ALL: [Self; 4] = [Self::Tls, Self::MutualTls, Self::WebSocket, Self::WebSocketOverTls];

    pub fn is_websocket(self) -> bool {
        match self {
            Self::Tls | Self::MutualTls => false,
            Self::WebSocket | Self::WebSocketOverTls => true,
        }
    }
}

/// One end, and what its core has got.
#[derive(Debug)]
pub(super) struct End {
    pub layers: Box<Layers>,
    pub got: Vec<u8>,
    pub fault: Option<TransportFault>,
}

impl End {
    pub fn new(layers: Box<Layers>) -> Self {
        Self { layers, got: Vec::new(), fault: None }
    }

    /// Takes bytes from the wire. After a fault they are lost, as they are when a socket is closed.
    pub fn receive(&mut self, wire: &[u8]) {
        if self.fault.is_none() {
            self.fault = self.layers.receive(wire, &mut self.got).err();
        }
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.layers.send(bytes.len(), std::iter::once(bytes));
    }

    pub fn wire(&mut self) -> Vec<u8> {
        let mut wire = Vec::new();
        self.layers.take_wire(&mut wire);
        assert!(!self.layers.has_wire());
        wire
    }

    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.got)
    }

    pub fn detail(&self) -> &str {
        self.layers.fault_detail().unwrap_or_default()
    }
}

/// Everything at once.
pub(super) fn whole(bytes: usize) -> usize {
    bytes
}

/// Carries what waits from one end to the other; `cut` says how long the next piece is, of so many bytes.
pub(super) fn carry(from: &mut End, to: &mut End, cut: &mut impl FnMut(usize) -> usize) {
    let wire = from.wire();
    let mut left = &wire[..];
    while !left.is_empty() {
        let (piece, rest) = left.split_at(cut(left.len()).clamp(1, left.len()));
        to.receive(piece);
        left = rest;
    }
}

/// Carries until nobody has anything to say.
pub(super) fn talk(server: &mut End, client: &mut End, cut: &mut impl FnMut(usize) -> usize) {
    while server.layers.has_wire() || client.layers.has_wire() {
        carry(client, server, cut);
        carry(server, client, cut);
    }
}
