//! How records look in a segment. `docs/storage-format.md` is the same in words.
//!
//! A segment begins with a header of [`SEGMENT_HEADER_BYTES`]. Behind it stand *batches*: a head of
//! [`BATCH_HEAD_BYTES`] with checksum, length and the number of the first record, then the records. A batch
//! is there as a whole or not at all. A *unit*, the records that belong together, may span batches; each
//! but its last is marked to continue.
//!
//! A record is a head of eight bytes (kind, flags, a small number, length of the rest) and a body, padded
//! to a multiple of eight. All numbers are little-endian.

use crate::{
    LogOffset, MessageView, PublicationRecord, QueueNumber, QueuedAs, QueuedMessage, Record, SegmentId,
    SessionRecord, SubscriptionIds, WillView,
};

/// The version of all that is described here.
pub(crate) const FORMAT_VERSION: u32 = 1;
/// What every segment begins with.
pub(crate) const SEGMENT_MAGIC: [u8; 8] = *b"ringmq\0L";
/// Magic, format version, segment number, then zeroes.
pub(crate) const SEGMENT_HEADER_BYTES: usize = 64;
/// CRC-32 of what follows (seeded with the segment's number), length of the records with
/// [`BATCH_CONTINUES`], [`BATCH_GOES_ON`] and [`BATCH_SYNCED`], number of the first record.
pub(crate) const BATCH_HEAD_BYTES: usize = 16;
/// Set in a batch's length where the unit goes on in the next batch.
pub(crate) const BATCH_CONTINUES: u32 = 1 << 31;
/// Set where the unit began in the batch before.
pub(crate) const BATCH_GOES_ON: u32 = 1 << 30;
/// Set where the batch says how many records were synced before it was begun, in [`BATCH_SYNCED_BYTES`]
/// before its own records: where somebody waits for syncs. Such a batch rests on all before it that was not
/// synced, since what is missing there was lost with the power.
pub(crate) const BATCH_SYNCED: u32 = 1 << 29;
/// A number.
pub(crate) const BATCH_SYNCED_BYTES: usize = 8;
/// Kind, flags, small number, length.
const HEAD_BYTES: usize = 8;

/// Why bytes are not a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// They end in the middle of one.
    #[error("the record is cut short")]
    Short,
    /// No record has this kind.
    #[error("there is no record of kind {0}")]
    Kind(u8),
    /// A field has a value that it cannot have.
    #[error("the record's fields contradict each other")]
    Fields,
}

/// The kinds of records, as they are on disk.
mod kind {
    pub const MESSAGE: u8 = 1;
    pub const SESSION_BEGINS: u8 = 2;
    pub const SESSION_RESUMED: u8 = 3;
    pub const SESSION_CLOSED: u8 = 4;
    pub const SESSION_ENDED: u8 = 5;
    pub const WILL: u8 = 6;
    pub const WILL_GONE: u8 = 7;
    pub const SUBSCRIBED: u8 = 8;
    pub const UNSUBSCRIBED: u8 = 9;
    pub const QUEUED: u8 = 10;
    pub const RECEIVED: u8 = 11;
    pub const COMPLETED: u8 = 12;
    pub const TAKEN: u8 = 13;
    pub const RELEASED: u8 = 14;
    pub const CAME: u8 = 15;
    pub const WENT: u8 = 16;
    pub const RETAINED: u8 = 17;
    pub const RETAINED_CLEARED: u8 = 18;
}

/// Flags of messages, wills and queued messages: QoS in the low two bits.
const QOS_BITS: u8 = 0b11;
const RETAIN: u8 = 1 << 2;
const EXPIRES: u8 = 1 << 3;
const MORE: u8 = 1 << 4;
/// Of a session that waits for its client.
const CLOSED: u8 = 1 << 5;

/// How many bytes a record takes, padding included.
pub fn encoded_len(record: &Record<'_>) -> usize {
    (HEAD_BYTES + body_len(record)).next_multiple_of(8)
}

