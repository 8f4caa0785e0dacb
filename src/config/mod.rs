//! The broker's configuration: one table of keys, read from a TOML file and from flags.
//!
//! [`Config`] holds the values. `keys` lists every key once, with its kind, range and documentation:
//! the file's reader, the flags, the checks, the printed configuration and `docs/configuration.md` all
//! work from that list. Flags win over the file, the file wins over the defaults.

mod address;
mod check;
mod cpus;
mod file;
mod key;
mod keys;
mod listeners;
mod number;
mod print;
mod problem;
mod reference;
mod source;
mod suggest;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use ringmq_engine::Limits;
use ringmq_storage::{Level, SEGMENT_BYTES_MAX};

pub use address::{AddressError, ListenAddress, Wrapping};
pub use key::{Key, Kind, Value};
pub(crate) use keys::CONNECTIONS_MAX;
pub use keys::{KEYS, LISTENER_KEYS};
pub use number::Unit;
pub use problem::{ConfigError, Place, Problem};
pub use reference::reference;
pub use ringmq_shards::ClientCertificate;
pub use source::{FlagValue, Sources};

/// What a segment is a multiple of.
const PAGE_BYTES: usize = 4096;
/// What a segment has room for besides its largest record.
const SEGMENT_BESIDES_BYTES: usize = 4096;

/// Every setting of the broker. The documentation of each is in `docs/configuration.md`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Shards to run; 0 runs one on each CPU that the process may use.
    pub shards: usize,
    /// Where sessions and retained messages are kept; `None` keeps them in memory, for as long as the
    /// process lives.
    pub data_dir: Option<PathBuf>,
    /// Where clients are accepted.
    pub listeners: Listeners,
    /// The log in the data directory, and what acknowledgements promise.
    pub storage: StorageConfig,
    /// The bounds. What counts for the whole broker is whole here: see [`Config::shard_limits`].
    pub limits: Limits,
    /// Topic filters that nobody may subscribe to.
    pub refused_filters: Vec<String>,
    /// Connections open at a time; 0 for as many as the limit on open files allows.
    pub connections_max: u32,
    /// Milliseconds that a connection's TLS and WebSocket handshakes may take.
    pub handshake_timeout_ms: u64,
    /// Bytes of the largest WebSocket frame and message; 0 for what the largest packet needs. See
    /// [`Config::frame_bytes_max`].
    pub websocket_frame_bytes_max: u32,
    /// The program's own log.
    pub log: LogConfig,
    /// The `$SYS` topics.
    pub sys: SysConfig,
    /// The threads and rings.
    pub runtime: RuntimeConfig,
    /// The way down.
    pub shutdown: ShutdownConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            shards: 0,
            data_dir: None,
            listeners: Listeners::default(),
            storage: StorageConfig::default(),
            limits: Limits::default(),
            refused_filters: Vec::new(),
            connections_max: 0,
            handshake_timeout_ms: ringmq_shards::RuntimeConfig::default().handshake_timeout_ms,
            websocket_frame_bytes_max: 0,
            log: LogConfig::default(),
            sys: SysConfig::default(),
            runtime: RuntimeConfig::default(),
            shutdown: ShutdownConfig::default(),
        }
    }
}

/// The listeners of a configuration; none only where a program wants none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listeners(pub Vec<ListenerConfig>);

impl Default for Listeners {
    fn default() -> Self {
        Self(vec![ListenerConfig::default()])
    }
}

