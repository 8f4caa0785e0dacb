//! A run: messages of one topic that follow each other in what a publisher sent, and whose packets
//! their subscribers get byte for byte.
//!
//! QoS 0 without RETAIN, properties or alias is the same packet in both directions between ends of the
//! same kind of version. A run of such packets is copied in one go to each of them.

use ringmq_codec::{Decoded, frame};
use ringmq_storage::MessageView;

use crate::carried::SHARED_PAYLOAD_BYTES_MIN;

/// A run, borrowed from the input or from a message between shards.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run<'a> {
    /// Whole packets.
    pub(crate) packets: &'a [u8],
    pub(crate) topic: &'a [u8],
    /// Whether the packets are MQTT 5 ones, with an empty property list.
    pub(crate) v5: bool,
    pub(crate) count: u64,
    /// The largest packet's size.
    pub(crate) longest: usize,
}

/// A run on its way to other shards.
#[derive(Debug)]
pub struct CarriedRun {
    packets: Box<[u8]>,
    topic_at: usize,
    topic_bytes: usize,
    v5: bool,
    count: u64,
    longest: usize,
}

/// The first byte of a PUBLISH at QoS 0 without RETAIN.
pub(crate) const PLAIN_PUBLISH: u8 = 0x30;

/// Splits a plain packet into topic and payload. `None` if it is not plain: it goes the general way.
fn plain_parts(first: u8, body: &[u8], v5: bool) -> Option<(&[u8], &[u8])> {
    if first != PLAIN_PUBLISH || body.len() >= SHARED_PAYLOAD_BYTES_MIN {
        return None;
    }
    let (length, rest) = body.split_first_chunk::<2>()?;
    let (topic, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
    if topic.is_empty() {
        return None;
    }
    if !v5 {
        return Some((topic, rest));
    }
    match rest.split_first() {
        Some((0, payload)) => Some((topic, payload)),
        Some(_) | None => None,
    }
}

impl<'a> Run<'a> {
    /// The run that `input` starts with, of at least one packet; every packet in it is complete and no
    /// larger than `packet_bytes_max`.
    #[inline]
    pub(crate) fn at_start_of(input: &'a [u8], v5: bool, packet_bytes_max: u32) -> Option<Self> {
        let Ok(Decoded::Complete(packet)) = frame(input, packet_bytes_max) else { return None };
        let (topic, _) = plain_parts(packet.first, packet.body, v5)?;
        let (mut end, mut count, mut longest) = (packet.total, 1, packet.total);
        while input.get(end) == Some(&PLAIN_PUBLISH)
            && let Ok(Decoded::Complete(next)) = frame(&input[end..], packet_bytes_max)
            && let Some((other, _)) = plain_parts(next.first, next.body, v5)
            && other == topic
        {
            end += next.total;
            count += 1;
            longest = longest.max(next.total);
        }
        Some(Self { packets: &input[..end], topic, v5, count, longest })
    }

    /// Its messages one by one.
    pub(crate) fn messages(self) -> impl Iterator<Item = MessageView<'a>> {
        let mut rest = self.packets;
        std::iter::from_fn(move || {
            let Ok(Decoded::Complete(packet)) = frame(rest, u32::MAX) else { return None };
            rest = &rest[packet.total..];
            let (topic, payload) = plain_parts(packet.first, packet.body, self.v5)?;
            let properties = &[];
            Some(MessageView { topic, properties, payload, shared_payload: None, qos: 0, expires_at_ms: 0 })
        })
    }

    /// A copy that can travel.
    pub(crate) fn carried(&self) -> CarriedRun {
        CarriedRun {
            packets: self.packets.into(),
            // The topic lies behind a length in the first packet; its place is the same in the copy.
            topic_at: self.topic.as_ptr() as usize - self.packets.as_ptr() as usize,
            topic_bytes: self.topic.len(),
            v5: self.v5,
            count: self.count,
            longest: self.longest,
        }
    }
}

impl CarriedRun {
    pub(crate) fn run(&self) -> Run<'_> {
        Run {
            packets: &self.packets,
            topic: &self.packets[self.topic_at..self.topic_at + self.topic_bytes],
            v5: self.v5,
            count: self.count,
            longest: self.longest,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(topic: &str, payload: &str, v5: bool) -> Vec<u8> {
        let mut body = vec![0, topic.len() as u8];
        body.extend_from_slice(topic.as_bytes());
        body.extend_from_slice(if v5 { &[0] } else { &[] });
        body.extend_from_slice(payload.as_bytes());
        [&[0x30, body.len() as u8][..], &body].concat()
    }

    #[test]
    fn a_run_ends_where_the_topic_changes() {
        for v5 in [false, true] {
            let input = [packet("a/b", "1", v5), packet("a/b", "22", v5), packet("a/c", "3", v5)].concat();
            let run = Run::at_start_of(&input, v5, 1000).unwrap();
            assert_eq!((run.count, run.topic), (2, &b"a/b"[..]));
            let payloads: Vec<_> = run.messages().map(|message| message.payload).collect();
            assert_eq!(payloads, [&b"1"[..], b"22"]);
            let carried = run.carried();
            assert_eq!(carried.run().topic, b"a/b");
            assert_eq!(carried.run().messages().count(), 2);
        }
    }

    #[test]
    fn an_incomplete_packet_is_left_for_later() {
        let mut input = [packet("t", "1", false), packet("t", "2", false)].concat();
        input.pop();
        assert_eq!(Run::at_start_of(&input, false, 1000).unwrap().count, 1);
    }

    #[test]
    fn what_is_not_plain_starts_no_run() {
        let mut retained = packet("t", "1", false);
        retained[0] = 0x31;
        assert!(Run::at_start_of(&retained, false, 1000).is_none());
        assert!(Run::at_start_of(&packet("", "1", false), false, 1000).is_none(), "needs an alias");
        assert!(Run::at_start_of(&packet("t", "\u{1}x", false), true, 1000).is_none(), "has properties");
    }
}
