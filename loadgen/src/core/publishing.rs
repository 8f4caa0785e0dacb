//! The step in which publishers publish.

use super::jobs::{Job, Publishing, Scheduled};
use super::publisher::{Orders, Way};
use super::{Load, LoadIo};
use crate::course::Audience;
use crate::pace::{Schedule, Turns};
use crate::scenario::Pace;

/// How much is published, and how the rate rises.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extent {
    /// Of all cores together; absent where time ends it.
    pub messages: Option<u64>,
    pub ramp_ns: u64,
}

impl Load {
    pub(super) fn begin_publishing(
        &mut self,
        groups: &[usize],
        extent: Extent,
        audience: &Audience,
    ) -> Publishing {
        let Extent { messages, ramp_ns } = extent;
        let Audience { listening, away } = audience;
        let plan = std::sync::Arc::clone(&self.plan);
        let all: u64 = groups.iter().map(|at| u64::from(plan.scenario.groups[*at].count)).sum();
        let mut begun =
            Publishing { publishers: Vec::new(), scheduled: Vec::new(), through: 0, is_over: false };
        let mut before = 0;
        for &group in groups {
            let count = u64::from(plan.scenario.groups[group].count);
            let here: Vec<u32> =
                self.clients_of(&[group]).into_iter().filter_map(|at| self.publisher_of(at)).collect();
            let pace = plan.scenario.groups[group].publish.as_ref().map(|publish| publish.pace);
            let rate = pace.and_then(|pace| match pace {
                Pace::Rate(rate) => Some(rate),
                Pace::Window(_) => None,
            });
            for (place, &publisher) in here.iter().enumerate() {
                let it = &self.publishers[publisher as usize];
                let place_of_all = before + u64::from(it.index);
                let share = messages.map_or(u64::MAX, |all_messages| {
                    all_messages / all + u64::from(place_of_all < all_messages % all)
                });
                let copies = |groups: &[usize]| plan.copies(it.number, groups);
                let orders = Orders { messages: share, listening: copies(listening), away: copies(away) };
                self.publishers[publisher as usize].begin(&plan, orders, rate.map(|_| place));
                self.list(publisher);
            }
            if let Some(rate) = rate {
                let schedule = Schedule { start_ns: self.times.start_ns, ramp_ns, rate };
                let mine = here.iter().map(|publisher| u64::from(self.publishers[*publisher as usize].index));
                let turns = Turns::new(schedule, count, mine.collect());
                begun.scheduled.push(Scheduled { group, turns, publishers: here.clone() });
            }
            begun.publishers.extend(here);
            before += count;
        }
        begun
    }

    pub(super) fn begin_clearing(&mut self, groups: &[usize]) -> Publishing {
        let publishers: Vec<u32> =
            self.clients_of(groups).into_iter().filter_map(|at| self.publisher_of(at)).collect();
        for &publisher in &publishers {
            self.publishers[publisher as usize].begin_clearing();
            self.list(publisher);
        }
        Publishing { publishers, scheduled: Vec::new(), through: 0, is_over: false }
    }

    /// Sends what is due, or has room.
    pub(super) fn publish(&mut self, io: &mut LoadIo) {
        let Job::Publish(mut publishing) = std::mem::take(&mut self.job) else { return };
        if !publishing.is_over {
            for scheduled in &mut publishing.scheduled {
                while let Some(place) = scheduled.turns.take(self.now_ns) {
                    let publisher = scheduled.publishers[place];
                    self.publishers[publisher as usize].is_due();
                    self.list(publisher);
                }
            }
        }
        let mut ready = std::mem::take(&mut self.ready);
        for publisher in ready.drain(..) {
            let it = &mut self.publishers[publisher as usize];
            it.is_listed = false;
            let Some(conn) = self.clients[it.client as usize].up() else { continue };
            if it.is_blocked {
                continue;
            }
            let turns = publishing.scheduled.iter().find(|scheduled| scheduled.group == it.group);
            let mut way = Way {
                plan: &self.plan,
                turns: turns.map(|scheduled| &scheduled.turns),
                now_ns: self.now_ns,
                backlog_high_bytes: io.backlog_high_bytes,
                out: io.outbox(conn),
                sample: &mut self.sample,
            };
            it.send(&mut way);
        }
        self.ready = ready;
        self.job = Job::Publish(publishing);
    }

    /// The time is over: what was due in it is still sent, and nothing else.
    pub(super) fn stop_publishing(&mut self) {
        let Job::Publish(mut publishing) = std::mem::take(&mut self.job) else { return };
        if !std::mem::replace(&mut publishing.is_over, true) {
            for scheduled in &mut publishing.scheduled {
                while let Some(place) = scheduled.turns.take(self.times.end_ns - 1) {
                    let publisher = scheduled.publishers[place];
                    self.publishers[publisher as usize].is_due();
                    self.list(publisher);
                }
            }
            for publisher in &publishing.publishers {
                self.publishers[*publisher as usize].stop();
            }
        }
        self.job = Job::Publish(publishing);
    }
}
