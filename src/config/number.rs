//! Numbers with units: counts, sizes and times, as a person writes them.

/// What a number counts, and so which suffixes it may be written with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Things; no suffix.
    Count,
    /// Bytes: `B`, `kB`, `KiB`, `MB`, `MiB`, `GB`, `GiB`, `TB`, `TiB`.
    Bytes,
    /// Seconds: `us`, `ms`, `s`, `m`, `h`, `d`, where the time is a whole number of seconds.
    Seconds,
    /// Milliseconds, with the suffixes of seconds.
    Milliseconds,
    /// Microseconds, with the suffixes of seconds.
    Microseconds,
}

/// Suffixes and how many bytes they stand for, the ones to print with first and largest first.
const BYTE_SUFFIXES: &[(&str, u64)] = &[
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];

/// Suffixes and how many microseconds they stand for.
const TIME_SUFFIXES: &[(&str, u64)] = &[
    ("d", 86_400_000_000),
    ("h", 3_600_000_000),
    ("ms", 1_000),
    ("us", 1),
    ("m", 60_000_000),
    ("s", 1_000_000),
];

impl Unit {
    /// Its plural name, for messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Count => "a whole number",
            Self::Bytes => "bytes",
            Self::Seconds => "seconds",
            Self::Milliseconds => "milliseconds",
            Self::Microseconds => "microseconds",
        }
    }

    /// The suffixes that may follow a number, and the value of each in the smallest of them.
    fn suffixes(self) -> &'static [(&'static str, u64)] {
        match self {
            Self::Count => &[],
            Self::Bytes => BYTE_SUFFIXES,
            Self::Seconds | Self::Milliseconds | Self::Microseconds => TIME_SUFFIXES,
        }
    }

    /// This unit, in the smallest of its suffixes.
    fn scale(self) -> u64 {
        match self {
            Self::Count | Self::Bytes | Self::Microseconds => 1,
            Self::Milliseconds => 1_000,
            Self::Seconds => 1_000_000,
        }
    }

    /// Reads a number with or without a suffix; `None` when it is neither, or no whole number of this
    /// unit, or beyond 64 bits.
    pub fn parse(self, text: &str) -> Option<u64> {
        let text = text.trim();
        let digits_end = text.find(|c: char| !c.is_ascii_digit() && c != '_').unwrap_or(text.len());
        let (digits, suffix) = text.split_at(digits_end);
        let number: u64 = digits.replace('_', "").parse().ok()?;
        let suffix = suffix.trim_start();
        if suffix.is_empty() {
            return Some(number);
        }
        let (_, value) = self.suffixes().iter().find(|(name, _)| name.eq_ignore_ascii_case(suffix))?;
        let small = number.checked_mul(*value)?;
        (small % self.scale() == 0).then_some(small / self.scale())
    }

    /// Writes a number so that [`Unit::parse`] reads it back, shortly: `16MiB`, `1000`.
    pub fn show(self, number: u64) -> String {
        let binary = BYTE_SUFFIXES.iter().take(4);
        let fits = |value: u64| number >= value && number.is_multiple_of(value);
        match self {
            Self::Bytes => match binary.into_iter().find(|(_, value)| fits(*value)) {
                Some((name, value)) => format!("{}{name}", number / value),
                None => number.to_string(),
            },
            Self::Count | Self::Seconds | Self::Milliseconds | Self::Microseconds => number.to_string(),
        }
    }

    /// An example with a suffix, for messages.
    pub fn example(self) -> Option<&'static str> {
        match self {
            Self::Count => None,
            Self::Bytes => Some("64MiB"),
            Self::Seconds => Some("30s"),
            Self::Milliseconds => Some("10s"),
            Self::Microseconds => Some("50us"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_with_and_without_suffixes() {
        let table = [
            (Unit::Count, "12", Some(12)),
            (Unit::Count, "1_000", Some(1000)),
            (Unit::Count, "12k", None),
            (Unit::Count, "", None),
            (Unit::Count, "-1", None),
            (Unit::Bytes, "4096", Some(4096)),
            (Unit::Bytes, "64MiB", Some(64 << 20)),
            (Unit::Bytes, "64 mib", Some(64 << 20)),
            (Unit::Bytes, "2kB", Some(2000)),
            (Unit::Bytes, "1.5GiB", None),
            (Unit::Bytes, "99999999TiB", None),
            (Unit::Seconds, "10s", Some(10)),
            (Unit::Seconds, "2m", Some(120)),
            (Unit::Seconds, "1d", Some(86_400)),
            (Unit::Seconds, "1500ms", None),
            (Unit::Milliseconds, "1500ms", Some(1500)),
            (Unit::Milliseconds, "10s", Some(10_000)),
            (Unit::Microseconds, "1ms", Some(1000)),
        ];
        for (unit, text, expect) in table {
            assert_eq!(unit.parse(text), expect, "{unit:?} {text:?}");
        }
    }

    #[test]
    fn what_is_shown_is_read_back() {
        for number in [0, 1, 1023, 1024, 1536, 16 << 20, 3 << 30, 1 << 40, u64::from(u32::MAX)] {
            for unit in [Unit::Count, Unit::Bytes, Unit::Seconds, Unit::Milliseconds] {
                assert_eq!(unit.parse(&unit.show(number)), Some(number));
            }
        }
        assert_eq!(Unit::Bytes.show(16 << 20), "16MiB");
        assert_eq!(Unit::Bytes.show(1536), "1536");
    }
}
