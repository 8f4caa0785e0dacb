//! What a core is busy with in a step.

use std::collections::VecDeque;

use crate::pace::{Schedule, Turns};

/// The step that is under way.
#[derive(Debug, Default)]
pub(crate) enum Job {
    #[default]
    Rest,
    Connect(Joining),
    Subscribe(Asking),
    Publish(Publishing),
    Ping(Pinging),
    Churn(Churning),
}

/// Clients that are to be connected.
#[derive(Debug)]
pub(crate) struct Joining {
    pub waiting: VecDeque<u32>,
    pub turns: Option<Turns>,
    pub under_way: usize,
    pub forget: bool,
    /// Until then those that fail try again.
    pub patient_until_ns: u64,
}

/// Clients that are to subscribe.
#[derive(Debug)]
pub(crate) struct Asking {
    pub waiting: VecDeque<u32>,
    pub under_way: usize,
}

/// Publishers that send.
#[derive(Debug)]
pub(crate) struct Publishing {
    /// All of the step that are here.
    pub publishers: Vec<u32>,
    /// By group: the turns of its publishers here, and who they are.
    pub scheduled: Vec<Scheduled>,
    /// So many of the publishers, from the first on, have ended.
    pub through: usize,
    pub is_over: bool,
}

/// Publishers of a group that send at a rate.
#[derive(Debug)]
pub(crate) struct Scheduled {
    pub group: usize,
    pub turns: Turns,
    pub publishers: Vec<u32>,
}

/// Clients that ping.
#[derive(Debug)]
pub(crate) struct Pinging {
    pub clients: Vec<u32>,
    pub has_begun: bool,
    pub is_over: bool,
}

/// Clients that come and go.
#[derive(Debug)]
pub(crate) struct Churning {
    pub idle: VecDeque<u32>,
    pub turns: Option<Turns>,
    pub under_way: usize,
    pub is_over: bool,
}

/// One core's turns among all cores'.
pub(crate) fn turns(rate: Option<f64>, start_ns: u64, core: usize, cores: usize) -> Option<Turns> {
    let schedule = |rate| Schedule { start_ns, ramp_ns: 0, rate };
    rate.map(|rate| Turns::new(schedule(rate), cores as u64, vec![core as u64]))
}
