//! Request and response over MQTT 5, section 4.10: a request names the topic where its answer is expected, and what
//! the answer must repeat.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hashbrown::HashMap;
use ringmq_codec::{QoS, ReasonCode, Version, check_name};

use crate::error::Error;
use crate::link::{Overflow, SessionShared, Target};
use crate::message::{Message, MessageProperties, Received, Topic};
use crate::routes::{Route, RouteOptions};
use crate::session::Session;
use crate::slot::Slot;

/// Most requests of one session whose answers are awaited.
pub const REQUESTS_MAX: usize = 65_536;

/// What topics for answers begin with, where the broker's Response Information names nothing else.
const PREFIX: &str = "responses";

type Answered = Result<Message, Error>;

#[derive(Debug, Default)]
struct Pending {
    requests: HashMap<u64, Arc<Slot<Answered>>, foldhash::fast::RandomState>,
    next: u64,
    is_over: bool,
}

/// Where the answers of a session arrive. They are handed over on the I/O thread.
#[derive(Debug, Default)]
struct Replies {
    pending: Mutex<Pending>,
    late: AtomicU64,
}

impl Replies {
    fn lock(&self) -> MutexGuard<'_, Pending> {
        // What the lock guards is whole after each statement, so a panic of a holder spoils nothing.
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Expects an answer.
    fn expect(self: &Arc<Self>) -> Result<Ticket, Error> {
        let mut pending = self.lock();
        if pending.is_over {
            return Err(Error::Gone);
        }
        let held = pending.requests.len();
        if held >= REQUESTS_MAX {
            return Err(Error::Full { held });
        }
        let key = pending.next;
        pending.next += 1;
        let slot = Arc::new(Slot::default());
        pending.requests.insert(key, Arc::clone(&slot));
        Ok(Ticket { replies: Arc::clone(self), key, slot })
    }

    fn arrived(&self, message: Message) {
        let correlation =
            message.properties.as_ref().and_then(|properties| properties.correlation_data.as_ref());
        let key = correlation.and_then(|data| <[u8; 8]>::try_from(&**data).ok()).map(u64::from_be_bytes);
        let slot = key.and_then(|key| self.lock().requests.remove(&key));
        match slot {
            Some(slot) => slot.settle(Ok(message)),
            None => {
                self.late.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// No answer will come any more.
    fn close(&self) {
        let requests = {
            let mut pending = self.lock();
            pending.is_over = true;
            std::mem::take(&mut pending.requests)
        };
        requests.into_values().for_each(|slot| slot.settle(Err(Error::Gone)));
    }
}

impl Target for Replies {
    fn overflow(&self) -> Overflow {
        Overflow::DropNewest
    }

    /// Answers do not wait here: those that nobody expects are dropped, and the others are bounded by their requests.
    fn room(&self) -> usize {
        usize::MAX
    }

    fn put(&self, messages: &mut Vec<Received>) {
        for mut received in messages.drain(..) {
            received.ack();
            self.arrived(received.message);
        }
    }

    fn wait_for_room(&self, _: &Arc<SessionShared>) -> bool {
        false
    }

    fn stop(&self) {
        self.close();
    }

    fn end(&self) {
        self.close();
    }
}

/// An answer that is expected; no more once this is dropped.
struct Ticket {
    replies: Arc<Replies>,
    key: u64,
    slot: Arc<Slot<Answered>>,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.replies.lock().requests.remove(&self.key);
    }
}

/// A session's one subscription for answers.
#[derive(Debug)]
pub(crate) struct Requester {
    topic: Topic,
    replies: Arc<Replies>,
    route: Route,
}

impl Requester {
    fn new(session: &Session) -> Result<Self, Error> {
        let mut random = [0; 16];
        getrandom::fill(&mut random)
            .map_err(|error| Error::Runtime(format!("the system gave no random bytes: {error}")))?;
        let information = session.shared().response_information();
        let prefix = information.as_deref().unwrap_or(PREFIX).trim_end_matches('/');
        // Nobody else is to guess it, and no answer to an earlier run of the program to arrive here.
        let topic = format!("{prefix}/{:032x}", u128::from_be_bytes(random));
        let replies = Arc::new(Replies::default());
        let options = RouteOptions::new(topic.as_str()).qos(QoS::AtLeastOnce);
        let route = session.route(&options, Arc::clone(&replies) as Arc<dyn Target>)?;
        Ok(Self { topic: topic.into(), replies, route })
    }
}

/// Counts of a session's requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestStats {
    /// Requests whose answers are awaited; at most [`REQUESTS_MAX`].
    pub pending: usize,
    /// Answers that came too late, or to nothing that was asked. They are dropped.
    pub late: u64,
}

fn needs_v5(session: &Session, what: &'static str) -> Result<(), Error> {
    if session.shared().options.version == Version::V5 {
        return Ok(());
    }
    let remedy = "MQTT 3 messages carry no response topic: have the session speak MQTT 5".to_owned();
    Err(Error::Invalid { what, given: session.name().to_owned(), remedy })
}

/// Requests.
impl Session {
    /// Publishes a request and waits for its answer, up to `timeout`. QoS 1; see [`Session::request_message`].
    pub fn request(
        &self,
        topic: impl Into<Topic>,
        payload: impl Into<Bytes>,
        timeout: Duration,
    ) -> Result<Message, Error> {
        self.request_message(Message::new(topic, payload).qos(QoS::AtLeastOnce), timeout)
    }

