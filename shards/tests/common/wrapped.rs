//! Layers for tests: certificates, and far ends that we did not write.
#![allow(dead_code, clippy::unwrap_used, reason = "not every test binary uses all of it")]

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use ringmq_shards::{
    ClientTls, ClientTlsFiles, ListenerConfig, Peer, RuntimeConfig, ServerTls, TlsFiles, WebSocketPath,
};
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use tungstenite::client::IntoClientRequest;
use tungstenite::{Message, WebSocket};

use super::{PATIENCE, config};

/// What lies between a socket and the core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Plain,
    Tls,
    WebSocket,
    WebSocketOverTls,
}

impl Kind {
    pub const ALL: [Self; 4] = [Self::Plain, Self::Tls, Self::WebSocket, Self::WebSocketOverTls];
    pub const WRAPPED: [Self; 3] = [Self::Tls, Self::WebSocket, Self::WebSocketOverTls];

    pub fn is_tls(self) -> bool {
        matches!(self, Self::Tls | Self::WebSocketOverTls)
    }

    pub fn is_websocket(self) -> bool {
        matches!(self, Self::WebSocket | Self::WebSocketOverTls)
    }
}

/// A certificate for localhost that vouches for itself, and its files.
pub struct Certificate {
    folder: PathBuf,
    der: CertificateDer<'static>,
}

impl Certificate {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("ringmq-wrapped-{}-{number}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        std::fs::write(folder.join("cert"), made.cert.pem()).unwrap();
        std::fs::write(folder.join("key"), made.signing_key.serialize_pem()).unwrap();
        Self { folder, der: made.cert.der().clone() }
    }

    pub fn server(&self) -> ServerTls {
        let (certificate, key) = (self.folder.join("cert"), self.folder.join("key"));
        ServerTls::load(&TlsFiles { certificate, key, ..TlsFiles::default() }).unwrap()
    }

    pub fn client(&self) -> ClientTls {
        let ca = Some(self.folder.join("cert"));
        ClientTls::load(&ClientTlsFiles { ca, ..ClientTlsFiles::default() }).unwrap()
    }

    /// A listener on a port of the kernel's choice.
    pub fn listener(&self, kind: Kind) -> ListenerConfig {
        let plain = ListenerConfig::tcp(SocketAddr::from(([127, 0, 0, 1], 0)));
        ListenerConfig { tls: kind.is_tls().then(|| self.server()), websocket: kind.is_websocket(), ..plain }
    }

    pub fn config(&self, kind: Kind, shards: usize) -> RuntimeConfig {
        RuntimeConfig { listeners: vec![self.listener(kind)], ..config(shards) }
    }

    /// A far end that speaks so.
    pub fn peer(&self, kind: Kind, port: u16) -> Peer {
        Peer {
            tls: kind.is_tls().then(|| self.client()),
            websocket: kind.is_websocket().then(WebSocketPath::default),
            ..Peer::tcp("localhost", port)
        }
    }

    /// Layers that are not ours, over any stream.
    pub fn wrap(&self, kind: Kind, stream: impl Stream + 'static) -> Box<dyn Stream> {
        match kind {
            Kind::Plain => Box::new(stream),
            Kind::Tls => Box::new(self.tls(stream)),
            Kind::WebSocket => Box::new(Messages::over(stream)),
            Kind::WebSocketOverTls => Box::new(Messages::over(self.tls(stream))),
        }
    }

    pub fn tls<S: Stream>(&self, stream: S) -> StreamOwned<ClientConnection, S> {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = "localhost".try_into().unwrap();
        StreamOwned::new(ClientConnection::new(Arc::new(config), name).unwrap(), stream)
    }
}

impl Drop for Certificate {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// A stream that does not hang for ever.
pub trait Stream: Read + Write + Send {
    /// Says goodbye in its layers' words, and no more.
    fn say_goodbye(&mut self) {}
}

impl Stream for TcpStream {
    fn say_goodbye(&mut self) {
        self.shutdown(Shutdown::Write).unwrap();
    }
}

impl Stream for std::os::unix::net::UnixStream {}

impl<S: Stream> Stream for StreamOwned<ClientConnection, S> {
    fn say_goodbye(&mut self) {
        self.conn.send_close_notify();
        self.flush().unwrap();
    }
}

/// Writes byte by byte.
pub struct Trickle<S>(pub S);

impl<S: Read> Read for Trickle<S> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.read(into)
    }
}

impl<S: Write> Write for Trickle<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(&bytes[..bytes.len().min(1)])
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl<S: Stream> Stream for Trickle<S> {}

/// The bytes of a WebSocket's messages.
pub struct Messages<S> {
    pub socket: WebSocket<S>,
    unread: Vec<u8>,
}

impl<S: Stream> Messages<S> {
    pub fn over(stream: S) -> Self {
        let mut request = "ws://localhost/mqtt".into_client_request().unwrap();
        request.headers_mut().insert("Sec-WebSocket-Protocol", "mqtt".parse().unwrap());
        let (socket, answer) =
            tungstenite::client(request, stream).map_err(|error| error.to_string()).unwrap();
        assert_eq!(answer.headers()["Sec-WebSocket-Protocol"], "mqtt");
        Self { socket, unread: Vec::new() }
    }
}

fn as_io(error: tungstenite::Error) -> io::Error {
    match error {
        tungstenite::Error::Io(error) => error,
        other => io::Error::other(other),
    }
}

impl<S: Stream> Read for Messages<S> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.unread.is_empty() {
            match self.socket.read().map_err(as_io)? {
                Message::Binary(bytes) => self.unread = bytes.to_vec(),
                Message::Close(_) => return Ok(0),
                Message::Ping(_) | Message::Pong(_) => {}
                other => return Err(io::Error::other(format!("{other:?}"))),
            }
        }
        let count = into.len().min(self.unread.len());
        into[..count].copy_from_slice(&self.unread[..count]);
        self.unread.drain(..count);
        Ok(count)
    }
}

impl<S: Stream> Write for Messages<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.socket.write(Message::Binary(bytes.to_vec().into())).map_err(as_io)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.socket.flush().map_err(as_io)
    }
}

impl<S: Stream> Stream for Messages<S> {
    fn say_goodbye(&mut self) {
        self.socket.close(None).unwrap();
        self.socket.flush().unwrap();
    }
}

/// A TCP connection that fails rather than hangs.
pub fn tcp(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Writes, and expects the same back.
pub fn echo(stream: &mut dyn Stream, bytes: &[u8]) {
    stream.write_all(bytes).unwrap();
    stream.flush().unwrap();
    let mut back = vec![0; bytes.len()];
    stream.read_exact(&mut back).unwrap();
    assert!(back == bytes, "bytes were lost or mixed up");
}
