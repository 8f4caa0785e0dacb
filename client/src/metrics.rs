//! Counts of sessions, and of all of them together.

mod rates;
mod text;

use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

pub(crate) use self::rates::Meter;
pub use self::rates::Rates;
pub(crate) use self::text::{Exporter, Exposition, Kind};

use crate::link::SessionMetrics;
use crate::options::SessionOptions;
use crate::status::Status;

/// What was counted, ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// PUBLISH packets written, repetitions included.
    pub messages_sent: u64,
    /// PUBLISH packets received.
    pub messages_received: u64,
    /// Bytes of packets written.
    pub bytes_sent: u64,
    /// Bytes of topics and payloads received.
    pub bytes_received: u64,
    /// Connections that failed or were lost, publications and subscriptions that were refused.
    pub errors: u64,
    /// Connections after the first.
    pub reconnects: u64,
}

impl Counts {
    pub(crate) fn read(counters: &SessionMetrics) -> Self {
        Self {
            messages_sent: counters.messages_sent.load(Ordering::Relaxed),
            messages_received: counters.messages_received.load(Ordering::Relaxed),
            bytes_sent: counters.bytes_sent.load(Ordering::Relaxed),
            bytes_received: counters.bytes_received.load(Ordering::Relaxed),
            errors: counters.errors.load(Ordering::Relaxed),
            reconnects: counters.reconnects.load(Ordering::Relaxed),
        }
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.messages_sent += other.messages_sent;
        self.messages_received += other.messages_received;
        self.bytes_sent += other.bytes_sent;
        self.bytes_received += other.bytes_received;
        self.errors += other.errors;
        self.reconnects += other.reconnects;
    }

    pub(crate) fn messages(&self) -> u64 {
        self.messages_sent + self.messages_received
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes_sent + self.bytes_received
    }
}

/// One session, as [`crate::Session::metrics`] finds it.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// What was counted since the session was added.
    pub counts: Counts,
    /// How fast it goes.
    pub rates: Rates,
    /// Where the session is.
    pub status: Status,
    /// Subscriptions that the broker has acknowledged.
    pub subscriptions: u32,
    /// Messages that wait to be sent.
    pub waiting: usize,
    /// When a message was last sent or received.
    pub last_message: Option<SystemTime>,
    /// When something last went wrong.
    pub last_error: Option<SystemTime>,
}

/// All sessions of a manager, as [`crate::Manager::metrics`] finds them.
#[derive(Clone, Debug, Default)]
pub struct ManagerMetrics {
    /// What was counted, by sessions that were removed too.
    pub counts: Counts,
    /// How fast it goes.
    pub rates: Rates,
    /// Sessions that there are.
    pub sessions: usize,
    /// Of them, those whose connection the broker has accepted.
    pub connected: usize,
    /// Of them, those whose subscriptions are all made.
    pub ready: usize,
    /// Subscriptions of all of them.
    pub subscriptions: u64,
}

pub(crate) fn time(ms: u64) -> Option<SystemTime> {
    (ms > 0).then(|| SystemTime::UNIX_EPOCH + Duration::from_millis(ms))
}

fn seconds(time: Option<SystemTime>) -> f64 {
    time.and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok()).map_or(0.0, |d| d.as_secs_f64())
}

fn flag(is: bool) -> f64 {
    f64::from(u8::from(is))
}

