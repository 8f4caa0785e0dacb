//! A client's packets, from their notation to bytes. By hand, so that what the broker reads was not
//! written by the code that reads it.

use ringmq_codec::Version;

/// The bytes of one packet: its name and what it holds, say `PUBLISH a/b q1 #7 retain = hello`. Or bytes
/// as they are: `hex c0 00` all of them, `packet c0` without the length.
pub(crate) fn encode(version: Version, text: &str) -> Vec<u8> {
    let (head, payload) = match text.split_once(" = ") {
        Some((head, payload)) => (head, repeated(payload)),
        None => (text, Vec::new()),
    };
    let (name, words) = head.split_once(' ').unwrap_or((head, ""));
    match name {
        "CONNECT" => connect(words),
        "PUBLISH" => publish(version, words, &payload),
        "PUBACK" => ack(0x40, version, words),
        "PUBREC" => ack(0x50, version, words),
        "PUBREL" => ack(0x62, version, words),
        "PUBCOMP" => ack(0x70, version, words),
        "SUBSCRIBE" => subscribe(version, words),
        "UNSUBSCRIBE" => unsubscribe(version, words),
        "PINGREQ" => vec![0xC0, 0],
        "DISCONNECT" => reason_and_properties(0xE0, version, words),
        "AUTH" => reason_and_properties(0xF0, version, words),
        "hex" => hex(words),
        "packet" => {
            let bytes = hex(words);
            packet(bytes[0], &bytes[1..])
        }
        _ => panic!("no packet is called {name}"),
    }
}

/// `x*5000` stands for five thousand of them.
fn repeated(payload: &str) -> Vec<u8> {
    match payload.split_once('*').map(|(what, times)| (what, times.parse())) {
        Some((what, Ok(times))) if what.len() == 1 => what.repeat(times).into_bytes(),
        _ => payload.into(),
    }
}

/// Bytes as they are: two digits each, `'text'` for the bytes of a text, `"text"` with its length before;
/// a version is the one that answers are read in.
fn hex(words: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for word in words.split_whitespace().filter(|word| version_of(word).is_none()) {
        if let Some(text) = word.strip_prefix('\'') {
            bytes.extend_from_slice(text.strip_suffix('\'').expect("a closing quote").as_bytes());
        } else if let Some(text) = word.strip_prefix('"') {
            put_string(text.strip_suffix('"').expect("a closing quote").as_bytes(), &mut bytes);
        } else {
            bytes.push(u8::from_str_radix(word, 16).expect("two hex digits"));
        }
    }
    bytes
}

fn number<N: std::str::FromStr>(text: &str) -> N {
    text.parse().unwrap_or_else(|_| panic!("{text} is not a number, or too large"))
}

/// `0x1f`
fn byte(text: &str) -> Option<u8> {
    text.strip_prefix("0x").map(|digits| u8::from_str_radix(digits, 16).expect("two hex digits"))
}

fn put_varint(mut value: usize, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn put_string(text: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&(text.len() as u16).to_be_bytes());
    out.extend_from_slice(text);
}

/// A packet from its first byte and all behind its length.
fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![first];
    put_varint(body.len(), &mut packet);
    packet.extend_from_slice(body);
    packet
}

fn put_properties(version: Version, properties: &[u8], out: &mut Vec<u8>) {
    if version == Version::V5 {
        put_varint(properties.len(), out);
        out.extend_from_slice(properties);
    } else {
        assert!(properties.is_empty(), "MQTT {version} has no properties");
    }
}

