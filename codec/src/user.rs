//! User Properties, MQTT 5 section 3.1.2.11.8 and its likes.

use std::fmt;

use crate::properties::RawProperties;
use crate::wire::Reader;
use crate::{Property, PropertyId};

/// The User Properties of a packet, in order [MQTT-3.3.2-18]: names may repeat.
///
/// Those of a decoded packet are read from its bytes at each pass. To encode some, make it from a
/// slice of pairs.
#[derive(Clone, Copy)]
pub struct UserProperties<'a>(Source<'a>);

#[derive(Clone, Copy)]
enum Source<'a> {
    /// A property section that was checked, with other properties in it.
    Wire(&'a [u8]),
    List(&'a [(&'a str, &'a str)]),
}

impl<'a> UserProperties<'a> {
    /// None.
    pub const EMPTY: Self = Self(Source::Wire(&[]));

    /// Those in `raw`, which [`crate::Properties`] must have passed.
    pub(crate) const fn checked(raw: &'a [u8]) -> Self {
        Self(Source::Wire(raw))
    }

    /// Names and values in order.
    #[must_use]
    pub fn iter(&self) -> UserPropertiesIter<'a> {
        UserPropertiesIter(match self.0 {
            Source::Wire(raw) => IterSource::Wire(RawProperties::new(raw)),
            Source::List(pairs) => IterSource::List(pairs.iter()),
        })
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }

    /// Appends them all.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        for (name, value) in self {
            Property::UserProperty(name, value).encode(out);
        }
    }
}

impl Default for UserProperties<'_> {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl<'a> From<&'a [(&'a str, &'a str)]> for UserProperties<'a> {
    fn from(pairs: &'a [(&'a str, &'a str)]) -> Self {
        Self(Source::List(pairs))
    }
}

impl PartialEq for UserProperties<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for UserProperties<'_> {}

impl fmt::Debug for UserProperties<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self).finish()
    }
}

impl<'a> IntoIterator for UserProperties<'a> {
    type Item = (&'a str, &'a str);
    type IntoIter = UserPropertiesIter<'a>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<'a> IntoIterator for &UserProperties<'a> {
    type Item = (&'a str, &'a str);
    type IntoIter = UserPropertiesIter<'a>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Yields the names and values of [`UserProperties`].
#[derive(Clone, Debug)]
pub struct UserPropertiesIter<'a>(IterSource<'a>);

#[derive(Clone, Debug)]
enum IterSource<'a> {
    Wire(RawProperties<'a>),
    List(std::slice::Iter<'a, (&'a str, &'a str)>),
}

impl<'a> Iterator for UserPropertiesIter<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        match &mut self.0 {
            IterSource::List(pairs) => pairs.next().copied(),
            IterSource::Wire(properties) => {
                let (_, bytes) = properties.find(|(id, _)| *id == PropertyId::UserProperty)?;
                let mut reader = Reader::new(&bytes[1..]);
                let name = reader.string().expect("checked when the packet was decoded");
                let value = reader.string().expect("checked when the packet was decoded");
                Some((name, value))
            }
        }
    }
}
