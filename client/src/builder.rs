//! From options to a session.

use std::fmt::Display;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ringmq_codec::{REMAINING_LENGTH_MAX, Version, check_name};

use crate::address::Address;
use crate::auth::{Authenticator, Credentials, CredentialsProvider, CredentialsSource};
use crate::error::Error;
use crate::link::PUBLICATION_IDS;
use crate::message::MessageProperties;
use crate::options::{Backoff, LostSession, SessionOptions, Will};
use crate::store::Store;
use crate::tls::Tls;

/// The longest string that MQTT can carry.
const STRING_BYTES_MAX: usize = 65_535;
/// The longest client id of MQTT 3.1.
const CLIENT_ID_V31_BYTES_MAX: usize = 23;
/// The longest of the times that are not MQTT's own: ten years.
const TIME_MS_MAX: u64 = 10 * 365 * 24 * 60 * 60 * 1000;
/// The smallest packet bound that is accepted: less would not take a CONNACK with its properties.
const PACKET_BYTES_MIN: u32 = 128;
/// The largest growth of the backoff, in percent.
const BACKOFF_FACTOR_PERCENT_MAX: u32 = 10_000;

/// Describes a session; [`crate::Manager::add`] checks the whole and makes it.
///
/// Every option has a default that suits most programs. Of wrong ones the first is reported, with what to write
/// instead.
#[derive(Clone, Debug)]
pub struct SessionBuilder {
    options: SessionOptions,
    addresses: Vec<String>,
    client_id: Option<String>,
    credentials: Credentials,
    provider: Option<Arc<dyn CredentialsProvider>>,
    tls: Option<Tls>,
    sources: Vec<IpAddr>,
    is_paused: bool,
    /// The first value that was out of its range.
    fault: Option<Error>,
}

/// A session that was described without a fault.
#[derive(Debug)]
pub(crate) struct Plan {
    pub options: SessionOptions,
    pub addresses: Vec<Address>,
    pub tls: Tls,
    pub sources: Vec<IpAddr>,
    pub is_paused: bool,
}

fn invalid(what: &'static str, given: impl Display, remedy: impl Into<String>) -> Error {
    Error::Invalid { what, given: given.to_string(), remedy: remedy.into() }
}

/// The three forms.
impl SessionBuilder {
    /// A session of this name, without an address yet. The name tells it from others of its manager and, unless
    /// [`SessionBuilder::client_id`] says otherwise, is its Client Identifier.
    pub fn new(name: impl Into<String>) -> Self {
        let name: String = name.into();
        Self {
            options: SessionOptions::new(Arc::from(name), Vec::new()),
            addresses: Vec::new(),
            client_id: None,
            credentials: Credentials::default(),
            provider: None,
            tls: None,
            sources: Vec::new(),
            is_paused: false,
            fault: None,
        }
    }

    /// A session with one broker and defaults for the rest.
    pub fn quick(name: impl Into<String>, address: impl Into<String>) -> Self {
        Self::new(name).broker(address)
    }

    /// A session with one broker, spoken to over TLS, and a login there.
    pub fn secure(name: impl Into<String>, address: impl Into<String>, tls: Tls, login: Credentials) -> Self {
        let mut builder = Self::new(name).broker(address).tls(tls);
        builder.credentials = login;
        builder
    }
}

/// Where to, and who.
impl SessionBuilder {
    /// Adds a broker's address: `mqtt://host`, `mqtts://host`, `ws://host/path`, `wss://host/path`, with
    /// `:port` where it is not 1883, 8883, 80 or 443, or `unix:/path`. Several are tried in order, until one
    /// accepts.
    pub fn broker(mut self, address: impl Into<String>) -> Self {
        self.addresses.push(address.into());
        self
    }

    /// The version of MQTT to speak. Default 5.
    pub fn version(mut self, version: Version) -> Self {
        self.options.version = version;
        self
    }

