//! What was published, what was received, and whether the one follows from the other.

use std::fmt;

use ringmq_codec::{QoS, matches};

/// Never, as a time.
pub const NEVER: u64 = u64::MAX;

/// A message that a publisher sent. Its number is its place among them.
#[derive(Clone, Debug)]
pub struct Sent {
    pub topic: u8,
    pub qos: QoS,
    /// When it was sent first, by the clock that all clients of a test share.
    pub at: u64,
    /// When its PUBACK or PUBREC was read.
    pub acked: u64,
}

/// One message, by publisher and number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    pub publisher: u16,
    pub number: u32,
}

/// The time during which a subscription certainly was there, and that during which it may have been.
#[derive(Clone, Debug)]
pub struct Span {
    pub filter: String,
    pub qos: QoS,
    /// SUBSCRIBE was sent.
    pub asked: u64,
    /// SUBACK was read.
    pub granted: u64,
    /// UNSUBSCRIBE was sent.
    pub ending: u64,
    /// UNSUBACK was read.
    pub ended: u64,
}

impl Span {
    /// A subscription from the beginning to the end.
    pub fn always(filter: &str, qos: QoS) -> Self {
        Self { filter: filter.into(), qos, asked: 0, granted: 0, ending: NEVER, ended: NEVER }
    }

    /// Whether a message that was sent to a topic must have come through it.
    fn must(&self, topic: &str, sent: &Sent) -> bool {
        let during = sent.at >= self.granted && sent.acked != NEVER && sent.acked < self.ending;
        during && matches(&self.filter, topic)
    }

    /// Whether it may have.
    fn may(&self, topic: &str, sent: &Sent) -> bool {
        sent.acked >= self.asked && sent.at <= self.ended && matches(&self.filter, topic)
    }
}

/// What is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A message was acknowledged and did not arrive.
    Lost(Name, QoS),
    /// A message of QoS 2 arrived twice.
    Doubled(Name),
    /// A message arrived first when a later one of its publisher had arrived already.
    Reordered(Name, u32),
    /// A message arrived that was not sent, or to somebody who did not ask for it.
    Unasked(Name),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost(name, qos) => write!(f, "{}.{} of {qos:?} lost", name.publisher, name.number),
            Self::Doubled(name) => write!(f, "{}.{} doubled", name.publisher, name.number),
            Self::Reordered(name, after) => {
                write!(f, "{}.{} came after {after}", name.publisher, name.number)
            }
            Self::Unasked(name) => write!(f, "{}.{} was not asked for", name.publisher, name.number),
        }
    }
}

/// What is expected of the order and the number of arrivals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strictness {
    /// One session: in order, and QoS 2 once.
    Session,
    /// One session of a broker that was killed and started with another number of shards: in order.
    Moved,
    /// The members of a shared group together: everything arrives somewhere.
    Group,
}

/// Compares what one session (or group) received, in order of arrival, with what was sent.
pub fn faults(sent: &[&[Sent]], received: &[Name], spans: &[Span], strictness: Strictness) -> Vec<Fault> {
    let topics = |publisher: usize, topic: u8| topic_name(publisher as u16, topic);
    let mut faults = Vec::new();
    let mut times: Vec<Vec<u32>> = sent.iter().map(|sent| vec![0; sent.len()]).collect();
    let mut newest: Vec<Option<u32>> = vec![None; sent.len()];
    for name in received {
        let (publisher, number) = (usize::from(name.publisher), name.number as usize);
        let Some(message) = sent.get(publisher).and_then(|sent| sent.get(number)) else {
            faults.push(Fault::Unasked(*name));
            continue;
        };
        let topic = topics(publisher, message.topic);
        let mut ways = spans.iter().filter(|span| span.may(&topic, message)).peekable();
        if ways.peek().is_none() {
            faults.push(Fault::Unasked(*name));
        }
        let exactly_once = ways.map(|span| span.qos.min(message.qos)).max() == Some(QoS::ExactlyOnce);
        let count = &mut times[publisher][number];
        *count += 1;
        if strictness == Strictness::Group {
            continue;
        }
        if *count == 2 && exactly_once && strictness == Strictness::Session {
            faults.push(Fault::Doubled(*name));
        }
        if *count == 1 {
            // What is published while nobody subscribes may come when it is repeated to one who does now.
            let was_there = |span: &Span| span.may(&topic, message) && message.at >= span.granted;
            match newest[publisher] {
                Some(after) if after > name.number && spans.iter().any(was_there) => {
                    faults.push(Fault::Reordered(*name, after));
                }
                Some(after) if after > name.number => {}
                _ => newest[publisher] = Some(name.number),
            }
        }
    }
    for (publisher, (sent, times)) in sent.iter().zip(&times).enumerate() {
        for (number, (message, times)) in sent.iter().zip(times).enumerate() {
            let topic = topics(publisher, message.topic);
            if *times == 0 && spans.iter().any(|span| span.must(&topic, message)) {
                let name = Name { publisher: publisher as u16, number: number as u32 };
                faults.push(Fault::Lost(name, message.qos));
            }
        }
    }
    faults
}