#[inline]
fn body_len(record: &Record<'_>) -> usize {
    match record {
        Record::Message(view) => 4 + if view.expires_at_ms > 0 { 8 } else { 0 } + view.charged_bytes(),
        Record::SessionBegins { client_id, .. } => 8 + 4 + 8 + 8 + client_id.len(),
        Record::SessionResumed { .. } => 8 + 4,
        Record::SessionClosed { .. } => 8 + 4 + 8,
        Record::SessionEnded { .. }
        | Record::WillGone { .. }
        | Record::Released { .. }
        | Record::Came { .. }
        | Record::Went { .. }
        | Record::Retained { .. } => 8,
        Record::Will { will, .. } => {
            8 + 4 + 4 + 4 + will.topic.len() + will.properties.len() + will.payload.len()
        }
        Record::Subscribed { filter, .. } => 8 + 4 + filter.len(),
        Record::Unsubscribed { filter, .. } => 8 + filter.len(),
        Record::Queued { queued, .. } => {
            let group = queued.group.map_or(0, str::len);
            let more = if has_more(queued) { queued.ids.len() * 4 + group } else { 0 };
            8 + 8 + 8 + more
        }
        Record::Received { .. } | Record::Completed { .. } => 8 + 8,
        Record::Taken { publication, .. } => 8 + if publication.is_some() { 8 } else { 0 },
        Record::RetainedCleared { topic } => topic.len(),
    }
}

fn has_more(queued: &QueuedMessage<'_>) -> bool {
    !queued.ids.is_empty() || queued.group.is_some()
}

/// Writes fields one behind the other.
struct Writer<'a> {
    out: &'a mut [u8],
    at: usize,
}

impl Writer<'_> {
    #[inline]
    fn bytes(&mut self, bytes: &[u8]) {
        self.out[self.at..self.at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
    }

    #[inline]
    fn u32(&mut self, value: u32) {
        self.bytes(&value.to_le_bytes());
    }

    #[inline]
    fn u64(&mut self, value: u64) {
        self.bytes(&value.to_le_bytes());
    }

    #[inline]
    fn head(&mut self, kind: u8, flags: u8, small: u16) {
        let length = (self.out.len() - HEAD_BYTES) as u32;
        self.bytes(&[kind, flags]);
        self.bytes(&small.to_le_bytes());
        self.u32(length);
    }
}

/// Writes a record into exactly [`encoded_len`] bytes, which are zero.
///
/// # Panics
/// When `out` has another size.
#[inline]
pub fn encode(record: &Record<'_>, out: &mut [u8]) {
    let length = HEAD_BYTES + body_len(record);
    assert_eq!(out.len(), length.next_multiple_of(8), "a record is written into its own bytes");
    let mut to = Writer { out: &mut out[..length], at: 0 };
    match record {
        Record::Message(view) => encode_message(view, &mut to),
        Record::SessionBegins { session, client_id, expiry_s, closed_at_ms, next } => {
            to.head(kind::SESSION_BEGINS, if *closed_at_ms > 0 { CLOSED } else { 0 }, 0);
            to.u64(session.0);
            to.u32(*expiry_s);
            to.u64(*closed_at_ms);
            to.u64(next.0);
            to.bytes(client_id.as_bytes());
        }
        Record::SessionResumed { session, expiry_s } => {
            to.head(kind::SESSION_RESUMED, 0, 0);
            to.u64(session.0);
            to.u32(*expiry_s);
        }
        Record::SessionClosed { session, expiry_s, at_ms } => {
            to.head(kind::SESSION_CLOSED, CLOSED, 0);
            to.u64(session.0);
            to.u32(*expiry_s);
            to.u64(*at_ms);
        }
        Record::SessionEnded { session } => plain(kind::SESSION_ENDED, 0, *session, &mut to),
        Record::Will { session, will } => encode_will(*session, will, &mut to),
        Record::WillGone { session } => plain(kind::WILL_GONE, 0, *session, &mut to),
        Record::Subscribed { session, filter, options, subscription_id } => {
            to.head(kind::SUBSCRIBED, 0, u16::from(*options));
            to.u64(session.0);
            to.u32(*subscription_id);
            to.bytes(filter.as_bytes());
        }
        Record::Unsubscribed { session, filter } => {
            plain(kind::UNSUBSCRIBED, 0, *session, &mut to);
            to.bytes(filter.as_bytes());
        }
        Record::Queued { session, queued } => encode_queued(*session, queued, &mut to),
        Record::Received { session, number } => {
            plain(kind::RECEIVED, 0, *session, &mut to);
            to.u64(number.0);
        }
        Record::Completed { session, number, count } => {
            plain(kind::COMPLETED, *count, *session, &mut to);
            to.u64(number.0);
        }
        Record::Taken { session, packet_id, publication } => {
            to.head(kind::TAKEN, if publication.is_some() { MORE } else { 0 }, *packet_id);
            to.u64(session.0);
            if let Some(publication) = publication {
                to.u64(publication.0);
            }
        }
        Record::Released { session, packet_id } => plain(kind::RELEASED, *packet_id, *session, &mut to),
        Record::Came { publication } => {
            to.head(kind::CAME, 0, 0);
            to.u64(publication.0);
        }
        Record::Went { publication } => {
            to.head(kind::WENT, 0, 0);
            to.u64(publication.0);
        }
        Record::Retained { message } => {
            to.head(kind::RETAINED, 0, 0);
            to.u64(message.get());
        }
        Record::RetainedCleared { topic } => {
            to.head(kind::RETAINED_CLEARED, 0, 0);
            to.bytes(topic.as_bytes());
        }
    }
    debug_assert_eq!(to.at, length, "a record is as long as it was said to be");
}

