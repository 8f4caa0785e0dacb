//! Addresses of brokers, as a program writes them.

use std::net::Ipv6Addr;
use std::path::PathBuf;

use ringmq_shards::{PeerAddress, WebSocketPath};

use crate::error::Error;

/// A scheme: its name, whether it speaks TLS, whether it speaks WebSocket, and its port.
struct Scheme {
    name: &'static str,
    tls: bool,
    websocket: bool,
    port: u16,
}

const SCHEMES: &[Scheme] = &[
    Scheme { name: "mqtt", tls: false, websocket: false, port: 1883 },
    Scheme { name: "tcp", tls: false, websocket: false, port: 1883 },
    Scheme { name: "mqtts", tls: true, websocket: false, port: 8883 },
    Scheme { name: "tls", tls: true, websocket: false, port: 8883 },
    Scheme { name: "ssl", tls: true, websocket: false, port: 8883 },
    Scheme { name: "ws", tls: false, websocket: true, port: 80 },
    Scheme { name: "wss", tls: true, websocket: true, port: 443 },
];

/// What is asked for where a WebSocket address names no path.
const PATH_DEFAULT: &str = "/mqtt";

/// Where a broker listens, and how to speak to it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Address {
    Host { host: Box<str>, port: u16, tls: bool, path: Option<Box<str>> },
    Unix(PathBuf),
}

impl Address {
    /// Reads an address. What is wrong with it is told with what to write instead.
    pub fn parse(given: &str) -> Result<Self, Error> {
        parse(given).map_err(|remedy| Error::Invalid { what: "the address", given: given.to_owned(), remedy })
    }

    pub fn speaks_tls(&self) -> bool {
        match self {
            Self::Host { tls, .. } => *tls,
            Self::Unix(_) => false,
        }
    }

    /// The runtime's words for it.
    pub fn peer(&self) -> (PeerAddress, Option<WebSocketPath>) {
        match self {
            Self::Host { host, port, path, .. } => {
                let path = path.clone().map(|path| WebSocketPath { path });
                (PeerAddress::Tcp { host: host.clone(), port: *port }, path)
            }
            Self::Unix(path) => (PeerAddress::Unix(path.clone()), None),
        }
    }
}

fn parse(given: &str) -> Result<Address, String> {
    if let Some(path) = given.strip_prefix("unix:") {
        let path = path.strip_prefix("//").unwrap_or(path);
        if !path.starts_with('/') || path.len() < 2 {
            return Err("write the socket's whole path, as in unix:/run/mqtt.sock".to_owned());
        }
        return Ok(Address::Unix(PathBuf::from(path)));
    }
    let Some((scheme, rest)) = given.split_once("://") else {
        return Err(match given {
            "" => "write a scheme and a host, as in mqtt://127.0.0.1:1883".to_owned(),
            given => format!("put a scheme before it, as in mqtt://{given}"),
        });
    };
    let lower = scheme.to_ascii_lowercase();
    let Some(scheme) = SCHEMES.iter().find(|known| known.name == lower) else {
        return Err(unknown_scheme(&lower));
    };
    let (authority, path) = match rest.find('/') {
        Some(slash) => (&rest[..slash], Some(&rest[slash..])),
        None => (rest, None),
    };
    if authority.contains('@') {
        return Err("give user and password to the builder, with user() and password()".to_owned());
    }
    let path = match (scheme.websocket, path) {
        (true, path) => Some(Box::from(path.unwrap_or(PATH_DEFAULT))),
        (false, None | Some("/")) => None,
        (false, Some(_)) => return Err("drop the path: only ws:// and wss:// have one".to_owned()),
    };
    if path.as_deref().is_some_and(|path: &str| path.contains(|c: char| c.is_control() || c == ' ')) {
        return Err("write the path without spaces: %20 stands for one".to_owned());
    }
    let (host, port) = host_and_port(authority, scheme)?;
    Ok(Address::Host { host, port, tls: scheme.tls, path })
}

