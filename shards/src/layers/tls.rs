//! TLS over bytes.

use std::sync::Arc;

use ringmq_turn::TransportFault;
use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus};
use rustls::{ClientConfig, Error, ServerConfig};

use super::tls_faults::{self, Side};
use super::{Fault, UNDONE_BYTES_MAX};

/// A record's payload at most.
const RECORD_BYTES: usize = 16 * 1024;
/// What a record adds to its payload at most: header, nonce, type and tag.
const RECORD_EXTRA_BYTES_MAX: usize = 5 + 8 + 1 + 16;
/// The types of TLS records are consecutive numbers; a version's first byte is the same for all.
const RECORD_TYPES: std::ops::RangeInclusive<u8> = 0x14..=0x18;
const RECORD_VERSION: u8 = 3;
const ALERT: u8 = 0x15;
/// An alert in TLS 1.3: header, two bytes, type and tag. No other message is that short.
const SEALED_ALERT_BYTES: usize = 5 + 2 + 1 + 16;

/// One side of a TLS connection.
pub(super) struct Tls {
    session: Session,
    /// What arrived and is no whole record, or no whole handshake message, yet.
    undone: Vec<u8>,
    /// Whether the peer has shown to speak TLS at all.
    recognised: bool,
    ready: bool,
    ended: bool,
    finished: bool,
}

enum Session {
    Server(Box<UnbufferedServerConnection>),
    Client(Box<UnbufferedClientConnection>),
}

/// What to do once the session may write.
enum Then<'a> {
    Nothing,
    Encrypt(&'a [u8]),
    Goodbye,
}

/// Where a step left the session.
enum Step {
    Again,
    PeerEnded,
    Waiting,
}

/// Where the bytes that a session has for others go.
struct Outlets<'a> {
    plain: &'a mut Vec<u8>,
    wire: &'a mut Vec<u8>,
}

impl Tls {
    pub fn accepted(config: Arc<ServerConfig>) -> Self {
        let session = UnbufferedServerConnection::new(config);
        Self::new(Session::Server(Box::new(session.expect("a configuration made here has usable limits"))))
    }

    /// The far end is greeted at once.
    pub fn connecting(
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
        wire: &mut Vec<u8>,
    ) -> Result<Self, Fault> {
        let session = UnbufferedClientConnection::new(config, name)
            .map_err(|error| tls_faults::fault(Side::Client, &error, false))?;
        let mut tls = Self::new(Session::Client(Box::new(session)));
        tls.receive(&[], &mut Vec::new(), wire)?;
        Ok(tls)
    }

    fn new(session: Session) -> Self {
        Self { session, undone: Vec::new(), recognised: false, ready: false, ended: false, finished: false }
    }

    pub fn is_server(&self) -> bool {
        matches!(self.session, Session::Server(_))
    }

    pub fn is_ready(&self) -> bool {
        self.ready
    }

    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// Takes bytes from the wire; what was inside goes to `plain`, what is to be answered to `wire`.
    pub fn receive(&mut self, bytes: &[u8], plain: &mut Vec<u8>, wire: &mut Vec<u8>) -> Result<(), Fault> {
        if self.ended || self.finished {
            // Who ended its side says nothing more; and once we have ended ours, nobody listens.
            return Ok(());
        }
        self.undone.extend_from_slice(bytes);
        self.recognise()?;
        let outcome = self.advance(&Then::Nothing, &mut Outlets { plain, wire });
        if outcome.is_err() {
            self.tell_why(wire);
        }
        let result = outcome.map_err(|error| tls_faults::fault(self.side(), &error, self.ready));
        self.ready = !self.is_handshaking();
        result?;
        if self.undone.len() > UNDONE_BYTES_MAX {
            let detail = format!("a TLS message of more than {UNDONE_BYTES_MAX} bytes");
            return Err(Fault::new(TransportFault::TlsHandshake, detail));
        }
        Ok(())
    }

