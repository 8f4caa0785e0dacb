//! The subscriptions that a session is to have, and what the server is asked about them.

use std::collections::VecDeque;
use std::sync::Arc;

use ringmq_codec::PacketId;

use super::limits::{ASKED_PACKETS_MAX, FILTERS_A_PACKET_MAX};
use crate::link::{PUBLICATION_IDS, Wanted};

/// What the server said of a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// Nothing yet: it is being asked, or will be.
    Asked,
    Granted,
    /// It is asked again on the next connection.
    Refused,
}

#[derive(Debug)]
struct Entry {
    wanted: Wanted,
    standing: Standing,
}

/// Whether the server of a new connection knows the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Memory {
    Lost,
    /// MQTT 3.1 does not say.
    Unknown,
    Kept,
}

/// What the server is to be asked.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Ask {
    Subscribe(Wanted),
    Unsubscribe(Arc<str>),
}

/// An [`Ask`], and who waits for its answer.
#[derive(Debug)]
pub(super) struct Question<T> {
    pub ask: Ask,
    pub asker: Option<T>,
}

impl<T> Question<T> {
    /// Whether one packet can hold both.
    fn goes_with(&self, other: &Self) -> bool {
        match (&self.ask, &other.ask) {
            (Ask::Subscribe(a), Ask::Subscribe(b)) => a.subscription_id == b.subscription_id,
            (Ask::Unsubscribe(_), Ask::Unsubscribe(_)) => true,
            (Ask::Subscribe(_), Ask::Unsubscribe(_)) | (Ask::Unsubscribe(_), Ask::Subscribe(_)) => false,
        }
    }

    /// Bytes that it adds to a packet.
    pub fn bytes(&self) -> usize {
        match &self.ask {
            Ask::Subscribe(wanted) => 2 + wanted.filter.len() + 1,
            Ask::Unsubscribe(filter) => 2 + filter.len(),
        }
    }
}

/// The questions of one packet.
#[derive(Debug)]
struct Asked<T> {
    id: PacketId,
    questions: Vec<Question<T>>,
}

/// All subscriptions of a session.
#[derive(Debug)]
pub(super) struct Subscriptions<T> {
    /// By filter.
    wanted: Vec<Entry>,
    /// In the order in which they were given.
    questions: VecDeque<Question<T>>,
    /// Packets that are not answered, the oldest first.
    asked: Vec<Asked<T>>,
    last_id: u16,
    granted: u32,
}

impl<T> Default for Subscriptions<T> {
    fn default() -> Self {
        Self {
            wanted: Vec::new(),
            questions: VecDeque::new(),
            asked: Vec::new(),
            last_id: PUBLICATION_IDS,
            granted: 0,
        }
    }
}

impl<T> Subscriptions<T> {
    /// How many the server has granted.
    pub fn granted(&self) -> u32 {
        self.granted
    }

    /// Whether the server has answered everything.
    pub fn is_settled(&self) -> bool {
        self.questions.is_empty() && self.asked.is_empty()
    }

    fn find(&self, filter: &str) -> Result<usize, usize> {
        self.wanted.binary_search_by(|entry| (*entry.wanted.filter).cmp(filter))
    }

    fn set_standing(&mut self, at: usize, standing: Standing) {
        let entry = &mut self.wanted[at];
        self.granted -= u32::from(entry.standing == Standing::Granted);
        self.granted += u32::from(standing == Standing::Granted);
        entry.standing = standing;
    }

    /// Enters a subscription of an earlier run, which the server granted.
    pub fn restore(&mut self, wanted: Wanted) {
        let at = self.enter(wanted);
        self.set_standing(at, Standing::Granted);
    }

    fn enter(&mut self, wanted: Wanted) -> usize {
        match self.find(&wanted.filter) {
            Ok(at) => {
                self.set_standing(at, Standing::Asked);
                self.wanted[at].wanted = wanted;
                at
            }
            Err(at) => {
                if self.wanted.capacity() == self.wanted.len() {
                    // Most sessions have one.
                    self.wanted.reserve_exact(1 + self.wanted.len() / 2);
                }
                self.wanted.insert(at, Entry { wanted, standing: Standing::Asked });
                at
            }
        }
    }

    /// Has a subscription from now on.
    pub fn subscribe(&mut self, wanted: Wanted, asker: Option<T>) {
        self.enter(wanted.clone());
        self.questions.push_back(Question { ask: Ask::Subscribe(wanted), asker });
    }

    /// Has it no longer; whether there was one. The server is to be told, also if it is only connected to later.
    pub fn unsubscribe(&mut self, filter: &Arc<str>, asker: Option<T>) -> bool {
        let found = self.find(filter);
        if let Ok(at) = found {
            self.set_standing(at, Standing::Asked);
            self.wanted.remove(at);
        }
        self.questions.push_back(Question { ask: Ask::Unsubscribe(filter.clone()), asker });
        found.is_ok()
    }

    /// Takes back the questions for a subscription that no server was asked.
    pub fn take_back(&mut self, filter: &str) -> Vec<T> {
        let mut askers = Vec::new();
        self.questions.retain_mut(|question| {
            let is_meant = matches!(&question.ask, Ask::Subscribe(wanted) if &*wanted.filter == filter);
            if is_meant {
                askers.extend(question.asker.take());
            }
            !is_meant
        });
        askers
    }

