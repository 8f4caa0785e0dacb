//! What the builder accepts, and what it says of the rest.

use std::fmt;

use super::*;
use crate::auth::{AuthError, Exchange};

fn quick() -> SessionBuilder {
    SessionBuilder::quick("s", "mqtt://127.0.0.1")
}

#[derive(Debug)]
struct Method(&'static str);

impl Authenticator for Method {
    fn method(&self) -> &str {
        self.0
    }

    fn begin(&self) -> Box<dyn Exchange> {
        unreachable!("nothing connects here")
    }
}

#[derive(Debug)]
struct Provider;

impl CredentialsProvider for Provider {
    fn credentials(&self) -> Result<Credentials, AuthError> {
        Ok(Credentials::default())
    }
}

fn check_refused(table: Vec<(SessionBuilder, &str)>) {
    for (builder, expect) in table {
        let error = builder.plan().expect_err(expect);
        assert!(matches!(error, Error::Invalid { .. }), "{error:?}");
        assert!(error.to_string().contains(expect), "{error} lacks {expect}");
    }
}

#[test]
fn defaults_are_those_that_are_documented() {
    let plan = quick().plan().unwrap();
    let options = &plan.options;
    assert_eq!((&*options.name, &*options.client_id), ("s", "s"));
    assert_eq!(options.version, Version::V5);
    assert!(options.clean_start && options.reconnect && options.resume_subscriptions && !options.manual_acks);
    assert_eq!((options.session_expiry_s, options.keep_alive_s), (0, 60));
    let times = [options.ping_timeout_ms, options.connect_timeout_ms, options.write_timeout_ms];
    assert_eq!(times, [30_000; 3]);
    assert_eq!(
        options.backoff,
        Backoff { first_ms: 2_000, max_ms: 120_000, factor_percent: 150, jitter: true }
    );
    assert_eq!((options.queue_messages_max, options.offline_messages_max), (10_000, 1_000));
    assert_eq!((options.inflight_messages_max, options.receive_maximum), (1_000, 65_535));
    assert_eq!(options.packet_bytes_max, 16 << 20);
    assert_eq!((options.topic_alias_maximum, options.topic_aliases_out_max), (16, 0));
    assert_eq!(plan.tls, Tls::system_roots());
}

#[test]
fn every_option_reaches_the_session() {
    let will = Will { topic: "gone".into(), ..Will::default() };
    let plan = SessionBuilder::secure("s", "mqtts://a", Tls::ca_file("ca.pem"), Credentials::new("u", "p"))
        .broker("unix:/b")
        .version(Version::V5)
        .client_id("other")
        .resume()
        .session_expiry(Duration::from_secs(7))
        .keep_alive(Duration::from_secs(8))
        .ping_timeout(Duration::from_millis(9))
        .connect_timeout(Duration::from_millis(10))
        .write_timeout(Duration::from_millis(11))
        .backoff(Backoff { first_ms: 12, max_ms: 13, factor_percent: 100, jitter: false })
        .no_reconnect()
        .forget_subscriptions()
        .lost_session(LostSession::Fail)
        .queue_messages_max(14)
        .offline_messages_max(0)
        .inflight_messages_max(15)
        .packet_bytes_max(128)
        .receive_maximum(16)
        .topic_alias_maximum(0)
        .topic_aliases_out_max(17)
        .no_problem_information()
        .response_information()
        .connect_property("k", "v")
        .will(will.clone())
        .manual_acks()
        .source("127.0.0.2".parse().unwrap())
        .authenticator(Arc::new(Method("PLAIN")))
        .plan()
        .unwrap();
    let options = plan.options;
    assert_eq!(options.addresses, [Box::<str>::from("mqtts://a"), Box::from("unix:/b")]);
    assert_eq!(plan.addresses.len(), 2);
    assert_eq!(plan.tls, Tls::ca_file("ca.pem"));
    assert_eq!(plan.sources.len(), 1);
    assert_eq!(&*options.client_id, "other");
    assert!(
        matches!(&options.credentials, CredentialsSource::Fixed(login) if **login == Credentials::new("u", "p"))
    );
    assert!(
        !options.clean_start && !options.reconnect && !options.resume_subscriptions && options.manual_acks
    );
    assert!(!options.request_problem_information && options.request_response_information);
    assert_eq!((options.session_expiry_s, options.keep_alive_s), (7, 8));
    assert_eq!((options.ping_timeout_ms, options.connect_timeout_ms, options.write_timeout_ms), (9, 10, 11));
    assert_eq!((options.backoff.first_ms, options.backoff.max_ms), (12, 13));
    assert_eq!(options.lost_session, LostSession::Fail);
    assert_eq!((options.queue_messages_max, options.offline_messages_max), (14, 0));
    assert_eq!((options.inflight_messages_max, options.receive_maximum), (15, 16));
    assert_eq!((options.packet_bytes_max, options.topic_alias_maximum), (128, 0));
    assert_eq!(options.topic_aliases_out_max, 17);
    assert_eq!(options.connect_user_properties, [("k".to_owned(), "v".to_owned())]);
    assert_eq!(options.will, Some(Box::new(will)));
    assert!(options.authenticator.is_some());
    let plan = quick().credentials_provider(Arc::new(Provider)).plan().unwrap();
    assert!(matches!(plan.options.credentials, CredentialsSource::Provider(_)));
}

#[test]
fn values_out_of_range_are_refused() {
    let backoff =
        |first_ms, max_ms, factor_percent| Backoff { first_ms, max_ms, factor_percent, jitter: true };
    check_refused(vec![
        (SessionBuilder::quick("", "mqtt://h"), "the session's name"),
        (SessionBuilder::quick("a\0", "mqtt://h"), "null character"),
        (SessionBuilder::quick("x".repeat(65_536), "mqtt://h"), "at most 65,535 bytes"),
        (SessionBuilder::new("s"), ".broker("),
        (SessionBuilder::quick("s", "mqt://h"), "did you mean"),
        (quick().broker("nowhere"), "mqtt://nowhere"),
        (quick().keep_alive(Duration::from_secs(65_536)), "at most 65,535 s"),
        (quick().session_expiry(Duration::from_secs(1 << 32)), "for ever"),
        (quick().ping_timeout(Duration::ZERO), "ping_timeout"),
        (quick().connect_timeout(Duration::ZERO), "from 1 ms"),
        (quick().write_timeout(Duration::MAX), "ten years"),
        (quick().backoff(backoff(0, 1, 150)), "first_ms"),
        (quick().backoff(backoff(2, 1, 150)), "2 ms to 1 ms"),
        (quick().backoff(backoff(1, u64::MAX, 150)), "ten years"),
        (quick().backoff(backoff(1, 2, 99)), "factor_percent"),
        (quick().backoff(backoff(1, 2, 10_001)), "factor_percent"),
        (quick().queue_messages_max(0), "queue_messages_max"),
        (quick().inflight_messages_max(0), "from 1 to 61,439"),
        (quick().inflight_messages_max(PUBLICATION_IDS), "from 1 to 61,439"),
        (quick().packet_bytes_max(127), "128 B"),
        (quick().packet_bytes_max(u32::MAX), "268,435,460"),
        (quick().receive_maximum(0), "receive_maximum"),
        (quick().will(Will { topic: "a/+".into(), ..Will::default() }), "the will's topic"),
        (quick().will(Will::default()), "the will's topic"),
        (
            quick().will(Will { topic: "a".into(), payload: vec![0; 65_536].into(), ..Will::default() }),
            "the will's payload",
        ),
        (quick().password(vec![0; 65_536]), "the password"),
        (quick().user("a\0"), "the user name"),
        (quick().connect_property("a", "b\0"), "connect property's value"),
        (quick().authenticator(Arc::new(Method("\0"))), "the authentication method"),
    ]);
}

#[test]
fn combinations_that_mean_nothing_are_refused() {
    let v3 = || quick().version(Version::V311);
    let will = |delay_s| Will { topic: "a".into(), delay_s, ..Will::default() };
    check_refused(vec![
        (v3().session_expiry(Duration::from_secs(1)), "session_expiry"),
        (v3().receive_maximum(10), "receive_maximum"),
        (v3().topic_alias_maximum(10), "topic_alias_maximum"),
        (v3().topic_aliases_out_max(10), "topic_aliases_out_max"),
        (v3().no_problem_information(), "only MQTT 5"),
        (v3().response_information(), "response_information"),
        (v3().connect_property("a", "b"), "connect_property"),
        (v3().authenticator(Arc::new(Method("PLAIN"))), "authenticator"),
        (v3().password("p"), "user()"),
        (v3().will(will(1)), "only MQTT 5"),
        (v3().client_id("").resume(), "client_id()"),
        (quick().client_id("").resume(), "client_id()"),
        (quick().version(Version::V31).client_id(""), "1 to 23 bytes"),
        (quick().version(Version::V31).client_id("x".repeat(24)), "1 to 23 bytes"),
        (quick().tls(Tls::system_roots()), "mqtts://"),
        (quick().user("u").credentials_provider(Arc::new(Provider)), "one of the two"),
    ]);
    let accepted = [
        v3().client_id(""),
        v3().will(will(0)),
        v3().user("u").password("p"),
        quick().client_id(""),
        quick().password("p"),
        quick().will(will(1)),
        quick().version(Version::V31).client_id("x".repeat(23)),
        quick().broker("wss://h").tls(Tls::system_roots()),
    ];
    for builder in accepted {
        builder.plan().unwrap();
    }
}

#[test]
fn secrets_stay_out_of_debug_output() {
    let builder = quick().user("u").password("geheim");
    let shown: &dyn fmt::Debug = &builder;
    assert!(!format!("{shown:?}").contains("geheim"));
    assert!(!format!("{:?}", builder.plan().unwrap()).contains("geheim"));
}
