//! Where clients are accepted: `127.0.0.1:1883`, `tls://0.0.0.0:8883`, `unix:/run/ringmq.sock`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::suggest::nearest;

/// What MQTT is wrapped in on a port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wrapping {
    /// Nothing.
    #[default]
    Plain,
    /// TLS.
    Tls,
    /// WebSocket.
    WebSocket,
    /// WebSocket in TLS.
    WebSocketTls,
}

impl Wrapping {
    /// Whether there is TLS in it.
    pub fn has_tls(self) -> bool {
        match self {
            Self::Tls | Self::WebSocketTls => true,
            Self::Plain | Self::WebSocket => false,
        }
    }

    /// Whether there is WebSocket in it.
    pub fn has_websocket(self) -> bool {
        match self {
            Self::WebSocket | Self::WebSocketTls => true,
            Self::Plain | Self::Tls => false,
        }
    }

    /// The scheme that stands for it.
    fn scheme(self) -> &'static str {
        match self {
            Self::Plain => "mqtt",
            Self::Tls => "tls",
            Self::WebSocket => "ws",
            Self::WebSocketTls => "wss",
        }
    }

    /// The port that is usual for it.
    fn usual_port(self) -> u16 {
        match self {
            Self::Plain => 1883,
            Self::Tls => 8883,
            Self::WebSocket => 8080,
            Self::WebSocketTls => 8443,
        }
    }

    /// The same with TLS.
    fn with_tls(self) -> Self {
        match self {
            Self::Plain | Self::Tls => Self::Tls,
            Self::WebSocket | Self::WebSocketTls => Self::WebSocketTls,
        }
    }
}

/// Where clients are accepted, and what MQTT is wrapped in there.
///
/// It is read from, and shown as, what stands in a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    /// A TCP port; port 0 takes a free one.
    Port(Wrapping, SocketAddr),
    /// A Unix socket, without any wrapping.
    Unix(PathBuf),
}

/// The schemes that may be written, and what they stand for.
const SCHEMES: &[(&str, Wrapping)] = &[
    ("mqtt", Wrapping::Plain),
    ("tcp", Wrapping::Plain),
    ("tls", Wrapping::Tls),
    ("mqtts", Wrapping::Tls),
    ("ws", Wrapping::WebSocket),
    ("wss", Wrapping::WebSocketTls),
];

/// Schemes that others use, and what they mean by them.
const FOREIGN_SCHEMES: &[(&str, &str)] = &[
    ("ssl", "tls"),
    ("tcps", "tls"),
    ("http", "ws"),
    ("websocket", "ws"),
    ("https", "wss"),
    ("file", "unix"),
    ("socket", "unix"),
];

/// Bytes of a path that the kernel takes for a socket, besides the zero behind it.
const UNIX_PATH_BYTES_MAX: usize = 107;

impl ListenAddress {
    /// The port, of an address that is one.
    pub fn port(&self) -> Option<SocketAddr> {
        match self {
            Self::Port(_, address) => Some(*address),
            Self::Unix(_) => None,
        }
    }

    /// What MQTT is wrapped in there.
    pub fn wrapping(&self) -> Wrapping {
        match self {
            Self::Port(wrapping, _) => *wrapping,
            Self::Unix(_) => Wrapping::Plain,
        }
    }

    /// Whether only processes of this machine reach it.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Port(_, address) => address.ip().is_loopback(),
            Self::Unix(_) => true,
        }
    }

    /// Whether both cannot be listened on.
    pub(super) fn collides(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Port(_, one), Self::Port(_, two)) => one == two && one.port() != 0,
            (Self::Unix(one), Self::Unix(two)) => one == two,
            (Self::Port(..), Self::Unix(_)) | (Self::Unix(_), Self::Port(..)) => false,
        }
    }

    /// The same port with TLS, to propose it.
    pub(super) fn with_tls(&self) -> Option<Self> {
        match self {
            Self::Port(wrapping, address) => Some(Self::Port(wrapping.with_tls(), *address)),
            Self::Unix(_) => None,
        }
    }

    /// Reads an address, or says what to write instead.
    pub(super) fn read(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            // `unix:///run/x` is a way to write a URL.
            let path = path.strip_prefix("//").unwrap_or(path);
            return unix(path);
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            if text.starts_with(['/', '.']) {
                return Err(format!("did you mean \"unix:{text}\"?"));
            }
            return port(Wrapping::Plain, text, "");
        };
        match SCHEMES.iter().find(|(name, _)| *name == scheme.to_ascii_lowercase()) {
            Some((_, wrapping)) => port(*wrapping, rest, scheme),
            None => Err(match meant(scheme) {
                Some("unix") => format!("did you mean \"unix:{rest}\"?"),
                Some(scheme) => format!("did you mean \"{scheme}://{rest}\"?"),
                None => format!("write {EXPECTS}"),
            }),
        }
    }
}

/// What to write, for messages.
pub(super) const EXPECTS: &str = "an IP address and a port, such as \"127.0.0.1:1883\" or \"[::1]:1883\", with \
                                  tls://, ws:// or wss:// before it for TLS and WebSocket, or a socket's path, \
                                  such as \"unix:/run/ringmq.sock\"";

/// The scheme that was meant by one that there is not.
fn meant(scheme: &str) -> Option<&'static str> {
    let foreign = FOREIGN_SCHEMES.iter().find(|(name, _)| *name == scheme.to_ascii_lowercase());
    let known = SCHEMES.iter().map(|(name, _)| *name).chain(["unix"]);
    foreign.map(|(_, meant)| *meant).or_else(|| nearest(scheme, known))
}

