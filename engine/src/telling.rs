//! What the log is told of sessions as a whole: when they begin, and when compaction writes them anew.

use ringmq_storage::{Log, Record, SessionRecord, WillView};

use crate::Engine;
use crate::ids::SessionSlot;
use crate::route::Router;
use crate::session::{Session, Subscription, Taken, Will};
use crate::tree::SubscriberOptions;

/// What a session without anything takes in the log, about.
const SESSION_BYTES: u32 = 64;

impl<L: Log> Engine<L> {
    /// A session's client connected, for the first time or again.
    pub(crate) fn tell_opened(&mut self, slot: SessionSlot) {
        let session = self.sessions.get_mut(slot);
        if session.told_in.is_none() {
            let bytes = SESSION_BYTES + session.client_id.len() as u32;
            session.state_bytes += bytes;
            self.state_bytes += u64::from(bytes);
            return self.tell(slot);
        }
        let (record, expiry_s) = (session.record, session.expiry_s);
        self.log.append(Record::SessionResumed { session: record, expiry_s });
        if let Some(will) = &session.will {
            self.log.append(will_record(record, will));
        }
    }

    /// Tells all of a session but its messages: what was told before is void.
    pub(crate) fn tell(&mut self, slot: SessionSlot) {
        self.sessions.get_mut(slot).told_in = Some(self.log.head());
        let session = self.sessions.get(slot);
        let record = session.record;
        self.log.append(Record::SessionBegins {
            session: record,
            client_id: &session.client_id,
            expiry_s: session.expiry_s,
            closed_at_ms: session.closed_at_ms,
            next: session.out.next(),
        });
        if let Some(will) = &session.will {
            self.log.append(will_record(record, will));
        }
        for subscription in &session.subscriptions {
            if let Some((filter, options, subscription_id)) = subscribed(&self.router, session, *subscription)
            {
                self.log.append(Record::Subscribed { session: record, filter, options, subscription_id });
            }
        }
        for (packet_id, taken) in &session.taken {
            let publication = match taken {
                Taken::Here => None,
                Taken::Spread(kept, _) | Taken::Unfinished(kept) => Some(*kept),
            };
            self.log.append(Record::Taken { session: record, packet_id: *packet_id, publication });
        }
        for number in session.out.received() {
            self.log.append(Record::Received { session: record, number });
        }
    }
}

/// The filter, options byte and Subscription Identifier of a session's subscription.
fn subscribed<'a>(router: &'a Router, session: &Session, held: Subscription) -> Option<(&'a str, u8, u32)> {
    let slot = session.key.slot;
    match held {
        Subscription::Filter(id) => {
            let subscriber = router.tree.subscriber(id, slot)?;
            let options = options_byte(subscriber.options);
            Some((router.tree.text(id), options, subscriber.subscription_id))
        }
        Subscription::Group(id) => {
            let group = router.groups.get(id)?;
            let member = group.member(slot)?;
            Some((&group.key, options_byte(member.options), member.subscription_id))
        }
    }
}

fn will_record(session: SessionRecord, will: &Will) -> Record<'_> {
    let will = WillView {
        topic: &will.topic,
        properties: &will.properties,
        payload: &will.payload,
        qos: will.qos as u8,
        retain: will.retain,
        delay_s: will.delay_s,
        message_expiry_s: will.message_expiry_s,
    };
    Record::Will { session, will }
}

/// The options byte of MQTT 5, without Retain Handling, which concerns the SUBSCRIBE only.
fn options_byte(options: SubscriberOptions) -> u8 {
    options.qos() | u8::from(options.no_local()) << 2 | u8::from(options.retain_as_published()) << 3
}