    /// The same with any message; its response topic and correlation data are set here.
    ///
    /// The first request of a session makes a subscription for all answers, on a topic of its own; it begins with the
    /// broker's Response Information where the session asked for that ([`crate::SessionBuilder::response_information`])
    /// and got some, else with `responses/`.
    ///
    /// # Errors
    /// [`Error::TimedOut`] when no answer came in time; one that comes later is dropped and counted. At QoS 1 and 2
    /// [`Error::Refused`] with [`ReasonCode::NoMatchingSubscribers`] at once when the broker says that nobody is there to
    /// answer. [`Error::Full`] while [`REQUESTS_MAX`] answers are awaited. [`Error::Invalid`] in a session of MQTT 3.
    pub fn request_message(&self, message: Message, timeout: Duration) -> Result<Message, Error> {
        let future = pin!(self.request_async(message));
        block_on(future, timeout).unwrap_or(Err(Error::TimedOut(timeout)))
    }

    /// The same for a task of any runtime, whose timers it uses to give up: dropping it leaves nothing behind.
    pub async fn request_async(&self, mut message: Message) -> Result<Message, Error> {
        needs_v5(self, "a request by session")?;
        let requester = self.requester().await?;
        requester.route.subscribed().await?;
        let ticket = requester.replies.expect()?;
        let properties = message.properties.get_or_insert_with(|| Box::new(MessageProperties::default()));
        properties.response_topic = Some(requester.topic.clone());
        properties.correlation_data = Some(Bytes::copy_from_slice(&ticket.key.to_be_bytes()));
        let mut delivery = Some(self.publish_async(message).await?);
        poll_fn(|context| {
            if let Poll::Ready(answer) = ticket.slot.poll(context) {
                return Poll::Ready(answer);
            }
            // What the broker said of the request, until it said so.
            match delivery.as_mut().map(|delivery| Pin::new(delivery).poll(context)) {
                Some(Poll::Ready(Ok(ReasonCode::NoMatchingSubscribers))) => {
                    Poll::Ready(Err(Error::Refused(ReasonCode::NoMatchingSubscribers)))
                }
                Some(Poll::Ready(Err(error))) => Poll::Ready(Err(error)),
                Some(Poll::Ready(Ok(_))) => {
                    delivery = None;
                    Poll::Pending
                }
                Some(Poll::Pending) | None => Poll::Pending,
            }
        })
        .await
    }