    /// The Client Identifier. Default the session's name. An empty one has the broker assign one, which MQTT 3.1
    /// does not know, and 3.1.1 with clean sessions only.
    pub fn client_id(mut self, id: impl Into<String>) -> Self {
        self.client_id = Some(id.into());
        self
    }

    /// The user name. Default none.
    pub fn user(mut self, name: impl Into<String>) -> Self {
        self.credentials.user = Some(name.into());
        self
    }

    /// The password, text or any bytes. Default none. MQTT 3 allows it with a user name only.
    pub fn password(mut self, password: impl Into<Bytes>) -> Self {
        self.credentials.password = Some(password.into());
        self
    }

    /// Asks for user name and password before each connection, on a thread where that may block.
    pub fn credentials_provider(mut self, provider: Arc<dyn CredentialsProvider>) -> Self {
        self.provider = Some(provider);
        self
    }

    /// Authenticates by a method of MQTT 5's enhanced authentication. Default none.
    pub fn authenticator(mut self, authenticator: Arc<dyn Authenticator>) -> Self {
        self.options.authenticator = Some(authenticator);
        self
    }

    /// What to show to brokers at `mqtts://` and `wss://` addresses, and to ask of them. Default: trust whom the
    /// system trusts.
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Adds a local address to connect from; several are used in turn. Default the kernel's choice.
    pub fn source(mut self, address: IpAddr) -> Self {
        self.sources.push(address);
        self
    }
}

/// The session at the broker.
impl SessionBuilder {
    /// Resumes what the broker kept of an earlier run, instead of starting clean. MQTT 3 sessions are then kept
    /// by the broker whenever the connection ends. Default clean.
    pub fn resume(mut self) -> Self {
        self.options.clean_start = false;
        self
    }

    /// How long the broker keeps the session without a connection, in whole seconds (Session Expiry Interval, MQTT
    /// 5); 4,294,967,295 s is for ever. Default 0 s.
    pub fn session_expiry(mut self, time: Duration) -> Self {
        match u32::try_from(time.as_secs()) {
            Ok(seconds) => self.options.session_expiry_s = seconds,
            Err(_) => {
                self.fault("session_expiry", time.as_secs(), "at most 4,294,967,295 s, which is for ever")
            }
        }
        self
    }

    /// After how long without a packet to send a PINGREQ, in whole seconds up to 65,535 s; 0 sends none. Default
    /// 60 s.
    pub fn keep_alive(mut self, time: Duration) -> Self {
        match u16::try_from(time.as_secs()) {
            Ok(seconds) => self.options.keep_alive_s = seconds,
            Err(_) => self.fault("keep_alive", time.as_secs(), "at most 65,535 s"),
        }
        self
    }

    /// How long a PINGRESP may take before the connection counts as lost. Default 30 s.
    pub fn ping_timeout(mut self, time: Duration) -> Self {
        self.options.ping_timeout_ms = self.time_ms("ping_timeout", time, 1);
        self
    }

    /// Has the message published by the broker should the connection end without a goodbye. Default none.
    pub fn will(mut self, will: Will) -> Self {
        self.options.will = Some(Box::new(will));
        self
    }

    /// Adds a User Property to the CONNECT (MQTT 5). Default none.
    pub fn connect_property(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.options.connect_user_properties.push((name.into(), value.into()));
        self
    }

    /// Asks the broker to leave out reasons in words (MQTT 5). By default it may send them.
    pub fn no_problem_information(mut self) -> Self {
        self.options.request_problem_information = false;
        self
    }

    /// Asks the broker for Response Information (MQTT 5). By default it sends none.
    pub fn response_information(mut self) -> Self {
        self.options.request_response_information = true;
        self
    }
}

/// What outlives the connection, or the process.
impl SessionBuilder {
    /// Keeps what is under way in a store; see [`crate::store`]. Default none: it is kept in memory, as long as the
    /// session is not removed.
    pub fn store(mut self, store: Arc<dyn Store>) -> Self {
        self.options.store = Some(store);
        self
    }
}

