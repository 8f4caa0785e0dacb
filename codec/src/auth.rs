//! AUTH, MQTT 5 section 3.15.

use crate::frame::{Frame, PacketType};
use crate::wire::{Reader, put_properties, put_with_length};
use crate::{DecodeError, Properties, Property, PropertyScope, ReasonCode, UserProperties, Version};

/// MQTT 5 table 3-11 [MQTT-3.15.2-1].
const REASONS: &[ReasonCode] =
    &[ReasonCode::Success, ReasonCode::ContinueAuthentication, ReasonCode::ReAuthenticate];

/// A step of extended authentication (section 4.12).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Auth<'a> {
    /// The Authenticate Reason Code.
    pub reason: ReasonCode,
    /// The Authentication Method, the same as CONNECT's [MQTT-4.12.0-5]. Absent only in the empty
    /// form, which says Success (section 3.15.2.1).
    pub method: Option<&'a str>,
    /// The Authentication Data.
    pub data: Option<&'a [u8]>,
    /// A diagnosis, for people to read [MQTT-3.15.2-2].
    pub reason_string: Option<&'a str>,
    /// User Properties [MQTT-3.15.2-3].
    pub user: UserProperties<'a>,
}

impl<'a> Auth<'a> {
    /// An AUTH with neither method nor data.
    #[must_use]
    pub const fn new(reason: ReasonCode) -> Self {
        Self { reason, method: None, data: None, reason_string: None, user: UserProperties::EMPTY }
    }

    /// Reads an AUTH. Before MQTT 5 its type is reserved.
    pub fn decode(version: Version, frame: &Frame<'a>) -> Result<Self, DecodeError> {
        debug_assert_eq!(frame.packet_type(), Ok(PacketType::Auth));
        if !version.is_v5() {
            return Err(DecodeError::PacketTypeReserved { packet_type: PacketType::Auth as u8 });
        }
        frame.expect_flags(0)?;
        let mut reader = Reader::new(frame.body);
        let mut auth = Self::new(ReasonCode::Success);
        if reader.is_empty() {
            return Ok(auth);
        }
        auth.reason = ReasonCode::decode(reader.u8()?, REASONS)?;
        auth.decode_properties(reader.properties(version)?)?;
        reader.finish()?;
        Ok(auth)
    }

    fn decode_properties(&mut self, raw: &'a [u8]) -> Result<(), DecodeError> {
        self.user = UserProperties::checked(raw);
        for property in Properties::new(raw, PropertyScope::Auth) {
            match property? {
                Property::AuthenticationMethod(value) => self.method = Some(value),
                Property::AuthenticationData(value) => self.data = Some(value),
                Property::ReasonString(value) => self.reason_string = Some(value),
                // Read from `raw` when asked for; others are not allowed here.
                _ => {}
            }
        }
        if self.method.is_none() {
            return Err(DecodeError::AuthenticationMethodMissing);
        }
        Ok(())
    }

    /// Appends the packet, the empty form if there is nothing to say. Panics before MQTT 5, and
    /// without a method where there is something to say.
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) {
        assert!(version.is_v5(), "AUTH in MQTT {version}");
        debug_assert!(REASONS.contains(&self.reason), "{} in AUTH", self.reason);
        out.push(PacketType::Auth.first());
        put_with_length(0, out, |out| {
            if *self == Self::new(ReasonCode::Success) {
                return;
            }
            assert!(self.method.is_some(), "section 3.15.2.2.2");
            out.push(self.reason as u8);
            put_properties(version, out, |out| self.encode_properties(out));
        });
    }

    fn encode_properties(&self, out: &mut Vec<u8>) {
        let properties = [
            self.method.map(Property::AuthenticationMethod),
            self.data.map(Property::AuthenticationData),
            self.reason_string.map(Property::ReasonString),
        ];
        for property in properties.iter().flatten() {
            property.encode(out);
        }
        self.user.encode(out);
    }
}
