//! What can go wrong, and what to do about it.

use std::io;

use ringmq_turn::ShardId;

use crate::config::ListenAddress;

/// Why a shard has no ring.
#[derive(Debug, thiserror::Error)]
pub enum RingError {
    /// The system or a container forbids io_uring.
    #[error(
        "the system forbids io_uring ({0}): set `sysctl kernel.io_uring_disabled=0`, and in a container \
         allow io_uring_setup, io_uring_enter and io_uring_register in its seccomp profile"
    )]
    Forbidden(#[source] io::Error),
    /// The kernel lacks what is needed.
    #[error("this kernel's io_uring lacks {what} ({source}): run Linux 6.1 or newer")]
    TooOld {
        /// What it lacks.
        what: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// The limit of locked memory is used up.
    #[error(
        "no memory for {what} ({source}): raise the limit of locked memory (`ulimit -l unlimited`, \
         `LimitMEMLOCK=infinity` in a systemd unit, `--ulimit memlock=-1` in Docker), or run fewer \
         shards or smaller rings"
    )]
    Memory {
        /// What it was for.
        what: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// Anything else.
    #[error("cannot set up {what}: {source}")]
    Other {
        /// What was being set up.
        what: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

impl RingError {
    /// The variant that fits what the kernel said about `what`.
    pub(crate) fn new(what: &'static str, source: io::Error) -> Self {
        match source.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => Self::Forbidden(source),
            Some(libc::ENOSYS | libc::EINVAL | libc::EOPNOTSUPP) => Self::TooOld { what, source },
            Some(libc::ENOMEM) => Self::Memory { what, source },
            Some(_) | None => Self::Other { what, source },
        }
    }
}

/// Why a runtime did not start. Nothing of it is left running.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A setting makes no sense.
    #[error("the runtime's configuration does not work: {0}")]
    Config(String),
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {source}; {remedy}")]
    Listen {
        /// The address.
        address: Box<ListenAddress>,
        /// What the kernel said.
        source: io::Error,
        /// What to do.
        remedy: String,
    },
    /// A shard cannot have its ring.
    #[error("shard {shard} cannot start: {source}")]
    Ring {
        /// The shard.
        shard: ShardId,
        /// Why.
        source: RingError,
    },
    /// A shard cannot have its executor.
    #[error(
        "shard {shard} cannot start its executor{}: {cause}; `doctor` checks locked memory, io_uring and \
         the CPUs",
        cpu.map_or_else(String::new, |cpu| format!(" on CPU {cpu}"))
    )]
    Executor {
        /// The shard.
        shard: ShardId,
        /// Where it was to run, when it was to be pinned.
        cpu: Option<usize>,
        /// What glommio said.
        cause: String,
    },
    /// A shard's core panicked while it was made.
    #[error(transparent)]
    Failed(#[from] ShardFailure),
}

/// A shard panicked; all shards were stopped.
#[derive(Clone, Debug, thiserror::Error)]
#[error("shard {shard} failed: {message}; this is a bug, please report it with the log")]
pub struct ShardFailure {
    /// The shard.
    pub shard: ShardId,
    /// What it said.
    pub message: String,
}

/// A shard has too many commands waiting, or has stopped. The command comes back.
#[derive(Debug, thiserror::Error)]
#[error("the shard has too many commands waiting, or has stopped")]
pub struct Full<T>(pub T);