    /// Counts of its requests.
    pub fn requests(&self) -> RequestStats {
        let Some(requester) = self.0.requester.get() else { return RequestStats::default() };
        let pending = requester.replies.lock().requests.len();
        RequestStats { pending, late: requester.replies.late.load(Ordering::Relaxed) }
    }

    async fn requester(&self) -> Result<&Requester, Error> {
        if self.0.requester.get().is_none() {
            // Before the CONNACK the Response Information is not known.
            self.ready().await?;
        }
        if let Some(requester) = self.0.requester.get() {
            return Ok(requester);
        }
        // Of several that are made at once, one stays.
        let requester = Box::new(Requester::new(self)?);
        Ok(self.0.requester.get_or_init(|| requester))
    }
}

/// What answers requests. Dropping it ends that.
#[must_use = "a responder stops when it is dropped"]
#[derive(Debug)]
pub struct Responder {
    route: Route,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    answered: AtomicU64,
    unanswerable: AtomicU64,
    failed: AtomicU64,
}

impl Responder {
    /// Its route, to ask and to wait.
    pub fn route(&self) -> &Route {
        &self.route
    }

    /// As [`Route::wait_subscribed`].
    pub fn wait_subscribed(&self, timeout: Duration) -> Result<(), Error> {
        self.route.wait_subscribed(timeout)
    }

    /// Requests that were answered.
    pub fn answered(&self) -> u64 {
        self.counts.answered.load(Ordering::Relaxed)
    }

    /// Messages that named no topic for an answer: they were left alone.
    pub fn unanswerable(&self) -> u64 {
        self.counts.unanswerable.load(Ordering::Relaxed)
    }

    /// Answers that could not be published.
    pub fn failed(&self) -> u64 {
        self.counts.failed.load(Ordering::Relaxed)
    }

    /// Lets it live as long as its session.
    pub fn detach(self) {
        self.route.detach();
    }
}

/// Responses.
impl Session {
    /// Answers requests whose topic matches with the payload that a function makes of them, on a thread of the manager's
    /// pool. An answer has its request's QoS. Several programs share the work with a filter like
    /// `$share/group/filter`.
    pub fn respond<P: Into<Bytes>>(
        &self,
        filter: impl Into<RouteOptions>,
        mut function: impl FnMut(&Received) -> P + Send + 'static,
    ) -> Result<Responder, Error> {
        self.respond_with(filter, move |request| Some(Message::new("", function(request)).qos(request.qos)))
    }

    /// The same with a function that makes the whole answer, or none; the topic and the correlation data are set here.
    pub fn respond_with(
        &self,
        filter: impl Into<RouteOptions>,
        mut function: impl FnMut(&Received) -> Option<Message> + Send + 'static,
    ) -> Result<Responder, Error> {
        needs_v5(self, "a responder of session")?;
        let counts = Arc::new(Counts::default());
        let (told, session) = (Arc::clone(&counts), self.clone());
        let route = self.handle(filter, move |mut request| {
            let Some((topic, correlation)) = return_address(&request) else {
                told.unanswerable.fetch_add(1, Ordering::Relaxed);
                return request.ack();
            };
            if let Some(mut answer) = function(&request) {
                answer.topic = topic;
                if correlation.is_some() {
                    let properties =
                        answer.properties.get_or_insert_with(|| Box::new(MessageProperties::default()));
                    properties.correlation_data = correlation;
                }
                let count = match session.send(answer) {
                    Ok(()) => &told.answered,
                    Err(error) => {
                        tracing::debug!(session = session.name(), %error, "an answer was not published");
                        &told.failed
                    }
                };
                count.fetch_add(1, Ordering::Relaxed);
            }
            request.ack();
        })?;
        Ok(Responder { route, counts })
    }
}

/// Where the answer to a request goes, and what it repeats.
fn return_address(request: &Received) -> Option<(Topic, Option<Bytes>)> {
    let properties = request.properties.as_ref()?;
    let topic = properties.response_topic.as_ref()?;
    check_name(topic.as_bytes()).ok()?;
    Some((topic.clone(), properties.correlation_data.clone()))
}

/// Wakes a thread.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits for a future on this thread; none when time ran out.
fn block_on<F: Future>(mut future: Pin<&mut F>, timeout: Duration) -> Option<F::Output> {
    let deadline = Instant::now().checked_add(timeout);
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return Some(output);
        }
        match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
            None => std::thread::park(),
            Some(Duration::ZERO) => return None,
            Some(left) => std::thread::park_timeout(left),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(correlation: Option<&[u8]>, payload: &'static str) -> Received {
        let correlation_data = correlation.map(Bytes::copy_from_slice);
        let properties = MessageProperties { correlation_data, ..MessageProperties::default() };
        let message = Message::new("t", payload).properties(properties);
        Received { message, session: "s".into(), dup: false, subscription_ids: Vec::new(), ack: None }
    }

