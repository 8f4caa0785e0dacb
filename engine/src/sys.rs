//! The `$SYS` topics: shard 0 gathers everybody's counters and publishes them as retained messages.

use bytes::Bytes;
use ringmq_codec::QoS;
use ringmq_storage::{Log, LogFigures, MessageView};
use ringmq_turn::ShardId;

use crate::deliver::{Publication, Retained};
use crate::ledger::{DropReason, Ledger, Traffic};
use crate::mesh::ShardMessage;
use crate::route::RouteRef;
use crate::timers::Timer;
use crate::{Engine, EngineIo};

/// Where the counters of all shards meet.
#[derive(Debug)]
pub(crate) struct Figures {
    /// The last that each shard said.
    shards: Vec<Report>,
    started_ms: u64,
    /// Sums at the last publication, and its time, for the figures per second.
    before: Report,
    before_ms: u64,
}

/// What one shard says of itself.
pub type Report = (Ledger, Traffic, LogFigures);

impl Figures {
    pub(crate) fn new(shards: usize) -> Self {
        Self {
            shards: vec![Report::default(); shards],
            started_ms: 0,
            before: Default::default(),
            before_ms: 0,
        }
    }

    fn sums(&self) -> Report {
        let mut sums = Report::default();
        for (ledger, traffic, log) in &self.shards {
            sums.0.add(ledger);
            sums.1.add(traffic);
            sums.2.add(log);
        }
        sums
    }

    /// Every topic below `$SYS/broker/` with its value.
    fn topics(&self, version: &str, now_ms: u64) -> Vec<(String, String)> {
        let (ledger, traffic, log) = self.sums();
        let mut topics = vec![
            ("version".to_owned(), format!("ringmq {version}")),
            ("uptime".to_owned(), format!("{} seconds", (now_ms - self.started_ms) / 1000)),
            ("shards".to_owned(), self.shards.len().to_string()),
        ];
        topics.extend(counters(&ledger, &traffic).map(|(name, value)| (name.to_owned(), value.to_string())));
        topics.extend(
            DropReason::ALL.map(|reason| {
                (format!("ledger/dropped/{}", reason.name()), ledger.dropped(reason).to_string())
            }),
        );
        topics.extend(
            traffic
                .transport_ends
                .all()
                .map(|(reason, count)| (format!("transport/ended/{reason}"), count.to_string())),
        );
        topics.extend(log_topics(&log).map(|(name, value)| (format!("log/{name}"), value.to_string())));
        let elapsed_ms = now_ms.saturating_sub(self.before_ms).max(1);
        let earlier = rates(&self.before.0, &self.before.1);
        topics.extend(rates(&ledger, &traffic).into_iter().zip(earlier).map(|((name, now), (_, before))| {
            (format!("{name}/per_second"), (now.saturating_sub(before) * 1000 / elapsed_ms).to_string())
        }));
        topics
    }
}

fn counters(ledger: &Ledger, traffic: &Traffic) -> impl Iterator<Item = (&'static str, u64)> {
    [
        ("clients/connected", traffic.clients_connected),
        ("clients/disconnected", traffic.sessions.saturating_sub(traffic.clients_connected)),
        ("clients/total", traffic.sessions),
        ("clients/connects", traffic.connects),
        ("clients/violations", traffic.violations),
        ("subscriptions/count", traffic.subscriptions),
        ("retained messages/count", traffic.retained),
        ("retained messages/refused", traffic.retained_refused),
        ("publish/messages/received", traffic.publishes_received),
        ("publish/messages/sent", traffic.publishes_sent),
        ("publish/messages/dropped", ledger.dropped_total()),
        ("bytes/received", traffic.bytes_received),
        ("bytes/sent", traffic.bytes_sent),
        ("memory/messages", traffic.message_bytes),
        ("memory/partial packets", traffic.partial_bytes),
        ("ledger/received", ledger.received),
        ("ledger/copies", ledger.copies),
        ("ledger/delivered", ledger.delivered),
        ("ledger/queued", ledger.queued),
        ("ledger/expired", ledger.expired),
    ]
    .into_iter()
}

