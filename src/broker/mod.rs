//! The broker inside another program.

mod builder;
mod inbox;
mod link;
mod listening;
mod logs;
mod message;
mod publisher;
mod report;
mod subscription;
mod ticket;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ringmq_engine::{Engine, EngineConfig, Event};
use ringmq_shards::{Runtime, ShardFailure, ShutdownReport};
use ringmq_storage::ShardLog;
use ringmq_turn::ShardId;

use crate::config::ListenAddress;
use crate::{Error, QoS};

pub use builder::Builder;
pub(crate) use builder::{connections_max, runtime_config};
pub use inbox::{Overflow, RecvError};
pub use listening::Reloaded;
pub use message::{Message, MessageProperties};
pub use publisher::{PublishError, Publisher};
pub use subscription::{Messages, SubscribeError, SubscribeOptions, Subscribing, Subscription};
pub use ticket::{Ticket, WaitError};

use builder::Plan;
use link::{Link, Routes};
use listening::AllListening;
use logs::{Logs, StoreInUse};

/// How long [`Broker::subscribe`] waits until the subscription is known on every shard.
const SUBSCRIBE_WAIT: Duration = Duration::from_secs(10);

/// A running broker. Dropping it stops it, with the configured grace.
///
/// Everything may be called from any thread. Nothing needs an async runtime, and what can be awaited can be
/// awaited in any.
pub struct Broker {
    /// Taken at the stop.
    runtime: Option<Runtime<Engine<ShardLog>>>,
    /// Let go of behind the runtime, whose shards write to it.
    _store: Option<StoreInUse>,
    link: Arc<Link>,
    listening: AllListening,
    publisher: Publisher,
    packet_bytes_max: u32,
    connections_max: u32,
    grace: Duration,
}

/// Passes events on, and tells everyone who waits when the last shard is gone, for whatever reason.
struct Events(Arc<Routes>);

impl Events {
    fn pass_on(&self, shard: ShardId, event: Event) {
        self.0.event(shard, event);
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.0.stop();
    }
}

impl Broker {
    /// Describes a broker: by default one that listens on 127.0.0.1:1883 and runs a shard on each CPU.
    pub fn builder() -> Builder {
        Builder::default()
    }

    fn start(plan: &Plan) -> Result<Self, Error> {
        let Logs { seed, epoch, shards, store } = Logs::open(&plan.config, plan.shards)?;
        let engine = plan.engine(seed, epoch);
        let make_core = move |shard| {
            let (log, recovered) = shards.take(shard);
            let config = EngineConfig { shard, ..engine.clone() };
            match recovered {
                Some(recovered) => Engine::recover(config, log, recovered),
                None => Engine::with_log(config, log),
            }
        };
        let routes = Arc::new(Routes::new());
        let events = Events(Arc::clone(&routes));
        let runtime = ringmq_shards::start(plan.runtime(), make_core, move |shard, event| {
            events.pass_on(shard, event)
        })?;
        let link = Arc::new(Link::new(routes, runtime.handle()));
        let listening = AllListening::new(plan, runtime.listening());
        let packet_bytes_max = plan.config.limits.packet_bytes_max;
        Ok(Self {
            runtime: Some(runtime),
            _store: store,
            publisher: Publisher::new(Arc::clone(&link), packet_bytes_max),
            link,
            listening,
            packet_bytes_max,
            connections_max: plan.connections_max,
            grace: Duration::from_secs(plan.config.shutdown.grace_s.into()),
        })
    }

    fn runtime(&self) -> &Runtime<Engine<ShardLog>> {
        self.runtime.as_ref().expect("taken by shutdown and drop only, which end the broker")
    }

    /// The ports listened on, whatever is spoken there, in the order of the configuration, with those that
    /// were chosen. See [`Broker::listening`] for all that is known of them, and for Unix sockets.
    pub fn addresses(&self) -> &[SocketAddr] {
        self.runtime().addresses()
    }

    /// Where it listens, in the order of the configuration, with the ports that were chosen.
    pub fn listening(&self) -> impl Iterator<Item = &ListenAddress> {
        self.listening.addresses()
    }

    /// Reads the certificates, keys and authorities of all listeners again, and says for each that has some
    /// what came of it. They are checked and swapped as a whole: connections from then on get the new ones,
    /// or, where anything is wrong with those, still the old. Open connections stay as they are.
    pub fn reload_certificates(&self) -> Vec<Reloaded> {
        self.listening.reload()
    }

    /// How many shards run.
    pub fn shards(&self) -> usize {
        self.link.shards()
    }

    /// Connections that are open.
    pub fn connections(&self) -> usize {
        self.link.connections()
    }

    /// Connections that may be open at a time.
    pub fn connections_max(&self) -> u32 {
        self.connections_max
    }

    /// Publishes a message. The ticket is answered when every session that must get it has it; it may be
    /// dropped. Messages published here keep their order. Waits while too many commands wait; see
    /// [`Publisher::try_publish`] for a way that never waits.
    pub fn publish(&self, message: Message) -> Result<Ticket, PublishError> {
        self.publisher.publish(message)
    }

    /// A publisher of its own for a thread: publishers are spread over the shards, and each keeps the order
    /// of its messages.
    pub fn publisher(&self) -> Publisher {
        Publisher::new(Arc::clone(&self.link), self.packet_bytes_max)
    }

    /// Subscribes to a filter, and waits until that is known on every shard. Retained messages that match
    /// come first.
    pub fn subscribe(&self, filter: &str, qos: QoS) -> Result<Subscription, SubscribeError> {
        self.begin_subscribe(SubscribeOptions { qos, ..SubscribeOptions::new(filter) })?.wait(SUBSCRIBE_WAIT)
    }

    /// Begins to subscribe; the result can be waited for or awaited.
    pub fn begin_subscribe(&self, options: SubscribeOptions) -> Result<Subscribing, SubscribeError> {
        Subscribing::begin(&self.link, options)
    }

    /// What happened to a shard that failed; then all have stopped, or will in a moment.
    pub fn failure(&self) -> Option<ShardFailure> {
        self.runtime().wait_failure(Duration::ZERO)
    }

    /// Stops: clients are told (MQTT 5: reason 0x8B, Server shutting down), and what was written to them
    /// goes out until the grace is over.
    ///
    /// # Errors
    /// A shard had failed, or failed now.
    pub fn shutdown(mut self, grace: Duration) -> Result<ShutdownReport, ShardFailure> {
        let runtime = self.runtime.take().expect("taken by shutdown and drop only, which end the broker");
        runtime.shutdown(grace)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take()
            && let Err(failure) = runtime.shutdown(self.grace)
        {
            tracing::error!(%failure, "stopped after a failure");
        }
    }
}