fn host_and_port(authority: &str, scheme: &Scheme) -> Result<(Box<str>, u16), String> {
    let example = |host: &str| format!("{}://{host}:{}", scheme.name, scheme.port);
    let (host, port) = if let Some(rest) = authority.strip_prefix('[') {
        let Some((host, port)) = rest.split_once(']') else {
            return Err(format!("close the bracket around the IPv6 address, as in {}", example("[::1]")));
        };
        if host.parse::<Ipv6Addr>().is_err() {
            return Err(format!("put an IPv6 address into the brackets, as in {}", example("[::1]")));
        }
        match (port, port.strip_prefix(':')) {
            ("", _) => (host, None),
            (_, Some(port)) => (host, Some(port)),
            (_, None) => {
                return Err(format!("only a port may follow the bracket, as in {}", example("[::1]")));
            }
        }
    } else {
        match authority.split_once(':') {
            Some((_, port)) if port.contains(':') => {
                return Err(format!("put brackets around an IPv6 address, as in {}", example("[::1]")));
            }
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        }
    };
    if host.is_empty() {
        return Err(format!("write the host, as in {}", example("127.0.0.1")));
    }
    if host.contains(|c: char| c.is_whitespace() || c.is_control() || "?#%\\\"<>".contains(c)) {
        return Err(format!("write a host name or an IP address, as in {}", example("127.0.0.1")));
    }
    let port = match port {
        None => scheme.port,
        Some(port) => match port.parse() {
            Ok(0) | Err(_) => {
                return Err(format!("write a port from 1 to 65535, or none for {}", scheme.port));
            }
            Ok(port) => port,
        },
    };
    Ok((Box::from(host), port))
}

fn unknown_scheme(given: &str) -> String {
    let known = "mqtt://, mqtts://, ws://, wss:// or unix:";
    let near = SCHEMES.iter().map(|scheme| (distance(given, scheme.name), scheme.name)).min();
    let is_near = |name: &str| given.len() > 2 && given.as_bytes()[0] == name.as_bytes()[0];
    match near {
        Some((changes, name)) if changes == 1 || changes == 2 && is_near(name) => {
            format!("did you mean {name}://? One of {known} must come first")
        }
        Some(_) | None => format!("one of {known} must come first"),
    }
}

/// How many letters must change, come or go to make one of the other.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(host: &str, port: u16, tls: bool, path: Option<&str>) -> Address {
        Address::Host { host: host.into(), port, tls, path: path.map(Box::from) }
    }

    #[test]
    fn addresses_are_read() {
        let table = [
            ("mqtt://h", host("h", 1883, false, None)),
            ("tcp://h", host("h", 1883, false, None)),
            ("MQTT://h:1", host("h", 1, false, None)),
            ("mqtt://h/", host("h", 1883, false, None)),
            ("mqtts://a.example", host("a.example", 8883, true, None)),
            ("tls://10.0.0.1:65535", host("10.0.0.1", 65535, true, None)),
            ("ssl://h", host("h", 8883, true, None)),
            ("mqtt://[::1]", host("::1", 1883, false, None)),
            ("mqtt://[fe80::1]:99", host("fe80::1", 99, false, None)),
            ("ws://h", host("h", 80, false, Some("/mqtt"))),
            ("ws://h/", host("h", 80, false, Some("/"))),
            ("wss://h/a/b?c=d", host("h", 443, true, Some("/a/b?c=d"))),
            ("wss://[::1]:9001/x", host("::1", 9001, true, Some("/x"))),
            ("unix:/run/m.sock", Address::Unix("/run/m.sock".into())),
            ("unix:///run/m.sock", Address::Unix("/run/m.sock".into())),
        ];
        for (given, expect) in table {
            assert_eq!(Address::parse(given).unwrap(), expect, "{given}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_what_to_write() {
        let table = [
            ("", "mqtt://127.0.0.1:1883"),
            ("localhost:1883", "mqtt://localhost:1883"),
            ("mqt://h", "did you mean mqtt://?"),
            ("mqttss://h", "did you mean mqtts://?"),
            ("wsss://h", "did you mean wss://?"),
            ("http://h", "one of mqtt://, mqtts://, ws://, wss:// or unix: must come first"),
            ("mqtt://", "write the host"),
            ("mqtt://:1883", "write the host"),
            ("ws:///mqtt", "write the host"),
            ("mqtt://h:", "write a port from 1 to 65535, or none for 1883"),
            ("mqtt://h:0", "write a port"),
            ("mqtts://h:65536", "or none for 8883"),
            ("mqtt://h:x", "write a port"),
            ("mqtt://h/path", "only ws:// and wss:// have one"),
            ("mqtt://u:p@h", "user() and password()"),
            ("mqtt://::1", "brackets"),
            ("mqtt://[::1", "close the bracket"),
            ("mqtt://[::1]9", "only a port may follow"),
            ("mqtt://[h]:9", "put an IPv6 address"),
            ("mqtt://a b", "host name"),
            ("ws://h/a b", "%20"),
            ("unix:", "unix:/run/mqtt.sock"),
            ("unix:relative", "whole path"),
        ];
        for (given, expect) in table {
            let error = Address::parse(given).unwrap_err().to_string();
            assert!(error.contains(expect), "{given}: {error}");
            assert!(error.contains("the address"), "{error}");
        }
    }
}
