//! What lies between a socket's bytes and the core's: TLS, WebSocket, or WebSocket over TLS.
//!
//! Bytes go in, bytes come out, and nothing here touches a socket or a clock. What the wire brought goes
//! through [`Layers::receive`] to the core; what the core wrote goes through [`Layers::send`] and waits to
//! be taken for the wire, as do the layers' own words: handshakes, pongs, alerts, goodbyes.
//!
//! invariant: what a peer can have a connection hold is bounded by the constants below, whatever it sends.
//! Payload of WebSocket frames is passed on as it arrives, never gathered.

mod frames;
mod mask;
#[cfg(test)]
mod tests;
mod tls;
mod tls_faults;
mod upgrade;
mod websocket;

use std::fmt;

use ringmq_turn::{ConnectFailure, ConnectFailureKind, TransportFault};

use crate::peer::{Peer, PeerAddress};
use crate::tls::{ServerTls, server_name};

use self::tls::Tls;
use self::websocket::WebSocket;

/// The longest head of an HTTP request or answer that is read.
const HEAD_BYTES_MAX: usize = 8 * 1024;
/// The most header lines in one.
const HEAD_LINES_MAX: usize = 64;
/// The most that TLS may leave undone of what arrived: a handshake message of 64 KiB, with its records' frames.
const UNDONE_BYTES_MAX: usize = 96 * 1024;
/// The longest frame that is sent; what is longer becomes several. Other programs may have limits too.
const SENT_FRAME_BYTES_MAX: usize = u16::MAX as usize;
/// The longest payload of a ping, pong or close frame (RFC 6455, 5.5).
const CONTROL_BYTES_MAX: usize = 125;

/// What a peer did wrong, and a sentence about it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Fault {
    kind: TransportFault,
    detail: Box<str>,
}

impl Fault {
    fn new(kind: TransportFault, detail: impl Into<Box<str>>) -> Self {
        Self { kind, detail: detail.into() }
    }
}

/// The layers of one connection. Connections without any have none of these.
pub(crate) struct Layers {
    tls: Option<Tls>,
    websocket: Option<WebSocket>,
    /// What waits to be taken for the wire.
    wire: Vec<u8>,
    fault: Option<Fault>,
}

impl Layers {
    /// The layers of an accepted connection; none when its listener has none.
    pub fn accepted(tls: Option<&ServerTls>, websocket: bool, frame_bytes_max: usize) -> Option<Box<Self>> {
        if tls.is_none() && !websocket {
            return None;
        }
        let tls = tls.map(|tls| Tls::accepted(tls.config(websocket)));
        let websocket = websocket.then(|| WebSocket::accepted(frame_bytes_max));
        Some(Box::new(Self { tls, websocket, wire: Vec::new(), fault: None }))
    }

    /// The layers of a connection that is being opened; none when its far end has none. What they have to
    /// say first waits for the wire.
    pub fn connecting(peer: &Peer, frame_bytes_max: usize) -> Result<Option<Box<Self>>, ConnectFailure> {
        if peer.tls.is_none() && peer.websocket.is_none() {
            return Ok(None);
        }
        let failed = |kind, detail: String| ConnectFailure {
            kind: ConnectFailureKind::Transport(kind),
            detail: detail.into(),
        };
        let mut layers = Self { tls: None, websocket: None, wire: Vec::new(), fault: None };
        if let Some(tls) = &peer.tls {
            let (config, name) = tls.config(peer.websocket.is_some());
            let name = match (name, &peer.address) {
                (Some(name), _) => Ok(name),
                (None, PeerAddress::Tcp { host, .. }) => server_name(host),
                (None, PeerAddress::Unix(_)) => server_name("localhost"),
            };
            let name = name.map_err(|error| failed(TransportFault::Certificate, error.to_string()))?;
            let tls = Tls::connecting(config, name, &mut layers.wire);
            layers.tls = Some(tls.map_err(|fault| failed(fault.kind, fault.detail.into()))?);
        }
        if let Some(path) = &peer.websocket {
            let host = match &peer.address {
                PeerAddress::Tcp { .. } => peer.address.to_string(),
                PeerAddress::Unix(_) => "localhost".to_owned(),
            };
            let websocket = WebSocket::connecting(&host, &path.path, frame_bytes_max);
            layers.websocket = Some(websocket.map_err(|fault| failed(fault.kind, fault.detail.into()))?);
            layers.ask();
        }
        Ok(Some(Box::new(layers)))
    }

    /// Takes bytes from the wire, and appends what of them is for the core. After a fault there may still
    /// be something to take for the wire, and nothing more is received.
    pub fn receive(&mut self, wire: &[u8], plain: &mut Vec<u8>) -> Result<(), TransportFault> {
        if let Some(fault) = &self.fault {
            return Err(fault.kind);
        }
        self.unwrap(wire, plain).map_err(|fault| {
            let kind = fault.kind;
            self.fault = Some(fault);
            // A peer that is told why the connection ends is told that it ends, too.
            self.part();
            kind
        })
    }

    fn unwrap(&mut self, wire: &[u8], plain: &mut Vec<u8>) -> Result<(), Fault> {
        match (&mut self.tls, &mut self.websocket) {
            (Some(tls), None) => tls.receive(wire, plain, &mut self.wire),
            (None, Some(websocket)) => websocket.receive(wire, plain, &mut self.wire),
            (Some(tls), Some(websocket)) => {
                let mut inside = Vec::new();
                let outcome = tls.receive(wire, &mut inside, &mut self.wire);
                if let Err(fault) = &outcome
                    && fault.kind == TransportFault::NotTls
                    && tls.is_server()
                    && upgrade::looks_like_a_request(wire)
                {
                    self.wire.extend_from_slice(upgrade::NOT_TLS_ANSWER);
                }
                let mut answers = Vec::new();
                let inner = websocket.receive(&inside, plain, &mut answers);
                if tls.is_ready() {
                    tls.send(&answers, &mut self.wire);
                }
                // After TLS itself is ready, the request goes out.
                self.ask();
                // Whatever TLS has to say of it happened after the bytes that it passed on.
                inner.and(outcome)
            }
            (None, None) => unreachable!("a connection without layers has no `Layers`"),
        }
    }

