//! One shard's io_uring, as safe operations on sockets and files.
//!
//! invariant: memory that the kernel may touch is owned here until the completion says that it is done.

use std::io;
use std::os::fd::RawFd;
use std::time::Duration;

use io_uring::squeue::{Entry, Flags};
use io_uring::types::{CancelBuilder, Fd, FsyncFlags, SubmitArgs, Timespec};
use io_uring::{EnterFlags, IoUring, cqueue, opcode};
use ringmq_turn::ConnId;
use socket2::SockAddr;

use crate::buffers::{BUFFER_GROUP, ReceiveBuffers};
use crate::config::{RuntimeConfig, SEND_BYTES_MAX, SEND_PIECES_MAX};
use crate::error::RingError;
use crate::flight::Flight;
use crate::sys;

/// What a completion is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    /// The multishot accept of a listener.
    Accept { listener: usize },
    /// The receive of a connection.
    Receive { conn: ConnId },
    /// A send that waits until the peer takes something.
    Send { index: usize },
    /// A receive that was to be cancelled was not found at it.
    NotCancelled { conn: ConnId },
    /// A file sync.
    Sync { index: usize },
    /// A connect.
    Connect { index: usize },
    /// Another thread rang the bell.
    Bell,
}

/// One completion.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Completion {
    user_data: u64,
    /// The count, or the negated error number.
    pub result: i32,
    flags: u32,
}

/// A send at once, carried out.
pub(crate) struct Settled {
    /// What was being sent, without the bytes taken now.
    pub flight: Flight,
    /// The bytes that the kernel took, or the negated error number.
    pub result: i32,
}

const ACCEPT: u64 = 1;
const RECEIVE: u64 = 2;
const SEND: u64 = 3;
const SEND_NOW: u64 = 4;
const SYNC: u64 = 5;
const CANCEL: u64 = 6;
const BELL: u64 = 7;
const IGNORED: u64 = 8;
const CONNECT: u64 = 9;

/// The kind in 8 bits, a connection's generation in 24, an index in 32.
fn user_data(kind: u64, index: usize) -> u64 {
    kind << 56 | index as u64
}

fn conn_data(kind: u64, conn: ConnId) -> u64 {
    kind << 56 | u64::from(conn.generation & 0xff_ffff) << 32 | u64::from(conn.slot)
}

impl Completion {
    /// What it is about. Of a connection's generation only the low 24 bits are known.
    #[inline]
    pub fn operation(&self) -> Operation {
        let index = self.user_data as u32 as usize;
        let conn =
            ConnId { slot: self.user_data as u32, generation: (self.user_data >> 32) as u32 & 0xff_ffff };
        match self.user_data >> 56 {
            RECEIVE => Operation::Receive { conn },
            ACCEPT => Operation::Accept { listener: index },
            CANCEL => Operation::NotCancelled { conn },
            SEND => Operation::Send { index },
            SYNC => Operation::Sync { index },
            CONNECT => Operation::Connect { index },
            BELL => Operation::Bell,
            kind => unreachable!("completions of kind {kind} are not kept"),
        }
    }

    /// Whether the operation goes on.
    #[inline]
    pub fn more(&self) -> bool {
        cqueue::more(self.flags)
    }

    /// The receive buffer that it used.
    #[inline]
    pub fn buffer(&self) -> Option<u16> {
        cqueue::buffer_select(self.flags)
    }
}

/// The header and the pieces of one `sendmsg`. The kernel copies both when it takes the request.
struct Message {
    header: libc::msghdr,
    pieces: Vec<libc::iovec>,
}

/// Sends whose bytes the kernel still reads, by index.
#[derive(Default)]
struct Flights {
    slots: Vec<Option<Flight>>,
    free: Vec<usize>,
}

impl Flights {
    fn insert(&mut self, flight: Flight) -> usize {
        match self.free.pop() {
            Some(index) => {
                self.slots[index] = Some(flight);
                index
            }
            None => {
                self.slots.push(Some(flight));
                self.slots.len() - 1
            }
        }
    }

    fn remove(&mut self, index: usize) -> Flight {
        self.free.push(index);
        self.slots[index].take().expect("a send completes once")
    }

    fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }
}

