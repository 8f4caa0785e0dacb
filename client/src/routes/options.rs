//! What a route asks for.

use std::sync::Arc;

use ringmq_codec::{QoS, RetainHandling, SubscriptionOptions, check_filter};

use crate::error::Error;
use crate::link::{Overflow, Wanted};

/// Messages that wait for a route unless [`RouteOptions::capacity`] says otherwise.
const CAPACITY_DEFAULT: usize = 10_000;

/// A topic filter with options. A plain filter is one with defaults, so either may be given wherever a filter is
/// wanted.
///
/// Routes with the same filter share one subscription, which asks for the most that any of them does. A later
/// route gets no retained messages for its own, unless it raises what the subscription asks for.
#[derive(Clone, Debug)]
pub struct RouteOptions {
    pub(crate) filter: String,
    pub(crate) subscription: SubscriptionOptions,
    pub(crate) subscription_id: u32,
    pub(crate) capacity: usize,
    pub(crate) overflow: Overflow,
}

impl RouteOptions {
    /// A route of this filter; `$share/group/filter` shares its messages with others of the group.
    pub fn new(filter: impl Into<String>) -> Self {
        Self {
            filter: filter.into(),
            subscription: SubscriptionOptions { qos: QoS::AtLeastOnce, ..SubscriptionOptions::default() },
            subscription_id: 0,
            capacity: CAPACITY_DEFAULT,
            overflow: Overflow::default(),
        }
    }

    /// The highest QoS that messages come at. Default 1.
    #[must_use]
    pub fn qos(mut self, qos: QoS) -> Self {
        self.subscription.qos = qos;
        self
    }

    /// Leaves out what the same session publishes (MQTT 5). By default that comes too.
    #[must_use]
    pub fn no_local(mut self) -> Self {
        self.subscription.no_local = true;
        self
    }

    /// Keeps the RETAIN flag as it was published (MQTT 5). By default it says whether the message was retained
    /// before the subscription.
    #[must_use]
    pub fn retain_as_published(mut self) -> Self {
        self.subscription.retain_as_published = true;
        self
    }

    /// Which retained messages come first (MQTT 5). Default all that match, whenever the subscription is made.
    #[must_use]
    pub fn retain_handling(mut self, handling: RetainHandling) -> Self {
        self.subscription.retain_handling = handling;
        self
    }

    /// A Subscription Identifier for the broker to send along (MQTT 5), from 1 to 268,435,455; of several routes with
    /// one filter, the first one's counts. Default none.
    #[must_use]
    pub fn subscription_id(mut self, id: u32) -> Self {
        self.subscription_id = id;
        self
    }

    /// Messages that may wait for the route; at least 1. Default 10,000.
    #[must_use]
    pub fn capacity(mut self, messages: usize) -> Self {
        self.capacity = messages;
        self
    }

    /// What happens beyond that. Default [`Overflow::Withhold`].
    #[must_use]
    pub fn overflow(mut self, overflow: Overflow) -> Self {
        self.overflow = overflow;
        self
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        let invalid = |what, given: String, remedy: String| Err(Error::Invalid { what, given, remedy });
        match check_filter(&self.filter) {
            Err(fault) => return invalid("the filter", self.filter.clone(), fault.to_string()),
            Ok(parts) if parts.share.is_some() && self.subscription.no_local => {
                let remedy = "a shared subscription cannot have no_local()".to_owned();
                return invalid("the filter", self.filter.clone(), remedy);
            }
            Ok(_) => {}
        }
        if self.capacity == 0 {
            return invalid("the route's capacity", "0".to_owned(), "at least 1".to_owned());
        }
        if self.subscription_id > ringmq_codec::REMAINING_LENGTH_MAX {
            let remedy = "from 1 to 268,435,455".to_owned();
            return invalid("the subscription id", self.subscription_id.to_string(), remedy);
        }
        Ok(())
    }

    pub(super) fn wanted(&self, filter: Arc<str>) -> Wanted {
        Wanted { filter, options: self.subscription, subscription_id: self.subscription_id }
    }
}

impl From<&str> for RouteOptions {
    fn from(filter: &str) -> Self {
        Self::new(filter)
    }
}

impl From<String> for RouteOptions {
    fn from(filter: String) -> Self {
        Self::new(filter)
    }
}

/// What one subscription asks for on behalf of two routes: the most of both.
pub(super) fn join(one: &Wanted, other: &Wanted) -> Wanted {
    let (a, b) = (one.options, other.options);
    let options = SubscriptionOptions {
        qos: a.qos.max(b.qos),
        no_local: a.no_local && b.no_local,
        retain_as_published: a.retain_as_published || b.retain_as_published,
        retain_handling: match (a.retain_handling, b.retain_handling) {
            (RetainHandling::SendAtSubscribe, _) | (_, RetainHandling::SendAtSubscribe) => {
                RetainHandling::SendAtSubscribe
            }
            (RetainHandling::SendAtSubscribeIfNew, _) | (_, RetainHandling::SendAtSubscribeIfNew) => {
                RetainHandling::SendAtSubscribeIfNew
            }
            (RetainHandling::DoNotSend, RetainHandling::DoNotSend) => RetainHandling::DoNotSend,
        },
    };
    let subscription_id = if one.subscription_id == 0 { other.subscription_id } else { one.subscription_id };
    Wanted { filter: Arc::clone(&one.filter), options, subscription_id }
}
