//! Where a broker listens, and the certificates that it shows there.

use ringmq_shards::{ServerTls, TlsError};

use super::builder::Plan;
use crate::config::ListenAddress;

/// What became of the certificates of one listener when they were read again.
#[derive(Debug)]
pub struct Reloaded {
    /// The listener.
    pub address: ListenAddress,
    /// Whether connections from now on get what the files hold; if not, all is as it was.
    pub outcome: Result<(), TlsError>,
}

/// One listener.
struct Listening {
    address: ListenAddress,
    tls: Option<ServerTls>,
}

/// All of them, in the order of the configuration.
pub(super) struct AllListening(Vec<Listening>);

impl AllListening {
    /// Those of a plan, with the ports that the kernel chose.
    pub fn new(plan: &Plan, bound: &[ringmq_shards::ListenAddress]) -> Self {
        let configured = plan.config.listeners.0.iter().zip(&plan.listeners).zip(bound);
        let listening = configured.map(|((config, listener), bound)| Listening {
            address: match (&config.address, bound) {
                (ListenAddress::Port(wrapping, _), ringmq_shards::ListenAddress::Tcp(address)) => {
                    ListenAddress::Port(*wrapping, *address)
                }
                (ListenAddress::Unix(_), _) | (_, ringmq_shards::ListenAddress::Unix(_)) => {
                    config.address.clone()
                }
            },
            tls: listener.tls.clone(),
        });
        Self(listening.collect())
    }

    pub fn addresses(&self) -> impl Iterator<Item = &ListenAddress> {
        self.0.iter().map(|listening| &listening.address)
    }

    /// Reads all certificates again.
    pub fn reload(&self) -> Vec<Reloaded> {
        let reload = |listening: &Listening| {
            let outcome = listening.tls.as_ref()?.reload();
            Some(Reloaded { address: listening.address.clone(), outcome })
        };
        self.0.iter().filter_map(reload).collect()
    }
}
