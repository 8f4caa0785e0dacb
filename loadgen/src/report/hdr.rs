//! The times of a run as an HDR histogram log, which the usual viewers read.

use std::io::{self, Write};
use std::time::Duration;

use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, IntervalLogWriterError, Tag};

use super::Interval;
use crate::measure::{Kind, Sample};

/// A log that is being written. Values are nanoseconds, each kind of time has a tag.
pub struct Log<W> {
    out: W,
    serializer: V2DeflateSerializer,
    /// The first error, told in the end.
    error: Option<io::Error>,
}

impl<W: Write> Log<W> {
    /// Writes its head.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn begin(mut out: W) -> io::Result<Self> {
        let mut serializer = V2DeflateSerializer::new();
        IntervalLogWriterBuilder::new()
            .add_comment("[Histogram log format version 1.3]")
            .add_comment("Written by ringmq bench. Values are nanoseconds.")
            .begin_log_with(&mut out, &mut serializer)?;
        Ok(Self { out, serializer, error: None })
    }

    /// Writes the times of an interval.
    pub fn interval(&mut self, phase: &str, interval: &Interval, sample: &Sample) {
        for kind in Kind::ALL {
            if sample.times(kind).is_some() && self.error.is_none() {
                self.error = self.write(phase, interval, sample, kind).err();
            }
        }
    }

    fn write(&mut self, phase: &str, interval: &Interval, sample: &Sample, kind: Kind) -> io::Result<()> {
        let Some(times) = sample.times(kind) else { return Ok(()) };
        // A tag ends at a comma or a space.
        let plain = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
        let tag: String =
            format!("{}.{phase}", kind.name()).chars().map(|c| if c == '.' { c } else { plain(c) }).collect();
        let tag =
            Tag::new(&tag).ok_or_else(|| io::Error::other("a tag without commas and spaces is right"))?;
        let seconds = Duration::from_secs_f64(interval.seconds);
        let start = Duration::from_millis(interval.ended_ms).saturating_sub(seconds);
        IntervalLogWriterBuilder::new()
            .begin_log_with(&mut self.out, &mut self.serializer)?
            .write_histogram(times, start, seconds, Some(tag))
            .map_err(|error| match error {
                IntervalLogWriterError::IoError(error) => error,
                IntervalLogWriterError::SerializeError(error) => io::Error::other(format!("{error:?}")),
            })
    }

    /// The log is over.
    ///
    /// # Errors
    /// Something of it could not be written.
    pub fn finish(mut self) -> io::Result<()> {
        match self.error {
            Some(error) => Err(error),
            None => self.out.flush(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hdrhistogram::serialization::Deserializer;
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

    #[test]
    fn the_log_is_read_back() {
        let mut out = Vec::new();
        let mut log = Log::begin(&mut out).unwrap();
        let mut sample = Sample::default();
        sample.record_many(Kind::Latency, 12_345, 7);
        let interval = Interval { ended_ms: 5_000, seconds: 2.0, ..Interval::default() };
        log.interval("publish a, b", &interval, &sample);
        log.finish().unwrap();
        let mut found = 0;
        for entry in IntervalLogIterator::new(&out) {
            let LogEntry::Interval(entry) = entry.unwrap() else { continue };
            assert_eq!(entry.start_timestamp(), Duration::from_secs(3));
            assert_eq!(
                entry.tag().map(|tag| tag.as_str().to_owned()).as_deref(),
                Some("latency.publish_a__b")
            );
            let bytes = decode(entry.encoded_histogram());
            let times: hdrhistogram::Histogram<u64> =
                Deserializer::new().deserialize(&mut &bytes[..]).unwrap();
            assert_eq!((times.len(), times.equivalent(times.max(), 12_345)), (7, true));
            found += 1;
        }
        assert_eq!(found, 1);
    }

    /// Base64, as the log has it.
    fn decode(text: &str) -> Vec<u8> {
        const DIGITS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let (mut out, mut bits, mut count) = (Vec::new(), 0_u32, 0);
        for c in text.trim_end_matches('=').chars() {
            bits = bits << 6 | DIGITS.find(c).unwrap() as u32;
            count += 6;
            if count >= 8 {
                count -= 8;
                out.push((bits >> count) as u8);
                bits &= (1 << count) - 1;
            }
        }
        out
    }
}
