//! CONNECT's properties, MQTT 5 section 3.1.2.11.

use std::num::{NonZeroU16, NonZeroU32};

use crate::{DecodeError, Properties, Property, PropertyScope, UserProperties};

/// What a client asks for with its connection. The default is what leaving everything out means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectProperties<'a> {
    /// Session Expiry Interval in seconds: how long the session outlives the connection; 0, the
    /// default, ends it with the connection, and `u32::MAX` keeps it for ever [MQTT-3.1.2-23].
    pub session_expiry_s: u32,
    /// Receive Maximum: how many QoS 1 and 2 messages the client takes before it has acknowledged
    /// them; 65,535 by default [MQTT-3.3.4-7].
    pub receive_maximum: NonZeroU16,
    /// Maximum Packet Size in bytes that the client takes; `None` for any [MQTT-3.1.2-24].
    pub packet_bytes_max: Option<NonZeroU32>,
    /// The highest Topic Alias that the client takes; 0, the default, for none [MQTT-3.1.2-27].
    pub topic_alias_maximum: u16,
    /// Whether the client wants Response Information; `false` by default [MQTT-3.1.2-28].
    pub request_response_information: bool,
    /// Whether reason strings and user properties may be on any packet; `true` by default
    /// [MQTT-3.1.2-29].
    pub request_problem_information: bool,
    /// Names a method of extended authentication (section 4.12).
    pub authentication_method: Option<&'a str>,
    /// What the method says first; only with a method (section 3.1.2.11.10).
    pub authentication_data: Option<&'a [u8]>,
    /// User Properties.
    pub user: UserProperties<'a>,
}

impl Default for ConnectProperties<'_> {
    fn default() -> Self {
        Self {
            session_expiry_s: 0,
            receive_maximum: NonZeroU16::MAX,
            packet_bytes_max: None,
            topic_alias_maximum: 0,
            request_response_information: false,
            request_problem_information: true,
            authentication_method: None,
            authentication_data: None,
            user: UserProperties::EMPTY,
        }
    }
}

impl<'a> ConnectProperties<'a> {
    pub(crate) fn decode(raw: &'a [u8]) -> Result<Self, DecodeError> {
        let mut properties = Self { user: UserProperties::checked(raw), ..Self::default() };
        for property in Properties::new(raw, PropertyScope::Connect) {
            match property? {
                Property::SessionExpiryInterval(value) => properties.session_expiry_s = value,
                Property::ReceiveMaximum(value) => properties.receive_maximum = value,
                Property::MaximumPacketSize(value) => properties.packet_bytes_max = Some(value),
                Property::TopicAliasMaximum(value) => properties.topic_alias_maximum = value,
                Property::RequestResponseInformation(value) => {
                    properties.request_response_information = value;
                }
                Property::RequestProblemInformation(value) => {
                    properties.request_problem_information = value;
                }
                Property::AuthenticationMethod(value) => {
                    properties.authentication_method = Some(value);
                }
                Property::AuthenticationData(value) => {
                    properties.authentication_data = Some(value);
                }
                // Read from `raw` when asked for; others are not allowed here.
                _ => {}
            }
        }
        if properties.authentication_data.is_some() && properties.authentication_method.is_none() {
            return Err(DecodeError::AuthenticationMethodMissing);
        }
        Ok(properties)
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let default = Self::default();
        if self.session_expiry_s != default.session_expiry_s {
            Property::SessionExpiryInterval(self.session_expiry_s).encode(out);
        }
        if self.receive_maximum != default.receive_maximum {
            Property::ReceiveMaximum(self.receive_maximum).encode(out);
        }
        if let Some(value) = self.packet_bytes_max {
            Property::MaximumPacketSize(value).encode(out);
        }
        if self.topic_alias_maximum != default.topic_alias_maximum {
            Property::TopicAliasMaximum(self.topic_alias_maximum).encode(out);
        }
        if self.request_response_information != default.request_response_information {
            Property::RequestResponseInformation(self.request_response_information).encode(out);
        }
        if self.request_problem_information != default.request_problem_information {
            Property::RequestProblemInformation(self.request_problem_information).encode(out);
        }
        if let Some(value) = self.authentication_method {
            Property::AuthenticationMethod(value).encode(out);
        }
        if let Some(value) = self.authentication_data {
            Property::AuthenticationData(value).encode(out);
        }
        self.user.encode(out);
    }
}