/// The ring. Made and used by one thread.
pub(crate) struct Ring {
    uring: IoUring,
    buffers: ReceiveBuffers,
    completions: Vec<Completion>,
    /// Sends at once since the last settlement.
    now: Vec<Settled>,
    flights: Flights,
    #[expect(clippy::vec_box, reason = "requests point to the headers while the list grows")]
    messages: Vec<Box<Message>>,
    messages_used: usize,
    receives: usize,
    /// Addresses that connects point to, by their indexes: in boxes, since the list grows meanwhile.
    addresses: Vec<Option<Box<SockAddr>>>,
    connects: usize,
}

/// How many sockets the kernel looks after in one system call that waits for nothing (its
/// `IO_LOCAL_TW_DEFAULT_MAX`).
const ENTER_COMPLETIONS: usize = 20;
/// How many completions make a turn for which no more are looked for.
const TURN_COMPLETIONS: usize = 1024;
/// How many unused `sendmsg` headers are kept.
const MESSAGES_KEPT_MAX: usize = 64;
/// How often a ring that closes waits for the kernel, a tenth of a second each time.
const CLOSE_WAITS_MAX: usize = 20;

impl Ring {
    /// A ring with its receive buffers.
    pub fn new(config: &RuntimeConfig) -> Result<Self, RingError> {
        let uring: IoUring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_cqsize(config.completion_entries)
            .build(config.submission_entries)
            .map_err(|source| RingError::new("a ring with deferred task work", source))?;
        let mut buffers = ReceiveBuffers::new(config.receive_buffers)
            .map_err(|source| RingError::new("receive buffers", source))?;
        let submitter = uring.submitter();
        // SAFETY: the list is mapped for as long as the ring lives and has the size that is told.
        unsafe {
            submitter.register_buf_ring_with_flags(buffers.list_address(), buffers.count(), BUFFER_GROUP, 0)
        }
        .map_err(|source| RingError::new("a ring of receive buffers", source))?;
        for id in 0..buffers.count() {
            buffers.give_back(id);
        }
        if let Ok(everywhere) = sys::affinity_set() {
            // Workers would otherwise sync files on the shard's own CPU. Failing that, they do.
            let _ = submitter.register_iowq_aff(&everywhere);
        }
        Ok(Self {
            uring,
            buffers,
            completions: Vec::new(),
            now: Vec::new(),
            flights: Flights::default(),
            messages: Vec::new(),
            messages_used: 0,
            receives: 0,
            addresses: Vec::new(),
            connects: 0,
        })
    }

    /// Adds a request to the next submission. Private: whatever it points to must be owned by `self`
    /// until its completion.
    fn push(&mut self, entry: &Entry) {
        loop {
            // SAFETY: see above; every caller in this file keeps to it.
            let pushed = unsafe { self.uring.submission().push(entry) };
            if pushed.is_ok() {
                return;
            }
            self.enter();
        }
    }

    /// Submits everything, lets the kernel finish what it can, and takes in the completions.
    pub fn enter(&mut self) {
        loop {
            let waiting = self.uring.submission().len();
            // SAFETY: passes no argument for the kernel to read.
            let entered = unsafe {
                self.uring.submitter().enter::<libc::sigset_t>(
                    waiting as u32,
                    0,
                    EnterFlags::GETEVENTS.bits(),
                    None,
                )
            };
            if let Err(error) = entered {
                let again = matches!(error.raw_os_error(), Some(libc::EINTR | libc::EAGAIN | libc::EBUSY));
                assert!(again, "the kernel refuses the ring: {error}");
            }
            let before = self.completions.len();
            self.take_completions();
            let taken = self.completions.len() - before;
            // One system call does a few sockets' worth of work at most; a turn is worth more.
            let more = taken >= ENTER_COMPLETIONS && self.completions.len() < TURN_COMPLETIONS;
            let queue = self.uring.submission();
            if queue.is_empty() && !queue.cq_overflow() && !more {
                break;
            }
        }
        self.messages_used = 0;
        if self.messages.len() > MESSAGES_KEPT_MAX {
            self.messages.truncate(MESSAGES_KEPT_MAX);
        }
    }

    /// Submits everything and sleeps until `count` requests complete, or the time is over.
    pub fn sleep(&mut self, count: usize, time: Option<Duration>) {
        let timespec = time.map(Timespec::from);
        let arguments = SubmitArgs::new();
        let arguments = timespec.as_ref().map_or(arguments, |timespec| arguments.timespec(timespec));
        if let Err(error) = self.uring.submitter().submit_with_args(count, &arguments) {
            let code = error.raw_os_error();
            let fine = matches!(code, Some(libc::ETIME | libc::EINTR | libc::EAGAIN | libc::EBUSY));
            assert!(fine, "the kernel refuses to wait: {error}");
        }
        self.take_completions();
    }

