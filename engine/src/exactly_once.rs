//! QoS 2 publications that concern several shards, through crashes. MQTT 5 section 4.3.3.
//!
//! What one shard writes for a publication is there after a crash as a whole or not at all; but another
//! shard may lack its part. The publisher was not acknowledged to then, and repeats. So such a publication
//! has a number: the publisher's shard keeps it with the packet id until PUBREL, every other shard that
//! wrote its part keeps it until told to forget, and takes no second one. After a start the shards tell
//! each other which numbers may still come.
//!
//! A message for a shared group may find its members changed after the start, and be given twice.

use std::num::NonZeroU64;

use hashbrown::HashMap;
use ringmq_codec::{Publish, QoS, ReasonCode};
use ringmq_storage::{Log, PublicationRecord, Record, SegmentId};
use ringmq_turn::ShardId;

use crate::acknowledge::Awaited;
use crate::carried::CarriedMessage;
use crate::conn::Ack;
use crate::hash::Hashing;
use crate::publish::{Routed, Sender};
use crate::session::Taken;
use crate::{Engine, EngineIo};

/// Set in the number that the publisher's shard keeps when a group of another shard got the message.
const TO_GROUPS: u64 = 1 << 63;
/// Set in the number under which a shard notes what it gave to its groups.
const BY_GROUPS: u64 = 1 << 62;

/// Publications that came from other shards and may come again, with the segment that says so.
pub(crate) type Came = HashMap<PublicationRecord, SegmentId, Hashing>;

/// The number that goes along with a publication, in a form of which none takes no more room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Numbered(NonZeroU64);

impl Numbered {
    /// None for zero, which no publication has.
    pub(crate) fn new(number: PublicationRecord) -> Option<Self> {
        NonZeroU64::new(number.0).map(Self)
    }

    pub(crate) fn number(self) -> PublicationRecord {
        PublicationRecord(self.0.get())
    }
}

/// Which part of a publication a shard got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// For its subscribers.
    Subscribers,
    /// For its members of groups.
    Groups,
}

/// The number that goes along with a publication.
pub(crate) fn carried_number(kept: PublicationRecord) -> PublicationRecord {
    PublicationRecord(kept.0 & !TO_GROUPS)
}

/// Whether a group of another shard got a publication.
pub(crate) fn went_to_groups(kept: PublicationRecord) -> bool {
    kept.0 & TO_GROUPS != 0
}

fn part_number(number: PublicationRecord, part: Part) -> PublicationRecord {
    match part {
        Part::Subscribers => number,
        Part::Groups => PublicationRecord(number.0 | BY_GROUPS),
    }
}

impl<L: Log> Engine<L> {
    /// Notes that a QoS 2 publication was taken from a client.
    pub(crate) fn note_taken(&mut self, sender: Sender, packet_id: u16, routed: &mut Routed) {
        let session = self.sessions.get_mut(sender.session);
        let kept = routed
            .number
            .filter(|_| !routed.shards.is_empty())
            .map(|number| number.number().0 | if routed.groups_elsewhere { TO_GROUPS } else { 0 })
            .map(PublicationRecord);
        let taken = kept.map_or(Taken::Here, |kept| Taken::Spread(kept, routed.shards));
        session.taken.insert(packet_id, taken);
        if session.persistent {
            let session = session.record;
            self.log.append(Record::Taken { session, packet_id, publication: kept });
            routed.wrote = true;
        }
    }

    /// Whether a client repeats a publication that was taken; then it is acknowledged again, unless some
    /// shards may lack it. [MQTT-4.3.3-10]
    pub(crate) fn take_again(&mut self, sender: Sender, publish: &Publish<'_>, io: &mut EngineIo) -> Again {
        let (QoS::ExactlyOnce, Some(packet_id)) = (publish.qos, publish.packet_id) else { return Again::New };
        match self.sessions.get(sender.session).taken.get(&packet_id.get()) {
            None => Again::New,
            Some(Taken::Unfinished(kept)) => Again::Unfinished(*kept),
            Some(Taken::Here | Taken::Spread(..)) => {
                // What it waited for may not have come yet, and is remembered nowhere: all that was sent to
                // any shard, and all that was written, covers it.
                self.traffic.publishes_received += 1;
                let ack = Ack::PubRec(packet_id, ReasonCode::Success);
                let awaited = Awaited { shards: self.mesh.others, logged: Some(self.log.appended()) };
                self.acknowledge(sender, ack, &awaited, io);
                Again::Acknowledged
            }
        }
    }

    /// Whether a message from another shard is new here. One that was written here already is not.
    pub(crate) fn is_new(&self, message: &CarriedMessage, part: Part) -> bool {
        message.publication().is_none_or(|number| !self.came.contains_key(&part_number(number, part)))
    }

    /// A message from another shard was dealt with: if that changed the log, it must not come again.
    pub(crate) fn note_came(&mut self, message: &CarriedMessage, part: Part, appended_before: u64) {
        if let Some(number) = message.publication()
            && self.log.appended() > appended_before
        {
            self.tell_came(part_number(number, part));
        }
    }

    /// Writes that a publication came.
    pub(crate) fn tell_came(&mut self, publication: PublicationRecord) {
        self.log.append(Record::Came { publication });
        self.came.insert(publication, self.log.head());
    }

    /// A publication will not come again.
    pub(crate) fn on_went(&mut self, kept: PublicationRecord) {
        let number = carried_number(kept);
        for part in [Part::Subscribers, Part::Groups] {
            let publication = part_number(number, part);
            if self.came.remove(&publication).is_some() {
                self.log.append(Record::Went { publication });
            }
        }
    }

    /// The publications of this shard's clients that other shards may lack.
    pub(crate) fn unfinished(&self) -> Vec<PublicationRecord> {
        let sessions = (0..self.sessions.slots_len()).filter_map(|index| self.sessions.at(index));
        let taken = sessions.flat_map(|session| session.taken.values());
        taken
            .filter_map(|taken| match taken {
                Taken::Unfinished(kept) => Some(carried_number(*kept)),
                Taken::Here | Taken::Spread(..) => None,
            })
            .collect()
    }

    /// Forgets what came from shards that do not know of it any more.
    pub(crate) fn forget_unclaimed(&mut self) {
        let mut claimed: HashMap<PublicationRecord, (), Hashing> = HashMap::with_hasher(self.hashing);
        claimed.extend(std::mem::take(&mut self.claims).into_iter().map(|number| (number, ())));
        let unclaimed: Vec<_> = self
            .came
            .keys()
            .filter(|number| !claimed.contains_key(&PublicationRecord(number.0 & !BY_GROUPS)))
            .copied()
            .collect();
        for publication in unclaimed {
            self.came.remove(&publication);
            self.log.append(Record::Went { publication });
        }
    }

    /// Another shard knows all of its sessions again, and these publications of theirs are unfinished.
    pub(crate) fn on_recovered(
        &mut self,
        from: ShardId,
        unfinished: Vec<PublicationRecord>,
        io: &mut EngineIo,
    ) {
        self.claims.extend(unfinished);
        self.recovering.remove(from);
        if self.recovering.is_empty() {
            self.open(io);
        }
    }
}

/// What a publication from a client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Again {
    /// New.
    New,
    /// Taken before, and acknowledged once more.
    Acknowledged,
    /// Taken before under this number, but other shards may lack it.
    Unfinished(PublicationRecord),
}
