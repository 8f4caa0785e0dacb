//! What tests use in place of I/O threads: a driver whose cores are the test itself.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use ringmq_shards::Peer;
use ringmq_turn::PeerId;

use crate::error::ConnectError;
use crate::link::{AckToken, Acknowledgement, Mailbox, Request, SessionShared};
use crate::manager::Manager;
use crate::message::{Message, Received};
use crate::status::{Happening, Retry};
use crate::threads::Driver;

/// A deadline, not a pace: everything comes far sooner.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

#[derive(Debug, Default)]
struct End {
    is_stopped: bool,
    failure: Option<String>,
}

#[derive(Debug)]
pub(crate) struct Stub {
    mailboxes: Vec<Arc<Mailbox>>,
    /// Those that are registered.
    pub peers: Mutex<Vec<(PeerId, Peer)>>,
    next_peer: AtomicU32,
    end: Mutex<End>,
    ended: Condvar,
}

impl Stub {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            mailboxes: vec![Arc::new(Mailbox::new(Box::new(|| ())))],
            peers: Mutex::default(),
            next_peer: AtomicU32::new(0),
            end: Mutex::default(),
            ended: Condvar::new(),
        })
    }

    pub fn manager(self: &Arc<Self>) -> Manager {
        Manager::with_driver(Arc::clone(self) as _, 64).unwrap()
    }

    /// What was asked since the last call.
    pub fn requests(&self) -> Vec<Request> {
        let mut requests = Vec::new();
        self.mailboxes[0].take(&mut requests);
        requests
    }

    /// The one session that was added since the last call.
    pub fn added(&self) -> Arc<SessionShared> {
        let is_add = |request| match request {
            Request::Add(session, _) => Some(session),
            _ => None,
        };
        self.requests().into_iter().find_map(is_add).expect("a session was added")
    }

    /// Behaves as a runtime of which a thread failed.
    pub fn fail(&self, failure: &str) {
        *self.end.lock().unwrap() = End { is_stopped: true, failure: Some(failure.to_owned()) };
        self.ended.notify_all();
    }
}

impl Driver for Stub {
    fn mailboxes(&self) -> &[Arc<Mailbox>] {
        &self.mailboxes
    }

    fn add_peer(&self, peer: Peer) -> PeerId {
        let id = PeerId(self.next_peer.fetch_add(1, Ordering::Relaxed));
        self.peers.lock().unwrap().push((id, peer));
        id
    }

    fn remove_peer(&self, peer: PeerId) {
        let mut peers = self.peers.lock().unwrap();
        let count = peers.len();
        peers.retain(|(id, _)| *id != peer);
        assert_eq!(peers.len() + 1, count, "it was registered");
    }

    fn wait_stop(&self, timeout: Duration) -> bool {
        let end = self.end.lock().unwrap();
        self.ended.wait_timeout_while(end, timeout, |end| !end.is_stopped).unwrap().0.is_stopped
    }

    fn failure(&self) -> Option<String> {
        self.end.lock().unwrap().failure.clone()
    }

    fn stop(&self, _: Duration) -> Result<(), String> {
        let mut end = self.end.lock().unwrap();
        end.is_stopped = true;
        self.ended.notify_all();
        end.failure.clone().map_or(Ok(()), Err)
    }
}

pub(crate) fn happened(session: &Arc<SessionShared>, happening: Happening) {
    session.watcher.happened(session, happening);
}

pub(crate) fn connect(session: &Arc<SessionShared>) {
    happened(session, Happening::Connecting { address: 0 });
    session.set_connected(true);
    happened(session, Happening::Connected { address: 0, session_present: false });
}

pub(crate) fn get_ready(session: &Arc<SessionShared>) {
    connect(session);
    happened(session, Happening::Ready);
}

pub(crate) fn lose(session: &Arc<SessionShared>, attempt: Option<u32>) {
    session.set_connected(false);
    let retry = attempt.map(|attempt| Retry { attempt, delay_ms: 7 });
    happened(session, Happening::Lost { why: ConnectError::Lost, retry });
}

/// Routes messages as a core does; how many targets there were.
pub(crate) fn deliver(session: &Arc<SessionShared>, messages: &[Message]) -> usize {
    let mut count = 0;
    for message in messages {
        for target in session.router.targets(&message.topic) {
            count += 1;
            target.put(&mut vec![received(session, message.clone())]);
        }
    }
    count
}

pub(crate) fn received(session: &Arc<SessionShared>, message: Message) -> Received {
    Received {
        message,
        session: Arc::clone(&session.options.name),
        dup: false,
        subscription_ids: Vec::new(),
        ack: None,
    }
}

/// A message whose acknowledgement is held back.
pub(crate) fn withheld(
    session: &Arc<SessionShared>,
    message: Message,
    id: u16,
    is_automatic: bool,
) -> Received {
    let packet_id = ringmq_codec::PacketId::new(id).unwrap();
    let acknowledgement = Acknowledgement { connection: 1, packet_id };
    let ack = AckToken::for_routes(session, acknowledgement, &[is_automatic]).next();
    Received { ack, ..received(session, message) }
}