/// Appends the property of this short name. False if there is none of that name.
fn put_property(name: &str, value: &str, out: &mut Vec<u8>) -> bool {
    let mut put = |id: u8, bytes: &[u8]| {
        out.push(id);
        out.extend_from_slice(bytes);
    };
    match name {
        "pfi" => put(1, &[number(value)]),
        "expiry" => put(2, &number::<u32>(value).to_be_bytes()),
        "session-expiry" => put(17, &number::<u32>(value).to_be_bytes()),
        "problems" => put(23, &[number(value)]),
        "responses" => put(25, &[number(value)]),
        "will-delay" => put(24, &number::<u32>(value).to_be_bytes()),
        "rmax" => put(33, &number::<u16>(value).to_be_bytes()),
        "amax" => put(34, &number::<u16>(value).to_be_bytes()),
        "alias" => put(35, &number::<u16>(value).to_be_bytes()),
        "pmax" => put(39, &number::<u32>(value).to_be_bytes()),
        "sub" => {
            out.push(11);
            put_varint(number(value), out);
        }
        "ct" | "rt" | "cd" | "auth" | "data" | "why" => {
            out.push(match name {
                "ct" => 3,
                "rt" => 8,
                "cd" => 9,
                "auth" => 21,
                "data" => 22,
                _ => 31,
            });
            put_string(value.as_bytes(), out);
        }
        "prop" => {
            let (name, value) = value.split_once(':').expect("a user property is name:value");
            out.push(38);
            put_string(name.as_bytes(), out);
            put_string(value.as_bytes(), out);
        }
        _ => return false,
    }
    true
}

/// The CONNECT of some words.
struct Connect<'a> {
    version: Version,
    flags: u8,
    keep_alive_s: u16,
    id: &'a str,
    properties: Vec<u8>,
    will: Option<(&'a str, &'a str)>,
    will_properties: Vec<u8>,
    user: Option<&'a str>,
    password: Option<&'a str>,
}

/// The version that a CONNECT asks for.
pub(crate) fn version_of(word: &str) -> Option<Version> {
    match word {
        "v31" => Some(Version::V31),
        "v311" => Some(Version::V311),
        "v5" => Some(Version::V5),
        _ => None,
    }
}

fn connect(words: &str) -> Vec<u8> {
    let mut connect = Connect {
        version: Version::V5,
        flags: 0,
        keep_alive_s: 0,
        id: "",
        properties: Vec::new(),
        will: None,
        will_properties: Vec::new(),
        user: None,
        password: None,
    };
    for word in words.split_whitespace() {
        connect.take(word);
    }
    connect.encode()
}

impl<'a> Connect<'a> {
    fn take(&mut self, word: &'a str) {
        if let Some(version) = version_of(word) {
            self.version = version;
            return;
        }
        match word.split_once('=').unwrap_or((word, "")) {
            ("clean", "") => self.flags |= 0x02,
            ("id", id) => self.id = id,
            ("keep", seconds) => self.keep_alive_s = number(seconds),
            ("user", user) => self.user = Some(user),
            ("pass", password) => self.password = Some(password),
            ("expiry", value) => _ = put_property("session-expiry", value, &mut self.properties),
            ("will", will) => self.will = will.split_once(':'),
            ("will.q1", "") => self.flags |= 1 << 3,
            ("will.q2", "") => self.flags |= 2 << 3,
            ("will.retain", "") => self.flags |= 0x20,
            ("will.delay", value) => _ = put_property("will-delay", value, &mut self.will_properties),
            (name, value) => {
                let known = match name.strip_prefix("will.") {
                    Some(name) => put_property(name, value, &mut self.will_properties),
                    None => put_property(name, value, &mut self.properties),
                };
                assert!(known, "{word} is not part of a CONNECT");
            }
        }
    }

    fn encode(self) -> Vec<u8> {
        let (name, level) = match self.version {
            Version::V31 => ("MQIsdp", 3),
            Version::V311 => ("MQTT", 4),
            Version::V5 => ("MQTT", 5),
        };
        let mut flags = self.flags;
        flags |= if self.will.is_some() { 0x04 } else { 0 };
        flags |= if self.user.is_some() { 0x80 } else { 0 };
        flags |= if self.password.is_some() { 0x40 } else { 0 };
        let mut body = Vec::new();
        put_string(name.as_bytes(), &mut body);
        body.extend_from_slice(&[level, flags]);
        body.extend_from_slice(&self.keep_alive_s.to_be_bytes());
        put_properties(self.version, &self.properties, &mut body);
        put_string(self.id.as_bytes(), &mut body);
        if let Some((topic, payload)) = self.will {
            put_properties(self.version, &self.will_properties, &mut body);
            put_string(topic.as_bytes(), &mut body);
            put_string(payload.as_bytes(), &mut body);
        }
        for text in [self.user, self.password].into_iter().flatten() {
            put_string(text.as_bytes(), &mut body);
        }
        packet(0x10, &body)
    }
}