fn unix(path: &str) -> Result<ListenAddress, String> {
    if path.is_empty() || path.contains('\0') {
        return Err("write the socket's path behind it, such as \"unix:/run/ringmq.sock\"".to_owned());
    }
    if path.len() > UNIX_PATH_BYTES_MAX {
        return Err(format!(
            "a socket's path has {UNIX_PATH_BYTES_MAX} bytes at most and this one {}: write a shorter one, such as \
             \"unix:/run/ringmq.sock\"",
            path.len()
        ));
    }
    Ok(ListenAddress::Unix(Path::new(path).to_owned()))
}

fn port(wrapping: Wrapping, text: &str, scheme: &str) -> Result<ListenAddress, String> {
    if let Ok(address) = text.parse() {
        return Ok(ListenAddress::Port(wrapping, address));
    }
    let before = if scheme.is_empty() { String::new() } else { format!("{scheme}://") };
    // A path behind the port, or no port at all: what is left of it makes a proposal.
    let host = text.split('/').next().unwrap_or(text);
    if host.parse::<SocketAddr>().is_ok() {
        return Err(format!("every path is served: write \"{before}{host}\""));
    }
    let ip = host.trim_matches(['[', ']']).parse::<IpAddr>();
    let proposed = match ip {
        Ok(ip) => SocketAddr::new(ip, wrapping.usual_port()),
        Err(_) if host == "localhost" => SocketAddr::from((Ipv4Addr::LOCALHOST, wrapping.usual_port())),
        Err(_) => return Err(format!("write {EXPECTS}")),
    };
    Err(format!("write an IP address and a port, such as \"{before}{proposed}\""))
}

impl From<SocketAddr> for ListenAddress {
    fn from(address: SocketAddr) -> Self {
        Self::Port(Wrapping::Plain, address)
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port(Wrapping::Plain, address) => address.fmt(f),
            Self::Port(wrapping, address) => write!(f, "{}://{address}", wrapping.scheme()),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// A text is no address to listen on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text} is no address to listen on: {remedy}")]
pub struct AddressError {
    text: String,
    remedy: String,
}

impl FromStr for ListenAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        Self::read(text).map_err(|remedy| AddressError { text: text.to_owned(), remedy })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_shown() {
        let table = [
            ("127.0.0.1:1883", "127.0.0.1:1883"),
            ("mqtt://[::1]:0", "[::1]:0"),
            ("TCP://0.0.0.0:1", "0.0.0.0:1"),
            ("tls://0.0.0.0:8883", "tls://0.0.0.0:8883"),
            ("mqtts://0.0.0.0:8883", "tls://0.0.0.0:8883"),
            ("ws://[::]:8080", "ws://[::]:8080"),
            ("wss://[::]:8443", "wss://[::]:8443"),
            ("unix:/run/a b.sock", "unix:/run/a b.sock"),
            ("unix:///run/x.sock", "unix:/run/x.sock"),
            ("unix:here.sock", "unix:here.sock"),
        ];
        for (text, shown) in table {
            let address: ListenAddress = text.parse().unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(address.to_string(), shown);
            assert_eq!(shown.parse(), Ok(address));
        }
    }

    #[test]
    fn what_is_no_address_is_answered_with_what_to_write() {
        let anything = format!("write {EXPECTS}");
        let long = format!("unix:/{}", "x".repeat(107));
        let table = [
            ("", anything.as_str()),
            ("1883", &anything),
            ("gopher://127.0.0.1:1", &anything),
            ("broker.example:1883", &anything),
            ("tls://127.0.0.1:99999", &anything),
            ("mqqt://127.0.0.1:1", "did you mean \"mqtt://127.0.0.1:1\"?"),
            ("ssl://[::]:8883", "did you mean \"tls://[::]:8883\"?"),
            ("https://[::]:443", "did you mean \"wss://[::]:443\"?"),
            ("file:///run/x", "did you mean \"unix:/run/x\"?"),
            ("/run/x", "did you mean \"unix:/run/x\"?"),
            ("localhost", "write an IP address and a port, such as \"127.0.0.1:1883\""),
            ("tls://0.0.0.0", "write an IP address and a port, such as \"tls://0.0.0.0:8883\""),
            ("wss://[::]", "write an IP address and a port, such as \"wss://[::]:8443\""),
            ("ws://0.0.0.0:80/mqtt", "every path is served: write \"ws://0.0.0.0:80\""),
            ("unix:", "write the socket's path behind it, such as \"unix:/run/ringmq.sock\""),
            (
                long.as_str(),
                "a socket's path has 107 bytes at most and this one 108: write a shorter one, such as \
                 \"unix:/run/ringmq.sock\"",
            ),
        ];
        for (text, remedy) in table {
            assert_eq!(ListenAddress::read(text), Err(remedy.to_owned()), "{text}");
        }
    }

    #[test]
    fn what_collides_cannot_both_be_listened_on() {
        let table = [
            ("127.0.0.1:1", "127.0.0.1:1", true),
            ("127.0.0.1:1", "tls://127.0.0.1:1", true),
            ("127.0.0.1:0", "ws://127.0.0.1:0", false),
            ("127.0.0.1:1", "127.0.0.1:2", false),
            ("unix:/run/x", "unix:/run//x", true),
            ("unix:/run/x", "unix:/run/y", false),
            ("unix:/run/x", "127.0.0.1:1", false),
        ];
        for (one, two, expect) in table {
            let read = |text: &str| ListenAddress::read(text).unwrap();
            assert_eq!(read(one).collides(&read(two)), expect, "{one} {two}");
        }
    }
}