    /// Takes the alert that a broken session has left, if any. The session must not read on: it would be
    /// surprised by the same bytes once more.
    fn tell_why(&mut self, wire: &mut Vec<u8>) {
        let (plain, mut told) = (&mut Vec::new(), false);
        while !told {
            let start = wire.len();
            let left = &mut self.undone[..];
            let outlets = &mut Outlets { plain, wire };
            let (_, outcome) = match &mut self.session {
                Session::Server(session) => step(session.process_tls_records(left), &Then::Nothing, outlets),
                Session::Client(session) => step(session.process_tls_records(left), &Then::Nothing, outlets),
            };
            // Anything but one more piece of output means that there was no alert, or no more of them.
            told = !matches!(outcome, Ok(Step::Again)) || wire.len() == start || is_alert(&wire[start..]);
        }
        self.finished = true;
        self.undone = Vec::new();
    }

    /// Judges the first bytes, which the session would wait with until a header is whole.
    fn recognise(&mut self) -> Result<(), Fault> {
        if self.recognised {
            return Ok(());
        }
        let type_fits = self.undone.first().is_none_or(|first| RECORD_TYPES.contains(first));
        let version_fits = self.undone.get(1).is_none_or(|second| *second == RECORD_VERSION);
        if !type_fits || !version_fits {
            return Err(Fault::new(TransportFault::NotTls, tls_faults::not_tls(self.side(), &self.undone)));
        }
        self.recognised = self.undone.len() > 1;
        Ok(())
    }

    /// Wraps bytes into records. Before the handshake is over, and after a goodbye, they go nowhere.
    pub fn send(&mut self, bytes: &[u8], wire: &mut Vec<u8>) {
        if bytes.is_empty() || !self.ready || self.finished {
            return;
        }
        self.write(&Then::Encrypt(bytes), wire);
    }

    pub fn finish(&mut self, wire: &mut Vec<u8>) {
        if self.ready && !self.finished {
            self.finished = true;
            self.write(&Then::Goodbye, wire);
        }
    }

    fn write(&mut self, then: &Then<'_>, wire: &mut Vec<u8>) {
        let mut plain = Vec::new();
        if self.advance(then, &mut Outlets { plain: &mut plain, wire }).is_err() {
            // The session is broken, which is told where bytes are received.
            self.finished = true;
        }
        debug_assert!(plain.is_empty(), "what arrives is passed on when it arrives");
    }

