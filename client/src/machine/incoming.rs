//! QoS 1 and 2 messages of the server that are not done.

use std::collections::VecDeque;

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use ringmq_codec::PacketId;

/// Why an acknowledgement is not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hold {
    /// The program has not dealt with the message. `is_kept`: it will, also after this connection.
    Program { is_kept: bool },
    /// The store has not said that it has this change.
    Store(u64),
    /// Those before it are not sent.
    Turn,
}

/// A PUBACK or PUBREC to send.
#[derive(Clone, Copy, Debug)]
struct Owed {
    id: PacketId,
    is_pubrec: bool,
    hold: Hold,
}

/// A QoS 2 message that was taken and not released.
#[derive(Clone, Copy, Debug, Default)]
struct Taken {
    /// It came, or came again, on this connection.
    is_here: bool,
    /// The store knows it, or was told.
    is_posted: bool,
}

/// What became of a PUBLISH at QoS 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Novelty {
    New,
    /// It was taken on an earlier connection; whether the store was told.
    Again {
        is_posted: bool,
    },
    /// It came on this connection before.
    Repeated,
}

/// Messages of the server, and the acknowledgements that they are owed, in order of receipt. [MQTT-4.6.0-2],
/// [MQTT-4.6.0-3]
#[derive(Debug, Default)]
pub(super) struct Incoming {
    /// Absent while there is nothing in it; most messages never come here.
    waiting: Option<Box<Waiting>>,
    /// How many count against our Receive Maximum.
    open: u32,
}

/// What waits for something.
#[derive(Debug, Default)]
struct Waiting {
    owed: VecDeque<Owed>,
    taken: HashMap<PacketId, Taken, FixedState>,
    /// PUBCOMPs that wait for the store.
    completions: VecDeque<(u64, PacketId)>,
}

impl Incoming {
    fn waiting(&mut self) -> &mut Waiting {
        self.waiting.get_or_insert_default()
    }

    fn owed(&self) -> impl Iterator<Item = &Owed> {
        self.waiting.iter().flat_map(|waiting| &waiting.owed)
    }

    /// How many count against our Receive Maximum.
    pub fn open(&self) -> u32 {
        self.open
    }

    /// Enters a message of an earlier run.
    pub fn restore(&mut self, id: PacketId) {
        self.waiting().taken.insert(id, Taken { is_here: false, is_posted: true });
    }

    /// Whether nothing stands before an acknowledgement.
    pub fn is_clear(&self) -> bool {
        self.owed().next().is_none()
    }

    /// A QoS 1 message came.
    pub fn open_one(&mut self) {
        self.open += 1;
    }

    /// Its PUBACK was sent at once.
    pub fn close_one(&mut self) {
        self.open -= 1;
    }

    /// A QoS 2 message came.
    pub fn take(&mut self, id: PacketId) -> Novelty {
        let taken = &mut self.waiting().taken;
        let Some(known) = taken.get_mut(&id) else {
            taken.insert(id, Taken { is_here: true, is_posted: false });
            self.open += 1;
            return Novelty::New;
        };
        if std::mem::replace(&mut known.is_here, true) {
            return Novelty::Repeated;
        }
        let is_posted = known.is_posted;
        self.open += 1;
        Novelty::Again { is_posted }
    }

    /// A message under this id of an earlier connection is another one.
    pub fn forget_earlier(&mut self, id: PacketId) {
        if let Some(waiting) = &mut self.waiting
            && waiting.taken.get(&id).is_some_and(|taken| !taken.is_here)
        {
            waiting.taken.remove(&id);
        }
    }

    /// The store is told of a message.
    pub fn posted(&mut self, id: PacketId) {
        if let Some(taken) = self.waiting.as_mut().and_then(|waiting| waiting.taken.get_mut(&id)) {
            taken.is_posted = true;
        }
    }

    /// Puts an acknowledgement behind those that wait.
    pub fn owe(&mut self, id: PacketId, is_pubrec: bool, hold: Hold) {
        self.waiting().owed.push_back(Owed { id, is_pubrec, hold });
    }

