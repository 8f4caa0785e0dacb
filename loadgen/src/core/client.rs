//! One client: its session, and its connection.

use std::sync::Arc;

use ringmq_client::parts::Machine;
use ringmq_turn::{ConnId, ConnectTicket, TimerId};

use super::subscriber::Delivery;

/// Where a client's connection stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum State {
    /// There is none.
    #[default]
    Away,
    /// It is being opened.
    Dialling(ConnectTicket),
    /// CONNECT was sent.
    Greeting(ConnId),
    /// The broker accepted it.
    Up(ConnId),
}

/// Stands for no place in a table.
pub(crate) const NONE: u32 = u32::MAX;

/// A PUBLISH whose payload is still coming.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Coming {
    pub delivery: Delivery,
    pub bytes: usize,
}

/// A client of this core.
#[derive(Default)]
pub(crate) struct Client {
    pub group: u16,
    /// Among its group.
    pub index: u32,
    pub state: State,
    pub machine: Option<Box<Machine<u64>>>,
    pub timer: Option<TimerId>,
    /// When its connection was begun; while it is up, when its PINGREQ was sent.
    pub since_ns: u64,
    /// Places in the core's tables.
    pub publisher: u32,
    pub subscriber: u32,
    /// The start of a packet.
    pub carry: Vec<u8>,
    pub coming: Option<Box<Coming>>,
    /// Subscriptions that it asked for and that are not answered.
    pub asking: u32,
    /// It waits for a PINGRESP that is measured.
    pub is_pinging: bool,
}

impl Client {
    pub fn new(group: usize, index: u32) -> Self {
        Self { group: group as u16, index, publisher: NONE, subscriber: NONE, ..Self::default() }
    }

    /// Its connection, once there is one.
    pub fn conn(&self) -> Option<ConnId> {
        match self.state {
            State::Greeting(conn) | State::Up(conn) => Some(conn),
            State::Away | State::Dialling(_) => None,
        }
    }

    /// Its connection, if the broker accepted it.
    #[inline]
    pub fn up(&self) -> Option<ConnId> {
        match self.state {
            State::Up(conn) => Some(conn),
            State::Away | State::Dialling(_) | State::Greeting(_) => None,
        }
    }

    /// Forgets what belonged to a connection.
    pub fn clear(&mut self) {
        self.state = State::Away;
        self.carry = Vec::new();
        self.coming = None;
        self.is_pinging = false;
    }
}

/// What all sessions of a group share.
pub(crate) type Shared = Arc<ringmq_client::parts::SessionOptions>;

/// Up to a million of them are idle.
const _: () = assert!(size_of::<Client>() <= 128);
