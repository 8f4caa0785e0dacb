//! Runs a scenario: starts the cores, leads them step by step, and gathers what they tell.

mod intervals;
mod losses;
mod phase;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ringmq_client::parts::SessionOptions;
use ringmq_client::parts::prepare;
use ringmq_client::{SessionBuilder, Tls};
use ringmq_codec::Version;
use ringmq_shards::{Handle, Peer, PeerAddress, Runtime, RuntimeConfig, start};
use ringmq_turn::ShardId;

use crate::core::Load;
use crate::core::clock::Clock;
use crate::core::messages::{Command, Event};
use crate::course::Course;
use crate::limits;
use crate::measure::Sample;
use crate::payload::Tag;
use crate::plan::Plan;
use crate::process::{self, Listener};
use crate::report::{FORMAT, Interval, Machine, Messages, Report, VERSION, kernel};
use crate::scenario::{Group, Scenario, Step};

/// Why a run did not come about.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RunError {
    /// What was asked for cannot be.
    #[error("{0}")]
    Usage(String),
    /// This machine does not let us.
    #[error("{0}")]
    Start(String),
}

/// Hears how a run goes on.
pub trait Watcher {
    /// A part of it begins.
    fn begins(&mut self, _phase: &str) {}
    /// A piece of a part is over. The sample holds its times.
    fn interval(&mut self, _phase: &str, _interval: &Interval, _sample: &Sample) {}
    /// Something is to be known.
    fn says(&mut self, _line: &str) {}
}

/// Hears nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silence;

impl Watcher for Silence {}

/// Words of the user's that a report repeats.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// How the run was asked for.
    pub words: &'a str,
    /// Set to end it early; the report is made all the same.
    pub stop: &'a AtomicBool,
}

/// The end of a run takes no longer.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(2);
/// How long a connection has to close.
const LINGER_MS: u64 = 500;

/// A run under way.
struct Runner<'a> {
    plan: Arc<Plan>,
    clock: Clock,
    handle: Handle<Command>,
    events: Receiver<(usize, Event)>,
    stop: &'a AtomicBool,
    watcher: &'a mut dyn Watcher,
    step: u32,
    /// All that was counted.
    totals: Sample,
    broker_pid: Option<u32>,
    /// Where the broker is.
    broker: Option<Peer>,
    /// A command was run, and nobody connected since.
    is_after_command: bool,
    /// Of the copies that the broker keeps, those that somebody came for.
    kept_awaited: u64,
    /// The broker when the run began.
    first_usage: Option<process::Usage>,
    report: Report,
}

