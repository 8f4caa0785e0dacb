//! CONNECT, CONNACK and authentication. MQTT 5 sections 3.1, 3.2, 3.15 and 4.12.

use std::num::{NonZeroU16, NonZeroU32};

use ringmq_codec::{
    Auth, ConnAck, ConnAckProperties, Connect, ConnectProperties, Frame, PayloadFormat, Property, QoS,
    ReasonCode, Version, Will as WillPacket,
};

use super::aliases::AliasesOut;
use super::receive::malformed;
use super::subscriptions::Memory;
use super::{Authenticating, End, Fault, Machine, Phase, Server, Sink, Words, breach, limits};
use crate::auth::{AuthError, Credentials};
use crate::error::Error;
use crate::link::StoreChange;
use crate::options::Will;

impl<T> Machine<T> {
    /// A connection opened: says CONNECT.
    pub fn open<S: Sink<Delivery = T>>(
        &mut self,
        credentials: &Credentials,
        sink: &mut S,
    ) -> Result<(), End> {
        assert_eq!(self.phase, Phase::Down, "a session has one connection");
        self.phase = Phase::Opened;
        self.connection += 1;
        self.server = Server::default();
        self.clock.begin(sink.now_ms());
        let first = self.begin_authenticating().map_err(End::Auth)?;
        let options = self.options.clone();
        let mut will_properties = Vec::new();
        let will = options.will.as_ref().map(|will| will_packet(will, &mut will_properties));
        let user: Vec<_> =
            options.connect_user_properties.iter().map(|(name, value)| (&**name, &**value)).collect();
        let method = options.authenticator.as_ref().map(|authenticator| authenticator.method().to_owned());
        let client_id = self.assigned_id.clone();
        let connect = Connect {
            version: options.version,
            clean_start: self.starts_clean(),
            keep_alive_s: options.keep_alive_s,
            client_id: client_id.as_deref().unwrap_or(&options.client_id),
            will,
            username: credentials.user.as_deref(),
            password: credentials.password.as_deref(),
            properties: ConnectProperties {
                session_expiry_s: options.session_expiry_s,
                receive_maximum: NonZeroU16::new(options.receive_maximum).unwrap_or(NonZeroU16::MIN),
                packet_bytes_max: NonZeroU32::new(options.packet_bytes_max)
                    .filter(|max| max.get() < limits::PACKET_BYTES_MAX),
                topic_alias_maximum: options.topic_alias_maximum,
                request_response_information: options.request_response_information,
                request_problem_information: options.request_problem_information,
                authentication_method: method.as_deref(),
                authentication_data: first.as_deref(),
                user: user[..].into(),
            },
        };
        self.write(sink, |out| connect.encode(out));
        Ok(())
    }

    /// Whether the server is to forget what it knows of the session: before MQTT 5 always or never.
    fn starts_clean(&self) -> bool {
        self.options.clean_start && !(self.version().is_v5() && self.resumes)
    }

    /// Begins an exchange; what its method says first.
    fn begin_authenticating(&mut self) -> Result<Option<Vec<u8>>, AuthError> {
        let Some(authenticator) = self.options.authenticator.as_ref().filter(|_| self.version().is_v5())
        else {
            return Ok(None);
        };
        let mut exchange = authenticator.begin();
        let first = check_data(exchange.first()?)?;
        self.authenticating = Some(Box::new(Authenticating { exchange, asker: None }));
        Ok(first)
    }

    pub(super) fn on_connack<S: Sink<Delivery = T>>(
        &mut self,
        frame: &Frame<'_>,
        sink: &mut S,
    ) -> Result<(), Fault> {
        let connack = ConnAck::decode(self.version(), frame).map_err(malformed)?;
        let properties = &connack.properties;
        if connack.reason != ReasonCode::Success {
            return Err(Fault::End(End::Refused(Words {
                reason: connack.reason,
                said: properties.reason_string.map(Box::from),
                server_reference: properties.server_reference.map(Box::from),
            })));
        }
        if connack.session_present && self.starts_clean() {
            return breach(ReasonCode::ProtocolError, "CONNACK resumes a session after a clean start");
        }
        self.finish_authenticating(properties.authentication_method, properties.authentication_data, sink)?;
        self.phase = Phase::Up;
        self.learn(properties);
        self.resumes = true;
        sink.connected(&connack);
        self.resume(connack.session_present, sink);
        Ok(())
    }

