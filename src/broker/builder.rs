//! From a configuration to a running broker.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use ringmq_engine::{EngineConfig, Limits};
use ringmq_shards::{ServerTls, UnixListener};
use ringmq_turn::{SHARDS_MAX, ShardId};

use super::Broker;
use crate::config::{Config, ListenAddress, ListenerConfig, Sources};
use crate::system::{OpenFiles, cpus};
use crate::{Durability, Error, config};

/// Descriptors that are kept free for the program, for what each shard opens, and for connections that
/// are told that there are too many.
const FILES_RESERVED: u64 = 256;
/// Descriptors that one shard may open besides connections.
const FILES_PER_SHARD: u64 = 32;

/// Describes a broker and starts it; made by [`Broker::builder`].
#[derive(Clone, Debug, Default)]
pub struct Builder {
    config: Config,
    listeners: Vec<ListenerConfig>,
}

impl Builder {
    /// Takes a whole configuration in place of the defaults. Listeners added by the other methods replace
    /// those in it.
    #[must_use]
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// Takes the configuration from a TOML file, as `ringmq --config` does.
    pub fn config_file(self, path: impl AsRef<Path>) -> Result<Self, Error> {
        let sources = Sources { file: Some(path.as_ref().to_owned()), flags: Vec::new() };
        Ok(self.config(sources.load()?))
    }

    /// Accepts clients at a loopback address. May be called often; port 0 takes a free port, which
    /// [`Broker::addresses`] tells.
    #[must_use]
    pub fn listen(self, address: SocketAddr) -> Self {
        self.listen_on(ListenerConfig::at(address.into()))
    }

    /// Accepts clients at any address, and lets in whoever reaches it.
    #[must_use]
    pub fn listen_anonymous(self, address: SocketAddr) -> Self {
        self.listen_on(ListenerConfig { allow_anonymous: Some(true), ..ListenerConfig::at(address.into()) })
    }

    /// Accepts clients as this says: over TLS, over WebSocket, at a Unix socket.
    ///
    /// ```no_run
    /// use ringmq::Broker;
    /// use ringmq::config::ListenerConfig;
    ///
    /// let broker = Broker::builder()
    ///     .listen_on(ListenerConfig {
    ///         certificate: Some("server.pem".into()),
    ///         key: Some("server.key".into()),
    ///         ..ListenerConfig::at("tls://127.0.0.1:8883".parse()?)
    ///     })
    ///     .listen_on(ListenerConfig::at("unix:/run/ringmq.sock".parse()?))
    ///     .start()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn listen_on(mut self, listener: ListenerConfig) -> Self {
        self.listeners.push(listener);
        self
    }

    /// Accepts no clients: the broker serves its program only.
    #[must_use]
    pub fn no_listeners(mut self) -> Self {
        self.listeners.clear();
        self.config.listeners.0.clear();
        self
    }

    /// Runs this many shards instead of one on each CPU.
    #[must_use]
    pub fn shards(mut self, shards: usize) -> Self {
        self.config.shards = shards;
        self
    }

    /// Takes these bounds; those for the whole broker are divided among its shards.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.config.limits = limits;
        self
    }

    /// Keeps sessions, queues and retained messages in this directory, so that the next broker that is started
    /// with it has them. It is made if it is missing; one broker uses it at a time.
    #[must_use]
    pub fn data_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.config.data_dir = Some(path.into());
        self
    }

    /// What an acknowledgement promises, to clients and for what the program publishes. By default it is
    /// [`Durability::Written`] with a data directory, and [`Durability::Memory`] without.
    #[must_use]
    pub fn durability(mut self, durability: Durability) -> Self {
        self.config.storage.durability = Some(durability);
        self
    }

    /// Starts the broker. When it returns, every shard listens on every address.
    pub fn start(mut self) -> Result<Broker, Error> {
        if !self.listeners.is_empty() {
            self.config.listeners.0 = self.listeners;
        }
        self.config.check()?;
        Broker::start(&Plan::new(self.config)?)
    }
}

/// A configuration with everything decided that depends on the machine.
pub(super) struct Plan {
    pub config: Config,
    pub shards: usize,
    pub connections_max: u32,
    pub listeners: Vec<ringmq_shards::ListenerConfig>,
}

