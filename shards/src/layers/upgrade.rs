//! How an HTTP connection becomes a WebSocket (RFC 6455, 4), on both sides.

use httparse::{EMPTY_HEADER, Header, Request, Response, Status};
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use ring::rand::{SecureRandom, SystemRandom};
use ringmq_turn::TransportFault;

use super::{Fault, HEAD_BYTES_MAX, HEAD_LINES_MAX};

/// The names that MQTT inside WebSocket has, the preferred one first.
const SUBPROTOCOLS: [&str; 2] = ["mqtt", "mqttv3.1"];
/// What the answer to a key is derived with.
const ACCEPT_SALT: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// What a plain HTTP client hears from a listener that speaks TLS.
pub(super) const NOT_TLS_ANSWER: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: 33\r\nConnection: close\r\n\r\n\
      This port speaks TLS: use wss://\n";

/// One side of an upgrade that is not over.
#[derive(Debug)]
pub(super) struct Greeting {
    /// What has arrived of the peer's head.
    head: Vec<u8>,
    role: Role,
}

#[derive(Debug)]
enum Role {
    Server,
    Client {
        /// The request, until it is sent.
        request: Option<String>,
        /// What the answer must hold.
        accept: String,
    },
}

/// How far an upgrade is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    Waiting,
    Done,
}

/// Why a request is not served, and what its sender is told.
struct Refusal {
    kind: TransportFault,
    status: &'static str,
    /// Header lines that the status asks for, each with its end.
    lines: &'static str,
    detail: &'static str,
}

impl Refusal {
    const fn new(kind: TransportFault, status: &'static str, detail: &'static str) -> Self {
        Self { kind, status, lines: "", detail }
    }

    fn answer(&self) -> String {
        let Self { status, lines, detail, .. } = self;
        let bytes = detail.len() + 1;
        format!(
            "HTTP/1.1 {status}\r\n{lines}Content-Type: text/plain\r\nContent-Length: {bytes}\r\n\
             Connection: close\r\n\r\n{detail}\n"
        )
    }
}

/// Whether bytes may be the start of an HTTP request: a method in capitals.
pub(super) fn looks_like_a_request(bytes: &[u8]) -> bool {
    bytes.first().is_some_and(u8::is_ascii_uppercase)
}

impl Greeting {
    /// A server's.
    pub fn expect_request() -> Self {
        Self { head: Vec::new(), role: Role::Server }
    }

    /// A client's, that will ask for a path of a host.
    pub fn request(host: &str, path: &str) -> Result<Self, Fault> {
        let is_word = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        if !is_word(host) || !is_word(path) || !path.starts_with('/') {
            let detail = format!(
                "a WebSocket request cannot ask `{host}` for `{path}`: a path starts with `/`, and neither \
                 has spaces or other than ASCII characters (write those as %20 and the like)"
            );
            return Err(Fault::new(TransportFault::NotWebSocket, detail));
        }
        let mut random = [0; 16];
        SystemRandom::new().fill(&mut random).map_err(|_| {
            Fault::new(TransportFault::NotWebSocket, "the system has no random bytes to give")
        })?;
        let key = base64(&random);
        let accept = accept_for(key.as_bytes());
        let subprotocol = SUBPROTOCOLS[0];
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\
             Sec-WebSocket-Protocol: {subprotocol}\r\n\r\n"
        );
        Ok(Self { head: Vec::new(), role: Role::Client { request: Some(request), accept } })
    }

    /// Writes a client's request, unless that is done.
    pub fn ask(&mut self, out: &mut Vec<u8>) {
        match &mut self.role {
            Role::Server => {}
            Role::Client { request, .. } => {
                out.extend_from_slice(request.take().unwrap_or_default().as_bytes());
            }
        }
    }

    /// Takes bytes of the peer up to the end of its head, which is answered into `out`.
    pub fn receive(&mut self, bytes: &mut &[u8], out: &mut Vec<u8>) -> Result<Progress, Fault> {
        let Some(first) = self.head.first().or(bytes.first()) else { return Ok(Progress::Waiting) };
        if !first.is_ascii_uppercase() {
            let detail = match (&self.role, first) {
                (Role::Server, 0x16) => "it does not speak HTTP, but TLS, it seems",
                (Role::Server, 0x10) => "it does not speak HTTP, but MQTT without WebSocket, it seems",
                (Role::Server | Role::Client { .. }, _) => {
                    "it does not speak HTTP, which WebSocket starts with"
                }
            };
            return Err(Fault::new(TransportFault::NotWebSocket, detail));
        }
        let known = self.head.len();
        self.head.extend_from_slice(&bytes[..bytes.len().min(HEAD_BYTES_MAX - known)]);
        let Some(end) = end_of_head(&self.head, known) else {
            return if self.head.len() < HEAD_BYTES_MAX {
                Ok(Progress::Waiting)
            } else {
                Err(self.too_long(out))
            };
        };
        *bytes = &bytes[end - known..];
        self.head.truncate(end);
        match &self.role {
            Role::Server => match accept(&self.head) {
                Ok(answer) => out.extend_from_slice(answer.as_bytes()),
                Err(refusal) => {
                    out.extend_from_slice(refusal.answer().as_bytes());
                    return Err(Fault::new(refusal.kind, refusal.detail));
                }
            },
            Role::Client { accept, .. } => judge_answer(&self.head, accept)?,
        }
        Ok(Progress::Done)
    }

    fn too_long(&self, out: &mut Vec<u8>) -> Fault {
        match self.role {
            Role::Server => {
                let refusal = Refusal::new(
                    TransportFault::NotWebSocket,
                    "431 Request Header Fields Too Large",
                    "the head of the request has more than 8192 bytes",
                );
                out.extend_from_slice(refusal.answer().as_bytes());
                Fault::new(refusal.kind, refusal.detail)
            }
            Role::Client { .. } => {
                let detail = format!("the head of its HTTP answer has more than {HEAD_BYTES_MAX} bytes");
                Fault::new(TransportFault::NotWebSocket, detail)
            }
        }
    }

    #[cfg(test)]
    pub fn held_bytes(&self) -> usize {
        let role = match &self.role {
            Role::Server => 0,
            Role::Client { request, accept } => {
                request.as_ref().map_or(0, String::capacity) + accept.capacity()
            }
        };
        size_of::<Self>() + self.head.capacity() + role
    }
}