fn plain(kind: u8, small: u16, session: SessionRecord, to: &mut Writer<'_>) {
    to.head(kind, 0, small);
    to.u64(session.0);
}

#[inline]
fn encode_message(view: &MessageView<'_>, to: &mut Writer<'_>) {
    let expires = view.expires_at_ms > 0;
    to.head(kind::MESSAGE, view.qos | if expires { EXPIRES } else { 0 }, view.topic.len() as u16);
    to.u32(view.properties.len() as u32);
    if expires {
        to.u64(view.expires_at_ms);
    }
    to.bytes(view.topic);
    to.bytes(view.properties);
    to.bytes(view.payload);
}

fn encode_will(session: SessionRecord, will: &WillView<'_>, to: &mut Writer<'_>) {
    let retain = if will.retain { RETAIN } else { 0 };
    let expires = if will.message_expiry_s.is_some() { EXPIRES } else { 0 };
    to.head(kind::WILL, will.qos | retain | expires, will.topic.len() as u16);
    to.u64(session.0);
    to.u32(will.delay_s);
    to.u32(will.message_expiry_s.unwrap_or(0));
    to.u32(will.properties.len() as u32);
    to.bytes(will.topic.as_bytes());
    to.bytes(will.properties);
    to.bytes(will.payload);
}

#[inline]
fn encode_queued(session: SessionRecord, queued: &QueuedMessage<'_>, to: &mut Writer<'_>) {
    let retain = if queued.queued_as.retain { RETAIN } else { 0 };
    let more = if has_more(queued) { MORE } else { 0 };
    let group = queued.group.map_or(u16::MAX, |group| group.len() as u16);
    to.head(kind::QUEUED, queued.queued_as.qos | retain | more, group);
    to.u64(session.0);
    to.u64(queued.message.get());
    to.u64(queued.number.0);
    if more > 0 {
        for id in queued.ids.iter() {
            to.u32(id);
        }
        to.bytes(queued.group.unwrap_or("").as_bytes());
    }
}

