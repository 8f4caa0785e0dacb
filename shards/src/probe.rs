//! What `doctor` asks of the system.

use crate::config::RuntimeConfig;

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// It will run, but not well.
    Warn,
    /// It will not run.
    Fail,
}

/// One thing looked at.
#[derive(Clone, Debug)]
pub struct Check {
    /// What was looked at.
    pub name: &'static str,
    /// How it came out.
    pub verdict: Verdict,
    /// What was found.
    pub found: String,
    /// What to do about it; empty when all is well.
    pub remedy: String,
}

/// Checks whether the system can run shards.
pub fn probe(config: &RuntimeConfig) -> Vec<Check> {
    let _ = config;
    Vec::new()
}
