//! One session of a host: its machine, and what ties it to the rest.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use ringmq_turn::{ConnId, ConnectTicket, PeerId, TimerId};

use super::routes::Routes;
use crate::auth::Credentials;
use crate::link::{Delivery, SessionShared};
use crate::machine::Machine;

/// Where a session's connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Credentials are being fetched.
    Credentials { until_ms: u64 },
    /// The connection is being opened.
    Dialing { ticket: ConnectTicket, until_ms: u64 },
    /// It is open; CONNACK must come by then, unless it has.
    Open { conn: ConnId, until_ms: u64 },
    /// The next try is planned.
    Waiting { at_ms: u64 },
    /// None is tried: the program said so, or it is given up.
    Stopped { by_program: bool },
}

/// The most strays that are counted: so often at most another client of the same id is fought.
const STRAYS_MAX: u8 = 16;

/// What happened since the end of the last turn.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub sent: u32,
    pub sent_bytes: u64,
    pub received: u32,
    pub received_bytes: u64,
    pub errors: u32,
    /// Publications that wait no longer.
    pub left_queue: u32,
}

/// What ties a machine to the driver and the program.
#[derive(Debug)]
pub(super) struct Glue {
    pub shared: Arc<SessionShared>,
    /// One for each address.
    pub peers: Arc<[PeerId]>,
    pub state: State,
    pub timer: Option<(TimerId, u64)>,
    /// For the connection that is being opened.
    pub credentials: Option<Box<Credentials>>,
    /// The address in use or tried.
    pub address: u16,
    /// Addresses tried since the last wait.
    pub tried: u16,
    /// Tries since the last connection that worked.
    pub attempt: u32,
    /// Waits since then.
    pub round: u32,
    /// Every failure since the last wait was final.
    pub is_hopeless: bool,
    /// CONNACK accepted the connection.
    pub was_up: bool,
    /// There was one before.
    pub has_connected: bool,
    /// CONNECTs of attempts that were given up: each may still reach the broker, and take the session over.
    pub strays: u8,
    pub is_touched: bool,
    /// Targets that will say when they have room again.
    pub targets_full: u32,
    pub counts: Counts,
    pub routes: Option<Box<Routes>>,
}

/// One session.
#[derive(Debug)]
pub(super) struct Session {
    pub machine: Machine<Delivery>,
    pub glue: Glue,
}

impl Glue {
    pub fn new(shared: Arc<SessionShared>, peers: Arc<[PeerId]>) -> Self {
        assert!(!peers.is_empty(), "a session has an address at least");
        Self {
            shared,
            peers,
            state: State::Stopped { by_program: false },
            timer: None,
            credentials: None,
            address: 0,
            tried: 0,
            attempt: 0,
            round: 0,
            is_hopeless: true,
            was_up: false,
            has_connected: false,
            strays: 0,
            is_touched: false,
            targets_full: 0,
            counts: Counts::default(),
            routes: None,
        }
    }

    /// The open connection.
    pub fn conn(&self) -> Option<ConnId> {
        match self.state {
            State::Open { conn, .. } => Some(conn),
            State::Credentials { .. }
            | State::Dialing { .. }
            | State::Waiting { .. }
            | State::Stopped { .. } => None,
        }
    }

    /// When the state is to be looked at.
    pub fn due_ms(&self) -> u64 {
        match self.state {
            State::Open { .. } if self.was_up => u64::MAX,
            State::Credentials { until_ms }
            | State::Dialing { until_ms, .. }
            | State::Open { until_ms, .. }
            | State::Waiting { at_ms: until_ms } => until_ms,
            State::Stopped { .. } => u64::MAX,
        }
    }

    /// The connection ends; CONNECT may have been sent and not arrived.
    pub fn note_stray(&mut self) {
        if !self.was_up {
            self.strays = (self.strays + 1).min(STRAYS_MAX);
        }
    }

    /// Another CONNECT took the session over; whether that may have been one of ours.
    pub fn find_stray(&mut self) -> bool {
        let may_be_ours = self.strays > 0;
        self.strays = self.strays.saturating_sub(1);
        may_be_ours
    }

    /// The address in use, as it was given.
    pub fn address_name(&self) -> Box<str> {
        self.shared.options.addresses.get(usize::from(self.address)).cloned().unwrap_or_default()
    }

    /// Adds what happened to the session's metrics, and lets those on who wait for room.
    pub fn publish_counts(&mut self, subscriptions: u32, wall_ms: u64) {
        let counts = std::mem::take(&mut self.counts);
        let metrics = &self.shared.metrics;
        if counts.sent > 0 {
            metrics.messages_sent.fetch_add(u64::from(counts.sent), Ordering::Relaxed);
            metrics.bytes_sent.fetch_add(counts.sent_bytes, Ordering::Relaxed);
        }
        if counts.received > 0 {
            metrics.messages_received.fetch_add(u64::from(counts.received), Ordering::Relaxed);
            metrics.bytes_received.fetch_add(counts.received_bytes, Ordering::Relaxed);
        }
        if counts.sent + counts.received > 0 {
            metrics.last_message_ms.store(wall_ms, Ordering::Relaxed);
        }
        if counts.errors > 0 {
            metrics.errors.fetch_add(u64::from(counts.errors), Ordering::Relaxed);
            metrics.last_error_ms.store(wall_ms, Ordering::Relaxed);
        }
        metrics.subscriptions.store(subscriptions, Ordering::Relaxed);
        self.shared.release(counts.left_queue as usize);
    }
}

/// Thousands of them are idle.
const _: () = assert!(size_of::<Session>() <= 568);