impl Plan {
    fn new(mut config: Config) -> Result<Self, Error> {
        if config.shards == 0 {
            let listed = config.runtime.cpus.len();
            let cpus = if listed > 0 { listed } else { cpus().map_err(Error::Affinity)? };
            config.shards = cpus.clamp(1, SHARDS_MAX);
            // What is divided among the shards can be checked only now.
            config.check()?;
        }
        let connections_max = connections_max(&config, OpenFiles::limit().soft)?;
        let listeners = config.listeners.0.iter().map(listener).collect::<Result<_, _>>()?;
        Ok(Self { shards: config.shards, config, connections_max, listeners })
    }

    /// What the runtime is started with.
    pub fn runtime(&self) -> ringmq_shards::RuntimeConfig {
        ringmq_shards::RuntimeConfig {
            listeners: self.listeners.clone(),
            ..runtime_config(&self.config, self.connections_max)
        }
    }

    /// What the shards' engines are made from; each sets its own number. The seed is that of the hash
    /// tables, and of what must not be guessed; the epoch counts the starts of a store.
    pub fn engine(&self, seed: u64, epoch: u32) -> EngineConfig {
        EngineConfig {
            epoch,
            durability: self.config.listener_durability(),
            durability_default: self.config.durability(),
            version: env!("CARGO_PKG_VERSION"),
            sys_interval_ms: u64::from(self.config.sys.interval_s) * 1000,
            limits: self.config.shard_limits(self.shards),
            refused_filters: self.config.refused_filters.clone(),
            ..EngineConfig::new(ShardId::new(0), self.shards, seed)
        }
    }
}

/// The runtime's part of a listener, with its certificates loaded.
fn listener(listener: &ListenerConfig) -> Result<ringmq_shards::ListenerConfig, Error> {
    let address = match &listener.address {
        ListenAddress::Port(_, address) => ringmq_shards::ListenAddress::Tcp(*address),
        ListenAddress::Unix(path) => {
            ringmq_shards::ListenAddress::Unix(UnixListener { path: path.clone(), mode: listener.unix_mode })
        }
    };
    let tls = listener.tls_files().map(|files| ServerTls::load(&files)).transpose()?;
    let websocket = listener.address.wrapping().has_websocket();
    Ok(ringmq_shards::ListenerConfig { address, tls, websocket })
}

/// The runtime's part of a configuration, but for the listeners.
pub(crate) fn runtime_config(config: &Config, connections_max: u32) -> ringmq_shards::RuntimeConfig {
    let runtime = &config.runtime;
    ringmq_shards::RuntimeConfig {
        shards: (config.shards > 0).then_some(config.shards),
        cpus: runtime.cpus.clone(),
        pinned: true,
        listeners: Vec::new(),
        connections_max: connections_max as usize,
        lane_messages_max: runtime.lane_messages_max,
        commands_max: runtime.commands_max,
        spin_us: runtime.spin_us,
        gather_us: 0,
        backlog_high_bytes: runtime.backlog_high_bytes,
        backlog_low_bytes: runtime.backlog_low_bytes,
        linger_ms: runtime.linger_ms,
        handshake_timeout_ms: config.handshake_timeout_ms,
        frame_bytes_max: config.frame_bytes_max() as usize,
        user_timeout_ms: runtime.user_timeout_ms,
        accepts_per_turn_max: runtime.accepts_per_turn_max,
        accept_backlog: runtime.accept_backlog,
        submission_entries: runtime.submission_entries,
        completion_entries: runtime.completion_entries,
        receive_buffers: runtime.receive_buffers,
    }
}

/// The connections that the limit on open files has room for, or those that were asked for if it has.
pub(crate) fn connections_max(config: &Config, limit: u64) -> Result<u32, Error> {
    let reserved = FILES_RESERVED + FILES_PER_SHARD * config.shards as u64;
    if config.connections_max == 0 {
        let room = limit.saturating_sub(reserved).clamp(1, config::CONNECTIONS_MAX);
        return Ok(room as u32);
    }
    let needed = u64::from(config.connections_max) + reserved;
    if needed > limit {
        return Err(Error::OpenFiles { connections_max: config.connections_max, needed, limit });
    }
    Ok(config.connections_max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_bounded_by_open_files() {
        let table = [
            (0, 100, Some(1)),
            (0, 20_000, Some(20_000 - 256 - 64)),
            (0, u64::MAX, Some(10_000_000)),
            (1000, 1319, None),
            (1000, 1320, Some(1000)),
        ];
        for (connections, limit, expect) in table {
            let config = Config { shards: 2, connections_max: connections, ..Config::default() };
            assert_eq!(connections_max(&config, limit).ok(), expect, "{connections} of {limit}");
        }
    }
}
