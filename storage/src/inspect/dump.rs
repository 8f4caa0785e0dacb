//! Records as lines of text.

use std::fmt::Write;

use hashbrown::HashSet;

use crate::recover::seems::session_of;
use crate::recover::views::Views;
use crate::recover::walk::{Visit, walk};
use crate::{Damage, LogOffset, QueuedMessage, Record, SessionRecord, WillView};

/// What is dumped.
#[derive(Clone, Debug)]
pub struct DumpFilter {
    /// Only what is about the sessions of this client id and the messages queued for them.
    pub client_id: Option<String>,
    /// Only messages of this topic and what refers to them, and subscriptions to just it.
    pub topic: Option<String>,
    /// Payloads are cut to so many bytes.
    pub payload_bytes_max: usize,
}

impl Default for DumpFilter {
    fn default() -> Self {
        Self { client_id: None, topic: None, payload_bytes_max: 64 }
    }
}

/// Writes what passes the filter.
pub(super) fn dump<'a>(views: &Views<'a>, filter: &DumpFilter, each: &mut dyn FnMut(&str) -> bool) {
    let mut wanted =
        Wanted { filter, sessions: HashSet::new(), queued: HashSet::new(), of_topic: HashSet::new() };
    if filter.client_id.is_some() || filter.topic.is_some() {
        walk(views, &mut wanted);
    }
    let mut lines = Lines { wanted, each, goes_on: true };
    let walked = walk(views, &mut lines);
    for damage in walked.damage {
        lines.line(&damage_text(&damage));
    }
}

/// What the filter lets pass.
struct Wanted<'f> {
    filter: &'f DumpFilter,
    /// Those of the client.
    sessions: HashSet<SessionRecord>,
    /// Messages queued for them.
    queued: HashSet<LogOffset>,
    /// Messages of the topic.
    of_topic: HashSet<LogOffset>,
}

impl Wanted<'_> {
    fn passes(&self, at: LogOffset, record: &Record<'_>) -> bool {
        (self.filter.client_id.is_none() || self.is_of_client(at, record))
            && self.filter.topic.as_deref().is_none_or(|topic| self.is_of_topic(at, record, topic))
    }

    fn is_of_client(&self, at: LogOffset, record: &Record<'_>) -> bool {
        match record {
            Record::Message(_) => self.queued.contains(&at),
            other => session_of(other).is_some_and(|session| self.sessions.contains(&session)),
        }
    }

    fn is_of_topic(&self, at: LogOffset, record: &Record<'_>, wanted: &str) -> bool {
        match record {
            Record::Message(_) => self.of_topic.contains(&at),
            Record::Queued { queued: QueuedMessage { message, .. }, .. } | Record::Retained { message } => {
                self.of_topic.contains(message)
            }
            Record::RetainedCleared { topic } | Record::Will { will: WillView { topic, .. }, .. } => {
                *topic == wanted
            }
            Record::Subscribed { filter, .. } | Record::Unsubscribed { filter, .. } => *filter == wanted,
            _ => false,
        }
    }
}

impl<'a> Visit<'a> for Wanted<'_> {
    fn record(&mut self, at: LogOffset, _number: u64, record: Record<'a>) {
        match record {
            Record::SessionBegins { session, client_id, .. }
                if self.filter.client_id.as_deref() == Some(client_id) =>
            {
                self.sessions.insert(session);
            }
            Record::Queued { session, queued } if self.sessions.contains(&session) => {
                self.queued.insert(queued.message);
            }
            Record::Message(view)
                if self.filter.topic.as_ref().is_some_and(|topic| view.topic == topic.as_bytes()) =>
            {
                self.of_topic.insert(at);
            }
            _ => {}
        }
    }
}

struct Lines<'f, 'e> {
    wanted: Wanted<'f>,
    each: &'e mut dyn FnMut(&str) -> bool,
    goes_on: bool,
}

impl Lines<'_, '_> {
    fn line(&mut self, line: &str) {
        self.goes_on = self.goes_on && (self.each)(line);
    }
}

impl<'a> Visit<'a> for Lines<'_, '_> {
    fn record(&mut self, at: LogOffset, number: u64, record: Record<'a>) {
        if self.goes_on && self.wanted.passes(at, &record) {
            let line = text(at, number, &record, self.wanted.filter.payload_bytes_max);
            self.line(&line);
        }
    }
}