    fn take_completions(&mut self) {
        for entry in self.uring.completion() {
            let completion =
                Completion { user_data: entry.user_data(), result: entry.result(), flags: entry.flags() };
            match completion.user_data >> 56 {
                SEND_NOW => {
                    self.now[completion.user_data as u32 as usize].result = completion.result;
                    continue;
                }
                IGNORED => continue,
                RECEIVE if !completion.more() => self.receives -= 1,
                CONNECT => {
                    self.addresses[completion.user_data as u32 as usize] = None;
                    self.connects -= 1;
                }
                _ => {}
            }
            self.completions.push(completion);
        }
    }

    /// Moves the completions that were taken in into `list`, which must be empty.
    #[inline]
    pub fn completions(&mut self, list: &mut Vec<Completion>) {
        debug_assert!(list.is_empty());
        std::mem::swap(&mut self.completions, list);
    }

    /// Whether completions were taken in.
    #[inline]
    pub fn has_completions(&self) -> bool {
        !self.completions.is_empty()
    }

    /// Whether requests wait for the next [`Ring::enter`].
    pub fn has_requests(&mut self) -> bool {
        !self.uring.submission().is_empty()
    }

    /// Accepts connections until cancelled or failed.
    pub fn accept(&mut self, listener_fd: RawFd, listener: usize) {
        let entry = opcode::AcceptMulti::new(Fd(listener_fd)).flags(libc::SOCK_CLOEXEC).build();
        self.push(&entry.user_data(user_data(ACCEPT, listener)));
    }

    /// Stops accepting.
    pub fn cancel_accept(&mut self, listener: usize) {
        let entry = opcode::AsyncCancel::new(user_data(ACCEPT, listener)).build();
        self.push(&entry.user_data(user_data(IGNORED, 0)));
    }

    /// Receives once.
    pub fn receive_once(&mut self, fd: RawFd, conn: ConnId) {
        let entry = opcode::Recv::new(Fd(fd), std::ptr::null_mut(), 0).buf_group(BUFFER_GROUP).build();
        self.receives += 1;
        self.push(&entry.flags(Flags::BUFFER_SELECT).user_data(conn_data(RECEIVE, conn)));
    }

    /// Receives until cancelled or failed.
    pub fn receive(&mut self, fd: RawFd, conn: ConnId) {
        let entry = opcode::RecvMulti::new(Fd(fd), BUFFER_GROUP).build();
        self.receives += 1;
        self.push(&entry.user_data(conn_data(RECEIVE, conn)));
    }

    /// Stops receiving. What was received already still completes; then the receive ends. When the kernel
    /// does not find it, because it ended or is just being carried out, that completes too.
    pub fn cancel_receive(&mut self, conn: ConnId) {
        let entry = opcode::AsyncCancel::new(conn_data(RECEIVE, conn)).build();
        self.push(&entry.flags(Flags::SKIP_SUCCESS).user_data(conn_data(CANCEL, conn)));
    }

    /// Bytes that a receive put into a buffer.
    #[inline]
    pub fn received(&self, buffer: u16, len: usize) -> &[u8] {
        self.buffers.filled(buffer, len)
    }

    /// Gives a receive buffer back to the kernel.
    #[inline]
    pub fn give_back(&mut self, buffer: u16) {
        self.buffers.give_back(buffer);
    }

    fn send_entry(&mut self, fd: RawFd, flight: &Flight, flags: libc::c_int) -> (Entry, usize) {
        if flight.shared.is_empty() {
            let bytes = &flight.bytes[flight.done..];
            let len = bytes.len().min(SEND_BYTES_MAX);
            return (opcode::Send::new(Fd(fd), bytes.as_ptr(), len as u32).flags(flags).build(), len);
        }
        if self.messages_used == self.messages.len() {
            // SAFETY: a msghdr is integers and pointers, for which all zeros is a value.
            let header = unsafe { std::mem::zeroed() };
            self.messages.push(Box::new(Message { header, pieces: Vec::new() }));
        }
        let message = &mut self.messages[self.messages_used];
        self.messages_used += 1;
        message.pieces.clear();
        let mut len = 0;
        for piece in flight.pieces().take(SEND_PIECES_MAX) {
            let take = piece.len().min(SEND_BYTES_MAX - len);
            message.pieces.push(libc::iovec { iov_base: piece.as_ptr().cast_mut().cast(), iov_len: take });
            len += take;
            if len == SEND_BYTES_MAX {
                break;
            }
        }
        message.header.msg_iov = message.pieces.as_mut_ptr();
        message.header.msg_iovlen = message.pieces.len();
        (opcode::SendMsg::new(Fd(fd), &raw const message.header).flags(flags as u32).build(), len)
    }