/// Runs a scenario.
///
/// # Errors
/// It could not begin. Whatever happens later is in the report.
pub fn run(scenario: Scenario, asked: Asked<'_>, watcher: &mut dyn Watcher) -> Result<Report, RunError> {
    let limit = limits::raise_open_files();
    let (clients, threads) = (scenario.clients(), scenario.settings.threads);
    if let Some(fault) = limits::open_files_fault(clients, threads, limit) {
        return Err(RunError::Usage(fault));
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let (run, tag) = run_word(now);
    let plan = Arc::new(Plan::new(scenario, run, tag).map_err(RunError::Usage)?);
    let (options, peers) = sessions(&plan)?;
    if peers.iter().all(|peer| matches!(peer.address, PeerAddress::Tcp { .. }))
        && let Some(fault) = limits::ports_fault(clients, plan.scenario.target.sources.len())
    {
        return Err(RunError::Usage(fault));
    }
    let clock = Clock::new();
    let (tell, events) = channel();
    let runtime = start_cores(&plan, options, clock, move |core, event| {
        // Who does not listen any more is at the end.
        let _ = tell.send((core, event));
    })?;
    let handle = runtime.handle();
    let broker_pid = plan.scenario.settings.broker_pid.or_else(|| find_broker(peers.first()?));
    let broker = peers.first().cloned();
    let ids: Vec<_> = peers.into_iter().map(|peer| handle.add_peer(peer)).collect();
    let report = Report {
        format: FORMAT.to_owned(),
        version: VERSION,
        generator_version: env!("CARGO_PKG_VERSION").to_owned(),
        name: plan.scenario.name.clone(),
        address: plan.scenario.target.address.clone(),
        started_ms: now.as_millis() as u64,
        asked: asked.words.to_owned(),
        notices: plan.notices.clone(),
        machine: Machine {
            kernel: kernel(),
            cpus: limits::cpus(),
            threads,
            broker: broker_pid.and_then(|pid| Some(format!("{} (process {pid})", process::name(pid)?))),
        },
        clients: plan.scenario.groups.iter().map(group_words).collect(),
        ..Report::default()
    };
    for notice in &plan.notices {
        watcher.says(notice);
    }
    let mut runner = Runner {
        plan,
        clock,
        handle,
        events,
        stop: asked.stop,
        watcher,
        step: 0,
        totals: Sample::default(),
        broker_pid,
        broker,
        is_after_command: false,
        kept_awaited: 0,
        first_usage: broker_pid.and_then(|pid| process::look(pid, 0)),
        report,
    };
    runner.send_all(&Command::Begin(ids));
    runner.run_steps();
    runner.count_losses();
    let mut report = runner.report;
    report.troubles = runner.totals.troubles;
    if let Err(failure) = runtime.shutdown(SHUTDOWN_GRACE) {
        report.troubles.push((format!("the generator failed: {failure}"), 1));
    }
    Ok(report)
}

/// A word for topics and client ids, and a tag for payloads, that differ from run to run.
fn run_word(now: Duration) -> (String, Tag) {
    let seed = now.as_nanos() as u64 ^ u64::from(std::process::id()) << 32;
    let word = crate::random::Random::new(seed).next();
    (format!("{:06x}", word >> 40), Tag(word as u8))
}

/// What sessions are told, by group, and again for those that are to be forgotten; and where they connect.
fn sessions(plan: &Plan) -> Result<(Vec<Arc<SessionOptions>>, Vec<Peer>), RunError> {
    let mut all = Vec::new();
    let mut ends = Vec::new();
    for forget in [false, true] {
        for group in &plan.scenario.groups {
            let (options, peers) =
                prepare(session(plan, group, forget)).map_err(|error| RunError::Usage(error.to_string()))?;
            all.push(options);
            if !forget {
                ends.extend(peers);
            }
        }
    }
    Ok((all, ends))
}

fn session(plan: &Plan, group: &Group, forget: bool) -> SessionBuilder {
    let target = &plan.scenario.target;
    let mut builder = SessionBuilder::new(&group.name)
        .client_id("a client's own takes its place")
        .broker(&target.address)
        .version(group.version)
        .keep_alive(Duration::from_secs(u64::from(group.keep_alive_s)))
        .packet_bytes_max(256 * 1024 * 1024);
    if !forget && !group.clean_start {
        builder = builder.resume();
    }
    if group.version == Version::V5 {
        builder = builder.topic_alias_maximum(0);
    }
    if !forget && group.version == Version::V5 {
        builder = builder.session_expiry(Duration::from_secs(u64::from(group.session_expiry_s)));
    }
    if target.ca.is_some() || target.certificate.is_some() || target.server_name.is_some() {
        let mut tls = target.ca.as_ref().map_or_else(Tls::system_roots, Tls::ca_file);
        if let (Some(certificate), Some(key)) = (&target.certificate, &target.key) {
            tls = tls.certificate(certificate, key);
        }
        if let Some(name) = &target.server_name {
            tls = tls.server_name(name);
        }
        builder = builder.tls(tls);
    }
    target.sources.iter().fold(builder, |builder, source| builder.source(*source))
}

/// Buffers that a core receives into: enough for all of its clients at a time where they are few, and no more, since
/// what is used in turn should fit into a CPU's cache.
fn receive_buffers(clients: u64, threads: usize) -> u16 {
    let each = clients.div_ceil(threads as u64).clamp(64, 512);
    each.next_power_of_two() as u16
}

fn start_cores(
    plan: &Arc<Plan>,
    options: Vec<Arc<SessionOptions>>,
    clock: Clock,
    tell: impl Fn(usize, Event) + Send + Sync + 'static,
) -> Result<Runtime<Load>, RunError> {
    let settings = &plan.scenario.settings;
    let config = RuntimeConfig {
        shards: Some(settings.threads),
        cpus: settings.cpus.clone(),
        pinned: !settings.cpus.is_empty(),
        listeners: Vec::new(),
        connections_max: plan.scenario.clients() as usize + 1,
        linger_ms: LINGER_MS,
        receive_buffers: receive_buffers(plan.scenario.clients(), settings.threads),
        ..RuntimeConfig::default()
    };
    let options: Arc<[_]> = options.into();
    let plan = Arc::clone(plan);
    let make = move |shard| Load::new(shard, Arc::clone(&plan), Arc::clone(&options), clock);
    start(config, make, move |shard, event| tell(shard.index(), event))
        .map_err(|error| RunError::Start(error.to_string()))
}

/// The broker's process, if it is on this host.
fn find_broker(peer: &Peer) -> Option<u32> {
    match &peer.address {
        PeerAddress::Tcp { host, port } if process::is_local(host) => {
            process::find_listener(Listener { port: Some(*port), path: None })
        }
        PeerAddress::Tcp { .. } => None,
        PeerAddress::Unix(path) => process::find_listener(Listener { port: None, path: Some(path) }),
    }
    // An address of ours is no broker's.
    .filter(|pid| *pid != std::process::id())
}

fn group_words(group: &Group) -> String {
    let version = match group.version {
        Version::V31 => "3.1",
        Version::V311 => "3.1.1",
        Version::V5 => "5",
    };
    let mut words = format!("{} x {} (MQTT {version})", group.count, group.name);
    if let Some(publish) = &group.publish {
        let pace = match publish.pace {
            crate::scenario::Pace::Window(size) => format!("a window of {size} each"),
            crate::scenario::Pace::Rate(rate) => format!("{rate} a second together"),
        };
        let retained = if publish.retain { ", retained" } else { "" };
        words.push_str(&format!(
            ", publish to {} at QoS {}, {} bytes{retained}, {pace}",
            publish.topic, publish.qos as u8, publish.size
        ));
    }
    if let Some(subscribe) = &group.subscribe {
        let filters: Vec<String> = subscribe.filters.iter().map(ToString::to_string).collect();
        let share = subscribe.share.as_ref().map_or(String::new(), |share| format!(", shared as {share:?}"));
        let each = if subscribe.each > 1 { format!(" ({} each)", subscribe.each) } else { String::new() };
        words.push_str(&format!(
            ", subscribe to {}{each} at QoS {}{share}",
            filters.join(" and "),
            subscribe.qos as u8
        ));
    }
    words
}

impl Runner<'_> {
    fn send_all(&self, command: &Command) {
        for core in 0..self.plan.cores {
            let mut command = command.clone();
            // A core that is stopped takes none, and none is needed.
            for _ in 0..10_000 {
                match self.handle.command(ShardId::new(core), command) {
                    Ok(()) => break,
                    Err(ringmq_shards::Full(back)) => command = back,
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn run_steps(&mut self) {
        let plan = Arc::clone(&self.plan);
        let mut course = Course::new(&plan.scenario);
        let mut steps = plan.scenario.steps.iter().peekable();
        while let Some(step) = steps.next() {
            if self.is_stopped() {
                self.report.is_cut_short = true;
                break;
            }
            let awaits = matches!(steps.peek(), Some(Step::Receive));
            if awaits && matches!(step, Step::Connect { .. } | Step::Subscribe { .. }) {
                steps.next();
            }
            if !self.run_step(step, awaits, &course) {
                break;
            }
            course.take(step);
        }
        self.report.is_cut_short |= self.is_stopped();
    }

    fn count_losses(&mut self) {
        self.send_all(&Command::Sent);
        let sent = self.gather(|event| match event {
            Event::Sent(sent) => Some(sent),
            Event::Sample(_) | Event::Done { .. } | Event::Missing(_) => None,
        });
        let mut counts = vec![0; self.plan.publishers()];
        let mut unconfirmed = BTreeMap::new();
        for sent in sent.into_iter().flatten() {
            counts[sent.publisher as usize] = sent.count;
            if !sent.unconfirmed.is_empty() {
                unconfirmed.insert(sent.publisher, sent.unconfirmed);
            }
        }
        self.send_all(&Command::Check(Arc::new(counts)));
        let lacking = self.gather(|event| match event {
            Event::Missing(lacking) => Some(lacking),
            Event::Sample(_) | Event::Done { .. } | Event::Sent(_) => None,
        });
        let counts = &self.totals.counts;
        let mut messages = Messages {
            sent: counts.sent,
            expected: counts.expected + counts.kept,
            received: counts.received - counts.duplicates,
            duplicates_qos0: counts.duplicates_qos0,
            duplicates_qos1: counts.duplicates - counts.duplicates_qos0 - counts.duplicates_qos2,
            duplicates_qos2: counts.duplicates_qos2,
            reordered: counts.reordered,
            foreign: counts.foreign,
            unchecked: self.plan.is_unchecked(),
            ..Messages::default()
        };
        for lacking in lacking.into_iter().flatten() {
            losses::count(&self.plan, &lacking, &unconfirmed, &mut messages);
        }
        self.report.messages = messages;
    }

    /// Waits for an answer of each core; what else they tell is counted.
    fn gather<T>(&mut self, mut pick: impl FnMut(Event) -> Option<T>) -> Vec<T> {
        let mut found = Vec::new();
        while found.len() < self.plan.cores {
            match self.events.recv_timeout(Duration::from_secs(10)) {
                Ok((_, Event::Sample(told))) => self.totals.add(&told.sample),
                Ok((_, event)) => found.extend(pick(event)),
                Err(_) => break,
            }
        }
        found
    }
}
