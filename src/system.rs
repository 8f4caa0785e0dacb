//! What the operating system allows this process.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::sched_getaffinity;

/// The limit on open files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenFiles {
    /// What counts now.
    pub soft: u64,
    /// What it may be raised to without privileges.
    pub hard: u64,
}

impl OpenFiles {
    /// The limit of this process.
    pub fn limit() -> Self {
        let limit = getrlimit(Resource::Nofile);
        Self { soft: limit.current.unwrap_or(u64::MAX), hard: limit.maximum.unwrap_or(u64::MAX) }
    }

    /// Raises the limit as far as it goes. For programs; a library should leave that to its host.
    pub fn raise() -> io::Result<Self> {
        let limit = getrlimit(Resource::Nofile);
        setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
        Ok(Self::limit())
    }
}

/// How many CPUs this process may run on.
pub(crate) fn cpus() -> io::Result<usize> {
    Ok(sched_getaffinity(None)?.count() as usize)
}