fn log_topics(log: &LogFigures) -> impl Iterator<Item = (&'static str, u64)> {
    [
        ("disk_bytes", log.disk_bytes),
        ("live_bytes", log.live_bytes),
        ("appended_bytes", log.appended_bytes),
        ("copied_bytes", log.copied_bytes),
        ("full", u64::from(log.full)),
        ("commits", log.commits),
        ("commits_failed", log.commits_failed),
        ("commit_us/p50", log.commit_us.percentile_us(50)),
        ("commit_us/p99", log.commit_us.percentile_us(99)),
        ("commit_us/max", log.commit_us.percentile_us(100)),
    ]
    .into_iter()
}

fn rates(_: &Ledger, traffic: &Traffic) -> [(&'static str, u64); 4] {
    [
        ("publish/messages/received", traffic.publishes_received),
        ("publish/messages/sent", traffic.publishes_sent),
        ("bytes/received", traffic.bytes_received),
        ("clients/connects", traffic.connects),
    ]
}

impl<L: Log> Engine<L> {
    /// This shard's counters, with the gauges as they are now.
    pub fn figures(&self) -> (Ledger, Traffic) {
        let mut traffic = self.traffic;
        traffic.sessions = (self.sessions.len() - self.locals.len()) as u64;
        traffic.retained = self.retained.len() as u64;
        traffic.message_bytes = self.log.held_bytes();
        (self.ledger, traffic)
    }

    /// Starts the clock of the `$SYS` topics.
    pub(crate) fn start_figures(&mut self, io: &EngineIo) {
        self.figures.started_ms = io.now.mono_ms;
        self.figures.before_ms = io.now.mono_ms;
        let every_ms = self.config.sys_interval_ms;
        if every_ms > 0 {
            // Shard 0 publishes what the others sent just before.
            let lead = if self.config.shard == ShardId::new(0) { every_ms } else { every_ms * 9 / 10 };
            self.wheel.schedule(io.now.mono_ms + lead, Timer::Figures);
        }
    }

    /// Reports this shard's counters; shard 0 publishes everybody's.
    pub(crate) fn publish_figures(&mut self, io: &mut EngineIo) {
        self.wheel.schedule(io.now.mono_ms + self.config.sys_interval_ms, Timer::Figures);
        let (ledger, traffic) = self.figures();
        let mine = (ledger, traffic, self.log.figures());
        if self.config.shard != ShardId::new(0) {
            io.message(ShardId::new(0), ShardMessage::Figures(Box::new(mine)));
            return;
        }
        self.take_figures(self.config.shard, mine);
        for (name, value) in self.figures.topics(self.config.version, io.now.mono_ms) {
            self.publish_figure(&format!("$SYS/broker/{name}"), value, io);
        }
        self.figures.before = self.figures.sums();
        self.figures.before_ms = io.now.mono_ms;
    }

    /// A shard reported its counters.
    pub(crate) fn take_figures(&mut self, from: ShardId, figures: Report) {
        self.figures.shards[from.index()] = figures;
    }

    /// Publishes one figure. The broker's own messages are not in the ledger as received or dropped,
    /// only as copies for those who subscribed.
    fn publish_figure(&mut self, topic: &str, value: String, io: &mut EngineIo) {
        let Ok(route) = self.router.route(topic.as_bytes(), RouteRef::default()) else { return };
        let payload = Bytes::from(value);
        let publication = Publication {
            view: MessageView {
                topic: topic.as_bytes(),
                properties: &[],
                payload: &payload,
                shared_payload: None,
                qos: 0,
                expires_at_ms: 0,
            },
            qos: QoS::AtMostOnce,
            retain: Retained::AsPublished,
            publisher: None,
            number: None,
        };
        self.spread(route, &publication, io);
    }
}