/// The name of a record's kind.
pub(super) fn kind(record: &Record<'_>) -> &'static str {
    match record {
        Record::Message(_) => "message",
        Record::SessionBegins { .. } => "session-begins",
        Record::SessionResumed { .. } => "session-resumed",
        Record::SessionClosed { .. } => "session-closed",
        Record::SessionEnded { .. } => "session-ended",
        Record::Will { .. } => "will",
        Record::WillGone { .. } => "will-gone",
        Record::Subscribed { .. } => "subscribed",
        Record::Unsubscribed { .. } => "unsubscribed",
        Record::Queued { .. } => "queued",
        Record::Received { .. } => "received",
        Record::Completed { .. } => "completed",
        Record::Taken { .. } => "taken",
        Record::Released { .. } => "released",
        Record::Came { .. } => "came",
        Record::Went { .. } => "went",
        Record::Retained { .. } => "retained",
        Record::RetainedCleared { .. } => "retained-cleared",
    }
}

fn place(at: LogOffset) -> String {
    format!("{:08x}:{:07x}", at.segment().0, at.place())
}

fn text(at: LogOffset, number: u64, record: &Record<'_>, payload_bytes_max: usize) -> String {
    let mut line = format!("{} {number} {}", place(at), kind(record));
    if let Some(session) = session_of(record) {
        put(&mut line, format_args!(" session={:x}", session.0));
    }
    match record {
        Record::Message(view) => {
            let (topic, qos) = (view.topic.escape_ascii(), view.qos);
            put(&mut line, format_args!(" topic=\"{topic}\" qos={qos}"));
            if view.expires_at_ms > 0 {
                put(&mut line, format_args!(" expires_at_ms={}", view.expires_at_ms));
            }
            bytes(&mut line, "properties", view.properties, payload_bytes_max);
            bytes(&mut line, "payload", view.payload, payload_bytes_max);
        }
        Record::SessionBegins { client_id, expiry_s, closed_at_ms, next, .. } => put(
            &mut line,
            format_args!(
                " client={client_id:?} expiry_s={expiry_s} closed_at_ms={closed_at_ms} next={}",
                next.0
            ),
        ),
        Record::SessionResumed { expiry_s, .. } => put(&mut line, format_args!(" expiry_s={expiry_s}")),
        Record::SessionClosed { expiry_s, at_ms, .. } => {
            put(&mut line, format_args!(" expiry_s={expiry_s} at_ms={at_ms}"));
        }
        Record::Will { will, .. } => {
            let WillView { topic, qos, retain, delay_s, message_expiry_s, .. } = will;
            put(&mut line, format_args!(" topic={topic:?} qos={qos} retain={retain} delay_s={delay_s}"));
            if let Some(expiry_s) = message_expiry_s {
                put(&mut line, format_args!(" expiry_s={expiry_s}"));
            }
            bytes(&mut line, "properties", will.properties, payload_bytes_max);
            bytes(&mut line, "payload", will.payload, payload_bytes_max);
        }
        Record::Subscribed { filter, options, subscription_id, .. } => {
            put(&mut line, format_args!(" filter={filter:?} options={options:#04x}"));
            put(&mut line, format_args!(" subscription_id={subscription_id}"));
        }
        Record::Unsubscribed { filter, .. } => put(&mut line, format_args!(" filter={filter:?}")),
        Record::Queued { queued, .. } => queued_text(&mut line, queued),
        Record::Received { number, .. } => put(&mut line, format_args!(" number={}", number.0)),
        Record::Completed { number, count, .. } => {
            put(&mut line, format_args!(" number={} count={count}", number.0));
        }
        Record::Taken { packet_id, publication, .. } => {
            put(&mut line, format_args!(" packet_id={packet_id}"));
            if let Some(publication) = publication {
                put(&mut line, format_args!(" publication={:x}", publication.0));
            }
        }
        Record::Released { packet_id, .. } => put(&mut line, format_args!(" packet_id={packet_id}")),
        Record::Came { publication } | Record::Went { publication } => {
            put(&mut line, format_args!(" publication={:x}", publication.0));
        }
        Record::Retained { message } => put(&mut line, format_args!(" message={}", place(*message))),
        Record::RetainedCleared { topic } => put(&mut line, format_args!(" topic={topic:?}")),
        Record::SessionEnded { .. } | Record::WillGone { .. } => {}
    }
    line
}

fn queued_text(line: &mut String, queued: &QueuedMessage<'_>) {
    let (message, as_) = (place(queued.message), queued.queued_as);
    put(line, format_args!(" number={} message={message}", queued.number.0));
    put(line, format_args!(" qos={} retain={}", as_.qos, as_.retain));
    if !queued.ids.is_empty() {
        put(line, format_args!(" ids={:?}", queued.ids.iter().collect::<Vec<_>>()));
    }
    if let Some(group) = queued.group {
        put(line, format_args!(" group={group:?}"));
    }
}

fn bytes(line: &mut String, name: &str, bytes: &[u8], bytes_max: usize) {
    if !bytes.is_empty() {
        let shown = bytes[..bytes.len().min(bytes_max)].escape_ascii();
        let more = if bytes.len() > bytes_max { "..." } else { "" };
        put(line, format_args!(" {name}({})=\"{shown}\"{more}", bytes.len()));
    }
}

fn damage_text(damage: &Damage) -> String {
    let Damage { segment, place, bytes, records, seems, torn_tail, .. } = damage;
    let what = if *torn_tail { "torn-end" } else { "damage" };
    let mut line = format!("{:08x}:{place:07x} - {what} bytes={bytes}", segment.0);
    if let Some(records) = records {
        put(&mut line, format_args!(" records={records}"));
    }
    put(&mut line, format_args!(" seems={seems:?}"));
    line
}

fn put(line: &mut String, text: std::fmt::Arguments<'_>) {
    // A String takes all that is written to it.
    let _ = line.write_fmt(text);
}
