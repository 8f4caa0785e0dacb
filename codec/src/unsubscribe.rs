//! UNSUBSCRIBE, MQTT 5 section 3.10.

use std::fmt;

use crate::ack::expect_flags;
use crate::frame::{Frame, PacketType};
use crate::wire::{Reader, put_properties, put_string, put_u16, put_with_length};
use crate::{DecodeError, PacketId, Properties, PropertyScope, UserProperties, Version};

/// A request to end subscriptions, one or more [MQTT-3.10.3-2].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsubscribe<'a> {
    /// The Packet Identifier, which the UNSUBACK repeats [MQTT-3.10.4-5].
    pub packet_id: PacketId,
    /// User Properties. MQTT 5 only.
    pub user: UserProperties<'a>,
    /// What to unsubscribe from, at least one.
    pub filters: UnsubscribeFilters<'a>,
}

impl<'a> Unsubscribe<'a> {
    /// Reads an UNSUBSCRIBE, its filters included.
    pub fn decode(version: Version, frame: &Frame<'a>) -> Result<Self, DecodeError> {
        debug_assert_eq!(frame.packet_type(), Ok(PacketType::Unsubscribe));
        expect_flags(PacketType::Unsubscribe, version, frame)?;
        let mut reader = Reader::new(frame.body);
        let packet_id = reader.packet_id()?;
        let raw = reader.properties(version)?;
        for property in Properties::new(raw, PropertyScope::Unsubscribe) {
            property?;
        }
        let filters = UnsubscribeFilters::decode(reader)?;
        Ok(Self { packet_id, user: UserProperties::checked(raw), filters })
    }

    /// Appends the packet. Panics without a filter, and if a string is over 65,535 bytes.
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) {
        assert!(self.filters.len() > 0, "[MQTT-3.10.3-2]");
        out.push(PacketType::Unsubscribe.first());
        put_with_length(0, out, |out| {
            put_u16(self.packet_id.get(), out);
            put_properties(version, out, |out| self.user.encode(out));
            for filter in self.filters.clone() {
                put_string(filter, out);
            }
        });
    }
}

/// Yields the filters of an [`Unsubscribe`]: strings [MQTT-3.10.3-1], not yet known to be Topic
/// Filters. To encode some, make it from a slice.
#[derive(Clone)]
pub struct UnsubscribeFilters<'a> {
    source: Source<'a>,
    left: usize,
}

#[derive(Clone)]
enum Source<'a> {
    /// A payload that was checked.
    Wire(Reader<'a>),
    List(std::slice::Iter<'a, &'a str>),
}

impl<'a> UnsubscribeFilters<'a> {
    fn decode(payload: Reader<'a>) -> Result<Self, DecodeError> {
        let mut reader = payload;
        let mut left = 0;
        while !reader.is_empty() {
            reader.string()?;
            left += 1;
        }
        if left == 0 {
            return Err(DecodeError::PayloadEmpty);
        }
        Ok(Self { source: Source::Wire(payload), left })
    }
}

impl<'a> From<&'a [&'a str]> for UnsubscribeFilters<'a> {
    fn from(filters: &'a [&'a str]) -> Self {
        Self { source: Source::List(filters.iter()), left: filters.len() }
    }
}

impl<'a> Iterator for UnsubscribeFilters<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        match &mut self.source {
            Source::List(filters) => filters.next().copied(),
            Source::Wire(reader) => Some(reader.string().expect("checked when the packet was decoded")),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for UnsubscribeFilters<'_> {}

impl PartialEq for UnsubscribeFilters<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.clone().eq(other.clone())
    }
}

impl Eq for UnsubscribeFilters<'_> {}

impl fmt::Debug for UnsubscribeFilters<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.clone()).finish()
    }
}
