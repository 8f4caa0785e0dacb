//! The Will Message, MQTT 5 sections 3.1.3.2 to 3.1.3.4.

use crate::properties::RawProperties;
use crate::wire::{Reader, put_binary, put_properties, put_string};
use crate::{
    DecodeError, Properties, Property, PropertyScope, QoS, UserProperties, Version, check_name, forwardable,
};

/// The message that a server publishes when a connection ends other than by DISCONNECT
/// [MQTT-3.1.2-9].
#[derive(Clone, Copy, Debug)]
pub struct Will<'a> {
    /// The Will Topic, a valid Topic Name [MQTT-3.1.3-11].
    pub topic: &'a str,
    /// The Will Payload.
    pub payload: &'a [u8],
    /// The Will QoS [MQTT-3.1.2-6].
    pub qos: QoS,
    /// Will Retain: whether to publish it as a retained message [MQTT-3.1.2-15].
    pub retain: bool,
    /// The Will Delay Interval in seconds, 0 by default [MQTT-3.1.3-9].
    pub delay_s: u32,
    /// The Message Expiry Interval in seconds to publish it with.
    pub message_expiry_s: Option<u32>,
    /// All Will Properties as encoded, for [`forwardable`] to choose from. Encoding takes the delay
    /// and the expiry from their fields and only what is forwardable from here.
    pub properties: &'a [u8],
}

impl<'a> Will<'a> {
    /// Reads the will's part of CONNECT's payload; its QoS and retain flag are in CONNECT's flags.
    pub(crate) fn decode(version: Version, reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let properties = reader.properties(version)?;
        let mut delay_s = 0;
        let mut message_expiry_s = None;
        for property in Properties::new(properties, PropertyScope::Will) {
            match property? {
                Property::WillDelayInterval(value) => delay_s = value,
                Property::MessageExpiryInterval(value) => message_expiry_s = Some(value),
                // Checked, and left in `properties`.
                _ => {}
            }
        }
        let topic = check_name(reader.binary()?)?;
        let payload = reader.binary()?;
        let (qos, retain) = (QoS::AtMostOnce, false);
        Ok(Self { topic, payload, qos, retain, delay_s, message_expiry_s, properties })
    }

    /// The will's User Properties [MQTT-3.1.3-10]; none if `properties` are not sound, which those of a
    /// decoded will always are.
    #[must_use]
    pub fn user(&self) -> UserProperties<'a> {
        let sound = Properties::new(self.properties, PropertyScope::Will).all(|p| p.is_ok());
        if sound { UserProperties::checked(self.properties) } else { UserProperties::EMPTY }
    }

    pub(crate) fn encode(&self, version: Version, out: &mut Vec<u8>) {
        put_properties(version, out, |out| {
            if self.delay_s != 0 {
                Property::WillDelayInterval(self.delay_s).encode(out);
            }
            if let Some(value) = self.message_expiry_s {
                Property::MessageExpiryInterval(value).encode(out);
            }
            forwardable(self.properties, out);
        });
        put_string(self.topic, out);
        put_binary(self.payload, out);
    }
}

/// Equal if they publish the same message at the same time, however their properties are ordered.
impl PartialEq for Will<'_> {
    fn eq(&self, other: &Self) -> bool {
        let fields = |w: &Self| (w.qos, w.retain, w.delay_s, w.message_expiry_s);
        self.topic == other.topic
            && self.payload == other.payload
            && fields(self) == fields(other)
            && RawProperties::forwardable(self.properties).eq(RawProperties::forwardable(other.properties))
    }
}

impl Eq for Will<'_> {}