    /// Sends a client's WebSocket request as soon as there is something to carry it.
    fn ask(&mut self) {
        let Some(websocket) = &mut self.websocket else { return };
        match &mut self.tls {
            None => websocket.ask(&mut self.wire),
            Some(tls) if tls.is_ready() => {
                let mut request = Vec::new();
                websocket.ask(&mut request);
                tls.send(&request, &mut self.wire);
            }
            Some(_) => {}
        }
    }

    /// Whether all handshakes are over.
    pub fn is_ready(&self) -> bool {
        self.tls.as_ref().is_none_or(Tls::is_ready)
            && self.websocket.as_ref().is_none_or(WebSocket::is_ready)
            && self.fault.is_none()
    }

    /// Whether the peer said goodbye in a layer's words. No more bytes for the core will come; those of the
    /// core may still be read, and [`Layers::finish`] answers.
    pub fn has_ended(&self) -> bool {
        self.tls.as_ref().is_some_and(Tls::has_ended)
            || self.websocket.as_ref().is_some_and(WebSocket::has_ended)
    }

    /// Wraps bytes of the core, `bytes` in all, onto the end of what waits for the wire. They share a frame
    /// and TLS records as far as these go.
    ///
    /// The layers must be ready. After [`Layers::finish`] or a fault, the bytes go nowhere.
    pub fn send<'a>(&mut self, bytes: usize, pieces: impl Iterator<Item = &'a [u8]>) {
        debug_assert!(self.is_ready() || self.fault.is_some(), "bytes before the handshakes were over");
        if bytes == 0 || self.fault.is_some() {
            return;
        }
        match (&mut self.tls, &mut self.websocket) {
            (None, Some(websocket)) => websocket.send(bytes, pieces, &mut self.wire),
            (Some(tls), None) => {
                let mut pieces = pieces.peekable();
                match pieces.next() {
                    Some(only) if pieces.peek().is_none() => tls.send(only, &mut self.wire),
                    first => {
                        let mut gathered = Vec::with_capacity(bytes);
                        first.into_iter().chain(pieces).for_each(|piece| gathered.extend_from_slice(piece));
                        tls.send(&gathered, &mut self.wire);
                    }
                }
            }
            (Some(tls), Some(websocket)) => {
                let mut framed = Vec::with_capacity(websocket::framed_bytes_max(bytes));
                websocket.send(bytes, pieces, &mut framed);
                tls.send(&framed, &mut self.wire);
            }
            (None, None) => unreachable!("a connection without layers has no `Layers`"),
        }
    }

    /// Says goodbye in the words of each layer that is ready for it. Saying it again does nothing. What
    /// arrives afterwards is for nobody, and TLS does not look at it.
    pub fn finish(&mut self) {
        match (&mut self.tls, &mut self.websocket) {
            (None, Some(websocket)) => websocket.finish(&mut self.wire),
            (Some(tls), Some(websocket)) if tls.is_ready() => {
                let mut goodbye = Vec::new();
                websocket.finish(&mut goodbye);
                tls.send(&goodbye, &mut self.wire);
            }
            (Some(_), _) | (None, None) => {}
        }
        self.part();
    }

    /// Says goodbye in the words of TLS.
    fn part(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.finish(&mut self.wire);
        }
    }

    /// Whether something waits for the wire.
    pub fn has_wire(&self) -> bool {
        !self.wire.is_empty() || self.websocket.as_ref().is_some_and(WebSocket::owes_a_pong)
    }

    /// Moves what waits for the wire onto the end of `into`.
    pub fn take_wire(&mut self, into: &mut Vec<u8>) {
        if let Some(websocket) = &mut self.websocket
            && websocket.owes_a_pong()
        {
            match &mut self.tls {
                None => websocket.pong(&mut self.wire),
                Some(tls) => {
                    let mut pong = Vec::new();
                    websocket.pong(&mut pong);
                    tls.send(&pong, &mut self.wire);
                }
            }
        }
        if into.is_empty() {
            // The memory goes along: a connection with nothing to say keeps none.
            *into = std::mem::take(&mut self.wire);
        } else {
            into.append(&mut self.wire);
            self.wire = Vec::new();
        }
    }

    /// What exactly the peer did wrong, for people.
    pub fn fault_detail(&self) -> Option<&str> {
        self.fault.as_ref().map(|fault| &*fault.detail)
    }

    /// Bytes of memory that this holds on the heap, itself included and TLS's own state left out.
    #[cfg(test)]
    fn held_bytes(&self) -> usize {
        size_of::<Self>()
            + self.wire.capacity()
            + self.tls.as_ref().map_or(0, Tls::held_bytes)
            + self.websocket.as_ref().map_or(0, WebSocket::held_bytes)
    }
}

impl fmt::Debug for Layers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Layers")
            .field("tls", &self.tls.is_some())
            .field("websocket", &self.websocket.is_some())
            .field("ready", &self.is_ready())
            .field("fault", &self.fault)
            .finish_non_exhaustive()
    }
}

// They move with their socket from shard to shard.
const _: () = {
    const fn is_send<T: Send>() {}
    is_send::<Layers>();
};
