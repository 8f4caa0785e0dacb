//! WebSocket frames (RFC 6455, 5): read as they arrive, and written.

use ringmq_turn::TransportFault;

use super::mask::{self, Mask, Masks};
use super::{CONTROL_BYTES_MAX, Fault, SENT_FRAME_BYTES_MAX};

/// The longest header: two bytes, eight of length, four of mask.
const HEADER_BYTES_MAX: usize = 14;

const FINAL: u8 = 0x80;
const RESERVED: u8 = 0x70;
const OPCODE: u8 = 0x0f;
const MASKED: u8 = 0x80;
const LENGTH: u8 = 0x7f;

/// What frames are.
const CONTINUATION: u8 = 0x0;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
pub(super) const CLOSE: u8 = 0x8;
pub(super) const PING: u8 = 0x9;
pub(super) const PONG: u8 = 0xa;

/// Why connections are closed (RFC 6455, 7.4.1).
pub(super) const CLOSE_NORMAL: u16 = 1000;
pub(super) const CLOSE_PROTOCOL: u16 = 1002;
pub(super) const CLOSE_UNSUPPORTED: u16 = 1003;
const CLOSE_NOT_UTF8: u16 = 1007;
pub(super) const CLOSE_TOO_LARGE: u16 = 1009;

/// Whose frames are read: a client's are masked, a server's are not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum From {
    Client,
    Server,
}

/// What the peer did wrong, and the code to close with.
#[derive(Debug)]
pub(super) struct Breach {
    pub code: u16,
    pub fault: Fault,
}

impl Breach {
    fn protocol(detail: &'static str) -> Self {
        Self { code: CLOSE_PROTOCOL, fault: Fault::new(TransportFault::WebSocketFrame, detail) }
    }
}

/// What a peer said that is not for the core.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// All bytes are read, and nothing was said.
    Nothing,
    /// It wants this back.
    Ping(Vec<u8>),
    /// It says goodbye, with this code if any.
    Close(Option<u16>),
}

/// Reads frames from pieces of any size.
#[derive(Debug)]
pub(super) struct Reader {
    from: From,
    /// The most bytes of a frame, and of all frames of a message.
    frame_bytes_max: u64,
    place: Place,
    /// Bytes so far of a message whose last frame has not come.
    message: Option<u64>,
}

/// Where in a frame the reader is.
#[derive(Debug)]
enum Place {
    Header { bytes: [u8; HEADER_BYTES_MAX], have: usize },
    Data { left: u64, mask: Mask },
    Control { opcode: u8, left: usize, mask: Mask, payload: Vec<u8> },
}

impl Place {
    const START: Self = Self::Header { bytes: [0; HEADER_BYTES_MAX], have: 0 };
}

impl Reader {
    pub fn new(from: From, frame_bytes_max: usize) -> Self {
        Self { from, frame_bytes_max: frame_bytes_max as u64, place: Place::START, message: None }
    }