/// Where a head ends, after its empty line. The first `known` bytes are known not to hold its end.
fn end_of_head(head: &[u8], known: usize) -> Option<usize> {
    let from = known.saturating_sub(2);
    (from..head.len()).find_map(|at| {
        let rest = &head[at..];
        if rest.starts_with(b"\n\r\n") {
            Some(at + 3)
        } else if rest.starts_with(b"\n\n") {
            Some(at + 2)
        } else {
            None
        }
    })
}

/// The answer to a request for an upgrade.
fn accept(head: &[u8]) -> Result<String, Refusal> {
    const NOT_HTTP: Refusal = Refusal::new(
        TransportFault::NotWebSocket,
        "400 Bad Request",
        "this is no HTTP request that can be read",
    );
    let mut lines = [EMPTY_HEADER; HEAD_LINES_MAX];
    let mut request = Request::new(&mut lines);
    match request.parse(head) {
        Ok(Status::Complete(_)) => {}
        Ok(Status::Partial) | Err(_) => return Err(NOT_HTTP),
    }
    let lines = &*request.headers;
    if request.method != Some("GET") {
        return Err(Refusal {
            lines: "Allow: GET\r\n",
            ..Refusal::new(
                TransportFault::NotWebSocket,
                "405 Method Not Allowed",
                "this port speaks WebSocket, which starts with a GET request",
            )
        });
    }
    let asks = request.version == Some(1)
        && has_token(lines, "Connection", "upgrade")
        && has_token(lines, "Upgrade", "websocket");
    if !asks {
        return Err(Refusal {
            lines: "Upgrade: websocket\r\n",
            ..Refusal::new(
                TransportFault::NotWebSocket,
                "426 Upgrade Required",
                "this port speaks MQTT over WebSocket, and no other HTTP; connect with an MQTT client",
            )
        });
    }
    if value(lines, "Sec-WebSocket-Version") != Some(b"13") {
        return Err(Refusal {
            lines: "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
            ..Refusal::new(
                TransportFault::NotWebSocket,
                "426 Upgrade Required",
                "this port speaks version 13 of WebSocket, and no other",
            )
        });
    }
    let Some(key) = value(lines, "Sec-WebSocket-Key").filter(|key| is_key(key)) else {
        return Err(Refusal::new(
            TransportFault::NotWebSocket,
            "400 Bad Request",
            "Sec-WebSocket-Key must be 16 bytes in base64",
        ));
    };
    let offered = |name: &&str| tokens(lines, "Sec-WebSocket-Protocol").any(|token| token == name.as_bytes());
    let Some(subprotocol) = SUBPROTOCOLS.into_iter().find(offered) else {
        return Err(Refusal::new(
            TransportFault::Subprotocol,
            "400 Bad Request",
            "this port speaks MQTT over WebSocket: offer `mqtt` in Sec-WebSocket-Protocol",
        ));
    };
    let accept = accept_for(key);
    Ok(format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: {subprotocol}\r\n\r\n"
    ))
}