/// Reads fields one behind the other.
struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    #[inline]
    fn take(&mut self, count: usize) -> Result<&'a [u8], FormatError> {
        let (taken, rest) = self.bytes.split_at_checked(count).ok_or(FormatError::Short)?;
        self.bytes = rest;
        Ok(taken)
    }

    #[inline]
    fn u32(&mut self) -> Result<u32, FormatError> {
        let taken = self.bytes.first_chunk().ok_or(FormatError::Short)?;
        self.bytes = &self.bytes[4..];
        Ok(u32::from_le_bytes(*taken))
    }

    #[inline]
    fn u64(&mut self) -> Result<u64, FormatError> {
        let taken = self.bytes.first_chunk().ok_or(FormatError::Short)?;
        self.bytes = &self.bytes[8..];
        Ok(u64::from_le_bytes(*taken))
    }

    fn session(&mut self) -> Result<SessionRecord, FormatError> {
        self.u64().map(SessionRecord)
    }

    fn publication(&mut self) -> Result<PublicationRecord, FormatError> {
        self.u64().map(PublicationRecord)
    }

    fn number(&mut self) -> Result<QueueNumber, FormatError> {
        self.u64().map(QueueNumber)
    }

    fn offset(&mut self) -> Result<LogOffset, FormatError> {
        let offset = self.u64()?;
        if offset >> LogOffset::BITS != 0 { Err(FormatError::Fields) } else { Ok(LogOffset::new(offset)) }
    }

    fn text(&mut self) -> Result<&'a str, FormatError> {
        std::str::from_utf8(std::mem::take(&mut self.bytes)).map_err(|_| FormatError::Fields)
    }

    fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.bytes)
    }
}

/// Reads the record that `bytes` begin with, and how many of them it takes, padding included.
///
/// # Errors
/// They are no record, or end before it does.
#[inline]
pub fn decode(bytes: &[u8]) -> Result<(Record<'_>, usize), FormatError> {
    let (head, rest) = bytes.split_at_checked(HEAD_BYTES).ok_or(FormatError::Short)?;
    let (kind, flags, small) = (head[0], head[1], u16::from_le_bytes([head[2], head[3]]));
    let length = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
    let mut from = Reader { bytes: rest.get(..length).ok_or(FormatError::Short)? };
    let record = decode_body((kind, flags, small), &mut from)?;
    if !from.bytes.is_empty() {
        return Err(FormatError::Fields);
    }
    Ok((record, (HEAD_BYTES + length).next_multiple_of(8)))
}

/// How many bytes the record takes that `bytes` begin with, padding included, by its head alone.
#[inline]
pub(crate) fn record_bytes(bytes: &[u8]) -> usize {
    let length = bytes[4..HEAD_BYTES].first_chunk().map_or(0, |length| u32::from_le_bytes(*length));
    (HEAD_BYTES + length as usize).next_multiple_of(8)
}

fn decode_body<'a>(
    (kind, flags, small): (u8, u8, u16),
    from: &mut Reader<'a>,
) -> Result<Record<'a>, FormatError> {
    Ok(match kind {
        kind::MESSAGE => Record::Message(decode_message(flags, usize::from(small), from)?),
        kind::SESSION_BEGINS => {
            let session = from.session()?;
            let (expiry_s, closed_at_ms, next) = (from.u32()?, from.u64()?, from.number()?);
            Record::SessionBegins { session, client_id: from.text()?, expiry_s, closed_at_ms, next }
        }
        kind::SESSION_RESUMED => Record::SessionResumed { session: from.session()?, expiry_s: from.u32()? },
        kind::SESSION_CLOSED => {
            Record::SessionClosed { session: from.session()?, expiry_s: from.u32()?, at_ms: from.u64()? }
        }
        kind::SESSION_ENDED => Record::SessionEnded { session: from.session()? },
        kind::WILL => decode_will(flags, usize::from(small), from)?,
        kind::WILL_GONE => Record::WillGone { session: from.session()? },
        kind::SUBSCRIBED => {
            let (session, subscription_id) = (from.session()?, from.u32()?);
            let options = u8::try_from(small).map_err(|_| FormatError::Fields)?;
            Record::Subscribed { session, filter: from.text()?, options, subscription_id }
        }
        kind::UNSUBSCRIBED => Record::Unsubscribed { session: from.session()?, filter: from.text()? },
        kind::QUEUED => decode_queued(flags, small, from)?,
        kind::RECEIVED => Record::Received { session: from.session()?, number: from.number()? },
        kind::COMPLETED if small == 0 => return Err(FormatError::Fields),
        kind::COMPLETED => {
            Record::Completed { session: from.session()?, number: from.number()?, count: small }
        }
        kind::TAKEN => {
            let session = from.session()?;
            let publication = if flags & MORE != 0 { Some(from.publication()?) } else { None };
            Record::Taken { session, packet_id: small, publication }
        }
        kind::RELEASED => Record::Released { session: from.session()?, packet_id: small },
        kind::CAME => Record::Came { publication: from.publication()? },
        kind::WENT => Record::Went { publication: from.publication()? },
        kind::RETAINED => Record::Retained { message: from.offset()? },
        kind::RETAINED_CLEARED => Record::RetainedCleared { topic: from.text()? },
        unknown => return Err(FormatError::Kind(unknown)),
    })
}

