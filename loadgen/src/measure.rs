//! What a core measures, between one report to the main thread and the next.

use hdrhistogram::Histogram;

/// The longest time that is told apart from longer ones.
pub const TIME_NS_MAX: u64 = 600_000_000_000;
/// Times below are not told apart much.
const TIME_NS_MIN: u64 = 64;
/// Significant digits.
const DIGITS: u8 = 3;

/// What takes time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Kind {
    /// From the intended time of sending to the arrival at a subscriber.
    Latency,
    /// From the intended time of sending to PUBACK or PUBCOMP.
    Acknowledge,
    /// From the start of a connection to CONNACK.
    Connect,
    /// From SUBSCRIBE to SUBACK.
    Subscribe,
    /// From PINGREQ to PINGRESP.
    Ping,
    /// From the intended time of sending to the time when it was sent.
    Lag,
}

/// How many kinds there are.
pub const KINDS: usize = 6;

impl Kind {
    /// All of them, in order.
    pub const ALL: [Self; KINDS] =
        [Self::Latency, Self::Acknowledge, Self::Connect, Self::Subscribe, Self::Ping, Self::Lag];

    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Latency => "latency",
            Self::Acknowledge => "acknowledge",
            Self::Connect => "connect",
            Self::Subscribe => "subscribe",
            Self::Ping => "ping",
            Self::Lag => "send lag",
        }
    }

    /// What it is, for people.
    pub fn words(self) -> &'static str {
        match self {
            Self::Latency => "publish to delivery, from the intended time of sending",
            Self::Acknowledge => "publish to PUBACK or PUBCOMP, from the intended time of sending",
            Self::Connect => "start of a connection to CONNACK",
            Self::Subscribe => "SUBSCRIBE to SUBACK",
            Self::Ping => "PINGREQ to PINGRESP",
            Self::Lag => "how much later than intended messages were sent",
        }
    }
}

/// An empty histogram of times.
pub fn times() -> Histogram<u64> {
    Histogram::new_with_bounds(TIME_NS_MIN, TIME_NS_MAX, DIGITS).expect("the bounds are far enough apart")
}

macro_rules! counts {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// How often things happened.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        #[serde(default)]
        pub struct Counts {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Counts {
            /// Adds another's.
            pub fn add(&mut self, other: &Self) {
                $(self.$name += other.$name;)*
            }

            /// Name and value of each.
            pub fn all(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name)),*]
            }
        }
    };
}

counts! {
    /// Messages sent.
    sent,
    /// Bytes of their payloads.
    sent_bytes,
    /// Messages that were acknowledged: PUBACK, or PUBCOMP.
    acknowledged,
    /// Messages that the broker refused with a reason code.
    refused,
    /// Copies of messages sent that subscribers are to get.
    expected,
    /// Copies of messages acknowledged that the broker keeps for subscribers.
    kept,
    /// Messages received.
    received,
    /// Bytes of their payloads.
    received_bytes,
    /// Received messages that came before.
    duplicates,
    /// Those of them that came at QoS 0.
    duplicates_qos0,
    /// Those of them that came at QoS 2.
    duplicates_qos2,
    /// Received messages that came after a newer one of the same publisher.
    reordered,
    /// Received messages of another run, or of nobody.
    foreign,
    /// Messages that a window did not wait for any longer.
    given_up,
    /// Connections accepted by the broker.
    connected,
    /// Connections that could not be opened, or were refused.
    connect_failed,
    /// Connections that ended without being asked to.
    connections_lost,
    /// Sessions that the broker remembered.
    resumed,
    /// Subscriptions granted.
    subscribed,
    /// Subscriptions refused.
    subscribe_failed,
    /// PINGRESPs.
    pings,
}

impl Counts {
    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Counts and times since the last report.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// Counts.
    pub counts: Counts,
    times: [Option<Box<Histogram<u64>>>; KINDS],
    /// What went wrong, and how often.
    pub troubles: Vec<(String, u64)>,
}

/// Different troubles that a sample names; others are counted as one.
const TROUBLES_MAX: usize = 32;
/// What others are counted as.
const OTHER_TROUBLES: &str = "other errors";

impl Sample {
    /// The times of a kind, if there are any.
    pub fn times(&self, kind: Kind) -> Option<&Histogram<u64>> {
        self.times[kind as usize].as_deref()
    }

    /// Notes a time.
    #[inline]
    pub fn record(&mut self, kind: Kind, ns: u64) {
        self.record_many(kind, ns, 1);
    }

    /// Notes a time that so many had.
    #[inline]
    pub fn record_many(&mut self, kind: Kind, ns: u64, count: u64) {
        let times = self.times[kind as usize].get_or_insert_with(|| Box::new(times()));
        times.saturating_record_n(ns, count);
    }

    /// Notes that something went wrong.
    #[cold]
    pub fn trouble(&mut self, what: &str) {
        self.troubles_of(what, 1);
    }

    fn troubles_of(&mut self, what: &str, count: u64) {
        let what = match self.troubles.iter().any(|(known, _)| known == what) {
            false if self.troubles.len() >= TROUBLES_MAX => OTHER_TROUBLES,
            false | true => what,
        };
        match self.troubles.iter_mut().find(|(known, _)| known == what) {
            Some((_, known)) => *known += count,
            None => self.troubles.push((what.to_owned(), count)),
        }
    }

    /// Adds another's.
    pub fn add(&mut self, other: &Self) {
        self.counts.add(&other.counts);
        self.add_times(other);
        for (what, count) in &other.troubles {
            self.troubles_of(what, *count);
        }
    }

    /// Adds another's times only.
    pub fn add_times(&mut self, other: &Self) {
        for (mine, theirs) in self.times.iter_mut().zip(&other.times) {
            if let Some(theirs) = theirs {
                let mine = mine.get_or_insert_with(|| Box::new(times()));
                mine.add(&**theirs).expect("all histograms have the same bounds");
            }
        }
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty() && self.times.iter().all(Option::is_none) && self.troubles.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_add_up() {
        let mut total = Sample::default();
        for ns in [1_000, 2_000] {
            let mut sample = Sample::default();
            sample.counts.sent = 3;
            sample.record_many(Kind::Latency, ns, 5);
            sample.trouble("it broke");
            total.add(&sample);
        }
        assert_eq!(total.counts.sent, 6);
        let times = total.times(Kind::Latency).unwrap();
        assert_eq!((times.len(), times.equivalent(times.max(), 2_000)), (10, true));
        assert_eq!(total.troubles, [("it broke".to_owned(), 2)]);
        assert!(total.times(Kind::Ping).is_none() && !total.is_empty());
    }

    #[test]
    fn a_sample_names_so_many_troubles_only() {
        let mut sample = Sample::default();
        for number in 0..100 {
            sample.trouble(&format!("trouble {number}"));
        }
        assert_eq!(sample.troubles.len(), TROUBLES_MAX + 1);
        assert_eq!(sample.troubles.iter().map(|(_, count)| count).sum::<u64>(), 100);
    }

    #[test]
    fn times_are_exact_to_three_digits() {
        let mut histogram = times();
        for ns in [100_000, 1_234_567, 2_000_000_000] {
            histogram.saturating_record(ns);
            let found = histogram.max() as f64 / ns as f64;
            assert!((0.999..1.01).contains(&found), "{ns}: {found}");
        }
    }
}