    /// A new connection: asks for what its server has not granted. Answers the subscriptions that are given up
    /// with the session that held them.
    pub fn begin(&mut self, memory: Memory, resume: bool) -> Vec<Arc<str>> {
        debug_assert!(self.asked.is_empty(), "the last connection ended");
        let mut given_up = Vec::new();
        if memory == Memory::Lost {
            // It knows of nothing that could be ended. Who asked was answered when there was no connection.
            self.questions.retain(|question| matches!(question.ask, Ask::Subscribe(_)));
            if !resume {
                self.wanted.retain(|entry| {
                    let stays = entry.standing == Standing::Asked;
                    if !stays {
                        given_up.push(entry.wanted.filter.clone());
                    }
                    stays
                });
            }
        }
        for entry in &mut self.wanted {
            let asks = match entry.standing {
                Standing::Asked => false,
                Standing::Granted => memory != Memory::Kept,
                Standing::Refused => true,
            };
            if asks {
                entry.standing = Standing::Asked;
                let ask = Ask::Subscribe(entry.wanted.clone());
                self.questions.push_back(Question { ask, asker: None });
            }
        }
        self.granted = self.wanted.iter().filter(|entry| entry.standing == Standing::Granted).count() as u32;
        given_up
    }

    /// The connection ended: what was not answered is asked again. Answers those who waited for the end of a
    /// subscription.
    pub fn end(&mut self) -> Vec<T> {
        for asked in std::mem::take(&mut self.asked).into_iter().rev() {
            for question in asked.questions.into_iter().rev() {
                self.questions.push_front(question);
            }
        }
        let ends = self.questions.iter_mut().filter(|question| matches!(question.ask, Ask::Unsubscribe(_)));
        ends.filter_map(|question| question.asker.take()).collect()
    }

    /// The next question, if one more packet may be sent.
    pub fn front(&self) -> Option<&Question<T>> {
        if self.asked.len() < ASKED_PACKETS_MAX { self.questions.front() } else { None }
    }

    /// Gives up the next question.
    pub fn refuse_front(&mut self) -> Option<T> {
        let question = self.questions.pop_front()?;
        if let Ask::Subscribe(wanted) = &question.ask {
            self.mark(wanted, Standing::Refused);
        }
        question.asker
    }

    /// Takes the questions of the next packet, which has room for so many bytes of them: at least one. They are
    /// those of [`Subscriptions::asked`] under the id from now on.
    pub fn take(&mut self, bytes_max: usize, is_sendable: impl Fn(&Ask) -> bool) -> Option<PacketId> {
        let mut questions: Vec<Question<T>> = Vec::new();
        let mut bytes = 0;
        while questions.len() < FILTERS_A_PACKET_MAX
            && let Some(next) = self.questions.front()
        {
            bytes += next.bytes();
            let joins = questions
                .first()
                .is_none_or(|first| bytes <= bytes_max && first.goes_with(next) && is_sendable(&next.ask));
            if !joins {
                break;
            }
            questions.extend(self.questions.pop_front());
        }
        if questions.is_empty() {
            return None;
        }
        let id = self.free_id();
        self.asked.push(Asked { id, questions });
        Some(id)
    }

    fn free_id(&mut self) -> PacketId {
        loop {
            self.last_id = self.last_id.checked_add(1).unwrap_or(PUBLICATION_IDS + 1);
            let id = PacketId::new(self.last_id).expect("it is above those of publications");
            if self.asked.iter().all(|asked| asked.id != id) {
                return id;
            }
        }
    }

    /// What was asked under an id.
    pub fn asked(&self, id: PacketId) -> Option<&[Question<T>]> {
        self.asked.iter().find(|asked| asked.id == id).map(|asked| &asked.questions[..])
    }

    /// The server answered.
    pub fn answered(&mut self, id: PacketId) -> Vec<Question<T>> {
        let at = self.asked.iter().position(|asked| asked.id == id).expect("it was just looked at");
        let questions = self.asked.remove(at).questions;
        if self.asked.is_empty() {
            self.asked = Vec::new();
        }
        if self.questions.is_empty() {
            self.questions = VecDeque::new();
        }
        questions
    }

    /// What the server said of a subscription. Whether that is the newest that is wanted of the filter.
    pub fn granted_or_not(&mut self, wanted: &Wanted, is_granted: bool) -> bool {
        self.mark(wanted, if is_granted { Standing::Granted } else { Standing::Refused })
    }

    fn mark(&mut self, wanted: &Wanted, standing: Standing) -> bool {
        match self.find(&wanted.filter) {
            Ok(at) if self.wanted[at].wanted == *wanted => {
                self.set_standing(at, standing);
                true
            }
            Ok(_) | Err(_) => false,
        }
    }

    /// The end of the session: all who wait.
    pub fn take_askers(&mut self) -> Vec<T> {
        let mut askers = self.end();
        askers.extend(std::mem::take(&mut self.questions).into_iter().filter_map(|question| question.asker));
        askers
    }
}