    /// Whether PUBREC for an id was not sent.
    pub fn owes_pubrec(&self, id: PacketId) -> bool {
        self.owed().any(|owed| owed.is_pubrec && owed.id == id)
    }

    /// Whether the program holds back the acknowledgement for an id, and whether that is a PUBREC.
    pub fn is_held(&self, id: PacketId) -> Option<bool> {
        let held = |owed: &&Owed| owed.id == id && matches!(owed.hold, Hold::Program { .. });
        self.owed().find(held).map(|owed| owed.is_pubrec)
    }

    /// The program dealt with the message.
    pub fn acknowledge(&mut self, id: PacketId, hold: Hold) {
        let held = |owed: &&mut Owed| owed.id == id && matches!(owed.hold, Hold::Program { .. });
        if let Some(owed) = self.waiting.iter_mut().flat_map(|waiting| &mut waiting.owed).find(held) {
            owed.hold = hold;
        }
    }

    /// The store has everything up to a change.
    pub fn stored(&mut self, up_to: u64) {
        for owed in self.waiting.iter_mut().flat_map(|waiting| &mut waiting.owed) {
            if matches!(owed.hold, Hold::Store(change) if change <= up_to) {
                owed.hold = Hold::Turn;
            }
        }
    }

    /// The next acknowledgement that may be sent, and whether it is a PUBREC.
    pub fn pop(&mut self) -> Option<(PacketId, bool)> {
        let owed = self.waiting.as_mut()?.owed.pop_front_if(|owed| owed.hold == Hold::Turn)?;
        if !owed.is_pubrec {
            self.open -= 1;
        }
        Some((owed.id, owed.is_pubrec))
    }

    /// The server released a message; whether it was taken.
    pub fn release(&mut self, id: PacketId) -> bool {
        let taken = self.waiting.as_mut().and_then(|waiting| waiting.taken.remove(&id));
        if taken.is_some_and(|taken| taken.is_here) {
            self.open -= 1;
        }
        taken.is_some()
    }

    /// PUBCOMP waits for a change.
    pub fn owe_completion(&mut self, change: u64, id: PacketId) {
        self.waiting().completions.push_back((change, id));
    }

    /// The next PUBCOMP that waited no longer than for this change.
    pub fn pop_completion(&mut self, up_to: u64) -> Option<PacketId> {
        let completions = &mut self.waiting.as_mut()?.completions;
        completions.pop_front_if(|(change, _)| *change <= up_to).map(|(_, id)| id)
    }

    /// The connection ended. What the program has not dealt with comes again, and is new then.
    pub fn end(&mut self) {
        self.open = 0;
        let Some(Waiting { owed, taken, completions }) = self.waiting.as_deref_mut() else { return };
        for owed in owed.drain(..).filter(|owed| owed.is_pubrec) {
            if owed.hold == (Hold::Program { is_kept: false }) {
                taken.remove(&owed.id);
            }
        }
        completions.clear();
        taken.values_mut().for_each(|taken| taken.is_here = false);
    }

    /// The store failed: what it was told may be lost.
    pub fn store_failed(&mut self) {
        if let Some(waiting) = &mut self.waiting {
            waiting.taken.values_mut().for_each(|taken| taken.is_posted = false);
        }
    }

    /// The server remembers nothing; whether we did.
    pub fn forget(&mut self) -> bool {
        self.waiting.as_mut().is_some_and(|waiting| !std::mem::take(&mut waiting.taken).is_empty())
    }

    #[cfg(test)]
    pub fn room(&self) -> usize {
        self.waiting.as_ref().map_or(0, |waiting| {
            1 + waiting.owed.capacity() + waiting.taken.capacity() + waiting.completions.capacity()
        })
    }

    /// Gives memory back that is not used.
    pub fn shrink(&mut self) {
        let Some(Waiting { owed, taken, completions }) = self.waiting.as_deref_mut() else { return };
        if owed.is_empty() && taken.is_empty() && completions.is_empty() {
            self.waiting = None;
            return;
        }
        if owed.is_empty() {
            *owed = VecDeque::new();
        }
        if completions.is_empty() {
            *completions = VecDeque::new();
        }
        if taken.is_empty() {
            *taken = HashMap::default();
        }
    }
}