/// Connections: how long, how often.
impl SessionBuilder {
    /// Waits for [`crate::Session::connect`] before it connects, so that routes and stores can be set up first. By
    /// default it connects at once.
    pub fn paused(mut self) -> Self {
        self.is_paused = true;
        self
    }

    /// How long a connection may take, CONNACK included. Default 30 s.
    pub fn connect_timeout(mut self, time: Duration) -> Self {
        self.options.connect_timeout_ms = self.time_ms("connect_timeout", time, 1);
        self
    }

    /// How long the broker may take nothing of what is sent before the connection counts as lost, and how long
    /// [`crate::Session::publish`] waits for room. Default 30 s.
    pub fn write_timeout(mut self, time: Duration) -> Self {
        self.options.write_timeout_ms = self.time_ms("write_timeout", time, 1);
        self
    }

    /// How long to wait between tries to connect. Default from 2 s to 120 s, 1.5 times longer each time, of which a
    /// random part is waited.
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.options.backoff = backoff;
        self
    }

    /// Gives up when the connection is lost, or the first does not come about. By default it is tried until it
    /// works, unless the broker's refusal is final.
    pub fn no_reconnect(mut self) -> Self {
        self.options.reconnect = false;
        self
    }

    /// Subscribes once, and not again after a reconnect to a broker that does not know the session. By default all
    /// subscriptions are made again.
    pub fn forget_subscriptions(mut self) -> Self {
        self.options.resume_subscriptions = false;
        self
    }

    /// What becomes of messages under way when the broker does not know the session any more. Default they are
    /// sent again.
    pub fn lost_session(mut self, policy: LostSession) -> Self {
        self.options.lost_session = policy;
        self
    }
}

/// Bounds.
impl SessionBuilder {
    /// Messages that may wait to be sent while there is a connection; at least 1. Default 10,000.
    pub fn queue_messages_max(mut self, max: usize) -> Self {
        self.options.queue_messages_max = max;
        self
    }

    /// Messages that may wait to be sent while there is no connection. Default 1,000.
    pub fn offline_messages_max(mut self, max: usize) -> Self {
        self.options.offline_messages_max = max;
        self
    }

    /// Messages sent and not acknowledged, 1 to 61,439; the broker's Receive Maximum (MQTT 5) bounds them too.
    /// Default 1,000: brokers of MQTT 3 cannot say how many they take, and mosquitto drops what is beyond its
    /// `max_queued_messages` of 1,000.
    pub fn inflight_messages_max(mut self, max: u16) -> Self {
        self.options.inflight_messages_max = max;
        self
    }

    /// Bytes of the largest packet that is accepted from the broker (announced as Maximum Packet Size), and of the
    /// largest message that is published; 128 B to 256 MiB. Default 16 MiB.
    pub fn packet_bytes_max(mut self, max: u32) -> Self {
        self.options.packet_bytes_max = max;
        self
    }

    /// QoS 1 and 2 messages that the broker may send before the first is acknowledged (Receive Maximum, MQTT 5); at
    /// least 1. Default 65,535.
    pub fn receive_maximum(mut self, max: u16) -> Self {
        self.options.receive_maximum = max;
        self
    }

    /// Topic aliases that the broker may use (Topic Alias Maximum, MQTT 5). Default 16.
    pub fn topic_alias_maximum(mut self, max: u16) -> Self {
        self.options.topic_alias_maximum = max;
        self
    }

    /// Topic aliases to use towards a broker that allows them (MQTT 5). Default 0: none.
    pub fn topic_aliases_out_max(mut self, max: u16) -> Self {
        self.options.topic_aliases_out_max = max;
        self
    }

    /// Leaves it to the program to acknowledge QoS 1 and 2 messages, with [`crate::Received::ack`]. By default they
    /// are acknowledged when they reach their routes.
    pub fn manual_acks(mut self) -> Self {
        self.options.manual_acks = true;
        self
    }
}