    /// Runs the session until it waits for the peer.
    fn advance(&mut self, then: &Then<'_>, outlets: &mut Outlets<'_>) -> Result<(), Error> {
        let mut done = 0;
        let outcome = loop {
            let left = &mut self.undone[done..];
            let (discard, step) = match &mut self.session {
                Session::Server(session) => step(session.process_tls_records(left), then, outlets),
                Session::Client(session) => step(session.process_tls_records(left), then, outlets),
            };
            done += discard;
            match step {
                Ok(Step::Again) => {}
                Ok(Step::PeerEnded) => self.ended = true,
                Ok(Step::Waiting) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        if done == self.undone.len() {
            // An idle connection keeps no memory for what may come.
            self.undone = Vec::new();
        } else {
            self.undone.drain(..done);
        }
        outcome
    }

    fn is_handshaking(&self) -> bool {
        match &self.session {
            Session::Server(session) => session.is_handshaking(),
            Session::Client(session) => session.is_handshaking(),
        }
    }

    fn side(&self) -> Side {
        if self.is_server() { Side::Server } else { Side::Client }
    }

    #[cfg(test)]
    pub fn handshake_kind(&self) -> Option<rustls::HandshakeKind> {
        match &self.session {
            Session::Server(session) => session.handshake_kind(),
            Session::Client(session) => session.handshake_kind(),
        }
    }

    #[cfg(test)]
    pub fn held_bytes(&self) -> usize {
        let session = match &self.session {
            Session::Server(session) => size_of_val(&**session),
            Session::Client(session) => size_of_val(&**session),
        };
        session + self.undone.capacity()
    }
}

/// Does what the session asks for, and says how many bytes of its input are done with.
fn step<D>(
    status: UnbufferedStatus<'_, '_, D>,
    then: &Then<'_>,
    outlets: &mut Outlets<'_>,
) -> (usize, Result<Step, Error>) {
    let UnbufferedStatus { mut discard, state } = status;
    let state = match state {
        Ok(state) => state,
        Err(error) => return (discard, Err(error)),
    };
    let step = match state {
        ConnectionState::ReadTraffic(mut traffic) => {
            let mut outcome = Ok(Step::Again);
            while let Some(record) = traffic.next_record() {
                match record {
                    Ok(record) => {
                        discard += record.discard;
                        outlets.plain.extend_from_slice(record.payload);
                    }
                    Err(error) => outcome = Err(error),
                }
            }
            outcome
        }
        ConnectionState::EncodeTlsData(mut data) => encoded(outlets.wire, 0, |space| {
            data.encode(space).map_err(|error| match error {
                EncodeError::InsufficientSize(lacking) => Lacking::Bytes(lacking.required_size),
                EncodeError::AlreadyEncoded => Lacking::Everything,
            })
        })
        .map(|()| Step::Again),
        ConnectionState::TransmitTlsData(transmit) => {
            transmit.done();
            Ok(Step::Again)
        }
        ConnectionState::PeerClosed => Ok(Step::PeerEnded),
        ConnectionState::WriteTraffic(mut traffic) => {
            let lacking = |error| match error {
                EncryptError::InsufficientSize(lacking) => Lacking::Bytes(lacking.required_size),
                EncryptError::EncryptExhausted => Lacking::Everything,
            };
            let outcome = match then {
                Then::Nothing => Ok(()),
                Then::Encrypt(bytes) => encoded(outlets.wire, wrapped_bytes_max(bytes.len()), |space| {
                    traffic.encrypt(bytes, space).map_err(lacking)
                }),
                Then::Goodbye => encoded(outlets.wire, wrapped_bytes_max(2), |space| {
                    traffic.queue_close_notify(space).map_err(lacking)
                }),
            };
            outcome.map(|()| Step::Waiting)
        }
        ConnectionState::BlockedHandshake | ConnectionState::Closed => Ok(Step::Waiting),
        // Early data, which is not allowed here, and states that this version does not know.
        _ => Err(Error::General("an unexpected state of TLS".to_owned())),
    };
    (discard, step)
}

/// Whether a record is an alert, which TLS 1.3 says by its length only.
fn is_alert(record: &[u8]) -> bool {
    record.first() == Some(&ALERT) || record.len() == SEALED_ALERT_BYTES
}

/// Why something could not be put into the space given.
enum Lacking {
    Bytes(usize),
    Everything,
}

/// Appends what `put` writes into a space of `guess` bytes, or of as many as it asks for.
fn encoded(
    wire: &mut Vec<u8>,
    guess: usize,
    mut put: impl FnMut(&mut [u8]) -> Result<usize, Lacking>,
) -> Result<(), Error> {
    let start = wire.len();
    wire.resize(start + guess, 0);
    let outcome = match put(&mut wire[start..]) {
        Err(Lacking::Bytes(bytes)) => {
            wire.resize(start + bytes, 0);
            put(&mut wire[start..])
        }
        outcome => outcome,
    };
    let written = outcome.as_ref().copied().unwrap_or(0);
    wire.truncate(start + written);
    outcome.map(|_| ()).map_err(|_| Error::EncryptError)
}

/// The most bytes that so many become.
fn wrapped_bytes_max(bytes: usize) -> usize {
    bytes + bytes.div_ceil(RECORD_BYTES) * RECORD_EXTRA_BYTES_MAX
}
