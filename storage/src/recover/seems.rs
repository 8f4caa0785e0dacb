//! What damaged bytes seem to have been. They may hold anything: this is for people to read, nothing else.

use std::fmt::Write;

use crate::recover::walk::step;
use crate::{Record, SessionRecord, decode};

/// So many names of one kind are told.
const NAMES_MAX: usize = 3;
/// So many sessions are remembered of one place.
const SESSIONS_MAX: usize = 1000;
/// Names are cut to so many characters.
const NAME_CHARS_MAX: usize = 64;

/// What bytes seem to have been, and about which sessions.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Seems {
    pub(crate) text: String,
    pub(crate) sessions: Vec<SessionRecord>,
}

impl Seems {
    pub(crate) fn of(text: &str) -> Self {
        Self { text: text.to_owned(), sessions: Vec::new() }
    }
}

/// What kinds of records there seem to be.
#[derive(Default)]
struct Kinds {
    kinds: Vec<Kind>,
}

struct Kind {
    /// One of them, and several.
    words: (&'static str, &'static str),
    count: usize,
    names: Vec<String>,
}

impl Kinds {
    fn add(&mut self, words: (&'static str, &'static str), name: &str) {
        let known = self.kinds.iter().position(|kind| kind.words == words);
        let index = known.unwrap_or_else(|| {
            self.kinds.push(Kind { words, count: 0, names: Vec::new() });
            self.kinds.len() - 1
        });
        let kind = &mut self.kinds[index];
        kind.count += 1;
        let name: String = name.chars().take(NAME_CHARS_MAX).collect();
        if !name.is_empty() && kind.names.len() <= NAMES_MAX && !kind.names.contains(&name) {
            kind.names.push(name);
        }
    }
}

/// What records seem to stand in `body`, which was to be the records of a batch.
pub(crate) fn describe(state: &str, body: &[u8]) -> Seems {
    let (mut kinds, mut sessions, mut at) = (Kinds::default(), Vec::new(), 0);
    while at < body.len() {
        let rest = &body[at..];
        match decode(rest) {
            Ok((record, bytes)) => {
                let session = session_of(&record);
                sessions.extend(session.filter(|_| sessions.len() < SESSIONS_MAX));
                let (words, name) = words(&record);
                kinds.add(words, name);
                at += bytes.min(rest.len());
            }
            Err(_) if step(rest) < rest.len() && decode(&rest[step(rest)..]).is_ok() => {
                kinds.add(("unreadable record", "unreadable records"), "");
                at += step(rest);
            }
            Err(_) => break,
        }
    }
    sessions.sort_unstable();
    sessions.dedup();
    let mut text = format!("{state} records");
    let mut separator = ": ";
    for Kind { words, count, names } in kinds.kinds {
        let word = if count == 1 { words.0 } else { words.1 };
        // A String takes all that is written to it.
        let _ = write!(text, "{separator}{count} {word}");
        separator = ", ";
        if let Some(shown) = names.get(..names.len().min(NAMES_MAX)).filter(|shown| !shown.is_empty()) {
            let more = if names.len() > NAMES_MAX { ", ..." } else { "" };
            let _ = write!(
                text,
                " ({}{more})",
                shown.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ")
            );
        }
    }
    if at < body.len() {
        let _ = write!(text, "{separator}{} bytes that are no records", body.len() - at);
    }
    Seems { text, sessions }
}

/// The session that a record is about, on this shard.
pub(crate) fn session_of(record: &Record<'_>) -> Option<SessionRecord> {
    match *record {
        Record::SessionBegins { session, .. }
        | Record::SessionResumed { session, .. }
        | Record::SessionClosed { session, .. }
        | Record::SessionEnded { session }
        | Record::Will { session, .. }
        | Record::WillGone { session }
        | Record::Subscribed { session, .. }
        | Record::Unsubscribed { session, .. }
        | Record::Queued { session, .. }
        | Record::Received { session, .. }
        | Record::Completed { session, .. }
        | Record::Taken { session, .. }
        | Record::Released { session, .. } => Some(session),
        Record::Came { .. }
        | Record::Went { .. }
        | Record::Message(_)
        | Record::Retained { .. }
        | Record::RetainedCleared { .. } => None,
    }
}

/// What a record is called, one and several, and a name in it.
fn words<'a>(record: &Record<'a>) -> ((&'static str, &'static str), &'a str) {
    match *record {
        Record::Message(view) => {
            (("message", "messages"), std::str::from_utf8(view.topic).unwrap_or("an unreadable topic"))
        }
        Record::SessionBegins { client_id, .. } => (("session", "sessions"), client_id),
        Record::SessionResumed { .. } => (("reconnection", "reconnections"), ""),
        Record::SessionClosed { .. } => (("disconnection", "disconnections"), ""),
        Record::SessionEnded { .. } => (("end of a session", "ends of sessions"), ""),
        Record::Will { will, .. } => (("will", "wills"), will.topic),
        Record::WillGone { .. } => (("end of a will", "ends of wills"), ""),
        Record::Subscribed { filter, .. } => (("subscription", "subscriptions"), filter),
        Record::Unsubscribed { filter, .. } => (("end of a subscription", "ends of subscriptions"), filter),
        Record::Queued { .. } => (("entry of a queue", "entries of queues"), ""),
        Record::Received { .. } => (("QoS 2 reception", "QoS 2 receptions"), ""),
        Record::Completed { .. } => (("completed delivery", "completed deliveries"), ""),
        Record::Taken { .. } | Record::Released { .. } | Record::Came { .. } | Record::Went { .. } => {
            (("mark of a QoS 2 exchange", "marks of QoS 2 exchanges"), "")
        }
        Record::Retained { .. } => (("retained message", "retained messages"), ""),
        Record::RetainedCleared { topic } => {
            (("end of a retained message", "ends of retained messages"), topic)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{encode, encoded_len};

    fn body(records: &[Record<'_>]) -> Vec<u8> {
        let mut body = Vec::new();
        for record in records {
            let at = body.len();
            body.resize(at + encoded_len(record), 0);
            encode(record, &mut body[at..]);
        }
        body
    }

    #[test]
    fn records_are_counted_and_named() {
        let session = SessionRecord(5);
        let filters = ["a/#", "b", "c", "d", "a/#"];
        let subscribed = |filter| Record::Subscribed { session, filter, options: 1, subscription_id: 0 };
        let mut records: Vec<_> = filters.into_iter().map(subscribed).collect();
        records.push(Record::SessionEnded { session: SessionRecord(3) });
        let mut bytes = body(&records);
        let seems = describe("damaged", &bytes);
        assert_eq!(
            seems.text,
            "damaged records: 5 subscriptions (\"a/#\", \"b\", \"c\", ...), 1 end of a session"
        );
        assert_eq!(seems.sessions, [SessionRecord(3), session]);
        bytes[0] = 99;
        assert!(describe("damaged", &bytes).text.contains("1 unreadable record, 4 subscriptions"));
        bytes[4] = 1;
        assert_eq!(describe("damaged", &bytes).text, "damaged records: 136 bytes that are no records");
        assert_eq!(describe("damaged", &[]).text, "damaged records");
    }
}