/// The checks.
impl SessionBuilder {
    fn fault(&mut self, what: &'static str, given: impl Display, remedy: &str) {
        self.fault.get_or_insert_with(|| invalid(what, given, remedy));
    }

    fn time_ms(&mut self, what: &'static str, time: Duration, min_ms: u64) -> u64 {
        match u64::try_from(time.as_millis()) {
            Ok(ms) if (min_ms..=TIME_MS_MAX).contains(&ms) => ms,
            Ok(_) | Err(_) => {
                self.fault(what, format!("{time:?}"), "from 1 ms to ten years");
                min_ms
            }
        }
    }

    /// Checks everything that can be known without the network.
    pub(crate) fn plan(mut self) -> Result<Plan, Error> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        string("the session's name", &self.options.name)?;
        if self.options.name.is_empty() {
            return Err(invalid("the session's name", "", "one byte at least"));
        }
        if self.addresses.is_empty() {
            return Err(invalid(
                "the list of brokers",
                "",
                "name one, as in .broker(\"mqtt://127.0.0.1:1883\")",
            ));
        }
        let addresses: Vec<Address> =
            self.addresses.iter().map(|given| Address::parse(given)).collect::<Result<_, _>>()?;
        if self.tls.is_some() && !addresses.iter().any(Address::speaks_tls) {
            return Err(invalid(
                "an address without TLS",
                &self.addresses[0],
                "write mqtts:// or wss://, or leave out the TLS options",
            ));
        }
        if let Some(id) = self.client_id.take() {
            self.options.client_id = id.into();
        }
        check_client_id(&self.options)?;
        check_bounds(&self.options)?;
        if let Some(will) = &self.options.will {
            check_will(will, self.options.version)?;
        }
        if self.options.version != Version::V5 {
            check_version_3(&self.options)?;
        }
        if let Some(authenticator) = &self.options.authenticator {
            string("the authentication method", authenticator.method())?;
        }
        self.options.credentials = self.login()?;
        self.options.addresses = self.addresses.into_iter().map(Box::from).collect();
        let tls = self.tls.unwrap_or_default();
        let Self { options, sources, is_paused, .. } = self;
        Ok(Plan { options, addresses, tls, sources, is_paused })
    }

    fn login(&mut self) -> Result<CredentialsSource, Error> {
        let fixed = std::mem::take(&mut self.credentials);
        if fixed == Credentials::default() {
            return Ok(self.provider.take().map_or(CredentialsSource::None, CredentialsSource::Provider));
        }
        if self.provider.is_some() {
            return Err(invalid(
                "a user or password beside a credentials provider",
                fixed.user.unwrap_or_default(),
                "give one of the two",
            ));
        }
        string("the user name", fixed.user.as_deref().unwrap_or_default())?;
        if fixed.password.as_ref().is_some_and(|password| password.len() > STRING_BYTES_MAX) {
            return Err(invalid("the password", "***", "at most 65,535 bytes"));
        }
        if fixed.user.is_none() && self.options.version != Version::V5 {
            return Err(invalid(
                "a password without a user name",
                "***",
                "MQTT 3 wants a user(), MQTT 5 does not",
            ));
        }
        Ok(CredentialsSource::Fixed(Box::new(fixed)))
    }
}

/// What every string of MQTT keeps to.
fn string(what: &'static str, given: &str) -> Result<(), Error> {
    if given.len() > STRING_BYTES_MAX {
        return Err(invalid(what, format_args!("{} bytes", given.len()), "at most 65,535 bytes"));
    }
    if given.contains('\0') {
        return Err(invalid(what, given.escape_default(), "leave out the null character"));
    }
    Ok(())
}

