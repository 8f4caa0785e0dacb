//! A log written in memory from a script.
//!
//! A line is a unit of records with `;` between them. `|` ends a batch inside a unit, a line `---` begins a
//! new segment. The words of each record stand in [`Written::record`].

use std::collections::HashMap;

use crate::format::{BATCH_HEAD_BYTES, BatchHead, segment_header};
use crate::recover::views::{View, Views};
use crate::{
    LogOffset, MessageView, PublicationRecord, QueueNumber, QueuedAs, QueuedMessage, Record, SegmentId,
    SessionRecord, SubscriptionIds, WillView, encode, encoded_len,
};

/// Zeroes behind what is written in a segment.
const PADDING: usize = 256;

/// Segments with what was written to them.
#[derive(Clone)]
pub(crate) struct Written {
    pub(crate) segments: Vec<(SegmentId, Vec<u8>)>,
    /// The number of the next record.
    pub(crate) next: u64,
    /// Where the messages of each name lie, the newest last.
    messages: HashMap<String, Vec<LogOffset>>,
    /// Where each unit ends, and how many lines of the script were used then.
    pub(crate) units: Vec<(SegmentId, usize)>,
}

impl Written {
    /// Writes a script.
    pub(crate) fn new(script: &str) -> Self {
        let mut log = Self { segments: Vec::new(), next: 0, messages: HashMap::new(), units: Vec::new() };
        log.begin_segment(SegmentId(4));
        log.go_on(script);
        log
    }

    pub(crate) fn go_on(&mut self, script: &str) {
        for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
            if line == "---" {
                let (last, _) = self.segments.last().expect("there is always one");
                self.begin_segment(SegmentId(last.0 + 1));
                continue;
            }
            let batches: Vec<_> = line.split('|').collect();
            for (index, batch) in batches.iter().enumerate() {
                if batch.trim() == "---" {
                    let (last, _) = self.segments.last().expect("there is always one");
                    self.begin_segment(SegmentId(last.0 + 1));
                    continue;
                }
                self.batch(batch, (index > 0, index + 1 < batches.len()));
            }
            self.units.push(self.end());
        }
    }

    pub(crate) fn begin_segment(&mut self, id: SegmentId) {
        let mut bytes = segment_header(id).to_vec();
        bytes.resize(bytes.len() + PADDING, 0);
        self.segments.push((id, bytes));
    }

    /// Where the last batch ends.
    pub(crate) fn end(&self) -> (SegmentId, usize) {
        let (id, bytes) = self.segments.last().expect("there is always one");
        (*id, bytes.len() - PADDING)
    }

    pub(crate) fn views(&self) -> Views<'_> {
        Views::new(self.segments.iter().map(|(id, bytes)| View { id: *id, bytes }).collect())
    }

    fn batch(&mut self, batch: &str, (goes_on, continues): (bool, bool)) {
        let (id, end) = self.end();
        let (mut body, first) = (Vec::new(), self.next);
        for text in batch.split(';') {
            let at = body.len();
            let words: Vec<_> = text.split_whitespace().collect();
            if words[0] == "msg" {
                let place = LogOffset::at(id, end + BATCH_HEAD_BYTES + at);
                self.messages.entry(words[1].to_owned()).or_default().push(place);
            }
            let record = self.record(&words);
            body.resize(at + encoded_len(&record), 0);
            encode(&record, &mut body[at..]);
            self.next += 1;
        }
        let head = BatchHead { length: body.len(), continues, goes_on, first, synced: None };
        let (_, bytes) = self.segments.last_mut().expect("there is always one");
        bytes.truncate(end);
        bytes.extend_from_slice(&head.encode(id, &body));
        bytes.extend_from_slice(&body);
        bytes.resize(bytes.len() + PADDING, 0);
    }

    /// A record from its words. A message has its name as payload; `~name` is the copy before the newest,
    /// `!` a place without message.
    fn record<'w>(&self, words: &[&'w str]) -> Record<'w> {
        let number = |index: usize| words.get(index).map_or(0, |word| word.parse::<u64>().unwrap());
        let session = || SessionRecord(number(1));
        match words[0] {
            "msg" => Record::Message(MessageView {
                topic: words[2].as_bytes(),
                properties: b"",
                payload: words[1].as_bytes(),
                shared_payload: None,
                qos: 1,
                expires_at_ms: 0,
            }),
            "begin" => Record::SessionBegins {
                session: session(),
                client_id: words[2],
                expiry_s: 60,
                closed_at_ms: number(4),
                next: QueueNumber(number(3)),
            },
            "resume" => Record::SessionResumed { session: session(), expiry_s: number(2) as u32 },
            "close" => Record::SessionClosed { session: session(), expiry_s: 50, at_ms: number(2) },
            "end" => Record::SessionEnded { session: session() },
            "will" => Record::Will {
                session: session(),
                will: WillView {
                    topic: words[2],
                    properties: b"",
                    payload: b"gone",
                    qos: 1,
                    retain: false,
                    delay_s: 0,
                    message_expiry_s: None,
                },
            },
            "nowill" => Record::WillGone { session: session() },
            "sub" => {
                Record::Subscribed { session: session(), filter: words[2], options: 1, subscription_id: 0 }
            }
            "unsub" => Record::Unsubscribed { session: session(), filter: words[2] },
            "q" => Record::Queued { session: session(), queued: self.queued(words, number(2)) },
            "recv" => Record::Received { session: session(), number: QueueNumber(number(2)) },
            "done" => Record::Completed { session: session(), number: QueueNumber(number(2)), count: 1 },
            "take" => {
                let publication = words.get(3).map(|_| PublicationRecord(number(3)));
                Record::Taken { session: session(), packet_id: number(2) as u16, publication }
            }
            "rel" => Record::Released { session: session(), packet_id: number(2) as u16 },
            "came" => Record::Came { publication: PublicationRecord(number(1)) },
            "went" => Record::Went { publication: PublicationRecord(number(1)) },
            "ret" => Record::Retained { message: self.message(words[1]) },
            "clear" => Record::RetainedCleared { topic: words[1] },
            other => panic!("no record is called {other}"),
        }
    }

    fn queued<'w>(&self, words: &[&'w str], number: u64) -> QueuedMessage<'w> {
        let ids: &[u32] = if words.get(4) == Some(&"ids") { &[7, 9] } else { &[] };
        QueuedMessage {
            number: QueueNumber(number),
            message: self.message(words[3]),
            queued_as: QueuedAs { qos: 1, retain: false },
            ids: SubscriptionIds::Numbers(ids),
            group: words.get(5).copied(),
        }
    }

    fn message(&self, name: &str) -> LogOffset {
        if name == "!" {
            return LogOffset::at(SegmentId(4), 64);
        }
        let (name, back) = name.strip_prefix('~').map_or((name, 1), |name| (name, 2));
        let places = &self.messages[name];
        places[places.len() - back]
    }
}
