//! What cores are told, what they tell each other, and what they tell the main thread.

use std::sync::Arc;

use ringmq_turn::PeerId;

use crate::check::{Missing, Run};
use crate::course::Audience;
use crate::measure::Sample;

/// A part of a run that is measured by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// Not measured.
    #[default]
    WarmUp,
    Measured,
    /// Nothing is started any more; what was under way comes to its end.
    Drain,
}

/// When the stages of a step begin and end, on the run's clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    pub start_ns: u64,
    pub measured_ns: u64,
    /// `u64::MAX` where something else ends it.
    pub end_ns: u64,
}

/// What a core is to do.
#[derive(Clone, Debug)]
pub(crate) enum Task {
    Connect {
        groups: Vec<usize>,
        rate: Option<f64>,
        /// Have the broker forget what it knows of them.
        forget: bool,
        /// Try again for so long: the broker may be on its way up.
        patience_ns: u64,
    },
    Subscribe {
        groups: Vec<usize>,
    },
    Publish {
        groups: Vec<usize>,
        /// Of all cores together.
        messages: Option<u64>,
        ramp_ns: u64,
        /// Who gets it.
        audience: Audience,
    },
    /// Send an empty retained message to each topic.
    Clear {
        groups: Vec<usize>,
    },
    Disconnect {
        groups: Vec<usize>,
    },
    Ping {
        groups: Vec<usize>,
    },
    Churn {
        groups: Vec<usize>,
        rate: Option<f64>,
    },
    /// Nothing, until the next one.
    Rest,
}

/// What the main thread asks of a core.
#[derive(Clone, Debug)]
pub(crate) enum Command {
    /// The first one: how to reach the broker.
    Begin(Vec<PeerId>),
    /// Do this from now on. [`Event::Done`] says when it is done.
    Step { number: u32, task: Task, times: Times },
    /// Start nothing more of the step that is under way.
    Stop,
    /// Tell what was measured.
    Report,
    /// Tell what each publisher sent.
    Sent,
    /// Tell what is missing of what all publishers sent.
    Check(Arc<Vec<u64>>),
}

/// What a core measured from one time to another.
#[derive(Debug)]
pub(crate) struct Told {
    pub stage: Stage,
    pub from_ns: u64,
    pub to_ns: u64,
    pub sample: Box<Sample>,
}

/// What a core tells the main thread.
#[derive(Debug)]
pub(crate) enum Event {
    Sample(Told),
    /// The step is done.
    Done {
        number: u32,
    },
    Sent(Vec<Sent>),
    Missing(Vec<Lacking>),
}

/// What one publisher sent.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub publisher: u32,
    pub count: u64,
    /// Those that were never acknowledged, at QoS 1 and 2.
    pub unconfirmed: Vec<Run>,
}

/// What did not arrive.
#[derive(Clone, Debug)]
pub(crate) struct Lacking {
    /// Of the subscriber.
    pub group: usize,
    pub publisher: u32,
    pub missing: Missing,
}

/// What a core tells another: messages of its publishers arrived.
#[derive(Debug)]
pub(crate) struct Arrived {
    pub publisher: u32,
    pub run: Run,
}
