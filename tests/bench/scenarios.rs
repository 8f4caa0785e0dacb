//! Every scenario, against a broker in this process.

use std::net::SocketAddr;
use std::time::Duration;

use ringmq::{Broker, QoS};
use ringmq_codec::{QoS as Level, Version};
use ringmq_loadgen::file;
use ringmq_loadgen::measure::Kind;
use ringmq_loadgen::presets::Options;
use ringmq_loadgen::report::{Report, html, text};
use ringmq_loadgen::scenario::{Limit, Pace};

use super::{fine, options};

struct Served {
    broker: Broker,
    options: Options,
}

/// A broker, and the options to reach it.
fn served(shards: usize) -> Served {
    let address = SocketAddr::from(([127, 0, 0, 1], 0));
    let broker = Broker::builder().listen(address).shards(shards).start().unwrap();
    let options = options(broker.addresses()[0]);
    Served { broker, options }
}

impl Served {
    fn end(self) {
        self.broker.shutdown(Duration::from_secs(30)).unwrap();
    }
}

fn counts(report: &Report) -> (u64, u64, u64) {
    let messages = &report.messages;
    (messages.sent, messages.expected, messages.received)
}

#[test]
fn each_topology_delivers_what_was_sent_at_each_qos() {
    let served = served(1);
    for qos in [Level::AtMostOnce, Level::AtLeastOnce, Level::ExactlyOnce] {
        for version in [Version::V311, Version::V5] {
            let options = Options { publish_qos: qos, subscribe_qos: qos, version, ..served.options.clone() };
            let table = [
                (options.pairs(5).unwrap(), 3000),
                (options.fan_out(2, 4).unwrap(), 12_000),
                (options.fan_in(6, 2).unwrap(), 6000),
                (options.shared(4, 3).unwrap(), 3000),
            ];
            for (scenario, received) in table {
                let name = scenario.name.clone();
                let report = fine(scenario);
                assert_eq!(counts(&report), (3000, received, received), "{name} at {qos:?}");
                let phase = report.main_phase().unwrap();
                assert_eq!(phase.times_of(Kind::Latency).unwrap().count, received, "{name}");
                let acknowledged = if qos == Level::AtMostOnce { 0 } else { 3000 };
                assert_eq!(phase.counts.acknowledged, acknowledged, "{name}");
            }
        }
    }
    served.end();
}

#[test]
fn several_cores_and_shards_count_as_one() {
    let served = served(2);
    let mut options = served.options.clone();
    options.settings.threads = 2;
    for scenario in [options.pairs(5), options.fan_out(3, 4), options.fan_in(6, 2), options.shared(4, 3)] {
        let report = fine(scenario.unwrap());
        assert_eq!(report.messages.expected, report.messages.received, "{}", report.name);
    }
    served.end();
}

#[test]
fn counts_agree_with_the_brokers() {
    let address = SocketAddr::from(([127, 0, 0, 1], 0));
    let mut config = ringmq::config::Config::default();
    config.sys.interval_s = 1;
    config.shards = 1;
    let broker = Broker::builder().config(config).listen(address).start().unwrap();
    let figure = |name: &str| -> u64 {
        // A new subscription gets the last figure first; the next one counts all that was before it.
        let subscription = broker.subscribe(&format!("$SYS/broker/{name}"), QoS::AtMostOnce).unwrap();
        let mut last = None;
        for _ in 0..2 {
            last = Some(subscription.recv_timeout(Duration::from_secs(30)).unwrap());
        }
        std::str::from_utf8(&last.unwrap().payload).unwrap().parse().unwrap()
    };
    let received = figure("publish/messages/received");
    let report = fine(options(broker.addresses()[0]).fan_out(2, 3).unwrap());
    assert_eq!(figure("publish/messages/received") - received, report.messages.sent);
    broker.shutdown(Duration::from_secs(30)).unwrap();
}

#[test]
fn payloads_of_every_size_arrive() {
    let served = served(1);
    for size in ["8", "16", "15", "4096", "70000", "8-9000"] {
        let mut options = served.options.clone();
        (options.size, options.limit) = (size.parse().unwrap(), Limit::Messages(300));
        let report = fine(options.pairs(3).unwrap());
        assert_eq!(counts(&report), (300, 300, 300), "{size}");
        let timed = report.main_phase().unwrap().times_of(Kind::Latency).map_or(0, |times| times.count);
        let has_time = options.size.smallest().unwrap() >= 16;
        assert!(!has_time || timed == 300, "{size}: {timed}");
    }
    // What is too short to say who sent it is sent at a rate, and counted.
    let mut options = served.options.clone();
    (options.size, options.pace) = ("0".parse().unwrap(), Pace::Rate(10_000.0));
    options.settings.drain = Duration::from_millis(500);
    let report = super::measure(options.pairs(3).unwrap());
    assert_eq!(report.main_phase().unwrap().counts.received, 3000);
    served.end();
}

