//! What is left when all of a log was read.

use crate::recover::queue::Entry;
use crate::recover::sessions::{Session, State, Subscription};
use crate::recover::views::Views;
use crate::recover::walk::Walked;
use crate::{
    LogOffset, PublicationRecord, Record, Recovered, RecoveredMessage, RecoveredSession,
    RecoveredSubscription, RecoveredWill, WillView,
};

/// So many sentences on losses are told.
const LOSSES_MAX: usize = 1000;

/// What was in the log, and every reference to a message, sorted.
pub(super) fn recovered(mut state: State<'_, '_>, walked: Walked) -> (Recovered, Vec<LogOffset>) {
    let losses = losses(&state, &walked);
    let views = state.views;
    let mut out = Recovered {
        retained: state.take_retained(),
        came: came(&state),
        damage: walked.damage,
        losses,
        ..Recovered::default()
    };
    let mut references = out.retained.clone();
    // Where a session went in the output.
    let mut ranks = vec![None; state.sessions.len()];
    let mut living: Vec<_> = std::mem::take(&mut state.sessions).into_iter().enumerate().collect();
    living.retain(|(_, session)| session.begun_at.is_some() && !session.has_ended);
    living.sort_unstable_by_key(|(_, session)| session.record);
    let mut begun = Vec::with_capacity(living.len());
    out.sessions.reserve_exact(living.len());
    for (index, session) in living {
        ranks[index] = Some(out.sessions.len());
        begun.extend(session.begun_at);
        out.sessions.extend(finish(session, views, &mut references));
    }
    add_subscriptions(&mut state, &mut out.sessions, (&ranks, &begun));
    for (&(session, packet_id), &(told_at, publication)) in &state.taken {
        if let Some(rank) = ranks[session as usize].filter(|&rank| told_at > begun[rank]) {
            out.sessions[rank].taken.push((packet_id, publication));
        }
    }
    for session in &mut out.sessions {
        session.taken.sort_unstable();
    }
    references.sort_unstable();
    (out, references)
}

fn came(state: &State<'_, '_>) -> Vec<PublicationRecord> {
    let mut came: Vec<_> = state.came.iter().copied().collect();
    came.sort_unstable();
    came
}

/// A session without subscriptions and packet ids, if it lives.
fn finish(session: Session, views: &Views<'_>, references: &mut Vec<LogOffset>) -> Option<RecoveredSession> {
    let begun_at = session.begun_at?;
    let Record::SessionBegins { client_id, .. } = views.record(begun_at) else {
        unreachable!("a session began at {begun_at:?}");
    };
    let mut messages = Vec::with_capacity(session.queue.len());
    for entry in session.queue.into_entries().filter(|entry| !entry.is_lost()) {
        references.extend(entry.message());
        messages.push(message(entry, views));
    }
    Some(RecoveredSession {
        record: session.record,
        client_id: client_id.into(),
        expiry_s: session.expiry_s,
        closed_at_ms: session.closed_at_ms,
        subscriptions: Vec::new(),
        will: session.will_at.map(|at| will(at, views)),
        taken: Vec::new(),
        messages,
        next: session.next,
        told_in: begun_at.segment(),
    })
}

#[inline]
fn message(entry: Entry, views: &Views<'_>) -> RecoveredMessage {
    RecoveredMessage {
        number: entry.number,
        queued_as: entry.queued_as(),
        message: entry.message(),
        more: entry.has_more().then(|| Box::new(views.queued_more(entry.told_at))),
    }
}

fn will(at: LogOffset, views: &Views<'_>) -> RecoveredWill {
    let Record::Will { will, .. } = views.record(at) else { unreachable!("a will lies at {at:?}") };
    let WillView { topic, properties, payload, qos, retain, delay_s, message_expiry_s } = will;
    RecoveredWill {
        topic: topic.into(),
        properties: properties.into(),
        payload: payload.into(),
        qos,
        retain,
        delay_s,
        message_expiry_s,
    }
}

/// Gives each session the subscriptions that were told since it last began, in the order of the log.
fn add_subscriptions(
    state: &mut State<'_, '_>,
    sessions: &mut [RecoveredSession],
    (ranks, begun): (&[Option<usize>], &[LogOffset]),
) {
    let views = state.views;
    let mut all: Vec<_> = std::mem::take(&mut state.subscriptions).into_iter().collect();
    all.retain(|one| ranks[one.session as usize].is_some_and(|rank| one.told_at > begun[rank]));
    all.sort_unstable_by_key(|one| (one.session, one.told_at));
    let read = |one: &Subscription| {
        let Record::Subscribed { filter, options, subscription_id, .. } = views.record(one.told_at) else {
            unreachable!("a subscription lies at {:?}", one.told_at);
        };
        RecoveredSubscription { filter: filter.into(), options, subscription_id }
    };
    for of_one in all.chunk_by(|a, b| a.session == b.session) {
        if let Some(rank) = ranks[of_one[0].session as usize] {
            sessions[rank].subscriptions = of_one.iter().map(read).collect();
        }
    }
}

fn messages(count: usize) -> String {
    if count == 1 { "a message".to_owned() } else { format!("{count} messages") }
}

fn are(count: usize) -> &'static str {
    if count == 1 { "is" } else { "are" }
}

fn was(count: usize) -> &'static str {
    if count == 1 { "was" } else { "were" }
}

/// What is known to be lost.
fn losses(state: &State<'_, '_>, walked: &Walked) -> Vec<String> {
    let mut losses = Vec::new();
    let client = |session: &Session| match session.begun_at.map(|at| state.views.record(at)) {
        Some(Record::SessionBegins { client_id, .. }) => Some(client_id),
        _ => None,
    };
    let (mut nameless, mut nameless_messages) = (0, 0);
    for session in state.sessions.iter().filter(|session| !session.has_ended) {
        let Some(client) = client(session) else {
            nameless += usize::from(session.queue.len() > 0);
            nameless_messages += session.queue.len();
            continue;
        };
        let lost = session.queue.lost();
        if lost > 0 {
            losses.push(format!("{} that waited for client {client:?} {} lost", messages(lost), are(lost)));
        }
    }
    let is_damaged = walked.damage.iter().any(|damage| !damage.torn_tail);
    if nameless > 0 && is_damaged {
        let sessions = if nameless == 1 { "a session".to_owned() } else { format!("{nameless} sessions") };
        losses.push(format!(
            "{} that waited for {sessions} of unknown clients {} lost",
            messages(nameless_messages),
            are(nameless_messages)
        ));
    }
    if state.retained_lost > 0 {
        let lost = state.retained_lost;
        losses.push(format!("{} that {} retained {} lost", messages(lost), was(lost), are(lost)));
    }
    let mut touched = walked.touched.clone();
    touched.sort_unstable();
    touched.dedup();
    let living = touched.into_iter().filter_map(|record| state.session(record));
    for client in living.filter(|session| !session.has_ended).filter_map(client) {
        losses.push(format!(
            "records about client {client:?} are damaged: what it subscribed to or waits for may be \
             incomplete or outdated"
        ));
    }
    if losses.len() > LOSSES_MAX {
        let more = losses.len() - LOSSES_MAX;
        losses.truncate(LOSSES_MAX);
        losses.push(format!("and {more} more like these"));
    }
    losses
}