    /// Sends what the kernel takes at once, by the end of the next [`Ring::enter`]; then
    /// [`Ring::settle`] tells how it went. A send that succeeds leaves no completion: short ones must
    /// therefore count as failed, which is what `MSG_WAITALL` is for.
    pub fn send_now(&mut self, fd: RawFd, flight: Flight) {
        let flags = libc::MSG_DONTWAIT | libc::MSG_WAITALL | libc::MSG_NOSIGNAL;
        let (entry, len) = self.send_entry(fd, &flight, flags);
        let data = user_data(SEND_NOW, self.now.len());
        self.now.push(Settled { flight, result: len as i32 });
        self.push(&entry.flags(Flags::SKIP_SUCCESS).user_data(data));
    }

    /// Moves the sends at once, all carried out by [`Ring::enter`], into `list`, which must be empty.
    #[inline]
    pub fn settle(&mut self, list: &mut Vec<Settled>) {
        debug_assert!(list.is_empty());
        debug_assert!(self.uring.submission().is_empty(), "sends are settled after they were submitted");
        std::mem::swap(&mut self.now, list);
    }

    /// Sends when the peer takes something; completes once, maybe with a part. Returns its index.
    pub fn send(&mut self, fd: RawFd, flight: Flight) -> usize {
        let (entry, _) = self.send_entry(fd, &flight, libc::MSG_NOSIGNAL);
        let index = self.flights.insert(flight);
        self.push(&entry.user_data(user_data(SEND, index)));
        index
    }

    /// Whether any [`Ring::send`] is under way.
    #[inline]
    pub fn has_sends(&self) -> bool {
        self.flights.len() > 0
    }

    /// What a completed [`Ring::send`] was sending.
    pub fn sent(&mut self, index: usize) -> Flight {
        self.flights.remove(index)
    }

    /// Connects a socket. No other connect of this index may be under way.
    pub fn connect(&mut self, fd: RawFd, index: usize, address: SockAddr) {
        if self.addresses.len() <= index {
            self.addresses.resize_with(index + 1, || None);
        }
        let slot = &mut self.addresses[index];
        assert!(slot.is_none(), "a connect of this index is under way");
        let address = slot.insert(Box::new(address));
        let entry = opcode::Connect::new(Fd(fd), address.as_ptr().cast(), address.len()).build();
        self.connects += 1;
        self.push(&entry.user_data(user_data(CONNECT, index)));
    }

    /// Ends a connect, which completes all the same.
    pub fn cancel_connect(&mut self, index: usize) {
        let entry = opcode::AsyncCancel::new(user_data(CONNECT, index)).build();
        self.push(&entry.user_data(user_data(IGNORED, 0)));
    }

    /// Makes a file's data durable.
    pub fn sync(&mut self, fd: RawFd, index: usize) {
        let entry = opcode::Fsync::new(Fd(fd)).flags(FsyncFlags::DATASYNC).build();
        self.push(&entry.user_data(user_data(SYNC, index)));
    }

    /// Waits for the bell to ring, once.
    pub fn await_bell(&mut self, bell_fd: RawFd) {
        let entry = opcode::PollAdd::new(Fd(bell_fd), libc::POLLIN as u32).build();
        self.push(&entry.user_data(user_data(BELL, 0)));
    }
}