fn check_client_id(options: &SessionOptions) -> Result<(), Error> {
    const WHAT: &str = "the client id";
    let id = &*options.client_id;
    string(WHAT, id)?;
    let is_empty = id.is_empty();
    match options.version {
        Version::V31 if is_empty || id.len() > CLIENT_ID_V31_BYTES_MAX => {
            Err(invalid(WHAT, id, "MQTT 3.1 wants 1 to 23 bytes: set client_id()"))
        }
        Version::V311 | Version::V5 if is_empty && !options.clean_start => {
            Err(invalid(WHAT, id, "the broker finds a session to resume() by its id: set client_id()"))
        }
        Version::V31 | Version::V311 | Version::V5 => Ok(()),
    }
}

fn check_bounds(options: &SessionOptions) -> Result<(), Error> {
    let at_least_one = |what: &'static str, given: usize| {
        if given == 0 { Err(invalid(what, given, "at least 1")) } else { Ok(()) }
    };
    at_least_one("queue_messages_max", options.queue_messages_max)?;
    at_least_one("receive_maximum", usize::from(options.receive_maximum))?;
    let inflight = options.inflight_messages_max;
    if !(1..PUBLICATION_IDS).contains(&inflight) {
        return Err(invalid("inflight_messages_max", inflight, "from 1 to 61,439"));
    }
    let packet = options.packet_bytes_max;
    if packet < PACKET_BYTES_MIN || packet as usize > REMAINING_LENGTH_MAX as usize + 5 {
        return Err(invalid("packet_bytes_max", packet, "from 128 B to 256 MiB (268,435,460 B)"));
    }
    let Backoff { first_ms, max_ms, factor_percent, jitter: _ } = options.backoff;
    if first_ms == 0 || first_ms > max_ms || max_ms > TIME_MS_MAX {
        let remedy = "first_ms from 1 to max_ms, and max_ms at most ten years";
        return Err(invalid("backoff", format_args!("{first_ms} ms to {max_ms} ms"), remedy));
    }
    if !(100..=BACKOFF_FACTOR_PERCENT_MAX).contains(&factor_percent) {
        return Err(invalid("backoff.factor_percent", factor_percent, "from 100 (no growth) to 10,000"));
    }
    for (name, value) in &options.connect_user_properties {
        string("a connect property's name", name)?;
        string("a connect property's value", value)?;
    }
    Ok(())
}

fn check_will(will: &Will, version: Version) -> Result<(), Error> {
    if let Err(fault) = check_name(will.topic.as_bytes()) {
        return Err(invalid("the will's topic", &will.topic, fault.to_string()));
    }
    if will.payload.len() > STRING_BYTES_MAX {
        return Err(invalid("the will's payload", will.payload.len(), "at most 65,535 bytes"));
    }
    let is_plain = will.delay_s == 0
        && will.message_expiry_s.is_none()
        && will.properties == MessageProperties::default();
    if version != Version::V5 && !is_plain {
        return Err(only_5("a delay, expiry or properties of the will"));
    }
    Ok(())
}

fn only_5(what: &'static str) -> Error {
    invalid(what, "MQTT 3", "only MQTT 5 has it: leave it out, or set version(Version::V5)")
}

/// Options that say nothing in MQTT 3.
fn check_version_3(options: &SessionOptions) -> Result<(), Error> {
    let defaults = SessionOptions::new(Arc::from(""), Vec::new());
    let table = [
        (options.session_expiry_s != 0, "session_expiry"),
        (options.authenticator.is_some(), "authenticator"),
        (options.receive_maximum != defaults.receive_maximum, "receive_maximum"),
        (options.topic_alias_maximum != defaults.topic_alias_maximum, "topic_alias_maximum"),
        (options.topic_aliases_out_max != 0, "topic_aliases_out_max"),
        (!options.request_problem_information, "no_problem_information"),
        (options.request_response_information, "response_information"),
        (!options.connect_user_properties.is_empty(), "connect_property"),
    ];
    match table.iter().find(|(is_set, _)| *is_set) {
        Some((_, what)) => Err(only_5(what)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