/// One address where clients are accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerConfig {
    /// Where, and what MQTT is wrapped in there.
    pub address: ListenAddress,
    /// Whether clients that do not authenticate are let in; `None` lets them in where only this machine's
    /// processes reach it.
    pub allow_anonymous: Option<bool>,
    /// The file of its certificate, for TLS.
    pub certificate: Option<PathBuf>,
    /// The file of the certificate's private key.
    pub key: Option<PathBuf>,
    /// The file of the authorities whose certificates clients show; `None` asks them for none.
    pub client_ca: Option<PathBuf>,
    /// Whether clients must show one; `None` is [`ClientCertificate::Required`] with a `client_ca`.
    pub client_certificate: Option<ClientCertificate>,
    /// The file of the revoked certificates of clients.
    pub client_crl: Option<PathBuf>,
    /// Permissions of its Unix socket; `None` leaves them to the process's umask.
    pub unix_mode: Option<u32>,
    /// What the acknowledgements to its clients promise; `None` takes the broker's level.
    pub durability: Option<Level>,
}

impl Default for ListenerConfig {
    fn default() -> Self {
        Self::at(SocketAddr::from((Ipv4Addr::LOCALHOST, 1883)).into())
    }
}

impl ListenerConfig {
    /// One at this address, with nothing else set.
    pub fn at(address: ListenAddress) -> Self {
        Self {
            address,
            allow_anonymous: None,
            certificate: None,
            key: None,
            client_ca: None,
            client_certificate: None,
            client_crl: None,
            unix_mode: None,
            durability: None,
        }
    }

    /// Whether only clients with a good certificate get in.
    pub fn requires_certificates(&self) -> bool {
        let required = self.client_certificate.unwrap_or_default() == ClientCertificate::Required;
        self.address.wrapping().has_tls() && self.client_ca.is_some() && required
    }

    /// Whether it lets in whoever reaches it, from other machines too.
    pub fn is_open(&self) -> bool {
        !self.address.is_local() && !self.requires_certificates()
    }
}

/// The log in the data directory, and what acknowledgements promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StorageConfig {
    /// What an acknowledgement promises; `None` for [`Level::Written`] with a data directory, and
    /// [`Level::Memory`] without.
    pub durability: Option<Level>,
    /// Bytes of one segment of the log. See [`Config::segment_bytes`] for what is made of it.
    pub segment_bytes: usize,
    /// Bytes of all segments, for the whole broker; 0 leaves it to the file system.
    pub bytes_max: u64,
}

impl Default for StorageConfig {
    fn default() -> Self {
        Self { durability: None, segment_bytes: 32 << 20, bytes_max: 0 }
    }
}

/// What is logged, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// A level, or levels by module: `info,ringmq_shards=debug`.
    pub level: String,
    /// The form of a line.
    pub format: LogFormat,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: LogFormat::Text }
    }
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// The `$SYS` topics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SysConfig {
    /// Seconds between two publications; 0 for none.
    pub interval_s: u32,
}

impl Default for SysConfig {
    fn default() -> Self {
        Self { interval_s: 10 }
    }
}

/// The threads, rings, lanes and sockets. The fields are [`ringmq_shards::RuntimeConfig`]'s.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuntimeConfig {
    /// CPUs to pin shards to, in order; empty takes the process's affinity mask.
    pub cpus: Vec<usize>,
    /// Microseconds that a shard which was just busy looks for work before it sleeps.
    pub spin_us: u32,
    /// Messages that one shard may have under way to another, a power of two.
    pub lane_messages_max: usize,
    /// Commands of the program that may wait for one shard.
    pub commands_max: usize,
    /// Bytes not yet taken by a connection's peer above which its session holds messages back.
    pub backlog_high_bytes: usize,
    /// Bytes below which it goes on.
    pub backlog_low_bytes: usize,
    /// Milliseconds that a closing connection has for its peer to take the rest.
    pub linger_ms: u64,
    /// Milliseconds without an acknowledgement of sent bytes until a connection is given up; 0 leaves it
    /// to the kernel.
    pub user_timeout_ms: u32,
    /// Connections that a shard opens in one turn.
    pub accepts_per_turn_max: usize,
    /// Connections that wait for their accept, per listener and shard.
    pub accept_backlog: i32,
    /// Submission entries of a shard's ring, a power of two.
    pub submission_entries: u32,
    /// Completion entries of a shard's ring, a power of two.
    pub completion_entries: u32,
    /// Buffers of 16 KiB that a shard receives into, a power of two.
    pub receive_buffers: u16,
}