impl Ring {
    /// Whether the kernel has no request that points to our memory.
    fn is_quiet(&self) -> bool {
        self.receives == 0 && self.flights.len() == 0 && self.connects == 0
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        if self.is_quiet() {
            return;
        }
        // The kernel may still read or write our memory: end all requests, and wait for their ends.
        let tenth = Timespec::new().nsec(100_000_000);
        let _ = self.uring.submitter().register_sync_cancel(Some(tenth), CancelBuilder::any());
        for _ in 0..CLOSE_WAITS_MAX {
            let wait = SubmitArgs::new().timespec(&tenth);
            let waited = self.uring.submitter().submit_with_args(1, &wait);
            self.take_completions();
            for completion in std::mem::take(&mut self.completions) {
                if let Operation::Send { index } = completion.operation() {
                    self.flights.remove(index);
                }
            }
            if self.is_quiet() {
                return;
            }
            if waited.is_err_and(|error| error.kind() == io::ErrorKind::InvalidInput) {
                break;
            }
        }
        tracing::warn!("the kernel holds on to requests of a closed ring; their memory is left to it");
        std::mem::forget(std::mem::take(&mut self.flights));
        std::mem::forget(std::mem::take(&mut self.addresses));
        let leaked = ReceiveBuffers::new(1).map(|fresh| std::mem::replace(&mut self.buffers, fresh));
        std::mem::forget(leaked);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;

    /// What `send_now` builds on: a send that fits leaves no completion and counts as whole; one that does
    /// not, or not at all, says so.
    #[test]
    fn a_send_at_once_is_silent_only_when_all_of_it_went() {
        let mut ring = Ring::new(&RuntimeConfig::default()).unwrap();
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let conn = ConnId { slot: 0, generation: 1 };
        let mut send = |bytes: usize| {
            let flight = Flight { conn, bytes: vec![7; bytes], shared: Vec::new(), done: 0, wrapped: None };
            ring.send_now(ours.as_raw_fd(), flight);
            ring.enter();
            assert!(!ring.has_completions());
            let mut settled = Vec::new();
            ring.settle(&mut settled);
            assert_eq!(settled.len(), 1);
            settled[0].result
        };
        assert_eq!(send(1_000), 1_000);
        let short = send(64 << 20);
        assert!(0 < short && short < 64 << 20, "the socket took {short} bytes");
        assert_eq!(send(1), -libc::EAGAIN);
        let mut taken = vec![0; 1_000 + short as usize];
        theirs.read_exact(&mut taken).unwrap();
        assert!(taken.iter().all(|&byte| byte == 7));
        drop(theirs);
        assert_eq!(send(1), -libc::EPIPE);
    }

    fn connected(ring: &mut Ring) -> (usize, i32) {
        let mut completions = Vec::new();
        while completions.is_empty() {
            ring.sleep(1, None);
            ring.completions(&mut completions);
        }
        assert_eq!((completions.len(), ring.connects), (1, 0));
        assert!(ring.addresses.iter().all(Option::is_none), "the address is given back");
        match completions[0].operation() {
            Operation::Connect { index } => (index, completions[0].result),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_connect_completes_however_it_ends() {
        let mut ring = Ring::new(&RuntimeConfig::default()).unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = SockAddr::from(listener.local_addr().unwrap());
        let socket = || socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        let first = socket();
        ring.connect(first.as_raw_fd(), 3, address.clone());
        assert_eq!(connected(&mut ring), (3, 0));
        drop(listener);
        let second = socket();
        ring.connect(second.as_raw_fd(), 0, address);
        assert_eq!(connected(&mut ring), (0, -libc::ECONNREFUSED));
        // Nobody answers from there: the connect would take minutes.
        let (listener, _full, address) = deaf();
        let third = socket();
        ring.connect(third.as_raw_fd(), 1, address.clone());
        ring.enter();
        assert_eq!(ring.connects, 1);
        ring.cancel_connect(1);
        assert_eq!(connected(&mut ring), (1, -libc::ECANCELED));
        // A ring that closes ends what is under way.
        let fourth = socket();
        ring.connect(fourth.as_raw_fd(), 1, address);
        ring.enter();
        assert_eq!(ring.connects, 1);
        drop(ring);
        drop(listener);
    }

    /// A listener whose queue is full, what fills it, and its address.
    fn deaf() -> (socket2::Socket, Vec<socket2::Socket>, SockAddr) {
        let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        listener.bind(&SockAddr::from(std::net::SocketAddr::from(([127, 0, 0, 1], 0)))).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap();
        let mut full = Vec::new();
        for _ in 0..4 {
            let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
            socket.set_nonblocking(true).unwrap();
            let _ = socket.connect(&address);
            full.push(socket);
        }
        (listener, full, address)
    }
}