    /// What the server takes, and what it decided for us.
    fn learn(&mut self, properties: &ConnAckProperties<'_>) {
        let options = &self.options;
        self.server = Server {
            packet_bytes_max: properties.packet_bytes_max.map_or(limits::PACKET_BYTES_MAX, NonZeroU32::get),
            receive_maximum: properties.receive_maximum.map_or(u16::MAX, NonZeroU16::get),
            qos_max: properties.maximum_qos.unwrap_or(QoS::ExactlyOnce),
            has_retain: properties.retain_available.unwrap_or(true),
            has_wildcards: properties.wildcard_available.unwrap_or(true),
            has_shared: properties.shared_available.unwrap_or(true),
            has_subscription_ids: properties.subscription_ids_available.unwrap_or(true),
        };
        let keep_alive_s = properties.server_keep_alive_s.unwrap_or(options.keep_alive_s); // [MQTT-3.1.2-21]
        self.clock.keep_alive_ms = u64::from(keep_alive_s) * 1000;
        let aliases_max = options.topic_aliases_out_max.min(properties.topic_alias_maximum.unwrap_or(0));
        self.aliases_out = (aliases_max > 0).then(|| Box::new(AliasesOut::new(aliases_max)));
        if let Some(id) = properties.assigned_client_id {
            self.assigned_id = Some(id.into()); // [MQTT-3.1.3-7]
        }
    }

    /// Brings back what the session is to have.
    fn resume<S: Sink<Delivery = T>>(&mut self, session_present: bool, sink: &mut S) {
        // What is in flight is sent again as if a silent server knew it, which does no harm, and subscriptions are
        // made again as if it did not.
        let is_silent = self.version() == Version::V31 && !self.options.clean_start;
        let memory = match (session_present, is_silent) {
            (true, _) => Memory::Kept,
            (false, true) => Memory::Unknown,
            (false, false) => Memory::Lost,
        };
        if memory == Memory::Lost && self.incoming.forget() {
            sink.store(StoreChange::Forgotten);
        }
        for filter in self.subscriptions.begin(memory, self.options.resume_subscriptions) {
            sink.store(StoreChange::Unsubscribed(filter));
        }
        self.ask(sink);
        self.begin_window(memory != Memory::Lost, sink);
        self.pump(sink);
    }

    /// The server is satisfied; whether we are too.
    fn finish_authenticating<S: Sink<Delivery = T>>(
        &mut self,
        method: Option<&str>,
        data: Option<&[u8]>,
        sink: &mut S,
    ) -> Result<(), Fault> {
        let Some(mut authenticating) = self.authenticating.take() else {
            // Without a method of ours there is none of the server's. [MQTT-4.12.0-6]
            return match method {
                Some(_) => breach(ReasonCode::ProtocolError, "an authentication that was not asked for"),
                None => Ok(()),
            };
        };
        self.check_method(method)?;
        match authenticating.exchange.accepted(data) {
            Ok(()) => {
                if let Some(asker) = authenticating.asker {
                    sink.settled(asker, Ok(ReasonCode::Success));
                }
                Ok(())
            }
            Err(error) => {
                self.authenticating = Some(authenticating);
                Err(self.distrust(error, sink).into())
            }
        }
    }

    /// [MQTT-4.12.0-5]
    fn check_method(&self, method: Option<&str>) -> Result<(), Fault> {
        let ours = self.options.authenticator.as_ref().map(|authenticator| authenticator.method());
        if method != ours {
            let (theirs, ours) = (method.unwrap_or("none"), ours.unwrap_or("none"));
            return breach(
                ReasonCode::ProtocolError,
                format!("the authentication method is {theirs}, where {ours} was asked for"),
            );
        }
        Ok(())
    }

    /// Ends the connection since authentication failed on this side.
    fn distrust<S: Sink<Delivery = T>>(&mut self, error: AuthError, sink: &mut S) -> End {
        if let Some(asker) = self.authenticating.take().and_then(|authenticating| authenticating.asker) {
            sink.settled(asker, Err(Error::Connect(error.clone().into())));
        }
        self.say_disconnect(ReasonCode::NotAuthorized, sink);
        End::Auth(error)
    }