/// The topic that a publisher sends to under a number.
pub fn topic_name(publisher: u16, topic: u8) -> String {
    format!("load/{publisher}/{topic}")
}

/// The payload of a message: its name, then bytes that follow from the name.
pub fn payload(name: Name, bytes: usize) -> Vec<u8> {
    let mut payload = Vec::with_capacity(bytes + 6);
    payload.extend_from_slice(&name.publisher.to_be_bytes());
    payload.extend_from_slice(&name.number.to_be_bytes());
    payload.extend((0..bytes).map(|at| filler(name, at)));
    payload
}

fn filler(name: Name, at: usize) -> u8 {
    (name.number as usize * 31 + usize::from(name.publisher) * 7 + at) as u8
}

/// The name in a payload, if nothing in it was changed.
pub fn name_in(payload: &[u8]) -> Option<Name> {
    let (head, rest) = payload.split_first_chunk::<6>()?;
    let [p0, p1, n0, n1, n2, n3] = *head;
    let (publisher, number) = (u16::from_be_bytes([p0, p1]), u32::from_be_bytes([n0, n1, n2, n3]));
    let name = Name { publisher, number };
    rest.iter().enumerate().all(|(at, byte)| *byte == filler(name, at)).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(number: u32) -> Name {
        Name { publisher: 0, number }
    }

    /// Ten messages of QoS 2, all acknowledged but the last.
    fn ten() -> Vec<Sent> {
        let sent =
            |n| Sent { topic: 0, qos: QoS::ExactlyOnce, at: n, acked: if n == 9 { NEVER } else { n + 100 } };
        (0..10).map(sent).collect()
    }

    fn check(received: &[u32], spans: &[Span], strictness: Strictness) -> Vec<Fault> {
        let received: Vec<_> = received.iter().copied().map(name).collect();
        faults(&[&ten()], &received, spans, strictness)
    }

    #[test]
    fn faults_are_found() {
        let all = [Span::always("load/#", QoS::ExactlyOnce)];
        let session = |received: &[u32]| check(received, &all, Strictness::Session);
        assert_eq!(session(&[0, 1, 2, 3, 4, 5, 6, 7, 8]), []);
        assert_eq!(session(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]), [], "what was not acknowledged may arrive");
        let lost = [Fault::Lost(name(4), QoS::ExactlyOnce)];
        assert_eq!(session(&[0, 1, 2, 3, 5, 6, 7, 8]), lost);
        assert_eq!(session(&[0, 1, 2, 3, 3, 4, 5, 6, 7, 8]), [Fault::Doubled(name(3))]);
        assert_eq!(session(&[0, 1, 3, 2, 4, 5, 6, 7, 8]), [Fault::Reordered(name(2), 3)]);
        assert_eq!(session(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 10]), [Fault::Unasked(name(10))]);
        let doubled = check(&[0, 1, 2, 3, 3, 5, 6, 7, 8], &all, Strictness::Moved);
        assert_eq!(doubled, lost);
        let group = |received: &[u32]| check(received, &all, Strictness::Group);
        assert_eq!(group(&[5, 6, 7, 8, 0, 1, 2, 3, 3, 4]), []);
        assert_eq!(group(&[8, 7, 6, 5, 3, 2, 1, 0]), lost);
    }

    #[test]
    fn qos_1_may_repeat_itself_but_not_run_ahead() {
        let all = [Span::always("load/#", QoS::AtLeastOnce)];
        let session = |received: &[u32]| check(received, &all, Strictness::Session);
        assert_eq!(session(&[0, 1, 2, 3, 1, 2, 3, 4, 5, 6, 7, 8]), []);
        assert_eq!(session(&[0, 1, 3, 1, 2, 3, 4, 5, 6, 7, 8]), [Fault::Reordered(name(2), 3)]);
    }

    #[test]
    fn a_subscription_counts_while_it_is_there() {
        let span = Span {
            asked: 2,
            granted: 4,
            ending: 107,
            ended: 108,
            ..Span::always("load/0/+", QoS::ExactlyOnce)
        };
        let session = |received: &[u32]| check(received, std::slice::from_ref(&span), Strictness::Session);
        assert_eq!(session(&[4, 5, 6]), []);
        assert_eq!(session(&[0, 1, 2, 3, 4, 5, 6, 7, 8]), [], "each may have been under way");
        assert_eq!(session(&[4, 6]), [Fault::Lost(name(5), QoS::ExactlyOnce)]);
        assert_eq!(session(&[5, 4, 6, 3]), [Fault::Reordered(name(4), 5)], "3 was sent before SUBACK");
        let late = Span { asked: 105, granted: 105, ..Span::always("load/0/0", QoS::ExactlyOnce) };
        assert_eq!(check(&[4], &[late], Strictness::Session), [Fault::Unasked(name(4))]);
        let other = Span::always("load/1/#", QoS::ExactlyOnce);
        assert_eq!(check(&[4], &[other], Strictness::Session), [Fault::Unasked(name(4))]);
    }

    #[test]
    fn a_changed_payload_has_no_name() {
        let whole = payload(name(77), 100);
        assert_eq!(name_in(&whole), Some(name(77)));
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            assert_ne!(name_in(&changed), Some(name(77)));
        }
    }
}