#[test]
fn a_rate_is_kept_and_counted_from_the_intended_time() {
    let served = served(1);
    let mut options = served.options.clone();
    (options.pace, options.limit) = (Pace::Rate(2000.0), Limit::Time(Duration::from_secs(1)));
    options.warm_up = Duration::from_millis(200);
    let report = fine(options.pairs(4).unwrap());
    // Those due within the second, whenever they were sent.
    assert_eq!(report.messages.sent, 2000);
    assert!(report.main_phase().unwrap().times_of(Kind::Lag).is_some());
    served.end();
}

#[test]
fn crowds_connect_churn_and_ping() {
    let served = served(1);
    let options = Options { connect_rate: Some(1000.0), ..served.options.clone() };
    let report = fine(options.connect_storm("connect", 200, Duration::from_millis(200)));
    assert_eq!(report.phases[0].counts.connected, 200);
    assert!(report.phases[0].seconds > 0.15, "200 connections at 1,000 a second take 0.2 s");
    assert_eq!((&*report.phases[1].name, report.phases[1].connections), ("hold", 200));
    let report = fine(served.options.churn(10, Duration::from_millis(300)));
    let churn = report.main_phase().unwrap();
    assert!(churn.counts.connected > 10 && churn.times_of(Kind::Connect).is_some());
    let report = fine(served.options.ping(5, Duration::from_millis(300)));
    let ping = report.main_phase().unwrap();
    assert!(ping.counts.pings >= 5 && ping.times_of(Kind::Ping).unwrap().count > 0);
    served.end();
}

#[test]
fn subscriptions_at_scale_match_one_each() {
    let served = served(1);
    for wildcards in [false, true] {
        let report = fine(served.options.subscribe_many(7, 2000, wildcards, 3).unwrap());
        let subscribed = report.phases.iter().map(|phase| phase.counts.subscribed).sum::<u64>();
        assert_eq!((subscribed, counts(&report)), (2002, (3000, 3000, 3000)));
    }
    served.end();
}

#[test]
fn retained_messages_are_stored_replayed_and_forgotten() {
    let served = served(1);
    let report = fine(served.options.retained(1500, 4, 2).unwrap());
    assert_eq!(counts(&report), (1500, 3000, 3000));
    // Nothing of it is left.
    let subscription = served.broker.subscribe("ringmq-bench/#", QoS::AtMostOnce).unwrap();
    drop(served.broker.publish(ringmq::Message::new("ringmq-bench/end", "x")).unwrap());
    assert_eq!(&*subscription.recv_timeout(Duration::from_secs(30)).unwrap().topic, "ringmq-bench/end");
    served.end();
}

#[test]
fn what_is_kept_for_clients_that_are_away_is_drained() {
    let served = served(1);
    for version in [Version::V311, Version::V5] {
        let options = Options { version, ..served.options.clone() };
        let report = fine(options.offline(2000, 2, 4, Some("true".to_owned())).unwrap());
        assert_eq!(counts(&report), (2000, 4000, 4000));
        assert!(report.phases.iter().any(|phase| phase.counts.resumed == 2));
    }
    served.end();
}

#[test]
fn a_scenario_file_is_run_and_reported() {
    let served = served(1);
    let address = served.broker.addresses()[0];
    let text = file::EXAMPLE
        .replace("127.0.0.1:1883", &address.to_string())
        .replace("time = \"10s\" ", "time = \"2s\" ");
    let report = fine(file::parse(&text, "example").unwrap());
    let names: Vec<&str> = report.phases.iter().map(|phase| &*phase.name).collect();
    assert_eq!(names.len(), 8, "disconnect is not measured: {names:?}");
    // Each dashboard and the workers together.
    assert_eq!(report.messages.received, report.messages.sent * 3);
    let page = html::page(&report);
    assert!(page.contains("<svg") && page.contains("factory"));
    assert!(text::summary(&report).ends_with("Result: fine.\n"));
    served.end();
}
