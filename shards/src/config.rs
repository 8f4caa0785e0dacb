//! What an operator may set, and the limits that are fixed.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::tls::ServerTls;

/// One address to listen on. Its position in [`RuntimeConfig::listeners`] is its
/// [`ringmq_turn::ListenerId`].
#[derive(Clone, Debug)]
pub struct ListenerConfig {
    /// Where to listen.
    pub address: ListenAddress,
    /// Its side of TLS; absent for a listener without.
    pub tls: Option<ServerTls>,
    /// Whether its peers speak WebSocket, over TLS where there is TLS.
    pub websocket: bool,
}

impl ListenerConfig {
    /// A listener without any layer.
    pub fn new(address: ListenAddress) -> Self {
        Self { address, tls: None, websocket: false }
    }

    /// A plain listener on a TCP port.
    pub fn tcp(addr: SocketAddr) -> Self {
        Self::new(ListenAddress::Tcp(addr))
    }

    /// A plain listener on a Unix socket, with the permissions that the process's umask gives it.
    pub fn unix(path: impl Into<PathBuf>) -> Self {
        Self::new(ListenAddress::Unix(UnixListener { path: path.into(), mode: None }))
    }
}

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    /// A TCP port; port 0 lets the kernel choose one, the same for all shards.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(UnixListener),
}

impl ListenAddress {
    /// The address of a TCP listener.
    pub fn as_tcp(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(addr) => Some(*addr),
            Self::Unix(_) => None,
        }
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(addr) => addr.fmt(f),
            Self::Unix(unix) => unix.path.display().fmt(f),
        }
    }
}

/// A Unix socket to listen on. The socket file that a dead process left is replaced; the one of a live
/// process, and any other kind of file, is an error. The file is removed when the runtime ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnixListener {
    /// The socket file.
    pub path: PathBuf,
    /// The file's permissions, 0o660 for example; absent leaves them to the process's umask.
    pub mode: Option<u32>,
}

/// The settings of a runtime. `RuntimeConfig::default()` serves one machine with one process.
#[derive(Clone, Debug)]
pub struct RuntimeConfig {
    /// How many shards run; `None` (the default) runs one for each CPU of `cpus`. At most
    /// [`ringmq_turn::SHARDS_MAX`]; beyond the CPUs, shards share them in turn.
    pub shards: Option<usize>,
    /// The CPUs to pin shards to, in order; empty (the default) takes the process's affinity mask.
    pub cpus: Vec<usize>,
    /// Whether each shard is pinned to a CPU. Default true; false leaves it to the kernel where they run,
    /// as a client inside of another program does.
    pub pinned: bool,
    /// Where to listen.
    pub listeners: Vec<ListenerConfig>,
    /// Connections open at a time over all shards; beyond it a few are opened with
    /// `ConnInfo::over_limit` set, the rest closed at once. Default 100,000.
    pub connections_max: usize,
    /// Messages that one shard may have under way to another, a power of two. Default 4,096.
    pub lane_messages_max: usize,
    /// Commands that may wait for one shard. Default 1,024.
    pub commands_max: usize,
    /// How long a shard that was busy just now looks for work before it sleeps, in microseconds. More
    /// latency spared, more CPU spent; above 50 pays rarely. Default 0.
    pub spin_us: u32,
    /// How long a shard that is woken in quick succession waits for more to come before its next turn, in
    /// microseconds: fewer and larger turns, for this much latency under load. A shard that slept longer than
    /// this is woken by the first thing that comes. Default 0.
    pub gather_us: u32,
    /// What `Io::backlog_high_bytes` is set to. Default 256 KiB.
    pub backlog_high_bytes: usize,
    /// What `Io::backlog_low_bytes` is set to. Default 64 KiB.
    pub backlog_low_bytes: usize,
    /// How long a closing connection has for the peer to take the rest and close its side; then it is
    /// cut. Default 5,000.
    pub linger_ms: u64,
    /// How long an accepted connection has for its TLS and WebSocket handshakes; then it is ended. Default
    /// 10,000.
    pub handshake_timeout_ms: u64,
    /// The largest WebSocket frame, and the largest message of several frames, that is accepted. Default
    /// 16 MiB.
    pub frame_bytes_max: usize,
    /// After how long without an acknowledgement of sent bytes the kernel gives a connection up
    /// (`TCP_USER_TIMEOUT`); 0 leaves it to the kernel's retries. Default 60,000.
    pub user_timeout_ms: u32,
    /// Connections that a shard opens in one turn; the others wait for the next. Default 64.
    pub accepts_per_turn_max: usize,
    /// Connections that wait for their accept, per listener and shard; `net.core.somaxconn` caps it.
    /// Default 4,096.
    pub accept_backlog: i32,
    /// Submission entries of a shard's ring, a power of two. Default 1,024.
    pub submission_entries: u32,
    /// Completion entries of a shard's ring, a power of two. Default 8,192.
    pub completion_entries: u32,
    /// Buffers of 16 KiB that a shard receives into, a power of two up to 32,768. Default 256.
    pub receive_buffers: u16,
}

