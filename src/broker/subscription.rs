//! Subscribing from within the program.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use ringmq_codec::{FilterError, QoS, ReasonCode, check_filter};
use ringmq_engine::{Command, LocalMessage, SubscriberId};
use ringmq_turn::ShardId;
use thiserror::Error;

use super::inbox::Inbox;
use super::link::{Link, Unsent};
use super::ticket::{Ticket, WaitError};
use super::{Message, Overflow, RecvError};

/// Messages that wait for a subscription unless [`SubscribeOptions::queue_messages_max`] says otherwise.
pub const QUEUE_MESSAGES_DEFAULT: usize = 65_536;

/// Why there is no subscription.
#[derive(Debug, Error)]
pub enum SubscribeError {
    /// The filter is no topic filter.
    #[error("{filter:?} is not a topic filter: {fault}")]
    Filter {
        /// What was given.
        filter: String,
        /// What is wrong with it.
        fault: FilterError,
    },
    /// The shard has `runtime.commands_max` commands waiting.
    #[error("the shard has too many commands waiting")]
    Busy,
    /// The broker refused, stopped, or did not answer in time.
    #[error(transparent)]
    Answer(#[from] WaitError),
}

/// What to subscribe to, and what may wait for the program.
#[derive(Clone, Debug)]
pub struct SubscribeOptions {
    /// The topic filter; `$share/group/filter` is allowed.
    pub filter: String,
    /// The highest QoS at which messages are reported.
    pub qos: QoS,
    /// Messages that may wait; at least one.
    pub queue_messages_max: usize,
    /// What happens beyond that.
    pub overflow: Overflow,
}

impl SubscribeOptions {
    /// A subscription at QoS 0, with room for [`QUEUE_MESSAGES_DEFAULT`] messages.
    pub fn new(filter: impl Into<String>) -> Self {
        Self {
            filter: filter.into(),
            qos: QoS::AtMostOnce,
            queue_messages_max: QUEUE_MESSAGES_DEFAULT,
            overflow: Overflow::default(),
        }
    }
}

/// A subscription that is being made: wait for it with [`Subscribing::wait`], or await it in a task of any
/// runtime. Dropping it ends it.
#[must_use = "a subscription lasts as long as its value"]
pub struct Subscribing {
    ticket: Ticket,
    /// Taken when it is made.
    subscription: Option<Subscription>,
}

impl Subscribing {
    pub(super) fn begin(link: &Arc<Link>, options: SubscribeOptions) -> Result<Self, SubscribeError> {
        let SubscribeOptions { filter, qos, queue_messages_max, overflow } = options;
        if let Err(fault) = check_filter(&filter) {
            return Err(SubscribeError::Filter { filter, fault });
        }
        let inbox = Arc::new(Inbox::new(queue_messages_max, overflow));
        let shard = link.a_shard();
        let subscriber = link.join(shard, Arc::clone(&inbox));
        let granted = ReasonCode::Success;
        // From here on its drop cleans up.
        let subscription = Subscription { link: Arc::clone(link), shard, subscriber, inbox, filter, granted };
        let since = Instant::now();
        loop {
            let filter = subscription.filter.clone();
            let make = |request| Command::Subscribe { request, subscriber, filter, qos };
            match link.try_request(shard, make) {
                Ok(ticket) => return Ok(Self { ticket, subscription: Some(subscription) }),
                Err(Unsent::Stopped) => return Err(WaitError::Stopped.into()),
                Err(Unsent::Busy(_)) if !link.wait_for_room(shard, since) => {
                    return Err(SubscribeError::Busy);
                }
                Err(Unsent::Busy(_)) => {}
            }
        }
    }

    /// Waits until the subscription is known on every shard: what is published from then on, anywhere, is
    /// received.
    pub fn wait(mut self, timeout: Duration) -> Result<Subscription, SubscribeError> {
        let granted = self.ticket.wait(timeout)?;
        Ok(self.made(granted))
    }

    fn made(&mut self, granted: ReasonCode) -> Subscription {
        let mut subscription = self.subscription.take().expect("polled again after it was made");
        subscription.granted = granted;
        subscription
    }
}

impl Future for Subscribing {
    type Output = Result<Subscription, SubscribeError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match Pin::new(&mut self.ticket).poll(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(granted)) => Poll::Ready(Ok(self.made(granted))),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error.into())),
        }
    }
}

/// A subscription of the program; owned by one shard, ended by dropping it.
pub struct Subscription {
    link: Arc<Link>,
    shard: ShardId,
    subscriber: SubscriberId,
    inbox: Arc<Inbox>,
    filter: String,
    granted: ReasonCode,
}

impl Subscription {
    /// The topic filter.
    pub fn filter(&self) -> &str {
        &self.filter
    }

    /// The highest QoS at which messages are reported, as it was granted.
    pub fn qos(&self) -> QoS {
        QoS::try_from(self.granted as u8).unwrap_or_default()
    }

    /// Waits for the next message, until the broker stops.
    pub fn recv(&self) -> Result<Message, RecvError> {
        self.inbox.recv(None).map(message)
    }

    /// Waits for the next message up to `timeout`.
    pub fn recv_timeout(&self, timeout: Duration) -> Result<Message, RecvError> {
        self.inbox.recv(Some(timeout)).map(message)
    }

    /// The next message, if it is there.
    pub fn try_recv(&self) -> Result<Message, RecvError> {
        self.recv_timeout(Duration::ZERO)
    }

    /// The next message, for a task of any runtime; none once the broker has stopped. At most one task may
    /// wait at a time.
    pub async fn next_message(&self) -> Option<Message> {
        std::future::poll_fn(|context| self.inbox.poll(context)).await.map(message)
    }

    /// All messages until the broker stops, waiting for each.
    pub fn iter(&self) -> Messages<'_> {
        Messages { subscription: self }
    }

    /// How many messages were dropped because too many waited.
    pub fn dropped(&self) -> u64 {
        self.inbox.dropped()
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").field("filter", &self.filter).finish_non_exhaustive()
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.link.leave(self.shard, self.subscriber);
    }
}

impl<'a> IntoIterator for &'a Subscription {
    type Item = Message;
    type IntoIter = Messages<'a>;

    fn into_iter(self) -> Messages<'a> {
        self.iter()
    }
}

/// The messages of a [`Subscription`], until the broker stops.
pub struct Messages<'a> {
    subscription: &'a Subscription,
}

impl Iterator for Messages<'_> {
    type Item = Message;

    fn next(&mut self) -> Option<Message> {
        self.subscription.recv().ok()
    }
}

/// Without a copy, but for a message that somebody else holds too.
fn message(local: Arc<LocalMessage>) -> Message {
    Message::from_local(Arc::try_unwrap(local).unwrap_or_else(|shared| (*shared).clone()))
}
