//! One step, led from its start to its end, and what was measured of it.

use std::process::Command as Shell;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use super::Runner;
use super::intervals::{Intervals, Span};
use crate::core::messages::{Command, Event, Stage, Task, Times, Told};
use crate::course::Course;
use crate::limits;
use crate::measure::{Counts, Kind, Sample};
use crate::process::{self, Cost, Usage};
use crate::report;
use crate::scenario::{Limit, Pace, Step};
use crate::verdict::{Evidence, judge};

/// Cores are told so long before a step begins, so that they begin together.
const LEAD_NS: u64 = 20_000_000;
/// How often the main thread looks about.
const LOOK: Duration = Duration::from_millis(20);
/// How long a step without a time of its own may do nothing at all before it is given up.
const PATIENCE_MIN: Duration = Duration::from_secs(10);

/// What one step is, for the main thread.
struct Part {
    name: String,
    task: Task,
    warm_up: Duration,
    /// Absent where the work itself ends it.
    time: Option<Duration>,
    /// What it is about.
    kinds: &'static [Kind],
    is_main: bool,
    /// Wait for all that was sent, or is kept.
    awaits: bool,
    /// Do not report it.
    is_silent: bool,
    offered: Option<f64>,
    patience: Duration,
}

/// What is gathered of it.
struct Gathered {
    times: Times,
    measured: Sample,
    others: Counts,
    intervals: Intervals,
    done: usize,
    /// When something was last heard of.
    moved_ns: u64,
    before: Option<(Option<Usage>, Usage)>,
    after: Option<(Option<Usage>, Usage)>,
}