/// Checks the answer to a client's request.
fn judge_answer(head: &[u8], accept: &str) -> Result<(), Fault> {
    let not_websocket = |detail: String| Fault::new(TransportFault::NotWebSocket, detail);
    let mut lines = [EMPTY_HEADER; HEAD_LINES_MAX];
    let mut answer = Response::new(&mut lines);
    match answer.parse(head) {
        Ok(Status::Complete(_)) => {}
        Ok(Status::Partial) | Err(_) => {
            return Err(not_websocket(
                "it answered the WebSocket request with something else than HTTP".to_owned(),
            ));
        }
    }
    let lines = &*answer.headers;
    let status = answer.code.unwrap_or_default();
    if status != 101 {
        let reason: String = answer.reason.unwrap_or_default().chars().take(100).collect();
        let advice = match status {
            300..=399 => match value(lines, "Location") {
                Some(place) => {
                    let place: String = String::from_utf8_lossy(place).chars().take(300).collect();
                    format!("it sends clients on to `{place}`: give that address")
                }
                None => "it sends clients elsewhere".to_owned(),
            },
            401 | 403 | 407 => {
                "it, or a proxy, wants credentials in HTTP, or does not want this client".to_owned()
            }
            404 | 410 => "there is nothing at this path: check it".to_owned(),
            426 => "it wants another protocol or version".to_owned(),
            500..=599 => "it, or a proxy before it, has trouble: look into its log".to_owned(),
            _ => "check address and path".to_owned(),
        };
        return Err(not_websocket(format!(
            "it answered the WebSocket request with `{status} {reason}`: {advice}"
        )));
    }
    if !has_token(lines, "Connection", "upgrade") || !has_token(lines, "Upgrade", "websocket") {
        return Err(not_websocket("it switched protocols, but not to WebSocket".to_owned()));
    }
    if value(lines, "Sec-WebSocket-Accept") != Some(accept.as_bytes()) {
        let detail = "its Sec-WebSocket-Accept does not fit the request: a cache may be in between";
        return Err(not_websocket(detail.to_owned()));
    }
    if value(lines, "Sec-WebSocket-Extensions").is_some() {
        return Err(not_websocket("it wants extensions of WebSocket that were not offered".to_owned()));
    }
    if value(lines, "Sec-WebSocket-Protocol") != Some(SUBPROTOCOLS[0].as_bytes()) {
        let detail = "it did not choose `mqtt`, the subprotocol that was offered: it may serve something else \
                      at this path";
        return Err(Fault::new(TransportFault::Subprotocol, detail));
    }
    Ok(())
}

/// The value of the first header line of a name.
fn value<'a>(lines: &[Header<'a>], name: &str) -> Option<&'a [u8]> {
    lines.iter().find(|line| line.name.eq_ignore_ascii_case(name)).map(|line| line.value.trim_ascii())
}

/// The parts, set apart by commas, of all header lines of a name.
fn tokens<'a>(lines: &[Header<'a>], name: &str) -> impl Iterator<Item = &'a [u8]> {
    lines
        .iter()
        .filter(move |line| line.name.eq_ignore_ascii_case(name))
        .flat_map(|line| line.value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii))
}

fn has_token(lines: &[Header<'_>], name: &str, token: &str) -> bool {
    tokens(lines, name).any(|found| found.eq_ignore_ascii_case(token.as_bytes()))
}

/// Whether it is 16 bytes in base64.
fn is_key(key: &[u8]) -> bool {
    let [digits @ .., b'=', b'='] = key else { return false };
    digits.len() == 22 && digits.iter().all(|byte| DIGITS.contains(byte))
}

/// The proof that a key was understood.
fn accept_for(key: &[u8]) -> String {
    base64(digest(&SHA1_FOR_LEGACY_USE_ONLY, &[key, ACCEPT_SALT].concat()).as_ref())
}

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn base64(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let number =
            group.iter().fold(0, |number, byte| number << 8 | usize::from(*byte)) << (8 * (3 - group.len()));
        for digit in 0..4 {
            let value = number >> (18 - 6 * digit) & 0x3f;
            text.push(if digit <= group.len() { char::from(DIGITS[value]) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_standard() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }

    #[test]
    fn the_answer_to_a_key_is_that_of_the_standard() {
        assert_eq!(accept_for(b"dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn the_end_of_a_head_is_found_in_pieces() {
        for (head, end) in [
            ("GET / HTTP/1.1\r\n\r\nrest", Some(18)),
            ("GET / HTTP/1.1\n\nrest", Some(16)),
            ("GET / HTTP/1.1\r\nA: b\r\n", None),
        ] {
            let head = head.as_bytes();
            let mut found = None;
            for have in 1..=head.len() {
                found = found.or_else(|| end_of_head(&head[..have], have - 1));
            }
            assert_eq!(found, end);
            assert_eq!(end_of_head(head, 0), end);
        }
    }

    #[test]
    fn the_answer_without_tls_has_the_length_that_it_tells() {
        let text = std::str::from_utf8(NOT_TLS_ANSWER).unwrap();
        let (_, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(text.contains(&format!("Content-Length: {}\r\n", body.len())));
    }
}
