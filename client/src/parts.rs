//! What the load generator builds on: one session's machine, and a session's description made ready for a core of
//! one's own. Not for programs, and free to change.

use std::sync::Arc;

use ringmq_shards::{ClientTls, Peer};

pub use crate::link::{Acknowledgement, Outcome, Publication};
pub use crate::machine::{Arrival, End, Machine, Sink, Take, Words};
pub use crate::options::SessionOptions;
pub use crate::store::{Restored, StoreChange, Wanted};

use crate::builder::SessionBuilder;
use crate::error::Error;

/// A session that was described without a fault, and its brokers as the runtime is to know them.
pub fn prepare(builder: SessionBuilder) -> Result<(Arc<SessionOptions>, Vec<Peer>), Error> {
    let plan = builder.plan()?;
    let tls = match plan.addresses.iter().any(|address| address.speaks_tls()) {
        true => Some(ClientTls::load(&plan.tls.files()).map_err(|error| Error::Tls(error.to_string()))?),
        false => None,
    };
    let peers = plan.addresses.iter().map(|address| {
        let (place, websocket) = address.peer();
        let tls = tls.clone().filter(|_| address.speaks_tls());
        Peer { tls, websocket, sources: plan.sources.clone(), ..Peer::new(place) }
    });
    Ok((Arc::new(plan.options), peers.collect()))
}