#[inline]
fn decode_message<'a>(
    flags: u8,
    topic_bytes: usize,
    from: &mut Reader<'a>,
) -> Result<MessageView<'a>, FormatError> {
    let properties_bytes = from.u32()? as usize;
    let expires_at_ms = if flags & EXPIRES != 0 { from.u64()? } else { 0 };
    Ok(MessageView {
        topic: from.take(topic_bytes)?,
        properties: from.take(properties_bytes)?,
        payload: from.rest(),
        shared_payload: None,
        qos: flags & QOS_BITS,
        expires_at_ms,
    })
}

fn decode_will<'a>(flags: u8, topic_bytes: usize, from: &mut Reader<'a>) -> Result<Record<'a>, FormatError> {
    let (session, delay_s) = (from.session()?, from.u32()?);
    let (expiry_s, properties_bytes) = (from.u32()?, from.u32()? as usize);
    let topic = std::str::from_utf8(from.take(topic_bytes)?).map_err(|_| FormatError::Fields)?;
    let will = WillView {
        topic,
        properties: from.take(properties_bytes)?,
        payload: from.rest(),
        qos: flags & QOS_BITS,
        retain: flags & RETAIN != 0,
        delay_s,
        message_expiry_s: (flags & EXPIRES != 0).then_some(expiry_s),
    };
    Ok(Record::Will { session, will })
}

fn decode_queued<'a>(flags: u8, group_bytes: u16, from: &mut Reader<'a>) -> Result<Record<'a>, FormatError> {
    let (session, message, number) = (from.session()?, from.offset()?, from.number()?);
    let has_group = group_bytes != u16::MAX;
    let group_bytes = if has_group { usize::from(group_bytes) } else { 0 };
    let id_bytes = from.bytes.len().checked_sub(group_bytes).ok_or(FormatError::Short)?;
    if !id_bytes.is_multiple_of(4) || (flags & MORE == 0 && id_bytes + group_bytes > 0) {
        return Err(FormatError::Fields);
    }
    let ids = SubscriptionIds::Encoded(from.take(id_bytes)?);
    let group = from.text()?;
    let queued_as = QueuedAs { qos: flags & QOS_BITS, retain: flags & RETAIN != 0 };
    let queued = QueuedMessage { number, message, queued_as, ids, group: has_group.then_some(group) };
    Ok(Record::Queued { session, queued })
}

/// The header of a segment.
pub(crate) fn segment_header(id: SegmentId) -> [u8; SEGMENT_HEADER_BYTES] {
    let mut header = [0; SEGMENT_HEADER_BYTES];
    header[..8].copy_from_slice(&SEGMENT_MAGIC);
    header[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
    header[12..16].copy_from_slice(&id.0.to_le_bytes());
    header
}

/// The segment that a header is of.
pub(crate) fn segment_of(header: &[u8]) -> Option<SegmentId> {
    let number = header.get(12..16).and_then(|number| number.first_chunk())?;
    let id = SegmentId(u32::from_le_bytes(*number));
    (*header == segment_header(id)).then_some(id)
}

/// The head of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BatchHead {
    /// Bytes of the records behind it, and of what stands before them.
    pub(crate) length: usize,
    /// Whether its unit goes on in the next batch.
    pub(crate) continues: bool,
    /// Whether it goes on with the unit of the batch before.
    pub(crate) goes_on: bool,
    /// The number of its first record.
    pub(crate) first: u64,
    /// How many records were synced before it was begun, if it says so.
    pub(crate) synced: Option<u64>,
}