impl Runner<'_> {
    /// Takes one step; whether to go on.
    pub(super) fn run_step(&mut self, step: &Step, awaits: bool, course: &Course<'_>) -> bool {
        let Some(part) = self.part(step, awaits, course) else {
            match step {
                Step::Shell { command } => return self.run_command(command),
                Step::Forget { groups } => return self.forget(groups),
                Step::Connect { .. }
                | Step::Subscribe { .. }
                | Step::Publish { .. }
                | Step::Clear { .. }
                | Step::Receive
                | Step::Disconnect { .. }
                | Step::Hold { .. }
                | Step::Ping { .. }
                | Step::Churn { .. } => return true,
            }
        };
        let is_connecting = matches!(part.task, Task::Connect { .. });
        let phase = self.lead(part);
        if is_connecting {
            self.find_broker_again();
        }
        let counts = phase.counts;
        let nobody_came = is_connecting && counts.connected == 0 && counts.connect_failed > 0;
        if nobody_came {
            self.report.phases.push(phase);
            let address = &self.plan.scenario.target.address;
            let line = format!("no connection to {address} came about, so the run ends here");
            self.watcher.says(&line);
            self.totals.trouble(&line);
        }
        !nobody_came
    }

    fn part(&self, step: &Step, awaits: bool, course: &Course<'_>) -> Option<Part> {
        let settings = &self.plan.scenario.settings;
        let names = |groups: &[usize]| {
            let names: Vec<&str> = groups.iter().map(|at| &*self.plan.scenario.groups[*at].name).collect();
            names.join(", ")
        };
        let part = |name: String, task: Task| Part {
            name,
            task,
            warm_up: Duration::ZERO,
            time: None,
            kinds: &[],
            is_main: false,
            awaits: false,
            is_silent: false,
            offered: None,
            patience: PATIENCE_MIN.max(settings.interval * 3),
        };
        let patience = if self.is_after_command { settings.connect_timeout } else { Duration::ZERO };
        let patience_ns = patience.as_nanos() as u64;
        let receiving = if awaits { " and receive" } else { "" };
        Some(match step {
            Step::Connect { groups, rate } => Part {
                kinds: &[Kind::Connect],
                awaits,
                is_main: awaits,
                offered: *rate,
                patience: settings.connect_timeout + PATIENCE_MIN,
                ..part(
                    format!("connect {}{receiving}", names(groups)),
                    Task::Connect { groups: groups.clone(), rate: *rate, forget: false, patience_ns },
                )
            },
            Step::Subscribe { groups } => Part {
                kinds: &[Kind::Subscribe],
                awaits,
                is_main: awaits,
                patience: settings.connect_timeout + PATIENCE_MIN,
                ..part(
                    format!("subscribe {}{receiving}", names(groups)),
                    Task::Subscribe { groups: groups.clone() },
                )
            },
            Step::Publish { groups, limit, warm_up, ramp } => {
                let (time, messages) = match limit {
                    Limit::Time(time) => (Some(*time), None),
                    Limit::Messages(messages) => (None, Some(*messages)),
                };
                let task = Task::Publish {
                    groups: groups.clone(),
                    messages,
                    ramp_ns: ramp.as_nanos() as u64,
                    audience: course.audience(groups),
                };
                Part {
                    warm_up: *warm_up,
                    time,
                    kinds: &[Kind::Latency, Kind::Acknowledge],
                    is_main: true,
                    awaits: true,
                    offered: self.offered(groups),
                    patience: PATIENCE_MIN.max(settings.stall * 3),
                    ..part(format!("publish {}", names(groups)), task)
                }
            }
            Step::Clear { groups } => {
                Part { is_silent: true, ..part("clear".to_owned(), Task::Clear { groups: groups.clone() }) }
            }
            Step::Receive => Part { awaits: true, ..part("receive".to_owned(), Task::Rest) },
            Step::Disconnect { groups } => Part {
                is_silent: true,
                ..part("disconnect".to_owned(), Task::Disconnect { groups: groups.clone() })
            },
            Step::Hold { time } => Part { time: Some(*time), ..part("hold".to_owned(), Task::Rest) },
            Step::Ping { groups, time, warm_up } => Part {
                time: Some(*time),
                warm_up: *warm_up,
                kinds: &[Kind::Ping],
                is_main: true,
                ..part(format!("ping with {}", names(groups)), Task::Ping { groups: groups.clone() })
            },
            Step::Churn { groups, time, rate } => Part {
                time: Some(*time),
                kinds: &[Kind::Connect],
                is_main: true,
                offered: *rate,
                patience: settings.connect_timeout + PATIENCE_MIN,
                ..part(
                    format!("churn {}", names(groups)),
                    Task::Churn { groups: groups.clone(), rate: *rate },
                )
            },
            Step::Forget { .. } | Step::Shell { .. } => return None,
        })
    }

    /// Messages a second that groups are to send, where all have a rate.
    fn offered(&self, groups: &[usize]) -> Option<f64> {
        let rate = |at: &usize| match self.plan.scenario.groups[*at].publish.as_ref()?.pace {
            Pace::Rate(rate) => Some(rate),
            Pace::Window(_) => None,
        };
        groups.iter().map(rate).sum()
    }

    fn forget(&mut self, groups: &[usize]) -> bool {
        let tasks = [
            Task::Disconnect { groups: groups.to_vec() },
            Task::Connect { groups: groups.to_vec(), rate: None, forget: true, patience_ns: 0 },
            Task::Disconnect { groups: groups.to_vec() },
        ];
        for task in tasks {
            self.lead(Part {
                name: "forget".to_owned(),
                task,
                warm_up: Duration::ZERO,
                time: None,
                kinds: &[],
                is_main: false,
                awaits: false,
                is_silent: true,
                offered: None,
                patience: PATIENCE_MIN,
            });
        }
        true
    }

    fn run_command(&mut self, command: &str) -> bool {
        let name = format!("run {command:?}");
        self.watcher.begins(&name);
        let since_ns = self.clock.now_ns();
        let outcome = Shell::new("sh").args(["-c", command]).status();
        let seconds = (self.clock.now_ns() - since_ns) as f64 / 1e9;
        let fault = match outcome {
            Ok(status) if status.success() => None,
            Ok(status) => Some(format!("the command {command:?} failed: {status}")),
            Err(error) => Some(format!("the command {command:?} could not be run: {error}")),
        };
        if let Some(fault) = &fault {
            self.watcher.says(fault);
            self.totals.trouble(fault);
        }
        // The broker may be another process now, and not listen yet.
        self.is_after_command = true;
        self.report.phases.push(report::Phase { name, seconds, ..report::Phase::default() });
        true
    }

    /// Looks who the broker is, if a command may have started another.
    fn find_broker_again(&mut self) {
        if std::mem::take(&mut self.is_after_command) {
            let known = self.plan.scenario.settings.broker_pid.filter(|pid| process::name(*pid).is_some());
            self.broker_pid = known.or_else(|| super::find_broker(self.broker.as_ref()?));
        }
    }

    fn usage(&self) -> (Option<Usage>, Usage) {
        let now_ns = self.clock.now_ns();
        let broker = self.broker_pid.and_then(|pid| process::look(pid, now_ns));
        (broker, process::look(std::process::id(), now_ns).unwrap_or_default())
    }

    /// Leads a step from its start to its end.
    fn lead(&mut self, part: Part) -> report::Phase {
        self.step += 1;
        if part.awaits && !matches!(part.task, Task::Publish { .. }) {
            self.kept_awaited = self.totals.counts.kept;
        }
        if !part.is_silent {
            self.watcher.begins(&part.name);
        }
        let start_ns = self.clock.now_ns() + LEAD_NS;
        let measured_ns = start_ns + part.warm_up.as_nanos() as u64;
        let end_ns = part.time.map_or(u64::MAX, |time| start_ns + time.as_nanos() as u64);
        let times = Times { start_ns, measured_ns, end_ns };
        let under_way = self.under_way();
        let interval_ns = self.plan.scenario.settings.interval.as_nanos() as u64;
        let span = Span { zero_ms: self.report.started_ms, start_ns, interval_ns };
        let mut gathered = Gathered {
            times,
            measured: Sample::default(),
            others: Counts::default(),
            intervals: Intervals::new(span, self.plan.cores, part.kinds, under_way),
            done: 0,
            moved_ns: start_ns,
            before: None,
            after: None,
        };
        self.send_all(&Command::Step { number: self.step, task: part.task.clone(), times });
        self.watch(&part, &mut gathered);
        if part.awaits {
            self.drain(&part, &mut gathered);
        }
        self.finish(part, gathered)
    }

    /// Copies that should come now and have not; what the broker keeps for those who are away is not among them.
    fn under_way(&self) -> i64 {
        let counts = &self.totals.counts;
        (counts.expected + self.kept_awaited) as i64 - (counts.received - counts.duplicates) as i64
    }

    /// Until all cores are done, the time is over, or nothing happens any more.
    fn watch(&mut self, part: &Part, gathered: &mut Gathered) {
        let mut has_stopped = false;
        loop {
            self.hear(part, gathered);
            let now_ns = self.clock.now_ns();
            if self.is_stopped() && !has_stopped {
                has_stopped = true;
                gathered.times.end_ns = gathered.times.end_ns.min(now_ns);
                self.send_all(&Command::Stop);
            }
            if gathered.done >= self.plan.cores && (part.time.is_none() || now_ns >= gathered.times.end_ns) {
                return;
            }
            let last_ns = gathered.moved_ns.max(if part.time.is_some() { gathered.times.end_ns } else { 0 });
            let patience = if has_stopped || part.time.is_some() {
                self.plan.scenario.settings.drain
            } else {
                part.patience
            };
            if now_ns.saturating_sub(last_ns) > patience.as_nanos() as u64 && last_ns != u64::MAX {
                if has_stopped || part.time.is_some() {
                    return;
                }
                let line = format!("{}: nothing happened for {patience:?}, so it was ended", part.name);
                self.totals.trouble(&line);
                has_stopped = true;
                gathered.moved_ns = now_ns;
                self.send_all(&Command::Stop);
            }
        }
    }

    /// Until all that is under way came, or none did for a while.
    fn drain(&mut self, part: &Part, gathered: &mut Gathered) {
        let patience_ns = self.plan.scenario.settings.drain.as_nanos() as u64;
        gathered.moved_ns = gathered.moved_ns.max(self.clock.now_ns().min(gathered.times.end_ns));
        loop {
            self.send_all(&Command::Report);
            self.hear(part, gathered);
            if self.under_way() <= 0 {
                return;
            }
            let quiet_ns = self.clock.now_ns().saturating_sub(gathered.moved_ns);
            let patience_ns = if self.is_stopped() { patience_ns.min(2_000_000_000) } else { patience_ns };
            if quiet_ns > patience_ns {
                return;
            }
        }
    }

    /// Takes in what cores tell for a moment.
    fn hear(&mut self, part: &Part, gathered: &mut Gathered) {
        let since = std::time::Instant::now();
        while let Some(left) = LOOK.checked_sub(since.elapsed()) {
            match self.events.recv_timeout(left) {
                Ok((_, Event::Sample(told))) => self.take_told(&told, gathered),
                Ok((_, Event::Done { number })) if number == self.step => {
                    gathered.done += 1;
                    if gathered.done >= self.plan.cores && part.time.is_none() {
                        break;
                    }
                }
                // Of a step that was given up.
                Ok((_, Event::Done { .. } | Event::Sent(_) | Event::Missing(_))) => {}
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => {
                    gathered.done = self.plan.cores;
                    return;
                }
            }
        }
        let now_ns = self.clock.now_ns();
        if gathered.before.is_none() && now_ns >= gathered.times.measured_ns {
            gathered.before = Some(self.usage());
        }
        if gathered.after.is_none() && now_ns >= gathered.times.end_ns {
            gathered.after = Some(self.usage());
        }
        if !part.is_silent {
            let watcher = &mut *self.watcher;
            gathered
                .intervals
                .close(now_ns, |interval, sample| watcher.interval(&part.name, interval, sample));
        }
    }

    fn take_told(&mut self, told: &Told, gathered: &mut Gathered) {
        let sample = &told.sample;
        self.totals.add(sample);
        if !sample.counts.is_empty() {
            gathered.moved_ns = gathered.moved_ns.max(told.to_ns);
        }
        gathered.intervals.add(told);
        match told.stage {
            Stage::Measured => gathered.measured.add(sample),
            Stage::WarmUp => gathered.others.add(&sample.counts),
            Stage::Drain => {
                gathered.others.add(&sample.counts);
                // What was sent in the measured time is timed whenever it arrives: the slowest would be missing.
                gathered.measured.add_times(sample);
            }
        }
    }

    fn finish(&mut self, part: Part, mut gathered: Gathered) -> report::Phase {
        let after = gathered.after.take().unwrap_or_else(|| self.usage());
        let before = gathered.before.take().unwrap_or_else(|| after.clone());
        let watcher = &mut *self.watcher;
        if !part.is_silent {
            gathered
                .intervals
                .close(u64::MAX, |interval, sample| watcher.interval(&part.name, interval, sample));
        }
        let end_ns = match part.time {
            Some(_) => gathered.times.end_ns.min(self.clock.now_ns()),
            None => gathered.moved_ns.min(gathered.times.end_ns),
        };
        let seconds = end_ns.saturating_sub(gathered.times.measured_ns) as f64 / 1e9;
        let counts = &self.totals.counts;
        let connections = counts.connected.saturating_sub(counts.connections_lost);
        let mut phase = report::Phase {
            name: part.name,
            seconds,
            counts: gathered.measured.counts,
            other_counts: gathered.others,
            times: Kind::ALL
                .into_iter()
                .filter_map(|kind| Some(report::Times::of(kind.name(), gathered.measured.times(kind)?)))
                .collect(),
            intervals: gathered.intervals.closed,
            broker_grown_bytes: self.grown_bytes(after.0.as_ref()),
            broker: before.0.zip(after.0).map(|(before, after)| Cost::between(&before, &after)),
            generator: Cost::between(&before.1, &after.1),
            verdict: None,
            offered: part.offered,
            connections,
            is_main: part.is_main,
        };
        let is_working = phase.counts.received + phase.counts.sent + phase.counts.pings > 0;
        if part.is_main && is_working {
            phase.verdict = Some(self.judge(&phase));
        }
        if !part.is_silent {
            self.report.phases.push(phase.clone());
        }
        phase
    }

    /// How much the broker's memory grew since the run began.
    fn grown_bytes(&mut self, now: Option<&Usage>) -> i64 {
        let Some(now) = now else { return 0 };
        now.anonymous_bytes as i64
            - self.first_usage.as_ref().map_or(now.anonymous_bytes, |it| it.anonymous_bytes) as i64
    }

    fn judge(&self, phase: &report::Phase) -> crate::verdict::Verdict {
        let has_rate = phase.offered.filter(|_| phase.counts.sent > 0);
        judge(&Evidence {
            generator: &phase.generator,
            threads: self.plan.cores,
            broker: phase.broker.as_ref(),
            offered: has_rate.map(|offered| (offered, phase.rate(phase.counts.sent))),
            lag_p99_ns: phase.times_of(Kind::Lag).map_or(0, |times| times.p99_ns),
            cpus: limits::cpus(),
            is_spinning: has_rate.is_some(),
        })
    }
}
