//! CONNECT, MQTT 5 section 3.1.

use crate::frame::{Frame, PacketType};
use crate::wire::{Reader, put_binary, put_properties, put_string, put_u16, put_with_length};
use crate::{ConnectProperties, DecodeError, QoS, Version, Will};

const USERNAME: u8 = 0x80;
const PASSWORD: u8 = 0x40;
const WILL_RETAIN: u8 = 0x20;
const WILL_QOS_SHIFT: u8 = 3;
const WILL: u8 = 0x04;
const CLEAN_START: u8 = 0x02;
const RESERVED: u8 = 0x01;

/// A client's first packet [MQTT-3.1.0-1].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connect<'a> {
    /// The version that the client speaks, by Protocol Name and Level [MQTT-3.1.2-1].
    pub version: Version,
    /// Clean Start [MQTT-3.1.2-4]; in 3.x Clean Session, which also ends the session with the
    /// connection.
    pub clean_start: bool,
    /// Keep Alive in seconds, 0 for none [MQTT-3.1.2-22].
    pub keep_alive_s: u16,
    /// The Client Identifier; empty if the server is to choose one [MQTT-3.1.3-6]. 3.1's limit of 23
    /// characters is not enforced, as servers commonly do not.
    pub client_id: &'a str,
    /// The Will Message [MQTT-3.1.2-9].
    pub will: Option<Will<'a>>,
    /// The User Name [MQTT-3.1.3-12].
    pub username: Option<&'a str>,
    /// The Password: bytes, not text (section 3.1.3.6).
    pub password: Option<&'a [u8]>,
    /// MQTT 5's properties; the defaults in 3.x.
    pub properties: ConnectProperties<'a>,
}

/// The Connect Flags, section 3.1.2.3, checked against one another.
struct Flags {
    bits: u8,
    will_qos: QoS,
}

impl Flags {
    fn decode(version: Version, bits: u8) -> Result<Self, DecodeError> {
        // 3.1 calls the bit unused rather than reserved. No client is known to set it.
        if bits & RESERVED != 0 {
            return Err(DecodeError::ConnectFlagReserved);
        }
        let will_qos =
            QoS::try_from(bits >> WILL_QOS_SHIFT & 3).map_err(|_| DecodeError::WillFlagsInvalid)?;
        let will_options = bits & WILL_RETAIN != 0 || will_qos != QoS::AtMostOnce;
        if bits & WILL == 0 && will_options {
            return Err(DecodeError::WillFlagsInvalid);
        }
        if !version.is_v5() && bits & PASSWORD != 0 && bits & USERNAME == 0 {
            return Err(DecodeError::PasswordWithoutUserName);
        }
        Ok(Self { bits, will_qos })
    }

    const fn has(&self, bit: u8) -> bool {
        self.bits & bit != 0
    }
}

impl<'a> Connect<'a> {
    /// A CONNECT with a clean start, no keep alive, no will and no credentials.
    #[must_use]
    pub fn new(version: Version, client_id: &'a str) -> Self {
        Self {
            version,
            clean_start: true,
            keep_alive_s: 0,
            client_id,
            will: None,
            username: None,
            password: None,
            properties: ConnectProperties::default(),
        }
    }

    /// Reads a CONNECT of any version: the packet itself says which [MQTT-3.1.4-1].
    pub fn decode(frame: &Frame<'a>) -> Result<Self, DecodeError> {
        debug_assert_eq!(frame.packet_type(), Ok(PacketType::Connect));
        frame.expect_flags(0)?;
        let mut reader = Reader::new(frame.body);
        let version = decode_version(&mut reader)?;
        let flags = Flags::decode(version, reader.u8()?)?;
        let clean_start = flags.has(CLEAN_START);
        let keep_alive_s = reader.u16()?;
        let properties = ConnectProperties::decode(reader.properties(version)?)?;
        // The order of these fields is [MQTT-3.1.3-1].
        let client_id = decode_client_id(version, clean_start, &mut reader)?;
        let will = if flags.has(WILL) {
            let retain = flags.has(WILL_RETAIN);
            Some(Will { qos: flags.will_qos, retain, ..Will::decode(version, &mut reader)? })
        } else {
            None
        };
        // In 3.1 the Remaining Length wins over these flags: "the User Name string is missing. This
        // is valid" (its section 3.1).
        let may_lack = version == Version::V31;
        let username = if flags.has(USERNAME) && !(may_lack && reader.is_empty()) {
            Some(reader.string()?)
        } else {
            None
        };
        let password = if flags.has(PASSWORD) && !(may_lack && reader.is_empty()) {
            Some(reader.binary()?)
        } else {
            None
        };
        reader.finish()?;
        Ok(Self { version, clean_start, keep_alive_s, client_id, will, username, password, properties })
    }

    fn flags(&self) -> u8 {
        let mut flags = 0;
        if self.clean_start {
            flags |= CLEAN_START;
        }
        if let Some(will) = &self.will {
            flags |= WILL | (will.qos as u8) << WILL_QOS_SHIFT;
            if will.retain {
                flags |= WILL_RETAIN;
            }
        }
        if self.username.is_some() {
            flags |= USERNAME;
        }
        if self.password.is_some() {
            flags |= PASSWORD;
        }
        flags
    }

    /// Appends the packet, in the version that it names. Panics if a field is over 65,535 bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(PacketType::Connect.first());
        put_with_length(0, out, |out| {
            put_string(self.version.protocol_name(), out);
            out.push(self.version.level());
            out.push(self.flags());
            put_u16(self.keep_alive_s, out);
            put_properties(self.version, out, |out| self.properties.encode(out));
            put_string(self.client_id, out);
            if let Some(will) = &self.will {
                will.encode(self.version, out);
            }
            if let Some(username) = self.username {
                put_string(username, out);
            }
            if let Some(password) = self.password {
                put_binary(password, out);
            }
        });
    }
}

/// The Protocol Name and Level, which must go together [MQTT-3.1.2-1], [MQTT-3.1.2-2].
fn decode_version(reader: &mut Reader<'_>) -> Result<Version, DecodeError> {
    let name = reader.binary()?;
    let level = reader.u8()?;
    match (name, level) {
        (b"MQTT", 5) => Ok(Version::V5),
        (b"MQTT", 4) => Ok(Version::V311),
        (b"MQIsdp", 3) => Ok(Version::V31),
        _ => {
            let name_known = matches!(name, b"MQTT" | b"MQIsdp");
            Err(DecodeError::UnsupportedProtocolVersion { name_known, level })
        }
    }
}

/// The Client Identifier, empty only where the server may choose one: always in MQTT 5
/// [MQTT-3.1.3-6], with Clean Session in 3.1.1 (its [MQTT-3.1.3-7]), never in 3.1.
fn decode_client_id<'a>(
    version: Version,
    clean_start: bool,
    reader: &mut Reader<'a>,
) -> Result<&'a str, DecodeError> {
    let client_id = reader.string()?;
    let may_be_empty = match version {
        Version::V31 => false,
        Version::V311 => clean_start,
        Version::V5 => true,
    };
    if client_id.is_empty() && !may_be_empty {
        return Err(DecodeError::ClientIdEmpty);
    }
    Ok(client_id)
}