impl BatchHead {
    /// How many bytes stand between the head and the records.
    #[inline]
    pub(crate) fn prefix_bytes(&self) -> usize {
        if self.synced.is_some() { BATCH_SYNCED_BYTES } else { 0 }
    }

    /// The head of a batch whose records are `body`, with what stands before them, in a segment.
    #[inline]
    pub(crate) fn encode(self, segment: SegmentId, body: &[u8]) -> [u8; BATCH_HEAD_BYTES] {
        let mut head = [0; BATCH_HEAD_BYTES];
        let continues = if self.continues { BATCH_CONTINUES } else { 0 };
        let goes_on = if self.goes_on { BATCH_GOES_ON } else { 0 };
        let synced = if self.synced.is_some() { BATCH_SYNCED } else { 0 };
        head[4..8].copy_from_slice(&(self.length as u32 | continues | goes_on | synced).to_le_bytes());
        head[8..16].copy_from_slice(&self.first.to_le_bytes());
        let crc = checksum(segment, &head[4..], body);
        head[..4].copy_from_slice(&crc.to_le_bytes());
        head
    }

    /// The head that a segment has at a place, and its records, if there is a whole batch.
    pub(crate) fn decode(segment: SegmentId, bytes: &[u8]) -> Option<(Self, &[u8])> {
        let said = Self::peek(bytes)?;
        let (head, rest) = bytes.split_first_chunk::<BATCH_HEAD_BYTES>()?;
        let body = &rest[..said.length];
        let crc = u32::from_le_bytes([head[0], head[1], head[2], head[3]]);
        (checksum(segment, &head[4..], body) == crc).then_some((said, &body[said.prefix_bytes()..]))
    }

    /// What the head at a place says, if it can be true, without a look at the checksum.
    pub(crate) fn peek(bytes: &[u8]) -> Option<Self> {
        let (head, rest) = bytes.split_first_chunk::<BATCH_HEAD_BYTES>()?;
        let [_, _, _, _, l0, l1, l2, l3, first @ ..] = *head;
        let length = u32::from_le_bytes([l0, l1, l2, l3]);
        let (continues, goes_on) = (length & BATCH_CONTINUES != 0, length & BATCH_GOES_ON != 0);
        let says_synced = length & BATCH_SYNCED != 0;
        let length = (length & !(BATCH_CONTINUES | BATCH_GOES_ON | BATCH_SYNCED)) as usize;
        let least = if says_synced { BATCH_SYNCED_BYTES } else { 0 };
        let possible = length > least && length.is_multiple_of(8) && length <= rest.len();
        let synced = rest.first_chunk().filter(|_| says_synced).map(|synced| u64::from_le_bytes(*synced));
        possible.then_some(Self { length, continues, goes_on, first: u64::from_le_bytes(first), synced })
    }
}