    /// Reads until something is heard or all bytes are. Payload for the core goes to `plain`.
    pub fn read(&mut self, bytes: &mut &[u8], plain: &mut Vec<u8>) -> Result<Heard, Breach> {
        loop {
            match &mut self.place {
                Place::Header { bytes: header, have } => {
                    let wanted = header_bytes(&header[..*have]);
                    if *have < wanted {
                        let (taken, rest) = bytes.split_at(bytes.len().min(wanted - *have));
                        header[*have..*have + taken.len()].copy_from_slice(taken);
                        *have += taken.len();
                        *bytes = rest;
                        if *have < wanted {
                            return Ok(Heard::Nothing);
                        }
                        continue;
                    }
                    let header = *header;
                    self.place = self.judge(&header)?;
                }
                Place::Data { left: 0, .. } => self.place = Place::START,
                Place::Data { left, mask } => {
                    if bytes.is_empty() {
                        return Ok(Heard::Nothing);
                    }
                    let here = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                    let (taken, rest) = bytes.split_at(here);
                    let start = plain.len();
                    plain.extend_from_slice(taken);
                    if self.from == From::Client {
                        *mask = mask::apply(*mask, &mut plain[start..]);
                    }
                    *left -= here as u64;
                    *bytes = rest;
                }
                Place::Control { opcode, left: 0, payload, .. } => {
                    let (opcode, payload) = (*opcode, std::mem::take(payload));
                    self.place = Place::START;
                    match opcode {
                        PING => return Ok(Heard::Ping(payload)),
                        CLOSE => return closed(&payload),
                        // Nobody asked for it here, and nobody minds.
                        _ => debug_assert_eq!(opcode, PONG),
                    }
                }
                Place::Control { left, mask, payload, .. } => {
                    if bytes.is_empty() {
                        return Ok(Heard::Nothing);
                    }
                    let (taken, rest) = bytes.split_at(bytes.len().min(*left));
                    let start = payload.len();
                    payload.extend_from_slice(taken);
                    if self.from == From::Client {
                        *mask = mask::apply(*mask, &mut payload[start..]);
                    }
                    *left -= taken.len();
                    *bytes = rest;
                }
            }
        }
    }

    /// What follows a whole header, unless it is a breach.
    fn judge(&mut self, header: &[u8; HEADER_BYTES_MAX]) -> Result<Place, Breach> {
        let (first, second) = (header[0], header[1]);
        let (length, mask_at) = match second & LENGTH {
            126 => (u64::from(u16::from_be_bytes([header[2], header[3]])), 4),
            127 => {
                let [_, _, digits @ .., _, _, _, _] = header;
                (u64::from_be_bytes(*digits), 10)
            }
            short => (u64::from(short), 2),
        };
        let mut mask = Mask::default();
        match (self.from, second & MASKED != 0) {
            (From::Client, true) => mask.copy_from_slice(&header[mask_at..mask_at + 4]),
            (From::Server, false) => {}
            (From::Client, false) => return Err(Breach::protocol("a frame of a client without a mask")),
            (From::Server, true) => return Err(Breach::protocol("a frame of a server with a mask")),
        }
        if first & RESERVED != 0 {
            return Err(Breach::protocol(
                "a frame with reserved bits, of an extension that was not agreed on",
            ));
        }
        let opcode = first & OPCODE;
        let is_final = first & FINAL != 0;
        match (opcode, self.message) {
            (TEXT, _) => {
                let detail = "a text frame, where only binary ones may be sent";
                let fault = Fault::new(TransportFault::FrameText, detail);
                Err(Breach { code: CLOSE_UNSUPPORTED, fault })
            }
            (BINARY, Some(_)) => Err(Breach::protocol("a message within another one")),
            (CONTINUATION, None) => Err(Breach::protocol("the continuation of a message that was not begun")),
            (BINARY | CONTINUATION, before) => {
                let before = before.unwrap_or(0);
                if length > self.frame_bytes_max - before {
                    let detail = format!(
                        "a frame, or a message, of {} bytes, where {} are allowed",
                        before.saturating_add(length),
                        self.frame_bytes_max
                    );
                    let fault = Fault::new(TransportFault::FrameTooLarge, detail);
                    return Err(Breach { code: CLOSE_TOO_LARGE, fault });
                }
                self.message = (!is_final).then_some(before + length);
                Ok(Place::Data { left: length, mask })
            }
            (CLOSE | PING | PONG, _) => {
                if !is_final {
                    return Err(Breach::protocol("a control frame in pieces"));
                }
                let left = usize::try_from(length).unwrap_or(usize::MAX);
                if left > CONTROL_BYTES_MAX {
                    return Err(Breach::protocol("a control frame of more than 125 bytes"));
                }
                Ok(Place::Control { opcode, left, mask, payload: Vec::new() })
            }
            (_, _) => Err(Breach::protocol("a frame of an unknown kind")),
        }
    }