/// What Prometheus gets of a session; integers that are beyond 2^53 lose digits there anyway.
pub(crate) fn export_session(out: &mut Exposition, options: &SessionOptions, metrics: &Metrics) {
    let Metrics { counts, rates, status, .. } = metrics;
    // Whether the broker keeps the session when the connection ends.
    let is_persistent = !options.clean_start || options.session_expiry_s > 0;
    let table: [(&str, &str, Kind, f64); 19] = [
        ("messages_sent_total", "PUBLISH packets written", Kind::Counter, counts.messages_sent as f64),
        (
            "messages_received_total",
            "PUBLISH packets received",
            Kind::Counter,
            counts.messages_received as f64,
        ),
        ("bytes_sent_total", "Bytes written", Kind::Counter, counts.bytes_sent as f64),
        ("bytes_received_total", "Bytes received", Kind::Counter, counts.bytes_received as f64),
        ("errors_total", "Connections lost, and requests refused", Kind::Counter, counts.errors as f64),
        ("reconnects_total", "Connections after the first", Kind::Counter, counts.reconnects as f64),
        ("message_rate", "Messages a second since the last look", Kind::Gauge, rates.messages_per_s),
        (
            "avg_message_rate",
            "Messages a second since the session was added",
            Kind::Gauge,
            rates.messages_per_s_average,
        ),
        ("bytes_rate", "Bytes a second since the last look", Kind::Gauge, rates.bytes_per_s),
        (
            "connected",
            "Whether the broker has accepted the connection",
            Kind::Gauge,
            flag(status.is_connected()),
        ),
        (
            "status",
            "0 idle, 1 connecting, 2 connected, 3 ready, 4 waiting, 5 disconnected, 6 failed, 7 removed",
            Kind::Gauge,
            f64::from(status.number()),
        ),
        (
            "subscriptions",
            "Subscriptions that the broker acknowledged",
            Kind::Gauge,
            f64::from(metrics.subscriptions),
        ),
        ("waiting_messages", "Messages that wait to be sent", Kind::Gauge, metrics.waiting as f64),
        (
            "last_message_timestamp_seconds",
            "When a message was last sent or received, 0 for never",
            Kind::Gauge,
            seconds(metrics.last_message),
        ),
        (
            "last_error_timestamp_seconds",
            "When something last went wrong, 0 for never",
            Kind::Gauge,
            seconds(metrics.last_error),
        ),
        ("persistent", "Whether the broker keeps the session", Kind::Gauge, flag(is_persistent)),
        ("clean_session", "Whether it starts clean", Kind::Gauge, flag(options.clean_start)),
        ("auto_reconnect", "Whether it reconnects", Kind::Gauge, flag(options.reconnect)),
        ("ready", "Whether all subscriptions are made", Kind::Gauge, flag(*status == Status::Ready)),
    ];
    for (name, help, kind, value) in table {
        out.sample(("mqtt_session_", name, help, kind), &[("session", &options.name)], value);
    }
}

/// What Prometheus gets of all sessions together.
pub(crate) fn export_manager(out: &mut Exposition, metrics: &ManagerMetrics) {
    let ManagerMetrics { counts, rates, .. } = metrics;
    let table: [(&str, &str, Kind, f64); 13] = [
        ("messages_sent_total", "PUBLISH packets written", Kind::Counter, counts.messages_sent as f64),
        (
            "messages_received_total",
            "PUBLISH packets received",
            Kind::Counter,
            counts.messages_received as f64,
        ),
        ("bytes_sent_total", "Bytes written", Kind::Counter, counts.bytes_sent as f64),
        ("bytes_received_total", "Bytes received", Kind::Counter, counts.bytes_received as f64),
        ("errors_total", "Connections lost, and requests refused", Kind::Counter, counts.errors as f64),
        ("reconnects_total", "Connections after the first", Kind::Counter, counts.reconnects as f64),
        ("message_rate", "Messages a second since the last look", Kind::Gauge, rates.messages_per_s),
        ("avg_message_rate", "Messages a second since the start", Kind::Gauge, rates.messages_per_s_average),
        ("bytes_rate", "Bytes a second since the last look", Kind::Gauge, rates.bytes_per_s),
        ("sessions", "Sessions that there are", Kind::Gauge, metrics.sessions as f64),
        ("connected_sessions", "Sessions that are connected", Kind::Gauge, metrics.connected as f64),
        ("ready_sessions", "Sessions that are ready", Kind::Gauge, metrics.ready as f64),
        ("subscriptions", "Subscriptions of all sessions", Kind::Gauge, metrics.subscriptions as f64),
    ];
    for (name, help, kind, value) in table {
        out.sample(("mqtt_manager_", name, help, kind), &[], value);
    }
}
