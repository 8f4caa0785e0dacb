//! Connections that cores open: the test is the network and the far end.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};

use ringmq_turn::{ConnInfo, ConnectFailure, ConnectTicket, Core, Dial, ListenerId, PeerId, ShardId};

use crate::agenda::Due;
use crate::client::{Client, ClientId, Place};
use crate::world::World;

/// A connection that a core asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Dialled {
    /// The shard of the core.
    pub shard: ShardId,
    /// How the core calls it.
    pub ticket: ConnectTicket,
    /// Whom it is for.
    pub peer: PeerId,
    number: u32,
}

/// Where a connection that a core asked for is.
#[derive(Clone, Debug)]
enum Stage {
    /// Nobody has answered.
    Ringing,
    /// The far end accepted it; the core does not know yet.
    Accepted(ClientId),
    /// It was refused; the core does not know yet.
    Refused(ConnectFailure),
    /// The core gave it up, or has its answer.
    Over,
}

#[derive(Clone, Debug)]
struct Dialling {
    of: Dialled,
    stage: Stage,
    /// The test has accepted or refused it.
    answered: bool,
}

/// All connections that cores ask for.
#[derive(Debug, Default)]
pub(crate) struct Dials {
    /// By number.
    all: Vec<Dialling>,
    /// The numbers of those whose core waits for an answer.
    under_way: BTreeMap<(ShardId, ConnectTicket), usize>,
    /// The numbers of those that the test does not know of.
    fresh: Vec<usize>,
}

impl Dials {
    pub(crate) fn shard_of(&self, number: usize) -> ShardId {
        self.all[number].of.shard
    }

    /// Ends one that its core waits for; where it was.
    fn end(&mut self, number: usize) -> Stage {
        let dial = &mut self.all[number];
        self.under_way.remove(&(dial.of.shard, dial.of.ticket));
        std::mem::replace(&mut dial.stage, Stage::Over)
    }
}

/// What the far ends of the cores' own connections do.
impl<C: Core> World<C> {
    /// The connections that a shard's core asked for and did not give up, in order, each once.
    pub fn take_dials(&mut self, shard: ShardId) -> Vec<Dialled> {
        let Dials { all, fresh, .. } = &mut self.dials;
        let mut taken = Vec::new();
        fresh.retain(|&number| {
            let Dialling { of, stage, .. } = &all[number];
            let rings = matches!(stage, Stage::Ringing);
            if rings && of.shard == shard {
                taken.push(*of);
            }
            rings && of.shard != shard
        });
        taken
    }

    /// The far end accepts a connection; from now on it is as any client. The core learns of it after a
    /// while. When the core gave it up meanwhile, the far end finds it closed.
    ///
    /// # Panics
    /// When the connection was accepted or refused already.
    pub fn accept_dial(&mut self, dialled: Dialled) -> ClientId {
        let rings = self.answer(dialled);
        let client = ClientId(self.clients.len() as u32);
        let remote = Some(SocketAddr::from((Ipv4Addr::new(198, 51, 100, 1), 1883)));
        // What a shard is told of it that gets it handed over.
        let info = ConnInfo { listener: ListenerId(u16::MAX), remote, over_limit: false };
        let due_ms = self.client_due_ms();
        self.note("accepts dial", client.index(), dialled.ticket.0);
        let mut far = Client::new(info, dialled.shard, due_ms);
        if rings {
            far.dial = Some(dialled.number as usize);
            self.dials.all[dialled.number as usize].stage = Stage::Accepted(client);
        } else {
            far.settle(Place::Closed);
        }
        self.clients.push(far);
        self.refresh_inbound(client);
        client
    }

    /// The connection cannot be made, or the far end does not want it. The core learns of it after a while,
    /// unless it gave it up meanwhile.
    ///
    /// # Panics
    /// When the connection was accepted or refused already.
    pub fn refuse_dial(&mut self, dialled: Dialled, failure: ConnectFailure) {
        if !self.answer(dialled) {
            return;
        }
        self.note("refuses dial", dialled.shard.index(), dialled.ticket.0);
        self.dials.all[dialled.number as usize].stage = Stage::Refused(failure);
        let due_ms = self.client_due_ms();
        self.plan(due_ms, Due::Refused(dialled.number as usize));
    }

    /// Whether the core still waits for the connection.
    pub fn is_dialling(&self, dialled: Dialled) -> bool {
        !matches!(self.dials.all[dialled.number as usize].stage, Stage::Over)
    }

    /// Notes that the test answered; whether the core still waits for it.
    fn answer(&mut self, dialled: Dialled) -> bool {
        let dial = &mut self.dials.all[dialled.number as usize];
        assert_eq!(dial.of, dialled, "a dial of another world");
        assert!(!std::mem::replace(&mut dial.answered, true), "{dialled:?} is answered once");
        matches!(dial.stage, Stage::Ringing)
    }
}

/// What cores ask for.
impl<C: Core> World<C> {
    pub(crate) fn dial(&mut self, id: ShardId, dial: Dial) {
        let stopping = self.shards[id.index()].stopping;
        match dial {
            Dial::Start(ticket, peer) => self.start_dial(id, ticket, peer),
            Dial::Cancel(ticket) => match self.dials.under_way.get(&(id, ticket)) {
                Some(&number) => {
                    self.note("cancels", id.index(), ticket.0);
                    self.give_up_dial(number);
                }
                // Given up already, and the core was not told.
                None if stopping => {}
                None => self.breach(id, &format!("it gave up {ticket:?}, which is not being opened there")),
            },
        }
    }

    fn start_dial(&mut self, id: ShardId, ticket: ConnectTicket, peer: PeerId) {
        let number = self.dials.all.len();
        if self.dials.under_way.insert((id, ticket), number).is_some() {
            self.breach(id, &format!("it used {ticket:?} again, which is still being opened"));
        }
        self.note("dials", id.index(), ticket.0);
        let of = Dialled { shard: id, ticket, peer, number: number as u32 };
        self.dials.all.push(Dialling { of, stage: Stage::Ringing, answered: false });
        self.dials.fresh.push(number);
    }

    fn give_up_dial(&mut self, number: usize) {
        if let Stage::Accepted(client) = self.dials.end(number) {
            self.note("closed by core", client.index(), 0);
            self.clients[client.index()].settle(Place::Closed);
        }
    }

    /// The core is told of its connection: the ticket.
    pub(crate) fn dial_answered(&mut self, number: usize) -> ConnectTicket {
        let stage = self.dials.end(number);
        assert!(matches!(stage, Stage::Accepted(_)), "a dial that was given up is not answered");
        self.dials.all[number].of.ticket
    }

    /// Hands a refusal in, unless the core gave up first.
    pub(crate) fn hand_in_refusal(&mut self, id: ShardId, number: usize) -> bool {
        let Stage::Refused(failure) = self.dials.all[number].stage.clone() else { return false };
        self.dials.end(number);
        let ticket = self.dials.all[number].of.ticket;
        self.note("refused", id.index(), ticket.0);
        let shard = &mut self.shards[id.index()];
        shard.core.connect_failed(ticket, failure, &mut shard.io);
        true
    }

    /// The program stops: what is being opened there is given up.
    pub(crate) fn stop_dialling(&mut self, id: ShardId) {
        let under_way = self.dials.under_way.iter();
        let mine: Vec<_> = under_way.filter(|((shard, _), _)| *shard == id).map(|(_, &at)| at).collect();
        for number in mine {
            self.give_up_dial(number);
        }
    }
}