    pub(super) fn on_auth<S: Sink<Delivery = T>>(
        &mut self,
        frame: &Frame<'_>,
        sink: &mut S,
    ) -> Result<(), Fault> {
        let auth = Auth::decode(self.version(), frame).map_err(malformed)?;
        if self.authenticating.is_none() {
            return breach(ReasonCode::ProtocolError, "AUTH came without an authentication under way");
        }
        self.check_method(auth.method)?;
        match auth.reason {
            ReasonCode::ContinueAuthentication => {
                let authenticating = self.authenticating.as_mut().expect("it was just looked at");
                let answer = authenticating.exchange.answer(auth.data.unwrap_or(&[])).and_then(check_data);
                match answer {
                    Ok(data) => {
                        self.say_auth(ReasonCode::ContinueAuthentication, data.as_deref(), sink);
                        Ok(())
                    }
                    Err(error) => Err(self.distrust(error, sink).into()),
                }
            }
            ReasonCode::Success if self.phase == Phase::Up => {
                self.finish_authenticating(auth.method, auth.data, sink)
            }
            reason => breach(ReasonCode::ProtocolError, format!("AUTH came with the reason {reason}")),
        }
    }

    fn say_auth<S: Sink<Delivery = T>>(&mut self, reason: ReasonCode, data: Option<&[u8]>, sink: &mut S) {
        let options = self.options.clone();
        let method = options.authenticator.as_ref().map(|authenticator| authenticator.method());
        self.write(sink, |out| Auth { method, data, ..Auth::new(reason) }.encode(Version::V5, out));
    }

    /// Authenticates anew on the open connection. [MQTT-4.12.1-1]
    pub fn reauthenticate<S: Sink<Delivery = T>>(&mut self, asker: T, sink: &mut S) -> Result<(), End> {
        let invalid = |remedy: &str| Error::Invalid {
            what: "re-authentication",
            given: String::new(),
            remedy: remedy.into(),
        };
        let refusal = if self.options.authenticator.is_none() || !self.version().is_v5() {
            Some(invalid("the session needs MQTT 5 and an authenticator"))
        } else if self.phase != Phase::Up {
            Some(Error::Connect(crate::error::ConnectError::Lost))
        } else if self.authenticating.is_some() {
            Some(invalid("wait for the end of the one under way"))
        } else {
            None
        };
        if let Some(error) = refusal {
            sink.settled(asker, Err(error));
            return Ok(());
        }
        match self.begin_authenticating() {
            Ok(data) => {
                if let Some(authenticating) = &mut self.authenticating {
                    authenticating.asker = Some(asker);
                }
                self.say_auth(ReasonCode::ReAuthenticate, data.as_deref(), sink);
                Ok(())
            }
            Err(error) => {
                sink.settled(asker, Err(Error::Connect(error.clone().into())));
                Err(self.distrust(error, sink))
            }
        }
    }
}

/// Refuses authentication data that no packet can hold.
fn check_data(data: Option<Vec<u8>>) -> Result<Option<Vec<u8>>, AuthError> {
    match data {
        Some(data) if data.len() > limits::FIELD_BYTES_MAX => {
            Err(AuthError(format!("the method gave {} bytes, where MQTT allows up to 65,535", data.len())))
        }
        data => Ok(data),
    }
}

/// The will as CONNECT has it; its other properties go into `properties`.
fn will_packet<'a>(will: &'a Will, properties: &'a mut Vec<u8>) -> WillPacket<'a> {
    let more = &will.properties;
    if more.payload_is_text {
        Property::PayloadFormatIndicator(PayloadFormat::Utf8).encode(properties);
    }
    if let Some(content_type) = &more.content_type {
        Property::ContentType(content_type).encode(properties);
    }
    if let Some(topic) = &more.response_topic {
        Property::ResponseTopic(topic).encode(properties);
    }
    if let Some(data) = &more.correlation_data {
        Property::CorrelationData(data).encode(properties);
    }
    for (name, value) in &more.user {
        Property::UserProperty(name, value).encode(properties);
    }
    WillPacket {
        topic: &will.topic,
        payload: &will.payload,
        qos: will.qos,
        retain: will.retain,
        delay_s: will.delay_s,
        message_expiry_s: will.message_expiry_s,
        properties,
    }
}