#[inline]
fn checksum(segment: SegmentId, head: &[u8], body: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new_with_initial(segment.0);
    crc.update(head);
    crc.update(body);
    crc.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SESSION: SessionRecord = SessionRecord(77);

    fn every_kind(check: &mut dyn FnMut(Record<'_>)) {
        let (session, number, packet_id) = (SESSION, QueueNumber(1 << 40), 65_535);
        let view = MessageView {
            topic: b"a/b",
            properties: b"\x26p",
            payload: b"hello",
            shared_payload: None,
            qos: 2,
            expires_at_ms: 0,
        };
        check(Record::Message(view));
        check(Record::Message(MessageView {
            expires_at_ms: u64::MAX,
            payload: b"",
            properties: b"",
            ..view
        }));
        check(Record::SessionBegins { session, client_id: "me", expiry_s: 7, closed_at_ms: 9, next: number });
        check(Record::SessionResumed { session, expiry_s: 0 });
        check(Record::SessionClosed { session, expiry_s: u32::MAX, at_ms: 1 });
        check(Record::SessionEnded { session });
        let will = WillView {
            topic: "w",
            properties: b"pp",
            payload: b"gone",
            qos: 1,
            retain: true,
            delay_s: 5,
            message_expiry_s: Some(0),
        };
        check(Record::Will { session, will });
        check(Record::Will { session, will: WillView { message_expiry_s: None, retain: false, ..will } });
        check(Record::WillGone { session });
        check(Record::Subscribed { session, filter: "+/#", options: 0x2E, subscription_id: 268_435_455 });
        check(Record::Unsubscribed { session, filter: "x" });
        let queued = QueuedMessage {
            number,
            message: LogOffset::at(SegmentId(3), 640),
            queued_as: QueuedAs { qos: 2, retain: true },
            ids: SubscriptionIds::NONE,
            group: None,
        };
        check(Record::Queued { session, queued });
        let ids = SubscriptionIds::Numbers(&[1, 268_435_455]);
        check(Record::Queued { session, queued: QueuedMessage { ids, ..queued } });
        check(Record::Queued { session, queued: QueuedMessage { group: Some("$share/g/t"), ..queued } });
        check(Record::Queued { session, queued: QueuedMessage { ids, group: Some("$share/g/t"), ..queued } });
        check(Record::Received { session, number });
        check(Record::Completed { session, number, count: 1 });
        check(Record::Completed { session, number, count: u16::MAX });
        let publication = PublicationRecord(1 << 63);
        check(Record::Taken { session, packet_id, publication: None });
        check(Record::Taken { session, packet_id, publication: Some(publication) });
        check(Record::Released { session, packet_id });
        check(Record::Came { publication });
        check(Record::Went { publication });
        check(Record::Retained { message: LogOffset::at(SegmentId(0), 64) });
        check(Record::RetainedCleared { topic: "a/b" });
    }

    /// A record as text, whichever way its identifiers are held.
    fn text(record: &Record<'_>) -> String {
        match record {
            Record::Queued { session, queued } => {
                let ids: Vec<u32> = queued.ids.iter().collect();
                let queued = QueuedMessage { ids: SubscriptionIds::NONE, ..*queued };
                format!("{session:?} {queued:?} {ids:?}")
            }
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn every_kind_is_read_back_as_it_was_written() {
        let mut kinds = 0;
        every_kind(&mut |record| {
            let mut bytes = vec![0; encoded_len(&record)];
            encode(&record, &mut bytes);
            assert!(bytes.len().is_multiple_of(8));
            bytes.extend_from_slice(&[0xAA; 8]);
            let (read, length) = decode(&bytes).unwrap();
            assert_eq!(length, bytes.len() - 8, "{record:?}");
            assert_eq!(text(&read), text(&record));
            kinds += 1;
        });
        assert_eq!(kinds, 25);
    }

    #[test]
    fn a_record_that_is_cut_is_refused_and_no_byte_makes_it_panic() {
        every_kind(&mut |record| {
            let mut bytes = vec![0; encoded_len(&record)];
            encode(&record, &mut bytes);
            for end in 0..HEAD_BYTES + body_len(&record) {
                assert!(decode(&bytes[..end]).is_err(), "{record:?} cut at {end}");
            }
            for at in 0..bytes.len() {
                for value in [0, 1, 0x7F, 0x80, 0xFF] {
                    let mut changed = bytes.clone();
                    changed[at] = value;
                    let _ = decode(&changed);
                }
            }
        });
    }

    #[test]
    fn a_batch_with_any_bit_changed_is_no_batch() {
        let body = [7; 24];
        let (length, first) = (body.len(), 1 << 33);
        let head = BatchHead { length, continues: true, goes_on: false, first, synced: None };
        let mut bytes = head.encode(SegmentId(5), &body).to_vec();
        bytes.extend_from_slice(&body);
        assert_eq!(BatchHead::decode(SegmentId(5), &bytes), Some((head, &body[..])));
        assert_eq!(BatchHead::decode(SegmentId(6), &bytes), None, "it belongs to its segment");
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(BatchHead::decode(SegmentId(5), &bytes), None, "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        assert_eq!(BatchHead::decode(SegmentId(5), &[0; 64]), None, "zeroes are the end");
    }
}