impl Default for RuntimeConfig {
    fn default() -> Self {
        Self {
            shards: None,
            cpus: Vec::new(),
            pinned: true,
            listeners: Vec::new(),
            connections_max: 100_000,
            lane_messages_max: 4096,
            commands_max: 1024,
            spin_us: 0,
            gather_us: 0,
            backlog_high_bytes: 256 * 1024,
            backlog_low_bytes: 64 * 1024,
            linger_ms: 5_000,
            handshake_timeout_ms: 10_000,
            frame_bytes_max: 16 * 1024 * 1024,
            user_timeout_ms: 60_000,
            accepts_per_turn_max: 64,
            accept_backlog: 4096,
            submission_entries: 1024,
            completion_entries: 8192,
            receive_buffers: 256,
        }
    }
}

impl RuntimeConfig {
    /// What is wrong with it, as a sentence.
    pub(crate) fn fault(&self) -> Option<String> {
        let power = |name: &str, value: usize, max: usize| {
            (!value.is_power_of_two() || value > max)
                .then(|| format!("{name} is {value}, but must be a power of two up to {max}"))
        };
        let positive =
            |name: &str, value: usize| (value == 0).then(|| format!("{name} is 0, but must be at least 1"));
        positive("connections_max", self.connections_max)
            .or_else(|| positive("commands_max", self.commands_max))
            .or_else(|| positive("accepts_per_turn_max", self.accepts_per_turn_max))
            .or_else(|| positive("frame_bytes_max", self.frame_bytes_max))
            .or_else(|| {
                (self.handshake_timeout_ms == 0)
                    .then(|| "handshake_timeout_ms is 0, but must be at least 1".to_owned())
            })
            .or_else(|| {
                (!self.pinned && !self.cpus.is_empty())
                    .then(|| "cpus names CPUs, but pinned is false: drop one of the two".to_owned())
            })
            .or_else(|| power("lane_messages_max", self.lane_messages_max, 1 << 20))
            .or_else(|| power("submission_entries", self.submission_entries as usize, 32_768))
            .or_else(|| power("completion_entries", self.completion_entries as usize, 65_536))
            .or_else(|| power("receive_buffers", usize::from(self.receive_buffers), 32_768))
            .or_else(|| {
                (self.backlog_low_bytes >= self.backlog_high_bytes)
                    .then(|| "backlog_low_bytes must be below backlog_high_bytes".to_owned())
            })
            .or_else(|| {
                (self.completion_entries < self.submission_entries)
                    .then(|| "completion_entries must not be below submission_entries".to_owned())
            })
    }
}

/// Connections beyond [`RuntimeConfig::connections_max`] that are opened, so that they can be told why
/// they are turned away.
pub(crate) const OVER_LIMIT_MAX: usize = 64;
/// With so many completions a shard does not wait for more before its next turn.
pub(crate) const GATHERED_COMPLETIONS: usize = 64;
/// How long accepting rests after the process or the system ran out of descriptors.
pub(crate) const ACCEPT_REST_MS: u64 = 100;
/// The size of one receive buffer.
pub(crate) const RECEIVE_BUFFER_BYTES: usize = 16 * 1024;
/// The most that one send request carries.
pub(crate) const SEND_BYTES_MAX: usize = 1 << 30;
/// The most pieces of memory that one send request carries; the kernel refuses more than 1,024.
pub(crate) const SEND_PIECES_MAX: usize = 256;
/// How long a bind is tried again while another socket holds the address.
pub(crate) const BIND_RETRY_MS: u64 = 3_000;
/// How long shards have to say goodbye after one of them failed.
pub(crate) const FAILURE_GRACE_MS: u64 = 2_000;

const _: () = assert!(SEND_PIECES_MAX <= 1024);
const _: () = assert!(SEND_BYTES_MAX <= i32::MAX as usize);
