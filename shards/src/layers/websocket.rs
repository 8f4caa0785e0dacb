//! WebSocket over bytes: the upgrade from HTTP, then binary frames.

use super::frames::{self, Breach, From, Heard, Reader};
use super::mask::Masks;
use super::upgrade::{Greeting, Progress};
use super::{Fault, frames::CLOSE, frames::PONG};

pub(super) use super::frames::framed_bytes_max;

/// One side of a WebSocket connection.
pub(super) struct WebSocket {
    /// Present until the upgrade is over.
    greeting: Option<Box<Greeting>>,
    reader: Reader,
    /// A client's.
    masks: Option<Masks>,
    /// What the peer's last ping wants back. Pings that come before it is sent are answered by it, too (RFC
    /// 6455, 5.5.3), so a peer that sends pings and reads nothing has us hold one answer.
    pong: Option<Box<[u8]>>,
    close_sent: bool,
    close_received: bool,
    /// The code to say goodbye with.
    code: Option<u16>,
}

impl WebSocket {
    pub fn accepted(frame_bytes_max: usize) -> Self {
        Self::new(Greeting::expect_request(), Reader::new(From::Client, frame_bytes_max), None)
    }

    pub fn connecting(host: &str, path: &str, frame_bytes_max: usize) -> Result<Self, Fault> {
        let greeting = Greeting::request(host, path)?;
        Ok(Self::new(greeting, Reader::new(From::Server, frame_bytes_max), Some(Masks::new())))
    }

    fn new(greeting: Greeting, reader: Reader, masks: Option<Masks>) -> Self {
        let greeting = Some(Box::new(greeting));
        let code = Some(frames::CLOSE_NORMAL);
        Self { greeting, reader, masks, pong: None, close_sent: false, close_received: false, code }
    }

    pub fn is_ready(&self) -> bool {
        self.greeting.is_none()
    }

    pub fn has_ended(&self) -> bool {
        self.close_received
    }

    /// Writes a client's request, unless that is done.
    pub fn ask(&mut self, out: &mut Vec<u8>) {
        if let Some(greeting) = &mut self.greeting {
            greeting.ask(out);
        }
    }

    /// Takes bytes of the peer; payload goes to `plain`, what is to be answered to `out`.
    pub fn receive(&mut self, mut bytes: &[u8], plain: &mut Vec<u8>, out: &mut Vec<u8>) -> Result<(), Fault> {
        if let Some(greeting) = &mut self.greeting {
            match greeting.receive(&mut bytes, out)? {
                Progress::Waiting => return Ok(()),
                Progress::Done => self.greeting = None,
            }
        }
        // Whatever follows a goodbye is nobody's.
        while !self.close_received {
            match self.reader.read(&mut bytes, plain) {
                Ok(Heard::Nothing) => break,
                Ok(Heard::Ping(payload)) => self.pong = Some(payload.into()),
                Ok(Heard::Close(code)) => {
                    self.close_received = true;
                    // The same code will say that it was understood, once the core has said the rest.
                    self.code = code;
                }
                Err(Breach { code, fault }) => {
                    self.code = Some(code);
                    self.close(out);
                    return Err(fault);
                }
            }
        }
        Ok(())
    }

    /// Frames pieces of the core. After our goodbye they go nowhere; a peer that said its own may still read.
    pub fn send<'a>(&mut self, bytes: usize, pieces: impl Iterator<Item = &'a [u8]>, out: &mut Vec<u8>) {
        if !self.close_sent {
            frames::write_data(bytes, pieces, self.masks.as_mut(), out);
        }
    }

    pub fn finish(&mut self, out: &mut Vec<u8>) {
        if self.is_ready() {
            self.close(out);
        }
    }

    fn close(&mut self, out: &mut Vec<u8>) {
        if !std::mem::replace(&mut self.close_sent, true) {
            let code = self.code.map(u16::to_be_bytes);
            let payload = code.as_ref().map_or(&[][..], |code| code);
            frames::write_control(CLOSE, payload, self.masks.as_mut(), out);
        }
    }

    pub fn owes_a_pong(&self) -> bool {
        self.pong.is_some() && !self.close_sent
    }

    pub fn pong(&mut self, out: &mut Vec<u8>) {
        if let Some(payload) = self.pong.take() {
            frames::write_control(PONG, &payload, self.masks.as_mut(), out);
        }
    }

    #[cfg(test)]
    pub fn held_bytes(&self) -> usize {
        self.greeting.as_ref().map_or(0, |greeting| greeting.held_bytes())
            + self.reader.held_bytes()
            + self.pong.as_ref().map_or(0, |payload| payload.len())
    }
}
