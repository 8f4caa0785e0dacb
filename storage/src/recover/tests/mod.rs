//! Logs written record by record, and what is read from them.

mod cut;
mod model;
mod table;
pub(crate) mod written;

use super::views::Views;
use super::{Reading, read};
use crate::{LogOffset, RecoveredMessage, RecoveredSession};
use written::Written;

/// Reads a log that was written in memory.
fn reading(log: &Written) -> Reading {
    read(&log.views(), &|_| {})
}

/// What was read, a line for each session and retained message.
fn text(log: &Written, reading: &Reading) -> String {
    let (views, recovered) = (log.views(), &reading.recovered);
    let mut lines: Vec<String> = recovered.sessions.iter().map(|one| session_text(one, &views)).collect();
    let mut retained: Vec<_> = recovered.retained.iter().map(|&at| message_text(at, &views)).collect();
    retained.sort();
    lines.extend(retained.into_iter().map(|message| format!("retained {message}")));
    lines.extend(recovered.came.iter().map(|came| format!("came {}", came.0)));
    lines.join("\n")
}

fn session_text(session: &RecoveredSession, views: &Views<'_>) -> String {
    let mut text = format!("{} {} expiry={}", session.record.0, session.client_id, session.expiry_s);
    if let Some(at_ms) = session.closed_at_ms {
        text += &format!(" closed={at_ms}");
    }
    text += &format!(" next={}", session.next.0);
    let mut filters: Vec<_> = session.subscriptions.iter().map(|one| &*one.filter).collect();
    filters.sort_unstable();
    for filter in filters {
        text += &format!(" sub={filter}");
    }
    if let Some(will) = &session.will {
        text += &format!(" will={}", will.topic);
    }
    for (packet_id, publication) in &session.taken {
        let publication = publication.map_or(0, |publication| publication.0);
        text += &format!(" taken={packet_id}/{publication}");
    }
    for message in &session.messages {
        text += &queued_text(message, views);
    }
    text
}

fn queued_text(message: &RecoveredMessage, views: &Views<'_>) -> String {
    let what = message.message.map_or("received".to_owned(), |at| message_text(at, views));
    let more = match message.more.as_deref() {
        Some((ids, group)) => format!("{ids:?}{}", group.as_deref().unwrap_or("")),
        None => String::new(),
    };
    format!(" {}:{what}{more}", message.number.0)
}

/// A message's topic and payload.
fn message_text(at: LogOffset, views: &Views<'_>) -> String {
    let message = views.message(at);
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    format!("{}={}", text(message.topic), text(message.payload))
}
