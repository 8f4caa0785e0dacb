//! How unkind the network and the scheduler are.

use std::ops::RangeInclusive;

/// What chance may do in a [`World`](crate::World). Start from [`Network::calm`] or
/// [`Network::rough`], and change what a test needs: `Network { lane_room_messages: 2, ..Network::rough() }`.
#[derive(Clone, Debug)]
pub struct Network {
    /// Shards, arrivals and deliveries come in random order, and a turn takes a random part of what
    /// has arrived. Otherwise all are served in turn, and a turn takes everything.
    pub shuffled: bool,
    /// The most arrivals that a shuffled turn takes.
    pub turn_inputs_max: usize,
    /// Probability that an arrival is cut short, and its rest arrives later.
    pub split_chance: f64,
    /// The longest piece that such a cut leaves.
    pub split_bytes_max: usize,
    /// Probability that a client's next send arrives together with the one before.
    pub merge_chance: f64,
    /// The most bytes that arrive at once.
    pub receive_bytes_max: usize,
    /// Probability that a client takes only a part of what is being sent to it.
    pub partial_send_chance: f64,
    /// Probability that some bytes still arrive on a connection after its pause.
    pub pause_overrun_chance: f64,
    /// How long bytes, opens and closes take between a client and its shard, in order.
    pub client_delay_ms: RangeInclusive<u64>,
    /// How long a message takes between two shards, in order.
    pub lane_delay_ms: RangeInclusive<u64>,
    /// How long a connection takes from shard to shard.
    pub hand_over_delay_ms: RangeInclusive<u64>,
    /// How long it takes to make a file durable; requests overtake each other.
    pub sync_delay_ms: RangeInclusive<u64>,
    /// How many messages a lane holds that its receiver has not taken.
    pub lane_room_messages: usize,
    /// Probability that the clock moves by a millisecond before a turn, as if the last one took long.
    pub clock_creep_chance: f64,
    /// Probability that a shard gets a turn without a reason.
    pub needless_turn_chance: f64,
    /// Goes into `Io::backlog_high_bytes` when the world is made.
    pub backlog_high_bytes: usize,
    /// Goes into `Io::backlog_low_bytes` when the world is made.
    pub backlog_low_bytes: usize,
    /// How many steps [`World::run_until_idle`](crate::World::run_until_idle) and its like take before
    /// they call the cores restless and panic.
    pub steps_max: u64,
}

impl Network {
    /// Everything arrives at once, whole and in turn: for transcripts.
    pub fn calm() -> Self {
        Self {
            shuffled: false,
            turn_inputs_max: usize::MAX,
            split_chance: 0.0,
            split_bytes_max: 1,
            merge_chance: 0.0,
            receive_bytes_max: 16 * 1024,
            partial_send_chance: 0.0,
            pause_overrun_chance: 0.0,
            client_delay_ms: 0..=0,
            lane_delay_ms: 0..=0,
            hand_over_delay_ms: 0..=0,
            sync_delay_ms: 0..=0,
            lane_room_messages: 1024,
            clock_creep_chance: 0.0,
            needless_turn_chance: 0.0,
            backlog_high_bytes: 256 * 1024,
            backlog_low_bytes: 64 * 1024,
            steps_max: 2_000_000,
        }
    }

    /// Everything that the contract allows happens now and then.
    pub fn rough() -> Self {
        Self {
            shuffled: true,
            turn_inputs_max: 12,
            split_chance: 0.3,
            split_bytes_max: 24,
            merge_chance: 0.5,
            partial_send_chance: 0.3,
            pause_overrun_chance: 0.5,
            client_delay_ms: 0..=5,
            lane_delay_ms: 0..=4,
            hand_over_delay_ms: 0..=6,
            sync_delay_ms: 0..=8,
            lane_room_messages: 8,
            clock_creep_chance: 0.02,
            needless_turn_chance: 0.02,
            ..Self::calm()
        }
    }

    /// Refuses settings with which nothing could ever arrive.
    pub(crate) fn check(&self) {
        assert!(self.turn_inputs_max > 0, "a turn takes at least one arrival");
        assert!(self.split_bytes_max > 0, "a split leaves at least one byte");
        assert!(self.receive_bytes_max > 0, "at least one byte arrives at once");
        assert!(self.lane_room_messages > 0, "a lane has room for at least one message");
        assert!(self.backlog_low_bytes < self.backlog_high_bytes, "low water is below high water");
    }
}