impl Default for RuntimeConfig {
    fn default() -> Self {
        let runtime = ringmq_shards::RuntimeConfig::default();
        Self {
            cpus: runtime.cpus,
            spin_us: runtime.spin_us,
            lane_messages_max: runtime.lane_messages_max,
            commands_max: runtime.commands_max,
            backlog_high_bytes: runtime.backlog_high_bytes,
            backlog_low_bytes: runtime.backlog_low_bytes,
            linger_ms: runtime.linger_ms,
            user_timeout_ms: runtime.user_timeout_ms,
            accepts_per_turn_max: runtime.accepts_per_turn_max,
            accept_backlog: runtime.accept_backlog,
            submission_entries: runtime.submission_entries,
            completion_entries: runtime.completion_entries,
            receive_buffers: runtime.receive_buffers,
        }
    }
}

/// The way down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShutdownConfig {
    /// Seconds that connections have to take what was written to them.
    pub grace_s: u32,
}

impl Default for ShutdownConfig {
    fn default() -> Self {
        Self { grace_s: 10 }
    }
}

impl Config {
    /// Checks all values and combinations.
    pub fn check(&self) -> Result<(), ConfigError> {
        ConfigError::check(check::problems(self, &source::Origins::default()))
    }

    /// The bounds of one of `shards` shards: what counts for the whole broker is divided, rounded up.
    pub fn shard_limits(&self, shards: usize) -> Limits {
        let shards = u32::try_from(shards.max(1)).unwrap_or(u32::MAX);
        let total = &self.limits;
        Limits {
            memory_bytes_max: total.memory_bytes_max.div_ceil(u64::from(shards)),
            sessions_max: total.sessions_max.div_ceil(shards),
            retained_messages_max: total.retained_messages_max.div_ceil(shards),
            retained_bytes_max: total.retained_bytes_max.div_ceil(u64::from(shards)),
            ..total.clone()
        }
    }

    /// What an acknowledgement promises, where a listener does not say otherwise.
    pub fn durability(&self) -> Level {
        let default = if self.data_dir.is_some() { Level::Written } else { Level::Memory };
        self.storage.durability.unwrap_or(default)
    }

    /// Bytes of the largest WebSocket frame and message: what was asked for, or what the largest packet needs.
    pub fn frame_bytes_max(&self) -> u32 {
        const AUTO_BYTES_MIN: u32 = 64 << 10;
        match self.websocket_frame_bytes_max {
            0 => self.limits.packet_bytes_max.max(AUTO_BYTES_MIN),
            bytes => bytes,
        }
    }

    /// What an acknowledgement to a client of each listener promises, in their order.
    pub fn listener_durability(&self) -> Vec<Level> {
        self.listeners.0.iter().map(|listener| listener.durability.unwrap_or(self.durability())).collect()
    }

    /// Bytes of a segment: what was asked for in whole pages, or what the largest packet needs if that is
    /// more.
    pub fn segment_bytes(&self) -> usize {
        let packet = self.limits.packet_bytes_max as usize + SEGMENT_BESIDES_BYTES;
        let bytes = self.storage.segment_bytes.max(packet).next_multiple_of(PAGE_BYTES);
        bytes.min(SEGMENT_BYTES_MAX)
    }

    /// Bytes that the log of one of `shards` shards may take.
    pub fn shard_log_bytes_max(&self, shards: usize) -> u64 {
        match self.storage.bytes_max {
            0 => u64::MAX,
            bytes => bytes.div_ceil(shards.max(1) as u64),
        }
    }

    /// The configuration as a TOML file that sets every key.
    pub fn to_toml(&self) -> String {
        print::toml(self)
    }
}