    #[cfg(test)]
    pub fn held_bytes(&self) -> usize {
        match &self.place {
            Place::Header { .. } | Place::Data { .. } => 0,
            Place::Control { payload, .. } => payload.capacity(),
        }
    }
}

/// How many bytes of a header its beginning tells of.
fn header_bytes(header: &[u8]) -> usize {
    let [_, second, ..] = header else { return 2 };
    let length = match second & LENGTH {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    2 + length + if second & MASKED != 0 { 4 } else { 0 }
}

/// A whole close frame.
fn closed(payload: &[u8]) -> Result<Heard, Breach> {
    let [high, low, reason @ ..] = payload else {
        return if payload.is_empty() {
            Ok(Heard::Close(None))
        } else {
            Err(Breach::protocol("a close frame with half a code"))
        };
    };
    let code = u16::from_be_bytes([*high, *low]);
    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return Err(Breach::protocol("a close frame with a code that must not be sent"));
    }
    if std::str::from_utf8(reason).is_err() {
        let breach = Breach::protocol("a close frame whose reason is not UTF-8");
        return Err(Breach { code: CLOSE_NOT_UTF8, ..breach });
    }
    Ok(Heard::Close(Some(code)))
}

/// The most bytes that so many become in frames.
pub(super) fn framed_bytes_max(bytes: usize) -> usize {
    bytes + bytes.div_ceil(SENT_FRAME_BYTES_MAX) * HEADER_BYTES_MAX
}

/// Writes pieces, `bytes` in all, as binary frames, as few as may be. `masks` is a client's.
pub(super) fn write_data<'a>(
    bytes: usize,
    pieces: impl Iterator<Item = &'a [u8]>,
    masks: Option<&mut Masks>,
    out: &mut Vec<u8>,
) {
    out.reserve(framed_bytes_max(bytes));
    let mut masks = masks;
    let mut unframed = bytes;
    // Of the current frame.
    let (mut left, mut start, mut mask) = (0, out.len(), None);
    for mut piece in pieces {
        while !piece.is_empty() {
            if left == 0 {
                left = unframed.min(SENT_FRAME_BYTES_MAX);
                assert!(left > 0, "there are more bytes than were announced");
                unframed -= left;
                mask = masks.as_mut().map(|masks| masks.next());
                write_header(BINARY, left, mask, out);
                start = out.len();
            }
            let (now, rest) = piece.split_at(piece.len().min(left));
            out.extend_from_slice(now);
            left -= now.len();
            piece = rest;
            if left == 0
                && let Some(mask) = mask
            {
                mask::apply(mask, &mut out[start..]);
            }
        }
    }
    assert_eq!((left, unframed), (0, 0), "there are fewer bytes than were announced");
}

/// Writes a close, ping or pong frame.
pub(super) fn write_control(opcode: u8, payload: &[u8], masks: Option<&mut Masks>, out: &mut Vec<u8>) {
    assert!(payload.len() <= CONTROL_BYTES_MAX, "control frames are short");
    let mask = masks.map(Masks::next);
    write_header(opcode, payload.len(), mask, out);
    let start = out.len();
    out.extend_from_slice(payload);
    if let Some(mask) = mask {
        mask::apply(mask, &mut out[start..]);
    }
}

/// The header of a frame that is a whole message.
fn write_header(opcode: u8, length: usize, mask: Option<Mask>, out: &mut Vec<u8>) {
    const { assert!(SENT_FRAME_BYTES_MAX <= u16::MAX as usize) };
    let masked = if mask.is_some() { MASKED } else { 0 };
    match u8::try_from(length) {
        Ok(length) if length < 126 => out.extend_from_slice(&[FINAL | opcode, masked | length]),
        Ok(_) | Err(_) => {
            let length = u16::try_from(length).expect("frames sent have a length of two bytes");
            let [high, low] = length.to_be_bytes();
            out.extend_from_slice(&[FINAL | opcode, masked | 126, high, low]);
        }
    }
    if let Some(mask) = mask {
        out.extend_from_slice(&mask);
    }
}
