//! What messages carry: who sent them, their place in the sender's order, and when.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Bytes of a payload that carry publisher, sequence and time.
pub const STAMP_BYTES: usize = 16;
/// Bytes of a payload that carry publisher and sequence.
pub const SHORT_STAMP_BYTES: usize = 8;
/// Publishers that a stamp can tell apart.
pub const PUBLISHERS_MAX: usize = 1 << 24;
/// Bytes of a payload from which it is sent from where it lies.
pub(crate) const SHARED_PAYLOAD_BYTES_MIN: usize = 4096;
/// The largest payload: MQTT's largest packet, with room for a topic and properties.
pub const PAYLOAD_BYTES_MAX: usize = 268_000_000;

/// A word that tells one run's messages from those that an earlier one left at the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag(pub u8);

/// What a payload says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The publisher's number over all groups.
    pub publisher: u32,
    /// The lower bits of the message's place in its order.
    pub sequence: u32,
    /// When it was to be sent, in nanoseconds of the run's clock; none where the payload has no room.
    pub at_ns: Option<u64>,
}

impl Stamp {
    /// Writes it to the start of a payload; as much of it as there is room for.
    #[inline]
    pub fn write(self, tag: Tag, payload: &mut [u8]) {
        debug_assert!((self.publisher as usize) < PUBLISHERS_MAX);
        let first = (u64::from(tag.0) << 56 | u64::from(self.publisher) << 32 | u64::from(self.sequence))
            .to_be_bytes();
        if let Some((room, rest)) = payload.split_first_chunk_mut::<SHORT_STAMP_BYTES>() {
            *room = first;
            if let (Some(at_ns), Some((room, _))) = (self.at_ns, rest.split_first_chunk_mut::<8>()) {
                *room = at_ns.to_be_bytes();
            }
        }
    }

    /// Reads it from a payload; none in one that is too short or of another run.
    #[inline]
    pub fn read(tag: Tag, payload: &[u8]) -> Option<Self> {
        let (first, rest) = payload.split_first_chunk::<SHORT_STAMP_BYTES>()?;
        let first = u64::from_be_bytes(*first);
        if first >> 56 != u64::from(tag.0) {
            return None;
        }
        let at_ns = rest.split_first_chunk::<8>().map(|(at_ns, _)| u64::from_be_bytes(*at_ns));
        Some(Self {
            publisher: (first >> 32) as u32 & (PUBLISHERS_MAX as u32 - 1),
            sequence: first as u32,
            at_ns,
        })
    }
}

/// How large payloads are, and what is in them behind the stamp.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Size {
    /// All of them the same.
    Fixed(usize),
    /// Each somewhere between these, both included.
    Between(usize, usize),
    /// A file's content; the stamp takes the place of its first bytes.
    File(PathBuf),
}

impl Size {
    /// The smallest payload, where that is known without looking into a file.
    pub fn smallest(&self) -> Option<usize> {
        match self {
            Self::Fixed(bytes) | Self::Between(bytes, _) => Some(*bytes),
            Self::File(_) => None,
        }
    }
}

fn bytes(text: &str) -> Option<usize> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let unit = match text[digits..].trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" | "kib" => 1024,
        "m" | "mb" | "mib" => 1024 * 1024,
        _ => return None,
    };
    text[..digits].parse::<usize>().ok()?.checked_mul(unit).filter(|bytes| *bytes <= PAYLOAD_BYTES_MAX)
}

impl std::str::FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix('@').filter(|path| !path.is_empty()) {
            return Ok(Self::File(PathBuf::from(path)));
        }
        let size = match text.split_once('-') {
            None => bytes(text).map(Self::Fixed),
            Some((least, most)) => bytes(least.trim())
                .zip(bytes(most.trim()))
                .filter(|(least, most)| least <= most)
                .map(|(least, most)| Self::Between(least, most)),
        };
        size.ok_or_else(|| {
            format!(
                "{text:?} is not a payload size: write bytes (64, 4KiB), a range (16-1024) or a file (@payload.json); \
                 {PAYLOAD_BYTES_MAX} bytes at most"
            )
        })
    }
}

impl TryFrom<String> for Size {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Size> for String {
    fn from(size: Size) -> Self {
        size.to_string()
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(bytes) => write!(f, "{bytes}"),
            Self::Between(least, most) => write!(f, "{least}-{most}"),
            Self::File(path) => write!(f, "@{}", path.display()),
        }
    }
}

/// Payloads ready to be sent, the longest one with its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Content {
    pub bytes: Arc<[u8]>,
    /// The shortest one.
    pub least: usize,
}

impl Content {
    /// Makes or reads the content.
    pub fn load(size: &Size) -> Result<Self, String> {
        let (bytes, least) = match size {
            Size::Fixed(bytes) => (filling(*bytes), *bytes),
            Size::Between(least, most) => (filling(*most), *least),
            Size::File(path) => {
                let bytes = std::fs::read(path).map_err(|error| {
                    format!(
                        "cannot read the payload {}: {error}; name a file that this user can read",
                        path.display()
                    )
                })?;
                if bytes.len() > PAYLOAD_BYTES_MAX {
                    let path = path.display();
                    return Err(format!(
                        "{path} has {} bytes; a payload has {PAYLOAD_BYTES_MAX} at most",
                        bytes.len()
                    ));
                }
                let least = bytes.len();
                (bytes, least)
            }
        };
        Ok(Self { bytes: bytes.into(), least })
    }

    /// The longest payload.
    pub fn most(&self) -> usize {
        self.bytes.len()
    }
}

/// Bytes that do not compress, the same in every run.
fn filling(len: usize) -> Vec<u8> {
    let mut random = crate::random::Random::new(0x5eed);
    (0..len).map(|_| random.next() as u8).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_read_as_it_was_written() {
        let tag = Tag(0xab);
        let stamp = Stamp { publisher: 0xff_fffe, sequence: u32::MAX, at_ns: Some(1 << 60) };
        for (len, expected) in [
            (64, Some(stamp)),
            (16, Some(stamp)),
            (15, Some(Stamp { at_ns: None, ..stamp })),
            (8, Some(Stamp { at_ns: None, ..stamp })),
            (7, None),
            (0, None),
        ] {
            let mut payload = vec![0; len];
            stamp.write(tag, &mut payload);
            assert_eq!(Stamp::read(tag, &payload), expected, "{len} bytes");
            assert_eq!(Stamp::read(Tag(0xac), &payload), None, "another run");
        }
    }

    #[test]
    fn sizes_are_read() {
        let table = [
            ("64", Some(Size::Fixed(64))),
            ("0", Some(Size::Fixed(0))),
            ("4KiB", Some(Size::Fixed(4096))),
            ("16-1k", Some(Size::Between(16, 1024))),
            ("@a.json", Some(Size::File("a.json".into()))),
            ("", None),
            ("@", None),
            ("64-16", None),
            ("-16", None),
            ("9999999999", None),
            ("1 parsec", None),
        ];
        for (text, expected) in table {
            assert_eq!(text.parse::<Size>().ok(), expected, "{text:?}");
        }
        assert!("x".parse::<Size>().unwrap_err().contains("16-1024"));
    }

    #[test]
    fn a_missing_file_says_what_to_do() {
        let error = Content::load(&Size::File("/no/such/file".into())).unwrap_err();
        assert!(error.contains("/no/such/file") && error.contains("name a file"), "{error}");
    }
}