    #[test]
    fn answers_find_their_requests() {
        let replies = Arc::new(Replies::default());
        let (one, two) = (replies.expect().unwrap(), replies.expect().unwrap());
        let of = |ticket: &Ticket| ticket.key.to_be_bytes();
        let mut late = answer(Some(&of(&two)), "2 again");
        late.message.properties = None;
        replies.put(&mut vec![
            answer(Some(&of(&two)), "2"),
            answer(Some(&of(&two)), "2 again"),
            answer(Some(b"unknown!"), ""),
            answer(Some(b"short"), ""),
            answer(None, ""),
            late,
            answer(Some(&of(&one)), "1"),
        ]);
        assert_eq!(one.slot.get().unwrap().unwrap().payload, "1");
        assert_eq!(two.slot.get().unwrap().unwrap().payload, "2");
        assert_eq!(replies.late.load(Ordering::Relaxed), 5);
    }

    #[test]
    fn who_waits_no_longer_leaves_nothing_behind() {
        let replies = Arc::new(Replies::default());
        let ticket = replies.expect().unwrap();
        let key = ticket.key.to_be_bytes();
        drop(ticket);
        assert_eq!(replies.lock().requests.len(), 0);
        replies.put(&mut vec![answer(Some(&key), "")]);
        assert_eq!(replies.late.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn requests_are_bounded_and_end_with_their_session() {
        let replies = Arc::new(Replies::default());
        let tickets: Vec<_> = (0..REQUESTS_MAX).map(|_| replies.expect().unwrap()).collect();
        assert!(matches!(replies.expect(), Err(Error::Full { held: REQUESTS_MAX })));
        replies.end();
        assert!(tickets.iter().all(|ticket| matches!(ticket.slot.get(), Some(Err(Error::Gone)))));
        assert!(matches!(replies.expect(), Err(Error::Gone)));
    }

    #[test]
    fn return_addresses() {
        let with = |topic: Option<&str>| {
            let mut request = answer(Some(b"c"), "");
            request.message.properties.as_mut().unwrap().response_topic = topic.map(Topic::from);
            return_address(&request)
        };
        assert_eq!(with(Some("r/1")), Some((Topic::from("r/1"), Some(Bytes::from("c")))));
        for bad in [None, Some(""), Some("r/+")] {
            assert_eq!(with(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_thread_waits_for_a_future() {
        let slot = Arc::new(Slot::<u32>::default());
        let wait = |timeout| block_on(pin!(poll_fn(|context| slot.poll(context))), timeout);
        assert_eq!(wait(Duration::ZERO), None);
        let other = Arc::clone(&slot);
        std::thread::scope(|scope| {
            scope.spawn(move || other.settle(7));
            assert_eq!(wait(Duration::MAX), Some(7));
        });
    }
}
