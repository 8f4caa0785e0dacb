//! A network between a session and its broker that fails as it is told.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;

use crate::DEADLINE;

/// Which way a packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    ToBroker,
    ToClient,
}

/// The kind of a packet, by the upper half of its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packet {
    Publish = 3,
    Pubrec = 5,
    Pubrel = 6,
    Pubcomp = 7,
}

/// Where in a packet the network cuts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Before,
    Within,
    After,
}

/// A cut that happens once.
#[derive(Clone, Copy, Debug)]
pub enum Cut {
    /// At the first packet of a kind.
    At(Way, Packet, Place),
    /// After so many bytes that go this way from now on.
    Bytes(Way, usize),
}

#[derive(Default)]
struct State {
    links: Vec<TcpStream>,
    cut: Option<Cut>,
    /// Publications at QoS 1 that were acknowledged by the broker less than they were sent, and the most of that.
    under_way: usize,
    most_under_way: usize,
    refuses: bool,
    stalls: bool,
    is_over: bool,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }
}

impl State {
    fn count(&mut self, way: Way, first: u8) {
        match (way, first >> 4, first >> 1 & 3) {
            (Way::ToBroker, 3, 1) => self.under_way += 1,
            (Way::ToClient, 4, _) => self.under_way = self.under_way.saturating_sub(1),
            _ => {}
        }
        self.most_under_way = self.most_under_way.max(self.under_way);
    }

    fn sever(&mut self) {
        for link in self.links.drain(..) {
            // One that has ended by itself.
            let _ = link.shutdown(Shutdown::Both);
        }
    }
}

/// Accepts connections at an address of its own and carries them on to a broker.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

impl Proxy {
    pub fn new(broker: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let acceptor = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || accept(&listener, broker, &shared)
        });
        Self { address, shared, acceptor: Some(acceptor) }
    }

    pub fn url(&self) -> String {
        format!("mqtt://{}", self.address)
    }

    /// Cuts once, when that comes.
    pub fn cut(&self, cut: Cut) {
        self.shared.change(|state| state.cut = Some(cut));
    }

    /// Cuts now.
    pub fn cut_now(&self) {
        self.shared.change(State::sever);
    }

    /// Waits until the planned cut has happened.
    pub fn wait_for_cut(&self) {
        let wait =
            self.shared.changed.wait_timeout_while(self.shared.lock(), DEADLINE, |state| state.cut.is_some());
        assert!(wait.unwrap().0.cut.is_none(), "the network is cut in time");
    }

    /// The most publications at QoS 1 that were on their way to the broker, or their acknowledgements back.
    pub fn most_under_way(&self) -> usize {
        self.shared.lock().most_under_way
    }

    /// Ends connections, and new ones at once, or lets them be again.
    pub fn refuse(&self, refuses: bool) {
        self.shared.change(|state| {
            state.refuses = refuses;
            if refuses {
                state.sever();
            }
        });
    }

    /// Carries nothing, or all again.
    pub fn stall(&self, stalls: bool) {
        self.shared.change(|state| state.stalls = stalls);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.change(|state| {
            state.is_over = true;
            state.sever();
        });
        // Wakes the acceptor.
        drop(TcpStream::connect(self.address));
        if let Some(acceptor) = self.acceptor.take() {
            acceptor.join().unwrap();
        }
    }
}

fn accept(listener: &TcpListener, broker: SocketAddr, shared: &Arc<Shared>) {
    for near in listener.incoming() {
        let near = near.unwrap();
        let mut state = shared.lock();
        if state.is_over {
            return;
        }
        // Without a broker there is nothing to carry to.
        let far = if state.refuses { None } else { TcpStream::connect(broker).ok() };
        let Some(far) = far else { continue };
        for stream in [&near, &far] {
            stream.set_nodelay(true).unwrap();
            state.links.push(stream.try_clone().unwrap());
        }
        drop(state);
        for (from, to, way) in
            [(near.try_clone().unwrap(), far.try_clone().unwrap(), Way::ToBroker), (far, near, Way::ToClient)]
        {
            let shared = Arc::clone(shared);
            std::thread::spawn(move || carry(from, to, way, &shared));
        }
    }
}

/// Carries packets one way, whole, until either side has ended.
fn carry(mut from: TcpStream, mut to: TcpStream, way: Way, shared: &Shared) {
    let mut held = Vec::new();
    let mut chunk = vec![0; 64 * 1024];
    while let Ok(bytes @ 1..) = from.read(&mut chunk) {
        held.extend_from_slice(&chunk[..bytes]);
        let mut start = 0;
        while let Some(length) = packet_bytes(&held[start..]) {
            if pass(&held[start..start + length], &mut to, way, shared).is_none() {
                return;
            }
            start += length;
        }
        held.drain(..start);
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}

/// Carries one packet; none when the connection ended over it.
fn pass(packet: &[u8], to: &mut TcpStream, way: Way, shared: &Shared) -> Option<()> {
    let mut state = shared.changed.wait_while(shared.lock(), |state| state.stalls && !state.is_over).unwrap();
    let kind = usize::from(packet[0] >> 4);
    let here = match &mut state.cut {
        Some(Cut::At(at, what, place)) if *at == way && *what as usize == kind => Some(match place {
            Place::Before => 0,
            Place::Within => packet.len() / 2,
            Place::After => packet.len(),
        }),
        Some(Cut::Bytes(at, left)) if *at == way => {
            let here = (*left <= packet.len()).then_some(*left);
            *left = left.saturating_sub(packet.len());
            here
        }
        Some(Cut::At(..) | Cut::Bytes(..)) | None => None,
    };
    let Some(bytes) = here else {
        state.count(way, packet[0]);
        drop(state);
        return to.write_all(packet).ok();
    };
    state.cut = None;
    // Whether it was taken makes no difference any more.
    let _ = to.write_all(&packet[..bytes]);
    state.sever();
    drop(state);
    shared.changed.notify_all();
    None
}

/// Bytes of the packet at the beginning, once it is whole.
fn packet_bytes(bytes: &[u8]) -> Option<usize> {
    let mut rest = 0;
    for (index, byte) in bytes.iter().skip(1).take(4).enumerate() {
        rest |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            let whole = 2 + index + rest;
            return (whole <= bytes.len()).then_some(whole);
        }
    }
    None
}
