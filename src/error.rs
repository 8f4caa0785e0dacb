//! What can go wrong before the broker runs.

use std::io;
use std::path::PathBuf;

use ringmq_shards::{StartError, TlsError};
use ringmq_storage::StoreError;
use thiserror::Error;

use crate::config::ConfigError;

/// Why the broker could not be configured or started.
#[derive(Debug, Error)]
pub enum Error {
    /// The configuration file could not be read.
    #[error("cannot read the configuration {}: {source}", path.display())]
    ConfigFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The certificate or key of a listener cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The data directory cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A thread could not be started.
    #[error(
        "cannot start a thread: {0}; raise the limit on processes (`ulimit -u`, `TasksMax=` in a systemd unit)"
    )]
    Thread(#[source] io::Error),
    /// The limit on open files is too low for the connections asked for.
    #[error(
        "limits.connections_max = {connections_max} needs {needed} open files, but the limit is {limit}: raise it \
         (`ulimit -n {needed}`, `LimitNOFILE={needed}` in a systemd unit, `--ulimit nofile={needed}` in Docker), \
         or lower the key"
    )]
    OpenFiles {
        /// What was asked for.
        connections_max: u32,
        /// What it takes.
        needed: u64,
        /// What there is.
        limit: u64,
    },
    /// The CPUs that the process may use are not known.
    #[error("cannot read the CPU affinity: {0}; set shards to a number")]
    Affinity(#[source] io::Error),
    /// The shards did not start.
    #[error(transparent)]
    Start(#[from] StartError),
}

impl Error {
    /// Whether the configuration is at fault, rather than the system it met.
    pub fn is_configuration(&self) -> bool {
        match self {
            Self::ConfigFile { .. } | Self::Config(_) | Self::Tls(_) => true,
            Self::Store(_) | Self::Thread(_) | Self::OpenFiles { .. } | Self::Affinity(_) => false,
            Self::Start(error) => matches!(error, StartError::Config(_)),
        }
    }
}