/// A packet identifier, `#7`.
fn packet_id(word: &str) -> Option<[u8; 2]> {
    let digits = word.strip_prefix('#').filter(|id| id.starts_with(|first: char| first.is_ascii_digit()))?;
    Some(number::<u16>(digits).to_be_bytes())
}

fn publish(version: Version, words: &str, payload: &[u8]) -> Vec<u8> {
    let mut words = words.split_whitespace();
    let topic = words.next().expect("a PUBLISH has a topic, or - for none");
    let (mut first, mut id, mut properties) = (0x30, None, Vec::new());
    for word in words {
        match word {
            "q1" => first |= 1 << 1,
            "q2" => first |= 2 << 1,
            "retain" => first |= 1,
            "dup" => first |= 8,
            _ if packet_id(word).is_some() => id = packet_id(word),
            _ => {
                let (name, value) = word.split_once('=').unwrap_or((word, ""));
                assert!(put_property(name, value, &mut properties), "{word} is not part of a PUBLISH");
            }
        }
    }
    let mut body = Vec::new();
    put_string(if topic == "-" { "" } else { topic }.as_bytes(), &mut body);
    body.extend(id.into_iter().flatten());
    put_properties(version, &properties, &mut body);
    body.extend_from_slice(payload);
    packet(first, &body)
}

fn ack(first: u8, version: Version, words: &str) -> Vec<u8> {
    let (mut body, mut properties) = (Vec::new(), Vec::new());
    for word in words.split_whitespace() {
        match (packet_id(word), byte(word), word.split_once('=')) {
            (Some(id), ..) => body.extend_from_slice(&id),
            (_, Some(reason), _) => body.push(reason),
            (_, _, Some((name, value))) if put_property(name, value, &mut properties) => {}
            _ => panic!("{word} is not part of an acknowledgement"),
        }
    }
    if !properties.is_empty() {
        put_properties(version, &properties, &mut body);
    }
    packet(first, &body)
}

fn reason_and_properties(first: u8, version: Version, words: &str) -> Vec<u8> {
    let (mut body, mut properties) = (Vec::new(), Vec::new());
    for word in words.split_whitespace() {
        if let Some(reason) = byte(word) {
            body.push(reason);
            continue;
        }
        let (name, value) = word.split_once('=').unwrap_or((word, ""));
        let name = if name == "expiry" { "session-expiry" } else { name };
        assert!(put_property(name, value, &mut properties), "{word} is not part of this packet");
    }
    if !properties.is_empty() {
        if body.is_empty() {
            body.push(0);
        }
        put_properties(version, &properties, &mut body);
    }
    packet(first, &body)
}

/// The words before the first filter: packet identifier and properties.
fn list_head<'a>(version: Version, words: &'a str, body: &mut Vec<u8>) -> &'a str {
    let mut properties = Vec::new();
    let mut rest = words;
    loop {
        let (word, after) = rest.split_once(' ').unwrap_or((rest, ""));
        if let Some(id) = packet_id(word) {
            body.extend_from_slice(&id);
        } else if let Some((name, value)) = word.split_once('=') {
            assert!(put_property(name, value, &mut properties), "{word} is no property");
        } else {
            put_properties(version, &properties, body);
            return rest;
        }
        rest = after;
    }
}

fn subscribe(version: Version, words: &str) -> Vec<u8> {
    let mut body = Vec::new();
    let filters = list_head(version, words, &mut body);
    for filter in filters.split(',').map(str::trim).filter(|filter| !filter.is_empty()) {
        let mut words = filter.split_whitespace();
        put_string(words.next().expect("a filter").as_bytes(), &mut body);
        body.push(words.fold(0, |options, word| {
            options
                | match word {
                    "q0" => 0x00,
                    "q1" => 0x01,
                    "q2" => 0x02,
                    "nl" => 0x04,
                    "rap" => 0x08,
                    "rh1" => 0x10,
                    "rh2" => 0x20,
                    _ => panic!("{word} is not a subscription option"),
                }
        }));
    }
    packet(0x82, &body)
}

fn unsubscribe(version: Version, words: &str) -> Vec<u8> {
    let mut body = Vec::new();
    let filters = list_head(version, words, &mut body);
    for filter in filters.split(',').map(str::trim).filter(|filter| !filter.is_empty()) {
        put_string(filter.as_bytes(), &mut body);
    }
    packet(0xA2, &body)
}
